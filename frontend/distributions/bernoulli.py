"""Bernoulli, ContinuousBernoulli and Geometric: distributions of one probability, given as `probs` or as `logits`.

In: a probability. Out: distributions. Next: `categorical.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from flambeau.autograd import no_grad
from flambeau.distributions import constraints
from flambeau.distributions.distribution import Distribution, ExponentialFamily
from flambeau.distributions.utils import (
    broadcast_all,
    clamp_probs,
    fb,
    lazy_property,
    logits_to_probs,
    probs_to_logits,
    uniform_inside,
)
from flambeau.runtime.recorder import Tensor


def one_of(name: str, probs: Any, logits: Any) -> None:
    """Raises ValueError unless one of the two is given."""
    if (probs is None) == (logits is None):
        given = "neither" if probs is None else "both"
        raise ValueError(f"[{name}] {given} of probs and logits are given. Pass one of them.")


class _OfProbability(Distribution):
    """A distribution of a probability: `probs`, or log odds `logits`, each computed from the other when it is read."""

    arg_constraints: ClassVar[Any] = {"probs": constraints.unit_interval, "logits": constraints.real}

    def _set(self, probs: Tensor | float | None, logits: Tensor | float | None) -> Tensor:
        one_of(type(self).__name__, probs, logits)
        if logits is None:
            (self.probs,) = broadcast_all(probs)  # type: ignore[arg-type]
            return self.probs
        (self.logits,) = broadcast_all(logits)
        return self.logits

    def _given(self) -> Tensor:
        """The parameter, whichever it is."""
        return self.__dict__["probs"] if "probs" in self.__dict__ else self.__dict__["logits"]

    @property
    def param_shape(self) -> Any:
        """The shape of the parameter."""
        return self._given().shape

    @lazy_property
    def logits(self) -> Tensor:
        """Log odds."""
        return probs_to_logits(self.probs, is_binary=True)

    @lazy_property
    def probs(self) -> Tensor:
        """Probabilities."""
        return logits_to_probs(self.logits, is_binary=True)


class Bernoulli(_OfProbability, ExponentialFamily):
    """1 with a probability, else 0."""

    support = constraints.boolean
    has_enumerate_support = True

    def __init__(
        self,
        probs: Tensor | float | None = None,
        logits: Tensor | float | None = None,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(self._set(probs, logits).shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def mode(self) -> Tensor:
        found = (self.probs >= 0.5).to(self.probs.dtype)
        return fb.where(self.probs == 0.5, fb.nan, found)

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with no_grad():
            return fb.bernoulli(self.probs.expand(self._extended_shape(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        logits, value = broadcast_all(self.logits, self._checked(value))
        return -_cross_entropy(logits, value)

    def entropy(self) -> Tensor:
        return _cross_entropy(self.logits, self.probs)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        values = fb.arange(2, dtype=self._given().dtype, device=self._given().device)
        values = values.reshape(2, *(1,) * len(self.batch_shape))
        return values.expand((2, *self.batch_shape)) if expand else values

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        return (self.logits,)

    def _log_normalizer(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return x.exp().log1p()


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return fb.nn.functional.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")


class Geometric(_OfProbability):
    """How many trials fail, each of which succeeds with a probability, before the first success."""

    support = constraints.nonnegative_integer

    def __init__(
        self,
        probs: Tensor | float | None = None,
        logits: Tensor | float | None = None,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(self._set(probs, logits).shape, (), validate_args)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if "probs" in self.__dict__:
            self.probs = self._holding("probs", self.probs, constraints.positive, "is 0. Pass others.")

    @property
    def mean(self) -> Tensor:
        return 1.0 / self.probs - 1.0

    @property
    def mode(self) -> Tensor:
        return fb.zeros_like(self.probs)

    @property
    def variance(self) -> Tensor:
        return (1.0 / self.probs - 1.0) / self.probs

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with no_grad():
            u = uniform_inside(self._extended_shape(sample_shape), self.probs)
            return (u.log() / (-self.probs).log1p()).floor()

    def log_prob(self, value: Tensor) -> Tensor:
        value, probs = broadcast_all(self._checked(value), self.probs)
        failing = fb.where((probs == 1) & (value == 0), 0.0, -probs)
        return value * failing.log1p() + probs.log()

    def entropy(self) -> Tensor:
        return _cross_entropy(self.logits, self.probs) / self.probs


class ContinuousBernoulli(_OfProbability, ExponentialFamily):
    """The density proportional to probs**x (1 - probs)**(1 - x) from 0 to 1 (Loaiza-Ganem and Cunningham, 2019).

    Between `lims`, where its formulas lose digits, Taylor series around 1/2 are used.
    """

    support = constraints.unit_interval
    has_rsample = True

    def __init__(
        self,
        probs: Tensor | float | None = None,
        logits: Tensor | float | None = None,
        lims: tuple[float, float] = (0.499, 0.501),
        validate_args: bool | None = None,
    ) -> None:
        self._lims = lims
        super().__init__(self._set(probs, logits).shape, (), validate_args)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if "probs" in self.__dict__:
            self.probs = clamp_probs(self.probs)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        new = self._instance_of(_instance)
        new._lims = self._lims
        return super().expand(batch_shape, new)

    def _is_far(self) -> Tensor:
        """Where probs is not close to 1/2."""
        return (self.probs <= self._lims[0]) | (self.probs > self._lims[1])

    def _away(self) -> Tensor:
        """probs, where it is close to 1/2 the lower limit."""
        return fb.where(self._is_far(), self.probs, self._lims[0])

    def _log_constant(self) -> Tensor:
        """log of what normalizes: log(2 atanh(1 - 2 p) / (1 - 2 p)), with its series around p = 1/2."""
        p = self._away()
        far = ((1 - p).log() - p.log()).abs().log() - (1 - 2 * p).abs().log()
        x = (self.probs - 0.5).square()
        near = math.log(2.0) + (4.0 / 3.0 + 104.0 / 45.0 * x) * x
        return fb.where(self._is_far(), far, near)

    @property
    def mean(self) -> Tensor:
        p = self._away()
        far = p / (2 * p - 1) + 1 / ((-p).log1p() - p.log())
        x = self.probs - 0.5
        return fb.where(self._is_far(), far, 0.5 + (1.0 / 3.0 + 16.0 / 45.0 * x.square()) * x)

    @property
    def variance(self) -> Tensor:
        p = self._away()
        far = p * (p - 1) / (1 - 2 * p).square() + 1 / ((-p).log1p() - p.log()).square()
        x = (self.probs - 0.5).square()
        return fb.where(self._is_far(), far, 1.0 / 12.0 - (1.0 / 15.0 - 128.0 / 945.0 * x) * x)

    @property
    def stddev(self) -> Tensor:
        return self.variance.sqrt()

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.icdf(uniform_inside(self._extended_shape(sample_shape), self.probs))

    def log_prob(self, value: Tensor) -> Tensor:
        logits, value = broadcast_all(self.logits, self._checked(value))
        return self._log_constant() - _cross_entropy(logits, value)

    def cdf(self, value: Tensor) -> Tensor:
        value, p = self._checked(value), self._away()
        far = (p.pow(value) * (1 - p).pow(1 - value) + p - 1) / (2 * p - 1)
        found = fb.where(self._is_far(), far, value)
        return fb.where(value <= 0, 0.0, fb.where(value >= 1, 1.0, found))

    def icdf(self, value: Tensor) -> Tensor:
        p = self._away()
        far = ((-p + value * (2 * p - 1)).log1p() - (-p).log1p()) / (p.log() - (-p).log1p())
        return fb.where(self._is_far(), far, value)

    def entropy(self) -> Tensor:
        failing = (-self.probs).log1p()
        return self.mean * (failing - self.probs.log()) - self._log_constant() - failing

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        return (self.logits,)

    def _log_normalizer(self, x: Tensor) -> Tensor:  # type: ignore[override]
        far = (x < math.log(0.499 / 0.501)) | (x > math.log(0.501 / 0.499))
        safe = fb.where(far, x, 1.0)
        exact = (safe.exp() - 1).abs().log() - safe.abs().log()
        return fb.where(far, exact, 0.5 * x + x.square() / 24.0 - x.pow(4) / 2880.0)
