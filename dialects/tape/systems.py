"""Systems of equations on batches of matrices, solved with factors of theirs or with triangles.

In: matrices in the last two axes, [*batch, N, N], and right sides [*batch, N, K], float32, float64 or complex. Out: solutions.
What flows to a solution flows to the matrices themselves, not to their factors: derivatives of every order solve with these again.
Next: `spectral.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import int32
from flambeau.dialects.record import Kind, OpRecord, Sample
from flambeau.dialects.tape.common import check_same, ops, random
from flambeau.dialects.tape.linear_algebra import factored, full, smooth, wide
from flambeau.dialects.tape.matrices import NUMBERS, adjoint, check_beside, lower, product, transposed, upper

_turned = transposed


def _infer_factored(a: Aval, packed: Aval, pivots: Aval, b: Aval, transposed: bool) -> Aval:
    check_beside("solve", a, b)
    check_same("solve_factored", (a, packed))
    if pivots != Aval(a.shape[:-1], int32):
        raise RuntimeError(f"[solve_factored] pivots are {pivots} for matrices of shape {a.shape}. Pass those of lu.")
    return b


def _solve(a: np.ndarray, packed: np.ndarray, pivots: np.ndarray, b: np.ndarray, transposed: bool) -> np.ndarray:
    a = np.swapaxes(a, -1, -2) if transposed else a
    return np.linalg.solve(wide(a), wide(b)).astype(a.dtype)


def _vjp_factored(ct: Any, x: Any, a: Any, packed: Any, pivots: Any, b: Any, transposed: bool) -> tuple[Any, ...]:
    """The factors are those of a: what flows to the solution flows to a itself, at any order, with the same factors."""
    to_b = ops.solve_factored(a, packed, pivots, ct.conj(), transposed=not transposed).conj()
    to_a = product(x.conj(), _turned(to_b)) if transposed else product(to_b, adjoint(x))
    return -to_a, None, None, to_b


def _samples_of_factored() -> list[Sample]:
    def sample(shape: tuple[int, ...], k: int, transposed: bool, **fields: Any) -> Sample:
        a = full(*shape)
        return Sample((a, *factored(a), random((*shape[:-1], k), seed=1)), {"transposed": transposed}, **fields)

    shapes = ((1, 1), (3, 3), (2, 3, 3), (0, 0), (2, 0, 0), (0, 2, 2), (20, 20))
    a = full(2, 2)
    return [
        *(sample(s, k, t, gradient=smooth(s) and k > 0) for s in shapes for k in (1, 3) for t in (False, True)),
        sample((2, 2), 0, False, gradient=False),
        Sample(
            (a, *factored(a), np.zeros((3, 1))),
            {"transposed": False},
            error=(RuntimeError, "do not fit. Pass [*batch, N, N]"),
        ),
        Sample(
            (a, a, np.zeros(2), a), {"transposed": False}, error=(RuntimeError, "[solve_factored] pivots are 2xf64 for")
        ),
    ]


solve_factored = OpRecord(
    name="solve_factored",
    kind=Kind.LINEAR_ALGEBRA,
    attrs=("transposed",),
    infer=_infer_factored,
    reference=_solve,
    vjp=_vjp_factored,
    lower=None,
    dtypes=NUMBERS,
    by_memory=True,
    exact=False,
    keep=True,
    samples=_samples_of_factored,
    doc="The X with A X = B, or with `transposed` A' X = B, by the factors of A that lu gives.",
)


def _infer_triangular(a: Aval, b: Aval, upper: bool, transposed: bool, unit: bool) -> Aval:
    check_beside("solve_triangular", a, b)
    return b


def _triangle(a: Any, is_upper: bool, unit: bool, array: bool = False) -> Any:
    if array:
        return np.triu(a, int(unit)) if is_upper else np.tril(a, -int(unit))
    return upper(a, int(unit)) if is_upper else lower(a, -int(unit))


def _solve_triangular(a: np.ndarray, b: np.ndarray, upper: bool, transposed: bool, unit: bool) -> np.ndarray:
    t = _triangle(wide(a), upper, unit, array=True)
    t = t + np.eye(a.shape[-1]) if unit else t
    singular = np.any(np.diagonal(t, axis1=-2, axis2=-1) == 0, axis=-1)[..., None, None]
    safe = np.where(singular, np.eye(a.shape[-1]), t)
    found = np.linalg.solve(np.swapaxes(safe, -1, -2) if transposed else safe, wide(b))
    return np.where(singular, np.nan, found).astype(a.dtype)


def _vjp_triangular(ct: Any, x: Any, a: Any, b: Any, upper: bool, transposed: bool, unit: bool) -> tuple[Any, Any]:
    to_b = ops.triangular_solve(a, ct.conj(), upper=upper, transposed=not transposed, unit=unit).conj()
    to_a = product(x.conj(), _turned(to_b)) if transposed else product(to_b, adjoint(x))
    return _triangle(-to_a, upper, unit), to_b


def _samples_of_triangular() -> list[Sample]:
    def attrs(upper: bool, transposed: bool, unit: bool) -> dict[str, bool]:
        return {"upper": upper, "transposed": transposed, "unit": unit}

    shapes = ((1, 1), (3, 3), (2, 3, 3), (0, 0), (2, 0, 0), (0, 2, 2))
    every = [attrs(u, t, d) for u in (False, True) for t in (False, True) for d in (False, True)]
    return [
        *(
            Sample((full(*s), random((*s[:-1], k), seed=1)), how, gradient=smooth(s))
            for s, k, how in [
                *((s, 1 + len(s) % 2, every[0]) for s in shapes),
                *(((2, 3, 3), k, h) for h in every for k in (1, 2)),
            ]
        ),
        Sample((full(20, 20), random((20, 5))), every[1], gradient=False),
        Sample((full(2, 2), random((2, 0))), every[0], gradient=False),
        Sample(
            (full(2, 2), random((3, 1))), every[0], error=(RuntimeError, "[solve_triangular] matrices of shape (2, 2)")
        ),
    ]


triangular_solve = OpRecord(
    name="triangular_solve",
    kind=Kind.LINEAR_ALGEBRA,
    attrs=("upper", "transposed", "unit"),
    infer=_infer_triangular,
    reference=_solve_triangular,
    vjp=_vjp_triangular,
    lower=None,
    dtypes=NUMBERS,
    by_memory=True,
    exact=False,
    keep=True,
    samples=_samples_of_triangular,
    doc="The X with A X = B, or with `transposed` A' X = B, for a triangle A, with ones on its diagonal where it is `unit`.",
)
