"""Places in sorted sequences, and membership: searchsorted, bucketize, isin.

In: values and a sequence. Out: positions (int64 or int32), or bools. Next: `histogram.py`.
"""

from __future__ import annotations

import math

import numpy as np
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_, int32, int64
from flambeau.function import Operand, Optional_, Static, Tensor_, function
from flambeau.functions.common import common_dtype, flat, ops
from flambeau.samples import call, calls, data, index, points

#: Up to so many elements a tensor is compared with each.
_FEW = 16


def _search(op: str, sequence: Value, values: Value, right: bool, out_int32: bool) -> Value:
    """Sequences along the last dimension of `sequence`: one for all values, or one for each of their lines."""
    dtype = int32 if out_int32 else int64
    if values.weak:  # compared as what both are, for 1.5 lies behind the int 1
        common = common_dtype(op, sequence, values)
        sequence, values = sequence.cast(common), values.cast(common)
    if values.dtype is not sequence.dtype:
        raise RuntimeError(
            f"[{op}] values are {values.dtype}, the sequence is {sequence.dtype}. Convert one with .to()."
        )
    shape = values.shape
    if len(sequence.shape) == 1:
        values = flat(values)
    elif not shape or len(shape) != len(sequence.shape) or shape[:-1] != sequence.shape[:-1]:
        raise RuntimeError(
            f"[{op}] values of shape {shape} and sequences of shape {sequence.shape} differ before the last dimension. "
            "Make them equal there, or give one sequence."
        )
    if sequence.shape[-1] == 0 or 0 in values.shape:
        return values.builder.constant(0, dtype, shape)
    found = ops.searchsorted(sequence, values, axis=len(sequence.shape) - 1, right=right)
    return ops.reshape(found, shape=shape).cast(dtype)


_SORTED = np.array([-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5])
_ROWS = np.array([[-1.0, 0.0, 1.0], [0.0, 0.5, 1.25]])


@function(
    free="flambeau",
    samples=calls(
        lambda: [
            call(_SORTED, data(3, 4)),
            call(_ROWS, data(2, 4), right=True),
            call(_SORTED, points(), side="right", gradient=False),
            call(_SORTED[::-1].copy(), data(5), sorter=np.arange(6, -1, -1), out_int32=True),
            call(_SORTED, 0.5),
            call(data(0), data(3)),
            call(_ROWS, data(3, 4), error=(RuntimeError, "differ before the last dimension")),
            call(_SORTED, data(3), side="middle", error=(RuntimeError, "side is 'middle'")),
            call(_SORTED, data(3), side="left", right=True, error=(RuntimeError, "side is 'left'")),
            call(data(), data(3), error=(RuntimeError, "has no dimensions")),
        ]
    ),
    fallible=True,
)
def searchsorted(
    sorted_sequence: Tensor_,
    input: Operand,
    *,
    out_int32: Static = False,
    right: Static = False,
    side: Static = None,
    sorter: Optional_ = None,
):
    """Where the values `input` belong in sequences sorted along their last dimension: before elements equal to them, or with
    `right` (or `side="right"`) after these. There is one sequence for all, or one for each line of `input`. `sorter` holds the
    positions that sort sequences which are not. int64, or int32 with `out_int32`.

    Raises RuntimeError for dtypes and shapes that do not fit, IndexError for a sorter that leaves the sequence.
    """
    if side not in (None, "left", "right") or (side == "left" and right):
        raise RuntimeError(
            f"[searchsorted] side is {side!r}, and right is {right}. Use side='left' or side='right', or right."
        )
    if not sorted_sequence.shape:
        raise RuntimeError("[searchsorted] the sequence has no dimensions. Pass a vector, or a tensor of several.")
    if sorter is not None:
        if sorter.dtype is not int64 or sorter.shape != sorted_sequence.shape:
            raise RuntimeError(
                f"[searchsorted] sorter is {sorter.dtype} of shape {sorter.shape}, the sequence has shape "
                f"{sorted_sequence.shape}. Pass int64 of that shape, as argsort gives it."
            )
        sorted_sequence = ops.gather(sorted_sequence, sorter, axis=len(sorter.shape) - 1)
    return _search("searchsorted", sorted_sequence, input, bool(right) or side == "right", bool(out_int32))


@function(
    free="flambeau",
    samples=calls(
        lambda: [
            call(data(3, 4), _SORTED),
            call(points(), _SORTED, right=True, out_int32=True, gradient=False),
            call(0.5, _SORTED),
            call(data(3), _ROWS, error=(RuntimeError, "boundaries have shape (2, 3)")),
        ]
    ),
)
def bucketize(input: Operand, boundaries: Tensor_, *, out_int32: Static = False, right: Static = False):
    """The number of the bucket between sorted `boundaries` (a vector) in which each value lies: bucket i goes from
    boundaries[i - 1] to boundaries[i], and that one belongs to it, or with `right` the other. int64, or int32 with `out_int32`.

    Raises RuntimeError for boundaries that are no vector, or of another dtype.
    """
    if len(boundaries.shape) != 1:
        raise RuntimeError(f"[bucketize] boundaries have shape {boundaries.shape}. Pass a vector.")
    return _search("bucketize", boundaries, input, bool(right), bool(out_int32))


@function(
    free="flambeau",
    samples=calls(
        lambda: [
            call(index(9, 3, 4), index(5, 3)),
            call(index(90, 40), index(60, 25), invert=True),
            call(points(), points(), gradient=False),
            call(index(9, 3, 4), 3),
            call(4, index(9, 5)),
            call(index(9, 4), index(9, 0)),
        ]
    ),
    fallible=True,
)
def isin(elements: Operand, test_elements: Operand, *, assume_unique: Static = False, invert: Static = False):
    """Whether each of `elements` is among `test_elements`, or with `invert` is not. One of the two may be a number. NaN is among
    nothing. `assume_unique` changes nothing."""
    dtype = common_dtype("isin", elements, test_elements)
    x, others = elements.cast(dtype), test_elements.cast(dtype)
    count, shape = math.prod(others.shape), x.shape
    others = flat(others)
    if count <= _FEW:
        wide = ops.reshape(x, shape=(*shape, 1)).expand((*shape, count))
        found = ops.any(wide.eq(others.expand((*shape, count))), axes=(len(shape),))
    else:
        found = _among(x, others)
    return ops.not_(found) if invert else found


def _among(x: Value, others: Value) -> Value:
    """Whether each element equals the one of `others` in whose place it belongs."""
    if 0 in x.shape:
        return x.builder.constant(False, bool_, x.shape)
    (n,), values = others.shape, flat(x)
    ordered = ops.gather(others, ops.argsort(others, axis=0, descending=False), axis=0)
    at = ops.searchsorted(ordered, values, axis=0, right=False)
    found = ops.gather(ordered, ops.minimum(at, at.like(n - 1)), axis=0).eq(values)
    return ops.reshape(found, shape=x.shape)
