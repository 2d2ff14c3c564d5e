"""Bessel functions J, Y and K of orders 0 and 1, and Airy's Ai.

In: an emitter and its values. Out: values. All are computed in float64. Near 0 they are power series, with a logarithm and a pole
of their own; far out Hankel's form: amplitudes, polynomials in 1/x^2, of a cosine and a sine of x less its phase, which is
expanded so that only sin x and cos x of x itself are needed (Abramowitz and Stegun, 9.2.5; 10.4.59 for Ai). Next: `waves.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from flambeau.dialects.tape import coefficients_bessel as k
from flambeau.dialects.tape.approximations import cos, exp, log, sin
from flambeau.dialects.tape.approximations_bessel import i0, i1
from flambeau.dialects.tape.approximations_common import at_least, at_most, double_product, polynomial

_SPLIT, _SPLIT_K = 8.0, 2.0
_J, _Y, _P, _Q = (k.J0, k.J1), (k.Y0, k.Y1), (k.P0, k.P1), (k.Q0, k.Q1)
_K, _K_TAIL = (k.K0, k.K1), (k.K0_TAIL, k.K1_TAIL)
_TWO_THIRDS = (2.0 / 3.0, 3.700743415417188e-17)  # in two parts
_WAVES = 2.0 / 3.0 * 5.0**1.5


def _in_float64(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    @wraps(function)
    def lower(b, x):
        return function(b, x) if x.type == "f64" else b.cast(function(b, b.cast(x, "f64")), x.type)

    return lower


def _on(b, coefficients: Sequence[float], x, low: float, high: float):
    """The polynomial whose variable goes from -1 to 1 as x goes from low to high."""
    return polynomial(b, b.fma(x, 2.0 / (high - low), -(high + low) / (high - low)), coefficients)


def _far(b, y, order: int):
    """(J, Y) of y >= 8: the cosine of y - pi/4 is (cos y + sin y) / sqrt(2), that of y - 3 pi/4 is (sin y - cos y) / sqrt(2)."""
    y = at_least(b, y, _SPLIT)
    v = b.div(1.0, b.mul(y, y))
    p = _on(b, _P[order], v, 0.0, 1 / _SPLIT**2)
    q = b.div(_on(b, _Q[order], v, 0.0, 1 / _SPLIT**2), y)
    s, c = sin(b, y), cos(b, y)
    scale = b.div(1 / math.sqrt(math.pi), b.sqrt(y))
    plus, minus = b.mul(scale, b.add(c, s)), b.mul(scale, b.sub(s, c))
    if order == 0:
        return b.sub(b.mul(p, plus), b.mul(q, minus)), b.add(b.mul(p, minus), b.mul(q, plus))
    return b.add(b.mul(p, minus), b.mul(q, plus)), b.sub(b.mul(q, minus), b.mul(p, plus))


def _near(b, y, order: int):
    """J of y <= 8."""
    series = _on(b, _J[order], b.mul(y, y), 0.0, _SPLIT**2)
    return b.mul(series, y) if order else series


def _j(b, x, order: int):
    y = b.abs(x)
    result = b.select(b.cmp("lt", y, _SPLIT), _near(b, y, order), _far(b, y, order)[0])
    result = b.select(b.cmp("eq", y, math.inf), 0.0, result)
    return b.select(b.cmp("lt", x, 0.0), b.neg(result), result) if order else result


def _y(b, x, order: int):
    near = b.mul(b.mul(log(b, x), 2 / math.pi), _near(b, x, order))
    series = _on(b, _Y[order], b.mul(x, x), 0.0, _SPLIT**2)
    near = b.add(near, b.sub(b.mul(series, x), b.div(2 / math.pi, x)) if order else series)
    result = b.select(b.cmp("lt", x, _SPLIT), near, _far(b, x, order)[1])
    result = b.select(b.cmp("eq", x, math.inf), 0.0, result)
    result = b.select(b.cmp("eq", x, 0.0), -math.inf, result)
    return b.select(b.cmp("lt", x, 0.0), math.nan, result)


def _k(b, x, order: int, scaled: bool):
    series = _on(b, _K[order], b.mul(x, x), 0.0, _SPLIT_K**2)
    inner = at_most(b, x, _SPLIT_K)
    logarithm = log(b, b.mul(inner, 0.5))
    near = b.sub(series, b.mul(logarithm, i0(b, inner)))
    if order:
        near = b.add(b.div(series, inner), b.mul(logarithm, i1(b, inner)))
    outer = at_least(b, x, _SPLIT_K)
    far = b.div(_on(b, _K_TAIL[order], b.div(1.0, outer), 0.0, 1 / _SPLIT_K), b.sqrt(outer))
    near, far = (b.mul(near, exp(b, inner)), far) if scaled else (near, b.mul(far, exp(b, b.neg(outer))))
    result = b.select(b.cmp("le", x, _SPLIT_K), near, far)
    result = b.select(b.cmp("eq", x, 0.0), math.inf, result)
    return b.select(b.cmp("lt", x, 0.0), math.nan, b.select(b.is_nan(x), x, result))


@_in_float64
def bessel_j0(b, x):
    return _j(b, x, 0)


@_in_float64
def bessel_j1(b, x):
    return _j(b, x, 1)


@_in_float64
def bessel_y0(b, x):
    return _y(b, x, 0)


@_in_float64
def bessel_y1(b, x):
    return _y(b, x, 1)


@_in_float64
def modified_bessel_k0(b, x):
    return _k(b, x, 0, scaled=False)


@_in_float64
def modified_bessel_k1(b, x):
    return _k(b, x, 1, scaled=False)


@_in_float64
def scaled_modified_bessel_k0(b, x):
    return _k(b, x, 0, scaled=True)


@_in_float64
def scaled_modified_bessel_k1(b, x):
    return _k(b, x, 1, scaled=True)


def _two_thirds_power(b, y):
    """2/3 y^(3/2) in two parts."""
    root = b.sqrt(y)
    rest = b.div(b.fma(b.neg(root), root, y), b.mul(root, 2.0))
    three_halves = double_product(b, (y, b.const(0.0, y)), (root, rest))
    return double_product(b, three_halves, tuple(b.const(c, y) for c in _TWO_THIRDS))


@_in_float64
def airy_ai(b, x):
    left = _on(b, k.AI_LEFT, x, -5.0, 0.0)
    right = _on(b, k.AI_RIGHT, x, 0.0, 2.0)
    result = b.select(b.cmp("lt", x, 0.0), b.select(b.cmp("lt", x, -5.0), _airy_waves(b, x), left), right)
    result = b.select(b.cmp("gt", x, 2.0), _airy_tail(b, x), result)
    return b.select(b.cmp("eq", b.abs(x), math.inf), 0.0, result)


def _airy_tail(b, x):
    y = at_most(b, at_least(b, x, 2.0), 200.0)  # where it is 0 by far
    high, low = _two_thirds_power(b, y)
    scaled = b.div(_on(b, k.AI_TAIL, b.div(1.0, high), 0.0, 3 / (2 * 2.0**1.5)), b.sqrt(b.sqrt(y)))
    return b.mul(b.mul(scaled, exp(b, b.neg(high))), b.sub(1.0, low))


def _airy_waves(b, x):
    y = at_least(b, b.neg(x), 5.0)
    high, low = _two_thirds_power(b, y)
    v = b.div(1.0, b.mul(high, high))
    f = _on(b, k.AI_SINE, v, 0.0, 1 / _WAVES**2)
    g = b.div(_on(b, k.AI_COSINE, v, 0.0, 1 / _WAVES**2), high)
    s, c = sin(b, high), cos(b, high)
    s, c = b.fma(low, c, s), b.fma(b.neg(low), s, c)
    waves = b.sub(b.mul(f, b.add(s, c)), b.mul(g, b.sub(c, s)))
    return b.div(b.mul(waves, 1 / math.sqrt(2 * math.pi)), b.sqrt(b.sqrt(y)))
