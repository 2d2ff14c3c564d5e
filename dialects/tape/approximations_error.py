"""The error function's relatives: erfc, erfcx, erfinv and ndtri, the quantile of the normal distribution.

In: an emitter and its values. Out: values. The scaled e^(x^2) erfc(x) is a polynomial over 1 + 2x in a variable that maps 0 ..
infinity to -1 .. 1 (Shepherd and Laframboise, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x", 1981); inverses are
polynomials in the logarithm of the distance to their pole (Giles, "Approximating the erfinv function", 2010). Next:
`approximations_gamma.py`.
"""

from __future__ import annotations

import math

from flambeau.dialects.tape import coefficients as c
from flambeau.dialects.tape import coefficients_special as s
from flambeau.dialects.tape.approximations import exp, log
from flambeau.dialects.tape.approximations_common import at_most, format_of, polynomial, two_product

_CENTRE = 4.0  # of the maps of erfcx and erfcinv: see tools/derive_special_coefficients.py
_ERFINV_CENTRE = 0.45
#: Where half of erfc is less, its inverse is found from the logarithm.
_TAIL = 0.118


def _exp_of_square(b, x, sign: float):
    """e^(sign x^2), the rounding of x^2 made up for."""
    high, low = two_product(b, x, x)
    y = exp(b, b.mul(high, sign))
    finite = b.and_(b.cmp("lt", high, math.inf), b.cmp("lt", y, math.inf))
    return b.select(finite, b.fma(y, b.mul(low, sign), y), y)


def _scaled_erfc(b, x):
    """e^(x^2) erfc(x) for x >= 0."""
    z = at_most(b, x, 2.0**60)
    q = b.div(1.0, b.add(z, _CENTRE))
    t = b.mul(b.sub(z, _CENTRE), q)
    rest = b.fma(b.neg(t), z, b.fma(b.add(t, 1.0), -_CENTRE, z))
    t = b.fma(q, rest, t)
    return b.div(b.mul(polynomial(b, t, s.ERFCX[format_of(x).name]), 0.5), b.add(x, 0.5))


def erfcx(b, x):
    magnitude = b.abs(x)
    scaled = _scaled_erfc(b, magnitude)
    mirrored = b.sub(b.mul(_exp_of_square(b, x, 1.0), 2.0), scaled)
    return b.select(b.cmp("lt", x, 0.0), mirrored, scaled)


def erfc(b, x):
    """1 - erf(x) near 0, e^-(x^2) erfcx(x) above, and 2 less that of -x below."""
    magnitude, square = b.abs(x), b.mul(x, x)
    near = b.sub(1.0, b.fma(x, polynomial(b, square, c.ERF_SMALL[format_of(x).name]), x))
    tail = b.mul(_exp_of_square(b, magnitude, -1.0), _scaled_erfc(b, magnitude))
    far = b.select(b.cmp("lt", x, 0.0), b.sub(2.0, tail), tail)
    return b.select(b.cmp("lt", magnitude, 0.5), near, far)


def _erfcinv(b, q):
    """The z with erfc(z) = q, for q below 1/4; infinite at 0."""
    w = b.neg(log(b, q))
    root = b.sqrt(w)
    v = b.div(b.sub(root, _CENTRE), b.add(root, _CENTRE))
    z = b.mul(root, polynomial(b, v, s.ERFCINV[format_of(q).name]))
    if q.type == "f64":  # a step of Newton's on ln(erfc(z)) = -w
        scaled = _scaled_erfc(b, z)
        error = b.add(log(b, scaled), b.fma(b.neg(z), z, w))
        z = b.fma(b.mul(error, scaled), math.sqrt(math.pi) / 2, z)
    return b.select(b.cmp("eq", q, 0.0), b.const(math.inf, q), z)


def _erfinv_near_0(b, x, one_less_square):
    w = b.neg(log(b, one_less_square))
    return b.mul(x, polynomial(b, b.sub(w, _ERFINV_CENTRE), s.ERFINV[format_of(x).name]))


def erfinv(b, x):
    magnitude = b.abs(x)
    rest = b.sub(1.0, magnitude)
    near = _erfinv_near_0(b, magnitude, b.mul(rest, b.add(magnitude, 1.0)))
    tail = b.cmp("lt", rest, 2 * _TAIL)
    far = _erfcinv(b, b.select(tail, rest, b.const(2 * _TAIL, x)))
    z = b.copysign(b.select(tail, far, near), x)
    return b.select(b.cmp("le", magnitude, 1.0), z, b.const(math.nan, x))


def ndtri(b, p):
    """sqrt(2) erfinv(2 p - 1) in the middle, -sqrt(2) erfcinv(2 p) in the lower tail, the negative of that in the upper one."""
    upper, rest = b.cmp("gt", p, 0.5), b.sub(1.0, p)
    tail = b.select(upper, rest, p)
    near = _erfinv_near_0(b, b.mul(b.sub(p, 0.5), 2.0), b.mul(b.mul(p, rest), 4.0))
    in_tail = b.cmp("lt", tail, _TAIL)
    far = _erfcinv(b, b.select(in_tail, b.add(tail, tail), b.const(2 * _TAIL, p)))
    z = b.mul(b.select(in_tail, b.select(upper, far, b.neg(far)), near), math.sqrt(2.0))
    inside = b.and_(b.cmp("ge", p, 0.0), b.cmp("le", p, 1.0))
    return b.select(inside, z, b.const(math.nan, p))
