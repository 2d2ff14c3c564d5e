"""Counts: bincount, histc, histogram, histogramdd.

In: numbers. Out: how many there are of each, or how many lie in each bin; or sums of weights, added up in the order of the
elements. Next: `linear.py`.
"""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np
from flambeau import return_types
from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_, float32, float64, int64
from flambeau.function import Operand, Optional_, Sizes, Static, Tensor_, Tensors, function
from flambeau.functions.common import check_floating, flat, ops, part
from flambeau.functions.from_data import tensor
from flambeau.functions.ramps import linspace
from flambeau.functions.shape import reshape
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, index, points


def _extremes(x: Value) -> Value:
    """The least and the greatest element, side by side."""
    return ops.concat(*(ops.reshape(f(x, axes=(0,)), shape=(1,)) for f in (ops.min, ops.max)), dim=0)


@function(name="bincount")
def _ends(input: Tensor_):
    return _extremes(input.cast(int64))


@function(name="bincount", fallible=True)
def _bincount(input: Tensor_, weights: Optional_, bins: Sizes):
    at = input.cast(int64)
    if weights is None:
        added = at.like(1)
    else:
        added = weights if weights.dtype is float32 else weights.cast(float64)
    return ops.scatter_add(at.builder.constant(0, added.dtype, (bins,)), at, added, axis=0)


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(index(6, 20)),
            call(index(6, 20), data(20)),
            call(index(6, 20), weights=index(9, 20), minlength=9),
            call(np.zeros(0, np.int64), minlength=3),
            call(np.array([2, -1]), error=(RuntimeError, "[bincount] input has -1 among its elements")),
            call(data(3), error=(RuntimeError, "input has dtype")),
            call(index(3, 2, 2), error=(RuntimeError, "Pass a vector")),
            call(index(3, 4), data(3), error=(RuntimeError, "weights have shape (3,)")),
            call(index(3, 4), minlength=-1, error=(RuntimeError, "minlength is -1")),
        ]
    ),
)
def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each of 0, 1, 2, ... is among the integers of a vector (int64), up to the greatest, and at least `minlength` of
    them; or the sums of `weights` there (float32 of float32, else float64), added in order. The greatest is read at once.

    Raises RuntimeError for numbers below 0, for dtypes other than integers and for shapes that do not fit.
    """
    if input.dtype.is_floating_point or input.dtype is bool_:
        raise RuntimeError(f"[bincount] input has dtype {input.dtype}. Convert it with .long().")
    if input.ndim != 1:
        raise RuntimeError(f"[bincount] input has shape {tuple(input.shape)}. Pass a vector.")
    if weights is not None and tuple(weights.shape) != tuple(input.shape):
        raise RuntimeError(
            f"[bincount] weights have shape {tuple(weights.shape)}, input {tuple(input.shape)}. Give one for each element."
        )
    if minlength < 0:
        raise RuntimeError(f"[bincount] minlength is {minlength}. Give at least 0.")
    least, most = _ends(input).tolist() if input.numel() else (0, -1)
    if least < 0:
        raise RuntimeError(f"[bincount] input has {least} among its elements. Only numbers from 0 on can be counted.")
    return _bincount(input, weights, max(minlength, most + 1))


# ---- bins -------------------------------------------------------------------------------------------------


def _data(x: Value) -> Value:
    """All elements in one dimension, through which no gradient goes."""
    return ops.stop_gradient(flat(x))


@function(name="histogram")
def _limits(input: Tensor_):
    return _extremes(_data(input))


def _range(op: str, input: Tensor, ends: Any, margin: float) -> tuple[float, float]:
    """The ends of the bins: those given, or where there are none, those of the data; so much on either side of one number."""
    low, high = ends if ends is not None else _limits(input).tolist() if input.numel() else (0.0, 2 * margin)
    if low == high:
        low, high = low - margin, high + margin
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RuntimeError(f"[{op}] the range from {low} to {high} is not finite. Give a finite one.")
    if low > high:
        raise RuntimeError(f"[{op}] the range goes from {low} down to {high}. Give the lower end first.")
    return float(low), float(high)


def _added(at: Value, holds: Value, weights: Value | None, bins: Any, like: Value) -> Value:
    """Sums of weights (or ones) by bin; of what `holds` not, nothing."""
    ones = weights if weights is not None else like.like(1)
    added = ops.select(holds, ones, ones.like(0))
    return ops.scatter_add(like.builder.constant(0, like.dtype, (bins,)), at, added, axis=0)


def _in_equal_bins(x: Value, weights: Value | None, bins: Any, low: Value, high: Value) -> Value:
    """Bins of one width; the upper end belongs to the last one."""
    low, high = (v.cast(x.dtype).expand(x.shape) for v in (low, high))
    holds = ops.and_(x >= low, x <= high)
    inside = ops.select(holds, x, low)
    place = ((inside - low) / (high - low) * bins).cast(int64)
    return _added(ops.minimum(place, place.like(bins - 1)), holds, weights, bins, x)


def _in_bins(x: Value, weights: Value | None, edges: Value) -> Value:
    """Bins between edges; the last edge belongs to the last bin."""
    place, holds = _bin(x, edges)
    return _added(place, holds, weights, edges.shape[0] - 1, x)


def _bin(x: Value, edges: Value) -> tuple[Value, Value]:
    """In which bin each element lies, and whether there is one."""
    bins = edges.shape[0] - 1
    first, last = (ops.slice(edges, starts=(k,), sizes=(1,), steps=(1,)).expand(x.shape) for k in (0, bins))
    holds = ops.and_(x >= first, x <= last)
    place = ops.searchsorted(edges, x, axis=0, right=True) - 1
    return ops.maximum(ops.minimum(place, place.like(bins - 1)), place.like(0)), holds


@function(name="histc", fallible=True)
def _histc(input: Tensor_, bins: Sizes, low: Operand, high: Operand):
    return _in_equal_bins(_data(input), None, bins, low, high)


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(3, 7), 5, gradient=False),
            call(data(20), bins=4, min=-1, max=1, gradient=False),
            call(points(), 6, -2, 3, gradient=False),
            call(data(0), 3, gradient=False),
            call(data(3), 0, error=(RuntimeError, "bins is 0")),
            call(data(3), 4, 2, 1, error=(RuntimeError, "Give the lower end first")),
            call(points(), 4, error=(RuntimeError, "is not finite")),
            call(index(3, 4), error=(RuntimeError, "input has dtype")),
        ]
    ),
)
def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements lie in each of `bins` bins of one width from `min` to `max`, in the dtype of `input`; elements elsewhere
    count nowhere, `max` itself in the last bin. Where both ends are one number they are those of the data, which are read at once.

    Raises RuntimeError for integers, for ends that are not finite or the wrong way round, for less than one bin.
    """
    check_floating("histc", input)  # type: ignore[arg-type]  # it asks for the dtype
    if bins <= 0:
        raise RuntimeError(f"[histc] bins is {bins}. Give at least 1.")
    ends = None if min == max and input.numel() else (min, max)
    low, high = _range("histc", input, ends, 1.0)
    return _histc(input, bins, low, high)


@function(name="histogram", fallible=True)
def _histogram(input: Tensor_, edges: Tensor_, weight: Optional_, density: Static):
    x = _data(input)
    counts = _in_bins(x, None if weight is None else _data(weight), edges)
    if not density:
        return counts
    (n,) = counts.shape
    upper, lower = (ops.slice(edges, starts=(k,), sizes=(n,), steps=(1,)) for k in (1, 0))
    return counts / ops.sum(counts, axes=(0,)).expand(counts.shape) / (upper - lower)


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(3, 7), 5, gradient=False),
            call(data(20), bins=4, range=(-1.0, 1.0), weight=data(20, low=0.5), density=True, gradient=False),
            call(data(20), np.array([-1.0, 0.0, 0.25, 1.5]), gradient=False),
            call(data(3), 0, error=(RuntimeError, "bins is 0")),
            call(data(3), 4, weight=data(2), error=(RuntimeError, "weight has shape (2,)")),
            call(index(3, 4), 3, error=(RuntimeError, "input has dtype")),
        ]
    ),
)
def histogram(
    input: Tensor,
    bins: Any = 100,
    *,
    range: Any = None,
    weight: Tensor | None = None,
    density: bool = False,
) -> Any:
    """(hist, bin_edges): how many elements, or how much `weight`, lie in each bin, in the dtype of `input`. `bins` is their
    number, between the ends `range` or those of the data (which are read at once); or a vector of the edges. An edge belongs to
    the bin above it, the last one to the last bin. With `density` the histogram's integral is 1. No gradient goes through it.

    Raises RuntimeError for integers, for ends that are not finite or the wrong way round, for less than one bin, for weights of
    another shape or dtype.
    """
    check_floating("histogram", input)  # type: ignore[arg-type]  # it asks for the dtype
    if weight is not None and (tuple(weight.shape) != tuple(input.shape) or weight.dtype is not input.dtype):
        raise RuntimeError(
            f"[histogram] weight has shape {tuple(weight.shape)} and dtype {weight.dtype}, input {tuple(input.shape)} and "
            f"{input.dtype}. Make them equal."
        )
    edges = _edges(input, bins, range)
    return return_types.histogram(_histogram(input, edges, weight, density), edges)


@function(name="histogramdd", fallible=True)
def _histogramdd(points: Tensor_, edges: Tensors, weight: Optional_, density: Static):
    sizes = tuple(e.shape[0] - 1 for e in edges)
    x = ops.stop_gradient(points)
    place = x.builder.constant(0, int64, x.shape[:1])
    holds = x.builder.constant(True, bool_, x.shape[:1])
    for d, line in enumerate(edges):
        column = ops.reshape(part(x, 1, d, 1), shape=x.shape[:1])
        own, inside = _bin(column, line)
        place = place * sizes[d] + own
        holds = ops.and_(holds, inside)
    like = ops.reshape(part(x, 1, 0, 1), shape=x.shape[:1])
    counts = _added(place, holds, None if weight is None else _data(weight), math.prod(sizes), like)
    counts = ops.reshape(counts, shape=sizes)
    if not density:
        return counts
    counts = counts / ops.sum(counts, axes=tuple(range(len(sizes)))).expand(sizes)
    for d, line in enumerate(edges):
        width = part(line, 0, 1, sizes[d]) - part(line, 0, 0, sizes[d])
        counts = counts / ops.reshape(width, shape=tuple(n if k == d else 1 for k, n in enumerate(sizes))).expand(sizes)
    return counts


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call(data(9, 2), [3, 2], gradient=False),
            call(data(9, 2), 2, range=(-1.0, 1.0, 0.0, 2.0), weight=data(9, low=0.5), density=True, gradient=False),
            call(data(9, 2), [np.array([-1.0, 0.0, 1.0]), np.array([-2.0, 0.5, 2.0, 3.0])], gradient=False),
            call(data(9), 2, error=(RuntimeError, "Pass points as rows")),
            call(data(9, 2), [3], error=(RuntimeError, "bins has 1 entries")),
            call(data(9, 2), 2, range=(0.0, 1.0), error=(RuntimeError, "range has 2 entries")),
        ]
    ),
)
def histogramdd(
    input: Tensor, bins: Any, range: Any = None, weight: Tensor | None = None, density: bool = False
) -> Any:
    """(hist, bin_edges): how many points, the last dimension of `input`, lie in each cell of a grid. `bins` says for each
    coordinate how many there are, between the ends `range` or those of the data, or a vector of edges. See `histogram`.

    Raises RuntimeError for integers and for arguments that do not fit the number of coordinates.
    """
    check_floating("histogramdd", input)  # type: ignore[arg-type]  # it asks for the dtype
    if input.ndim < 2:
        raise RuntimeError(f"[histogramdd] the tensor has shape {tuple(input.shape)}. Pass points as rows.")
    rank = input.shape[-1]
    each = [bins] * rank if isinstance(bins, int) else list(bins)
    ends = None if range is None else list(range)
    for what, given, wanted in (("bins", each, rank), ("range", ends, 2 * rank)):
        if given is not None and len(given) != wanted:
            raise RuntimeError(f"[histogramdd] {what} has {len(given)} entries for {rank} coordinates. Give {wanted}.")
    flat_points = reshape(input, (-1, rank))
    columns = [flat_points[:, d] for d in builtins.range(rank)]
    edges = [
        _edges(x, n, None if ends is None else ends[2 * d : 2 * d + 2]) for d, (x, n) in enumerate(zip(columns, each))
    ]
    mass = None if weight is None else reshape(weight, (-1,))
    return return_types.histogramdd(_histogramdd(flat_points, edges, mass, density), tuple(edges))


def _edges(input: Tensor, bins: Any, ends: Any) -> Tensor:
    if isinstance(bins, Tensor):
        if bins.ndim != 1 or bins.shape[0] < 2 or bins.dtype is not input.dtype:
            raise RuntimeError(
                f"[histogram] bins are {bins.dtype} of shape {tuple(bins.shape)}. Give a vector of at least 2 edges, {input.dtype}."
            )
        return bins
    if not isinstance(bins, int) or isinstance(bins, bool):
        return _edges(input, tensor(bins, dtype=input.dtype, device=input.device), ends)
    if bins <= 0:
        raise RuntimeError(f"[histogram] bins is {bins}. Give at least 1.")
    low, high = _range("histogram", input, ends, 0.5)
    return linspace(low, high, bins + 1, dtype=input.dtype, device=input.device)
