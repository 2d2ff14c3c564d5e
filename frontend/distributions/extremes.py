"""Gumbel, Pareto, GeneralizedPareto, Weibull and Kumaraswamy: powers and logarithms of uniform and exponential numbers.

In: places, scales and concentrations. Out: distributions. Next: `gamma.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from flambeau.distributions import constraints
from flambeau.distributions.continuous import Exponential, Uniform
from flambeau.distributions.distribution import Distribution
from flambeau.distributions.transformed import TransformedDistribution
from flambeau.distributions.transforms import AffineTransform, ExpTransform, PowerTransform
from flambeau.distributions.utils import EULER, broadcast_all, fb, uniform_inside
from flambeau.runtime.recorder import Tensor


class Gumbel(Distribution):
    """The distribution function exp(-exp(-(x - loc) / scale))."""

    arg_constraints: ClassVar[Any] = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True

    def __init__(self, loc: Tensor | float, scale: Tensor | float, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        return self.loc + self.scale * EULER

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def stddev(self) -> Tensor:
        return math.pi / math.sqrt(6) * self.scale

    @property
    def variance(self) -> Tensor:
        return self.stddev.square()

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.icdf(uniform_inside(self._extended_shape(sample_shape), self.loc))

    def log_prob(self, value: Tensor) -> Tensor:
        z = (self.loc - self._checked(value)) / self.scale
        return z - z.exp() - self.scale.log()

    def cdf(self, value: Tensor) -> Tensor:
        return (-((self.loc - self._checked(value)) / self.scale).exp()).exp()

    def icdf(self, value: Tensor) -> Tensor:
        return self.loc - self.scale * (-value.log()).log()

    def entropy(self) -> Tensor:
        return self.scale.log() + (1 + EULER)


class Pareto(TransformedDistribution):
    """The density alpha scale**alpha / x**(alpha + 1) of x from `scale`."""

    arg_constraints: ClassVar[Any] = {"alpha": constraints.positive, "scale": constraints.positive}

    def __init__(self, scale: Tensor | float, alpha: Tensor | float, validate_args: bool | None = None) -> None:
        self.scale, self.alpha = broadcast_all(scale, alpha)
        base = Exponential(self.alpha, validate_args)
        super().__init__(base, [ExpTransform(), AffineTransform(0, self.scale)], validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        shape = tuple(batch_shape)
        made = Pareto(self.scale.expand(shape), self.alpha.expand(shape), validate_args=False)
        made._validate_args = self._validate_args
        return made

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:  # type: ignore[override]
        """From the scale."""
        return constraints.greater_than_eq(self.scale)

    @property
    def mean(self) -> Tensor:
        a = self.alpha.clamp(1, None)
        return a * self.scale / (a - 1)

    @property
    def mode(self) -> Tensor:
        return self.scale

    @property
    def variance(self) -> Tensor:
        a = self.alpha.clamp(2, None)
        return self.scale.square() * a / ((a - 1).square() * (a - 2))

    def entropy(self) -> Tensor:
        return (self.scale / self.alpha).log() + 1 + self.alpha.reciprocal()


class Weibull(TransformedDistribution):
    """scale e**(1 / concentration) of exponential numbers e."""

    arg_constraints: ClassVar[Any] = {"scale": constraints.positive, "concentration": constraints.positive}
    support = constraints.positive

    def __init__(self, scale: Tensor | float, concentration: Tensor | float, validate_args: bool | None = None) -> None:
        self.scale, self.concentration = broadcast_all(scale, concentration)
        base = Exponential(fb.ones_like(self.scale), validate_args)
        power = PowerTransform(self.concentration.reciprocal())
        super().__init__(base, [power, AffineTransform(0, self.scale)], validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        shape = tuple(batch_shape)
        made = Weibull(self.scale.expand(shape), self.concentration.expand(shape), validate_args=False)
        made._validate_args = self._validate_args
        return made

    @property
    def mean(self) -> Tensor:
        return self.scale * (1 + self.concentration.reciprocal()).lgamma().exp()

    @property
    def mode(self) -> Tensor:
        k = self.concentration
        return fb.where(k > 1, self.scale * ((k - 1).clamp(0, None) / k) ** k.reciprocal(), 0.0)

    @property
    def variance(self) -> Tensor:
        inverse = self.concentration.reciprocal()
        second = (1 + 2 * inverse).lgamma().exp() - (2 * (1 + inverse).lgamma()).exp()
        return self.scale.square() * second

    def entropy(self) -> Tensor:
        inverse = self.concentration.reciprocal()
        return EULER * (1 - inverse) + (self.scale * inverse).log() + 1


class Kumaraswamy(TransformedDistribution):
    """The distribution function 1 - (1 - x**concentration1)**concentration0 between 0 and 1."""

    arg_constraints: ClassVar[Any] = {"concentration1": constraints.positive, "concentration0": constraints.positive}
    support = constraints.unit_interval
    has_rsample = True

    def __init__(
        self, concentration1: Tensor | float, concentration0: Tensor | float, validate_args: bool | None = None
    ) -> None:
        self.concentration1, self.concentration0 = broadcast_all(concentration1, concentration0)
        like, eps = self.concentration0, fb.finfo(self.concentration0.dtype).eps
        # away from 0 and 1, where the powers' logarithms have no number
        base = Uniform(fb.full_like(like, eps), fb.full_like(like, 1 - eps), validate_args=False)
        transforms = [
            PowerTransform(self.concentration0.reciprocal()),
            AffineTransform(1.0, -1.0),
            PowerTransform(self.concentration1.reciprocal()),
        ]
        super().__init__(base, transforms, validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        shape = tuple(batch_shape)
        made = Kumaraswamy(self.concentration1.expand(shape), self.concentration0.expand(shape), validate_args=False)
        made._validate_args = self._validate_args
        return made

    def _moment(self, n: int) -> Tensor:
        """E(x**n) = b B(1 + n / a, b)."""
        a, b = self.concentration1, self.concentration0
        first = 1 + n / a
        return (b.log() + first.lgamma() + b.lgamma() - (first + b).lgamma()).exp()

    @property
    def mean(self) -> Tensor:
        return self._moment(1)

    @property
    def mode(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        found = ((a - 1) / (a * b - 1)) ** a.reciprocal()
        return fb.where((a < 1) | (b < 1), fb.nan, found)

    @property
    def variance(self) -> Tensor:
        return self._moment(2) - self.mean.square()

    def entropy(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        harmonic = (b + 1).digamma() + EULER
        return 1 - b.reciprocal() + (1 - a.reciprocal()) * harmonic - a.log() - b.log()


class GeneralizedPareto(Distribution):
    """The distribution function 1 - (1 + concentration (x - loc) / scale)**(-1 / concentration), of excesses over a threshold.

    A concentration of 0 is the exponential distribution; below 0 the support ends at loc - scale / concentration.
    """

    arg_constraints: ClassVar[Any] = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "concentration": constraints.real,
    }
    has_rsample = True

    def __init__(
        self,
        loc: Tensor | float,
        scale: Tensor | float,
        concentration: Tensor | float,
        validate_args: bool | None = None,
    ) -> None:
        self.loc, self.scale, self.concentration = broadcast_all(loc, scale, concentration)
        super().__init__(self.loc.shape, (), validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:  # type: ignore[override]
        """From loc, to where the density ends."""
        end = self.loc - self.scale / self.concentration
        return constraints.interval(self.loc, fb.where(self.concentration < 0, end, fb.inf))

    def _parts(self) -> tuple[Tensor, Tensor]:
        """Whether it is exponential, and the concentration, or 1 there."""
        is_zero = self.concentration.abs() < fb.finfo(self.loc.dtype).eps * 10
        return is_zero, fb.where(is_zero, 1.0, self.concentration)

    def _log_survival(self, value: Tensor) -> Tensor:
        z = (value - self.loc) / self.scale
        is_zero, k = self._parts()
        return fb.where(is_zero, -z, -(k * z).log1p() / k)

    @property
    def mean(self) -> Tensor:
        k = self.concentration
        return fb.where(k < 1, self.loc + self.scale / (1 - k), fb.inf)

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        k = self.concentration
        return fb.where(k < 0.5, self.scale.square() / ((1 - k).square() * (1 - 2 * k)), fb.inf)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.icdf(uniform_inside(self._extended_shape(sample_shape), self.loc))

    def log_prob(self, value: Tensor) -> Tensor:
        return (1 + self.concentration) * self._log_survival(self._checked(value)) - self.scale.log()

    def cdf(self, value: Tensor) -> Tensor:
        return -self._log_survival(self._checked(value)).expm1()

    def icdf(self, value: Tensor) -> Tensor:
        log_survival = (-value).log1p()
        is_zero, k = self._parts()
        return self.loc + self.scale * fb.where(is_zero, -log_survival, (-k * log_survival).expm1() / k)

    def entropy(self) -> Tensor:
        return self.scale.log() + self.concentration + 1
