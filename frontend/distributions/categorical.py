"""Categorical, OneHotCategorical, OneHotCategoricalStraightThrough and Multinomial: choices among the last dimension.

In: probabilities, which are normalized, or logits. Out: distributions over positions, one-hot vectors and counts.
Next: `counts.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

from flambeau.autograd import no_grad
from flambeau.distributions import constraints
from flambeau.distributions.bernoulli import one_of
from flambeau.distributions.distribution import Distribution, unsatisfied
from flambeau.distributions.utils import fb, lazy_property, logits_to_probs, probs_to_logits
from flambeau.runtime.recorder import Tensor

_OF_PROBABILITIES: dict[str, Any] = {"probs": constraints.simplex, "logits": constraints.real_vector}
_UNFIT = unsatisfied(constraints.real_vector)


class _Finite(constraints.Constraint):
    """Numbers that are neither NaN nor infinite."""

    def check(self, value: Tensor) -> Tensor:
        return value.isfinite()


_FINITE = _Finite()


@lru_cache(256)
def _positions(n: int) -> constraints.Constraint:
    """The positions 0 to n - 1."""
    return constraints.integer_interval(0, n - 1)


class _OfProbabilities(Distribution):
    """A distribution of probabilities along the last dimension, given as weights `probs` or as `logits`."""

    arg_constraints: ClassVar[Any] = _OF_PROBABILITIES

    def _set(self, probs: Tensor | None, logits: Tensor | None, validate_args: bool | None) -> Any:
        """Keep normalized parameters; (the shape of the batch, the number of choices)."""
        name = type(self).__name__
        one_of(name, probs, logits)
        given = probs if logits is None else logits
        if not isinstance(given, Tensor) or given.ndim < 1:
            raise ValueError(f"[{name}] {'probs' if logits is None else 'logits'} has no dimension. Pass a vector.")
        is_checked = self._validate_args if validate_args is None else validate_args
        if logits is None:
            weights = given
            if is_checked:
                weights = self._holding("probs", given, constraints.nonnegative, "is negative. Pass weights from 0.")
            self.probs = weights / weights.sum(-1, True)
        else:
            total = fb.logsumexp(given, -1, True)
            # Finite where all that is left is: NaN and inf go into it, and it is -inf where there is nothing else.
            self.logits = given - (self._holding("logits", total, _FINITE, _UNFIT) if is_checked else total)
        return given.shape[:-1], given.shape[-1]

    def _check_parameters(self) -> None:
        if "logits" not in self.__dict__:  # they have been checked by what normalizes them
            super()._check_parameters()

    def _given(self) -> Tensor:
        return self.__dict__["probs"] if "probs" in self.__dict__ else self.__dict__["logits"]

    @property
    def param_shape(self) -> Any:
        """The shape of the parameter."""
        return self._given().shape

    @lazy_property
    def logits(self) -> Tensor:
        """Log probabilities."""
        return probs_to_logits(self.probs)

    @lazy_property
    def probs(self) -> Tensor:
        """Probabilities."""
        return logits_to_probs(self.logits)

    @property
    def _num_events(self) -> int:
        return self._given().shape[-1]

    def _drawn(self, count: int) -> Tensor:
        """Positions [count, *batch]."""
        rows = self.probs.reshape(-1, self._num_events)
        return fb.multinomial(rows, count, True).T.reshape(count, *self.batch_shape)

    def _entropy_of_one(self) -> Tensor:
        logits = self.logits.clamp(fb.finfo(self.logits.dtype).min, None)
        return -(logits * self.probs).sum(-1)


class Categorical(_OfProbabilities):
    """A position from 0 to n - 1."""

    has_enumerate_support = True

    def __init__(
        self, probs: Tensor | None = None, logits: Tensor | None = None, validate_args: bool | None = None
    ) -> None:
        batch, _ = self._set(probs, logits, validate_args)
        super().__init__(batch, (), validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:  # type: ignore[override]
        """The positions."""
        return _positions(self._num_events)

    @property
    def mean(self) -> Tensor:
        return fb.full_like(self.probs[..., 0], fb.nan)

    @property
    def mode(self) -> Tensor:
        return self._given().argmax(-1)

    @property
    def variance(self) -> Tensor:
        return fb.full_like(self.probs[..., 0], fb.nan)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        count = 1
        for n in sample_shape:
            count = count * n
        with no_grad():
            return self._drawn(count).reshape(tuple(self._extended_shape(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        index = self._checked(value).to(fb.int64).unsqueeze(-1)
        logits = self.logits
        if index.shape[:-1] != logits.shape[:-1]:
            shape = fb.broadcast_shapes(tuple(index.shape[:-1]), tuple(logits.shape[:-1]))
            logits, index = logits.expand((*shape, self._num_events)), index.expand((*shape, 1))
        return logits.gather(-1, index).squeeze(-1)

    def entropy(self) -> Tensor:
        return self._entropy_of_one()

    def enumerate_support(self, expand: bool = True) -> Tensor:
        n = self._num_events
        values = fb.arange(n, device=self._given().device).reshape(n, *(1,) * len(self.batch_shape))
        return values.expand((n, *self.batch_shape)) if expand else values


class OneHotCategorical(_OfProbabilities):
    """A vector of zeros and a one."""

    support = constraints.one_hot
    has_enumerate_support = True

    def __init__(
        self, probs: Tensor | None = None, logits: Tensor | None = None, validate_args: bool | None = None
    ) -> None:
        batch, n = self._set(probs, logits, validate_args)
        super().__init__(batch, (n,), validate_args)

    @property
    def _categorical(self) -> Categorical:
        if "probs" in self.__dict__:
            return Categorical(probs=self.probs, validate_args=False)
        return Categorical(logits=self.logits, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def mode(self) -> Tensor:
        return self._one_hot(self._given().argmax(-1))

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)

    def _one_hot(self, at: Tensor) -> Tensor:
        return fb.nn.functional.one_hot(at, self._num_events).to(self._given().dtype)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self._one_hot(self._categorical.sample(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        return self._categorical.log_prob(self._checked(value).argmax(-1))

    def entropy(self) -> Tensor:
        return self._entropy_of_one()

    def enumerate_support(self, expand: bool = True) -> Tensor:
        n = self._num_events
        values = fb.eye(n, dtype=self._given().dtype, device=self._given().device)
        values = values.reshape(n, *(1,) * len(self.batch_shape), n)
        return values.expand((n, *self.batch_shape, n)) if expand else values


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """OneHotCategorical whose samples have the gradients of the probabilities (Bengio et al., 2013)."""

    has_rsample = True

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.sample(sample_shape) + (self.probs - self.probs.detach())


class Multinomial(_OfProbabilities):
    """How often each position comes up in `total_count` choices."""

    def __init__(
        self,
        total_count: int = 1,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(total_count, int):
            raise NotImplementedError("[Multinomial] total_count is no int. Pass one number for all.")
        self.total_count = total_count
        batch, n = self._set(probs, logits, validate_args)
        super().__init__(batch, (n,), validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        new = self._instance_of(_instance)
        new.total_count = self.total_count
        return super().expand(batch_shape, new)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:  # type: ignore[override]
        """Counts up to `total_count` together."""
        return constraints.multinomial(self.total_count)

    @property
    def mean(self) -> Tensor:
        return self.probs * self.total_count

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = (self.total_count, *sample_shape)
        categorical = Categorical(probs=self.probs, validate_args=False)
        chosen = categorical.sample(shape)
        counts = fb.nn.functional.one_hot(chosen, self._num_events).sum(0)
        return counts.to(self._given().dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        value = self._checked(value)
        logits = fb.where((value == 0) & (self.logits == -fb.inf), 0.0, self.logits)
        orders = (value.sum(-1) + 1).lgamma() - (value + 1).lgamma().sum(-1)
        return orders + (logits * value).sum(-1)

    def entropy(self) -> Tensor:
        """n times the entropy of a choice, less log n!, plus what the counts' log k! are in the mean."""
        n = fb.tensor(float(self.total_count), dtype=self.probs.dtype)
        k = fb.arange(self.total_count + 1, dtype=self.probs.dtype).reshape(-1, *(1,) * self.probs.ndim)
        orders = (n + 1).lgamma() - (k + 1).lgamma() - (n - k + 1).lgamma()
        log_p = orders + fb.xlogy(k, self.probs) + fb.special.xlog1py(n - k, -self.probs)
        of_orders = (log_p.exp() * (k + 1).lgamma()).sum((0, -1))
        return n * self._entropy_of_one() - (n + 1).lgamma() + of_orders
