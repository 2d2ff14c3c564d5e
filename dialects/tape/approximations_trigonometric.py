"""Sine and cosine: reduction to a quarter turn, two polynomials, and the quadrant's choice between them.

In: an emitter and its values. Out: values. Arguments up to 2^17 (f32) or 2^30 (f64) are reduced with pi/2 in three
parts; if a vector has a larger one, it also takes the reduction of Payne and Hanek, with as much of 2/pi as it
needs. Next: `approximations_power.py`.
"""

from __future__ import annotations

import math

from flambeau.dialects.tape import coefficients as c
from flambeau.dialects.tape.approximations_common import (
    F64,
    format_of,
    from_exponent,
    polynomial,
    quick_two_sum,
    round_scaled,
    two_product,
    two_sum,
)

_MODERATE = {"f32": 2.0**17, "f64": 2.0**30}


def sin(b, x):
    r, quadrant = _reduce(b, x)
    return b.select(b.cmp("eq", x, 0.0), x, _by_quadrant(b, r, quadrant))  # keeps -0


def cos(b, x):
    r, quadrant = _reduce(b, x)
    return _by_quadrant(b, r, b.add(quadrant, 1))


def _by_quadrant(b, r, quadrant):
    """sin(r + quadrant * pi/2) for |r| <= pi/4."""
    square = b.mul(r, r)
    sine = b.fma(b.mul(r, square), polynomial(b, square, c.SIN[format_of(r).name]), r)
    cosine = b.fma(b.mul(square, square), polynomial(b, square, c.COS[format_of(r).name]), b.fma(square, -0.5, 1.0))
    odd = b.cmp("ne", b.and_(quadrant, 1), 0)
    form = format_of(r)
    sign = b.shl(b.shru(quadrant, 1), form.width - 1)
    result = b.select(odd, cosine, sine)
    return b.bitcast(b.xor(b.bitcast(result, form.integer), sign), form.name)


def _reduce(b, x):
    """(r, quadrant): x = r + quadrant * pi/2 modulo a full turn; of the quadrant only the low two bits count."""
    first, second, third = c.HALF_PI[format_of(x).name]
    n, shifted = round_scaled(b, x, 2 / math.pi)
    r = b.fma(n, -third, b.fma(n, -second, b.fma(n, -first, x)))
    quadrant = b.bitcast(shifted, format_of(x).integer)
    large = b.cmp("gt", b.abs(x), _MODERATE[format_of(x).name])

    def choose():
        far_r, far_quadrant = _reduce_large(b, x)
        return [b.select(large, far_r, r), b.select(large, far_quadrant, quadrant)]

    r, quadrant = b.if_else(b.any(large), choose, lambda: [r, quadrant])
    return r, quadrant


def _reduce_large(b, x):
    """`_reduce` for large x, in f64."""
    if x.type == "f64":
        return _payne_hanek(b, x, groups=len(c.TURNS) // 4)
    r, quadrant = _payne_hanek(b, b.cast(x, "f64"), groups=4)
    return b.cast(r, "f32"), b.truncate(quadrant, "i32")


def _payne_hanek(b, x, groups: int):
    """x * 2/pi modulo 4, from x = y * 2^(TURN_STEP j) and the table of 2/pi * 2^(TURN_STEP j) modulo 4 in four parts.

    Each product is exact in two numbers, each is brought below 2 in magnitude by taking off multiples of 4, and the
    sum is kept in two numbers, so that what is left after cancellation is still accurate.
    """
    bits = b.bitcast(x, "i64")
    exponent = b.and_(b.shru(bits, F64.mantissa), 0x7FF)
    above = b.maximum(b.sub(exponent, F64.bias + F64.mantissa), 0)
    group = b.minimum(b.div_unsigned(above, c.TURN_STEP), groups - 1)
    y = b.mul(x, from_exponent(b, b.sub(b.const(F64.bias, group), b.mul(group, c.TURN_STEP)), F64))
    table, row = b.table(c.TURNS[: 4 * groups], "f64"), b.mul(group, 4)
    parts = [two_product(b, y, b.gather(table, b.add(row, i), "f64")) for i in range(4)]
    (h0, l0), (h1, l1), (h2, l2), (h3, _) = parts
    total, first_error = two_sum(b, _modulo_4(b, h0), _modulo_4(b, l0))
    total, second_error = two_sum(b, total, _modulo_4(b, h1))
    n, shifted = round_scaled(b, total, 1.0)
    low, lowest = first_error, b.add(l2, h3)
    for term in (second_error, l1, h2):
        low, error = two_sum(b, low, term)
        lowest = b.add(lowest, error)
    high, low = two_sum(b, b.sub(total, n), low)
    high, low = quick_two_sum(b, high, b.add(low, lowest))
    half_pi, half_pi_low = c.HALF_PI_WIDE["f64"]
    r, error = two_product(b, high, b.const(half_pi, high))
    r = b.add(r, b.fma(high, half_pi_low, b.fma(low, half_pi, error)))
    finite = b.cmp("lt", b.abs(x), math.inf)
    return b.select(finite, r, b.const(math.nan, r)), b.bitcast(shifted, "i64")


def _modulo_4(b, x):
    """x minus the nearest multiple of 4."""
    return b.fma(b.round_even(b.mul(x, 0.25)), -4.0, x)
