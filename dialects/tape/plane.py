"""Elements at places of a plane (the last axes, counted row by row), and the gradient of `unfold`.

In: elements and places, or windows. Out: planes, one element after the other added to them, or put there; elements taken from them.
What lies outside of a plane is left out, or 0. Sums start from +0. Next: `control.py`.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import ARITHMETIC, NUMERIC, int64
from flambeau.dialects.record import Kind, OpRecord, Sample
from flambeau.dialects.size import Int, Size
from flambeau.dialects.tape.common import check_axis, check_dtype, one_nan, ops, quiet, random, rounded_once
from flambeau.dialects.tape.view import check_unfold, held

# ---- elements at places of a plane ------------------------------------------------------------------------------------


def _check_places(op: str, x: Aval, index: Aval, rank: int) -> tuple[Int, ...]:
    """The axes before the plane, which both operands have."""
    check_dtype(op, x, NUMERIC)
    if index.dtype is not int64:
        raise RuntimeError(f"[{op}] the index has dtype {index.dtype.name}. Pass int64.")
    if not 1 <= rank <= min(x.rank, index.rank) or x.rank != index.rank:
        raise RuntimeError(
            f"[{op}] planes of {rank} axes in operands of ranks {x.rank} and {index.rank}. Give both these and the same others."
        )
    batch = index.shape[: index.rank - rank]
    if batch != x.shape[: x.rank - rank]:
        raise RuntimeError(
            f"[{op}] operands of shapes {x.shape} and {index.shape} differ before the planes. Make them agree."
        )
    return batch


def _infer_put(x: Aval, index: Aval, shape: tuple[Int, ...], add: bool) -> Aval:
    if x.shape != index.shape:
        raise RuntimeError(f"[put] operands have shapes {x.shape} and {index.shape}. Pass one place per element.")
    return Aval((*_check_places("put", x, index, len(shape)), *shape), x.dtype)


def _infer_pick(x: Aval, index: Aval, rank: int) -> Aval:
    _check_places("pick", x, index, rank)
    return Aval(index.shape, x.dtype)


def _planes(x: np.ndarray, rank: int) -> np.ndarray:
    lead = x.shape[: x.ndim - rank]
    return x.reshape(prod(lead), prod(x.shape[x.ndim - rank :]))


@quiet
@rounded_once
def _put(x: np.ndarray, index: np.ndarray, shape: tuple[int, ...], add: bool) -> np.ndarray:
    rank = len(shape)
    found = np.zeros((*x.shape[: x.ndim - rank], *shape), x.dtype)
    flat, given, at = _planes(found, rank), _planes(x, rank), _planes(index, rank)
    for k in range(given.shape[1]):
        inside = (at[:, k] >= 0) & (at[:, k] < flat.shape[1])
        rows = np.nonzero(inside)[0]
        places = (rows, at[rows, k])
        flat[places] = flat[places] + given[rows, k] if add else given[rows, k]
    return one_nan(flat.reshape(found.shape))


@quiet
@rounded_once
def _pick(x: np.ndarray, index: np.ndarray, rank: int) -> np.ndarray:
    flat, at = _planes(x, rank), _planes(index, rank)
    inside = (at >= 0) & (at < flat.shape[1])
    if flat.shape[1] == 0:
        return np.zeros(index.shape, x.dtype)
    found = np.take_along_axis(flat, np.where(inside, at, 0), 1)
    return one_nan(np.where(inside, found, x.dtype.type(0)).reshape(index.shape))


def _places(high: int, *shape: int) -> np.ndarray:
    """Places of a plane of `high` elements, some of them twice, and one on either side of it."""
    found = (np.arange(prod(shape)) * 5 + 2) % (high + 2) - 1
    return found.reshape(shape).astype(np.int64)


put = OpRecord(
    name="put",
    kind=Kind.WINDOW,
    attrs=("shape", "add"),
    infer=_infer_put,
    reference=_put,
    vjp=lambda ct, r, x, index, shape, add: (ops.pick(ct, index, rank=len(shape)), None),
    lower=None,
    dtypes=NUMERIC,
    keep=True,
    samples=lambda: [
        Sample((random((3, 7)), _places(5, 3, 7)), {"shape": (5,), "add": True}),
        Sample((random((3, 7)), _places(5, 3, 7)), {"shape": (5,), "add": False}, gradient=False),
        Sample((random((2, 3)), np.array([[3, 0, 2], [-1, 1, 4]])), {"shape": (4,), "add": False}),
        Sample((random((2, 3, 4)), _places(30, 2, 3, 4)), {"shape": (5, 6), "add": True}),
        Sample((random((2, 3)), np.zeros((2, 3), np.int64)), {"shape": (0,), "add": True}, gradient=False),
        Sample((random((2, 0)), np.zeros((2, 0), np.int64)), {"shape": (3,), "add": False}, gradient=False),
        Sample(
            (random((2, 3)), random((2, 3))),
            {"shape": (4,), "add": True},
            error=(RuntimeError, "[put] the index has dtype"),
        ),
        Sample(
            (random((2, 3)), _places(3, 2, 4)),
            {"shape": (4,), "add": True},
            error=(RuntimeError, "[put] operands have shapes"),
        ),
    ],
    doc="Zeros of extents `shape`, with elements added, or put (the last one stays), at row-major places in it.",
)
pick = OpRecord(
    name="pick",
    kind=Kind.WINDOW,
    attrs=("rank",),
    infer=_infer_pick,
    reference=_pick,
    vjp=lambda ct, r, x, index, rank: (ops.put(ct, index, shape=x.shape[len(x.shape) - rank :], add=True), None),
    lower=None,
    dtypes=NUMERIC,
    keep=True,
    samples=lambda: [
        Sample((random((3, 5)), _places(5, 3, 7)), {"rank": 1}),
        Sample((random((2, 5, 6)), _places(30, 2, 3, 4)), {"rank": 2}),
        Sample((random((2, 0)), np.zeros((2, 3), np.int64)), {"rank": 1}, gradient=False),
        Sample((random((2, 3)), random((2, 3))), {"rank": 1}, error=(RuntimeError, "[pick] the index has dtype")),
        Sample((random((2, 3)), _places(3, 3, 3)), {"rank": 1}, error=(RuntimeError, "[pick] operands of shapes")),
    ],
    doc="The elements at row-major places of the last `rank` axes; 0 at places outside of them.",
)


# ---- the gradient of unfold -----------------------------------------------------------------------------------------


def _held(x: Any, axis: int, step: int, dilation: int) -> Int:
    """How many elements lie between the ends of all windows of an operand of `fold`."""
    return held(x.shape[axis], x.shape[-1], step, dilation)


def _vjp_fold(ct, r, x, axis, extent, step, dilation):
    """`unfold` of the elements that windows hold."""
    if 0 in x.shape:
        return (x.like(0),)
    sizes = tuple(_held(x, axis, step, dilation) if k == axis else n for k, n in enumerate(ct.shape))
    ct = ops.slice(ct, starts=(0,) * len(sizes), sizes=sizes, steps=(1,) * len(sizes))
    return (ops.unfold(ct, axis=axis, size=x.shape[-1], step=step, dilation=dilation),)


def _infer_fold(x: Aval, axis: int, extent: Int, step: int, dilation: int) -> Aval:
    check_dtype("fold", x, ARITHMETIC)
    check_axis("fold", axis, x.rank - 1)
    if not isinstance(extent, int | Size) or extent < 0:
        raise RuntimeError(f"[fold] extent {extent} is no number of elements. Give at least 0.")
    check_unfold("fold", extent, x.shape[-1], step, dilation)
    if _held(x, axis, step, dilation) > extent:
        raise RuntimeError(
            f"[fold] {x.shape[axis]} windows of {x.shape[-1]} elements, {step} apart and {dilation} within, do not fit into "
            f"{extent} elements. Give a greater extent."
        )
    return Aval((*x.shape[:axis], extent, *x.shape[axis + 1 : -1]), x.dtype)


@quiet
@rounded_once
def _fold(x: np.ndarray, axis: int, extent: int, step: int, dilation: int) -> np.ndarray:
    found = np.zeros((*x.shape[:axis], extent, *x.shape[axis + 1 : -1]), x.dtype)
    along, given = np.moveaxis(found, axis, 0), np.moveaxis(x, (axis, -1), (0, 1))
    for o, k in np.ndindex(given.shape[:2]):
        along[o * step + k * dilation] += given[o, k]
    return one_nan(found)


fold = OpRecord(
    name="fold",
    kind=Kind.WINDOW,
    attrs=("axis", "extent", "step", "dilation"),
    infer=_infer_fold,
    reference=_fold,
    vjp=_vjp_fold,
    lower=None,
    dtypes=ARITHMETIC,
    keep=True,
    samples=lambda: [
        Sample((random((4, 3)),), {"axis": 0, "extent": 10, "step": 2, "dilation": 1}),
        Sample((random((2, 2)),), {"axis": 0, "extent": 4, "step": 2, "dilation": 1}),
        Sample((random((3, 5, 4, 2)),), {"axis": 1, "extent": 8, "step": 1, "dilation": 3}, gradient=False),
        Sample((random((2, 3, 2)),), {"axis": 1, "extent": 11, "step": 4, "dilation": 2}),
        Sample((random((0, 2, 3)),), {"axis": 1, "extent": 4, "step": 1, "dilation": 1}),
        Sample((random((3, 0)),), {"axis": 0, "extent": 2, "step": 1, "dilation": 1}),
        Sample((random((3, 0)),), {"axis": 0, "extent": 1, "step": 1, "dilation": 1}),
        Sample(
            (random((4, 3)),),
            {"axis": 0, "extent": 7, "step": 2, "dilation": 1},
            error=(RuntimeError, "[fold] 4 windows of 3 elements, 2 apart and 1 within, do not fit into 7 elements."),
        ),
        Sample(
            (random((4, 3)),),
            {"axis": 1, "extent": 7, "step": 2, "dilation": 1},
            error=(IndexError, "[fold] axis 1 is out of range"),
        ),
    ],
    doc="Windows along `axis`, whose elements the last axis holds, summed where they came from: `unfold` transposed.",
)
