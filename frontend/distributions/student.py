"""StudentT and FisherSnedecor: quotients of normal and gamma distributed numbers.

In: degrees of freedom, place and scale. Out: distributions. Next: `bernoulli.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from flambeau.distributions import constraints
from flambeau.distributions.distribution import Distribution
from flambeau.distributions.gamma_sampling import sample_log_gamma
from flambeau.distributions.utils import broadcast_all, fb
from flambeau.runtime.recorder import Tensor


class StudentT(Distribution):
    """loc + scale z / sqrt(c / df), of a normal z and c of Chi2(df)."""

    arg_constraints: ClassVar[Any] = {
        "df": constraints.positive,
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = constraints.real
    has_rsample = True

    def __init__(
        self,
        df: Tensor | float,
        loc: Tensor | float = 0.0,
        scale: Tensor | float = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        self.df, self.loc, self.scale = broadcast_all(df, loc, scale)
        super().__init__(self.df.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        return fb.where(self.df > 1, self.loc, fb.nan)

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        df = self.df
        finite = self.scale.square() * df / (df - 2)
        return fb.where(df > 2, finite, fb.where(df > 1, fb.inf, fb.nan).to(finite.dtype))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = tuple(self._extended_shape(sample_shape))
        normal = fb.randn(shape, dtype=self.df.dtype, device=self.df.device)
        half = self.df * 0.5
        # sqrt(c / df) = sqrt(g / half) for g of Gamma(half, 1)
        root = (0.5 * (sample_log_gamma(half, shape) - half.log())).exp()
        return self.loc + self.scale * (normal / root)

    def log_prob(self, value: Tensor) -> Tensor:
        z = (self._checked(value) - self.loc) / self.scale
        return -0.5 * (self.df + 1) * (z.square() / self.df).log1p() - self._log_normalizer()

    def _log_normalizer(self) -> Tensor:
        df = self.df
        gammas = (0.5 * df).lgamma() - (0.5 * (df + 1)).lgamma()
        return self.scale.log() + 0.5 * df.log() + 0.5 * math.log(math.pi) + gammas

    def entropy(self) -> Tensor:
        df = self.df
        return self._log_normalizer() + 0.5 * (df + 1) * ((0.5 * (df + 1)).digamma() - (0.5 * df).digamma())


class FisherSnedecor(Distribution):
    """(c1 / df1) / (c2 / df2) of c1 and c2 of Chi2(df1) and Chi2(df2)."""

    arg_constraints: ClassVar[Any] = {"df1": constraints.positive, "df2": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(self, df1: Tensor | float, df2: Tensor | float, validate_args: bool | None = None) -> None:
        self.df1, self.df2 = broadcast_all(df1, df2)
        super().__init__(self.df1.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        return fb.where(self.df2 > 2, self.df2 / (self.df2 - 2), fb.nan)

    @property
    def mode(self) -> Tensor:
        a, b = self.df1, self.df2
        return fb.where(a > 2, (a - 2) / a * b / (b + 2), fb.nan)

    @property
    def variance(self) -> Tensor:
        a, b = self.df1, self.df2
        return fb.where(b > 4, 2 * b.square() * (a + b - 2) / (a * (b - 2).square() * (b - 4)), fb.nan)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        above, below = (sample_log_gamma(df * 0.5, shape) - df.log() for df in (self.df1, self.df2))
        return (above - below).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        value = self._checked(value)
        a, b = self.df1 * 0.5, self.df2 * 0.5
        ratio = self.df1 / self.df2
        gammas = (a + b).lgamma() - a.lgamma() - b.lgamma()
        return gammas + a * ratio.log() + (a - 1) * value.log() - (a + b) * (ratio * value).log1p()
