"""Samples of gamma distributions through which gradients flow to the concentration.

In: concentrations. Out: logarithms of samples of scale 1. Next: `gamma.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from flambeau.autograd import is_grad_enabled
from flambeau.dialects.dtypes import float64
from flambeau.function import Tensor_, function
from flambeau.functions.common import ops
from flambeau.functions.rejection import log_of_gamma
from flambeau.runtime.recorder import Tensor

#: Nodes of the rule below: a relative error of 1e-6 for every concentration from 0.001 to 10,000.
_NODES, _FROM, _TO = 48, -3.3, 4.2


@function(name="Gamma")
def _slope(log_x: Tensor_, concentration: Tensor_):
    """d log x / d concentration of a sample x, at its place in the distribution (Figurnov et al., 2018: implicit gradients).

    With density f and distribution function F of concentration a, dx/da = -(dF/da) / f(x), and dF/da is the integral from 0 to x of
    f(t) (log t - digamma(a)), or minus that from x. With t = x exp(y), for y = -s below x <= a and y = s above x > a, d log x / da
    is that sign times the integral over s > 0 of exp(a y - x (exp(y) - 1)) (log x + y - digamma(a)), whose exponent falls from
    0. The rule is the trapezoidal one after s = length * exp(u - exp(-u)), where the exponent is near -1 at `length` (Takahasi and
    Mori, 1974).
    """
    shape = (*log_x.shape, 1)
    log_x, a = (ops.reshape(v.cast(float64), shape=shape) for v in (log_x, concentration))
    x = ops.exp(log_x)
    above = x > a
    near = 1.0 / (ops.abs(x - a) + ops.sqrt(x * 0.5) + 1e-300)
    below = ops.select(x < 1.0, (x + 1.0) / a, near)
    length = ops.select(above, ops.log1p(near), below)
    sign = ops.select(above, x.like(1.0), x.like(-1.0))
    whole = (*log_x.shape[:-1], _NODES)
    step = (_TO - _FROM) / (_NODES - 1)
    u = ops.iota(shape=whole, dim=len(whole) - 1, dtype=float64, builder=x.builder) * step + _FROM
    falling = ops.exp(u * -1.0)
    s = length.expand(whole) * ops.exp(u - falling)
    y = sign.expand(whole) * s
    exponent = a.expand(whole) * y - x.expand(whole) * ops.expm1(y)
    slope = (log_x - ops.digamma(a)).expand(whole) + y
    density = ops.select(exponent > -700.0, ops.exp(exponent) * slope, y.like(0.0))
    total = ops.sum(density * s * (1.0 + falling), axes=(len(whole) - 1,)) * step
    return ops.reshape(sign, shape=total.shape) * total


def sample_log_gamma(concentration: Tensor, shape: Sequence[int]) -> Tensor:
    """Logarithms of gamma distributed numbers of scale 1, of `shape`, to which the concentration is expanded."""
    concentration = concentration.expand(tuple(shape))
    still = concentration.detach()
    drawn = log_of_gamma(still)
    if not (is_grad_enabled() and concentration.requires_grad):
        return drawn
    # adds 0, whose gradient is the slope
    return drawn + _slope(drawn, still).to(drawn.dtype) * (concentration - still)
