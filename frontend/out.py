"""The argument `out`: results are stored in tensors that are there, and these are returned.

In: a function, and calls of it that give `out`, a tensor or a tuple of them. Out: `out`. Which functions take it is PyTorch's to
say (`torch_out.txt`); none of them knows of it, so calls without it cost what they did. The result is computed first, so it does
not matter whether `out` shares memory with operands. A tensor of another shape is resized to the result's, with a warning if it had
elements, as in PyTorch. Next: `function.py` and `declarations.py`, which give functions the argument.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any

from flambeau.runtime.recorder import Tensor


class Storing:
    """A function with the argument `out`. `make` gives the function without, whose arguments are those of `signed`."""

    def __init__(
        self, name: str, make: Callable[[], Callable[..., Any]], signed: Callable[..., Any] | None = None
    ) -> None:
        self.name, self.make, self.signed = name, make, signed

    @cached_property
    def call(self) -> Callable[..., Any]:
        return self.make()

    @cached_property
    def __signature__(self) -> inspect.Signature:
        known = inspect.signature(self.signed or self.call)
        if "out" in known.parameters:
            return known
        last = inspect.Parameter("out", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="Tensor | None")
        rest = [p for p in known.parameters.values() if p.kind is p.VAR_KEYWORD]
        return known.replace(parameters=[p for p in known.parameters.values() if p not in rest] + [last, *rest])

    def __call__(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        if out is None:
            return self.call(*args, **kwargs)
        return stored_in(self.name, out, self.call(*args, **{**self._as(out, args, kwargs), **kwargs}))

    def _as(self, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Dtype and device of what is made from no tensors: those of `out`, unless others are asked for."""
        made_of = (*args, *kwargs.values())
        if not isinstance(out, Tensor) or any(isinstance(x, Tensor | list | tuple) and _holds(x) for x in made_of):
            return {}
        taken = self.__signature__.parameters
        dtype = kwargs.get("dtype")
        if dtype is not None and dtype is not out.dtype:
            raise RuntimeError(f"[{self.name}] dtype is {dtype}, out is {out.dtype}. Leave out dtype.")
        return {k: getattr(out, k) for k in ("dtype", "device") if k in taken and kwargs.get(k) is None}


def _holds(x: Any) -> bool:
    return isinstance(x, Tensor) or any(isinstance(one, Tensor) for one in x)


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
    from flambeau.promotion import can_cast

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
    if found.shape == out.shape or _resized(op, out, found):
        copy_values(out, found)
        return
    whole: Any = out
    whole.data = found.to(out.dtype)


def _resized(op: str, out: Any, found: Tensor) -> bool:
    """Whether `out` has the shape of the result within its own storage by now. Warns if it had elements."""
    if 0 not in out.shape:
        warnings.warn(
            f"[{op}] out of shape {out.shape} is resized to {found.shape}. Pass one of that shape, or without elements.",
            stacklevel=5,
        )
    fits = found.numel() <= out.numel() and out.is_contiguous() and not out.requires_grad
    if fits:
        out.resize_(found.shape)
    return fits
