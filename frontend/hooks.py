"""Wires the recorder to the frontend: importing this module makes tensors work.

In: the hooks of `engine.py` and `programs.py`. Out: nothing. Next: `engine.py`.
"""

from __future__ import annotations

import os

from flambeau import engine, programs, sizing
from flambeau.runtime import recorder

recorder.set_hooks(
    expand=engine.expand,
    expand_sized=sizing.expand_sized,
    fit_sizes=sizing.fit_sizes,
    build_program=programs.build_program,
    expand_backward=programs.expand_backward,
    expand_grad=programs.expand_grad,
    read_view=programs.read_view,
    replay=programs.replay,
)
recorder.set_mode(engine.GRAD_MODE)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=recorder.flush_all)
