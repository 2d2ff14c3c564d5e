"""Eigenvalues and singular values, and what is made of them: eigh, svd, pinv, matrix_rank.

In: batches of matrices, float32, float64 or complex. Out: values, vectors, inverses. Values have gradients where they are equal,
too; vectors have not. Next: `least_squares.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flambeau import return_types
from flambeau.declarations import declare, declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import int64
from flambeau.dialects.size import maximum
from flambeau.dialects.tape.matrices import LinAlgError, as_rows
from flambeau.function import Operand, Static, Tensor_, function
from flambeau.functions.common import ops
from flambeau.functions.matrices import (
    adjoint,
    check_matrix,
    check_square,
    eps,
    matrices,
    positive,
    product,
    singular,
)
from flambeau.out import stored_in
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data

# ---- eigenvalues ------------------------------------------------------------------------------------------


def _eigh_of(op: str, a: Value, uplo: str) -> tuple[Value, Value]:
    check_square(op, a)
    if uplo not in ("L", "U"):
        raise RuntimeError(f"[{op}] UPLO is {uplo!r}. Use 'L' or 'U': which triangle is read.")
    return ops.eigh(a if uplo == "L" else adjoint(a))


@function(name="eigh", fallible=True)
def _eigh(input: Tensor_, uplo: Static):
    return _eigh_of("eigh", input, uplo)


_NAN = np.array([[1.0, math.nan], [math.nan, 1.0]])
_EIGH = calls(
    lambda: [
        *(call(positive(*s), gradient=False) for s in ((1, 1), (3, 3), (2, 2, 2), (0, 0), (0, 2, 2))),
        call(positive(3, 3), "U", gradient=False),
        call(positive(2, 2), "R", error=(RuntimeError, "Use 'L' or 'U'")),
        call(_NAN, error=(LinAlgError, "has an element that is not finite")),
        call(data(2, 3), error=(RuntimeError, "Pass square matrices")),
    ]
)


@declared(free="linalg", samples=_EIGH, recalled="operand")
def eigh(input: Tensor, UPLO: str = "L", *, out: Any = None) -> Any:
    """(eigenvalues, eigenvectors) of symmetric matrices, of which the lower or the upper triangle is read: ascending, and as
    columns.
    Raises LinAlgError for elements that are not finite. The vectors of equal values have no gradient."""
    found = return_types.linalg_eigh(*_eigh(input, UPLO))
    return found if out is None else stored_in("eigh", out, found)


@function(free="linalg", fallible=True, out=True, samples=_EIGH)
def eigvalsh(input: Tensor_, UPLO: Static = "L"):
    """The eigenvalues of symmetric matrices, ascending; see `eigh`. They have a gradient where they are equal, too."""
    return _eigh_of("eigvalsh", input, UPLO)[0]


# ---- singular values --------------------------------------------------------------------------------------


@function(name="svd", fallible=True)
def _svd(A: Tensor_, complete: Static):
    check_matrix("svd", A, "A")
    return ops.svd(A, complete=complete)


def _check_driver(op: str, driver: str | None) -> None:
    if driver is not None:
        raise RuntimeError(f"[{op}] driver is {driver!r}, and only GPUs have several. Leave it out.")


def _linalg_svd(A: Tensor, full_matrices: bool = True, *, driver: str | None = None, out: Any = None) -> Any:
    """(U, S, Vh) with A = U diag(S) Vh: the singular values, descending, and orthonormal vectors, as many as values unless
    `full_matrices`. Raises LinAlgError for elements that are not finite. The vectors of equal values have no gradient."""
    _check_driver("svd", driver)
    found = return_types.linalg_svd(*_svd(A, full_matrices))
    return found if out is None else stored_in("svd", out, found)


declare(
    _linalg_svd,
    "svd",
    free="linalg",
    samples=calls(
        lambda: [
            call(matrices(3, 3)),
            call(matrices(3, 2), False),
            call(matrices(2, 2, 3), False),
            call(matrices(2, 3), gradient=False),
            *(call(data(*s), gradient=False) for s in ((0, 0), (2, 0), (0, 2, 2))),
            call(_NAN, error=(LinAlgError, "has an element that is not finite")),
            call(data(2, 2), driver="gesvd", error=(RuntimeError, "only GPUs have several")),
            call(data(3), error=(RuntimeError, "at least 2 dimensions")),
        ]
    ),
)


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(matrices(3, 2)),
            call(matrices(2, 3), False, gradient=False),
            call(matrices(2, 3), compute_uv=False, gradient=False),
        ]
    ),
)
def svd(input: Tensor, some: bool = True, compute_uv: bool = True, *, out: Any = None) -> Any:
    """(U, S, V) with input = U diag(S) V': as many vectors as values, or all unless `some`; zeros for U and V unless
    `compute_uv`."""
    u, s, vh = _svd(input, not some)
    v = vh.mH
    if not compute_uv:
        m, n = input.shape[-2:]
        u, v = (input.new_zeros((*input.shape[:-2], k, k)) for k in (m, n))
    found = return_types.svd(u, s, v)
    return found if out is None else stored_in("svd", out, found)


def values_of(op: str, a: Value) -> Value:
    check_matrix(op, a)
    return ops.svd(a, complete=False)[1]


@function(name="svdvals", fallible=True)
def _svdvals(A: Tensor_):
    return values_of("svdvals", A)


@declared(
    free="linalg",
    samples=calls(
        lambda: [
            *(call(matrices(*s)) for s in ((3, 3), (3, 2), (2, 2, 3))),
            call(np.eye(3), gradient=False),
            call(data(2, 0), gradient=False),
            call(data(3), error=(RuntimeError, "at least 2 dimensions")),
        ]
    ),
    recalled="operand",
)
def svdvals(A: Tensor, *, driver: str | None = None, out: Tensor | None = None) -> Tensor:
    """The singular values, descending. They have a gradient where they are equal, too."""
    _check_driver("svdvals", driver)
    found = _svdvals(A)
    return found if out is None else stored_in("svdvals", out, found)


# ---- what counts as 0 -------------------------------------------------------------------------------------


def _magnitudes(op: str, a: Value, hermitian: bool) -> tuple[Value, Value, Value]:
    """U, the values that may be negative where the matrices are symmetric, and V'."""
    if hermitian:
        check_square(op, a)
        values, vectors = ops.eigh(a)
        return vectors, values, adjoint(vectors)
    check_matrix(op, a)
    return ops.svd(a, complete=False)


def are_large(a: Value, s: Value, atol: Value | None, rtol: Value | None) -> Value:
    """Where values are above max(atol, rtol * the largest). Without `rtol` it is the extent times eps, or 0 beside an `atol`."""
    sizes = ops.abs(s)
    shape = s.shape
    if not math.prod(shape[-1:]):
        return sizes > 0
    top = ops.max(sizes, axes=(len(shape) - 1,))
    usual = top.like(maximum(*a.shape[-2:])) * top.like(eps(a))
    if rtol is not None:
        relative = rtol.cast(s.dtype).expand(top.shape)
    elif atol is None:
        relative = usual
    else:  # as if there were none where atol is positive
        relative = ops.select(atol.expand(top.shape) > 0, top.like(0), usual)
    least = relative * top
    if atol is not None:
        least = ops.maximum(least, atol.cast(s.dtype).expand(top.shape))
    return sizes > ops.reshape(least, shape=(*least.shape, 1)).expand(shape)


def pseudo_inverse_of(op: str, a: Value, atol: Value | None, rtol: Value | None, hermitian: bool) -> Value:
    """The pseudo-inverse, whose gradient does not go through those of singular vectors."""
    u, s, vh = _magnitudes(op, ops.stop_gradient(a), hermitian)
    large = are_large(a, s, atol, rtol)
    inverse = ops.select(large, 1.0 / ops.select(large, s, s.like(1)), s.like(0))
    found = product(adjoint(vh) * as_rows(inverse, vh.shape[-1]).cast(a.dtype), adjoint(u))
    return ops.pseudo_inverse(a, found)


@function(name="pinv", fallible=True)
def _pinv(input: Tensor_, hermitian: Static):
    return pseudo_inverse_of("pinv", input, None, None, hermitian)


@function(name="pinv", fallible=True)
def _pinv_above(input: Tensor_, atol: Operand, rtol: Operand, hermitian: Static):
    return pseudo_inverse_of("pinv", input, atol, rtol, hermitian)


@function(name="pinv", fallible=True)
def _pinv_absolute(input: Tensor_, atol: Operand, hermitian: Static):
    return pseudo_inverse_of("pinv", input, atol, None, hermitian)


def _pinv_for(input: Tensor, atol: Any, rtol: Any, hermitian: bool) -> Tensor:
    if atol is None and rtol is None:
        return _pinv(input, hermitian)
    if rtol is None:
        return _pinv_absolute(input, atol, hermitian)
    return _pinv_above(input, 0.0 if atol is None else atol, rtol, hermitian)


@declared(
    free="linalg",
    samples=calls(
        lambda: [
            *(call(matrices(*s)) for s in ((3, 3), (3, 2), (2, 3), (2, 2, 3))),
            call(matrices(3, 2), 0.1),
            call(matrices(3, 2), atol=2.0, gradient=False),
            call(positive(3, 3), hermitian=True, gradient=False),
            call(singular(), gradient=False),
            *(call(data(*s), gradient=False) for s in ((0, 0), (2, 0), (0, 2, 3))),
            call(data(3), error=(RuntimeError, "at least 2 dimensions")),
        ]
    ),
    recalled="operand",
)
def pinv(
    input: Tensor,
    rcond: Any = None,
    hermitian: bool = False,
    *,
    atol: Any = None,
    rtol: Any = None,
    out: Tensor | None = None,
) -> Tensor:
    """The pseudo-inverse: singular values of at most max(atol, rtol * the largest) count as 0, where `rtol` (or `rcond`) is
    by default
    max(M, N) * eps, or 0 beside an `atol`. `hermitian`: of symmetric matrices the lower triangle is read.

    Its gradient is that of matrices whose rank does not change. Raises LinAlgError for elements that are not finite.
    """
    found = _pinv_for(input, atol, rcond if rtol is None else rtol, hermitian)
    return found if out is None else stored_in("pinv", out, found)


@declared(
    free="flambeau",
    method=True,
    samples=calls(lambda: [call(matrices(3, 2)), call(matrices(2, 2), 0.1)]),
    recalled="operand",
)
def pinverse(input: Tensor, rcond: Any = 1e-15) -> Tensor:
    """`linalg.pinv` with `rcond` as its `rtol`."""
    return pinv(input, rcond)


@function(name="matrix_rank", fallible=True)
def _rank(input: Tensor_, hermitian: Static):
    _, s, _ = _magnitudes("matrix_rank", input, hermitian)
    return ops.sum(are_large(input, s, None, None).cast(int64), axes=(len(s.shape) - 1,))


@function(name="matrix_rank", fallible=True)
def _rank_above(input: Tensor_, atol: Operand, rtol: Operand, hermitian: Static):
    _, s, _ = _magnitudes("matrix_rank", input, hermitian)
    return ops.sum(are_large(input, s, atol, rtol).cast(int64), axes=(len(s.shape) - 1,))


@function(name="matrix_rank", fallible=True)
def _rank_absolute(input: Tensor_, atol: Operand, hermitian: Static):
    _, s, _ = _magnitudes("matrix_rank", input, hermitian)
    return ops.sum(are_large(input, s, atol, None).cast(int64), axes=(len(s.shape) - 1,))


@declared(
    free="linalg",
    samples=calls(
        lambda: [
            call(matrices(2, 3, 2), gradient=False),
            call(singular(3), gradient=False),
            call(singular(3), hermitian=True, gradient=False),
            call(matrices(3, 3), 2.0, gradient=False),
            call(matrices(3, 3), rtol=0.5, gradient=False),
            call(data(0, 0), gradient=False),
            call(data(3), error=(RuntimeError, "at least 2 dimensions")),
        ]
    ),
    recalled="operand",
)
def matrix_rank(
    input: Tensor,
    tol: Any = None,
    hermitian: bool = False,
    *,
    atol: Any = None,
    rtol: Any = None,
    out: Tensor | None = None,
) -> Tensor:
    """How many singular values (of symmetric matrices, eigenvalues) are above max(atol, rtol * the largest), int64; see
    `pinv`. `tol` is
    an `atol` beside which `rtol` is 0."""
    if tol is not None:
        atol, rtol = tol, 0.0
    if atol is None and rtol is None:
        found = _rank(input, hermitian)
    elif rtol is None:
        found = _rank_absolute(input, atol, hermitian)
    else:
        found = _rank_above(input, 0.0 if atol is None else atol, rtol, hermitian)
    return found if out is None else stored_in("matrix_rank", out, found)
