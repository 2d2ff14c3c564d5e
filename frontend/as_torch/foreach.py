"""`torch._foreach_add` and its kin: an operation on each tensor of a list; all of them are one program anyway.

In: lists of tensors, and lists or single values beside them. Out: lists, or None of those that write. Next: `stand_ins.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.functions import arithmetic, reduce
from flambeau.runtime.recorder import Tensor

_OPS = (
    "abs", "acos", "add", "addcdiv", "addcmul", "asin", "atan", "ceil", "clamp_max", "clamp_min", "copy", "cos", "cosh", "div",
    "erf", "exp", "expm1", "floor", "frac", "lerp", "log", "log10", "log1p", "log2", "maximum", "minimum", "mul", "neg", "norm",
    "pow", "reciprocal", "round", "rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt", "sub", "tan", "tanh", "trunc", "zero",
)  # fmt: skip
#: By a number these two are a bound.
_BOUNDS = {"maximum": "clamp_min", "minimum": "clamp_max"}


def _each(value: Any, i: int) -> Any:
    return value[i] if isinstance(value, list | tuple) else value


def _one(op: str, suffix: str, x: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if op in _BOUNDS and not isinstance(args[0], Tensor):
        op = _BOUNDS[op]
    if op in ("addcdiv", "addcmul") and len(args) > 2:
        kwargs = {**kwargs, "value": args.pop()}
    if op == "norm":
        return reduce.norm(x, *(args or [kwargs.get("ord", 2)]))
    if not isinstance(x, Tensor):
        return arithmetic.pow(x, *args)  # _foreach_pow(2, [...])
    if suffix and not hasattr(Tensor, op + suffix):
        return x.copy_(getattr(x, op)(*args, **kwargs))
    return getattr(x, op + suffix)(*args, **kwargs)


def _make(op: str, suffix: str) -> Callable[..., Any]:
    def foreach(self: Any, *args: Any, **kwargs: Any) -> Any:
        lists = [x for x in (self, *args) if isinstance(x, list | tuple)]
        found = [
            _one(op, suffix, _each(self, i), [_each(x, i) for x in args], {k: _each(x, i) for k, x in kwargs.items()})
            for i in range(len(lists[0]))
        ]
        return None if suffix else found

    foreach.__name__ = foreach.__qualname__ = f"_foreach_{op}{suffix}"
    return foreach


def names() -> dict[str, Any]:
    """What stands in `torch`."""
    forms = [(op, suffix) for op in _OPS for suffix in ("", "_") if hasattr(Tensor, op) or suffix]
    return {f"_foreach_{op}{suffix}": _make(op, suffix) for op, suffix in forms}
