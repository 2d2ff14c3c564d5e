"""The argument `out`: results are stored in tensors that are there, and these are returned.

In: what a function gave, and `out`, a tensor or a tuple of them. Out: `out`. The result is computed first, so it does not matter
whether `out` shares memory with operands. A tensor of another shape gets storage of its own of the result's shape, with a warning
if it had elements, as in PyTorch. Next: `function.py`, which gives functions the argument.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

from flambeau.promotion import can_cast
from flambeau.runtime.recorder import Tensor


def stored_in(op: str, out: Any, found: Any) -> Any:
    """`out` with what was `found`, a tensor or a tuple of them.

    Raises TypeError where `out` is something else, RuntimeError for a dtype to which the result is not converted, and where either
    requires grad.
    """
    if isinstance(found, Tensor):
        _store(op, out, found)
        return out
    if not isinstance(out, (tuple, list)) or len(out) != len(found):
        raise TypeError(f"[{op}] out is {type(out).__name__}. Pass a tuple of {len(found)} tensors.")
    for one, result in zip(out, found, strict=True):
        _store(op, one, result)
    return type(found)(*out) if hasattr(found, "_fields") else tuple(out)


def _store(op: str, out: Any, found: Tensor) -> None:
    from flambeau.autograd import is_grad_enabled
    from flambeau.functions.inplace import copy_values

    if not isinstance(out, Tensor):
        raise TypeError(f"[{op}] out is {type(out).__name__}. Pass a tensor.")
    if is_grad_enabled() and (found.requires_grad or out.requires_grad):
        raise RuntimeError(
            f"[{op}] out takes no gradient, and a tensor requires grad. Leave out `out`, or use no_grad()."
        )
    if not can_cast(found.dtype, out.dtype):
        raise RuntimeError(f"[{op}] the result is {found.dtype}, out is {out.dtype}. Pass an out that holds it.")
    if found._place != out._place:
        raise RuntimeError(f"[{op}] the result lies on {found._place}, out on {out._place}. Pass one there.")
    if found.shape == out.shape:
        copy_values(out, found)
        return
    if 0 not in out.shape:
        warnings.warn(
            f"[{op}] out of shape {out.shape} is resized to {found.shape}. Pass one of that shape, or without elements.",
            stacklevel=4,
        )
    whole: Any = out
    whole.data = found.to(out.dtype)


def signature(call: Callable[..., Any]) -> inspect.Signature:
    """That of `call`, with `out`."""
    known = inspect.signature(call)
    last = inspect.Parameter("out", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="Tensor | None")
    return known.replace(parameters=[*known.parameters.values(), last])
