"""Eigenvalues of general matrices.

In: square matrices in the last two axes, [*batch, N, N], float32, float64 or complex. Out: complex values and vectors. LAPACK
computes them, called from the plan. Vectors have any phase: a gradient that depends on it is refused. Next: `packed.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.record import Kind, OpRecord, Sample
from flambeau.dialects.tape.common import ops
from flambeau.dialects.tape.linear_algebra import full
from flambeau.dialects.tape.matrices import (
    NUMBERS,
    LinAlgError,
    adjoint,
    as_columns,
    as_rows,
    check_square,
    diagonal,
    diagonal_matrix,
    imaginary,
    of_any_phase,
    on_diagonal,
    product,
)
from flambeau.dialects.tape.spectral import finite, stuck


def _infer(a: Aval) -> tuple[Aval, Aval]:
    check_square("eig", a)
    dtype = a.dtype.to_complex()
    return Aval(a.shape[:-1], dtype), Aval(a.shape, dtype)


def _reference(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eig(finite("eig", a))
    dtype = np.result_type(a.dtype, np.complex64)
    return values.astype(dtype), vectors.astype(dtype)


def _vjp(cts: Any, results: Any, a: Any) -> tuple[Any]:
    """Boeddeker, Hanebrink, Drude, Heymann, Haeb-Umbach, "On the computation of complex-valued gradients with application to
    statistically optimum beamforming", 2017, (4.77), of vectors whose norm is 1 and whose phase does not matter."""
    (values, vectors), (to_values, to_vectors) = results, cts
    back, n = adjoint(vectors), values.shape[-1]
    if to_vectors is None:
        inner = as_columns(to_values, n) * back
    else:
        found = product(back, to_vectors)
        own = diagonal(found)
        lengths = as_rows(ops.real(own).cast(vectors.dtype), n)
        found = found - product(back, vectors * lengths)
        apart = (as_rows(values, n) - as_columns(values, n)).conj()
        apart = ops.select(on_diagonal(apart), apart.like(1), apart)
        on = imaginary(of_any_phase("eig", "eigenvectors", ops.imag(own)) * 0.0)
        on = on if to_values is None else on + to_values
        found = ops.select(on_diagonal(found), found.like(0), found / apart) + diagonal_matrix(on)
        inner = product(found, back)
    packed, pivots, _ = ops.lu(back, op="")
    made = ops.solve_factored(back, packed, pivots, inner, transposed=False)
    return (made if a.dtype.is_complex else ops.real(made),)


def _samples() -> list[Sample]:
    shapes = ((1, 1), (3, 3), (2, 3, 3), (0, 0), (0, 2, 2), (2, 0, 0), (12, 12))
    turning = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    return [
        *(Sample((full(*s),), gradient=False) for s in shapes),
        Sample((turning,), gradient=False),
        Sample((np.zeros((2, 3)),), error=(RuntimeError, "[eig] the operand has shape (2, 3). Pass square")),
        Sample(
            (np.array([[1.0, np.nan], [0.0, 2.0]]),),
            error=(LinAlgError, "[eig] the matrix has an element that is not finite, or the"),
        ),
    ]


eig = OpRecord(
    name="eig",
    kind=Kind.LINEAR_ALGEBRA,
    attrs=(),
    infer=_infer,
    reference=_reference,
    vjp=_vjp,
    lower=None,
    dtypes=NUMBERS,
    by_memory=True,
    exact=False,
    keep=True,
    fallible=True,
    failure=stuck("eig"),
    results=("values", "vectors"),
    samples=_samples,
    doc="The eigenvalues of a square matrix, in no order, and eigenvectors as columns, of norm 1; both are complex.",
)
