"""Orders: where the elements along an axis go when they are sorted, which are the first of them, and where others belong.

In: an operand with an order. Out: positions (int64), which are the same whatever way they were found: NaN counts as the
greatest, -0 equals +0, and among equals the one that comes first stays first, also from the greatest down. Values are gathered
at positions, so gradients of any order are those of gather. Next: `source.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import ORDERED, int64
from flambeau.dialects.record import Kind, NoGradient, OpRecord, Sample
from flambeau.dialects.size import at_most
from flambeau.dialects.tape.common import LINES, SPECIALS, check_axis, check_dtype, random, rounded_once

#: Elements along an axis, at most: positions take 32 bits while they are sorted.
LONGEST = 1 << 32
_NO_GRADIENT = NoGradient("its result is a position")


def _check(op: str, x: Aval, axis: int) -> None:
    check_dtype(op, x, ORDERED)
    check_axis(op, axis, x.rank)
    if at_most(LONGEST, x.shape[axis]):
        raise RuntimeError(f"[{op}] axis {axis} of shape {x.shape} has 2**32 elements or more. Sort parts of it.")


def _infer_argsort(x: Aval, axis: int, descending: bool) -> Aval:
    _check("argsort", x, axis)
    return Aval(x.shape, int64)


@rounded_once
def _argsort(x: np.ndarray, axis: int, descending: bool) -> np.ndarray:
    if not descending:
        return np.ascontiguousarray(np.argsort(x, axis, kind="stable"), np.int64)
    backwards = np.argsort(np.flip(x, axis), axis, kind="stable")  # among equals the last one comes first
    return np.ascontiguousarray(x.shape[axis] - 1 - np.flip(backwards, axis), np.int64)


_TIES = np.array([[1.0, np.nan, 1.0, -1.0, np.nan], [np.inf, -np.inf, 1.0, np.inf, 0.0], [-0.0, 0.0, -0.0, 0.0, -0.0]])


def _samples_argsort() -> list[Sample]:
    ways = [(random(shape), axis) for shape, axis in LINES] + [(SPECIALS, 0), (_TIES, 1), (_TIES.T.copy(), 0)]
    return [
        *(Sample((x,), {"axis": axis, "descending": down}) for x, axis in ways for down in (False, True)),
        Sample((np.zeros((2, 3)),), {"axis": 2, "descending": False}, error=(IndexError, "[argsort] axis 2 is out of")),
        Sample((np.float64(1),), {"axis": 0, "descending": False}, error=(IndexError, "[argsort] axis 0 is out of")),
    ]


argsort = OpRecord(
    name="argsort",
    kind=Kind.SORT,
    attrs=("axis", "descending"),
    infer=_infer_argsort,
    reference=_argsort,
    vjp=_NO_GRADIENT,
    lower=None,
    dtypes=ORDERED,
    keep=True,
    samples=_samples_argsort,
    doc="The positions that sort the elements along an axis; equal ones stay in their order, NaN counts as the greatest.",
)


def _infer_topk(x: Aval, axis: int, k: int, largest: bool) -> Aval:
    _check("topk", x, axis)
    n = x.shape[axis]
    if isinstance(k, bool) or not isinstance(k, int) or k < 0 or at_most(n + 1, k):
        raise RuntimeError(f"[topk] k is {k} for axis {axis} of shape {x.shape}. Give an int from 0 to {n}.")
    return Aval((*x.shape[:axis], k, *x.shape[axis + 1 :]), int64)


def _topk(x: np.ndarray, axis: int, k: int, largest: bool) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(np.moveaxis(_argsort(x, axis, largest), axis, 0)[:k], 0, axis))


def _samples_topk() -> list[Sample]:
    def call(x: np.ndarray, axis: int, k: int, largest: bool = True, **rest: Any) -> Sample:
        return Sample((x,), {"axis": axis, "k": k, "largest": largest}, **rest)

    shapes = (((7,), 0, 3), ((0, 3), 0, 0), ((3, 0), 0, 2), ((2, 3, 4), 1, 2), ((900, 3), 0, 5), ((3, 731), 1, 40))
    ways = [(random(shape), axis, k) for shape, axis, k in shapes]
    ways += [(SPECIALS, 0, 9), (_TIES, 1, 3), (_TIES.T.copy(), 0, 4), (np.repeat(SPECIALS, 30), 0, 100)]
    return [
        *(call(x, axis, k, largest) for x, axis, k in ways for largest in (False, True)),
        call(
            np.zeros((2, 3)), 1, 4, error=(RuntimeError, "[topk] k is 4 for axis 1 of shape (2, 3). Give an int from 0")
        ),
        call(np.zeros((2, 3)), 1, -1, error=(RuntimeError, "[topk] k is -1 for axis 1")),
        call(np.zeros((2, 3)), 2, 1, error=(IndexError, "[topk] axis 2 is out of range")),
    ]


topk = OpRecord(
    name="topk",
    kind=Kind.SORT,
    attrs=("axis", "k", "largest"),
    infer=_infer_topk,
    reference=_topk,
    vjp=_NO_GRADIENT,
    lower=None,
    dtypes=ORDERED,
    keep=True,
    samples=_samples_topk,
    doc="The positions of the k largest or smallest elements along an axis: the first k of those that sort it.",
)


def _infer_searchsorted(x: Aval, values: Aval, axis: int, right: bool) -> Aval:
    _check("searchsorted", x, axis)
    outside = lambda a: (*a.shape[:axis], *a.shape[axis + 1 :])  # noqa: E731
    if values.dtype is not x.dtype or values.rank != x.rank or outside(values) != outside(x):
        raise RuntimeError(
            f"[searchsorted] values are {values.dtype.name} of shape {values.shape}, the sequence {x.dtype.name} of "
            f"shape {x.shape}. Make dtypes equal, and shapes outside of axis {axis}."
        )
    if at_most(x.shape[axis], 0):
        raise RuntimeError(f"[searchsorted] axis {axis} of shape {x.shape} is empty. Every value belongs at 0.")
    return Aval(values.shape, int64)


@rounded_once
def _searchsorted(x: np.ndarray, values: np.ndarray, axis: int, right: bool) -> np.ndarray:
    """By halves, so that it says what comes out for sequences that are not sorted, too."""
    sequence, left = np.moveaxis(x, axis, -1), x.shape[axis]
    wanted = np.moveaxis(values, axis, -1)
    start = np.zeros(wanted.shape, np.int64)

    def before(at: np.ndarray) -> np.ndarray:
        found = np.take_along_axis(sequence, at, -1)
        return ~(found > wanted if right else found >= wanted)

    while left > 1:
        half = left // 2
        start += np.where(before(start + half - 1), half, 0)
        left -= half
    return np.ascontiguousarray(np.moveaxis(start + before(start), -1, axis))


def _samples_searchsorted() -> list[Sample]:
    def call(shape: tuple[int, ...], values: tuple[int, ...], axis: int, right: bool) -> Sample:
        return Sample((np.sort(random(shape), axis), random(values, -4, 4, seed=1)), {"axis": axis, "right": right})

    shapes = (((1,), (5,), 0), ((6,), (0,), 0), ((5, 3), (4, 3), 0), ((3, 131), (3, 40), 1), ((2, 7, 5), (2, 9, 5), 1))
    ordered = np.sort(SPECIALS)
    bad = {"axis": 0, "right": False}
    return [
        *(call(shape, values, axis, right) for shape, values, axis in shapes for right in (False, True)),
        *(Sample((ordered, SPECIALS), {"axis": 0, "right": right}) for right in (False, True)),
        Sample((random((9,)), random((4,), seed=1)), bad),
        Sample((np.zeros((2, 3)), np.zeros((2, 4))), bad, error=(RuntimeError, "[searchsorted] values are float64 of")),
        Sample((np.zeros(3), np.zeros(3, np.int32)), bad, error=(RuntimeError, "[searchsorted] values are int32 of")),
        Sample((np.zeros(0), np.zeros(3)), bad, error=(RuntimeError, "[searchsorted] axis 0 of shape (0,) is empty")),
    ]


searchsorted = OpRecord(
    name="searchsorted",
    kind=Kind.SORT,
    attrs=("axis", "right"),
    infer=_infer_searchsorted,
    reference=_searchsorted,
    vjp=_NO_GRADIENT,
    lower=None,
    dtypes=ORDERED,
    samples=_samples_searchsorted,
    doc="Where values belong in a sorted sequence along an axis: before its equals, or with `right` after them.",
)
