"""What functions of linear algebra share: checks and broadcasting of matrices, sample matrices, and results with names.

In: values, and what users wrote. Out: values that the records of `dialects/tape/linear_algebra.py` and `spectral.py` take.
Next: `factors.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flambeau.dialects.builder import Value
from flambeau.dialects.tape.matrices import (
    NUMBERS,
    adjoint,
    diagonal,
    diagonal_matrix,
    lower,
    on_diagonal,
    product,
    transposed,
    upper,
)
from flambeau.functions.common import broadcast_shapes
from flambeau.samples import data

__all__ = [
    "adjoint",
    "batched",
    "check_alike",
    "check_matrix",
    "check_square",
    "diagonal",
    "diagonal_matrix",
    "eps",
    "identity",
    "lower",
    "matrices",
    "on_diagonal",
    "positive",
    "product",
    "singular",
    "transposed",
    "upper",
]


def check_matrix(op: str, x: Value, what: str = "the tensor") -> None:
    """Raises RuntimeError unless x are matrices of float32, float64 or complex numbers."""
    if x.dtype not in NUMBERS:
        raise RuntimeError(f"[{op}] {what} has dtype {x.dtype}, expected float32, float64 or complex. Cast it first.")
    if len(x.shape) < 2:
        raise RuntimeError(f"[{op}] {what} has shape {x.shape}. Pass matrices: at least 2 dimensions.")


def check_square(op: str, x: Value, what: str = "the tensor") -> None:
    """Raises RuntimeError unless x are square matrices of float32, float64 or complex numbers."""
    check_matrix(op, x, what)
    if x.shape[-1] != x.shape[-2]:
        raise RuntimeError(f"[{op}] {what} has shape {x.shape}. Pass square matrices.")


def check_alike(op: str, x: Value, y: Value) -> None:
    if x.dtype is not y.dtype:
        raise RuntimeError(f"[{op}] dtypes are {x.dtype} and {y.dtype}. Convert them to one.")


def batched(op: str, x: Value, y: Value) -> tuple[Value, Value]:
    """Both with one batch: what is before their last two dimensions broadcasts."""
    batch = broadcast_shapes(op, x.shape[:-2], y.shape[:-2])
    return x.expand((*batch, *x.shape[-2:])), y.expand((*batch, *y.shape[-2:]))


def identity(like: Value, n: Any) -> Value:
    """Identity matrices of n x n with the batch, dtype and device of a value."""
    zero = like.builder.constant(0, like.dtype) if like.aval.device == like.builder.device else None
    if zero is None:
        with like.builder.on(like.aval.device):
            zero = like.builder.constant(0, like.dtype)
    return on_diagonal(zero.expand((*like.shape[:-2], n, n))).cast(like.dtype)


def eps(x: Value) -> float:
    """The distance from 1 to the next number."""
    return 2.0 ** (-23 if x.dtype.to_real() is NUMBERS[0] else -52)


# ---- samples ----------------------------------------------------------------------------------------------


def matrices(*shape: int) -> np.ndarray:
    """Matrices of full rank, whose singular values lie apart."""
    x = data(*shape, low=-0.5, high=0.5)
    k = min(shape[-2:])
    x[..., range(k), range(k)] += 1.5 * np.arange(1, k + 1)
    return x


def positive(*shape: int) -> np.ndarray:
    """Symmetric positive-definite matrices, whose eigenvalues lie apart."""
    x = data(*shape, low=-0.3, high=0.3)
    return x @ np.swapaxes(x, -1, -2) + np.diag(1.0 + np.arange(shape[-1]))


def singular(n: int = 2) -> np.ndarray:
    return np.ones((n, n))
