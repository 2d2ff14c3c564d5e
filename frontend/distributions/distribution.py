"""Distribution, from which all others inherit, and ExponentialFamily, whose entropy follows from a normalizer.

In: parameters. Out: samples, log probabilities, moments. A parameter or value outside of its constraint is a ValueError when
what depends on it is computed: looking at it at once would end the recording. Next: `normal.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from flambeau.autograd import no_grad
from flambeau.distributions import constraints
from flambeau.distributions.utils import checked, fb, lazy_property
from flambeau.runtime.recorder import Size, Tensor


def unsatisfied(constraint: constraints.Constraint) -> str:
    """What is told of a parameter that does not satisfy a constraint."""
    return f"does not satisfy {constraint!r}. Pass parameters that do."


class Distribution:
    """A batch of distributions, of shape `batch_shape`, over events of shape `event_shape`.

    `validate_args` says whether parameters and values are checked; None takes what `set_default_validate_args` says.
    """

    has_rsample = False
    has_enumerate_support = False
    arg_constraints: ClassVar[Any] = {}
    support: Any = None
    _validate_args = __debug__

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether distributions check their arguments unless told. Raises ValueError unless `value` is a bool."""
        if value not in (True, False):
            raise ValueError(f"[set_default_validate_args] value is {value!r}. Pass a bool.")
        Distribution._validate_args = value

    def __init__(
        self, batch_shape: Sequence[int] = (), event_shape: Sequence[int] = (), validate_args: bool | None = None
    ) -> None:
        self._batch_shape, self._event_shape = Size(batch_shape), Size(event_shape)
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args:
            self._check_parameters()

    def _check_parameters(self) -> None:
        for name, constraint in self._own_parameters().items():
            # What is computed when it is read depends on another parameter, which is checked.
            if name in self.__dict__ and not constraints.is_dependent(constraint):
                value = self.__dict__[name]
                self.__dict__[name] = self._holding(name, value, constraint, unsatisfied(constraint))

    def _holding(self, name: str, value: Tensor, constraint: Any, text: str) -> Tensor:
        """`value`, where the constraint holds: ValueError otherwise, when it is computed."""
        return checked(value, constraint.check(value), constraint.event_dim, f"{type(self).__name__}.{name}", text)

    def _own_parameters(self) -> dict[str, constraints.Constraint]:
        """The attributes that are parameters, with their constraints, also where those that users pass are computed from them."""
        return self.arg_constraints

    # ---- shapes -----------------------------------------------------------------------------------------------

    @property
    def batch_shape(self) -> Size:
        """The shape of the batch of parameters."""
        return self._batch_shape

    @property
    def event_shape(self) -> Size:
        """The shape of one sample."""
        return self._event_shape

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        """The distribution with its parameters expanded to `batch_shape`; nothing is copied or checked again."""
        new, batch_shape = self._instance_of(_instance), Size(batch_shape)
        for name, constraint in self._own_parameters().items():
            if name in self.__dict__:
                value, count = self.__dict__[name], constraint.event_dim
                event = value.shape[value.ndim - count :]
                new.__dict__[name] = value.expand((*batch_shape, *event))
        Distribution.__init__(new, batch_shape, self._event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _instance_of(self, instance: Any) -> Any:
        return type(self).__new__(type(self)) if instance is None else instance

    def _get_checked_instance(self, cls: type, _instance: Any = None) -> Any:
        """What subclasses of users call in an `expand` of their own: an instance without attributes, to be filled.

        Raises NotImplementedError for a subclass of `cls` that has another `__init__` and no `expand` to go with it.
        """
        if _instance is None and type(self).__init__ is not cls.__init__:  # type: ignore[misc]
            name = type(self).__name__
            raise NotImplementedError(f"[expand] {name} has an __init__ of its own. Define {name}.expand() as well.")
        return self._instance_of(_instance)

    def _extended_shape(self, sample_shape: Sequence[int] = ()) -> Size:
        return Size((*sample_shape, *self._batch_shape, *self._event_shape))

    # ---- moments ----------------------------------------------------------------------------------------------

    @property
    def mean(self) -> Tensor:
        """The mean."""
        raise self._missing("mean")

    @property
    def mode(self) -> Tensor:
        """The most probable value."""
        raise self._missing("mode")

    @property
    def variance(self) -> Tensor:
        """The variance."""
        raise self._missing("variance")

    @property
    def stddev(self) -> Tensor:
        """The standard deviation."""
        return self.variance.sqrt()

    # ---- samples ----------------------------------------------------------------------------------------------

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Samples of shape `sample_shape` + `batch_shape` + `event_shape`, without gradients."""
        with no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Samples through which gradients flow to the parameters."""
        raise self._missing("rsample")

    def sample_n(self, n: int) -> Tensor:
        """`sample((n,))`."""
        return self.sample((n,))

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values, along a new first dimension, expanded to the batch or with extents of 1 for it."""
        raise self._missing("enumerate_support")

    # ---- probabilities ----------------------------------------------------------------------------------------

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density, or of the probability, at `value`."""
        raise self._missing("log_prob")

    def cdf(self, value: Tensor) -> Tensor:
        """The probability of values up to `value`."""
        raise self._missing("cdf")

    def icdf(self, value: Tensor) -> Tensor:
        """The inverse of `cdf`."""
        raise self._missing("icdf")

    def entropy(self) -> Tensor:
        """The entropy, in nats, of shape `batch_shape`."""
        raise self._missing("entropy")

    def perplexity(self) -> Tensor:
        """exp(entropy)."""
        return self.entropy().exp()

    # ---- the rest ---------------------------------------------------------------------------------------------

    def _missing(self, what: str) -> NotImplementedError:
        name = type(self).__name__
        return NotImplementedError(f"[{name}] there is no {what} of this distribution. Use one that has it.")

    def _checked(self, value: Tensor) -> Tensor:
        """`value`, which must fit the shapes, at once, and lie in the support, when it is computed. ValueError otherwise."""
        return self._checked_in(value, self.support) if self._validate_args else value

    def _checked_in(self, value: Tensor, support: Any) -> Tensor:
        name = type(self).__name__
        if not isinstance(value, Tensor):
            raise ValueError(f"[{name}] value is a {type(value).__name__}. Pass a tensor.")
        event = value.shape[max(value.ndim - len(self._event_shape), 0) :]
        if tuple(event) != tuple(self._event_shape):
            raise ValueError(f"[{name}] value has shape {value.shape}, an event {self._event_shape}. End with that.")
        wanted = self._extended_shape()
        if value.shape != wanted and any(
            i != j and 1 not in (i, j) for i, j in zip(reversed(value.shape), reversed(wanted))
        ):
            raise ValueError(f"[{name}] value has shape {value.shape}, which does not broadcast with {wanted}.")
        text = f"does not lie in the support, {support!r}. Pass values that do."
        return self._holding("value", value, support, text)

    def _validate_sample(self, value: Tensor) -> None:
        """For classes of users, whose `log_prob` goes on with `value` itself: looks at it, and raises ValueError where it does not
        fit."""
        self._checked_in(value.detach() if isinstance(value, Tensor) else value, self.support).sum().item()

    def __repr__(self) -> str:
        shown = {k: self.__dict__[k] for k in self.arg_constraints if k in self.__dict__}
        parts = [f"{k}: {v if v.numel() == 1 else v.size()}" for k, v in shown.items()]
        return f"{type(self).__name__}({', '.join(parts)})"


class ExponentialFamily(Distribution):
    """Densities exp(<t(x), natural parameters> - log normalizer + carrier measure k(x)).

    Its entropy is log normalizer - <natural parameters, gradient of that> - mean of k (Nielsen and Nock, 2010).
    """

    #: The mean of k(x).
    _mean_carrier_measure: Any = 0

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        raise self._missing("_natural_params")

    def _log_normalizer(self, *natural_params: Tensor) -> Tensor:
        raise self._missing("_log_normalizer")

    def entropy(self) -> Tensor:
        natural = [p.detach().requires_grad_() for p in self._natural_params]
        normalizer = self._log_normalizer(*natural)
        gradients = fb.autograd.grad(normalizer.sum(), natural, create_graph=True)
        found = normalizer - self._mean_carrier_measure
        for p, g in zip(natural, gradients):
            found = found - (p * g).reshape((*self._batch_shape, -1)).sum(-1)
        return found


__all__ = ["Distribution", "ExponentialFamily", "lazy_property"]
