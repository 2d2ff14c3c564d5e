"""Gamma, Chi2 and InverseGamma.

In: concentration and rate. Out: distributions over positive numbers. Next: `dirichlet.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from flambeau.distributions import constraints
from flambeau.distributions.distribution import ExponentialFamily
from flambeau.distributions.gamma_sampling import sample_log_gamma
from flambeau.distributions.transformed import TransformedDistribution
from flambeau.distributions.transforms import PowerTransform
from flambeau.distributions.utils import broadcast_all, fb
from flambeau.runtime.recorder import Tensor


class Gamma(ExponentialFamily):
    """The density rate**a x**(a - 1) exp(-rate x) / gamma(a), where a is the concentration."""

    arg_constraints: ClassVar[Any] = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True

    def __init__(self, concentration: Tensor | float, rate: Tensor | float, validate_args: bool | None = None) -> None:
        self.concentration, self.rate = broadcast_all(concentration, rate)
        super().__init__(self.concentration.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.rate

    @property
    def mode(self) -> Tensor:
        return ((self.concentration - 1) / self.rate).clamp(0, None)

    @property
    def variance(self) -> Tensor:
        return self.concentration / self.rate.square()

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        log_x = sample_log_gamma(self.concentration, self._extended_shape(sample_shape))
        return (log_x.exp() / self.rate).clamp(fb.finfo(log_x.dtype).tiny, None)

    def log_prob(self, value: Tensor) -> Tensor:
        value = self._checked(value)
        a, rate = self.concentration, self.rate
        return fb.xlogy(a, rate) + fb.xlogy(a - 1, value) - rate * value - a.lgamma()

    def entropy(self) -> Tensor:
        a = self.concentration
        return a - self.rate.log() + a.lgamma() + (1 - a) * a.digamma()

    def cdf(self, value: Tensor) -> Tensor:
        return fb.igamma(self.concentration, self.rate * self._checked(value))

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        return self.concentration - 1, -self.rate

    def _log_normalizer(self, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        return (x + 1).lgamma() - (x + 1) * (-y).log()


class Chi2(Gamma):
    """The sum of squares of `df` normal numbers: Gamma(df / 2, 1 / 2)."""

    arg_constraints: ClassVar[Any] = {"df": constraints.positive}

    def __init__(self, df: Tensor | float, validate_args: bool | None = None) -> None:
        half = (df if isinstance(df, Tensor) else fb.tensor(float(df))) * 0.5
        super().__init__(half, 0.5, validate_args)

    def _own_parameters(self) -> dict[str, Any]:
        return Gamma.arg_constraints

    @property
    def df(self) -> Tensor:
        """Degrees of freedom."""
        return self.concentration * 2


class InverseGamma(TransformedDistribution):
    """1 / x of x of Gamma(concentration, rate)."""

    arg_constraints: ClassVar[Any] = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(self, concentration: Tensor | float, rate: Tensor | float, validate_args: bool | None = None) -> None:
        super().__init__(Gamma(concentration, rate, validate_args), PowerTransform(-1.0), validate_args)

    @property
    def concentration(self) -> Tensor:
        """That of the Gamma."""
        return self.base_dist.concentration

    @property
    def rate(self) -> Tensor:
        """That of the Gamma, the scale of this."""
        return self.base_dist.rate

    @property
    def mean(self) -> Tensor:
        a = self.concentration
        return fb.where(a > 1, self.rate / (a - 1), fb.inf)

    @property
    def mode(self) -> Tensor:
        return self.rate / (self.concentration + 1)

    @property
    def variance(self) -> Tensor:
        a = self.concentration
        return fb.where(a > 2, self.rate.square() / ((a - 1).square() * (a - 2)), fb.inf)

    def entropy(self) -> Tensor:
        a = self.concentration
        return a + self.rate.log() + a.lgamma() - (1 + a) * a.digamma()
