"""Reductions: sum, mean, prod, max, min, argmax, any, all, var, std, logsumexp, norm, count_nonzero.

In: a tensor, the dims to fold (None: all) and `keepdim`. Out: a smaller tensor; `max` and `min` along a dim also give
positions. Folding order and NaN rules are the records'. Next: `scan.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from flambeau import return_types
from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_, float64, int64, uint8
from flambeau.function import Static, Tensor_, function
from flambeau.functions.choose import maximum, minimum
from flambeau.functions.common import (
    by_number,
    canonical_dim,
    canonical_dims,
    check_floating,
    floating,
    ops,
)
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, folds, points


def _kept(x: Value, axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(1 if d in axes else n for d, n in enumerate(x.shape))


def reduced(record: str, x: Value, axes: tuple[int, ...], keepdim: bool) -> Value:
    """`record` over `axes`, which stay with size 1 if `keepdim`."""
    result = getattr(ops, record)(x, axes=axes) if axes else x
    return ops.reshape(result, shape=_kept(x, axes)) if keepdim and axes else result


def accumulating(x: Value, dtype: Any) -> Value:
    """What sums and products are made of: integers and bools as int64, unless `dtype` says otherwise."""
    if dtype is not None:
        return x.cast(dtype)
    return x.cast(int64) if x.dtype.is_integral else x


def _count(x: Value, axes: tuple[int, ...]) -> Any:
    return math.prod(x.shape[d] for d in axes)


@function(
    free="flambeau", method=True, samples=folds(keepdim=True) + calls(lambda: [call(data(2, 3), 1, dtype=float64)])
)
def sum(input: Tensor_, dim: Static = None, keepdim: Static = False, *, dtype: Static = None):
    """The sum over `dim` (an int, a tuple, or None for all). Integers and bools give int64, unless `dtype` says otherwise.

    Raises IndexError for a dim that does not exist.
    """
    x = accumulating(input, dtype)
    return reduced("sum", x, canonical_dims("sum", dim, len(x.shape)), keepdim)


@function(free="flambeau", method=True, samples=folds(keepdim=True))
def mean(input: Tensor_, dim: Static = None, keepdim: Static = False, *, dtype: Static = None):
    """The mean over `dim` (an int, a tuple, or None for all); NaN of nothing. Raises RuntimeError for integers."""
    x = input.cast(dtype) if dtype is not None else input
    check_floating("mean", x, error=RuntimeError, complex=True)
    axes = canonical_dims("mean", dim, len(x.shape))
    return by_number(reduced("sum", x, axes, keepdim), _count(x, axes))


@function(free="flambeau", method=True, samples=folds(several=False, keepdim=True))
def prod(input: Tensor_, dim: Static = None, keepdim: Static = False, *, dtype: Static = None):
    """The product over one `dim`, or of all elements. Integers and bools give int64. The gradient is right beside zeros."""
    x = accumulating(input, dtype)
    axes = canonical_dims("prod", dim, len(x.shape)) if dim is None else _one_dim("prod", x, dim)
    return reduced("prod", x, axes, keepdim)


def _one_dim(op: str, x: Value, dim: int) -> tuple[int, ...]:
    dim = canonical_dim(op, dim, len(x.shape))
    return (dim,) if x.shape else ()


# ---- extremes ---------------------------------------------------------------------------------------------


def _extreme(op: str, record: str, x: Value, axes: tuple[int, ...], keepdim: bool) -> Value:
    if x.dtype is bool_:
        return reduced({"max": "any", "min": "all"}[record], x, axes, keepdim)
    for d in axes:
        if x.shape[d] == 0:
            raise IndexError(
                f"[{op}] dimension {d} of shape {x.shape} is empty and has no {record}. Check the shape first."
            )
    return reduced(record, x, axes, keepdim)


@function(free="flambeau", method=True, samples=folds(empty=False, keepdim=True))
def amax(input: Tensor_, dim: Static = (), keepdim: Static = False):
    """The largest element over `dim` (an int or tuple; () for all). Ties share the gradient evenly; NaN wins."""
    _check_full("amax", input, dim)
    return _extreme("amax", "max", input, canonical_dims("amax", dim, len(input.shape)), keepdim)


@function(free="flambeau", method=True, samples=folds(empty=False, keepdim=True))
def amin(input: Tensor_, dim: Static = (), keepdim: Static = False):
    """The smallest element over `dim` (an int or tuple; () for all). Ties share the gradient evenly; NaN wins."""
    _check_full("amin", input, dim)
    return _extreme("amin", "min", input, canonical_dims("amin", dim, len(input.shape)), keepdim)


def _check_full(op: str, x: Value, dim: Any = ()) -> None:
    """Raise RuntimeError for nothing to take the extreme of, where no dimension is named."""
    if dim == () and 0 in x.shape:
        raise RuntimeError(f"[{op}] the tensor of shape {x.shape} has no elements. Give a dim that is not empty.")


def _full_extreme(op: str, x: Value) -> Value:
    _check_full(op, x)
    return _extreme(op, op, x, tuple(range(len(x.shape))), False)


@function(name="max")
def _max_full(input: Tensor_):
    return _full_extreme("max", input)


@function(name="min")
def _min_full(input: Tensor_):
    return _full_extreme("min", input)


def position(record: str, x: Value, dim: int | None, keepdim: bool) -> Value:
    """argmax or argmin along `dim`, or of all elements."""
    if x.dtype is bool_:
        x = x.cast(int64)
    if not x.shape:
        return x.builder.constant(0, int64)
    axes = tuple(range(len(x.shape))) if dim is None else _one_dim(record, x, dim)
    for d in axes:
        if x.shape[d] == 0:
            raise IndexError(f"[{record}] dimension {d} of shape {x.shape} is empty. Check the shape first.")
    return reduced(record, x, axes, keepdim)


def _along(op: str, x: Value, dim: int, keepdim: bool) -> tuple[Value, Value]:
    """Values and positions of the extreme along `dim`. Values select by comparing with the position, not by gathering:
    no check at run time is needed."""
    if not x.shape:
        canonical_dim(op, dim, 0)
        return ops.reshape(x, shape=()), x.builder.constant(0, int64)
    axis = canonical_dim(op, dim, len(x.shape))
    where = position("arg" + op, x, axis, True)
    if x.dtype is bool_:
        value = _extreme(op, op, x, (axis,), True)
    else:
        here = ops.iota(shape=x.shape, dim=axis, dtype=int64, builder=x.builder).eq(where.expand(x.shape))
        value = _selected(x, here, axis)
    if keepdim:
        return value, where
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    return ops.reshape(value, shape=shape), ops.reshape(where, shape=shape)


def _selected(x: Value, here: Value, axis: int) -> Value:
    """The only element along `axis` where `here` holds: everything else adds 0 to it, and gets gradient 0."""
    return reduced("sum", ops.select(here, x, x.like(0)), (axis,), True)


@function(name="max")
def _max_dim(input: Tensor_, dim: Static, keepdim: Static):
    return _along("max", input, dim, keepdim)


@function(name="min")
def _min_dim(input: Tensor_, dim: Static, keepdim: Static):
    return _along("min", input, dim, keepdim)


@declared(
    free="flambeau",
    method=True,
    samples=folds(several=False, empty=False) + calls(lambda: [call(data(2, 3), data(3, low=-1, high=3))]),
    recalled="types",
)
def max(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Tensor | None = None) -> Any:
    """`max(x)`: the largest element. `max(x, dim, keepdim)`: (values, indices) along `dim`, the first of equal ones.
    `max(x, other)`: the larger of two tensors, element by element. NaN counts as largest."""
    if other is not None:
        return maximum(input, other)
    if dim is None:
        return _max_full(input)
    if isinstance(dim, Tensor):
        return maximum(input, dim)
    return return_types.max(*_max_dim(input, dim, keepdim))


@declared(
    free="flambeau",
    method=True,
    samples=folds(several=False, empty=False) + calls(lambda: [call(data(2, 3), data(3, low=-1, high=3))]),
    recalled="types",
)
def min(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Tensor | None = None) -> Any:
    """`min(x)`: the smallest element. `min(x, dim, keepdim)`: (values, indices) along `dim`, the first of equal ones.
    `min(x, other)`: the smaller of two tensors, element by element. NaN counts as smallest."""
    if other is not None:
        return minimum(input, other)
    if dim is None:
        return _min_full(input)
    if isinstance(dim, Tensor):
        return minimum(input, dim)
    return return_types.min(*_min_dim(input, dim, keepdim))


@function(free="flambeau", method=True, samples=folds(several=False, empty=False, keepdim=True))
def argmax(input: Tensor_, dim: Static = None, keepdim: Static = False):
    """The position (int64) of the first largest element along `dim`, or in row-major order of all; NaN counts as largest."""
    return position("argmax", input, dim, keepdim)


@function(free="flambeau", method=True, samples=folds(several=False, empty=False, keepdim=True))
def argmin(input: Tensor_, dim: Static = None, keepdim: Static = False):
    """The position (int64) of the first smallest element along `dim`, or in row-major order of all."""
    return position("argmin", input, dim, keepdim)


# ---- truth ------------------------------------------------------------------------------------------------


def _truth(op: str, x: Value, dim: Any, keepdim: bool) -> Value:
    found = reduced(op, x.cast(bool_), canonical_dims(op, dim, len(x.shape)), keepdim)
    return found.cast(uint8) if x.dtype is uint8 else found  # what stood for truth before PyTorch had bools


@function(free="flambeau", method=True, samples=folds(keepdim=True))
def any(input: Tensor_, dim: Static = None, keepdim: Static = False):
    """Whether one element over `dim` (an int, a tuple, or None for all) is not zero; false of nothing. A bool; of uint8, uint8."""
    return _truth("any", input, dim, keepdim)


@function(free="flambeau", method=True, samples=folds(keepdim=True))
def all(input: Tensor_, dim: Static = None, keepdim: Static = False):
    """Whether every element over `dim` (an int, a tuple, or None for all) is not zero; true of nothing. A bool; of uint8, uint8."""
    return _truth("all", input, dim, keepdim)


@function(free="flambeau", method=True, samples=folds())
def count_nonzero(input: Tensor_, dim: Static = None):
    """How many elements over `dim` (an int, a tuple, or None for all) are not zero."""
    counted = input.cast(bool_).cast(int64)
    return reduced("sum", counted, canonical_dims("count_nonzero", dim, len(input.shape)), False)


# ---- moments ----------------------------------------------------------------------------------------------


def variance(op: str, x: Value, dim: Any, correction: float, keepdim: bool) -> Value:
    """The mean squared distance from the mean, in two passes, with `count - correction` as divisor."""
    if x.dtype.is_complex:  # the parts vary on their own
        parts = (variance(op, part, dim, correction, keepdim) for part in (ops.real(x), ops.imag(x)))
        return ops.add(*parts)
    check_floating(op, x, error=RuntimeError)
    axes = canonical_dims(op, dim, len(x.shape))
    count = _count(x, axes) if isinstance(correction, int) else int(_count(x, axes))
    return _scatter(x, axes, count, keepdim) / (count - correction if count > correction else 0.0)


def _scatter(x: Value, axes: tuple[int, ...], count: Any, keepdim: bool) -> Value:
    """The sum of squared distances from the mean, to the dtype's precision however large the mean is beside them.

    Distances are taken from the rounded mean, and what rounding it costs is taken off: sum(d**2) - sum(d)**2 / count (Chan,
    Golub, LeVeque, "Algorithms for computing the sample variance", 1983). That is the same for distances from any place, so
    no gradient flows through the place.
    """
    place = ops.stop_gradient(reduced("sum", x, axes, True) / count)
    distance = x - place.expand(x.shape)
    total = reduced("sum", distance, axes, keepdim)
    squares = reduced("sum", distance * distance, axes, keepdim) - total * (total / count)
    below_zero = ops.select(squares < 0.0, -squares, squares.like(0.0))  # by a rounding error
    return squares + ops.stop_gradient(below_zero)


def _correction(op: str, dim: Any, unbiased: Any, correction: Any) -> tuple[Any, Any]:
    """(dim, correction) of what PyTorch allows: a bool in the place of `dim` or after it is `unbiased`."""
    if isinstance(dim, bool) and unbiased is None:
        dim, unbiased = None, dim
    if unbiased is None:
        return dim, 1 if correction is None else correction
    if correction is not None:
        raise TypeError(f"[{op}] unbiased and correction say the same thing. Give one.")
    if not isinstance(unbiased, bool):
        raise TypeError(f"[{op}] unbiased is {unbiased!r}, a {type(unbiased).__name__}. Pass a bool.")
    return dim, int(unbiased)


@function(
    free="flambeau",
    method=True,
    samples=folds(one=False, keepdim=True)
    + calls(lambda: [call(data(3, 4), 1, correction=0), call(data(3, 4), False)]),
)
def var(
    input: Tensor_,
    dim: Static = None,
    unbiased: Static = None,
    keepdim: Static = False,
    *,
    correction: Static = None,
):
    """The variance over `dim` (an int, a tuple, or None for all), divided by `count - correction`, by default 1.

    `unbiased` says whether that is 1 or 0; `var(False)` is `var(unbiased=False)`. Raises TypeError for both.
    """
    dim, correction = _correction("var", dim, unbiased, correction)
    return variance("var", input, dim, correction, keepdim)


@function(
    free="flambeau",
    method=True,
    samples=folds(one=False, keepdim=True)
    + calls(lambda: [call(data(3, 4), 1, correction=0), call(data(3, 4), False)]),
)
def std(
    input: Tensor_,
    dim: Static = None,
    unbiased: Static = None,
    keepdim: Static = False,
    *,
    correction: Static = None,
):
    """The standard deviation over `dim` (an int, a tuple, or None for all): the root of `var`. Gradient 0 at 0."""
    dim, correction = _correction("std", dim, unbiased, correction)
    return _root(variance("std", input, dim, correction, keepdim), ops.sqrt)


def _root(x: Value, root: Callable[[Value], Value]) -> Value:
    """`root(x)` whose gradients of any order are 0 at 0, where the slope is infinite."""
    nothing = x.eq(0)
    return ops.select(nothing, x.like(0.0), root(ops.select(nothing, x.like(1.0), x)))


@function(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(points(), 0, gradient=False),
            call(data(3, 4), 1),
            call(data(2, 3, 4), (0, 2), keepdim=True),
            call(data(2, 3), 2, error=(IndexError, "dim 2 is out of range")),
        ]
    ),
)
def logsumexp(input: Tensor_, dim: Static, keepdim: Static = False):
    """log(sum(exp(x))) over `dim` (an int or tuple), stable for large x (for large real parts of complex numbers)."""
    x = floating(input)
    axes = canonical_dims("logsumexp", dim, len(x.shape))
    if _count(x, axes) == 0:
        return ops.log(reduced("sum", ops.exp(x), axes, keepdim))
    peak = ops.stop_gradient(reduced("max", ops.real(x) if x.dtype.is_complex else x, axes, True))
    peak = ops.select(ops.abs(peak).eq(math.inf), peak.like(0.0), peak).cast(x.dtype)
    total = ops.log(reduced("sum", ops.exp(x - peak.expand(x.shape)), axes, True)) + peak
    return total if keepdim else ops.reshape(total, shape=tuple(n for d, n in enumerate(x.shape) if d not in axes))


@function()
def norm(input: Tensor_, p: Static = 2.0, dim: Static = None, keepdim: Static = False):
    """The p-norm over `dim` (an int, a tuple, or None for all): sum(|x|**p)**(1/p); `p` may be infinite. Gradient 0 at 0."""
    x = input
    check_floating("norm", x, error=RuntimeError, complex=True)
    axes = canonical_dims("norm", dim, len(x.shape))
    if math.isinf(p):
        return _extreme("norm", "max" if p > 0 else "min", ops.abs(x), axes, keepdim)
    if p == 0:
        return reduced("sum", x.ne(0).cast(x.dtype.to_real()), axes, keepdim)
    if p == 1:
        return reduced("sum", ops.abs(x), axes, keepdim)
    return _root(
        reduced("sum", squared(x) if p == 2 else _power(ops.abs(x), float(p)), axes, keepdim),
        ops.sqrt if p == 2 else lambda s: ops.pow(s, s.like(1.0 / p)),
    )


def squared(x: Value) -> Value:
    """x * x; of complex numbers the square of the absolute value."""
    if not x.dtype.is_complex:
        return x * x
    re, im = ops.real(x), ops.imag(x)
    return re * re + im * im


def _power(x: Value, p: float) -> Value:
    """x ** p of what is not negative. Below 2 a derivative is infinite at 0; there the gradients of any order are 0."""
    return ops.pow(x, x.like(p)) if p >= 2 else _root(x, lambda v: ops.pow(v, v.like(p)))
