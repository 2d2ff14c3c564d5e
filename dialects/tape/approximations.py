"""How compiled code computes the elementary functions: branch-free, for f32 and f64, scalars and vectors.

In: an emitter `b` and its values. Out: a value within about one unit in the last place of the exact function,
with every special value (signed zeros, infinities, NaN, subnormals) as in C. Coefficients are derived by
`tools/derive_coefficients.py`. Next: `approximations_trigonometric.py`, `approximations_power.py`.
"""

from __future__ import annotations

import math

from flambeau.dialects.tape import coefficients as c
from flambeau.dialects.tape.approximations_common import (
    at_least,
    at_most,
    format_of,
    from_exponent,
    polynomial,
    round_scaled,
    scale_by_shifted,
    scale_within_range,
    shifted_integer,
    split_any_exponent,
    split_exponent,
)
from flambeau.dialects.tape.approximations_power import pow
from flambeau.dialects.tape.approximations_trigonometric import cos, sin

__all__ = ["cos", "erf", "exp", "expm1", "log", "log1p", "philox", "pow", "rsqrt", "sigmoid", "sin", "tanh"]

# Beyond these the result is 0, infinite, or the limit of the function, and stays that way. At the lowest both steps of
# `scale_by_shifted` multiply by 0: what is masked is 0 without an underflow, which some machines take long for.
_EXP_RANGE = {"f32": (-176.0, 89.0), "f64": (-1418.0, 710.0)}
_EXPM1_LOWEST = {"f32": -20.0, "f64": -40.0}
_TANH_END = {"f32": 10.0, "f64": 20.0}
_ERF_SPLIT = {"f32": 0.921875, "f64": 1.0}
_ERF_END = {"f32": 3.96, "f64": 5.95}


def _reduce_by_ln2(b, x):
    """(r, n shifted) with x = n ln 2 + r and |r| <= ln(2)/2."""
    high, low = c.LN2[format_of(x).name]
    n, shifted = round_scaled(b, x, 1 / math.log(2))
    return b.fma(n, -low, b.fma(n, -high, x)), shifted


def _expm1_reduced(b, r):
    """e^r - 1 for |r| <= ln(2)/2."""
    return b.fma(b.mul(r, r), polynomial(b, r, c.EXP[format_of(r).name]), r)


def _exp_in_range(b, x):
    """e^x where that is a normal number."""
    r, shifted = _reduce_by_ln2(b, x)
    return scale_within_range(b, b.add(_expm1_reduced(b, r), 1.0), shifted)


def exp(b, x):
    lowest, highest = _EXP_RANGE[format_of(x).name]
    r, shifted = _reduce_by_ln2(b, at_least(b, at_most(b, x, highest), lowest))
    return scale_by_shifted(b, b.add(_expm1_reduced(b, r), 1.0), shifted)


def exp_below(b, x, bits: int):
    """e^x / 2^bits for x >= 0 and a few bits, which overflows that much later than e^x."""
    r, shifted = _reduce_by_ln2(b, at_most(b, x, _EXP_RANGE[format_of(x).name][1] + bits))
    return scale_by_shifted(b, b.add(_expm1_reduced(b, r), 1.0), shifted, -bits)


def expm1(b, x):
    """2^n e^r - 1 at half size, so that 2^n does not overflow first: 2^(n-1) tail + (2^(n-1) r + (2^(n-1) - 1/2)).

    The tail is e^r - 1 - r, with the rounding error of r added to it.
    """
    form = format_of(x)
    clamped = at_least(b, at_most(b, x, _EXP_RANGE[format_of(x).name][1]), _EXPM1_LOWEST[format_of(x).name])
    high, low = c.LN2[format_of(x).name]
    n, shifted = round_scaled(b, clamped, 1 / math.log(2))
    exact, correction = b.fma(n, -high, clamped), b.mul(n, low)
    r = b.sub(exact, correction)
    tail = b.fma(b.mul(r, r), polynomial(b, r, c.EXP[format_of(x).name]), b.sub(b.sub(exact, r), correction))
    scale = from_exponent(b, shifted_integer(b, shifted, form.bias - 1), form)
    half = b.fma(tail, scale, b.fma(r, scale, b.sub(scale, 0.5)))
    tiny = b.cmp("lt", b.abs(x), 2.0 ** -(form.mantissa + 2))  # there the result is x; keeps -0 and subnormals
    return b.select(tiny, x, b.add(half, half))


def _log_of_parts(b, exponent, f):
    """exponent * ln 2 + ln(1 + f) for 1 + f from sqrt(1/2) to sqrt(2)."""
    high, low = c.LN2[format_of(f).name]
    square = b.mul(f, f)
    if f.type == "f32":
        tail = b.fma(square, b.fma(polynomial(b, f, c.LOG["f32"]), f, -0.5), f)
        return b.fma(exponent, high, b.fma(exponent, low, tail))
    half_square = b.mul(square, 0.5)
    s = b.div(f, b.add(f, 2.0))
    t = b.mul(s, s)
    tail = b.fma(polynomial(b, t, c.LOG["f64"]), t, half_square)
    correction = b.fma(s, tail, b.mul(exponent, low))
    return b.fma(exponent, high, b.sub(f, b.sub(half_square, correction)))


def _log_special(b, x, y):
    """`y`, or the logarithm of x where x is 0, negative, infinite or NaN."""
    infinity = b.const(math.inf, x)
    y = b.select(b.cmp("eq", x, infinity), infinity, y)
    y = b.select(b.cmp("eq", x, 0.0), b.const(-math.inf, x), y)
    return b.select(b.cmp("ge", x, 0.0), y, b.const(math.nan, x))


def log(b, x):
    exponent, m = split_any_exponent(b, x)
    return _log_special(b, x, _log_of_parts(b, exponent, b.sub(m, 1.0)))


def log1p(b, x):
    """ln(1 + x) for 1 + x = 2^e (1 + f): f = 2^-e x + (2^-e - 1) does not suffer from the rounding of 1 + x."""
    form = format_of(x)
    u = b.add(x, 1.0)
    exponent, m = split_exponent(b, u)
    scale = from_exponent(b, b.sub(b.const(form.bias, exponent), exponent), form)
    large = b.cmp("gt", exponent, form.mantissa + 4)  # there 1 + x = x
    f = b.select(large, b.sub(m, 1.0), b.fma(x, scale, b.sub(scale, 1.0)))
    y = _log_of_parts(b, b.cast(exponent, x.type), f)
    return b.copysign(_log_special(b, u, y), x)


def tanh(b, x):
    """(e^2|x| - 1) / (e^2|x| + 1), the numerator exact near 0 as in `expm1`."""
    form = format_of(x)
    doubled = b.mul(at_most(b, b.abs(x), _TANH_END[format_of(x).name]), 2.0)
    r, shifted = _reduce_by_ln2(b, doubled)
    scale = from_exponent(b, shifted_integer(b, shifted, form.bias), form)
    less_one = b.fma(_expm1_reduced(b, r), scale, b.sub(scale, 1.0))
    return b.copysign(b.div(less_one, b.add(less_one, 2.0)), x)


def sigmoid(b, x):
    """z / (1 + z) or 1 / (1 + z) with z = e^-|x|, which cannot overflow."""
    z = exp(b, b.neg(b.abs(x)))
    numerator = b.select(b.cmp("lt", x, 0.0), z, b.const(1.0, x))
    return b.div(numerator, b.add(z, 1.0))


def erf(b, x):
    """x + x P(x^2) near 0, elsewhere 1 - e^-(|x| + |x| Q(|x|))."""
    magnitude, square = b.abs(x), b.mul(x, x)
    near = b.fma(magnitude, polynomial(b, square, c.ERF_SMALL[format_of(x).name]), magnitude)
    t = at_most(b, magnitude, _ERF_END[format_of(x).name])
    exponent = b.fma(t, polynomial(b, t, c.ERF_LARGE[format_of(x).name]), t)
    far = b.sub(1.0, _exp_in_range(b, b.neg(exponent)))
    return b.copysign(b.select(b.cmp("lt", magnitude, _ERF_SPLIT[format_of(x).name]), near, far), x)


def rsqrt(b, x):
    return b.div(1.0, b.sqrt(x))


def philox(b, seed, offset, position):
    """Word 0 of Philox4x32-10 (Salmon et al. 2011) for the counter offset + position and the key seed; i64 to i32.

    Words live in the low halves of i64, where one product gives both of its halves.
    """
    low_half, multipliers, increments = 0xFFFFFFFF, (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
    counter = b.add(position, offset)
    words = [b.and_(counter, low_half), b.shru(counter, 32), b.const(0, counter), b.const(0, counter)]
    keys = [b.and_(seed, low_half), b.shru(seed, 32)]
    for _ in range(10):
        first, second = b.mul(words[0], multipliers[0]), b.mul(words[2], multipliers[1])
        words = [
            b.xor(b.xor(b.shru(second, 32), words[1]), keys[0]),
            b.and_(second, low_half),
            b.xor(b.xor(b.shru(first, 32), words[3]), keys[1]),
            b.and_(first, low_half),
        ]
        keys = [b.and_(b.add(k, w), low_half) for k, w in zip(keys, increments)]
    return b.truncate(words[0], "i32")
