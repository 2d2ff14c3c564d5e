"""Signs taken from others, neighbouring numbers and lengths: copysign, nextafter, hypot.

In: two floating-point operands. A NaN has no sign, which counts as that of 0. Next: `inverse.py`.
"""

from __future__ import annotations

import math

import numpy as np
from flambeau.dialects.dtypes import FLOATING
from flambeau.dialects.tape.approximations_common import format_of
from flambeau.dialects.tape.common import elementwise, in_float64, ops, samples_of


def _copysign(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.copysign(x, np.where(np.isnan(y), y.dtype.type(0), y))


def _vjp_copysign(ct, r, x, y):
    """The sign that the result has beside x; nothing at 0, as in PyTorch."""
    nothing = x.eq(0)
    ratio = ops.select(nothing, x.like(0), r / ops.select(nothing, x.like(1), x))
    return ct * ops.stop_gradient(ratio), y.like(0)


copysign = elementwise(
    "copysign",
    2,
    weight=3,
    dtypes=FLOATING,
    reference=_copysign,
    lower=lambda b, x, y: b.copysign(x, b.select(b.is_nan(y), b.const(0, y), y)),
    vjp=_vjp_copysign,
    samples=samples_of(2),
    rounds_once=True,
    doc="|x| with the sign of y, which is positive for NaN.",
)


def _lower_nextafter(b, x, y):
    """The bits of a float, taken for an integer, grow with its magnitude: one more is the next one away from 0."""
    form = format_of(x)
    bits = b.bitcast(x, form.integer)
    outward = b.cmp("eq", b.cmp("lt", x, y), b.cmp("gt", x, 0.0))
    moved = b.bitcast(b.select(outward, b.add(bits, 1), b.sub(bits, 1)), form.name)
    least = b.copysign(b.bitcast(b.const(1, bits), form.name), y)
    result = b.select(b.cmp("eq", x, 0.0), least, moved)
    result = b.select(b.cmp("eq", x, y), y, result)
    return b.select(b.or_(b.is_nan(x), b.is_nan(y)), b.const(math.nan, x), result)


nextafter = elementwise(
    "nextafter",
    2,
    dtypes=tuple(d for d in FLOATING if not d.is_narrow),
    reference=np.nextafter,
    lower=_lower_nextafter,
    vjp=lambda ct, r, x, y: (
        ops.select(x.eq(y), ct.like(0.0), ct),
        None,
    ),  # to x alone, and none where it stays, as in PyTorch
    samples=samples_of(2),
    doc="The next number after x in the direction of y; y where they are equal.",
)


def _lower_hypot(b, x, y):
    """The root of the squares' sum: in f64 for f32, and of numbers scaled by a power of two, so that squares neither overflow nor
    vanish."""
    if x.type == "f32":
        wide_x, wide_y = b.cast(x, "f64"), b.cast(y, "f64")
        root = b.cast(b.sqrt(b.fma(wide_x, wide_x, b.mul(wide_y, wide_y))), "f32")
    else:
        root = _scaled_hypot(b, b.abs(x), b.abs(y))
    infinite = b.or_(b.cmp("eq", b.abs(x), math.inf), b.cmp("eq", b.abs(y), math.inf))
    return b.select(infinite, b.const(math.inf, x), root)


def _scaled_hypot(b, x, y):
    one = b.const(1.0, x)
    greater = b.select(b.cmp("gt", x, y), x, y)
    down, up = b.cmp("gt", greater, 2.0**500), b.cmp("lt", greater, 2.0**-500)
    scale = b.select(down, b.const(2.0**-600, x), b.select(up, b.const(2.0**600, x), one))
    back = b.select(down, b.const(2.0**600, x), b.select(up, b.const(2.0**-600, x), one))
    x, y = b.mul(x, scale), b.mul(y, scale)
    return b.mul(b.sqrt(b.fma(x, x, b.mul(y, y))), back)


hypot = elementwise(
    "hypot",
    2,
    dtypes=FLOATING,
    reference=in_float64(np.hypot),
    lower=_lower_hypot,
    vjp=lambda ct, r, x, y: (ct * (x / r), ct * (y / r)),
    samples=samples_of(2),
    exact=False,
    ulp=2.0,
    doc="The length of the vector (x, y), without overflow on the way; infinite beside an infinity, even if the other is NaN.",
)
