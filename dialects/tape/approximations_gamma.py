"""Functions around gamma: lgamma, digamma and Hurwitz's zeta.

In: an emitter and its values. Out: values. Small arguments are shifted by the recurrence to an interval that has a polynomial,
large ones have Stirling's series, negative ones are reflected; zeta is summed by Euler and Maclaurin's formula (as in Moshier's
Cephes, 1989). Next: `approximations_bessel.py`.
"""

from __future__ import annotations

import math

from flambeau.dialects.tape import coefficients as c
from flambeau.dialects.tape import coefficients_special as s
from flambeau.dialects.tape.approximations import log
from flambeau.dialects.tape.approximations_common import format_of, polynomial
from flambeau.dialects.tape.approximations_power import pow

_LGAMMA_SPLIT, _DIGAMMA_SPLIT = 8, 10


def _half_turns(b, x):
    """(|sin|, |cos|) of pi x, exactly periodic."""
    fraction = b.abs(b.sub(x, b.round_even(x)))
    near = b.cmp("le", fraction, 0.25)
    theta = b.mul(b.select(near, fraction, b.sub(0.5, fraction)), math.pi)
    square, form = b.mul(theta, theta), format_of(x).name
    sine = b.fma(b.mul(theta, square), polynomial(b, square, c.SIN[form]), theta)
    cosine = b.fma(b.mul(square, square), polynomial(b, square, c.COS[form]), b.fma(square, -0.5, 1.0))
    return b.select(near, sine, cosine), b.select(near, cosine, sine)


def lgamma(b, x):
    """ln|gamma(x)|; of x < 0 ln(pi / |x sin(pi x)|) - lgamma(-x)."""
    y = b.abs(x)
    positive = _lgamma_above_0(b, y)
    sine, _ = _half_turns(b, y)
    reflected = b.sub(b.sub(math.log(math.pi), log(b, b.mul(y, sine))), positive)
    tiny = b.cmp("lt", y, 2.0**-60)  # there lgamma(x) = -ln|x|, and y^2 would vanish
    result = b.select(b.and_(b.cmp("lt", x, 0.0), b.not_(tiny)), reflected, positive)
    pole = b.and_(b.cmp("lt", x, 0.0), b.cmp("eq", sine, 0.0))
    return b.select(b.or_(pole, b.cmp("eq", y, math.inf)), b.const(math.inf, x), result)


def _lgamma_above_0(b, y):
    form = format_of(y).name
    small = b.cmp("lt", y, _LGAMMA_SPLIT - 0.5)
    n = b.round_even(b.select(small, y, b.const(1.0, y)))
    z = b.sub(b.select(small, y, b.const(1.0, y)), n)
    product = b.const(1.0, y)
    for k in range(2, _LGAMMA_SPLIT - 1):  # lgamma(2 + z) + ln((2 + z) (3 + z) ...)
        product = b.select(b.cmp("gt", n, float(k)), b.mul(product, b.add(z, float(k))), product)
    below = b.cmp("lt", n, 2.0)
    product = b.select(below, y, product)
    product = b.select(b.cmp("eq", n, 0.0), b.fma(y, y, y), product)  # lgamma(2 + y) - ln(y (1 + y))
    logarithm = log(b, b.select(small, product, y))
    near = b.fma(z, polynomial(b, z, s.LGAMMA[form]), b.select(below, b.neg(logarithm), logarithm))
    inverse = b.div(1.0, y)
    series = b.mul(inverse, polynomial(b, b.mul(inverse, inverse), s.STIRLING[form]))
    rest = b.add(series, math.log(2 * math.pi) / 2 - 0.5)
    return b.select(small, near, b.fma(b.sub(y, 0.5), b.sub(logarithm, 1.0), rest))


def digamma(b, x):
    """The derivative of lgamma; of x < 0 digamma(1 - x) - pi/tan(pi x). NaN at negative integers, infinite at zeros."""
    negative = b.cmp("lt", x, 0.0)
    positive = _digamma_above_0(b, b.select(negative, b.sub(1.0, x), x))
    sine, cosine = _half_turns(b, x)
    slope = b.copysign(b.div(b.mul(cosine, math.pi), sine), b.sub(x, b.round_even(x)))
    result = b.select(negative, b.sub(positive, slope), positive)
    pole = b.and_(negative, b.cmp("eq", x, b.round_even(x)))
    result = b.select(pole, b.const(math.nan, x), result)
    return b.select(b.cmp("eq", x, 0.0), b.copysign(b.const(math.inf, x), b.neg(x)), result)


def _digamma_above_0(b, y):
    form = format_of(y).name
    small = b.cmp("lt", y, float(_DIGAMMA_SPLIT))
    inner = b.select(small, y, b.const(1.0, y))
    whole = b.floor(inner)
    w = b.add(b.sub(inner, whole), 1.0)  # from 1 to 2
    numerator, denominator = b.const(0.0, y), b.const(1.0, y)
    for k in range(_DIGAMMA_SPLIT - 2):  # 1/w + 1/(w + 1) + ... + 1/(y - 1)
        more, term = b.cmp("gt", whole, float(k + 1)), b.add(w, float(k))
        numerator = b.select(more, b.fma(numerator, term, denominator), numerator)
        denominator = b.select(more, b.mul(denominator, term), denominator)
    below = b.cmp("lt", inner, 1.0)
    numerator = b.select(below, b.const(-1.0, y), numerator)
    shift = b.div(numerator, b.select(below, inner, denominator))
    first, second, third = s.DIGAMMA_ROOT[form]
    distance = b.sub(b.sub(b.sub(w, first), second), third)
    near = b.fma(distance, polynomial(b, b.sub(w, 1.5), s.DIGAMMA[form]), shift)
    inverse = b.div(1.0, y)
    square = b.mul(inverse, inverse)
    tail = b.fma(square, polynomial(b, square, s.DIGAMMA_TAIL[form]), b.mul(inverse, 0.5))
    return b.select(small, near, b.sub(log(b, b.select(small, b.const(1.0, y), y)), tail))


# ---- zeta ---------------------------------------------------------------------------------------------------

#: Terms summed one by one before Euler and Maclaurin's formula.
_ZETA_TERMS = 10


def _bernoulli(count: int) -> list[float]:
    """B_2j / (2j)! for j = 1 ..., from their generating function x / (e^x - 1)."""
    from fractions import Fraction

    series = [Fraction(1)]
    for n in range(1, 2 * count + 1):
        series.append(-sum((series[k] / math.factorial(n + 1 - k) for k in range(n)), Fraction(0)))
    return [float(series[2 * j]) for j in range(1, count + 1)]


_BERNOULLI = _bernoulli(12)


def _zeta_above_0(b, x, q):
    """The sum of (q + k)^-x over k = 0, 1, ... for q > 0 and x > 1."""
    zero, power = b.select(b.is_nan(q), q, 0.0), b.neg(x)  # as wide as q: loops keep their types
    total, w = b.repeat(
        [zero, q],
        lambda total, w: b.cmp("lt", b.sub(w, q), float(_ZETA_TERMS)),
        lambda total, w: [b.add(total, pow(b, w, power)), b.add(w, 1.0)],
        _ZETA_TERMS,
    )
    last = pow(b, w, power)
    inverse, rest = b.div(1.0, w), b.fma(b.div(last, b.sub(x, 1.0)), w, b.mul(last, 0.5))
    square, term = b.mul(inverse, inverse), b.mul(b.mul(last, x), inverse)
    for j, factor in enumerate(_BERNOULLI):
        rest = b.fma(term, factor, rest)
        term = b.mul(b.mul(term, square), b.mul(b.add(x, 2.0 * j + 1), b.add(x, 2.0 * j + 2)))
    return b.select(b.cmp("eq", last, 0.0), total, b.add(total, rest))


def zeta(b, x, q):
    """Hurwitz's zeta function; of q < 0, where x must be whole, what is left of 0 is summed as if it were right of it."""
    if x.type == "f32":
        return b.cast(zeta(b, b.cast(x, "f64"), b.cast(q, "f64")), "f32")
    left = b.cmp("lt", q, 0.0)
    zero, one = b.select(left, b.const(0.0, x), 0.0), b.select(left, b.const(1.0, x), 1.0)  # as wide as q
    fraction = b.sub(q, b.floor(q))
    half = b.mul(x, 0.5)
    sign = b.select(b.cmp("eq", b.floor(half), half), one, b.const(-1.0, x))
    places = [b.select(left, fraction, q), b.sub(b.ceil(q), q), b.sub(1.0, q)]
    weights = [one, b.select(left, sign, zero), b.select(left, b.neg(sign), zero)]
    places = [b.select(b.cmp("gt", place, 0.0), place, one) for place in places]
    total, *_ = b.repeat(
        [zero, *places, *weights],
        lambda total, p, p1, p2, w, w1, w2: b.cmp("ne", w, 0.0),
        lambda total, p, p1, p2, w, w1, w2: [
            b.select(b.cmp("ne", w, 0.0), b.fma(w, _zeta_above_0(b, x, p), total), total), p1, p2, p, w1, w2, zero,
        ],
        3,
    )  # fmt: skip
    nan, infinity = b.const(math.nan, x), b.const(math.inf, x)
    total = b.select(b.and_(left, b.cmp("ne", b.floor(x), x)), nan, total)
    total = b.select(b.and_(b.cmp("le", q, 0.0), b.cmp("eq", b.floor(q), q)), infinity, total)
    total = b.select(b.or_(b.cmp("lt", x, 1.0), b.or_(b.is_nan(x), b.is_nan(q))), nan, total)
    return b.select(b.cmp("eq", x, 1.0), infinity, total)
