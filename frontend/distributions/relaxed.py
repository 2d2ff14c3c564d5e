"""RelaxedBernoulli and RelaxedOneHotCategorical: continuous stand-ins whose samples have gradients (Maddison et al., 2017).

In: a temperature, probabilities or logits. Out: distributions; the smaller the temperature, the closer to 0 and 1 the samples.
Next: `von_mises.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from flambeau.distributions import constraints
from flambeau.distributions.bernoulli import _OfProbability
from flambeau.distributions.categorical import _OF_PROBABILITIES, _OfProbabilities
from flambeau.distributions.transformed import TransformedDistribution
from flambeau.distributions.transforms import ExpTransform, SigmoidTransform
from flambeau.distributions.utils import broadcast_all, clamp_probs, fb, uniform_inside
from flambeau.runtime.recorder import Tensor


class LogitRelaxedBernoulli(_OfProbability):
    """(logits + logistic noise) / temperature: the log odds of a relaxed Bernoulli."""

    support = constraints.real
    has_rsample = True

    def __init__(
        self,
        temperature: Tensor | float,
        probs: Tensor | float | None = None,
        logits: Tensor | float | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.temperature = temperature
        super().__init__(self._set(probs, logits).shape, (), validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        new = self._instance_of(_instance)
        new.temperature = self.temperature
        return super().expand(batch_shape, new)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        probs = clamp_probs(self.probs.expand(tuple(shape)))
        u = clamp_probs(uniform_inside(shape, probs))
        return (u.log() - (-u).log1p() + probs.log() - (-probs).log1p()) / self.temperature

    def log_prob(self, value: Tensor) -> Tensor:
        logits, value = broadcast_all(self.logits, self._checked(value))
        temperature = fb.as_tensor(self.temperature, dtype=logits.dtype)
        moved = logits - value * temperature
        return temperature.log() + moved - 2 * fb.nn.functional.softplus(moved)


class _Relaxed(TransformedDistribution):
    """What is made of a relaxed distribution of logarithms or log odds, and has its parameters."""

    @property
    def temperature(self) -> Any:
        """That of the base."""
        return self.base_dist.temperature

    @property
    def logits(self) -> Tensor:
        """Log odds of the Bernoulli, or log probabilities of the categorical."""
        return self.base_dist.logits

    @property
    def probs(self) -> Tensor:
        """Probabilities of the Bernoulli or the categorical."""
        return self.base_dist.probs


class RelaxedBernoulli(_Relaxed):
    """A number from 0 to 1 in the place of a Bernoulli's 0 or 1."""

    arg_constraints: ClassVar[Any] = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.unit_interval
    has_rsample = True

    def __init__(
        self,
        temperature: Tensor | float,
        probs: Tensor | float | None = None,
        logits: Tensor | float | None = None,
        validate_args: bool | None = None,
    ) -> None:
        base = LogitRelaxedBernoulli(temperature, probs, logits, validate_args)
        super().__init__(base, SigmoidTransform(), validate_args)


class ExpRelaxedCategorical(_OfProbabilities):
    """Logarithms of a relaxed one-hot vector: log_softmax((logits + Gumbel noise) / temperature)."""

    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        temperature: Tensor | float,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.temperature = temperature
        batch, n = self._set(probs, logits, validate_args)
        super().__init__(batch, (n,), validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        new = self._instance_of(_instance)
        new.temperature = self.temperature
        return super().expand(batch_shape, new)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        u = clamp_probs(uniform_inside(shape, self._given()))
        return fb.log_softmax((self.logits - (-u.log()).log()) / self.temperature, -1)

    def log_prob(self, value: Tensor) -> Tensor:
        n = self._num_events
        logits, value = broadcast_all(self.logits, self._checked(value))
        temperature = fb.as_tensor(self.temperature, dtype=logits.dtype)
        score = fb.log_softmax(logits - value * temperature, -1)
        return math.lgamma(n) + (n - 1) * temperature.log() + score.sum(-1)


class RelaxedOneHotCategorical(_Relaxed):
    """A point of the simplex in the place of a one-hot vector."""

    arg_constraints: ClassVar[Any] = _OF_PROBABILITIES
    support = constraints.simplex
    has_rsample = True

    def __init__(
        self,
        temperature: Tensor | float,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        base = ExpRelaxedCategorical(temperature, probs, logits, validate_args)
        super().__init__(base, ExpTransform(), validate_args)
