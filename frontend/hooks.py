"""Wires the recorder to the frontend: importing this module makes tensors work.

In: the hooks of `engine.py`, `programs.py` and `expansions.py`. Out: nothing. Next: `engine.py`.
"""

from __future__ import annotations

from functools import partial

from flambeau import engine, expansions, host, layout, programs, sizing, tensor_types
from flambeau.border import told
from flambeau.runtime import recorder
from flambeau.runtime._binding import uncollected

# Programs and gradients are many small objects that stay: Python's collector would look at all of them again and again.
recorder.set_hooks(
    expand=told("record", engine.expand),
    expand_sized=told("record", sizing.expand_sized),
    fit_sizes=told("record", sizing.fit_sizes),
    equations=told("compile", sizing.equations),
    build_program=told("compile", partial(uncollected, programs.build_program)),
    expand_backward=told("backward", partial(uncollected, expansions.expand_backward)),
    expand_grad=told("grad", partial(uncollected, expansions.expand_grad)),
    read_view=told("view", programs.read_view),
    replay=told("replay", programs.replay),
    view_layout=told("view", layout.layout_of),
    array_of=host.array_of,
    construct=told("tensor", tensor_types.construct),
)
recorder.set_mode(engine.GRAD_MODE)
