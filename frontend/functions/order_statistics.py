"""Numbers by their rank: median, nanmedian, mode, quantile, nanquantile.

In: a tensor and a dim (None: all elements). Out: smaller tensors, made of the sorted elements (`sort.py`). Next: `unique.py`.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau import return_types
from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import float32, float64, int64
from flambeau.function import Operand, Static, Tensor_, function
from flambeau.functions.common import canonical_dim, check_between, flat, moved, ops, part
from flambeau.functions.sort import check_not_empty, places, reduced_to
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, points

_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


def _counted(x: Value, axis: int) -> Value:
    """How many elements along an axis hold, kept with extent 1."""
    found = ops.sum(x.cast(int64), axes=(axis,))
    return ops.reshape(found, shape=tuple(1 if d == axis else n for d, n in enumerate(x.shape)))


def _nans(x: Value, axis: int) -> Value:
    """How many NaNs there are along an axis."""
    return _counted(x.ne(x), axis)


def _middle(op: str, input: Value, dim: Any, keepdim: bool, skip: bool) -> tuple[Value, Value]:
    """The lower median along a dim, and its place. NaNs are the last of the sorted elements: the first of them is the median
    where there is one, or, with `skip`, they are left out of account."""
    axis = canonical_dim(op, dim, len(input.shape))
    check_not_empty(op, input, axis)
    x, order, axis = places(op, input, dim, False)
    n = x.shape[axis]
    if input.dtype.is_floating_point:
        nans = _nans(x, axis)
        if skip:
            rank = ops.shr(ops.maximum(nans.like(n) - nans - 1, nans.like(0)), nans.like(1))
        else:
            rank = ops.select(nans.eq(0), nans.like((n - 1) // 2), nans.like(n) - nans)
        at = ops.gather(order, rank, axis=axis)
    else:
        at = part(order, axis, (n - 1) // 2, 1)
    return reduced_to(ops.gather(x, at, axis=axis), input, axis, keepdim), reduced_to(at, input, axis, keepdim)


def _middle_of_all(op: str, input: Value, skip: bool) -> Value:
    if 0 in input.shape:
        if not input.dtype.is_floating_point:
            return input.builder.constant(input.dtype.least, input.dtype)
        return input.builder.constant(math.nan, input.dtype)
    return _middle(op, flat(input), 0, False, skip)[0]


@function(name="median", fallible=True)
def _median_of_all(input: Tensor_):
    return _middle_of_all("median", input, False)


@function(name="median", fallible=True)
def _median(input: Tensor_, dim: Static, keepdim: Static):
    return _middle("median", input, dim, keepdim, False)


@function(name="nanmedian", fallible=True)
def _nanmedian_of_all(input: Tensor_):
    return _middle_of_all("nanmedian", input, True)


@function(name="nanmedian", fallible=True)
def _nanmedian(input: Tensor_, dim: Static, keepdim: Static):
    return _middle("nanmedian", input, dim, keepdim, True)


_SAMPLES = calls(
    lambda: [
        call(data(7)),
        call(data(2, 4)),
        call(data(3, 4), 0),
        call(data(2, 3, 4), dim=-2, keepdim=True),
        call(points(), gradient=False),
        call(points()[:-1], 0, gradient=False),
        call(data()),
        call(data(), 0),
        call(data(2, 0), 1, error=(IndexError, "dimension 1 of shape (2, 0) is empty")),
        call(data(2, 3), 2, error=(IndexError, "dim 2 is out of range")),
    ]
)


@declared(free="flambeau", method=True, samples=_SAMPLES, recalled="operand")
def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """`median(x)`: the median of all elements, of an even number of them the lower one; of nothing NaN. `median(x, dim, keepdim)`:
    (values, indices) along `dim`. NaN where there is a NaN. The gradient goes to one place: of equal elements, which keep
    their order when they are sorted, the one in the middle.

    Raises IndexError for a dim that is empty or does not exist.
    """
    return _median_of_all(input) if dim is None else return_types.median(*_median(input, dim, keepdim))


@declared(free="flambeau", method=True, samples=_SAMPLES, recalled="operand")
def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """`median` of the elements that are not NaN; NaN where there are none."""
    return _nanmedian_of_all(input) if dim is None else return_types.nanmedian(*_nanmedian(input, dim, keepdim))


# ---- mode -------------------------------------------------------------------------------------------------


def starts_of_runs(ordered: Value, axis: int) -> Value:
    """Whether an element differs from the one before it along an axis: of a sorted one, where equal ones begin."""
    n = ordered.shape[axis]
    differs = part(ordered, axis, 1, n - 1).ne(part(ordered, axis, 0, n - 1))
    true = part(ordered, axis, 0, 1)
    return ops.concat(true.eq(true).builder.constant(True, differs.dtype, true.shape), differs, dim=axis)


@function(name="mode", fallible=True)
def _mode(input: Tensor_, dim: Static, keepdim: Static):
    axis = canonical_dim("mode", dim, len(input.shape))
    check_not_empty("mode", input, axis)
    x, order, axis = places("mode", input, dim, False)
    begins = starts_of_runs(ops.gather(ops.stop_gradient(x), order, axis=axis), axis)
    here = ops.iota(shape=x.shape, dim=axis, dtype=int64, builder=x.builder)
    length = here - ops.cummax(ops.select(begins, here, here.like(0)), axis=axis, reverse=False)
    longest = ops.reshape(ops.argmax(length, axes=(axis,)), shape=part(here, axis, 0, 1).shape)
    at = ops.gather(order, longest, axis=axis)
    return tuple(reduced_to(v, input, axis, keepdim) for v in (ops.gather(x, at, axis=axis), at))


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(7)),
            call(data(3, 4), 0, True, gradient=False),
            call(points(), gradient=False),
            call(data().reshape(1)),
            call(data()),
            call(data(2, 0), error=(IndexError, "[mode] dimension 1 of shape (2, 0) is empty")),
            call(data(2, 3), 2, error=(IndexError, "dim 2 is out of range")),
        ]
    ),
    recalled="operand",
)
def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    """(values, indices): the element along `dim` that is there most often, of several such the smallest, and the last place where
    it is. No NaN equals another one. The gradient goes to that place.

    Raises IndexError for a dim that is empty or does not exist.
    """
    return return_types.mode(*_mode(input, dim, keepdim))


# ---- quantiles --------------------------------------------------------------------------------------------


def _between(low: Value, high: Value, weight: Value) -> Value:
    """From one to the other, exact at both ends, as PyTorch's lerp."""
    distance = high - low
    return ops.select(weight < 0.5, low + weight * distance, high - distance * (1.0 - weight))


def _quantile(op: str, input: Value, q: Value, dim: Any, keepdim: bool, interpolation: str, skip: bool) -> Value:
    if input.dtype not in (float32, float64):
        raise RuntimeError(f"[{op}] input has dtype {input.dtype}, expected float32 or float64. Cast it first.")
    if not q.weak and q.dtype is not input.dtype:
        raise RuntimeError(f"[{op}] q has dtype {q.dtype}, the input {input.dtype}. Convert one with .to().")
    if len(q.shape) > 1:
        raise RuntimeError(f"[{op}] q has shape {q.shape}. Pass a number, or a vector of them.")
    if interpolation not in _INTERPOLATIONS:
        raise RuntimeError(f"[{op}] interpolation is {interpolation!r}. Use one of {', '.join(_INTERPOLATIONS)}.")
    if 0 in input.shape:
        raise RuntimeError(f"[{op}] input of shape {input.shape} is empty. Check the shape first.")
    axis = 0 if dim is None else canonical_dim(op, dim, len(input.shape))
    x = flat(input) if dim is None or not input.shape else input
    q = check_between(op, "q", q.cast(input.dtype), 0.0, 1.0, "is out of range. Quantiles lie from 0 to 1.")
    found = _ranked(x, axis, flat(q), interpolation, skip)
    kept = tuple(1 if dim is None or d == axis else n for d, n in enumerate(input.shape))
    shape = kept if keepdim else () if dim is None else tuple(n for d, n in enumerate(input.shape) if d != axis)
    return ops.reshape(found, shape=(*q.shape, *shape))


def _ranked(x: Value, axis: int, q: Value, interpolation: str, skip: bool) -> Value:
    """The elements at ranks q along an axis, which goes in front."""
    n, count = x.shape[axis], q.shape[0]
    x = ops.permute(x, perm=moved(len(x.shape), axis, 0))
    shape = (count, *x.shape[1:])
    ordered = ops.gather(x, ops.argsort(x, axis=0, descending=False), axis=0)
    nans = _nans(ops.stop_gradient(x), 0)
    last = (nans.like(n) - nans if skip else nans.like(n)) - 1
    q = ops.reshape(q, shape=(count,) + (1,) * (len(shape) - 1)).expand(shape)
    ranks = q * ops.maximum(last, last.like(0)).cast(x.dtype).expand(shape)
    if not skip:  # the last one is a NaN then
        ranks = ops.select(nans.eq(0).expand(shape), ranks, ranks.like(n - 1))
    ranks = {"lower": ops.floor, "higher": ops.ceil, "nearest": ops.round}.get(interpolation, lambda r: r)(ranks)
    below = ops.floor(ops.stop_gradient(ranks))
    low = ops.gather(ordered, below.cast(int64), axis=0)
    if interpolation in ("lower", "higher", "nearest"):
        return low
    high = ops.gather(ordered, ops.ceil(ops.stop_gradient(ranks)).cast(int64), axis=0)
    return _between(low, high, ranks - below if interpolation == "linear" else ranks.like(0.5))


_QUANTILES = calls(
    lambda: [
        call(data(7), 0.3),
        call(data(3, 4), 0.6, 0, True),
        call(data(3, 4), 0.25, keepdim=True, interpolation="midpoint"),
        call(data(2, 3, 4), data(3, low=0.1, high=0.9), dim=-2),
        *(call(data(9), 0.7, interpolation=how) for how in _INTERPOLATIONS),
        call(points(), 0.4, gradient=False),
        call(data(), 0.5),
        call(data(4), 1.5, error=(RuntimeError, "is out of range. Quantiles lie from 0 to 1")),
        call(data(4), 0.5, interpolation="most", error=(RuntimeError, "interpolation is 'most'")),
        call(data(0), 0.5, error=(RuntimeError, "is empty")),
        call(data(2, 3), 0.5, 2, error=(IndexError, "dim 2 is out of range")),
    ]
)


@function(free="flambeau", method=True, samples=_QUANTILES, fallible=True)
def quantile(
    input: Tensor_, q: Operand, dim: Static = None, keepdim: Static = False, *, interpolation: Static = "linear"
):
    """The q-quantiles along `dim` (None: of all elements): of n sorted elements what lies at q * (n - 1), between two as
    `interpolation` says: "linear", "lower", "higher", "midpoint" or "nearest". A vector of q adds a dimension in front. NaN where
    there is a NaN. Raises RuntimeError for dtypes other than float32 and float64, and (when a value is read) for q outside of
    0..1."""
    return _quantile("quantile", input, q, dim, keepdim, interpolation, False)


@function(free="flambeau", method=True, samples=_QUANTILES, fallible=True)
def nanquantile(
    input: Tensor_, q: Operand, dim: Static = None, keepdim: Static = False, *, interpolation: Static = "linear"
):
    """`quantile` of the elements that are not NaN; NaN where there are none."""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, True)
