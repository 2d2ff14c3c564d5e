"""Factors of matrices: cholesky, lu, qr, under the names of `linalg` and the older ones, with and without checks of their success.

In: batches of matrices, float32, float64 or complex. Out: factors, that have gradients of any order. Next: `solve.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flambeau import return_types
from flambeau.declarations import declare, declared
from flambeau.dialects.builder import Value
from flambeau.dialects.tape.linear_algebra import permutation
from flambeau.dialects.tape.matrices import LinAlgError
from flambeau.function import Static, Tensor_, function
from flambeau.functions.common import ops
from flambeau.functions.matrices import (
    adjoint,
    check_matrix,
    check_square,
    lower,
    matrices,
    on_diagonal,
    positive,
    singular,
    upper,
)
from flambeau.out import stored_in
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data

# ---- Cholesky ---------------------------------------------------------------------------------------------


@function(name="cholesky", fallible=True)
def _cholesky(input: Tensor_, upper: Static, op: Static):
    check_square(op or "cholesky_ex", input)
    factor, info = ops.cholesky(input, op=op)
    return (adjoint(factor) if upper else factor), info


_NOT_POSITIVE = np.diag([1.0, -1.0])
_CHOLESKY = calls(
    lambda: [
        *(call(positive(*s), gradient=False) for s in ((3, 3), (2, 2, 2), (0, 0), (0, 2, 2), (3, 0, 0))),
        call(positive(3, 3), upper=True, gradient=False),
        call(_NOT_POSITIVE, error=(LinAlgError, "its leading minor of order 2 is not")),
        call(data(2, 3), error=(RuntimeError, "Pass square matrices")),
        call(data(3), error=(RuntimeError, "at least 2 dimensions")),
    ]
)


def cholesky(input: Tensor, upper: bool = False, *, out: Tensor | None = None) -> Tensor:
    """The lower triangular L with `L @ L.mH == input`, or with `upper` its adjoint, of Hermitian positive-definite matrices, of
    which the lower triangle is read. Raises LinAlgError for a matrix that is not positive-definite."""
    found = _cholesky(input, upper, "cholesky")[0]
    return found if out is None else stored_in("cholesky", out, found)


def _linalg_cholesky(input: Tensor, *, upper: bool = False, out: Tensor | None = None) -> Tensor:
    return cholesky(input, upper, out=out)


_linalg_cholesky.__doc__ = cholesky.__doc__
declare(cholesky, "cholesky", free="flambeau", method=True, samples=_CHOLESKY)
declare(_linalg_cholesky, "cholesky", free="linalg", samples=_CHOLESKY)


@declared(
    free="linalg",
    samples=calls(
        lambda: [
            call(positive(2, 3, 3), gradient=False),
            call(_NOT_POSITIVE, gradient=False),
            call(_NOT_POSITIVE, check_errors=True, error=(LinAlgError, "not positive-definite")),
        ]
    ),
    recalled="operand",
)
def cholesky_ex(input: Tensor, *, upper: bool = False, check_errors: bool = False, out: Any = None) -> Any:
    """(L, info): `cholesky`, and for each matrix 0, or the order of the leading minor that is not positive-definite; L is then of
    no use. Raises LinAlgError there with `check_errors`."""
    found = return_types.linalg_cholesky_ex(*_cholesky(input, upper, "cholesky_ex" if check_errors else ""))
    return found if out is None else stored_in("cholesky_ex", out, found)


# ---- LU ---------------------------------------------------------------------------------------------------


@function(name="lu_factor", fallible=True)
def _lu(A: Tensor_, op: Static):
    check_matrix(op or "lu_factor_ex", A, "A")
    return ops.lu(A, op=op)


def _check_pivot(op: str, pivot: bool) -> None:
    if not pivot:
        raise RuntimeError(f"[{op}] pivot is False, which no CPU has. Leave it out.")


@declared(
    free="linalg",
    samples=calls(
        lambda: [
            *(call(matrices(*s)) for s in ((3, 3), (4, 2), (2, 2, 3))),
            call(data(0, 3), gradient=False),
            call(singular(), error=(LinAlgError, "is singular: element 2 of the diagonal of U is zero")),
            call(matrices(2, 2), pivot=False, error=(RuntimeError, "which no CPU has")),
        ]
    ),
)
def lu_factor(A: Tensor, *, pivot: bool = True, out: Any = None) -> Any:
    """(LU, pivots) of A = P L U: L below the diagonal and U in one matrix, and the rows (int32, from 1) that were exchanged
    one after
    the other. Raises LinAlgError for a zero on the diagonal of U."""
    _check_pivot("lu_factor", pivot)
    found = return_types.linalg_lu_factor(*_lu(A, "lu_factor")[:2])
    return found if out is None else stored_in("lu_factor", out, found)


@declared(
    free="linalg",
    samples=calls(
        lambda: [
            call(matrices(2, 3, 3)),
            call(singular(), gradient=False),
            call(singular(), check_errors=True, error=(LinAlgError, "is singular")),
        ]
    ),
    recalled="operand",
)
def lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False, out: Any = None) -> Any:
    """(LU, pivots, info): `lu_factor`, and for each matrix 0 or the place, from 1, of the first zero on the diagonal of U. Raises
    LinAlgError there with `check_errors`."""
    _check_pivot("lu_factor_ex", pivot)
    found = return_types.linalg_lu_factor_ex(*_lu(A, "lu_factor_ex" if check_errors else ""))
    return found if out is None else stored_in("lu_factor_ex", out, found)


@declared(
    method=True,
    free="flambeau",
    samples=calls(
        lambda: [
            call(matrices(3, 3)),
            call(matrices(2, 2, 3), get_infos=True),
            call(singular(), error=(LinAlgError, "is singular")),
        ]
    ),
    recalled="operand",
)
def lu(A: Tensor, pivot: bool = True, get_infos: bool = False, *, out: Any = None) -> Any:
    """(LU, pivots) as `linalg.lu_factor` gives them, or with `get_infos` (LU, pivots, infos)."""
    _check_pivot("lu", pivot)
    found = tuple(_lu(A, "" if get_infos else "lu")[: 3 if get_infos else 2])
    return found if out is None else stored_in("lu", out, found)


def _triangles(packed: Value) -> tuple[Value, Value]:
    """L with ones on its diagonal, and U."""
    m, n = packed.shape[-2:]
    k = min(m, n)

    def block(rows: Any, columns: Any) -> Value:
        sizes = (*packed.shape[:-2], rows, columns)
        return ops.slice(packed, starts=(0,) * len(sizes), sizes=sizes, steps=(1,) * len(sizes))

    below = lower(block(m, k), -1)
    return ops.select(on_diagonal(below), below.like(1), below), upper(block(k, n))


@function(name="lu_unpack")
def _unpacked(LU_data: Tensor_, LU_pivots: Tensor_):
    check_matrix("lu_unpack", LU_data, "LU_data")
    left, right = _triangles(LU_data)
    return permutation(LU_pivots, LU_data.shape[-2], LU_data), left, right


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call(matrices(3, 3), np.array([2, 2, 3], np.int32)),
            call(matrices(2, 2, 3), np.array([[2, 2], [1, 2]], np.int32)),
            call(matrices(3, 2), np.array([3, 2], np.int32), unpack_data=False, gradient=False),
            call(data(3), np.array([1], np.int32), error=(RuntimeError, "at least 2 dimensions")),
        ]
    ),
    recalled="types",
)
def lu_unpack(
    LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True, *, out: Any = None
) -> Any:
    """(P, L, U) of what `lu_factor` gives; those that are not asked for are empty."""
    p, left, right = _unpacked(LU_data, LU_pivots)
    nothing = LU_data.new_empty((0,))
    found = return_types.lu_unpack(
        p if unpack_pivots else nothing, left if unpack_data else nothing, right if unpack_data else nothing
    )
    return found if out is None else stored_in("lu_unpack", out, found)


def _linalg_lu(A: Tensor, *, pivot: bool = True, out: Any = None) -> Any:
    """(P, L, U) with A = P L U: a permutation, a lower triangle with ones on its diagonal, and an upper triangle."""
    _check_pivot("lu", pivot)
    packed, pivots, _ = _lu(A, "")
    found = return_types.linalg_lu(*_unpacked(packed, pivots))
    return found if out is None else stored_in("lu", out, found)


declare(
    _linalg_lu,
    "lu",
    free="linalg",
    samples=calls(
        lambda: [
            *(call(matrices(*s)) for s in ((3, 3), (3, 2), (2, 2, 3))),
            call(singular(), gradient=False),
            call(data(3), error=(RuntimeError, "at least 2 dimensions")),
        ]
    ),
)

# ---- QR ---------------------------------------------------------------------------------------------------


@function(name="qr")
def _qr(A: Tensor_, complete: Static):
    check_matrix("qr", A, "A")
    return ops.qr(A, complete=complete)


_MODES = ("reduced", "complete", "r")


def _linalg_qr(A: Tensor, mode: str = "reduced", *, out: Any = None) -> Any:
    """(Q, R) with A = Q R: Q has orthonormal columns, as many as `min(M, N)`, or M with mode "complete"; R is an upper
    triangle. With mode
    "r" Q is empty. Columns beyond the first `min(M, N)` get no gradient. Raises ValueError for another mode."""
    if mode not in _MODES:
        raise ValueError(f"[qr] mode is {mode!r}. Use 'reduced', 'complete' or 'r'.")
    q, r = _qr(A, mode == "complete")
    found = return_types.linalg_qr(A.new_empty((0,)) if mode == "r" else q, r)
    return found if out is None else stored_in("qr", out, found)


declare(
    _linalg_qr,
    "qr",
    free="linalg",
    samples=calls(
        lambda: [
            *(call(matrices(*s)) for s in ((3, 3), (3, 2), (2, 2, 3))),
            call(matrices(3, 2), "complete", gradient=False),
            call(matrices(2, 3), "r"),
            call(data(0, 2), gradient=False),
            call(data(2, 2), "q", error=(ValueError, "Use 'reduced', 'complete' or 'r'")),
            call(data(3), error=(RuntimeError, "at least 2 dimensions")),
        ]
    ),
)


@declared(
    free="flambeau",
    method=True,
    samples=calls(lambda: [call(matrices(3, 2)), call(matrices(2, 2, 3))]),
    recalled="operand",
)
def qr(input: Tensor, some: bool = True, *, out: Any = None) -> Any:
    """`linalg.qr` in mode "reduced", or "complete" where `some` is False."""
    return return_types.qr(*_linalg_qr(input, "reduced" if some else "complete", out=out))
