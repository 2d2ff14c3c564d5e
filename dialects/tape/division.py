"""Division of floats with remainder: fmod, remainder and the quotient rounded down, exact as C's fmod is.

In: floating-point operands. The remainder of two floats is always a float: compiled code finds it without rounding, in
one step while the quotient has fewer bits than a mantissa, in a loop of such steps beyond. Next: `integer.py`.
"""

from __future__ import annotations

import math

import numpy as np
from flambeau.dialects.dtypes import FLOATING
from flambeau.dialects.record import Sample
from flambeau.dialects.tape.approximations_common import format_of
from flambeau.dialects.tape.common import Samples, elementwise, one_nan, ops, samples_of

# ---- references -------------------------------------------------------------------------------------------


def _apart(rest: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether the remainder has the other sign than the divisor."""
    return (rest != 0) & ((y < 0) != (rest < 0))


def _fmod(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return one_nan(np.fmod(x, y))


def _remainder(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    rest = np.fmod(x, y)
    return one_nan(np.where(_apart(rest, y), rest + y, rest))


def _floor_div(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    rest, one = np.fmod(x, y), x.dtype.type(1)
    quotient = (x - rest) / y
    quotient = np.where(_apart(rest, y), quotient - one, quotient)
    whole = np.floor(quotient)
    whole = np.where(quotient - whole > 0.5, whole + one, whole)
    whole = np.where(quotient == 0, np.copysign(x.dtype.type(0), x / y), whole)
    return one_nan(np.where(y == 0, x / y, whole))


# ---- lowerings --------------------------------------------------------------------------------------------


def _scale(y) -> float:
    """A power of two whose square spans what a quotient may exceed the float range by, and that does not overflow itself."""
    return {"f32": 2.0**100, "f64": 2.0**700}[format_of(y).name]


#: A step takes at least 23 (52) bits off a quotient of at most 277 (2,098), or ends one of the three scales below.
MOST_STEPS = 64


def _step(b, r, y):
    """r less the multiple of y that r / y rounds to: exact, since it is a multiple of y's last place, and of as much more
    as the quotient has bits beyond the mantissa; smaller than y where the quotient has none beyond."""
    quotient = b.trunc(b.div(r, y))
    return b.fma(b.neg(quotient), y, r)


def _far_step(b, r, y):
    """A step by y times a power of two, so that the quotient does not overflow; what is left has the same remainder."""
    scale, inverse = b.const(_scale(y), y), b.const(1 / _scale(y), y)
    for _ in range(2):
        y = b.select(b.cmp("gt", b.mul(b.abs(r), inverse), y), b.mul(y, scale), y)
    return _step(b, r, y)


def _reduced(b, x, y):
    """The remainder of finite x >= 0 by finite y > 0."""
    once = _step(b, x, y)
    start = b.select(b.cmp("lt", b.abs(once), b.const(math.inf, y)), once, x)  # infinite: the quotient overflowed
    (r,) = b.repeat(
        [start],
        lambda r: b.cmp("ge", b.abs(r), y),
        lambda r: [_far_step(b, r, y)],
        MOST_STEPS,
    )
    return b.select(b.cmp("lt", r, b.const(0, r)), b.add(r, y), r)


def _truncated(b, x, y):
    """C's fmod, and where it is a number; elsewhere x."""
    magnitude, divisor = b.abs(x), b.abs(y)
    zero, one, infinity = b.const(0, x), b.const(1, x), b.const(math.inf, x)
    known = b.and_(b.cmp("lt", magnitude, infinity), b.cmp("gt", divisor, zero))
    inside = b.and_(known, b.cmp("lt", divisor, infinity))
    rest = _reduced(b, b.select(inside, magnitude, zero), b.select(inside, divisor, one))
    return b.select(inside, b.copysign(rest, x), x), known


def _lowered_apart(b, rest, y):
    zero = b.const(0, y)
    return b.and_(b.cmp("ne", rest, zero), b.xor(b.cmp("lt", y, zero), b.cmp("lt", rest, zero)))


def _lower_fmod(b, x, y):
    rest, known = _truncated(b, x, y)
    return b.select(known, rest, b.const(math.nan, x))


def _lower_remainder(b, x, y):
    rest, known = _truncated(b, x, y)
    return b.select(known, b.select(_lowered_apart(b, rest, y), b.add(rest, y), rest), b.const(math.nan, x))


def _lower_floor_div(b, x, y):
    """The rounded quotient of x less its remainder, which is a whole number but for rounding."""
    zero, one = b.const(0, x), b.const(1, x)
    rest, _ = _truncated(b, x, y)
    quotient = b.div(b.sub(x, rest), y)
    quotient = b.select(_lowered_apart(b, rest, y), b.sub(quotient, one), quotient)
    whole = b.floor(quotient)
    whole = b.select(b.cmp("gt", b.sub(quotient, whole), b.const(0.5, x)), b.add(whole, one), whole)
    signed_zero = b.mul(b.copysign(zero, x), b.copysign(one, y))
    whole = b.select(b.cmp("eq", quotient, zero), signed_zero, whole)
    by_zero = b.mul(x, b.copysign(b.const(math.inf, y), y))  # x / y for y = 0, without another division
    whole = b.select(b.cmp("eq", y, zero), by_zero, whole)
    return b.select(b.cmp("eq", whole, whole), whole, b.const(math.nan, x))


# ---- records ----------------------------------------------------------------------------------------------


def _far_apart() -> Sample:
    """Quotients of every size, up to the largest number by the smallest, in both dtypes."""
    generator = np.random.default_rng(11)
    x = np.concatenate([10.0 ** generator.uniform(-320, 308, 300), 10.0 ** generator.uniform(-45, 38, 300)])
    y = np.concatenate([10.0 ** generator.uniform(-320, 308, 300), 10.0 ** generator.uniform(-45, 38, 300)])
    edges = np.array([1.7976931348623157e308, 3.4028234663852886e38, 5e-324, 1.401298464324817e-45, 3.0, 1e22])
    firsts, seconds = (grid.ravel() for grid in np.meshgrid(edges, edges))
    signs = generator.choice([-1.0, 1.0], (2, 636))
    return Sample((signs[0] * [*x, *firsts], signs[1] * [*y, *seconds]), gradient=False)


def _samples() -> Samples:
    usual = samples_of(2, 0.5, 3.0)
    return lambda: [*usual(), _far_apart()]


fmod = elementwise(
    "fmod",
    2,
    dtypes=FLOATING,
    reference=_fmod,
    lower=_lower_fmod,
    vjp=lambda ct, r, x, y: (ct, -ct * ops.stop_gradient(ops.trunc(x / y))),
    samples=_samples(),
    doc="The exact remainder of x / y with the sign of x; x where y is infinite, NaN where x is or y is 0.",
)

remainder = elementwise(
    "remainder",
    2,
    dtypes=FLOATING,
    reference=_remainder,
    lower=_lower_remainder,
    vjp=lambda ct, r, x, y: (ct, -ct * ops.floor_div(x, y)),
    samples=_samples(),
    doc="fmod, and y added to it where their signs differ (which may round): Python's x % y, but that a zero keeps x's sign.",
)

floor_div = elementwise(
    "floor_div",
    2,
    dtypes=FLOATING,
    reference=_floor_div,
    lower=_lower_floor_div,
    vjp=lambda ct, r, x, y: (x.like(0), y.like(0)),
    samples=_samples(),
    doc="(x - x % y) / y, a whole number: Python's x // y; x / y where y is 0.",
)
