"""MultivariateNormal and LowRankMultivariateNormal: normal vectors.

In: means and covariances, given in one of several ways. Out: distributions over vectors. Next: `kl_pairs.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from flambeau.distributions import constraints
from flambeau.distributions.distribution import Distribution
from flambeau.distributions.utils import fb, lazy_property
from flambeau.runtime.recorder import Tensor


def half_log_det(factor: Tensor) -> Tensor:
    """log of the product of the diagonal of lower triangular factors [..., n, n]."""
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def squared_length(factor: Tensor, x: Tensor) -> Tensor:
    """|L^-1 x|**2 of vectors [..., n], for lower triangular L [..., n, n]; both broadcast.

    The vectors that share a factor are columns of one right-hand side, so that no factor is read more than once.
    """
    shape = fb.broadcast_shapes(tuple(factor.shape[:-1]), tuple(x.shape))
    extra = len(shape) - (factor.ndim - 1)
    batch, n = shape[extra:-1], shape[-1]
    columns = x.expand(shape).reshape((math.prod(shape[:extra]), *batch, n))
    solved = fb.linalg.solve_triangular(factor.expand((*batch, n, n)), columns.movedim(0, -1), upper=False)
    return solved.square().sum(-2).movedim(-1, 0).reshape(tuple(shape[:-1]))


def cholesky_of(name: str, matrix: Tensor) -> Tensor:
    """The Cholesky factor of covariances that are given by `name`, of the shape in which the matrix was given."""
    if name == "scale_tril":
        return matrix
    if name == "covariance_matrix":
        return fb.linalg.cholesky(matrix)
    # The inverse of the precision P is L L^T with L^-T the factor of P turned around both ways, so no inverse is factored.
    turned = fb.linalg.cholesky(matrix.flip((-2, -1))).flip((-2, -1)).mT
    one = fb.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return fb.linalg.solve_triangular(turned, one.expand(turned.shape), upper=False)


class ByCovariance(Distribution):
    """What has covariances [..., n, n], given as themselves, their inverses (precisions), or their lower triangular Cholesky
    factors."""

    _matrices: ClassVar[Any] = {
        "covariance_matrix": constraints.positive_definite,
        "precision_matrix": constraints.positive_definite,
        "scale_tril": constraints.lower_cholesky,
    }
    _unbroadcasted_scale_tril: Tensor

    def _begin(
        self, name: str, matrix: Tensor, batch: Sequence[int], event: Sequence[int], validate_args: bool | None
    ) -> None:
        """`Distribution.__init__`, of the matrices that are given by `name`; other parameters are there."""
        if self._validate_args if validate_args is None else validate_args:  # once, not for every place of the batch
            constraint = self._matrices[name]
            matrix = self._holding(name, matrix, constraint, f"does not satisfy {constraint!r}. Pass matrices that do.")
        self._unbroadcasted_scale_tril = cholesky_of(name, matrix)
        super().__init__(batch, event, validate_args)
        self.__dict__[name] = self._whole(matrix)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        new = self._instance_of(_instance)
        new._unbroadcasted_scale_tril = self._unbroadcasted_scale_tril
        return super().expand(batch_shape, new)

    def _whole(self, matrix: Tensor) -> Tensor:
        return matrix.expand((*self.batch_shape, *matrix.shape[-2:]))

    @lazy_property
    def scale_tril(self) -> Tensor:
        """The lower triangular Cholesky factor of the covariance."""
        return self._whole(self._unbroadcasted_scale_tril)

    @lazy_property
    def covariance_matrix(self) -> Tensor:
        """The covariance."""
        return self._whole(self._unbroadcasted_scale_tril @ self._unbroadcasted_scale_tril.mT)

    @lazy_property
    def precision_matrix(self) -> Tensor:
        """Its inverse."""
        return self._whole(fb.cholesky_inverse(self._unbroadcasted_scale_tril))


class MultivariateNormal(ByCovariance):
    """Normal vectors of mean `loc` [..., n] and a covariance [..., n, n]: itself, its inverse (the precision), or its lower
    triangular Cholesky factor. Raises ValueError unless one of the three is given."""

    arg_constraints: ClassVar[Any] = {"loc": constraints.real_vector, **ByCovariance._matrices}
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        loc: Tensor,
        covariance_matrix: Tensor | None = None,
        precision_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        given = zip(self._matrices, (covariance_matrix, precision_matrix, scale_tril), strict=True)
        found = {name: matrix for name, matrix in given if matrix is not None}
        if len(found) != 1 or loc.ndim < 1:
            raise ValueError(
                f"[MultivariateNormal] loc has {loc.ndim} dimensions, and {len(found)} of covariance_matrix, precision_matrix and "
                "scale_tril are given. Pass a vector and one of the three."
            )
        ((name, matrix),) = found.items()
        if matrix.ndim < 2:
            raise ValueError(f"[MultivariateNormal] {name} has {matrix.ndim} dimensions. Pass a matrix.")
        batch = tuple(fb.broadcast_shapes(tuple(matrix.shape[:-2]), tuple(loc.shape[:-1])))
        self.loc = loc.expand((*batch, loc.shape[-1]))
        self._begin(name, matrix, batch, loc.shape[-1:], validate_args)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self._unbroadcasted_scale_tril.square().sum(-1).expand(self.loc.shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        drawn = fb.randn(tuple(self._extended_shape(sample_shape)), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + (self._unbroadcasted_scale_tril @ drawn.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        factor = self._unbroadcasted_scale_tril
        distance = squared_length(factor, self._checked(value) - self.loc)
        n = self.event_shape[0]
        return -0.5 * (n * math.log(2 * math.pi) + distance) - half_log_det(factor)

    def entropy(self) -> Tensor:
        found = 0.5 * self.event_shape[0] * (1 + math.log(2 * math.pi)) + half_log_det(self._unbroadcasted_scale_tril)
        return found.expand(tuple(self.batch_shape))


class LowRankMultivariateNormal(Distribution):
    """Normal vectors of mean `loc` [..., n] and covariance W W^T + diagonal D, of `cov_factor` W [..., n, k] and `cov_diag` D
    [..., n].

    With the small matrix C = I + W^T D^-1 W, log det and inverse of the covariance cost n k**2 (the matrix determinant lemma and
    Woodbury's formula).
    """

    arg_constraints: ClassVar[Any] = {
        "loc": constraints.real_vector,
        "cov_factor": constraints.independent(constraints.real, 2),
        "cov_diag": constraints.independent(constraints.positive, 1),
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Tensor, cov_factor: Tensor, cov_diag: Tensor, validate_args: bool | None = None) -> None:
        if loc.ndim < 1 or cov_factor.ndim < 2 or cov_diag.ndim < 1 or cov_factor.shape[-2] != loc.shape[-1]:
            raise ValueError(
                f"[LowRankMultivariateNormal] loc, cov_factor and cov_diag have shapes {loc.shape}, {cov_factor.shape} and "
                f"{cov_diag.shape}. Pass [n], [n, k] and [n] after their batch."
            )
        n, k = cov_factor.shape[-2:]
        batch = tuple(
            fb.broadcast_shapes(tuple(loc.shape[:-1]), tuple(cov_factor.shape[:-2]), tuple(cov_diag.shape[:-1]))
        )
        self.loc, self.cov_diag = loc.expand((*batch, n)), cov_diag.expand((*batch, n))
        self.cov_factor = cov_factor.expand((*batch, n, k))
        super().__init__(batch, (n,), validate_args)

    @lazy_property
    def _capacitance_tril(self) -> Tensor:
        """The Cholesky factor of C."""
        w = self.cov_factor
        inner = w.mT @ (w / self.cov_diag.unsqueeze(-1))
        return fb.linalg.cholesky(inner + fb.eye(w.shape[-1], dtype=w.dtype, device=w.device))

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.cov_factor.square().sum(-1) + self.cov_diag

    @lazy_property
    def covariance_matrix(self) -> Tensor:
        """W W^T + D."""
        return self.cov_factor @ self.cov_factor.mT + self.cov_diag.diag_embed()

    @lazy_property
    def scale_tril(self) -> Tensor:
        """The lower triangular Cholesky factor of the covariance."""
        return fb.linalg.cholesky(self.covariance_matrix)

    @lazy_property
    def precision_matrix(self) -> Tensor:
        """D^-1 - D^-1 W C^-1 W^T D^-1."""
        scaled = self.cov_factor.mT / self.cov_diag.unsqueeze(-2)
        inner = fb.linalg.solve_triangular(self._capacitance_tril, scaled, upper=False)
        return self.cov_diag.reciprocal().diag_embed() - inner.mT @ inner

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = tuple(self._extended_shape(sample_shape))
        dtype, device = self.loc.dtype, self.loc.device
        low = fb.randn((*shape[:-1], self.cov_factor.shape[-1]), dtype=dtype, device=device)
        own = fb.randn(shape, dtype=dtype, device=device)
        return self.loc + (self.cov_factor @ low.unsqueeze(-1)).squeeze(-1) + self.cov_diag.sqrt() * own

    def log_prob(self, value: Tensor) -> Tensor:
        x = self._checked(value) - self.loc
        inner = (self.cov_factor.mT @ (x / self.cov_diag).unsqueeze(-1)).squeeze(-1)
        distance = (x.square() / self.cov_diag).sum(-1) - squared_length(self._capacitance_tril, inner)
        return -0.5 * (self.event_shape[0] * math.log(2 * math.pi) + self._log_det() + distance)

    def _log_det(self) -> Tensor:
        return 2 * half_log_det(self._capacitance_tril) + self.cov_diag.log().sum(-1)

    def entropy(self) -> Tensor:
        return 0.5 * (self.event_shape[0] * (1 + math.log(2 * math.pi)) + self._log_det())
