"""Folds of segments that lie one after the other along a dim: segment_reduce.

In: data, and how long the segments are or where they begin. Out: one slice for each segment. Next: `histogram.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import int64
from flambeau.function import Optional_, Static, Tensor_, function
from flambeau.functions.common import check_between, check_floating, ops, part
from flambeau.functions.positions import ADD, LARGEST, MULTIPLY, SMALLEST, combine, whole
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data

#: What is folded -> the scatter that does so, and the fold of nothing.
_FOLDS = {
    "sum": (ADD, 0.0),
    "mean": (ADD, 0.0),
    "prod": (MULTIPLY, 1.0),
    "max": (LARGEST, -math.inf),
    "min": (SMALLEST, math.inf),
}


def _offsets(lengths: Value, n: Any, unsafe: bool) -> Value:
    """Where segments begin, and the last one ends, along the last dimension. They must cover all `n` elements unless `unsafe`."""
    last = len(lengths.shape) - 1
    if not unsafe:
        lengths = check_between("segment_reduce", "lengths", lengths, 0, n, "is no length. Use 0 or more.").cast(int64)
    ends = ops.cumsum(lengths, axis=last, reverse=False)
    if not unsafe and lengths.shape[last]:
        total = part(ends, last, lengths.shape[last] - 1, 1)
        text = f"is not all of the {n} elements along axis. Make the lengths add up to that, or pass unsafe=True."
        total = check_between("segment_reduce", "the sum of lengths", total, n, n, text).cast(int64)
        ends = ops.concat(part(ends, last, 0, lengths.shape[last] - 1), total, dim=last)
    return ops.concat(part(ends, last, 0, 1).like(0), ends, dim=last) if lengths.shape[last] else ends


@function(name="segment_reduce", fallible=True)
def _segments(
    data: Tensor_,
    lengths: Optional_,
    offsets: Optional_,
    reduce: Static,
    axis: Static,
    unsafe: Static,
    initial: Static,
):
    check_floating("segment_reduce", data, "data")
    given = lengths if lengths is not None else offsets
    if len(given.shape) != axis + 1 or given.shape[:-1] != data.shape[:axis]:
        raise RuntimeError(
            f"[segment_reduce] segments of shape {given.shape} do not fit axis {axis} of data of shape {data.shape}. "
            "Give the same sizes before the last dimension, which counts segments along axis."
        )
    n, rank = data.shape[axis], len(data.shape)
    starts = whole("segment_reduce", given, "lengths")
    starts = _offsets(starts, n, unsafe) if lengths is not None else starts
    count = starts.shape[axis] - 1
    lead = data.shape[: axis + 1]
    places = ops.iota(shape=lead, dim=axis, dtype=int64, builder=data.builder)
    # Slot 0 is what lies before the first segment, and the last one what lies behind all of them.
    slots = ops.searchsorted(starts, places, axis=axis, right=True)
    index = ops.reshape(slots, shape=(*lead, *(1,) * (rank - axis - 1))).expand(data.shape)
    way, nothing = _FOLDS[reduce]
    shape = tuple(count + 2 if d == axis else m for d, m in enumerate(data.shape))
    first = data.builder.constant(nothing if initial is None else initial, data.dtype, shape)
    found = part(combine(way, first, index, data, axis), axis, 1, count)
    if reduce != "mean":
        return found
    long = part(starts, axis, 1, count) - part(starts, axis, 0, count)
    long = ops.reshape(long, shape=(*long.shape, *(1,) * (rank - axis - 1))).expand(found.shape).cast(data.dtype)
    divisor = long if initial is None else ops.maximum(long, long.like(1))
    return found / divisor


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            *(call(data(5, 2), r, lengths=np.array([2, 0, 3]), gradient=r in ("sum", "prod")) for r in _FOLDS),
            call(data(2, 4), "mean", lengths=np.array([[1, 3], [2, 2]]), axis=1),
            call(data(2, 4), "max", lengths=np.array([[1, 3], [2, 2]]), axis=1),
            call(data(5), "sum", offsets=np.array([1, 3, 5]), initial=2.0),
            call(data(5), "mean", lengths=np.array([5, 0]), initial=2.0),
            call(data(5), "sum", lengths=np.array([2, 1]), unsafe=True),
            call(data(5), "sum", lengths=np.array([2, 1]), error=(RuntimeError, "is not all of the 5 elements")),
            call(data(5), "most", lengths=np.array([5]), error=(RuntimeError, "reduce is 'most'")),
            call(data(5), "sum", error=(RuntimeError, "Give lengths or offsets")),
            call(data(5, 2), "sum", lengths=np.array([5]), axis=1, error=(RuntimeError, "do not fit axis 1")),
        ]
    ),
    recalled="types",
)
def segment_reduce(
    data: Tensor,
    reduce: str,
    *,
    lengths: Tensor | None = None,
    indices: Tensor | None = None,
    offsets: Tensor | None = None,
    axis: int = 0,
    unsafe: bool = False,
    initial: float | None = None,
) -> Tensor:
    """Each segment of `data` along `axis` folded: "sum", "mean", "prod", "max" or "min", after `initial` if that is given.

    Segments have `lengths`, or begin at `offsets` (one more, where the last one ends), of shape data.shape[:axis] + (segments,).
    Raises RuntimeError for shapes that do not fit, and unless `unsafe` where lengths do not add up to all elements.
    """
    if reduce not in _FOLDS:
        raise RuntimeError(f"[segment_reduce] reduce is {reduce!r}. Use {', '.join(map(repr, _FOLDS))}.")
    if indices is not None:
        raise RuntimeError("[segment_reduce] indices are not taken. Give lengths or offsets.")
    if lengths is None and offsets is None:
        raise RuntimeError("[segment_reduce] nothing says where segments are. Give lengths or offsets.")
    found: Any = axis + data.ndim if axis < 0 else axis
    return _segments(data, lengths, None if lengths is not None else offsets, reduce, found, unsafe, initial)
