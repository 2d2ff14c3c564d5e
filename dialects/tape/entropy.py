"""Logarithms of odds and of sums, and entropy: their gradients, as formulas, are finite where those of their parts are not.

In: floating-point operands. Computed from the functions of `approximations.py`. Next: `special.py`.
"""

from __future__ import annotations

import math

import numpy as np
from flambeau.dialects.dtypes import FLOATING
from flambeau.dialects.tape.common import elementwise, in_float64, ops, samples_of


def _logit(x: np.ndarray) -> np.ndarray:
    return np.log(x / (1 - x))


def _lower_logit(b, x):
    from flambeau.dialects.tape import approximations  # that module imports this one

    return approximations.log(b, b.div(x, b.sub(1.0, x)))


def _vjp_logit(ct, r, x):
    inside = ops.and_(x >= 0.0, x <= 1.0)
    return (ops.select(inside, ct / (x * (1.0 - x)), x.like(math.nan)),)


logit = elementwise(
    "logit",
    1,
    dtypes=FLOATING,
    reference=in_float64(_logit),
    lower=_lower_logit,
    vjp=_vjp_logit,
    samples=samples_of(1, 0.55, 0.95),
    exact=False,
    ulp=4.0,
    doc="log(x / (1 - x)): NaN beyond 0 and 1, as is the gradient.",
)


def _entr(x: np.ndarray) -> np.ndarray:
    return np.where(x == 0, 0.0, np.where(x < 0, -np.inf, -x * np.log(x)))


def _lower_entr(b, x):
    from flambeau.dialects.tape import approximations  # that module imports this one

    value = b.neg(b.mul(x, approximations.log(b, x)))
    value = b.select(b.cmp("eq", x, 0.0), b.const(0.0, x), value)
    return b.select(b.cmp("lt", x, 0.0), b.const(-math.inf, x), value)


entr = elementwise(
    "entr",
    1,
    dtypes=FLOATING,
    reference=in_float64(_entr),
    lower=_lower_entr,
    vjp=lambda ct, r, x: (-(ct * (ops.log(x) + 1.0)),),
    samples=samples_of(1, 0.1, 0.9),
    exact=False,
    ulp=4.0,
    doc="-x log(x): 0 at 0, where the gradient is infinite, and -infinity below, where it is NaN.",
)


def _apart(b, x, y):
    """(the larger, minus the distance) of two numbers; equal infinities are 0 apart."""
    same = b.and_(b.cmp("eq", x, y), b.cmp("eq", b.abs(x), math.inf))
    return b.maximum(x, y), b.select(same, b.const(0.0, x), b.neg(b.abs(b.sub(x, y))))


def _lower_logaddexp(b, x, y):
    from flambeau.dialects.tape import approximations  # that module imports this one

    larger, apart = _apart(b, x, y)
    more = approximations.log1p(b, approximations.exp(b, apart))
    return b.add(larger, more)


def _lower_logaddexp2(b, x, y):
    from flambeau.dialects.tape import approximations  # that module imports this one
    from flambeau.dialects.tape.approximations_inverse import exp2  # that module imports this one

    larger, apart = _apart(b, x, y)
    return b.fma(approximations.log1p(b, exp2(b, apart)), 1 / math.log(2.0), larger)


_SAMPLES = samples_of(2, 0.5, 3.0, np.array([0.0, -0.0, 1.0, 100.0, -100.0, 1e20, -1e20, np.inf, -np.inf, np.nan]))

logaddexp = elementwise(
    "logaddexp",
    2,
    dtypes=FLOATING,
    reference=in_float64(np.logaddexp),
    lower=_lower_logaddexp,
    vjp=lambda ct, r, x, y: (ct * ops.sigmoid(x - y), ct * ops.sigmoid(y - x)),
    samples=_SAMPLES,
    exact=False,
    ulp=4.0,
    doc="log(exp(x) + exp(y)), without overflow. Near 0 its terms cancel: the bound is in units of the larger operand.",
)

logaddexp2 = elementwise(
    "logaddexp2",
    2,
    dtypes=FLOATING,
    reference=in_float64(np.logaddexp2),
    lower=_lower_logaddexp2,
    vjp=lambda ct, r, x, y: (
        ct * ops.sigmoid((x - y) * math.log(2.0)),
        ct * ops.sigmoid((y - x) * math.log(2.0)),
    ),
    samples=_SAMPLES,
    exact=False,
    ulp=4.0,
    doc="log2(2**x + 2**y), without overflow.",
)
