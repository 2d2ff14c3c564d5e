"""Transforms of vectors and matrices: Softmax, StickBreaking, LowerCholesky, PositiveDefinite, CorrCholesky.

In: tensors whose last dimensions are an event. Out: points of a simplex, or matrices. Next: `transformed.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from flambeau.distributions import constraints
from flambeau.distributions.transform import Transform
from flambeau.distributions.utils import fb, tril_matrix_to_vec, vec_to_tril_matrix
from flambeau.runtime.recorder import Tensor

_MATRIX = constraints.independent(constraints.real, 2)


class SoftmaxTransform(Transform):
    """exp(x), normalized. Not bijective: its inverse is log(y)."""

    domain, codomain = constraints.real_vector, constraints.simplex

    def _call(self, x: Tensor) -> Tensor:
        return fb.softmax(x, -1)

    def _inverse(self, y: Tensor) -> Tensor:
        return y.log()


class StickBreakingTransform(Transform):
    """[..., n] numbers to points of a simplex in [..., n + 1]: each takes a share of what the ones before it have left.

    The share is sigmoid(x[i] - log(n - i)), so that zeros give the middle.
    """

    domain, codomain = constraints.real_vector, constraints.simplex
    bijective = True

    def _call(self, x: Tensor) -> Tensor:
        share = (x - _log_left(x)).sigmoid().clamp(fb.finfo(x.dtype).tiny, None)
        left = (1 - share).cumprod(-1)
        return fb.nn.functional.pad(share, (0, 1), value=1.0) * fb.nn.functional.pad(left, (1, 0), value=1.0)

    def _inverse(self, y: Tensor) -> Tensor:
        taken = y[..., :-1]
        left = (1 - taken.cumsum(-1)).clamp(fb.finfo(y.dtype).tiny, None)
        return taken.log() - left.log() + _log_left(taken)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        # dy[i] / dx[i] = left * share * (1 - share) = y[i] * (1 - share)
        moved = x - _log_left(x)
        return (y[..., :-1].log() - fb.nn.functional.softplus(moved)).sum(-1)

    def forward_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (*shape[:-1], shape[-1] + 1)

    def inverse_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (*shape[:-1], shape[-1] - 1)


def _log_left(x: Tensor) -> Tensor:
    """log(n), log(n - 1), ..., log(1) for x [..., n]."""
    return fb.arange(x.shape[-1], 0, -1, dtype=x.dtype, device=x.device).log()


class LowerCholeskyTransform(Transform):
    """Lower triangle of a matrix, with exp of the diagonal."""

    domain, codomain = _MATRIX, constraints.lower_cholesky

    def _call(self, x: Tensor) -> Tensor:
        return x.tril(-1) + x.diagonal(dim1=-2, dim2=-1).exp().diag_embed()

    def _inverse(self, y: Tensor) -> Tensor:
        return y.tril(-1) + y.diagonal(dim1=-2, dim2=-1).log().diag_embed()


class PositiveDefiniteTransform(Transform):
    """L L^T of the `LowerCholeskyTransform` of a matrix."""

    domain, codomain = _MATRIX, constraints.positive_definite

    def _call(self, x: Tensor) -> Tensor:
        factor = LowerCholeskyTransform()(x)
        return factor @ factor.mT

    def _inverse(self, y: Tensor) -> Tensor:
        return LowerCholeskyTransform().inv(fb.linalg.cholesky(y))


class CorrCholeskyTransform(Transform):
    """[..., n (n - 1) / 2] numbers to lower triangular factors [..., n, n] of correlation matrices.

    tanh of the numbers are the partial correlations below the diagonal, row by row; each takes the share tanh**2 of what is left
    of the row's length 1 (Stan Reference Manual, "Cholesky factors of correlation matrices").
    """

    domain, codomain = constraints.real_vector, constraints.corr_cholesky
    bijective = True

    def _call(self, x: Tensor) -> Tensor:
        eps = fb.finfo(x.dtype).eps
        partial = vec_to_tril_matrix(x.tanh().clamp(-1 + eps, 1 - eps), -1)
        left = (1 - partial * partial).sqrt().cumprod(-1)
        one = fb.eye(partial.shape[-1], dtype=x.dtype, device=x.device)
        return (partial + one) * fb.nn.functional.pad(left[..., :-1], (1, 0), value=1.0)

    def _inverse(self, y: Tensor) -> Tensor:
        left = 1 - (y * y).cumsum(-1)
        root = fb.nn.functional.pad(left[..., :-1], (1, 0), value=1.0).sqrt()
        return (tril_matrix_to_vec(y, -1) / tril_matrix_to_vec(root, -1)).atanh()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        # of y by the partial correlations: half the logarithm of what is left before each; of these by x: that of tanh
        left = 1 - (y * y).cumsum(-1)
        before = tril_matrix_to_vec(left, -2)
        stretch = (x + fb.nn.functional.softplus(-2 * x) - math.log(2.0)).sum(-1) * -2
        return stretch + before.log().sum(-1) * 0.5

    def forward_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        count = shape[-1]
        n = round((0.25 + 2 * count) ** 0.5 + 0.5)
        if n * (n - 1) // 2 != count:
            raise ValueError(f"[CorrCholeskyTransform] no matrix has {count} correlations. Pass n (n - 1) / 2.")
        return (*shape[:-1], n, n)

    def inverse_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        if len(shape) < 2 or shape[-1] != shape[-2]:
            raise ValueError(f"[CorrCholeskyTransform] shape {tuple(shape)} is of no square matrix. Pass one.")
        return (*shape[:-2], shape[-1] * (shape[-1] - 1) // 2)
