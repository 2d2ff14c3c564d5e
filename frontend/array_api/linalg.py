"""The standard's linear algebra: `linalg`, and `matmul`, `matrix_transpose`, `tensordot` and `vecdot` of the main namespace.

In: arrays of matrices. Out: arrays, named tuples of them. Next: `functions/factors.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from flambeau.array_api.operands import axes_of, common, fb
from flambeau.declarations import names
from flambeau.dialects.dtypes import DType
from flambeau.runtime.recorder import Tensor

_lin: Any = SimpleNamespace(**names("linalg"))

cholesky, det, inv, matrix_power, qr, slogdet, svdvals, eigvalsh, eigh, diagonal = (
    *(_lin.cholesky, _lin.det, _lin.inv, _lin.matrix_power, _lin.qr, _lin.slogdet, _lin.svdvals),
    *(_lin.eigvalsh, _lin.eigh, _lin.diagonal),
)

__all__ = [
    *("cholesky", "cross", "det", "diagonal", "eigh", "eigvalsh", "inv", "matmul", "matrix_norm", "matrix_power"),
    *("matrix_rank", "matrix_transpose", "outer", "pinv", "qr", "slogdet", "solve", "svd", "svdvals", "tensordot"),
    *("trace", "vecdot", "vector_norm"),
]


class svd_result(NamedTuple):
    """What `svd` gives."""

    U: Tensor
    S: Tensor
    Vh: Tensor


def matmul(x1: Tensor, x2: Tensor, /) -> Tensor:
    """The products of matrices, in their common dtype."""
    return fb.matmul(*common(x1, x2))


def matrix_transpose(x: Tensor, /) -> Tensor:
    """The last two axes exchanged."""
    return fb.transpose(x, -1, -2)


def tensordot(x1: Tensor, x2: Tensor, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Tensor:
    """Products added up over axes: the last `axes` of x1 and the first ones of x2, or those that two sequences name."""
    return fb.tensordot(*common(x1, x2), axes)


def vecdot(x1: Tensor, x2: Tensor, /, *, axis: int = -1) -> Tensor:
    """The dot products of vectors along an axis, counted from the end, of both; of complex ones the first conjugated."""
    x1, x2 = common(x1, x2)
    if axis >= 0 or axis < -min(x1.ndim, x2.ndim):
        raise IndexError(
            f"[vecdot] axis {axis} of arrays of {x1.ndim} and {x2.ndim} dimensions. Count from the end of both."
        )
    if x1.shape[axis] != x2.shape[axis]:
        raise ValueError(f"[vecdot] vectors of {x1.shape[axis]} and {x2.shape[axis]} elements. Pass equally many.")
    x1, x2 = fb.movedim(x1, axis, -1), fb.movedim(x2, axis, -1)
    return fb.matmul(fb.unsqueeze(fb.conj(x1), -2), fb.unsqueeze(x2, -1)).squeeze((-1, -2))


def cross(x1: Tensor, x2: Tensor, /, *, axis: int = -1) -> Tensor:
    """The vectors at a right angle to both, of vectors of three elements along an axis."""
    return _lin.cross(*common(x1, x2), dim=axis)


def outer(x1: Tensor, x2: Tensor, /) -> Tensor:
    """The products of each element of one vector with each of another."""
    return fb.outer(*common(x1, x2))


def solve(x1: Tensor, x2: Tensor, /) -> Tensor:
    """What x1 times is x2: a vector where x2 has one axis, else matrices."""
    x1, x2 = common(x1, x2)
    if x2.ndim == 1:
        return _lin.solve(x1, x2.unsqueeze(-1)).squeeze(-1)
    batch = fb.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
    return _lin.solve(x1.expand(*batch, *x1.shape[-2:]), x2.expand(*batch, *x2.shape[-2:]))


def svd(x: Tensor, /, *, full_matrices: bool = True) -> svd_result:
    """U, S, Vh with `x == U @ diag(S) @ Vh`."""
    return svd_result(*_lin.svd(x, full_matrices))


def pinv(x: Tensor, /, *, rtol: Any = None) -> Tensor:
    """The pseudo-inverses, without singular values below `rtol` times the largest one."""
    return _lin.pinv(x, rtol=rtol)


def matrix_rank(x: Tensor, /, *, rtol: Any = None) -> Tensor:
    """How many singular values are above `rtol` times the largest one."""
    return _lin.matrix_rank(x, rtol=rtol)


def matrix_norm(x: Tensor, /, *, keepdims: bool = False, ord: Any = "fro") -> Tensor:
    """A norm of matrices."""
    return _lin.matrix_norm(x, ord, keepdim=keepdims)


def trace(x: Tensor, /, *, offset: int = 0, dtype: DType | None = None) -> Tensor:
    """The sum of a diagonal of each matrix; of integers in int64 unless a dtype is named."""
    return fb.sum(fb.diagonal(x, offset, -2, -1), -1, dtype=dtype)


def vector_norm(
    x: Tensor, /, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False, ord: Any = 2
) -> Tensor:
    """A norm of vectors: of what lies along axes, or of all elements."""
    if axis == ():
        return fb.abs(x) if ord else fb.ne(x, 0).to(x.dtype)
    return _lin.vector_norm(x, ord, None if axis is None else axes_of(axis, x), keepdims)
