"""Linear algebra on batches of matrices: triangular factors.

In: matrices in the last two axes, [*batch, M, N], float32, float64 or complex. Out: factors. LAPACK computes them, called from
the plan: in its own order of operations, so that bits are those of the machine and of its library. Gradients are written in ops
of this and other families, so that any order of them works. Where the attribute `op` names a function, a matrix that it cannot
take fails in its name; where it is empty, the result `info` says which matrices these are. Next: `systems.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import float32, int32, int64
from flambeau.dialects.record import Kind, NoGradient, OpRecord, Sample
from flambeau.dialects.size import minimum, same
from flambeau.dialects.tape.common import check_dtype, ops, random
from flambeau.dialects.tape.matrices import (
    NUMBERS,
    REAL,
    LinAlgError,
    adjoint,
    check_matrices,
    check_square,
    diagonal,
    diagonal_matrix,
    hermitian,
    lower,
    on_diagonal,
    product,
    upper,
)


def which(batch: tuple[Any, ...], number: int) -> str:
    """How messages call a matrix of a batch: "the matrix", "matrix [2, 0]"."""
    if not batch:
        return "the matrix"
    return f"matrix [{', '.join(map(str, np.unravel_index(number, batch)))}]"


def of_each(function: Any, a: np.ndarray, *others: np.ndarray) -> list[Any]:
    """What `function` gives for every matrix of a batch, and what the others have there."""
    batch = a.shape[:-2]
    return [function(a[i], *(x[i] for x in others)) for i in np.ndindex(*batch)]


def wide(a: np.ndarray) -> np.ndarray:
    """As float64 or complex128."""
    return a.astype(np.result_type(a.dtype, np.float64))


def stacked(found: list[np.ndarray], shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.array(found, dtype).reshape(shape) if found else np.zeros(shape, dtype)


# ---- Cholesky ---------------------------------------------------------------------------------------------


def _infer_cholesky(a: Aval, op: str) -> tuple[Aval, Aval]:
    check_square(op or "cholesky", a)
    return a, Aval(a.shape[:-2], int32)


def _not_positive(position: int, a: Aval, op: str) -> Exception:
    number, order = divmod(position, int(a.shape[-1]) + 1)
    return LinAlgError(
        f"[{op}] {which(a.shape[:-2], number)} is not positive-definite: its leading minor of order {order} is not. "
        "Add a small multiple of the identity, or use cholesky_ex()."
    )


def _cholesky_of(a: np.ndarray) -> tuple[np.ndarray, int]:
    """The factor, row by row, and 0; or as far as it goes, and the order of the first minor that is not positive."""
    n = len(a)
    made = np.tril(a)
    for j in range(n):
        row = made[j, :j].conj()
        rest = (made[j, j] - made[j, :j] @ row).real
        if not rest > 0:
            return made, j + 1
        made[j, j] = np.sqrt(rest)
        made[j + 1 :, j] = (made[j + 1 :, j] - made[j + 1 :, :j] @ row) / made[j, j]
    return made, 0


def _cholesky(a: np.ndarray, op: str) -> tuple[np.ndarray, np.ndarray]:
    found = of_each(lambda x: _cholesky_of(wide(x)), a)
    for number, (_, info) in enumerate(found):
        if info and op:
            raise _not_positive(number * (a.shape[-1] + 1) + info, Aval(a.shape, REAL[0]), op)
    infos = stacked([info for _, info in found], a.shape[:-2], np.int32)
    return stacked([made for made, _ in found], a.shape, a.dtype), infos


def _vjp_cholesky(cts: Any, results: Any, a: Any, op: str) -> tuple[Any]:
    """Murray, "Differentiation of the Cholesky decomposition", 2016; the gradient of a symmetric matrix is symmetric."""
    factor, ct = results[0], cts[0]
    inner = lower(product(adjoint(factor), ct))
    inner = inner - diagonal_matrix(diagonal(inner)) * 0.5
    half = solved_by_adjoint(factor, inner, upper=False)
    return (hermitian(solved_by_adjoint(factor, adjoint(half), upper=False)),)


def solved_by_adjoint(t: Any, b: Any, upper: bool, unit: bool = False) -> Any:
    """The X with T^H X = B, for a triangle T."""
    return ops.triangular_solve(t, b.conj(), upper=upper, transposed=True, unit=unit).conj()


def positive(*shape: int, seed: int = 0) -> np.ndarray:
    """Symmetric positive-definite matrices whose eigenvalues are at least 1."""
    x = random(shape, -1, 1, seed)
    return x @ np.swapaxes(x, -1, -2) + np.eye(shape[-1])


def positive_numbers(*shape: int) -> np.ndarray:
    """Complex ones."""
    x = random(shape, -1, 1) + 1j * random(shape, -1, 1, 7)
    return x @ np.swapaxes(x, -1, -2).conj() + np.eye(shape[-1])


_SQUARE: tuple[tuple[int, ...], ...] = ((1, 1), (3, 3), (2, 3, 3), (0, 0), (0, 2, 2), (2, 0, 0), (20, 20), (2, 3, 2, 2))
_NOT_SQUARE = Sample((np.zeros((2, 3)),), {"op": ""}, error=(RuntimeError, "Pass square matrices, of shape [*batch, N"))


def _samples_of_cholesky() -> list[Sample]:
    bad = np.stack([np.eye(3), np.diag([1.0, -1.0, 1.0])])
    return [
        *(
            Sample((positive(*s),), {"op": ""}, gradient=0 not in s and max(s) < 9, numbers=(positive_numbers(*s),))
            for s in _SQUARE
        ),
        Sample((positive(2, 2),), {"op": "cholesky"}, numbers=(positive_numbers(2, 2),)),
        Sample((bad,), {"op": ""}, gradient=False, numbers=(bad + 0j,)),
        Sample(
            (bad[1],),
            {"op": "cholesky"},
            error=(LinAlgError, "[cholesky] the matrix is not positive-definite: its leading minor of order 2 is not."),
        ),
        _NOT_SQUARE,
    ]


cholesky = OpRecord(
    name="cholesky",
    kind=Kind.LINEAR_ALGEBRA,
    attrs=("op",),
    infer=_infer_cholesky,
    reference=_cholesky,
    vjp=_vjp_cholesky,
    lower=None,
    dtypes=NUMBERS,
    by_memory=True,
    exact=False,
    keep=True,
    fallible=True,
    failure=_not_positive,
    results=("factor", "info"),
    samples=_samples_of_cholesky,
    doc="The lower triangular L with L L^H = A, of which the lower triangle is read; and 0, or the order of a minor "
    "that is not positive.",
)

# ---- LU ---------------------------------------------------------------------------------------------------


def _infer_lu(a: Aval, op: str) -> tuple[Aval, Aval, Aval]:
    check_matrices(op or "lu", a)
    *batch, m, n = a.shape
    return a, Aval((*batch, minimum(m, n)), int32), Aval(tuple(batch), int32)


def _singular(position: int, a: Aval, op: str) -> Exception:
    number, order = divmod(position, min(map(int, a.shape[-2:])) + 1)
    return LinAlgError(
        f"[{op}] {which(a.shape[:-2], number)} is singular: element {order} of the diagonal of U is zero. "
        "Pass a matrix of full rank, or use lstsq() or pinv()."
    )


def _lu_of(a: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Elimination with the greatest element of each column as its pivot: L and U in one matrix, pivots counted from 1."""
    made, (m, n) = wide(a), a.shape
    pivots, info = np.zeros(min(m, n), np.int32), 0
    for j in range(min(m, n)):
        at = j + int(np.argmax(np.abs(made[j:, j].real) + np.abs(made[j:, j].imag)))
        pivots[j] = at + 1
        made[[j, at]] = made[[at, j]]
        if made[j, j] == 0:
            info = info or j + 1
            continue
        made[j + 1 :, j] /= made[j, j]
        made[j + 1 :, j + 1 :] -= np.outer(made[j + 1 :, j], made[j, j + 1 :])
    return made, pivots, info


def _lu(a: np.ndarray, op: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    found = of_each(_lu_of, a)
    k = min(a.shape[-2:])
    for number, (_, _, info) in enumerate(found):
        if info and op:
            raise _singular(number * (k + 1) + info, Aval(a.shape, REAL[0]), op)
    packed, pivots, infos = zip(*found) if found else ((), (), ())
    batch = a.shape[:-2]
    return (
        stacked(list(packed), a.shape, a.dtype),
        stacked(list(pivots), (*batch, k), np.int32),
        stacked(list(infos), batch, np.int32),
    )


def alike(shape: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether two shapes are equal for all values of their sizes."""
    return all(map(same, shape, other))


def _block(x: Any, rows: Any, columns: Any) -> Any:
    """The first rows and columns."""
    sizes = (*x.shape[:-2], rows, columns)
    return x if alike(sizes, x.shape) else ops.slice(x, starts=(0,) * len(sizes), sizes=sizes, steps=(1,) * len(sizes))


def _added_to_block(x: Any, y: Any) -> Any:
    """x with y added to its first rows and columns."""
    if alike(x.shape, y.shape):
        return x + y
    low = (0,) * len(x.shape)
    high = tuple(n - k for n, k in zip(x.shape, y.shape, strict=True))
    return x + ops.pad(y, y.builder.constant(0, y.dtype), low=low, high=high)


def _without_zeros(u: Any) -> Any:
    """A matrix with a tiny number in place of zeros on its diagonal: of a singular matrix, one that is nearly it."""
    tiny = 2.0 ** (-23 if u.dtype.to_real() is float32 else -52)
    return ops.select(ops.and_(on_diagonal(u), u.eq(0)), u.like(tiny), u)


def _vjp_lu(cts: Any, results: Any, a: Any, op: str) -> tuple[Any]:
    """The gradient of L U = P' A. Of wide matrices further columns of U, of tall ones further rows of L stand by themselves.
    Where U has zeros on its diagonal it is taken for one that nearly has, so that the gradient of a determinant is right there."""
    packed, pivots, _ = results
    m, n = a.shape[-2:]
    is_tall = m > n
    k = n if is_tall else m
    to_l, to_u = lower(_block(cts[0], m, k), -1), upper(_block(cts[0], k, n))
    unit = lower(_block(packed, m, k), -1)
    unit = ops.select(on_diagonal(unit), unit.like(1), unit)
    square = _without_zeros(_block(packed, k, k))
    u = upper(_added_to_block(_block(packed, k, n), square - _block(packed, k, k)))
    left, right = product(adjoint(unit), to_l), product(to_u, adjoint(u))

    def after_u(x: Any) -> Any:  # x U^-H
        return adjoint(ops.triangular_solve(square, adjoint(x), upper=True, transposed=False, unit=False))

    def before_l(x: Any) -> Any:  # L^-H x
        return solved_by_adjoint(square, x, upper=False, unit=True)

    if is_tall:
        inner = after_u(_added_to_block(to_l, before_l(upper(right - left))))
    else:
        inner = before_l(_added_to_block(to_u, after_u(lower(left - right, -1))))
    return (product(permutation(pivots, m, a), inner),)


def permutation(pivots: Any, rows: Any, like: Any) -> Any:
    """The matrices P of A = P L U, in the dtype and on the device of a value."""
    order = ops.row_order(pivots, rows=rows)
    shape = (*order.shape, order.shape[-1])
    wanted = ops.reshape(order, shape=(*order.shape[:-1], 1, order.shape[-1])).expand(shape)
    return ops.iota(shape=shape, dim=len(shape) - 2, dtype=int64, builder=pivots.builder).eq(wanted).cast(like.dtype)


def full(*shape: int, seed: int = 0) -> np.ndarray:
    """Matrices of full rank, whose columns have different weights."""
    x = random(shape, -1, 1, seed)
    k = min(shape[-2:])
    x[..., range(k), range(k)] += np.arange(1, k + 1) * 1.5
    return x


SHAPES_OF_MATRICES: tuple[tuple[int, ...], ...] = (
    *((1, 1), (3, 3), (2, 3, 3), (4, 2), (2, 4), (2, 2, 3), (0, 0), (0, 3), (2, 0), (0, 2, 2), (2, 0, 0)),
    *((20, 20), (2, 3, 2, 2), (40, 7)),
)


def smooth(shape: tuple[int, ...]) -> bool:
    """Whether differences of functions of such a sample are worth their time."""
    return 0 not in shape and max(shape) < 9


def factored(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The factors and pivots of sample matrices."""
    packed, pivots, _ = _lu(a, "")
    return packed, pivots


def _samples_of_lu() -> list[Sample]:
    singular = np.array([[1.0, 2.0], [2.0, 4.0]])
    return [
        *(Sample((full(*s),), {"op": "lu"}, gradient=smooth(s)) for s in SHAPES_OF_MATRICES),
        Sample((np.stack([np.eye(2), singular, np.zeros((2, 2))]),), {"op": ""}, gradient=False),
        Sample(
            (singular,),
            {"op": "solve"},
            error=(LinAlgError, "[solve] the matrix is singular: element 2 of the diagonal of U is zero."),
        ),
        Sample((np.zeros(3),), {"op": ""}, error=(RuntimeError, "[lu] the operand has shape (3,). Pass matrices")),
        Sample((np.zeros((2, 2), int),), {"op": ""}, error=(RuntimeError, "[lu] the operand has dtype int64, not one")),
    ]


lu = OpRecord(
    name="lu",
    kind=Kind.LINEAR_ALGEBRA,
    attrs=("op",),
    infer=_infer_lu,
    reference=_lu,
    vjp=_vjp_lu,
    lower=None,
    dtypes=NUMBERS,
    by_memory=True,
    exact=False,
    keep=True,
    fallible=True,
    failure=_singular,
    results=("packed", "pivots", "info"),
    samples=_samples_of_lu,
    doc="L below the diagonal and U of A = P L U in one matrix, the rows that were exchanged, and 0 or the place "
    "of a zero on U's diagonal.",
)


def _infer_order(pivots: Aval, rows: Any) -> Aval:
    check_dtype("row_order", pivots, (int32,), "pivots")
    if not pivots.rank:
        raise RuntimeError("[row_order] pivots are 0-d. Pass those of lu.")
    return Aval((*pivots.shape[:-1], rows), int64)


def _order(pivots: np.ndarray, rows: int) -> np.ndarray:
    found = np.broadcast_to(np.arange(rows), (*pivots.shape[:-1], rows)).copy()
    for i in np.ndindex(*pivots.shape[:-1]):
        for j, at in enumerate(pivots[i]):
            if 1 <= at <= rows:
                found[(*i, [j, at - 1])] = found[(*i, [at - 1, j])]
    return found


row_order = OpRecord(
    name="row_order",
    kind=Kind.LINEAR_ALGEBRA,
    attrs=("rows",),
    infer=_infer_order,
    reference=_order,
    vjp=NoGradient("its operand says where rows go"),
    lower=None,
    dtypes=(int32,),
    samples=lambda: [
        Sample((np.array([3, 2, 3], np.int32),), {"rows": 3}),
        Sample((np.array([[2, 2], [1, 3], [3, 3]], np.int32),), {"rows": 3}),
        Sample((np.zeros((0, 2), np.int32),), {"rows": 2}),
        Sample((np.zeros((2, 0), np.int32),), {"rows": 2}),
        Sample((np.array([1.5]),), {"rows": 2}, error=(RuntimeError, "[row_order] pivots has dtype float64, not")),
    ],
    doc="The rows of A in the order in which they are in L U, of the pivots of lu.",
)
