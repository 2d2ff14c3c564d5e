"""The standard's elementwise functions: those of one array are the package's own; those of two promote both first.

In: arrays, numbers beside them. Out: arrays. Next: `reductions.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from flambeau.array_api.operands import common, fb
from flambeau.runtime.recorder import Tensor

_OF_ONE = (
    *("abs", "asin", "asinh", "atan", "ceil", "conj", "cos", "cosh", "exp", "floor"),
    *(
        "imag",
        "isfinite",
        "isinf",
        "isnan",
        "log",
        "log1p",
        "log2",
        "log10",
        "logical_not",
        "negative",
        "positive",
        "real",
    ),
    *("reciprocal", "round", "signbit", "sin", "sinh", "square", "sqrt", "tan", "trunc"),
)
_OF_TWO = (
    *(
        "add",
        "atan2",
        "bitwise_and",
        "bitwise_left_shift",
        "bitwise_or",
        "bitwise_right_shift",
        "bitwise_xor",
        "copysign",
    ),
    *("divide", "equal", "greater", "greater_equal", "hypot", "less", "less_equal", "logaddexp"),
    *("logical_and", "logical_or", "logical_xor", "maximum", "minimum", "multiply", "nextafter", "not_equal", "pow"),
    "subtract",
)
#: Name here -> name in the package, where that is another.
_OTHERS = {"equal": "eq", "bitwise_invert": "bitwise_not"}


def _of_two(name: str) -> Callable[..., Tensor]:
    call = getattr(fb, _OTHERS.get(name, name))

    def function(x1: Any, x2: Any, /) -> Tensor:
        return call(*common(x1, x2))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`flambeau.{_OTHERS.get(name, name)}` of both in their common dtype."
    return function


globals().update({name: getattr(fb, name) for name in _OF_ONE})
globals().update({name: _of_two(name) for name in _OF_TWO})
bitwise_invert = fb.bitwise_not


def _at_edges(
    call: Callable[..., Tensor], x: Tensor, where: Callable[..., Tensor], give: Callable[..., Tensor]
) -> Tensor:
    """`call(x)`, but of complex x what `give` says where `where` holds of its parts: the standard's value, which no formula has."""
    made = call(x)
    return fb.where(where(x.real, x.imag), give(x.real, x.imag), made) if x.dtype.is_complex else made


def _nans(real: Tensor, imag: Tensor) -> Tensor:
    return fb.complex(fb.full_like(real, math.nan), fb.full_like(imag, math.nan))


def acos(x: Tensor, /) -> Tensor:
    """The angle whose cosine is the element; pi/2 + NaN j of 0 + NaN j."""
    give = lambda real, imag: fb.complex(fb.full_like(real, math.pi / 2), imag)  # noqa: E731
    return _at_edges(fb.acos, x, lambda real, imag: (real == 0) & fb.isnan(imag), give)


def acosh(x: Tensor, /) -> Tensor:
    """The inverse of `cosh`; NaN + pi/2 j of 0 + NaN j."""
    give = lambda real, imag: fb.complex(imag, fb.full_like(real, math.pi / 2))  # noqa: E731
    return _at_edges(fb.acosh, x, lambda real, imag: (real == 0) & fb.isnan(imag), give)


def atanh(x: Tensor, /) -> Tensor:
    """The inverse of `tanh`; NaN of what has a NaN beside a finite part."""
    return _at_edges(fb.atanh, x, lambda real, imag: fb.isnan(real) & fb.isfinite(imag), _nans)


def expm1(x: Tensor, /) -> Tensor:
    """exp(x) - 1, exact for small x; of what is not finite, exp(x) less 1; +0 of -0 + 0 j, where NumPy has -0."""
    made = _at_edges(
        fb.expm1, x, lambda real, imag: (real == 0) & (imag == 0), lambda _, imag: fb.complex(fb.zeros_like(imag), imag)
    )
    return _at_edges(
        lambda _: made, x, lambda real, imag: ~(fb.isfinite(real) & fb.isfinite(imag)), lambda *_: fb.exp(x) - 1
    )


def tanh(x: Tensor, /) -> Tensor:
    """The hyperbolic tangent; of complex numbers +-1 +- 0 j at infinite real parts, NaN at imaginary ones that are not finite."""
    ends = lambda real, imag: fb.isinf(real) & fb.isfinite(imag)  # noqa: E731
    give = lambda real, imag: fb.complex(fb.sign(real), fb.copysign(fb.zeros_like(imag), imag))  # noqa: E731
    made = _at_edges(fb.tanh, x, ends, give)
    lost = lambda real, imag: fb.isfinite(real) & (real != 0) & ~fb.isfinite(imag)  # noqa: E731
    return _at_edges(lambda _: made, x, lost, _nans)


def sign(x: Tensor, /) -> Tensor:
    """-1, 0 or 1 as the elements are below, at or above 0; x / |x| of complex ones; NaN of NaN."""
    if x.dtype.is_complex:
        return fb.sgn(x)
    return fb.where(fb.isnan(x), x, fb.sign(x)) if x.dtype.is_floating_point else fb.sign(x)


def floor_divide(x1: Any, x2: Any, /) -> Tensor:
    """The quotients rounded down; of an infinity, or by one, as they are."""
    x1, x2 = common(x1, x2)
    made = fb.floor_divide(x1, x2)
    return fb.where(fb.isinf(x1) | fb.isinf(x2), x1 / x2, made) if made.dtype.is_floating_point else made


def remainder(x1: Any, x2: Any, /) -> Tensor:
    """What is left of x1 beside multiples of x2, with the sign of x2, also of a 0."""
    x1, x2 = common(x1, x2)
    made = fb.remainder(x1, x2)
    return fb.where(made == 0, fb.copysign(made, x2), made) if made.dtype.is_floating_point else made


def clip(x: Tensor, /, min: Any = None, max: Any = None) -> Tensor:
    """The elements held between `min` and `max`, numbers or arrays that broadcast; in the dtype of x."""
    low, high = (b.to(x.dtype) if isinstance(b, Tensor) else b for b in (min, max))
    if low is None and high is None:
        return x.clone()
    bounds = [b if b is None or isinstance(b, Tensor) else fb.as_tensor(b, x.dtype, x.device) for b in (low, high)]
    return fb.clip(x, *bounds)


_OWN = ("acos", "acosh", "atanh", "bitwise_invert", "clip", "expm1", "floor_divide", "remainder", "sign", "tanh")
__all__ = [*_OF_ONE, *_OF_TWO, *_OWN]
