"""Modified Bessel functions of the first kind, orders 0 and 1, plain and scaled by e^-|x|.

In: an emitter and its values. Out: values. Below 7.75 their power series without its first terms is a polynomial in x^2/4; beyond
it they are e^|x| / sqrt(|x|) times one in 1/|x| (as in Holoborodko, "Rational approximations for the modified Bessel function of
the first kind", 2015). Next: `special.py`, their records.
"""

from __future__ import annotations

import math

from flambeau.dialects.tape import coefficients_special as s
from flambeau.dialects.tape.approximations import exp, exp_below
from flambeau.dialects.tape.approximations_common import format_of, polynomial

_SPLIT = 7.75
_TABLES = ((s.I0, s.I0_TAIL), (s.I1, s.I1_TAIL))


def _parts(b, x, order: int):
    """(is near, |I| near 0, |I| e^-|x| sqrt(|x|) beyond)."""
    series, tail = (table[format_of(x).name] for table in _TABLES[order])
    y = b.abs(x)
    quarter = b.mul(b.mul(y, y), 0.25)
    near = b.fma(quarter, polynomial(b, quarter, series), 1.0)
    near = near if order == 0 else b.mul(b.mul(y, 0.5), near)
    return b.cmp("lt", y, _SPLIT), near, polynomial(b, b.div(1.0, y), tail)


def _plain(b, x, order: int):
    is_near, near, tail = _parts(b, x, order)
    y = b.abs(x)
    far = b.mul(b.mul(b.div(tail, b.sqrt(y)), exp_below(b, y, 8)), 2.0**8)
    result = b.select(is_near, near, far)
    result = b.select(b.cmp("eq", y, math.inf), y, result)
    return result if order == 0 else b.copysign(result, x)


def _scaled(b, x, order: int):
    is_near, near, tail = _parts(b, x, order)
    y = b.abs(x)
    result = b.select(is_near, b.mul(near, exp(b, b.neg(y))), b.div(tail, b.sqrt(y)))
    return result if order == 0 else b.copysign(result, x)


def i0(b, x):
    return _plain(b, x, 0)


def i1(b, x):
    return _plain(b, x, 1)


def i0e(b, x):
    return _scaled(b, x, 0)


def i1e(b, x):
    return _scaled(b, x, 1)
