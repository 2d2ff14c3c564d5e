"""TransformedDistribution, Independent and MixtureSameFamily: distributions made of others.

In: distributions, transforms. Out: a distribution. Next: `kl.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.autograd import no_grad
from flambeau.distributions import constraints
from flambeau.distributions.categorical import Categorical
from flambeau.distributions.distribution import Distribution
from flambeau.distributions.transforms import ComposeTransform, Transform
from flambeau.distributions.utils import fb, sum_rightmost
from flambeau.runtime.recorder import Tensor


class Independent(Distribution):
    """`base_distribution` with its last `reinterpreted_batch_ndims` dimensions of the batch as part of the event."""

    def __init__(
        self, base_distribution: Any, reinterpreted_batch_ndims: int, validate_args: bool | None = None
    ) -> None:
        batch, event = base_distribution.batch_shape, base_distribution.event_shape
        if reinterpreted_batch_ndims > len(batch):
            raise ValueError(
                f"[Independent] {reinterpreted_batch_ndims} dimensions are wanted of a batch of shape {batch}. Use fewer."
            )
        cut = len(batch) - reinterpreted_batch_ndims
        self.base_dist, self.reinterpreted_batch_ndims = base_distribution, reinterpreted_batch_ndims
        super().__init__(batch[:cut], (*batch[cut:], *event), validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        count = self.reinterpreted_batch_ndims
        extra = self.event_shape[:count]
        made = Independent(self.base_dist.expand((*batch_shape, *extra)), count, validate_args=False)
        made._validate_args = self._validate_args
        return made

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether the base has it."""
        return self.base_dist.has_rsample

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        """Whether the values can be listed: those of several independent ones are not."""
        return self.base_dist.has_enumerate_support and self.reinterpreted_batch_ndims == 0

    @property
    def support(self) -> Any:  # type: ignore[override]
        """That of the base, of more dimensions."""
        count = self.reinterpreted_batch_ndims
        return constraints.independent(self.base_dist.support, count) if count else self.base_dist.support

    @property
    def mean(self) -> Tensor:
        return self.base_dist.mean

    @property
    def mode(self) -> Tensor:
        return self.base_dist.mode

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.base_dist.sample(sample_shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.base_dist.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        return sum_rightmost(self.base_dist.log_prob(value), self.reinterpreted_batch_ndims)

    def entropy(self) -> Tensor:
        return sum_rightmost(self.base_dist.entropy(), self.reinterpreted_batch_ndims)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        if self.reinterpreted_batch_ndims:
            raise self._missing("enumerate_support")
        return self.base_dist.enumerate_support(expand)

    def __repr__(self) -> str:
        return f"Independent({self.base_dist!r}, {self.reinterpreted_batch_ndims})"


class TransformedDistribution(Distribution):
    """What `transforms`, the first one first, make of samples of `base_distribution`."""

    def __init__(
        self,
        base_distribution: Distribution,
        transforms: Transform | Sequence[Transform],
        validate_args: bool | None = None,
    ) -> None:
        self.transforms = [transforms] if isinstance(transforms, Transform) else list(transforms)
        for t in self.transforms:
            if not isinstance(t, Transform):
                raise ValueError(f"[TransformedDistribution] {t!r} is no Transform. Pass transforms.")
        whole = ComposeTransform(self.transforms)
        shape = (*base_distribution.batch_shape, *base_distribution.event_shape)
        if len(shape) < whole.domain.event_dim:
            raise ValueError(
                f"[TransformedDistribution] the base has shape {shape}, the transforms take {whole.domain.event_dim} "
                "dimensions. Give it more."
            )
        forward = whole.forward_shape(shape)
        expanded = whole.inverse_shape(forward)
        base = base_distribution.expand(expanded[: len(expanded) - len(base_distribution.event_shape)])
        extra = whole.domain.event_dim - len(base.event_shape)
        self.base_dist: Any = Independent(base, extra) if extra > 0 else base
        change = whole.codomain.event_dim - whole.domain.event_dim
        event_dim = max(whole.codomain.event_dim, len(base.event_shape) + change)
        cut = len(forward) - event_dim
        super().__init__(forward[:cut], forward[cut:], validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        whole = ComposeTransform(self.transforms)
        new = self._instance_of(_instance)
        shape = whole.inverse_shape((*batch_shape, *self.event_shape))
        new.base_dist = self.base_dist.expand(shape[: len(shape) - len(self.base_dist.event_shape)])
        new.transforms = self.transforms
        Distribution.__init__(new, batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether the base has it."""
        return self.base_dist.has_rsample

    @property
    def support(self) -> Any:  # type: ignore[override]
        """The codomain of the last transform."""
        if not self.transforms:
            return self.base_dist.support
        found, count = self.transforms[-1].codomain, len(self.event_shape)
        return constraints.independent(found, count - found.event_dim) if count > found.event_dim else found

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with no_grad():
            return self._forward(self.base_dist.sample(sample_shape))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self._forward(self.base_dist.rsample(sample_shape))

    def _forward(self, x: Tensor) -> Tensor:
        for t in self.transforms:
            x = t(x)
        return x

    def log_prob(self, value: Tensor) -> Tensor:
        y = self._checked(value)
        event_dim = len(self.event_shape)
        total: float | Tensor = 0.0
        for t in reversed(self.transforms):
            x = t.inv(y)
            event_dim += t.domain.event_dim - t.codomain.event_dim
            total = total - sum_rightmost(t.log_abs_det_jacobian(x, y), event_dim - t.domain.event_dim)
            y = x
        return total + sum_rightmost(self.base_dist.log_prob(y), event_dim - len(self.base_dist.event_shape))

    def cdf(self, value: Tensor) -> Tensor:
        value = self._checked(value)
        for t in reversed(self.transforms):
            value = t.inv(value)
        return self._flipped(self.base_dist.cdf(value))

    def icdf(self, value: Tensor) -> Tensor:
        return self._forward(self.base_dist.icdf(self._flipped(value)))

    def _flipped(self, share: Tensor) -> Tensor:
        """share, or 1 - share for transforms that decrease."""
        sign = ComposeTransform(self.transforms).sign
        if isinstance(sign, int | float):
            return share if sign == 1 else 1 - share
        return sign * (share - 0.5) + 0.5


class MixtureSameFamily(Distribution):
    """A choice by `mixture_distribution` of one of the last dimension of the batch of `component_distribution`."""

    def __init__(
        self, mixture_distribution: Categorical, component_distribution: Any, validate_args: bool | None = None
    ) -> None:
        if not isinstance(mixture_distribution, Categorical):
            kind = type(mixture_distribution).__name__
            raise ValueError(f"[MixtureSameFamily] the mixture is a {kind}. Pass a Categorical.")
        if not isinstance(component_distribution, Distribution):
            kind = type(component_distribution).__name__
            raise ValueError(f"[MixtureSameFamily] the component is a {kind}. Pass a Distribution.")
        batch, mixed = component_distribution.batch_shape[:-1], mixture_distribution.batch_shape
        count, choices = component_distribution.batch_shape[-1], mixture_distribution._num_events
        if count != choices or any(i != j and 1 not in (i, j) for i, j in zip(reversed(batch), reversed(mixed))):
            raise ValueError(
                f"[MixtureSameFamily] the mixture has {choices} choices of shape {mixed}, the component batch "
                f"{component_distribution.batch_shape}. Make them fit."
            )
        self._mixture_distribution, self._component_distribution = mixture_distribution, component_distribution
        super().__init__(batch, component_distribution.event_shape, validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        batch_shape = tuple(batch_shape)
        component = self.component_distribution
        made = MixtureSameFamily(
            self.mixture_distribution.expand(batch_shape),
            component.expand((*batch_shape, component.batch_shape[-1])),
            validate_args=False,
        )
        made._validate_args = self._validate_args
        return made

    @property
    def mixture_distribution(self) -> Any:
        """The Categorical."""
        return self._mixture_distribution

    @property
    def component_distribution(self) -> Any:
        """The components."""
        return self._component_distribution

    @property
    def support(self) -> Any:  # type: ignore[override]
        """That of the components, which all have it."""
        return constraints.MixtureSameFamilyConstraint(self.component_distribution.support)

    def _weighted(self, x: Tensor) -> Tensor:
        """The mean over the components."""
        count = len(self.event_shape)
        probs = self.mixture_distribution.probs
        return (probs.reshape(*probs.shape, *(1,) * count) * x).sum(-1 - count)

    @property
    def mean(self) -> Tensor:
        return self._weighted(self.component_distribution.mean)

    @property
    def variance(self) -> Tensor:
        component, mean = self.component_distribution, self.mean.unsqueeze(-1 - len(self.event_shape))
        return self._weighted(component.variance) + self._weighted((component.mean - mean).square())

    def cdf(self, value: Tensor) -> Tensor:
        return (self.component_distribution.cdf(self._beside(value)) * self.mixture_distribution.probs).sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        value = self._beside(self._checked(value))
        weights = fb.log_softmax(self.mixture_distribution.logits, -1)
        return fb.logsumexp(self.component_distribution.log_prob(value) + weights, -1)

    def _beside(self, value: Tensor) -> Tensor:
        return value.unsqueeze(-1 - len(self.event_shape))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with no_grad():
            chosen = self.mixture_distribution.sample(sample_shape)
            drawn = self.component_distribution.sample(sample_shape)
            dim, event = drawn.ndim - 1 - len(self.event_shape), tuple(self.event_shape)
            index = chosen.reshape(*chosen.shape, 1, *(1,) * len(event)).expand((*drawn.shape[:dim], 1, *event))
            return drawn.gather(dim, index).squeeze(dim)

    def __repr__(self) -> str:
        return f"MixtureSameFamily(\n  {self.mixture_distribution!r},\n  {self.component_distribution!r})"
