"""Factors as LAPACK packs them, which have no gradients, as in PyTorch: L D L', and the reflectors of Q R.

In: matrices in the last two axes, [*batch, M, N], float32, float64 or complex. Out: what solves and multiplies with them takes.
Next: `contraction.py`.
"""

from __future__ import annotations

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import int32
from flambeau.dialects.record import Kind, NoGradient, OpRecord, Sample
from flambeau.dialects.size import minimum
from flambeau.dialects.tape.common import random
from flambeau.dialects.tape.linear_algebra import full, of_each, stacked, which, wide
from flambeau.dialects.tape.matrices import NUMBERS, LinAlgError, check_beside, check_matrices, check_square

# ---- L D L' -----------------------------------------------------------------------------------------------


def _infer_ldl(a: Aval, hermitian: bool, op: str) -> tuple[Aval, Aval, Aval]:
    check_square(op or "ldl_factor", a)
    return a, Aval(a.shape[:-1], int32), Aval(a.shape[:-2], int32)


def _no_inverse(position: int, a: Aval, hermitian: bool, op: str) -> Exception:
    number, order = divmod(position, int(a.shape[-1]) + 1)
    return LinAlgError(
        f"[{op}] {which(a.shape[:-2], number)} is singular: element {order} of the diagonal of D is zero. "
        "Pass a matrix of full rank, or use ldl_factor_ex()."
    )


def _ldl_of(a: np.ndarray, hermitian: bool) -> tuple[np.ndarray, np.ndarray, int]:
    from scipy.linalg import get_lapack_funcs  # which imports much

    if not a.size:
        return a, np.zeros(len(a), np.int32), 0
    (factor,) = get_lapack_funcs(("hetrf" if hermitian and np.iscomplexobj(a) else "sytrf",), (a,))
    packed, pivots, info = factor(a, lower=1)
    return np.tril(packed), pivots, info


def _ldl(a: np.ndarray, hermitian: bool, op: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    found = of_each(lambda x: _ldl_of(wide(x), hermitian), a)
    for number, (_, _, info) in enumerate(found):
        if info and op:
            raise _no_inverse(number * (a.shape[-1] + 1) + info, Aval(a.shape, NUMBERS[0]), hermitian, op)
    packed, pivots, infos = zip(*found) if found else ((), (), ())
    batch = a.shape[:-2]
    return (
        stacked(list(packed), a.shape, a.dtype),
        stacked(list(pivots), a.shape[:-1], np.int32),
        stacked(list(infos), batch, np.int32),
    )


def symmetrical(*shape: int) -> np.ndarray:
    """Symmetric matrices that are not definite, with pivots of one row and of two."""
    x = random(shape, -1, 1, 3)
    x = x + np.swapaxes(x, -1, -2)
    x[..., 0, 0] = 0
    return x


def _numbers(x: np.ndarray, hermitian: bool) -> np.ndarray:
    other = random(x.shape, -1, 1, 4)
    return x + 1j * (other - np.swapaxes(other, -1, -2) if hermitian else other + np.swapaxes(other, -1, -2))


def _samples_of_ldl() -> list[Sample]:
    def sample(shape: tuple[int, ...], hermitian: bool, op: str) -> Sample:
        a = symmetrical(*shape) if 0 not in shape else np.zeros(shape)
        return Sample((a,), {"hermitian": hermitian, "op": op}, gradient=False, numbers=(_numbers(a, hermitian),))

    zero = np.zeros((2, 2))
    return [
        *(sample(s, h, "") for s in ((2, 2), (3, 3), (2, 4, 4), (0, 0), (0, 2, 2), (2, 0, 0)) for h in (False, True)),
        Sample((zero,), {"hermitian": False, "op": ""}, gradient=False),
        Sample(
            (zero,),
            {"hermitian": False, "op": "ldl_factor"},
            error=(LinAlgError, "[ldl_factor] the matrix is singular: element 1 of the diagonal of D is zero."),
        ),
        Sample((np.zeros((2, 3)),), {"hermitian": False, "op": ""}, error=(RuntimeError, "Pass square matrices")),
    ]


ldl = OpRecord(
    name="ldl",
    kind=Kind.LINEAR_ALGEBRA,
    attrs=("hermitian", "op"),
    infer=_infer_ldl,
    reference=_ldl,
    vjp=NoGradient("PyTorch has none: solve() has one"),
    lower=None,
    dtypes=NUMBERS,
    by_memory=True,
    exact=False,
    keep=True,
    fallible=True,
    failure=_no_inverse,
    results=("packed", "pivots", "info"),
    samples=_samples_of_ldl,
    doc="L below the blocks of D, in one matrix, of A = L D L', or with `hermitian` L D L^H, of which the lower triangle is read; "
    "the rows that were exchanged, and 0 or the place of a zero on D's diagonal.",
)


def _infer_solve(packed: Aval, pivots: Aval, b: Aval, hermitian: bool) -> Aval:
    check_beside("ldl_solve", packed, b)
    if pivots != Aval(packed.shape[:-1], int32):
        raise RuntimeError(f"[ldl_solve] pivots are {pivots} for matrices of shape {packed.shape}. Pass those of ldl.")
    return b


def _whole(packed: np.ndarray, pivots: np.ndarray, hermitian: bool) -> np.ndarray | None:
    """The matrix whose factors these are: the product of exchanges and columns of L, beside D; None of no pivots."""
    n, left, middle, j = len(packed), np.eye(len(packed), dtype=packed.dtype), np.zeros_like(packed), 0
    while j < n:
        size = 1 if pivots[j] > 0 else 2
        block = slice(j, j + size)
        if len(pivots[block]) < size or np.any((pivots[block] > 0) != (size == 1)) or not 0 < abs(pivots[j]) <= n:
            return None
        last, at = j + size - 1, abs(int(pivots[j])) - 1
        left[:, [last, at]] = left[:, [at, last]]
        column = np.eye(n, dtype=packed.dtype)
        column[j + size :, block] = packed[j + size :, block]
        left = left @ column
        middle[block, block] = np.tril(packed[block, block])
        if size == 2:
            below = packed[j + 1, j]
            middle[j, j + 1] = below.conj() if hermitian else below
        j += size
    return left @ middle @ (left.conj() if hermitian else left).T


def _solve(packed: np.ndarray, pivots: np.ndarray, b: np.ndarray, hermitian: bool) -> np.ndarray:
    def solve(packed: np.ndarray, pivots: np.ndarray, b: np.ndarray) -> np.ndarray:
        a = _whole(wide(packed), pivots, hermitian)
        try:
            return np.full(b.shape, np.nan) if a is None else np.linalg.solve(a, wide(b))
        except np.linalg.LinAlgError:
            return np.full(b.shape, np.nan)

    return stacked(of_each(solve, packed, pivots, b), b.shape, b.dtype)


def _samples_of_solve() -> list[Sample]:
    def sample(shape: tuple[int, ...], hermitian: bool, columns: int) -> Sample:
        a, b = symmetrical(*shape), random((*shape[:-1], columns), seed=1)
        numbers = _ldl(_numbers(a, hermitian), hermitian, "")[:2]
        attrs = {"hermitian": hermitian}
        return Sample((*_ldl(a, hermitian, "")[:2], b), attrs, gradient=False, numbers=(*numbers, b + 1j * b[::-1]))

    a, none = full(2, 2), np.array([1, 5], np.int32)
    return [
        *(sample(s, h, k) for s, k in (((2, 2), 1), ((3, 3), 2), ((2, 4, 4), 1)) for h in (False, True)),
        Sample((np.zeros((0, 0)), np.zeros(0, np.int32), np.zeros((0, 2))), {"hermitian": False}, gradient=False),
        Sample((a, np.array([1, -2], np.int32), a), {"hermitian": False}, gradient=False),
        Sample((a, none, np.zeros((3, 1))), {"hermitian": False}, error=(RuntimeError, "do not fit. Pass [*batch, N,")),
        Sample((a, none[:1], a), {"hermitian": False}, error=(RuntimeError, "Pass those of ldl")),
    ]


ldl_solve = OpRecord(
    name="ldl_solve",
    kind=Kind.LINEAR_ALGEBRA,
    attrs=("hermitian",),
    infer=_infer_solve,
    reference=_solve,
    vjp=NoGradient("PyTorch has none: solve() has one"),
    lower=None,
    dtypes=NUMBERS,
    by_memory=True,
    exact=False,
    keep=True,
    samples=_samples_of_solve,
    doc="The X with A X = B, of what `ldl` gives of A; NaN where the pivots are of no matrix.",
)

# ---- reflectors -------------------------------------------------------------------------------------------


def _infer_geqrf(a: Aval) -> tuple[Aval, Aval]:
    check_matrices("geqrf", a)
    return a, Aval((*a.shape[:-2], minimum(*a.shape[-2:])), a.dtype)


def _geqrf(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    k = min(a.shape[-2:])
    found = of_each(lambda x: np.linalg.qr(x, mode="raw") if x.size else (x.T, np.zeros(k)), a)
    packed = stacked([h.T for h, _ in found], a.shape, a.dtype)
    return packed, stacked([tau for _, tau in found], (*a.shape[:-2], k), a.dtype)


geqrf = OpRecord(
    name="geqrf",
    kind=Kind.LINEAR_ALGEBRA,
    attrs=(),
    infer=_infer_geqrf,
    reference=_geqrf,
    vjp=NoGradient("PyTorch has none: qr() has one"),
    lower=None,
    dtypes=NUMBERS,
    by_memory=True,
    exact=False,
    keep=True,
    results=("packed", "tau"),
    samples=lambda: [
        *(Sample((full(*s),), gradient=False) for s in ((3, 3), (4, 2), (2, 2, 3), (0, 3), (2, 0), (0, 2, 2), (30, 7))),
        Sample((np.zeros(3),), error=(RuntimeError, "[geqrf] the operand has shape (3,). Pass matrices")),
    ],
    doc="R and, below the diagonal, reflectors whose product is Q, of A = Q R, in one matrix; and their factors tau.",
)
