"""`biject_to` and `transform_to`: transforms from unconstrained numbers to a constraint.

In: a constraint. Out: a transform whose codomain it is; `biject_to` gives bijective ones. Next: `transform.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.distributions import constraints, transforms
from flambeau.distributions.constraints import Constraint
from flambeau.distributions.transforms import Transform

Factory = Callable[[Any], Transform]


class ConstraintRegistry:
    """From types of constraints to functions that make a transform of one."""

    def __init__(self) -> None:
        self._factories: dict[type, Factory] = {}

    def register(self, constraint: Any, factory: Factory | None = None) -> Any:
        """Use `factory` for constraints of a type, or of the type of the given one; without it, a decorator.

        Raises TypeError for what is no constraint.
        """
        if factory is None:
            return lambda made: self.register(constraint, made)
        kind = type(constraint) if isinstance(constraint, Constraint) else constraint
        if not isinstance(kind, type) or not issubclass(kind, Constraint):
            raise TypeError(f"[register] {constraint!r} is no constraint. Pass a Constraint or a class of them.")
        self._factories[kind] = factory
        return factory

    def __call__(self, constraint: Constraint) -> Transform:
        """The transform to a constraint. Raises NotImplementedError where none is registered."""
        factory = self._factories.get(type(constraint))
        if factory is None:
            raise NotImplementedError(f"[transform_to] there is none to {constraint!r}. Register one.")
        return factory(constraint)


biject_to = ConstraintRegistry()
transform_to = ConstraintRegistry()


def _greater(constraint: Any) -> Transform:
    shift = transforms.AffineTransform(constraint.lower_bound, 1)
    return transforms.ComposeTransform([transforms.ExpTransform(), shift])


def _positive_or_greater(constraint: Any) -> Transform:
    lower = constraint.lower_bound
    return transforms.ExpTransform() if isinstance(lower, int | float) and lower == 0 else _greater(constraint)


def _less(constraint: Any) -> Transform:
    shift = transforms.AffineTransform(constraint.upper_bound, -1)
    return transforms.ComposeTransform([transforms.ExpTransform(), shift])


def _interval(constraint: Any) -> Transform:
    low, high = constraint.lower_bound, constraint.upper_bound
    if isinstance(low, int | float) and isinstance(high, int | float) and (low, high) == (0, 1):
        return transforms.SigmoidTransform()
    return transforms.ComposeTransform([transforms.SigmoidTransform(), transforms.AffineTransform(low, high - low)])


def _register_common(to: ConstraintRegistry) -> None:
    """What both registries have: the inner constraints go through the same one."""
    to.register(constraints.real, lambda c: transforms.identity_transform)
    to.register(
        constraints.independent,
        lambda c: transforms.IndependentTransform(to(c.base_constraint), c.reinterpreted_batch_ndims),
    )
    for kind in (constraints.greater_than, constraints.greater_than_eq):
        to.register(kind, _positive_or_greater)
    to.register(constraints.less_than, _less)
    to.register(constraints.interval, _interval)
    to.register(constraints.half_open_interval, _interval)
    to.register(constraints.corr_cholesky, lambda c: transforms.CorrCholeskyTransform())
    to.register(constraints.cat, lambda c: transforms.CatTransform([to(i) for i in c.cseq], c.dim, c.lengths))
    to.register(constraints.stack, lambda c: transforms.StackTransform([to(i) for i in c.cseq], c.dim))


_register_common(biject_to)
_register_common(transform_to)
biject_to.register(constraints.simplex, lambda c: transforms.StickBreakingTransform())
transform_to.register(constraints.simplex, lambda c: transforms.SoftmaxTransform())
transform_to.register(constraints.lower_cholesky, lambda c: transforms.LowerCholeskyTransform())
for _matrices in (constraints.positive_definite, constraints.positive_semidefinite):
    transform_to.register(_matrices, lambda c: transforms.PositiveDefiniteTransform())
