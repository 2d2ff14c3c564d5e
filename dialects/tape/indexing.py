"""gather: elements picked by an index along one axis.

In: data and an int64 index that agree in all other dimensions. It fails at run time where an index is out of range. Next:
`scatter.py`.
"""

from __future__ import annotations

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.domain import Domain, OutOfRange, failing
from flambeau.dialects.dtypes import SUPPORTED, int64
from flambeau.dialects.record import Kind, OpRecord, Sample
from flambeau.dialects.tape.common import check_axis, check_dtype, ops, random


def check_index_of(op: str, x: Aval, index: Aval, axis: int) -> None:
    """Raise unless the index is int64 and agrees with `x` outside of the axis."""
    check_dtype(op, index, (int64,), "the index")
    check_axis(op, axis, x.rank)
    outside = lambda shape: (*shape[:axis], *shape[axis + 1 :])  # noqa: E731
    if index.rank != x.rank or outside(index.shape) != outside(x.shape):
        raise RuntimeError(
            f"[{op}] the index of shape {index.shape} and the operand of shape {x.shape} differ outside "
            f"of axis {axis}. Make them equal there."
        )


def within(op: str, x: Aval, axis: int) -> Domain:
    """What must hold of the index, operand 1."""
    size = x.shape[axis]
    if not size:
        text = f"[{op}] axis {axis} of shape {x.shape} has no elements to index. Pass a non-empty operand."
        return Domain(1, OutOfRange, text, "", 0, -1, whole=True)
    after = f" is out of range for axis {axis} of shape {x.shape}. Indices must lie in 0..{size - 1}."
    return Domain(1, OutOfRange, f"[{op}] index", after, 0, size - 1)


def require_in_range(op: str, x: np.ndarray, index: np.ndarray, axis: int) -> None:
    """Raise the error of the first index that is out of range."""
    wrong = np.flatnonzero((index < 0) | (index >= x.shape[axis]))
    if wrong.size:
        raise within(op, Aval(x.shape, int64), axis).failure(int(wrong[0]), index.shape)


def _infer_gather(x: Aval, index: Aval, axis: int) -> Aval:
    check_dtype("gather", x, SUPPORTED)
    check_index_of("gather", x, index, axis)
    return Aval(index.shape, x.dtype)


def _gather(x: np.ndarray, index: np.ndarray, axis: int) -> np.ndarray:
    require_in_range("gather", x, index, axis)
    return np.take_along_axis(x, index, axis)


def _index(shape: tuple[int, ...], size: int) -> np.ndarray:
    return np.random.default_rng([7, *shape]).integers(0, size, shape, np.int64)


def gather_samples() -> list[Sample]:
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
    return within("gather", x, axis)


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
    samples=gather_samples,
    doc="The element at index[i, j, ...] along `axis`, for every element of the index.",
)
