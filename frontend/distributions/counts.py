"""Binomial, Poisson and NegativeBinomial.

In: counts of trials, probabilities, rates. Out: distributions over whole numbers. Next: `relaxed.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from flambeau.autograd import no_grad
from flambeau.distributions import constraints
from flambeau.distributions.bernoulli import _OfProbability, one_of
from flambeau.distributions.distribution import ExponentialFamily
from flambeau.distributions.gamma import Gamma
from flambeau.distributions.utils import broadcast_all, fb
from flambeau.runtime.recorder import Tensor


class _OfTrials(_OfProbability):
    """Distributions of `total_count` and a probability."""

    def __init__(
        self,
        total_count: Tensor | float,
        probs: Tensor | float | None = None,
        logits: Tensor | float | None = None,
        validate_args: bool | None = None,
    ) -> None:
        one_of(type(self).__name__, probs, logits)
        if logits is None:
            self.total_count, self.probs = _common(total_count, probs)
        else:
            self.total_count, self.logits = _common(total_count, logits)
        super().__init__(self.total_count.shape, (), validate_args)


def _common(total_count: Any, parameter: Any) -> tuple[Tensor, ...]:
    """Both in one shape, and the count in the dtype of the parameter."""
    count, parameter = broadcast_all(total_count, parameter)
    return count.to(parameter.dtype), parameter


class Binomial(_OfTrials):
    """How many of `total_count` trials succeed."""

    arg_constraints: ClassVar[Any] = {
        "total_count": constraints.nonnegative_integer,
        "probs": constraints.unit_interval,
        "logits": constraints.real,
    }
    has_enumerate_support = True

    def __init__(
        self,
        total_count: Tensor | int = 1,
        probs: Tensor | float | None = None,
        logits: Tensor | float | None = None,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(total_count, probs, logits, validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:  # type: ignore[override]
        """From 0 to the count."""
        return constraints.integer_interval(0, self.total_count)

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.probs

    @property
    def mode(self) -> Tensor:
        return ((self.total_count + 1) * self.probs).floor().clamp(None, self.total_count)

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = tuple(self._extended_shape(sample_shape))
        with no_grad():
            return fb.binomial(self.total_count.expand(shape), self.probs.expand(shape))

    def log_prob(self, value: Tensor) -> Tensor:
        value, n, logits = self._checked(value), self.total_count, self.logits
        orders = (n + 1).lgamma() - (value + 1).lgamma() - (n - value + 1).lgamma()
        # log((1 - p)**n) by logits: -n softplus(logits), without overflow
        return orders + value * logits - n * (logits.clamp(0, None) + (-logits.abs()).exp().log1p())

    def _count(self) -> int:
        """The count, one for all. It is read."""
        most = int(self.total_count.max().item())
        if int(self.total_count.min().item()) != most:
            raise NotImplementedError("[Binomial] the counts differ, so the values do. Use one count for all.")
        return most

    def entropy(self) -> Tensor:
        values = self.enumerate_support(False)
        log_p = Binomial(self.total_count, logits=self.logits, validate_args=False).log_prob(values)
        return -(log_p.exp() * log_p).sum(0)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        n = 1 + self._count()
        values = fb.arange(n, dtype=self._given().dtype, device=self._given().device)
        values = values.reshape(n, *(1,) * len(self.batch_shape))
        return values.expand((n, *self.batch_shape)) if expand else values


class NegativeBinomial(_OfTrials):
    """How many trials succeed before `total_count` have failed."""

    arg_constraints: ClassVar[Any] = {
        "total_count": constraints.greater_than_eq(0),
        "probs": constraints.half_open_interval(0.0, 1.0),
        "logits": constraints.real,
    }
    support = constraints.nonnegative_integer

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.logits.exp()

    @property
    def mode(self) -> Tensor:
        return ((self.total_count - 1) * self.logits.exp()).floor().clamp(0.0, None)

    @property
    def variance(self) -> Tensor:
        return self.mean / fb.sigmoid(-self.logits)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with no_grad():
            rates = Gamma(self.total_count, (-self.logits).exp(), validate_args=False).sample(sample_shape)
            return fb.poisson(rates)

    def log_prob(self, value: Tensor) -> Tensor:
        value, n, logsigmoid = self._checked(value), self.total_count, fb.nn.functional.logsigmoid
        chances = n * logsigmoid(-self.logits) + value * logsigmoid(self.logits)
        orders = (n + value).lgamma() - (1 + value).lgamma() - n.lgamma()
        return chances + fb.where(n + value == 0, 0.0, orders)


class Poisson(ExponentialFamily):
    """The probability rate**k exp(-rate) / k! of k from 0."""

    arg_constraints: ClassVar[Any] = {"rate": constraints.nonnegative}
    support = constraints.nonnegative_integer

    def __init__(self, rate: Tensor | float, validate_args: bool | None = None) -> None:
        (self.rate,) = broadcast_all(rate)
        super().__init__(self.rate.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        return self.rate

    @property
    def mode(self) -> Tensor:
        return self.rate.floor()

    @property
    def variance(self) -> Tensor:
        return self.rate

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with no_grad():
            return fb.poisson(self.rate.expand(tuple(self._extended_shape(sample_shape))))

    def log_prob(self, value: Tensor) -> Tensor:
        rate, value = broadcast_all(self.rate, self._checked(value))
        return fb.xlogy(value, rate) - rate - (value + 1).lgamma()

    def entropy(self) -> Tensor:
        raise self._missing("entropy")

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        return (self.rate.log(),)

    def _log_normalizer(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return x.exp()
