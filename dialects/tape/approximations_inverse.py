"""Inverse trigonometric functions, hyperbolic functions and their inverses, powers of 2, logarithms to base 2 and 10.

In: an emitter and its values. Out: values, special cases as in C. Angles beyond the polynomials' range are turned into small ones
(pi/4 + atan((x - 1)/(x + 1)), pi/2 - 2 asin(sqrt((1 - x)/2))), so that one polynomial serves all. Next: `approximations_error.py`.
"""

from __future__ import annotations

import math

from flambeau.dialects.tape import coefficients as c
from flambeau.dialects.tape import coefficients_special as s
from flambeau.dialects.tape.approximations import _log_of_parts, _log_special, exp_below, log, log1p
from flambeau.dialects.tape.approximations_common import (
    at_least,
    at_most,
    format_of,
    polynomial,
    round_scaled,
    scale_by_shifted,
    split_any_exponent,
)

_TAN_EIGHTH = math.sqrt(2.0) - 1.0
#: From here on 1 + x^2 = x^2, and less than it that squares overflow.
_LARGE = {"f32": 2.0**28, "f64": 2.0**56}


# ---- angles -------------------------------------------------------------------------------------------------


def _small_atan(b, t):
    """atan(t) for |t| <= tan(pi/8)."""
    square = b.mul(t, t)
    return b.fma(b.mul(t, square), polynomial(b, square, s.ATAN[format_of(t).name]), t)


def _angle(b, opposite, adjacent):
    """atan(opposite / adjacent) for numbers not below 0, infinities included; NaN for two zeros, and beside a NaN."""
    high, low, _ = c.HALF_PI[format_of(opposite).name]
    steep = b.cmp("gt", opposite, adjacent)
    lesser, greater = b.select(steep, adjacent, opposite), b.select(steep, opposite, adjacent)
    both = b.cmp("eq", lesser, math.inf)
    diagonal = b.or_(both, b.cmp("gt", lesser, b.mul(greater, _TAN_EIGHTH)))
    one = b.const(1.0, lesser)
    scale = b.select(b.cmp("gt", greater, one), b.const(0.5, lesser), one)  # so that sums do not overflow
    zero, least, most = b.const(0.0, lesser), b.mul(lesser, scale), b.mul(greater, scale)
    difference, total = b.sub(least, most), b.add(least, most)
    numerator, denominator = b.select(diagonal, difference, lesser), b.select(diagonal, total, greater)
    quotient = b.select(both, zero, b.div(numerator, denominator))
    # what difference, sum and quotient were rounded by (Dekker, 1971)
    negative = b.neg(quotient)
    lost = b.fma(negative, b.sub(least, b.sub(total, most)), b.sub(least, b.add(difference, most)))
    lost = b.add(b.fma(negative, denominator, numerator), b.select(diagonal, lost, zero))
    lost = b.div(lost, denominator)
    lost = b.select(b.is_nan(lost), zero, b.fma(b.mul(negative, quotient), lost, lost))
    small = _small_atan(b, quotient)
    first, first_low = (
        b.select(diagonal, b.const(high / 2, small), zero),
        b.select(diagonal, b.const(low / 2, small), zero),
    )
    upper, upper_low = b.sub(high, first), b.sub(low, b.add(first_low, lost))
    flat = b.add(first, b.add(small, b.add(first_low, lost)))
    return b.select(steep, b.add(upper, b.sub(upper_low, small)), flat)


def atan(b, x):
    return b.copysign(_angle(b, b.abs(x), b.const(1.0, x)), x)


def atan2(b, y, x):
    """The angle of the point (x, y); with C's special cases."""
    high, low = s.PI[format_of(x).name]
    opposite, adjacent = b.abs(y), b.abs(x)
    nothing = b.and_(b.cmp("eq", opposite, 0.0), b.cmp("eq", adjacent, 0.0))
    angle = b.select(nothing, b.const(0.0, x), _angle(b, opposite, adjacent))
    behind = b.cmp("lt", b.copysign(b.const(1.0, x), x), 0.0)
    angle = b.select(behind, b.add(b.sub(high, angle), low), angle)
    nan = b.or_(b.is_nan(x), b.is_nan(y))
    return b.select(nan, b.const(math.nan, x), b.copysign(angle, y))


def _arc(b, x):
    """(large, r, asin(r)) with r = |x| up to 1/2, and beyond that sqrt((1 - |x|)/2)."""
    magnitude = b.abs(x)
    large = b.cmp("gt", magnitude, 0.5)
    halved = b.mul(b.sub(1.0, magnitude), 0.5)
    square = b.select(large, halved, b.mul(x, x))
    r = b.select(large, b.sqrt(halved), magnitude)
    return large, r, b.fma(b.mul(r, square), polynomial(b, square, s.ASIN[format_of(x).name]), r)


def asin(b, x):
    high, low, _ = c.HALF_PI[format_of(x).name]
    large, _, arc = _arc(b, x)
    return b.copysign(b.select(large, b.sub(high, b.sub(b.mul(arc, 2.0), low)), arc), x)


def acos(b, x):
    """pi/2 - asin(x) near 0, 2 asin(r) above 1/2, pi - 2 asin(r) below -1/2."""
    high, low, _ = c.HALF_PI[format_of(x).name]
    large, _, arc = _arc(b, x)
    doubled, negative = b.mul(arc, 2.0), b.cmp("lt", x, 0.0)
    far = b.select(negative, b.sub(2 * high, b.sub(doubled, 2 * low)), doubled)
    near = b.sub(high, b.sub(b.copysign(arc, x), low))
    return b.select(large, far, near)


# ---- hyperbolic ---------------------------------------------------------------------------------------------


def sinh(b, x):
    magnitude, square = b.abs(x), b.mul(x, x)
    half = exp_below(b, magnitude, 1)
    far = b.sub(half, b.div(0.25, half))
    near = b.fma(b.mul(magnitude, square), polynomial(b, square, s.SINH[format_of(x).name]), magnitude)
    return b.copysign(b.select(b.cmp("lt", magnitude, 1.0), near, far), x)


def cosh(b, x):
    half = exp_below(b, b.abs(x), 1)
    return b.add(half, b.div(0.25, half))


def asinh(b, x):
    """ln(1 + |x| + x^2 / (1 + sqrt(1 + x^2))), of large x ln|x| + ln 2."""
    magnitude, limit = b.abs(x), _LARGE[format_of(x).name]
    large = b.cmp("gt", magnitude, limit)
    z = b.select(large, b.const(1.0, x), magnitude)
    square = b.mul(z, z)
    inner = b.add(z, b.div(square, b.add(b.sqrt(b.add(square, 1.0)), 1.0)))
    return b.copysign(_log1p_or_doubled(b, large, magnitude, inner), x)


def acosh(b, x):
    """ln(1 + t + sqrt(2 t + t^2)) for t = x - 1, of large x ln x + ln 2."""
    large = b.cmp("gt", x, _LARGE[format_of(x).name])
    t = b.sub(b.select(large, b.const(2.0, x), x), 1.0)
    inner = b.add(t, b.sqrt(b.mul(t, b.add(t, 2.0))))
    inner = b.select(b.cmp("lt", x, 1.0), b.const(math.nan, x), inner)
    return _log1p_or_doubled(b, large, x, inner)


def _log1p_or_doubled(b, large, x, inner):
    """ln(2 x) of large x, ln(1 + inner) of others."""
    doubled = b.add(log(b, b.select(large, x, b.const(1.0, x))), math.log(2.0))
    return b.select(large, doubled, log1p(b, inner))


def atanh(b, x):
    """ln((1 + |x|) / (1 - |x|)) / 2."""
    magnitude = b.abs(x)
    inner = b.div(b.add(magnitude, magnitude), b.sub(1.0, magnitude))
    inside = b.cmp("le", magnitude, 1.0)
    half = b.mul(log1p(b, b.select(inside, inner, b.const(0.0, x))), 0.5)
    tiny = b.cmp("lt", magnitude, 2.0 ** -(format_of(x).mantissa + 2))  # keeps subnormals
    return b.select(inside, b.select(tiny, x, b.copysign(half, x)), b.const(math.nan, x))


# ---- other bases --------------------------------------------------------------------------------------------


def exp2(b, x):
    lowest, highest = {"f32": (-254.0, 129.0), "f64": (-2046.0, 1025.0)}[format_of(x).name]  # as for exp
    clamped = at_least(b, at_most(b, x, highest), lowest)
    n, shifted = round_scaled(b, clamped, 1.0)
    r = b.sub(clamped, n)
    return scale_by_shifted(b, b.fma(r, polynomial(b, r, s.EXP2[format_of(x).name]), 1.0), shifted)


def log2(b, x):
    high, low = s.INVERSE_LN2[format_of(x).name]
    exponent, m = split_any_exponent(b, x)
    y = _log_of_parts(b, b.const(0.0, x), b.sub(m, 1.0))
    return _log_special(b, x, b.fma(y, high, b.fma(y, low, exponent)))


def log10(b, x):
    form = format_of(x).name
    high, low = s.INVERSE_LN10[form]
    two, two_low = s.LOG10_2[form]
    exponent, m = split_any_exponent(b, x)
    y = _log_of_parts(b, b.const(0.0, x), b.sub(m, 1.0))
    return _log_special(b, x, b.fma(exponent, two, b.fma(y, high, b.fma(y, low, b.mul(exponent, two_low)))))
