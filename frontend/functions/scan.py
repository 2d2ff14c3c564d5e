"""Running sums, products and extremes along a dim: cumsum, cumprod, cummax, cummin, logcumsumexp.

In: a tensor and a dim. Out: a tensor of the same shape; `cummax` and `cummin` also give positions. The order in which elements
are combined is the records'. Next: `sort.py`.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau import return_types
from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_, int64
from flambeau.dialects.tape.scans import positions, shifted
from flambeau.function import Static, Tensor_, function
from flambeau.functions.common import canonical_dim, check_floating, ops, part
from flambeau.functions.reduce import accumulating
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data


def _running(op: str, x: Value, dim: int) -> Value:
    axis = canonical_dim(op, dim, len(x.shape))
    return getattr(ops, op)(x, axis=axis, reverse=False) if x.shape else x


_SAMPLES = calls(
    lambda: [
        call(data(5), 0),
        call(data(3, 4), 1),
        call(data(2, 3, 4), -2),
        call(data(), 0),
        call(data(0, 2), 0),
        call(data(2, 3), 2, error=(IndexError, "dim 2 is out of range")),
    ]
)
_ZEROS = calls(lambda: [call(data(2, 4) * [[1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]], 1)])


@function(free="flambeau", method=True, in_place=True, samples=_SAMPLES)
def cumsum(input: Tensor_, dim: Static, *, dtype: Static = None):
    """The sums of the elements up to each place along `dim`, of `input`'s shape. Integers and bools give int64, unless `dtype` says
    otherwise. Raises IndexError for a dim that does not exist."""
    return _running("cumsum", accumulating(input, dtype), dim)


@function(free="flambeau", method=True, in_place=True, samples=_SAMPLES + _ZEROS)
def cumprod(input: Tensor_, dim: Static, *, dtype: Static = None):
    """The products of the elements up to each place along `dim`, of `input`'s shape. Integers and bools give int64, unless `dtype`
    says otherwise. The gradient is right beside zeros. Raises IndexError for a dim that does not exist."""
    x = accumulating(input, dtype)
    if x.dtype.is_complex:
        return _products_by_doubling(x, canonical_dim("cumprod", dim, len(x.shape)))
    return _running("cumprod", x, dim)


def _products_by_doubling(x: Value, axis: int) -> Value:
    """Each element times what lies 1 before it, of that what lies 2 before it, then 4, and so on."""
    count, step = int(x.shape[axis]) if x.shape else 0, 1
    while step < count:
        first, rest = part(x, axis, 0, step), part(x, axis, step, count - step)
        x = ops.concat(first, part(x, axis, 0, count - step) * rest, dim=axis)
        step *= 2
    return x


def _extreme(op: str, x: Value, dim: int) -> tuple[Value, Value]:
    numbers = x.cast(int64) if x.dtype is bool_ else x
    axis = canonical_dim(op, dim, len(x.shape))
    if not x.shape:
        return ops.reshape(x, shape=()), x.builder.constant(0, int64)
    found = getattr(ops, op)(numbers, axis=axis, reverse=False)
    at = positions(ops.stop_gradient(numbers), ops.stop_gradient(found), axis, False)
    return found.cast(x.dtype), at


@function(name="cummax")
def _cummax(input: Tensor_, dim: Static):
    return _extreme("cummax", input, dim)


@function(name="cummin")
def _cummin(input: Tensor_, dim: Static):
    return _extreme("cummin", input, dim)


@declared(free="flambeau", method=True, samples=_SAMPLES, recalled="operand")
def cummax(input: Tensor, dim: int) -> Any:
    """(values, indices): the largest element up to each place along `dim`, and where it was met last (int64). NaN counts as
    largest. The gradient goes to that place. Raises IndexError for a dim that does not exist."""
    return return_types.cummax(*_cummax(input, dim))


@declared(free="flambeau", method=True, samples=_SAMPLES, recalled="operand")
def cummin(input: Tensor, dim: int) -> Any:
    """(values, indices): the smallest element up to each place along `dim`, and where it was met last (int64). NaN counts as
    smallest. The gradient goes to that place. Raises IndexError for a dim that does not exist."""
    return return_types.cummin(*_cummin(input, dim))


@function(
    free="flambeau",
    method=True,
    samples=_SAMPLES + calls(lambda: [call(data(3, 5, low=-800.0, high=800.0), 1), call(data(4), 0, gradient=False)]),
)
def logcumsumexp(input: Tensor_, dim: Static):
    """log(sum(exp(x))) of the elements up to each place along `dim`, stable for large x. Raises RuntimeError for integers.

    With m the running maximum: s[i] = s[i - 1] * exp(m[i - 1] - m[i]) + exp(x[i] - m[i]), log(s) + m. m is a constant for the
    gradient, since the value does not depend on it.
    """
    check_floating("logcumsumexp", input)
    axis = canonical_dim("logcumsumexp", dim, len(input.shape))
    if not input.shape:
        return ops.reshape(input, shape=())
    peak = ops.stop_gradient(ops.cummax(input, axis=axis, reverse=False))
    peak = ops.select(ops.abs(peak).eq(math.inf), peak.like(0.0), peak)
    # Where m goes from -inf, written as 0, to a number, s is 0 and the factor does not matter; it may not be infinite.
    factor = ops.exp(ops.minimum(shifted(peak, axis, False, 0) - peak, peak.like(0.0)))
    return ops.log(ops.recurrence(factor, ops.exp(input - peak), axis=axis, reverse=False)) + peak
