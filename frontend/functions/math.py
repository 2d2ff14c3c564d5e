"""Functions of one number: exp, log, sqrt, sin, rounding and relatives.

In: a tensor; integers and bools are converted to the default dtype (rounding keeps integers). Next: `trigonometry.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau import return_types
from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_, float64
from flambeau.function import Static, Tensor_, function
from flambeau.functions.common import floating, ops, promoted
from flambeau.runtime.recorder import Tensor
from flambeau.samples import binary, call, calls, data, unary


@function(free="flambeau", method=True, in_place=True, samples=unary())
def exp(input: Tensor_):
    """e to the power of the element."""
    return ops.exp(floating(input))


@function(free="flambeau special", method=True, in_place=True, samples=unary())
def expm1(input: Tensor_):
    """exp(x) - 1, accurate near 0."""
    return ops.expm1(floating(input))


@function(free="flambeau", method=True, in_place=True, samples=unary(0.5, 3))
def log(input: Tensor_):
    """The natural logarithm; NaN below 0."""
    return ops.log(floating(input))


@function(free="flambeau special", method=True, in_place=True, samples=unary(0.5, 3))
def log1p(input: Tensor_):
    """log(1 + x), accurate near 0."""
    return ops.log1p(floating(input))


@function(free="flambeau", method=True, in_place=True, samples=unary(0.5, 3))
def log2(input: Tensor_):
    """The logarithm to base 2."""
    return ops.log2(floating(input))


@function(free="flambeau", method=True, in_place=True, samples=unary(0.5, 3))
def log10(input: Tensor_):
    """The logarithm to base 10."""
    return ops.log10(floating(input))


@function(free="flambeau special", method=True, in_place=True, samples=unary())
def exp2(input: Tensor_):
    """2 to the power of the element."""
    return ops.exp2(floating(input))


@function(free="flambeau", method=True, in_place=True, samples=unary(0.5, 3))
def sqrt(input: Tensor_):
    """The square root; NaN below 0."""
    return ops.sqrt(floating(input))


@function(free="flambeau", method=True, in_place=True, samples=unary(0.5, 3))
def rsqrt(input: Tensor_):
    """1 / sqrt(x)."""
    return ops.rsqrt(floating(input))


@function(free="flambeau", method=True, in_place=True, samples=unary())
def sin(input: Tensor_):
    """The sine of x radians."""
    return ops.sin(floating(input))


@function(free="flambeau", method=True, in_place=True, samples=unary())
def cos(input: Tensor_):
    """The cosine of x radians."""
    return ops.cos(floating(input))


def _via_float64(x: Value, formula: Callable[[Value], Value]) -> Value:
    """`formula` in float64, so that its one extra rounding does not show in a smaller float."""
    x = floating(x)
    return formula(x) if x.dtype.holds(float64) else formula(x.cast(float64)).cast(x.dtype)


@function(free="flambeau", method=True, in_place=True, samples=unary())
def tan(input: Tensor_):
    """The tangent of x radians."""
    if input.dtype.is_complex:  # -i tanh(i x), which overflows nowhere
        turned = ops.tanh(ops.complex(-ops.imag(input), ops.real(input)))
        return ops.complex(ops.imag(turned), -ops.real(turned))
    return _via_float64(input, lambda x: ops.sin(x) / ops.cos(x))


@function(free="flambeau special", method=True, in_place=True, samples=unary())
def erf(input: Tensor_):
    """The error function."""
    return ops.erf(floating(input))


def _rounded(x: Value, record: str) -> Value:
    if x.dtype is bool_:
        raise RuntimeError(f"[{record}] is not defined for bool tensors. Cast the input first.")
    return x if x.dtype.is_integral else getattr(ops, record)(x)


@function(free="flambeau", method=True, in_place=True, samples=unary())
def floor(input: Tensor_):
    """The largest whole number not above the element. Its gradient is 0."""
    return _rounded(input, "floor")


@function(free="flambeau", method=True, in_place=True, samples=unary())
def ceil(input: Tensor_):
    """The least whole number not below the element. Its gradient is 0."""
    return _rounded(input, "ceil")


@function(free="flambeau", method=True, in_place=True, aliases="fix", samples=unary())
def trunc(input: Tensor_):
    """The element without its fraction. Its gradient is 0."""
    return _rounded(input, "trunc")


@function(free="flambeau", method=True, in_place=True, samples=unary())
def frac(input: Tensor_):
    """The fraction of the element, with its sign."""
    x = floating(input)
    return x - ops.trunc(x)


@function(
    free="flambeau special",
    method=True,
    in_place=True,
    samples=unary() + calls(lambda: [call(data(3, 4, low=-90, high=90), decimals=n, gradient=False) for n in (1, -1)]),
)
def round(input: Tensor_, *, decimals: Static = 0):
    """The nearest whole number (or multiple of 10**-decimals), halves to the even one. Its gradient is 0."""
    if not decimals or not input.dtype.is_floating_point:
        return _rounded(input, "round")
    if decimals < 0:
        return ops.round(input / 10.0**-decimals) * 10.0**-decimals
    return ops.round(input * 10.0**decimals) / 10.0**decimals


@function(free="flambeau", method=True, in_place=True, samples=binary(number=None))
def heaviside(input: Tensor_, values: Tensor_):
    """0 below 0, `values` at 0, 1 above 0; NaN stays."""
    x, at_zero = promoted("heaviside", input, values)
    if x.dtype is bool_:
        return ops.or_(x, at_zero)
    step = ops.select(x.eq(0), at_zero, (x > 0).cast(x.dtype))
    return ops.select(x.ne(x), x, step) if x.dtype.is_floating_point else step


@function(name="frexp")
def _frexp(input: Tensor_):
    return ops.frexp(floating(input))


@declared(free="flambeau", method=True, samples=unary(), recalled="operand")
def frexp(input: Tensor) -> Any:
    """(mantissa, exponent) with `input == mantissa * 2**exponent`: 1/2 <= |mantissa| < 1, int32 exponents. Zeros, infinities and
    NaN are their own mantissa, with exponent 0."""
    return return_types.frexp(*_frexp(input))
