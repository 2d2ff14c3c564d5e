"""Arithmetic between tensors and numbers: add, mul, div, remainders, signs, pow.

In: operands of any dtypes and shapes that broadcast. Out: results in the promoted dtype. Next: `choose.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_, complex128, float64, int64
from flambeau.function import Number, Operand, Static, Tensor_, function
from flambeau.functions.common import (
    as_value,
    common_dtype,
    fitted,
    floating,
    matched,
    ops,
    promoted,
    without_slope,
)
from flambeau.runtime.recorder import Tensor
from flambeau.samples import binary, call, calls, data, index, points, unary

# ---- sums and products ------------------------------------------------------------------------------------


def _scaled(op: str, like: Value, other: Value, alpha: Number) -> Value:
    """`alpha * other`; a fractional alpha is refused where it would be truncated. Of bools an int counts as a bool."""
    if not isinstance(alpha, Value) and alpha == 1:
        return other
    dtype = common_dtype(op, like, other)
    scale = as_value(like, alpha if isinstance(alpha, Value) else fitted(op, "alpha", alpha, dtype))
    if dtype is bool_ and scale.dtype.is_integral:
        return ops.and_(other, scale.cast(bool_).expand(other.shape))
    if scale.dtype.category > dtype.category:
        raise RuntimeError(f"[{op}] alpha is a float but the result is {dtype.name}. Cast the tensors first.")
    return ops.mul(*matched(op, dtype, other, scale))


@function(
    free="flambeau",
    method=True,
    in_place=True,
    samples=binary() + calls(lambda: [call(data(2, 3), data(3), alpha=0.5), call(index(9, 2), index(9, 2), alpha=3)]),
)
def add(input: Operand, other: Operand, *, alpha: Number = 1):
    """`input + alpha * other`, broadcast; bools add as logical or.

    Dtype: the promoted one. Raises RuntimeError for shapes that do not broadcast.
    Example: `flambeau.add(x, y, alpha=2)`.
    """
    x, y = promoted("add", input, _scaled("add", input, other, alpha))
    return ops.or_(x, y) if x.dtype is bool_ else ops.add(x, y)


@function(
    free="flambeau",
    method=True,
    in_place=True,
    aliases="subtract",
    samples=binary() + calls(lambda: [call(data(2, 3), data(3), alpha=0.5)]),
)
def sub(input: Operand, other: Operand, *, alpha: Number = 1):
    """`input - alpha * other`, broadcast. Raises RuntimeError for bools and for shapes that do not broadcast."""
    x, y = promoted("sub", input, _scaled("sub", input, other, alpha), number_only=True)
    return ops.sub(x, y)


@function(name="add")
def plus(input: Operand, other: Operand):
    """What `+` calls: `add` without alpha."""
    return add.rule(input, other)


@function(name="sub")
def minus(input: Operand, other: Operand):
    """What `-` calls: `sub` without alpha."""
    return sub.rule(input, other)


@function(name="div")
def over(input: Operand, other: Operand):
    """What `/` calls: `div` without rounding."""
    return ops.div(*promoted("div", input, other, float_only=True))


@function(free="flambeau", method=True, in_place=True, samples=binary())
def rsub(input: Tensor_, other: Operand, *, alpha: Number = 1):
    """`other - alpha * input`."""
    return sub.rule(other, input, alpha=alpha)


@function(free="flambeau", method=True, in_place=True, aliases="multiply", samples=binary())
def mul(input: Operand, other: Operand):
    """`input * other`, broadcast; bools multiply as logical and."""
    x, y = promoted("mul", input, other)
    return ops.and_(x, y) if x.dtype is bool_ else ops.mul(x, y)


@function(
    free="flambeau",
    method=True,
    in_place=True,
    aliases="divide true_divide",
    samples=binary(1, 3)
    + calls(lambda: [call(data(2, 3), data(3, low=1, high=4), rounding_mode=m) for m in ("floor", "trunc")]),
    fallible=True,
)
def div(input: Operand, other: Operand, *, rounding_mode: Static = None):
    """`input / other`, broadcast. `rounding_mode`: None (true division: integers give the default dtype), "floor" (as `//`) or
    "trunc" (the rounded quotient without its fraction).

    Raises RuntimeError for an integer division by zero, which happens only with a rounding mode.
    """
    if rounding_mode is None:
        return ops.div(*promoted("div", input, other, float_only=True))
    if rounding_mode == "floor":
        return floor_divide.rule(input, other)
    if rounding_mode != "trunc":
        raise RuntimeError(f"[div] rounding_mode is {rounding_mode!r}. Use None, 'trunc' or 'floor'.")
    x, y = promoted("div", input, other, number_only=True)
    if x.dtype.is_floating_point:
        return without_slope(ops.trunc(ops.div(x, y)), x, y)
    quotient, rest = ops.int_div(x, y), ops.int_rem(x, y)
    rounded_down = ops.and_(rest.ne(0), ops.xor(x < 0, y < 0))
    return ops.select(rounded_down, quotient + 1, quotient)


@function(free="flambeau", method=True, in_place=True, samples=binary(1, 3), fallible=True)
def floor_divide(input: Operand, other: Operand):
    """`input // other`, rounded down; of floats `(input - input % other) / other`, as in Python.

    Raises RuntimeError for an integer division by zero; floats give infinities and NaN there.
    """
    x, y = promoted("floor_divide", input, other, number_only=True)
    return ops.floor_div(x, y) if x.dtype.is_floating_point else ops.int_div(x, y)


@function(free="flambeau", method=True, in_place=True, samples=binary(1, 3), fallible=True)
def remainder(input: Operand, other: Operand):
    """`input % other`, with the sign of `other`; of floats `fmod`, plus `other` where their signs differ.

    Raises RuntimeError for an integer division by zero; floats give NaN there.
    """
    x, y = promoted("remainder", input, other, number_only=True)
    return ops.remainder(x, y) if x.dtype.is_floating_point else ops.int_rem(x, y)


@function(free="flambeau", method=True, in_place=True, samples=binary(1, 3), fallible=True)
def fmod(input: Tensor_, other: Operand):
    """The remainder of `input / other` with the sign of `input`; of floats exact, however large the quotient.

    Raises RuntimeError for an integer division by zero; floats give NaN there.
    """
    x, y = promoted("fmod", input, other, number_only=True)
    if x.dtype.is_floating_point:
        return ops.fmod(x, y)
    rest = ops.int_rem(x, y)
    return ops.select(ops.and_(rest.ne(0), ops.xor(x < 0, y < 0)), rest - y, rest)


def _whole(op: str, input: Value, other: Value) -> list[Value]:
    x, y = promoted(op, input, other)
    if x.dtype is bool_ or not x.dtype.is_integer:
        raise RuntimeError(f"[{op}] operands have dtype {x.dtype}. Use integer tensors.")
    return [x, y]


_DIVISORS = calls(
    lambda: [
        call(index(60, 3, 5), index(18, 5)),
        call(index(60, 7) - 30, index(1, 7)),
        call(data(2), data(2), error=(RuntimeError, "Use integer tensors")),
    ]
)


@function(free="flambeau", method=True, in_place=True, out=True, samples=_DIVISORS)
def gcd(input: Tensor_, other: Tensor_):
    """The greatest common divisor, not below 0; that of 0 and x is |x|. Raises RuntimeError for what is no integer."""
    return ops.gcd(*_whole("gcd", input, other))


@function(free="flambeau", method=True, in_place=True, out=True, samples=_DIVISORS, fallible=True)
def lcm(input: Tensor_, other: Tensor_):
    """The least common multiple, not below 0; that of 0 and x is 0. Raises RuntimeError for what is no integer."""
    x, y = _whole("lcm", input, other)
    divisor = ops.gcd(x, y)
    return ops.abs(ops.int_div(x, ops.select(divisor.eq(0), x.like(1), divisor)) * y)


# ---- one operand ------------------------------------------------------------------------------------------


@function(free="flambeau", method=True, in_place=True, aliases="negative", samples=unary())
def neg(input: Tensor_):
    """`-input`. Raises RuntimeError for bools."""
    return ops.neg(*promoted("neg", input, number_only=True))


@declared(free="flambeau", method=True, samples=unary(), recalled="operand")
def positive(input: Tensor) -> Tensor:
    """`+input`: the tensor itself. Raises RuntimeError for bools."""
    if input.dtype is bool_:
        raise RuntimeError("[positive] a bool has no sign. Cast it to a number first.")
    return input


@function(free="flambeau", method=True, in_place=True, aliases="absolute", samples=unary())
def abs(input: Tensor_):
    """|input|; the gradient at 0 is 0."""
    return input if input.dtype is bool_ else ops.abs(input)


@function(free="flambeau", method=True, in_place=True, samples=unary())
def sign(input: Tensor_):
    """-1, 0 or 1; 0 for NaN. Raises NotImplementedError for complex numbers: `sgn` takes them."""
    if input.dtype.is_complex:
        raise NotImplementedError(f"[sign] complex numbers ({input.dtype.name}) have no sign. Use sgn.")
    return input if input.dtype is bool_ else ops.sign(input)


@function(free="flambeau", method=True, in_place=True, samples=unary())
def sgn(input: Tensor_):
    """-1, 0 or 1; 0 for NaN. Of complex numbers x / |x|, 0 at 0."""
    return input if input.dtype is bool_ else ops.sign(input)


@function(free="flambeau", method=True, in_place=True, samples=unary())
def square(input: Tensor_):
    """`input * input`; bools give int64, as `** 2` does."""
    x = input.cast(int64) if input.dtype is bool_ else input
    return ops.mul(x, x)


@function(free="flambeau", method=True, in_place=True, samples=unary(0.5, 3))
def reciprocal(input: Tensor_):
    """`1 / input`; integers give the default dtype."""
    (x,) = promoted("reciprocal", input, float_only=True)
    return x.like(1.0) / x


@function(free="flambeau", method=True, in_place=True, out=True, samples=binary(0.5, 3))
def float_power(input: Operand, exponent: Operand):
    """`input ** exponent` in float64, or complex128 if one is complex, which both are converted to."""
    wide = complex128 if common_dtype("float_power", input, exponent).is_complex else float64
    return ops.pow(*matched("float_power", wide, input, exponent))


@function(free="flambeau", method=True, in_place=True, out=True, samples=binary(number=None))
def ldexp(input: Tensor_, other: Tensor_):
    """`input * 2**other`, in the dtype of both where that is a floating-point one, else in the default dtype."""
    if input.dtype.is_complex:
        return mul.rule(input, ops.exp2(floating(other)))
    x, y = promoted("ldexp", input, other, float_only=True)
    return x * ops.exp2(y)


def power(x: Value, y: Value) -> Value:
    """x ** y in their common dtype."""
    x, y = promoted("pow", x, y)
    return ops.or_(x, ops.not_(y)) if x.dtype is bool_ else ops.pow(x, y)


@function(name="pow")
def pow_tensor(input: Operand, exponent: Operand):
    """`input ** exponent` with a tensor as exponent."""
    return power(input, exponent)


@function(name="pow")
def pow_number(input: Tensor_, exponent: Number):
    """`input ** exponent` with a number as exponent, which is specialised for: 2 is `x * x`."""
    if not isinstance(exponent, Value) and input.dtype.is_integral and isinstance(exponent, int) and exponent < 0:
        raise RuntimeError(f"[pow] an integer tensor cannot be raised to {exponent}. Cast it to a float dtype first.")
    if not isinstance(exponent, Value) and exponent == 2 and input.dtype is not bool_:
        (x,) = promoted("pow", input, float_only=isinstance(exponent, float))
        return ops.mul(x, x)
    return power(input, as_value(input, exponent))


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(points(), 2, gradient=False),
            call(points(), 0.5, gradient=False),
            call(data(2, 3, low=0.5, high=3), 3),
            call(data(2, 3, low=0.5, high=3), data(3, low=1, high=3)),
            call(2.0, data(3)),
            call(index(9, 4), -1, error=(RuntimeError, "cannot be raised to -1")),
        ]
    ),
    recalled="types",
)
def pow(input: Any, exponent: Any) -> Tensor:
    """`input ** exponent`; either may be a number, which as exponent is specialised for: 2 is `x * x`.

    Dtype: the promoted one. Raises RuntimeError for integers to a constant negative integer power.
    """
    return pow_tensor(input, exponent) if isinstance(exponent, Tensor) else pow_number(input, exponent)
