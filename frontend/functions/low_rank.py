"""Approximations of low rank: svd_lowrank and pca_lowrank, by random projections.

In: matrices. Out: their largest singular values and vectors. Next: `linear.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau import return_types
from flambeau.declarations import declared
from flambeau.dialects.dtypes import float32, float64
from flambeau.functions.factors import _linalg_qr
from flambeau.functions.random import randn
from flambeau.functions.spectra import _linalg_svd
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data


def _basis(a: Tensor, q: int, niter: int) -> Tensor:
    """q orthonormal columns that span nearly what the matrix spans: Halko, Martinsson, Tropp, "Finding structure with randomness",
    2011, algorithm 4.4."""
    found = _linalg_qr(a @ randn(a.shape[-1], q, dtype=a.dtype, device=a.device)).Q
    for _ in range(niter):
        found = _linalg_qr(a.mH @ found).Q
        found = _linalg_qr(a @ found).Q
    return found


def _check(op: str, a: Tensor, q: int, niter: int) -> None:
    if not a.dtype.is_inexact or a.dtype.to_real() not in (float32, float64):
        raise RuntimeError(f"[{op}] the tensor has dtype {a.dtype}. Cast it to float32 or float64 first.")
    if a.ndim < 2:
        raise RuntimeError(f"[{op}] the tensor has shape {tuple(a.shape)}. Pass matrices: at least 2 dimensions.")
    if not 0 <= q <= min(a.shape[-2:]):
        raise ValueError(f"[{op}] q is {q} for matrices of shape {tuple(a.shape)}. Use 0 to {min(a.shape[-2:])}.")
    if niter < 0:
        raise ValueError(f"[{op}] niter is {niter}. Use at least 0.")


_SAMPLES = calls(
    lambda: [
        call(data(5, 4), 2, gradient=False),
        call(data(2, 4, 3), q=2, niter=1, gradient=False),
        call(data(3, 3), 4, error=(ValueError, "Use 0 to 3")),
        call(data(3), 1, error=(RuntimeError, "at least 2 dimensions")),
    ]
)


@declared(free="flambeau", samples=_SAMPLES)
def svd_lowrank(A: Tensor, q: int | None = 6, niter: int | None = 2, M: Tensor | None = None) -> Any:
    """(U, S, V), U diag(S) V' being near A - M, a matrix of rank `q`, found from random projections (of the default
    generator) with `niter`
    rounds of subspace iteration."""
    q, niter = 6 if q is None else q, 2 if niter is None else niter
    _check("svd_lowrank", A, q, niter)
    a = A if M is None else A - M
    wide = a.shape[-2] < a.shape[-1]
    a = a.mH if wide else a
    basis = _basis(a, q, niter)
    u, s, vh = _linalg_svd(basis.mH @ a, full_matrices=False)
    left, right = basis @ u, vh.mH
    return return_types.svd(right, s, left) if wide else return_types.svd(left, s, right)


@declared(free="flambeau", samples=_SAMPLES)
def pca_lowrank(A: Tensor, q: int | None = None, center: bool = True, niter: int = 2) -> Any:
    """(U, S, V) of the rows of A less their mean (unless `center` is False): V are the principal directions. `q` is by
    default min(6, M, N)."""
    q = min(6, *map(int, A.shape[-2:])) if q is None else q
    _check("pca_lowrank", A, q, niter)
    return svd_lowrank(A - A.mean(dim=-2, keepdim=True) if center else A, q, niter)
