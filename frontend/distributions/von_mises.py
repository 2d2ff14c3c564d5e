"""VonMises, the normal distribution of angles.

In: an angle and a concentration. Out: a distribution over angles. Next: `transformed.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from flambeau import generator as generators
from flambeau.autograd import no_grad
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import float64
from flambeau.distributions import constraints
from flambeau.distributions.distribution import Distribution
from flambeau.distributions.utils import broadcast_all, fb
from flambeau.function import Stream_, Tensor_, function
from flambeau.functions.common import ops
from flambeau.functions.rejection import Round, repeat
from flambeau.runtime.recorder import Tensor


def _propose(numbers: Round, state: list[Value], fixed: list[Value]) -> tuple[list[Value], Value]:
    """Best and Fisher (1979): the angle of a wrapped Cauchy distribution, accepted by the ratio of the densities."""
    concentration, r = fixed
    z = ops.cos(numbers.uniform() * math.pi)
    f = (1.0 + r * z) / (r + z)
    c = concentration * (r - f)
    accept = ops.log(c / numbers.uniform()) + 1.0 - c >= 0.0
    f = ops.minimum(ops.maximum(f, f.like(-1.0)), f.like(1.0))
    side = numbers.uniform() - 0.5
    angle = ops.acos(f)
    return [ops.select(side < 0.0, angle * -1.0, angle)], accept


@function(name="VonMises")
def _angles(concentration: Tensor_, generator: Stream_ = generators.default_generator):
    wide = concentration.cast(float64)
    valid = ops.and_(wide > 0.0, wide < math.inf)
    kappa = ops.select(valid, wide, wide.like(1.0))
    tau = 1.0 + ops.sqrt(1.0 + kappa * kappa * 4.0)
    rho = (tau - ops.sqrt(tau * 2.0)) / (kappa * 2.0)
    r = ops.select(kappa < 1e-5, 1.0 / kappa + kappa, (1.0 + rho * rho) / (rho * 2.0))  # rho loses its digits
    (found,) = repeat(generator, _propose, 3, ops.not_(valid), [kappa * 0.0], [kappa, r])
    return ops.select(valid, found, wide.like(math.nan))


class VonMises(Distribution):
    """The density proportional to exp(concentration cos(x - loc)) of angles x. Mean and variance are the circular ones."""

    arg_constraints: ClassVar[Any] = {"loc": constraints.real, "concentration": constraints.positive}
    support = constraints.real

    def __init__(self, loc: Tensor | float, concentration: Tensor | float, validate_args: bool | None = None) -> None:
        self.loc, self.concentration = broadcast_all(loc, concentration)
        super().__init__(self.loc.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        k = self.concentration
        return 1 - fb.special.i1e(k) / fb.special.i0e(k)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Angles from -pi to pi."""
        shape = tuple(self._extended_shape(sample_shape))
        with no_grad():
            angle = _angles(self.concentration.expand(shape)) + self.loc.to(fb.float64)
            return (fb.remainder(angle + math.pi, 2 * math.pi) - math.pi).to(self.loc.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        k = self.concentration
        log_i0 = fb.special.i0e(k).log() + k
        return k * (self._checked(value) - self.loc).cos() - math.log(2 * math.pi) - log_i0
