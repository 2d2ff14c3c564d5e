"""`utils.checkpoint`: what PyTorch recomputes in the backward. Here the compiler decides what is kept and what is computed
again, so a checkpointed function is called as it is: once, with one dropout mask and one update of running statistics.

In: a function and its arguments. Out: what it gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flambeau import border as _border
from flambeau import missing as _missing

#: What says how PyTorch would recompute.
_OPTIONS = ("use_reentrant", "preserve_rng_state", "context_fn", "determinism_check", "debug", "early_stop")


def checkpoint(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`function(*args, **kwargs)`, without the options that say how to recompute it: `use_reentrant`, `preserve_rng_state`,
    `context_fn`, `determinism_check`, `debug`, `early_stop`."""
    return function(*args, **{k: v for k, v in kwargs.items() if k not in _OPTIONS})


def checkpoint_sequential(
    functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, **kwargs: Any
) -> Any:
    """The functions, or the modules of a Sequential, one after the other, from `input`. Raises ValueError for less than one
    segment."""
    if segments < 1:
        raise ValueError(f"[checkpoint_sequential] segments is {segments}. Use at least 1.")
    steps: Sequence[Callable[..., Any]] = (
        list(functions.children()) if hasattr(functions, "children") else list(functions)
    )
    for step in steps:
        input = step(input)
    return input


__all__ = ["checkpoint", "checkpoint_sequential"]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.utils.checkpoint")
