"""What gradients of linear algebra are written in: products, transposes, triangles and diagonals of batches of matrices.

In: values whose last two axes are matrices. Out: values. Next: `linear_algebra.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import complex64, complex128, float32, float64, int64
from flambeau.dialects.tape.common import check_dtype, ops

#: The dtypes that LAPACK computes in here.
REAL = (float32, float64)
NUMBERS = (*REAL, complex64, complex128)


class LinAlgError(RuntimeError):
    """A matrix has not what an algorithm needs: it is singular, or not positive-definite, or the algorithm does not converge.

    >>> linalg.inv(zeros(2, 2))        # raises: no inverse
    >>> linalg.inv_ex(zeros(2, 2))[1]  # says so in its second result instead
    """

    __module__ = "flambeau.linalg"


def check_matrices(op: str, a: Aval, what: str = "the operand") -> None:
    check_dtype(op, a, NUMBERS, what)
    if a.rank < 2:
        raise RuntimeError(f"[{op}] {what} has shape {a.shape}. Pass matrices, of shape [*batch, M, N].")


def check_square(op: str, a: Aval, what: str = "the operand") -> None:
    check_matrices(op, a, what)
    if a.shape[-1] != a.shape[-2]:
        raise RuntimeError(f"[{op}] {what} has shape {a.shape}. Pass square matrices, of shape [*batch, N, N].")


def check_beside(op: str, a: Aval, b: Aval) -> None:
    """b are matrices with the rows and the batch of the square matrices a, in their dtype."""
    check_square(op, a)
    check_matrices(op, b, "the right side")
    if b.dtype is not a.dtype:
        raise RuntimeError(f"[{op}] operands have dtypes {a.dtype.name} and {b.dtype.name}. Cast them to one first.")
    if b.shape[:-1] != a.shape[:-1]:
        raise RuntimeError(
            f"[{op}] matrices of shape {a.shape} and a right side of shape {b.shape} do not fit. "
            f"Pass [*batch, N, N] and [*batch, N, K]."
        )


def transposed(x: Any) -> Any:
    rank = len(x.shape)
    return ops.permute(x, perm=(*range(rank - 2), rank - 1, rank - 2))


def adjoint(x: Any) -> Any:
    """Conjugate and transposed."""
    return transposed(x).conj()


def product(*matrices: Any) -> Any:
    made, *others = matrices
    for x in others:
        made = ops.matmul(made, x)
    return made


def _places(x: Any) -> tuple[Any, Any]:
    """The row and the column of every element."""
    rank = len(x.shape)
    with x.builder.on(x.aval.device):
        row, column = (ops.iota(shape=x.shape, dim=rank - back, dtype=int64, builder=x.builder) for back in (2, 1))
    return row, column


def on_diagonal(x: Any) -> Any:
    """Where an element is on the diagonal."""
    row, column = _places(x)
    return row.eq(column)


def lower(x: Any, k: int = 0) -> Any:
    """The elements with column - row at most k; else 0."""
    row, column = _places(x)
    return ops.select(column <= row + k, x, x.like(0))


def upper(x: Any, k: int = 0) -> Any:
    """The elements with column - row at least k; else 0."""
    row, column = _places(x)
    return ops.select(column >= row + k, x, x.like(0))


def diagonal(x: Any) -> Any:
    """The diagonals of square matrices, as vectors."""
    return ops.sum(ops.select(on_diagonal(x), x, x.like(0)), axes=(len(x.shape) - 1,))


def as_rows(v: Any, count: Any) -> Any:
    """`count` rows, each of which is the vector: element [i, j] is v[j]."""
    return ops.reshape(v, shape=(*v.shape[:-1], 1, v.shape[-1])).expand((*v.shape[:-1], count, v.shape[-1]))


def as_columns(v: Any, count: Any) -> Any:
    """`count` columns, each of which is the vector: element [i, j] is v[i]."""
    return ops.reshape(v, shape=(*v.shape, 1)).expand((*v.shape, count))


def diagonal_matrix(v: Any) -> Any:
    """Square matrices with the vectors as diagonals, else 0."""
    rows = as_rows(v, v.shape[-1])
    return ops.select(on_diagonal(rows), rows, rows.like(0))


def hermitian(x: Any) -> Any:
    """The part of a matrix that is its own adjoint."""
    return (x + adjoint(x)) * 0.5


def imaginary(x: Any) -> Any:
    """Complex numbers with these imaginary parts."""
    return ops.complex(x.like(0), x)


def of_any_phase(op: str, what: str, x: Any) -> Any:
    """The imaginary parts x of complex numbers that tell whether a loss depends on the phase of vectors: they must be 0 but for
    rounding, as PyTorch has it."""
    text = (
        f"is not 0: the {what} of complex numbers are determined up to a factor e^(i phi), and the loss depends on it. "
        "Make it independent of that, as abs() is."
    )
    return ops.check_range(
        x, low=-0.01, high=0.01, op=op, what="the gradient's imaginary part", text=text, error="RuntimeError"
    )


def total(*terms: Any) -> Any:
    """The sum of the terms that there are; None of none."""
    found = [t for t in terms if t is not None]
    made = found[0] if found else None
    for t in found[1:]:
        made = made + t
    return made
