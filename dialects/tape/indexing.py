"""gather and scatter_add: elements picked, or added to, by an index along one axis.

In: data and an int64 index that agree in all other dimensions. Both fail at run time where an index is out of range.
"""

from __future__ import annotations

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.domain import Domain, failing
from flambeau.dialects.dtypes import NUMERIC, SUPPORTED, int64
from flambeau.dialects.record import Kind, OpRecord, Sample
from flambeau.dialects.tape.common import check_axis, check_dtype, ops, quiet, random, rounded_once


def _check_index(op: str, x: Aval, index: Aval, axis: int) -> None:
    check_dtype(op, index, (int64,), "the index")
    check_axis(op, axis, x.rank)
    outside = lambda shape: (*shape[:axis], *shape[axis + 1 :])  # noqa: E731
    if index.rank != x.rank or outside(index.shape) != outside(x.shape):
        raise RuntimeError(
            f"[{op}] the index of shape {index.shape} and the operand of shape {x.shape} differ outside "
            f"of axis {axis}. Make them equal there."
        )


def _domain(op: str, x: Aval, axis: int) -> Domain:
    size = x.shape[axis]
    if not size:
        text = f"[{op}] axis {axis} of shape {x.shape} has no elements to index. Pass a non-empty operand."
        return Domain(1, IndexError, text, "", 0, -1, whole=True)
    after = f" is out of range for axis {axis} of shape {x.shape}. Indices must lie in 0..{size - 1}."
    return Domain(1, IndexError, f"[{op}] index", after, 0, size - 1)


def _require_in_range(op: str, x: np.ndarray, index: np.ndarray, axis: int) -> None:
    wrong = np.flatnonzero((index < 0) | (index >= x.shape[axis]))
    if wrong.size:
        raise _domain(op, Aval(x.shape, int64), axis).failure(int(wrong[0]), index.shape)


def _infer_gather(x: Aval, index: Aval, axis: int) -> Aval:
    check_dtype("gather", x, SUPPORTED)
    _check_index("gather", x, index, axis)
    return Aval(index.shape, x.dtype)


def _gather(x: np.ndarray, index: np.ndarray, axis: int) -> np.ndarray:
    _require_in_range("gather", x, index, axis)
    return np.take_along_axis(x, index, axis)


def _index(shape: tuple[int, ...], size: int) -> np.ndarray:
    return np.random.default_rng([7, *shape]).integers(0, size, shape, np.int64)


def _samples_gather() -> list[Sample]:
    cases = (((5,), (3,), 0), ((5,), (0,), 0), ((4, 3), (2, 3), 0), ((4, 3), (4, 6), 1), ((2, 5, 3), (2, 7, 3), 1))
    large = (((67, 3), (131, 3), 0), ((3, 67), (3, 131), 1))
    x = random((4, 3))
    return [
        *(Sample((random(s), _index(i, s[axis])), {"axis": axis}) for s, i, axis in cases),
        *(Sample((random(s), _index(i, s[axis])), {"axis": axis}, gradient=False) for s, i, axis in large),
        Sample((np.zeros((0, 3)), np.zeros((0, 3), np.int64)), {"axis": 0}),
        Sample(
            (x, np.array([[0, 1, 4]])),
            {"axis": 0},
            error=(IndexError, "[gather] index[0, 2] is out of range for axis 0"),
        ),
        Sample(
            (x, np.array([[0, -1, 3]])),
            {"axis": 0},
            error=(IndexError, "[gather] index[0, 1] is out of range for axis"),
        ),
        Sample(
            (x, np.zeros((1, 2), np.int64)), {"axis": 0}, error=(RuntimeError, "[gather] the index of shape (1, 2) and")
        ),
        Sample(
            (x, np.zeros(3, np.int64)), {"axis": 0}, error=(RuntimeError, "[gather] the index of shape (3,) and the")
        ),
        Sample(
            (x, np.zeros((1, 3))),
            {"axis": 0},
            error=(RuntimeError, "[gather] the index has dtype float64, not one of int64"),
        ),
        Sample((x, np.zeros((1, 3), np.int64)), {"axis": 2}, error=(IndexError, "[gather] axis 2 is out of range")),
    ]


def _domain_of_gather(x: Aval, index: Aval, axis: int) -> Domain:
    return _domain("gather", x, axis)


gather = OpRecord(
    name="gather",
    kind=Kind.GATHER,
    attrs=("axis",),
    infer=_infer_gather,
    reference=_gather,
    vjp=lambda ct, r, x, index, axis: (ops.scatter_add(x.like(0), index, ct, axis=axis), None),
    lower=None,
    dtypes=SUPPORTED,
    fallible=True,
    failure=failing(_domain_of_gather, 2),
    domain=_domain_of_gather,
    samples=_samples_gather,
    doc="The element at index[i, j, ...] along `axis`, for every element of the index.",
)


def _infer_scatter_add(x: Aval, index: Aval, updates: Aval, axis: int) -> Aval:
    check_dtype("scatter_add", x, NUMERIC)
    _check_index("scatter_add", x, index, axis)
    if updates != Aval(index.shape, x.dtype):
        raise RuntimeError(
            f"[scatter_add] updates are {updates.dtype.name} of shape {updates.shape}. "
            f"Pass {x.dtype.name} of the index's shape {index.shape}."
        )
    return x


@quiet
@rounded_once
def _scatter_add(x: np.ndarray, index: np.ndarray, updates: np.ndarray, axis: int) -> np.ndarray:
    _require_in_range("scatter_add", x, index, axis)
    result = x.copy()
    where = list(np.ogrid[tuple(slice(n) for n in index.shape)])
    where[axis] = index
    np.add.at(result, tuple(where), updates)  # one after the other, in row-major order
    return result


def _samples_scatter_add() -> list[Sample]:
    gathers = [s for s in _samples_gather() if s.error is None]
    x, index = random((4, 3)), np.zeros((2, 3), np.int64)
    text = "[scatter_add] updates are float64 of shape (1, 3). Pass float64 of the index's shape (2, 3)."
    far = np.array([[0, 1, 2], [0, 1, 4]])
    return [
        *(Sample((*s.operands, random(s.operands[1].shape, seed=2)), s.attrs, gradient=s.gradient) for s in gathers),
        Sample((np.zeros(3), np.zeros(100, np.int64), random((100,))), {"axis": 0}, gradient=False),
        Sample((x, index, random((1, 3))), {"axis": 0}, error=(RuntimeError, text)),
        Sample(
            (x, far, random((2, 3))),
            {"axis": 0},
            error=(IndexError, "[scatter_add] index[1, 2] is out of range for axis"),
        ),
        Sample(
            (x, index > 0, random((2, 3))), {"axis": 0}, error=(RuntimeError, "[scatter_add] the index has dtype bool")
        ),
    ]


def _domain_of_scatter_add(x: Aval, index: Aval, updates: Aval, axis: int) -> Domain:
    return _domain("scatter_add", x, axis)


scatter_add = OpRecord(
    name="scatter_add",
    kind=Kind.SCATTER,
    attrs=("axis",),
    infer=_infer_scatter_add,
    reference=_scatter_add,
    vjp=lambda ct, r, x, index, updates, axis: (ct, None, ops.gather(ct, index, axis=axis)),
    lower=None,
    dtypes=NUMERIC,
    fallible=True,
    failure=failing(_domain_of_scatter_add, 3),
    domain=_domain_of_scatter_add,
    samples=_samples_scatter_add,
    doc="x plus updates at index[i, j, ...] along `axis`; equal indices add up in the updates' row-major order.",
)
