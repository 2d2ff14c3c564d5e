"""Traces that are seen for the first time, run call by call: most of what is seen once is never seen again.

In: a trace as the recorder exports it. Out: a program for this once, or None where the trace is better assembled at once, because a
gradient may be asked for, an op is still to be compiled, or its own work is worth a look at what lies on disk. Each call has been
expanded and its ops have plans: what calls share is looked up, so that a new trace of known calls costs microseconds for each.
Next: `programs.py`, which assembles what is seen again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.runtime.recorder import Program

#: Nanoseconds that a call's own work may take, by estimate, where assembling it costs more than running it unfused.
CHEAP = 20_000

Step = tuple[Any, list[int], Sequence[int]]  #: what runs a call, its operands' slots, its results'


def walk(export: Sequence[tuple], live: Sequence[int], sizes: Sequence[int], calls: Any) -> Program | None:
    """A program that runs the trace now, with `compiler.calls.Calls` for its calls."""
    inputs: list[int] = []
    steps: list[Step] = []
    cost = 0
    for entry in export:
        if entry[0] == "call":
            _, payload, operands, results, *_ = entry
            run = calls.find(payload.graph, sizes)
            if run is None:
                return None
            steps.append((run, [s for o in operands if o is not None for s in (o[0], *o[2])], results))
            cost += payload.cost
        elif entry[0] in ("input", "scalar"):
            inputs.append(entry[1])
        else:
            return None
    if not steps or cost > CHEAP * len(steps):
        return None
    program = Program(_Walk(inputs, steps, live), live)
    program.once = True
    return program


class _Walk:
    """The calls of one trace; it forgets them when they have run."""

    def __init__(self, inputs: list[int], steps: list[Step], live: Sequence[int]) -> None:
        self.inputs, self.steps, self.live = inputs, steps, live

    def __call__(self, inputs: Sequence[Any], donate: Sequence[bool], sizes: Sequence[int] = ()) -> list[Any]:
        values = dict(zip(self.inputs, inputs, strict=True))
        for (run, operands, results), dead in zip(self.steps, _last_uses(self.steps, self.live), strict=True):
            values.update(zip(results, run([values[s] for s in operands])))
            for s in dead:
                del values[s]
        self.steps = []
        return [values[s] for s in self.live]


def _last_uses(steps: Sequence[Step], live: Sequence[int]) -> list[list[int]]:
    """For each step the slots that nobody needs once it has run."""
    needed = set(live)
    dead = []
    for _, operands, results in reversed(steps):
        last = {s for s in (*operands, *results) if s not in needed and s is not None}
        needed |= last
        dead.append(list(last))
    return dead[::-1]
