"""Random programs whose gradients are worked out call by call, held to the bits of what is assembled.

In: a function that runs the program of a seed and gives bytes. Out: assertions. Next:
`test_call_gradients.py`, `test_call_history.py`.
"""

import flambeau as fb
import numpy as np
from flambeau import call_gradients, expansions
from flambeau.runtime import recorder


def data(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def counted(monkeypatch):
    """How many fragments are made, and how many traces are left to the walk."""
    made = {"fragments": 0, "deferred": 0}
    real, walked = expansions.Differentiation.expansion, call_gradients.Deferred.__init__

    def expansion(self, *args):
        made["fragments"] += 1
        return real(self, *args)

    def deferred(self, *args):
        made["deferred"] += 1
        walked(self, *args)

    monkeypatch.setattr(expansions.Differentiation, "expansion", expansion)
    monkeypatch.setattr(call_gradients.Deferred, "__init__", deferred)
    return made


def same_bits_in_every_mode(gradients, seeds, least, monkeypatch):
    """More than `least` backwards go call by call when programs are seen first, with the bits of mode "off", and with the same when
    they come again and are assembled."""
    with fb.compiler_options(mode="off"):
        wanted = [gradients(seed) for seed in seeds]
    for seed in seeds:  # plans of ops
        gradients(seed)
    recorder.clear()
    made = counted(monkeypatch)
    assert [gradients(seed) for seed in seeds] == wanted
    assert made["deferred"] > least
    assert [gradients(seed) for seed in seeds] == wanted  # assembled, from what was put off
