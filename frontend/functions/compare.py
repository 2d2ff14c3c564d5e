"""Comparisons and logic: eq, lt, logical_and, isnan, isclose, equal, allclose, and the bitwise operators.

In: operands of any dtypes that broadcast. Out: bool tensors (bitwise ones: the promoted dtype). Next: `reduce.py`.
"""

from __future__ import annotations

import math

from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_
from flambeau.function import Operand, Static, Tensor_, function
from flambeau.functions.common import check_between, ops, promoted
from flambeau.samples import binary, call, calls, data, points, unary


@function(free="flambeau", method=True, in_place=True, samples=binary())
def eq(input: Tensor_, other: Operand):
    """`input == other`, element by element; NaN equals nothing."""
    return ops.eq(*promoted("eq", input, other))


@function(free="flambeau", method=True, in_place=True, aliases="not_equal", samples=binary())
def ne(input: Tensor_, other: Operand):
    """`input != other`, element by element; true beside a NaN."""
    return ops.ne(*promoted("ne", input, other))


@function(free="flambeau", method=True, in_place=True, aliases="less", samples=binary())
def lt(input: Tensor_, other: Operand):
    """`input < other`, element by element."""
    return ops.lt(*promoted("lt", input, other))


@function(free="flambeau", method=True, in_place=True, aliases="less_equal", samples=binary())
def le(input: Tensor_, other: Operand):
    """`input <= other`, element by element."""
    return ops.le(*promoted("le", input, other))


@function(free="flambeau", method=True, in_place=True, aliases="greater", samples=binary())
def gt(input: Tensor_, other: Operand):
    """`input > other`, element by element."""
    return ops.gt(*promoted("gt", input, other))


@function(free="flambeau", method=True, in_place=True, aliases="greater_equal", samples=binary())
def ge(input: Tensor_, other: Operand):
    """`input >= other`, element by element."""
    return ops.ge(*promoted("ge", input, other))


def _bits(op: str, input: Value, other: Value) -> list[Value]:
    x, y = promoted(op, input, other)
    if x.dtype.is_inexact:
        raise NotImplementedError(f"[{op}] operands have dtype {x.dtype}. Use integer or bool tensors.")
    return [x, y]


@function(free="flambeau", method=True, in_place=True, samples=binary(number=True))
def bitwise_and(input: Operand, other: Operand):
    """`input & other`: bit by bit, or logical and of bools. Raises NotImplementedError for floats."""
    return ops.and_(*_bits("bitwise_and", input, other))


@function(free="flambeau", method=True, in_place=True, samples=binary(number=True))
def bitwise_or(input: Operand, other: Operand):
    """`input | other`: bit by bit, or logical or of bools. Raises NotImplementedError for floats."""
    return ops.or_(*_bits("bitwise_or", input, other))


@function(free="flambeau", method=True, in_place=True, samples=binary(number=True))
def bitwise_xor(input: Operand, other: Operand):
    """`input ^ other`: bit by bit, or exclusive or of bools. Raises NotImplementedError for floats."""
    return ops.xor(*_bits("bitwise_xor", input, other))


@function(free="flambeau", method=True, in_place=True, samples=unary())
def bitwise_not(input: Tensor_):
    """`~input`: every bit flipped, or logical not of bools. Raises NotImplementedError for floats."""
    if input.dtype.is_inexact:
        raise NotImplementedError(f"[bitwise_not] input has dtype {input.dtype}. Use an integer or bool tensor.")
    return ops.not_(input)


@function(free="flambeau", method=True, in_place=True, samples=binary())
def bitwise_left_shift(input: Operand, other: Operand):
    """`input << other`, of integers."""
    return ops.shl(*_bits("bitwise_left_shift", input, other))


@function(free="flambeau", method=True, in_place=True, samples=binary())
def bitwise_right_shift(input: Operand, other: Operand):
    """`input >> other`, of integers, copying the sign."""
    return ops.shr(*_bits("bitwise_right_shift", input, other))


def _truth(op: str, input: Value, other: Value) -> list[Value]:
    return promoted(op, input.cast(bool_), other.cast(bool_))


@function(free="flambeau", method=True, in_place=True, samples=binary(number=None))
def logical_and(input: Tensor_, other: Tensor_):
    """Whether both elements are not zero."""
    return ops.and_(*_truth("logical_and", input, other))


@function(free="flambeau", method=True, in_place=True, samples=binary(number=None))
def logical_or(input: Tensor_, other: Tensor_):
    """Whether one of the elements is not zero."""
    return ops.or_(*_truth("logical_or", input, other))


@function(free="flambeau", method=True, in_place=True, samples=binary(number=None))
def logical_xor(input: Tensor_, other: Tensor_):
    """Whether exactly one of the elements is not zero."""
    return ops.xor(*_truth("logical_xor", input, other))


@function(free="flambeau", method=True, in_place=True, samples=unary())
def logical_not(input: Tensor_):
    """Whether the element is zero."""
    return ops.not_(input.cast(bool_))


def _nowhere(x: Value) -> Value:
    return x.builder.constant(False, bool_, x.shape)


@function(free="flambeau", method=True, samples=unary())
def isnan(input: Tensor_):
    """Whether the element is NaN; of complex numbers, whether a part is."""
    return input.ne(input) if input.dtype.is_inexact else _nowhere(input)


@function(free="flambeau", method=True, samples=unary())
def isinf(input: Tensor_):
    """Whether the element is infinite; of complex numbers, whether a part is."""
    if input.dtype.is_complex:
        return ops.or_(*(ops.abs(part).eq(math.inf) for part in (ops.real(input), ops.imag(input))))
    return ops.abs(input).eq(math.inf) if input.dtype.is_floating_point else _nowhere(input)


@function(free="flambeau", method=True, out=True, samples=unary())
def isposinf(input: Tensor_):
    """Whether the element is positive infinity."""
    return _nowhere(input) if input.dtype.is_integral else ops.ge(input, input.like(math.inf))


@function(free="flambeau", method=True, out=True, samples=unary())
def isneginf(input: Tensor_):
    """Whether the element is negative infinity."""
    return _nowhere(input) if input.dtype.is_integral else ops.le(input, input.like(-math.inf))


@function(free="flambeau", method=True, samples=unary())
def isreal(input: Tensor_):
    """Whether the element has no imaginary part, or one of 0."""
    return ops.imag(input).eq(0.0) if input.dtype.is_complex else ops.not_(_nowhere(input))


@function(free="flambeau", method=True, out=True, samples=unary())
def signbit(input: Tensor_):
    """Whether the element is below 0, or -0.0; a NaN has no sign."""
    if input.dtype is bool_:
        return _nowhere(input)
    return ops.copysign(input.like(1), input) < 0 if input.dtype.is_floating_point else input < 0


@function(free="flambeau", method=True, samples=unary())
def isfinite(input: Tensor_):
    """Whether the element is neither infinite nor NaN; of complex numbers, whether both parts are."""
    if input.dtype.is_complex:
        return ops.and_(*(ops.abs(part) < math.inf for part in (ops.real(input), ops.imag(input))))
    if not input.dtype.is_floating_point:
        return ops.not_(_nowhere(input))
    return ops.abs(input) < math.inf


def _close(op: str, input: Value, other: Value, rtol: Value, atol: Value, equal_nan: bool) -> Value:
    if input.dtype is not other.dtype:
        raise RuntimeError(f"[{op}] input is {input.dtype} and other {other.dtype}. Cast one of them.")
    text = "Tolerances are at least 0."
    rtol, atol = (check_between(op, w, v, 0.0, math.inf, text) for w, v in (("rtol", rtol), ("atol", atol)))
    x, y = promoted(op, input, other)
    near = x.eq(y)
    if x.dtype is bool_:
        return near
    if equal_nan and x.dtype.is_inexact:
        near = ops.or_(near, ops.and_(x.ne(x), y.ne(y)))
    a, b, *_ = promoted(op, x, y, rtol, atol)
    distance, size = ops.abs(a - b), ops.abs(b)
    r, t = (v.cast(size.dtype).expand(size.shape) for v in (rtol, atol))
    within = distance <= t + ops.abs(r * size)
    return ops.or_(near, ops.and_(within, distance < math.inf) if a.dtype.is_inexact else within)


@function(
    free="flambeau",
    method=True,
    samples=binary(number=None)
    + calls(lambda: [call(points(), points(), equal_nan=True), call(data(9), data(9) * 1.001, rtol=0.01, atol=0)]),
    fallible=True,
)
def isclose(input: Tensor_, other: Tensor_, rtol: Operand = 1e-05, atol: Operand = 1e-08, equal_nan: Static = False):
    """Whether |input - other| <= atol + rtol * |other|, element by element. Raises RuntimeError for tolerances below 0 (when a
    value is read)."""
    return _close("isclose", input, other, rtol, atol, equal_nan)


@function(name="allclose", fallible=True)
def _allclose(input: Tensor_, other: Tensor_, rtol: Operand, atol: Operand, equal_nan: Static):
    near = _close("allclose", input, other, rtol, atol, equal_nan)
    return ops.all(near, axes=tuple(range(len(near.shape))))


@function(name="equal")
def _equal(input: Tensor_, other: Tensor_):
    same = ops.eq(*promoted("equal", input, other))
    return ops.all(same, axes=tuple(range(len(same.shape))))
