"""x to the power y as e^(y ln x), with a logarithm accurate enough that the exponent keeps its last bits.

In: an emitter and its values. Out: values, special cases as in C's pow. f32 is computed in f64; f64 with
unevaluated sums of two numbers. Next: `approximations_common.py`.
"""

from __future__ import annotations

import math

from flambeau.dialects.tape import coefficients as c
from flambeau.dialects.tape.approximations_common import (
    at_least,
    at_most,
    double_product,
    format_of,
    polynomial,
    quick_two_sum,
    round_scaled,
    scale_by_shifted,
    scale_within_range,
    split_any_exponent,
    split_exponent,
    two_product,
    two_sum,
)


def pow(b, x, y):
    magnitude = b.abs(x)
    power = {"f32": _power_f32, "f64": _power_f64}[format_of(x).name]
    return _special_cases(b, x, y, magnitude, power(b, magnitude, y))


def _power_f32(b, x, y):
    """2^(y log2 x) in f64, rounded once."""
    x, y = b.cast(x, "f64"), b.cast(y, "f64")
    exponent, m = split_exponent(b, x)
    s = b.div(b.sub(m, 1.0), b.add(m, 1.0))
    log2 = b.fma(s, polynomial(b, b.mul(s, s), c.POW_LOG2["f32"]), b.cast(exponent, "f64"))
    t = at_least(b, at_most(b, b.mul(y, log2), 200.0), -200.0)
    n, shifted = round_scaled(b, t, 1.0)
    return b.cast(scale_within_range(b, polynomial(b, b.sub(t, n), c.POW_EXP2["f32"]), shifted), "f32")


def _power_f64(b, x, y):
    """e^(y ln x) with ln x and the product in two numbers each."""
    high, low = _log_in_two(b, x)
    product, error = two_product(b, high, y)
    error = b.fma(low, y, error)
    product = at_least(b, at_most(b, product, 800.0), -800.0)
    error = b.select(b.cmp("lt", b.abs(product), 800.0), error, b.const(0.0, error))
    return _exp_of_two(b, product, error)


def _log_in_two(b, x):
    """ln x for positive x as (high, low), to about 2^-68 of its value: ln m = 2s + s^3 (2/3 + ...), s = (m-1)/(m+1)."""
    exponent, m = split_any_exponent(b, x)
    s = _quotient_in_two(b, m)
    square = double_product(b, s, s)
    tail = b.mul(polynomial(b, square[0], c.POW_LOG["f64"]), square[0])
    two_thirds, two_thirds_low = c.TWO_THIRDS["f64"]
    high, low = quick_two_sum(b, b.const(two_thirds, tail), tail)
    cubic = double_product(b, double_product(b, s, square), (high, b.add(low, two_thirds_low)))
    first, second, third = c.LN2_WIDE["f64"]
    total, error1 = two_sum(b, b.mul(exponent, first), b.add(s[0], s[0]))
    total, error2 = two_sum(b, total, cubic[0])
    rest = b.fma(exponent, third, b.add(b.add(s[1], s[1]), cubic[1]))
    rest = b.add(b.fma(exponent, second, b.add(error1, error2)), rest)
    return quick_two_sum(b, total, rest)


def _quotient_in_two(b, m):
    """(m - 1) / (m + 1) as (high, low) for m from 1/2 to 2, where m - 1 is exact."""
    numerator = b.sub(m, 1.0)
    denominator, error = quick_two_sum(b, *_ordered(b, m))
    inverse = b.div(1.0, denominator)
    high = b.mul(numerator, inverse)
    remainder = b.fma(b.neg(high), denominator, numerator)
    return high, b.mul(b.fma(b.neg(high), error, remainder), inverse)


def _ordered(b, m):
    """(larger, smaller) of m and 1."""
    one, above = b.const(1.0, m), b.cmp("gt", m, 1.0)
    return b.select(above, m, one), b.select(above, one, m)


def _exp_of_two(b, x, low):
    """e^(x + low) for |x| <= 800 and low much smaller."""
    first, second, third = c.LN2_WIDE["f64"]
    n, shifted = round_scaled(b, x, 1 / math.log(2))
    r, error = two_sum(b, b.fma(n, -first, x), b.mul(n, -second))
    r, error = quick_two_sum(b, r, b.add(b.fma(n, -third, low), error))
    tail = b.fma(b.mul(r, r), polynomial(b, r, c.EXP["f64"]), error)
    return scale_by_shifted(b, b.add(b.add(r, tail), 1.0), shifted)


def _special_cases(b, x, y, magnitude, power):
    """`power` = |x|^y, given its sign and replaced where C's pow says so."""
    zero, one = b.const(0.0, x), b.const(1.0, x)
    infinity, nan = b.const(math.inf, x), b.const(math.nan, x)
    y_size = b.abs(y)
    x_extreme = b.or_(b.cmp("eq", magnitude, zero), b.cmp("eq", magnitude, infinity))
    extreme = b.or_(x_extreme, b.cmp("eq", y_size, infinity))
    grows = b.cmp("eq", b.cmp("gt", magnitude, one), b.cmp("gt", y, zero))
    limit = b.select(b.cmp("eq", magnitude, one), one, b.select(grows, infinity, zero))
    result = b.select(extreme, limit, power)

    whole = b.cmp("eq", b.trunc(y), y)
    half = b.mul(y, 0.5)
    odd = b.and_(whole, b.cmp("ne", b.trunc(half), half))
    result = b.select(odd, b.copysign(result, x), result)
    finite_negative = b.and_(b.cmp("lt", x, zero), b.cmp("ne", magnitude, infinity))
    result = b.select(b.and_(finite_negative, b.not_(whole)), nan, result)
    result = b.select(b.or_(b.is_nan(x), b.is_nan(y)), nan, result)
    return b.select(b.or_(b.cmp("eq", y, zero), b.cmp("eq", x, one)), one, result)
