"""The incomplete gamma functions `igamma` and `igammac`, as one integral that falls fast on both sides of its parameter.

In: parameters and places. Out: shares from 0 to 1. Next: `special.py`.
"""

from __future__ import annotations

import math

import numpy as np
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import float64
from flambeau.function import Tensor_, function
from flambeau.functions.common import ops, promoted
from flambeau.samples import call, calls, data

#: Nodes of the rule below: a relative error of 1e-11, of 1e-8 for parameters below 0.01.
_NODES, _FROM, _TO = 160, -3.3, 4.2


def falling_integral(a: Value, x: Value, slope: Value | None = None, nodes: int = _NODES) -> tuple[Value, Value]:
    """(the integral over s > 0 of exp(a y - x (exp(y) - 1)), the sign of y) where y = s above x > a, and y = -s below; of that
    times slope + y, where a slope is given. All are float64 and of one shape.

    The exponent falls from 0. The rule is the trapezoidal one after s = length * exp(u - exp(-u)), where the exponent is near -1 at
    `length` (Takahasi and Mori, 1974); the length has no influence but on the error.
    """
    shape = x.shape
    above = x > a
    near = 1.0 / (ops.abs(x - a) + ops.sqrt(x * 0.5) + 1e-300)
    below = ops.select(x < 1.0, (x + 1.0) / a, near)
    length = ops.select(above, ops.log1p(near), below)
    length = ops.stop_gradient(length)
    sign = ops.select(above, x.like(1.0), x.like(-1.0))
    whole, step = (*shape, nodes), (_TO - _FROM) / (nodes - 1)

    def beside(v: Value) -> Value:
        return ops.reshape(v, shape=(*shape, 1)).expand(whole)

    u = ops.iota(shape=whole, dim=len(shape), dtype=float64, builder=x.builder) * step + _FROM
    falling = ops.exp(u * -1.0)
    s = beside(length) * ops.exp(u - falling)
    y = beside(sign) * s
    exponent = beside(a) * y - beside(x) * ops.expm1(y)
    seen = exponent > -700.0
    density = ops.select(seen, ops.exp(ops.select(seen, exponent, y.like(0.0))), y.like(0.0))
    if slope is not None:
        density = density * (beside(slope) + y)
    return ops.sum(density * s * (1.0 + falling), axes=(len(shape),)) * step, sign


def _shares(a: Value, x: Value) -> tuple[Value, Value]:
    """(P, Q), the shares of a gamma distribution of concentration a below and above x, in float64.

    The density at x times x, x**a exp(-x) / gamma(a), times the integral, is the share on that side of x where a is not.
    """
    a, x = a.cast(float64), x.cast(float64)
    inside = ops.and_(ops.and_(a > 0.0, a < math.inf), ops.and_(x > 0.0, x < math.inf))
    safe_a, safe_x = ops.select(inside, a, a.like(1.0)), ops.select(inside, x, x.like(1.0))
    found, sign = falling_integral(safe_a, safe_x)
    tail = ops.exp(safe_a * ops.log(safe_x) - safe_x - ops.lgamma(safe_a)) * found
    above = sign > 0.0
    outside = _at_the_ends(a, x)
    lower = ops.select(inside, ops.select(above, 1.0 - tail, tail), outside)
    upper = ops.select(inside, ops.select(above, tail, 1.0 - tail), 1.0 - outside)
    return lower, upper


def _at_the_ends(a: Value, x: Value) -> Value:
    """P at zeros and infinities: 0 at x = 0 and an infinite a, 1 at an infinite x and a = 0; NaN where both and below 0."""
    zero, one, nan = x.like(0.0), x.like(1.0), x.like(math.nan)
    low = ops.or_(x.eq(zero), a.eq(a.like(math.inf)))
    high = ops.or_(x.eq(x.like(math.inf)), a.eq(zero))
    wrong = ops.or_(ops.and_(low, high), ops.or_(ops.not_(a >= 0.0), ops.not_(x >= 0.0)))
    return ops.select(wrong, nan, ops.select(high, one, zero))


_SAMPLES = calls(
    lambda: [
        call(data(2, 3, low=0.3, high=4), data(2, 3, low=0.2, high=6)),
        call(
            np.array([0.0, 0.0, 1.0, 1.0, np.inf, -1.0, 2.0, np.nan]),
            np.array([0.0, 2.0, 0.0, np.inf, 1.0, 1.0, -1.0, 1.0]),
            gradient=False,
        ),
    ]
)


@function(free="flambeau", method=True, in_place=True, out=True, samples=_SAMPLES)
def igamma(input: Tensor_, other: Tensor_):
    """The share below `other` of a gamma distribution of concentration `input`: the regularized lower incomplete gamma function."""
    a, x = promoted("igamma", input, other, float_only=True)
    return _shares(a, x)[0].cast(a.dtype)


@function(free="flambeau", method=True, in_place=True, out=True, samples=_SAMPLES)
def igammac(input: Tensor_, other: Tensor_):
    """1 - `igamma`, accurate where it is small."""
    a, x = promoted("igammac", input, other, float_only=True)
    return _shares(a, x)[1].cast(a.dtype)
