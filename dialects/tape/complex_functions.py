"""exp, log, sqrt, powers, trigonometric and hyperbolic functions of complex numbers, and their inverses, in real arithmetic.

In: `Pair`s. Out: `Pair`s. Values at zeros, infinities and NaNs are those of C99, annex G, which PyTorch has. Branch cuts: Kahan,
"Branch cuts for complex elementary functions", 1987, from which the formulas are, as those of CPython's `cmath`. Next:
`transcendental.py`, `inverse.py`, the records.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau.dialects.parts import Pair
from flambeau.dialects.tape.complex_formulas import ops, product, quotient


def _finite(x: Any) -> Any:
    return ops.abs(x) < math.inf


def _or(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y; either may be a number."""
    like = y if isinstance(x, int | float) else x
    x, y = (v if hasattr(v, "aval") else like.like(float(v)) for v in (x, y))
    return ops.select(condition, x, y)


def _endless(x: Any, y: Any) -> Any:
    """Where x is infinite, and y neither an angle."""
    return ops.and_(ops.abs(x).eq(math.inf), ops.not_(_finite(y)))


def _lost(x: Any, y: Any) -> Any:
    """Where x is 0, and y no angle: a product with what y gives is 0 all the same."""
    return ops.and_(x.eq(0.0), ops.not_(_finite(y)))


def times_i(x: Pair) -> Pair:
    return Pair(-x.im, x.re)


def times_minus_i(x: Pair) -> Pair:
    return Pair(x.im, -x.re)


def _one_minus(x: Pair) -> Pair:
    return Pair(1.0 - x.re, -x.im)


def _one_plus(x: Pair) -> Pair:
    return Pair(x.re + 1.0, x.im)


def _scaled(x: Pair, factor: float) -> Pair:
    return Pair(x.re * factor, x.im * factor)


# ---- exponentials and logarithms -------------------------------------------------------------------------------


def exp(x: Pair) -> Pair:
    """exp(a) (cos b + i sin b); of -inf 0 at every angle."""
    size, angle = ops.exp(x.re), x.im
    re, im = size * ops.cos(angle), _or(angle.eq(0.0), angle, size * ops.sin(angle))
    lost = ops.not_(_finite(angle))
    gone = ops.and_(x.re.eq(-math.inf), lost)
    re = _or(ops.and_(x.re.eq(math.inf), lost), math.inf, re)
    return Pair(_or(gone, 0.0, re), _or(gone, 0.0, im))


def expm1(x: Pair) -> Pair:
    """exp(x) - 1 without its cancellation near 0: expm1(a) cos b - 2 sin(b/2)^2."""
    small, half = ops.expm1(x.re), ops.sin(x.im * 0.5)
    return Pair(small * ops.cos(x.im) - half * half * 2.0, _or(x.im.eq(0.0), x.im, ops.exp(x.re) * ops.sin(x.im)))


def log(x: Pair) -> Pair:
    """log |x| and the angle. Near 1 the former is half of log1p((m - 1)(m + 1) + n^2), m the larger part and n the smaller."""
    a, b = ops.abs(x.re), ops.abs(x.im)
    m, n = ops.maximum(a, b), ops.minimum(a, b)
    near = ops.and_(m > 0.5, m < 1.5)
    tame = _or(near, m, 1.0)
    small = ops.log1p((tame - 1.0) * (tame + 1.0) + n * n) * 0.5
    return Pair(ops.select(near, small, ops.log(ops.hypot(x.re, x.im))), ops.atan2(x.im, x.re))


def log1p(x: Pair) -> Pair:
    """log(1 + x), accurate near 0: half of log1p(a (a + 2) + b^2)."""
    a, b = x.re, x.im
    near = ops.and_(ops.abs(a) < 0.5, ops.abs(b) < 0.5)
    small = ops.log1p(a * (a + 2.0) + b * b) * 0.5
    far = log(_one_plus(x))
    return Pair(ops.select(near, small, far.re), far.im)


def exp2(x: Pair) -> Pair:
    return exp(_scaled(x, math.log(2.0)))


def log2(x: Pair) -> Pair:
    return _scaled(log(x), 1.0 / math.log(2.0))


def log10(x: Pair) -> Pair:
    return _scaled(log(x), 1.0 / math.log(10.0))


def sigmoid(x: Pair) -> Pair:
    """1 / (1 + exp(-x))."""
    one = x.re.like(1.0)
    return quotient(Pair(one, one.like(0.0)), _one_plus(exp(Pair(-x.re, -x.im))))


# ---- powers ----------------------------------------------------------------------------------------------------


def sqrt(x: Pair) -> Pair:
    """The root with a real part of no negative sign: t = sqrt((|a| + |x|) / 2) is one part, b / 2t the other."""
    a, b = x
    t = ops.sqrt(ops.abs(a) * 0.5 + ops.hypot(a, b) * 0.5)
    other = ops.abs(b) / (t + t)
    right = a >= 0.0
    right = ops.or_(right, a.ne(a))
    re = ops.select(right, t, other)
    im = ops.copysign(ops.select(right, other, t), b)
    zero, endless = ops.and_(a.eq(0.0), b.eq(0.0)), ops.abs(b).eq(math.inf)
    re = _or(zero, 0.0, _or(endless, math.inf, re))
    return Pair(re, ops.select(ops.or_(zero, endless), b, im))


def rsqrt(x: Pair) -> Pair:
    """1 / sqrt(x)."""
    one = x.re.like(1.0)
    return quotient(Pair(one, one.like(0.0)), sqrt(x))


def power(x: Pair, y: Pair) -> Pair:
    """exp(y log x); 1 where y is 0, and 0 where x is, for a y of positive real part."""
    found = exp(product(y, log(x)))
    real = y.im.eq(0.0)
    zero = ops.and_(ops.and_(x.re.eq(0.0), x.im.eq(0.0)), y.re > 0.0)
    one = ops.and_(real, y.re.eq(0.0))
    squared = ops.and_(real, y.re.eq(2.0))
    square = product(x, x)
    re, im = (ops.select(squared, s, f) for s, f in zip(square, found))
    return Pair(_or(one, 1.0, _or(zero, 0.0, re)), _or(ops.or_(one, zero), 0.0, im))


# ---- hyperbolic and trigonometric functions ----------------------------------------------------------------------


def sinh(x: Pair) -> Pair:
    """sinh(a) cos(b) + i cosh(a) sin(b)."""
    a, b = x
    re = _or(_lost(a, b), a, ops.sinh(a) * ops.cos(b))
    im = _or(b.eq(0.0), b, ops.cosh(a) * ops.sin(b))
    return Pair(_or(_endless(a, b), a, re), im)


def cosh(x: Pair) -> Pair:
    """cosh(a) cos(b) + i sinh(a) sin(b)."""
    a, b = x
    re = ops.cosh(a) * ops.cos(b)
    flat = ops.or_(a.eq(0.0), b.eq(0.0))
    nothing = ops.copysign(a.like(0.0), ops.copysign(a.like(1.0), a) * ops.copysign(b.like(1.0), b))
    im = ops.select(flat, nothing, ops.sinh(a) * ops.sin(b))
    return Pair(_or(_endless(a, b), math.inf, re), im)


def tanh(x: Pair) -> Pair:
    """Kahan's: by t = tan(b) and s = sinh(a), and for a large a by its limit."""
    a, b = x
    size = ops.abs(a)
    large = size > 20.0
    tame = _or(large, 0.0, a)
    sine, cosine = ops.sin(b), ops.cos(b)
    t, s = sine / cosine, ops.sinh(tame)
    beta, rho = t * t + 1.0, ops.sqrt(s * s + 1.0)
    below = beta * s * s + 1.0
    rest = ops.exp(size * -2.0) * sine * cosine * 4.0
    rest = _or(ops.and_(size.eq(math.inf), ops.not_(_finite(b))), 0.0, rest)
    re = ops.select(large, ops.copysign(a.like(1.0), a), beta * rho * s / below)
    im = _or(b.eq(0.0), b, ops.select(large, rest, t / below))
    return Pair(_or(_lost(a, b), a, re), im)


def sin(x: Pair) -> Pair:
    return times_minus_i(sinh(times_i(x)))


def cos(x: Pair) -> Pair:
    return cosh(times_i(x))


def tan(x: Pair) -> Pair:
    return times_minus_i(tanh(times_i(x)))


# ---- their inverses --------------------------------------------------------------------------------------------


def _large(x: Pair) -> Any:
    """Where squares of the parts may overflow, or are all that counts."""
    bound = 2.0 ** (x.re.dtype.mantissa + 8)
    return ops.or_(ops.abs(x.re) > bound, ops.abs(x.im) > bound)


def _log_of_twice(x: Pair) -> Any:
    """log |2 x|."""
    return ops.log(ops.hypot(x.re * 0.5, x.im * 0.5)) + 2.0 * math.log(2.0)


def _where(condition: Any, x: Pair, y: Pair) -> Pair:
    return Pair(ops.select(condition, x.re, y.re), ops.select(condition, x.im, y.im))


def asinh(x: Pair) -> Pair:
    first, second = sqrt(_one_minus(times_i(x))), sqrt(_one_plus(times_i(x)))
    re = ops.asinh(first.re * second.im - second.re * first.im)
    im = ops.atan2(x.im, first.re * second.re - first.im * second.im)
    far = Pair(ops.copysign(_log_of_twice(x), x.re), ops.atan2(x.im, ops.abs(x.re)))
    found = _where(_large(x), far, Pair(re, im))
    return Pair(found.re, _or(x.im.eq(0.0), x.im, found.im))


def acosh(x: Pair) -> Pair:
    first, second = sqrt(Pair(x.re - 1.0, x.im)), sqrt(_one_plus(x))
    re = ops.asinh(first.re * second.re + first.im * second.im)
    im = ops.atan2(first.im, second.re) * 2.0
    return _where(_large(x), Pair(_log_of_twice(x), ops.atan2(x.im, x.re)), Pair(re, im))


def acos(x: Pair) -> Pair:
    first, second = sqrt(_one_minus(x)), sqrt(_one_plus(x))
    re = ops.atan2(first.re, second.re) * 2.0
    im = ops.asinh(second.re * first.im - second.im * first.re)
    far = Pair(ops.atan2(ops.abs(x.im), x.re), ops.copysign(_log_of_twice(x), -x.im))
    return _where(_large(x), far, Pair(re, im))


def asin(x: Pair) -> Pair:
    return times_minus_i(asinh(times_i(x)))


def atanh(x: Pair) -> Pair:
    """On the right half plane, from which the left one follows by its symmetry."""
    sign = ops.copysign(x.re.like(1.0), x.re)
    a, b = x.re * sign, x.im * sign
    size = ops.abs(b)
    h = ops.hypot(a * 0.5, b * 0.5)
    far = Pair(a / 4.0 / h / h, ops.copysign(b.like(0.5 * math.pi), b))
    far = Pair(_or(h.eq(math.inf), 0.0, far.re), _or(b.ne(b), b, far.im))
    gap = 1.0 - a
    below = gap * gap + size * size
    re = ops.log1p(a * 4.0 / below) * 0.25
    im = ops.atan2(b * 2.0, gap * (a + 1.0) - size * size) * 0.5
    found = _where(_large(x), far, Pair(re, im))
    return Pair(_or(x.re.eq(0.0), x.re, found.re * sign), found.im * sign)


def atan(x: Pair) -> Pair:
    return times_minus_i(atanh(times_i(x)))
