"""Choosing between elements, and blending them: maximum, minimum, clamp, where, masked_fill, lerp, addcmul, addcdiv.

In: operands of any dtypes and shapes that broadcast. Out: results in the promoted dtype. Next: `math.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_, uint8
from flambeau.function import Operand, Static, Tensor_, function
from flambeau.functions import masks
from flambeau.functions.common import (
    broadcast_shapes,
    check_floating,
    common_dtype,
    fitted,
    matched,
    ops,
    promoted,
)
from flambeau.promotion import result_dtype
from flambeau.runtime.recorder import Tensor
from flambeau.samples import binary, call, calls, data, index, points, truth

# ---- extremes ---------------------------------------------------------------------------------------------


def _larger(x: Value, y: Value) -> Value:
    return ops.or_(x, y) if x.dtype is bool_ else ops.maximum(x, y)


def _smaller(x: Value, y: Value) -> Value:
    return ops.and_(x, y) if x.dtype is bool_ else ops.minimum(x, y)


@function(free="flambeau", method=True, samples=binary(number=None))
def maximum(input: Tensor_, other: Tensor_):
    """The larger of two tensors, element by element; NaN wins; a tie splits the gradient in halves."""
    return _larger(*promoted("maximum", input, other))


@function(free="flambeau", method=True, samples=binary(number=None))
def minimum(input: Tensor_, other: Tensor_):
    """The smaller of two tensors, element by element; NaN wins; a tie splits the gradient in halves."""
    return _smaller(*promoted("minimum", input, other))


def _other_than_nan(op: str, input: Value, other: Value, first_wins: str) -> Value:
    """One of two numbers by a comparison; a NaN loses. A tie gives the first, which gets the gradient."""
    x, y = promoted(op, input, other)
    if x.dtype is bool_:
        return ops.or_(x, y) if first_wins == "ge" else ops.and_(x, y)
    wins = getattr(ops, first_wins)(x, y)
    return ops.select(ops.or_(wins, y.ne(y)) if x.dtype.is_floating_point else wins, x, y)


@function(free="flambeau", method=True, out=True, samples=binary(number=None))
def fmax(input: Tensor_, other: Tensor_):
    """The larger of two tensors, element by element; NaN loses, and the first wins a tie."""
    return _other_than_nan("fmax", input, other, "ge")


@function(free="flambeau", method=True, out=True, samples=binary(number=None))
def fmin(input: Tensor_, other: Tensor_):
    """The smaller of two tensors, element by element; NaN loses, and the first wins a tie."""
    return _other_than_nan("fmin", input, other, "le")


@function(
    free="flambeau",
    method=True,
    in_place=True,
    out=True,
    samples=calls(
        lambda: [
            call(points(), gradient=False),
            call(points(), nan=2.0, posinf=5.0, neginf=-5.0, gradient=False),
            call(data(2, 3), 1.0),
        ]
    ),
)
def nan_to_num(input: Tensor_, nan: Static = None, posinf: Static = None, neginf: Static = None):
    """`input` with `nan` (by default 0) for NaN, `posinf` for infinity and `neginf` for -infinity, by default the greatest and
    the least number of the dtype. The gradient there is 0."""
    x = input
    if not x.dtype.is_floating_point:
        return x
    largest = (2.0 - 0.5**x.dtype.mantissa) * 2.0 ** ((1 << (x.dtype.exponent - 1)) - 1)
    kinds = ((x.ne(x), nan, 0.0), (x.eq(math.inf), posinf, largest), (x.eq(-math.inf), neginf, -largest))
    for found, given, usual in kinds:
        x = ops.select(found, x.like(usual if given is None else given), x)
    return x


def _limited(op: str, input: Value, lower: Value | None, upper: Value | None) -> Value:
    """`input` where it lies within the bounds, ends included: the whole gradient flows there. Elsewhere the bound that
    holds, and gets the gradient; a NaN, on either side, gives NaN and no gradient."""
    bounds = [b for b in (lower, upper) if b is not None]
    dtype = common_dtype(op, input, *bounds)
    if dtype is bool_:
        raise RuntimeError(f"[{op}] is not defined for bool tensors. Cast the input first.")
    x, *limits = matched(op, dtype, input, *(fitted(op, "a bound", b, dtype) for b in bounds))
    low = limits[0] if lower is not None else None
    high = limits[-1] if upper is not None else None
    if not dtype.is_floating_point:
        return _between(x, low, high)
    if all(b.weak for b in bounds):
        return _limited_by_numbers(x, low, high)
    result = ops.stop_gradient(_between(x, low, high))
    for given, (bound, holds) in zip(bounds, _holding(x, low, high), strict=True):
        if not given.weak:  # numbers get no gradient
            result = ops.select(holds, bound, result)
    return ops.select(_within(x, low, high), x, result)


def _limited_by_numbers(x: Value, low: Value | None, high: Value | None) -> Value:
    """Numbers get no gradient. What need be known of them is the same for all elements, each of which is compared and chosen."""
    inside = _within(x, low, high)
    if low is None or high is None:
        bound = high if low is None else low
    else:
        low = ops.minimum(low, high)  # where they cross, the upper one holds; a NaN is in both from here on
        bound = ops.select(x < low, low, ops.maximum(low, high))
    return ops.select(inside, x, ops.stop_gradient(ops.select(x.eq(x), bound, x)))


def _between(x: Value, low: Value | None, high: Value | None) -> Value:
    x = x if low is None else ops.maximum(x, low)
    return x if high is None else ops.minimum(x, high)


def _within(x: Value, low: Value | None, high: Value | None) -> Value:
    if low is None:
        return x <= high
    return x >= low if high is None else ops.and_(x >= low, x <= high)


def _holding(x: Value, low: Value | None, high: Value | None) -> list[tuple[Value, Value]]:
    """Each bound, and where it is the result and gets the gradient: PyTorch's rule. Equal bounds get none from below."""
    if low is not None and high is not None:
        numbers = ops.and_(x.eq(x), low.eq(low))
        return [
            (low, ops.and_(x < low, low < high)),
            (high, ops.and_(ops.or_(x > high, high < low), numbers)),
        ]
    return [(low, x < low)] if low is not None else [] if high is None else [(high, x > high)]


@function(name="clamp", fallible=True)
def clamp_both(input: Tensor_, min: Operand, max: Operand):
    """`input` limited to [min, max]."""
    return _limited("clamp", input, min, max)


@function(free="flambeau", method=True, in_place=True, samples=binary(number=0.5), fallible=True)
def clamp_min(input: Tensor_, min: Operand):
    """`clamp(input, min=min)`."""
    return _limited("clamp_min", input, min, None)


@function(free="flambeau", method=True, in_place=True, samples=binary(number=0.5), fallible=True)
def clamp_max(input: Tensor_, max: Operand):
    """`clamp(input, max=max)`."""
    return _limited("clamp_max", input, None, max)


@declared(
    free="flambeau",
    method=True,
    aliases="clip",
    samples=calls(
        lambda: [
            call(points(), -1, 1, gradient=False),
            call(data(2, 3), min=-1),
            call(data(2, 3), max=data(3)),
            call(data(2, 3), data(3, low=-3, high=-1), data(2, 1, low=0, high=1)),
            call(data(2), error=(RuntimeError, "both bounds are None")),
        ]
    ),
    recalled="types",
)
def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """`input` limited to [min, max]; either bound may be a number, a tensor or None; `max` wins where they cross.

    The gradient passes where the element lies within the bounds, ends included. Raises RuntimeError without bounds.
    """
    if min is None and max is None:
        raise RuntimeError("[clamp] both bounds are None. Give min, max or both.")
    if max is None:
        return clamp_min(input, min)
    return clamp_max(input, max) if min is None else clamp_both(input, min, max)


# ---- choices and blends -----------------------------------------------------------------------------------


def _choose(op: str, condition: Value, x: Value, y: Value) -> Value:
    if condition.dtype is not bool_:
        raise RuntimeError(f"[{op}] the condition has dtype {condition.dtype}. Pass a bool tensor, such as x > 0.")
    dtype = result_dtype([x, y])
    x, y = (fitted(op, "value", v, dtype) for v in (x, y))
    shape = broadcast_shapes(op, condition.shape, x.shape, y.shape)
    return ops.select(condition.expand(shape), x.cast(dtype).expand(shape), y.cast(dtype).expand(shape))


def _where_places(condition: Tensor) -> tuple[Tensor, ...]:
    """`where(condition)`: the places where it is not 0, a vector for each dimension."""
    return masks.nonzero(condition, as_tuple=True)


@function(
    out=True,
    free="flambeau",
    otherwise=_where_places,
    samples=calls(
        lambda: [
            call(truth(16), points(), np.roll(points(), 3), gradient=False),
            call(truth(2, 3), gradient=False),
            call(truth(2, 3), data(2, 3), data(3)),
            call(truth(3), data(2, 3), 1),
            call(data(2) > 0, data(2), data(3), error=(RuntimeError, "do not broadcast")),
            call(index(2, 2), data(2), data(2), error=(RuntimeError, "Pass a bool tensor")),
        ]
    ),
    fallible=True,
)
def where(condition: Tensor_, input: Operand, other: Operand):
    """`input` where `condition` holds, else `other`; all three broadcast. The operand not chosen gets gradient 0.
    `where(condition)` is `nonzero(condition, as_tuple=True)`.

    Raises RuntimeError unless `condition` is a tensor of bools, or of uint8, as masks were before there were bools.
    """
    mask = condition.cast(bool_) if condition.dtype is uint8 else condition
    return _choose("where", mask, input, other)


@function(
    free="flambeau",
    method=True,
    in_place=True,
    samples=calls(
        lambda: [
            call(points(), truth(16), 1, gradient=False),
            call(data(2, 3), truth(3), 1),
            call(data(2, 3), truth(2, 1), data()),
            call(data(2), truth(3), 1, error=(RuntimeError, "do not broadcast")),
            call(data(2), truth(2), data(2), error=(RuntimeError, "Pass a number or a 0-d tensor")),
        ]
    ),
    fallible=True,
)
def masked_fill(input: Tensor_, mask: Tensor_, value: Operand):
    """`input` with `value` (a number or a 0-d tensor) where the bool tensor `mask` holds; keeps the dtype of `input`. Raises
    RuntimeError for a number that the dtype does not hold (of integers when a value is read)."""
    if value.shape:
        raise RuntimeError(f"[masked_fill] value has shape {value.shape}. Pass a number or a 0-d tensor.")
    if not value.weak and value.dtype.category > input.dtype.category:
        raise RuntimeError(
            f"[masked_fill] value is {value.dtype.name} but the input is {input.dtype.name}. Cast one of them."
        )
    return _choose("masked_fill", mask, fitted("masked_fill", "value", value, input.dtype).cast(input.dtype), input)


@function(
    free="flambeau",
    method=True,
    in_place=True,
    samples=calls(
        lambda: [
            call(points(), np.roll(points(), 3), 0.25, gradient=False),
            call(data(2, 3), data(3), 0.75),
            call(data(2, 3), data(2, 1), data(3, low=0.1, high=0.4)),
        ]
    ),
)
def lerp(input: Tensor_, end: Tensor_, weight: Operand):
    """`input + weight * (end - input)`, from the nearer end so that weight 1 gives `end` exactly."""
    x, y, w = promoted("lerp", input, end, weight, float_only=True)
    near = ops.abs(w) < 0.5
    return ops.select(near, x, y) + ops.select(near, w, w - 1.0) * (y - x)


@function(
    free="flambeau",
    method=True,
    in_place=True,
    samples=calls(
        lambda: [
            call(data(2, 3), data(3), data(2, 1)),
            call(data(3), data(3), data(3), value=2),
            call(points(), points(), points(), gradient=False),
        ]
    ),
    fallible=True,
)
def addcmul(input: Tensor_, tensor1: Tensor_, tensor2: Tensor_, *, value: Operand = 1):
    """`input + value * tensor1 * tensor2`, in the dtype of the tensors."""
    dtype = common_dtype("addcmul", input, tensor1, tensor2)
    value = fitted("addcmul", "value", value, dtype)
    x, a, b, v = promoted("addcmul", input, tensor1, tensor2, value.cast(dtype) if value.weak else value)
    return x + v * a * b


@function(
    free="flambeau",
    method=True,
    in_place=True,
    samples=calls(
        lambda: [
            call(data(2, 3), data(3), data(2, 1, low=1, high=2)),
            call(data(3), data(3), data(3, low=1, high=3), value=2),
            call(points(), points(), np.roll(points(), 1), gradient=False),
        ]
    ),
)
def addcdiv(input: Tensor_, tensor1: Tensor_, tensor2: Tensor_, *, value: Operand = 1):
    """`input + value * tensor1 / tensor2`. Raises RuntimeError for integers."""
    for x in (input, tensor1, tensor2):
        check_floating("addcdiv", x, error=RuntimeError)
    x, a, b, v = promoted("addcdiv", input, tensor1, tensor2, value)
    return x + v * (a / b)
