"""Factors as LAPACK packs them: ldl_factor, ldl_solve, geqrf.

In: batches of matrices, float32, float64 or complex. Out: factors, and solutions, that have no gradients, as in PyTorch. Next:
`low_rank.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flambeau import return_types
from flambeau.declarations import declared
from flambeau.dialects.tape.matrices import LinAlgError
from flambeau.function import Static, Tensor_, function
from flambeau.functions.common import broadcast_shapes, ops
from flambeau.functions.matrices import check_alike, check_matrix, check_square, matrices, positive
from flambeau.out import stored_in
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data


@function(name="ldl_factor", fallible=True)
def _ldl(input: Tensor_, hermitian: Static, op: Static):
    check_square(op or "ldl_factor_ex", input)
    return ops.ldl(input, hermitian=hermitian, op=op)


_INDEFINITE = np.array([[0.0, 2.0, 1.0], [2.0, 0.0, 3.0], [1.0, 3.0, 0.5]])


@declared(
    free="linalg",
    samples=calls(
        lambda: [
            *(call(positive(*s), gradient=False) for s in ((3, 3), (2, 2, 2))),
            call(_INDEFINITE, hermitian=True, gradient=False),
            call(data(0, 0), gradient=False),
            call(np.zeros((2, 2)), error=(LinAlgError, "is singular: element 1 of the diagonal of D is zero")),
            call(data(2, 3), error=(RuntimeError, "Pass square matrices")),
        ]
    ),
)
def ldl_factor(input: Tensor, *, hermitian: bool = False, out: Any = None) -> Any:
    """(LD, pivots) of symmetric matrices, L D L.mT, or with `hermitian` L D L.mH, of which the lower triangle is read: L below the
    blocks of D in one matrix, and the rows (int32, from 1; below 0 for blocks of two) that were exchanged.

    Raises LinAlgError for a zero on the diagonal of D. There is no gradient, as in PyTorch."""
    found = return_types.linalg_ldl_factor(*_ldl(input, hermitian, "ldl_factor")[:2])
    return found if out is None else stored_in("ldl_factor", out, found)


@declared(
    free="linalg",
    samples=calls(
        lambda: [
            call(positive(2, 3, 3), gradient=False),
            call(np.zeros((2, 2)), gradient=False),
            call(np.zeros((2, 2)), check_errors=True, error=(LinAlgError, "is singular")),
        ]
    ),
    recalled="operand",
)
def ldl_factor_ex(input: Tensor, *, hermitian: bool = False, check_errors: bool = False, out: Any = None) -> Any:
    """(LD, pivots, info): `ldl_factor`, and for each matrix 0 or the place, from 1, of the first zero on the diagonal of D. Raises
    LinAlgError there with `check_errors`."""
    found = return_types.linalg_ldl_factor_ex(*_ldl(input, hermitian, "ldl_factor_ex" if check_errors else ""))
    return found if out is None else stored_in("ldl_factor_ex", out, found)


_PIVOTS = np.array([1, -3, -3], np.int32)


@function(
    free="linalg",
    out=True,
    samples=calls(
        lambda: [
            call(matrices(3, 3), _PIVOTS, data(3, 2), gradient=False),
            call(matrices(3, 3), _PIVOTS, data(2, 3, 1), hermitian=True, gradient=False),
            call(data(0, 0), np.zeros(0, np.int32), data(0, 2), gradient=False),
            call(data(2, 3), _PIVOTS, data(3, 2), error=(RuntimeError, "Pass square matrices")),
            call(matrices(3, 3), _PIVOTS, data(2, 2), error=(RuntimeError, "Give B 3 rows")),
            call(matrices(3, 3), _PIVOTS[:2], data(3, 2), error=(RuntimeError, "Pass what ldl_factor gave")),
        ]
    ),
)
def ldl_solve(LD: Tensor_, pivots: Tensor_, B: Tensor_, *, hermitian: Static = False):
    """The X with `A @ X == B`, by what `ldl_factor(A, hermitian=hermitian)` gave. There is no gradient, as in PyTorch."""
    check_square("ldl_solve", LD, "LD")
    check_matrix("ldl_solve", B, "B")
    check_alike("ldl_solve", LD, B)
    if B.shape[-2] != LD.shape[-1]:
        raise RuntimeError(
            f"[ldl_solve] LD of shape {LD.shape} and B of shape {B.shape} do not meet. Give B {LD.shape[-1]} rows."
        )
    if pivots.shape != LD.shape[:-1] or pivots.dtype.name != "int32":
        raise RuntimeError(
            f"[ldl_solve] pivots are {pivots.dtype} of shape {pivots.shape} beside LD of shape {LD.shape}. "
            "Pass what ldl_factor gave, int32."
        )
    batch = broadcast_shapes("ldl_solve", LD.shape[:-2], B.shape[:-2])
    wide = [x.expand((*batch, *x.shape[len(x.shape) - own :])) for x, own in ((LD, 2), (pivots, 1), (B, 2))]
    return ops.ldl_solve(*wide, hermitian=hermitian)


# ---- reflectors -------------------------------------------------------------------------------------------


@function(name="geqrf")
def _geqrf(input: Tensor_):
    check_matrix("geqrf", input)
    return ops.geqrf(input)


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            *(call(matrices(*s), gradient=False) for s in ((3, 3), (4, 2), (2, 2, 3))),
            call(data(0, 2), gradient=False),
            call(data(3), error=(RuntimeError, "at least 2 dimensions")),
        ]
    ),
    recalled="operand",
)
def geqrf(input: Tensor, *, out: Any = None) -> Any:
    """(a, tau): R, with the reflectors below its diagonal whose product is Q, of input = Q R, and their factors; see
    `householder_product`. There is no gradient, as in PyTorch: `linalg.qr` has one."""
    found = return_types.geqrf(*_geqrf(input))
    return found if out is None else stored_in("geqrf", out, found)
