"""Linear algebra on batches of matrices: orthogonal factors, eigenvalues and singular values.

In: matrices in the last two axes, [*batch, M, N], float32, float64 or complex. Out: factors. LAPACK computes them, called from
the plan. Where eigenvalues or singular values are equal, their vectors have no gradient: it is infinite or NaN there, that of the
values alone is right. Vectors of complex matrices have any phase: a gradient that depends on it is refused. Next: `eigen.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.record import Kind, OpRecord, Sample
from flambeau.dialects.size import minimum, same
from flambeau.dialects.tape.common import ops, random
from flambeau.dialects.tape.linear_algebra import SHAPES_OF_MATRICES, full, of_each, smooth, stacked, which, wide
from flambeau.dialects.tape.matrices import (
    NUMBERS,
    REAL,
    LinAlgError,
    adjoint,
    as_columns,
    as_rows,
    check_matrices,
    check_square,
    diagonal,
    diagonal_matrix,
    hermitian,
    imaginary,
    lower,
    of_any_phase,
    on_diagonal,
    product,
    total,
    upper,
)


def _first(x: Any, axis: int, count: Any) -> Any:
    if x is None or same(x.shape[axis], count):
        return x
    sizes = tuple(count if d == len(x.shape) + axis else n for d, n in enumerate(x.shape))
    return ops.slice(x, starts=(0,) * len(sizes), sizes=sizes, steps=(1,) * len(sizes))


# ---- QR ---------------------------------------------------------------------------------------------------


def _infer_qr(a: Aval, complete: bool) -> tuple[Aval, Aval]:
    check_matrices("qr", a)
    *batch, m, n = a.shape
    k = m if complete else minimum(m, n)
    return Aval((*batch, m, k), a.dtype), Aval((*batch, k, n), a.dtype)


def _qr(a: np.ndarray, complete: bool) -> tuple[np.ndarray, np.ndarray]:
    *batch, m, n = a.shape
    k = m if complete else min(m, n)
    found = of_each(lambda x: np.linalg.qr(x, mode="complete" if complete else "reduced"), a)
    shapes = (*batch, m, k), (*batch, k, n)
    q, r = (stacked([pair[i] for pair in found], shape, a.dtype) for i, shape in enumerate(shapes))
    return q, r


def _vjp_qr(cts: Any, results: Any, a: Any, complete: bool) -> tuple[Any]:
    """Walter and Lehmann, "Algorithmic differentiation of linear algebra functions", 2018. Of wide matrices the columns beyond the
    square ones are Q' times themselves. Columns of Q beyond the first min(M, N) are not unique: what flows to them is left out.

    It reads the results alone, of all shapes: a program that keeps what a gradient will read serves matrices of all sizes."""
    m, n = a.shape[-2:]
    is_tall = m >= n
    k = n if is_tall else m
    q, to_q = (_first(x, -1, k) for x in (results[0], cts[0]))
    r, to_r = (_first(x, -2, k) for x in (results[1], cts[1]))
    if is_tall:
        return (_to_tall(q, r, to_q, to_r),)
    square = _columns(r, 0, m)
    beyond = product(q, _columns(r, m, n - m))
    if to_r is None:
        to_first, to_beyond = None, None
    else:
        to_first, to_beyond = _columns(to_r, 0, m), product(q, _columns(to_r, m, n - m))
        to_q = total(to_q, product(beyond, adjoint(_columns(to_r, m, n - m))))
    first = _to_tall(q, square, to_q, to_first)
    rest = beyond.like(0) if to_beyond is None else to_beyond
    return (ops.concat(first, rest, dim=len(a.shape) - 1),)


def _to_tall(q: Any, r: Any, to_q: Any, to_r: Any) -> Any:
    """The diagonal of R is real, so what flows to imaginary parts there goes no further."""
    inner = total(
        None if to_r is None else product(r, adjoint(upper(to_r))),
        None if to_q is None else -product(adjoint(to_q), q),
    )
    below = lower(inner, -1)
    inner = hermitian(diagonal_matrix(diagonal(inner))) + below + adjoint(below)
    found = total(to_q, product(q, inner))
    return adjoint(ops.triangular_solve(r, adjoint(found), upper=True, transposed=False, unit=False))


def _columns(x: Any, start: Any, count: Any) -> Any:
    starts = (*(0 for _ in x.shape[:-1]), start)
    return ops.slice(x, starts=starts, sizes=(*x.shape[:-1], count), steps=(1,) * len(x.shape))


def _samples_of_qr() -> list[Sample]:
    return [
        *(Sample((full(*s),), {"complete": False}, gradient=smooth(s)) for s in SHAPES_OF_MATRICES),
        *(
            Sample((full(*s),), {"complete": True}, gradient=s[-2] <= s[-1])
            for s in ((3, 3), (2, 4), (2, 4, 2), (3, 0))
        ),
        Sample((np.zeros(3),), {"complete": False}, error=(RuntimeError, "[qr] the operand has shape (3,). Pass")),
    ]


qr = OpRecord(
    name="qr",
    kind=Kind.LINEAR_ALGEBRA,
    attrs=("complete",),
    infer=_infer_qr,
    reference=_qr,
    vjp=_vjp_qr,
    lower=None,
    dtypes=NUMBERS,
    by_memory=True,
    exact=False,
    keep=True,
    results=("q", "r"),
    samples=_samples_of_qr,
    doc="Q with orthonormal columns, as many as R has rows or with `complete` as it has itself, and the upper triangle R, A = Q R.",
)

# ---- eigenvalues ------------------------------------------------------------------------------------------


def stuck(op: str) -> Any:
    def failure(position: int, a: Aval, *attrs: Any) -> Exception:
        return LinAlgError(
            f"[{op}] {which(a.shape[:-2], position)} has an element that is not finite, or the algorithm does not converge. "
            "Look for NaN and infinity in it."
        )

    return failure


def finite(op: str, a: np.ndarray) -> np.ndarray:
    wrong = ~np.isfinite(a).all(axis=(-2, -1))
    if wrong.any():
        raise stuck(op)(int(np.flatnonzero(wrong)[0]), Aval(a.shape, REAL[0]))
    return a


def _infer_eigh(a: Aval) -> tuple[Aval, Aval]:
    check_square("eigh", a)
    return Aval(a.shape[:-1], a.dtype.to_real()), a


def _eigh(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(finite("eigh", a))
    return values.astype(a.real.dtype), vectors.astype(a.dtype)


def _vjp_eigh(cts: Any, results: Any, a: Any) -> tuple[Any]:
    """Giles, "An extended collection of matrix derivative results", 2008; the gradient of a symmetric matrix is symmetric."""
    (values, vectors), (to_values, to_vectors) = results, cts
    back, n = adjoint(vectors), values.shape[-1]
    if to_vectors is None:
        return (product(vectors * as_rows(to_values, n).cast(a.dtype), back),)
    inner = product(back, to_vectors)
    apart = as_rows(values, n) - as_columns(values, n)
    safe = ops.select(on_diagonal(apart), apart.like(1), apart)
    own = diagonal(inner)
    inner = (inner - adjoint(inner)) * 0.5  # what else there is would not leave the vectors orthonormal
    inner = ops.select(on_diagonal(inner), inner.like(0), inner / safe.cast(a.dtype))
    if a.dtype.is_complex:
        inner = inner + diagonal_matrix(imaginary(of_any_phase("eigh", "eigenvectors", ops.imag(own)) * 0.0))
    inner = inner if to_values is None else inner + diagonal_matrix(to_values.cast(a.dtype))
    return (product(vectors, inner, back),)


def symmetrical(*shape: int) -> np.ndarray:
    """Symmetric matrices whose eigenvalues lie apart."""
    x = random(shape, -0.5, 0.5)
    return (x + np.swapaxes(x, -1, -2)) / 2 + np.diag(2.0 * np.arange(shape[-1]))


_NAN = np.array([[1.0, np.nan], [np.nan, 2.0]])


def _samples_of_eigh() -> list[Sample]:
    shapes = ((1, 1), (3, 3), (2, 3, 3), (0, 0), (0, 2, 2), (2, 0, 0), (30, 30))
    return [
        *(Sample((symmetrical(*s),), gradient=smooth(s)) for s in shapes),
        Sample((np.zeros((2, 3)),), error=(RuntimeError, "[eigh] the operand has shape (2, 3). Pass square")),
        Sample((_NAN,), error=(LinAlgError, "[eigh] the matrix has an element that is not finite, or the")),
    ]


eigh = OpRecord(
    name="eigh",
    kind=Kind.LINEAR_ALGEBRA,
    attrs=(),
    infer=_infer_eigh,
    reference=_eigh,
    vjp=_vjp_eigh,
    lower=None,
    dtypes=NUMBERS,
    by_memory=True,
    exact=False,
    keep=True,
    fallible=True,
    failure=stuck("eigh"),
    results=("values", "vectors"),
    samples=_samples_of_eigh,
    doc="The eigenvalues of a symmetric matrix, of which the lower triangle is read, ascending; and eigenvectors as columns.",
)

# ---- singular values --------------------------------------------------------------------------------------


def _infer_svd(a: Aval, complete: bool) -> tuple[Aval, Aval, Aval]:
    check_matrices("svd", a)
    *batch, m, n = a.shape
    k = minimum(m, n)
    left, right = (m, n) if complete else (k, k)
    return Aval((*batch, m, left), a.dtype), Aval((*batch, k), a.dtype.to_real()), Aval((*batch, right, n), a.dtype)


def _svd(a: np.ndarray, complete: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    u, s, vh = np.linalg.svd(finite("svd", a), full_matrices=complete)
    return u.astype(a.dtype), s.astype(a.real.dtype), vh.astype(a.dtype)


def _vjp_svd(cts: Any, results: Any, a: Any, complete: bool) -> tuple[Any]:
    """Townsend, "Differentiating the singular value decomposition", 2016. Vectors beyond the first min(M, N) are not unique: what
    flows to them is left out."""
    s = results[1]
    k = s.shape[-1]
    u, vh = _first(results[0], -1, k), _first(results[2], -2, k)
    to_u, to_s, to_vh = _first(cts[0], -1, k), cts[1], _first(cts[2], -2, k)
    m, n = a.shape[-2:]
    core = None if to_s is None else diagonal_matrix(to_s.cast(a.dtype))
    if to_u is None and to_vh is None:
        return (product(u, core, vh),)
    rows, columns = as_rows(s, k), as_columns(s, k)
    apart = (rows - columns) * (rows + columns)
    apart = ops.select(on_diagonal(apart), apart.like(1), apart).cast(a.dtype)
    of_u = None if to_u is None else _turning(product(adjoint(u), to_u))
    of_v = None if to_vh is None else _turning(product(vh, adjoint(to_vh)))
    core = total(
        core,
        None if of_u is None else _off_diagonal(of_u / apart * rows.cast(a.dtype)),
        None if of_v is None else _off_diagonal(columns.cast(a.dtype) * (of_v / apart)),
    )
    if a.dtype.is_complex:
        core = core + _of_phases(of_u, of_v, s)
    made = product(u, core, vh)
    if to_u is not None and m > n:
        beyond = (to_u - product(u, adjoint(u), to_u)) / as_rows(s, m).cast(a.dtype)
        made = made + product(beyond, vh)
    if to_vh is not None and n > m:
        beyond = (to_vh - product(to_vh, adjoint(vh), vh)) / as_columns(s, n).cast(a.dtype)
        made = made + product(u, beyond)
    return (made,)


def _turning(x: Any) -> Any:
    """Twice the part of a matrix that is its own adjoint but for the sign; of a real one without a diagonal."""
    return x - adjoint(x)


def _off_diagonal(x: Any) -> Any:
    """Of a real matrix there are zeros on the diagonal already."""
    return ops.select(on_diagonal(x), x.like(0), x) if x.dtype.is_complex else x


def _of_phases(of_u: Any, of_v: Any, s: Any) -> Any:
    """What goes to the diagonal of the core: half the turning of U over the values, which that of V has to be against."""
    parts = [None if x is None else ops.imag(diagonal(x)) for x in (of_u, of_v)]
    checked = of_any_phase("svd", "singular vectors", total(*parts)) * 0.0
    own = checked if None in parts else checked + parts[0] / (s * 2.0)
    return diagonal_matrix(imaginary(own))


def _samples_of_svd() -> list[Sample]:
    more = ((3, 3), (3, 2), (2, 3), (2, 0), (0, 3), (2, 3, 2))
    return [
        *(Sample((full(*s),), {"complete": False}, gradient=smooth(s)) for s in SHAPES_OF_MATRICES),
        *(Sample((full(*s),), {"complete": True}, gradient=s == (3, 3)) for s in more),
        Sample((np.zeros(3),), {"complete": False}, error=(RuntimeError, "[svd] the operand has shape (3,). Pass")),
        Sample((_NAN,), {"complete": False}, error=(LinAlgError, "[svd] the matrix has an element that is not finite")),
    ]


svd = OpRecord(
    name="svd",
    kind=Kind.LINEAR_ALGEBRA,
    attrs=("complete",),
    infer=_infer_svd,
    reference=_svd,
    vjp=_vjp_svd,
    lower=None,
    dtypes=NUMBERS,
    by_memory=True,
    exact=False,
    keep=True,
    fallible=True,
    failure=stuck("svd"),
    results=("u", "s", "vh"),
    samples=_samples_of_svd,
    doc="U, the singular values, descending, and V' of A = U S V', with as many vectors as values, or with `complete` all.",
)

# ---- pseudo-inverse ---------------------------------------------------------------------------------------


def _infer_pinv(a: Aval, inverse: Aval) -> Aval:
    check_matrices("pinv", a)
    if inverse != a._replace(shape=(*a.shape[:-2], a.shape[-1], a.shape[-2])):
        raise RuntimeError(f"[pseudo_inverse] {inverse} is not the type of an inverse of {a}. Pass that of a.")
    return inverse


def _pinv(a: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    return np.linalg.pinv(wide(a)).astype(a.dtype) if a.size else inverse.copy()


def _vjp_pinv(ct: Any, p: Any, a: Any, inverse: Any) -> tuple[Any, None]:
    """Golub and Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems", 1973, for matrices whose
    rank does not change. It is written in the result, which has the gradient of a: so it has derivatives of any order."""
    back, turned = adjoint(ct), adjoint(p)
    if a.shape[-2] <= a.shape[-1]:
        k = product(back, p)
        far = product(k, turned)
        found = far - adjoint(product(p, k)) - product(a, p, far)
        return found + product(turned, p, back - product(k, a)), None
    k = product(p, back)
    far = product(turned, k)
    found = far - adjoint(product(k, p)) - product(far, p, a)
    return found + product(back - product(a, k), p, turned), None


def _samples_of_pinv() -> list[Sample]:
    def sample(*shape: int) -> Sample:
        a = full(*shape)
        return Sample((a, _pinv(a, np.swapaxes(a, -1, -2))), gradient=smooth(shape))

    return [
        *(sample(*s) for s in SHAPES_OF_MATRICES),
        Sample(
            (full(2, 3), full(2, 3)), error=(RuntimeError, "[pseudo_inverse] 2x3xf64 is not the type of an inverse")
        ),
    ]


pseudo_inverse = OpRecord(
    name="pseudo_inverse",
    kind=Kind.LINEAR_ALGEBRA,
    attrs=(),
    infer=_infer_pinv,
    reference=_pinv,
    vjp=_vjp_pinv,
    lower=None,
    dtypes=NUMBERS,
    by_memory=True,
    exact=False,
    keep=True,
    samples=_samples_of_pinv,
    doc="The second operand, which is the pseudo-inverse of the first and has its gradient.",
)
