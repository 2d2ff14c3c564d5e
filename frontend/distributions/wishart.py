"""Wishart, over symmetric positive definite matrices.

In: degrees of freedom and a matrix, given in one of several ways. Out: a distribution over matrices. Next: `multivariate.py`, whose
ways of giving a matrix these are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flambeau.distributions import constraints
from flambeau.distributions.distribution import ExponentialFamily
from flambeau.distributions.gamma import Chi2
from flambeau.distributions.multivariate import ByCovariance, half_log_det
from flambeau.distributions.utils import fb
from flambeau.runtime.recorder import Tensor


class Wishart(ByCovariance, ExponentialFamily):
    """The sums of x x^T of `df` normal vectors x of mean 0 and a covariance [..., p, p]: itself, its inverse (the precision), or
    its lower triangular Cholesky factor; `df` is any number above p - 1.

    Raises ValueError unless one of the three is given, as matrices.
    """

    support = constraints.positive_definite
    has_rsample = True

    def __init__(
        self,
        df: Tensor | float,
        covariance_matrix: Tensor | None = None,
        precision_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        given = zip(self._matrices, (covariance_matrix, precision_matrix, scale_tril), strict=True)
        found = {name: matrix for name, matrix in given if matrix is not None}
        if len(found) != 1:
            raise ValueError(
                f"[Wishart] {len(found)} of covariance_matrix, precision_matrix and scale_tril are given. Pass one of the three."
            )
        ((name, matrix),) = found.items()
        if matrix.ndim < 2:
            raise ValueError(f"[Wishart] {name} has {matrix.ndim} dimensions. Pass a matrix.")
        p = matrix.shape[-1]
        df = df if isinstance(df, Tensor) else fb.tensor(float(df), dtype=matrix.dtype, device=matrix.device)
        batch = tuple(fb.broadcast_shapes(tuple(matrix.shape[:-2]), tuple(df.shape)))
        self.df = df.expand(batch)
        self._begin(name, matrix, batch, (p, p), validate_args)

    @property
    def arg_constraints(self) -> Any:  # type: ignore[override]
        """The constraints of the parameters: that of `df` depends on the size of the matrices."""
        return {**self._matrices, "df": constraints.greater_than(self.event_shape[-1] - 1)}

    @property
    def mean(self) -> Tensor:
        return self.df[..., None, None] * self.covariance_matrix

    @property
    def mode(self) -> Tensor:
        """NaN where `df` is not above p + 1."""
        factor = self.df - self.event_shape[-1] - 1
        return fb.where(factor > 0, factor, math.nan)[..., None, None] * self.covariance_matrix

    @property
    def variance(self) -> Tensor:
        """Of each element."""
        v = self.covariance_matrix
        diagonal = v.diagonal(dim1=-2, dim2=-1)
        return self.df[..., None, None] * (v.square() + diagonal.unsqueeze(-1) * diagonal.unsqueeze(-2))

    def rsample(self, sample_shape: Sequence[int] = (), max_try_correction: int | None = None) -> Tensor:
        """Bartlett's decomposition: L A A^T L^T of a triangular A with roots of chi-squared numbers on the diagonal, normal ones
        below. Nothing is drawn again (`max_try_correction` changes nothing): a sample may be singular by rounding."""
        like, shape = self._unbroadcasted_scale_tril, tuple(self._extended_shape(sample_shape))
        steps = fb.arange(shape[-1], dtype=like.dtype, device=like.device)
        squares = Chi2(self.df.unsqueeze(-1) - steps, validate_args=False).rsample(sample_shape)
        roots = squares.sqrt().clamp(fb.finfo(like.dtype).eps, None)
        below = fb.randn(shape, dtype=like.dtype, device=like.device).tril(-1)
        factor = like @ (below + roots.diag_embed())
        return factor @ factor.mT

    def log_prob(self, value: Tensor) -> Tensor:
        value, factor, p = self._checked(value), self._unbroadcasted_scale_tril, self.event_shape[-1]
        shape = tuple(fb.broadcast_shapes(tuple(value.shape), tuple(self._extended_shape())))
        trace = fb.cholesky_solve(value.expand(shape), factor.expand(shape)).diagonal(dim1=-2, dim2=-1).sum(-1)
        log_det = fb.linalg.slogdet(value)[1]
        scale = -self.df * (p * math.log(2) / 2 + half_log_det(factor))
        return scale - fb.mvlgamma(self.df / 2, p) + (self.df - p - 1) / 2 * log_det - trace / 2

    def entropy(self) -> Tensor:
        p = self.event_shape[-1]
        steps = fb.arange(p, dtype=self.df.dtype, device=self.df.device) / 2
        slope = fb.digamma((self.df / 2).unsqueeze(-1) - steps).sum(-1)
        scale = (p + 1) * (p * math.log(2) / 2 + half_log_det(self._unbroadcasted_scale_tril))
        return scale + fb.mvlgamma(self.df / 2, p) - (self.df - p - 1) / 2 * slope + self.df * p / 2
