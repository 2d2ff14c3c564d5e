"""Floats taken apart: mantissa and exponent.

In: one floating-point operand. Out: two results, computed together. Next: `integer.py`.
"""

from __future__ import annotations

import math

import numpy as np
from flambeau.dialects.dtypes import FLOATING, int32
from flambeau.dialects.tape.approximations_common import format_of
from flambeau.dialects.tape.common import elementwise, ops, samples_of


def _frexp(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mantissa, exponent = np.frexp(x)
    ordinary = np.isfinite(x)
    return np.where(ordinary, mantissa, x).astype(x.dtype), np.where(ordinary, exponent, 0).astype(np.int32)


def _lower_frexp(b, x):
    """The exponent is read from the bits of a normal number, and replaced there by that of 1/2. A number below the normal
    ones is scaled up first, which is exact."""
    form = format_of(x)
    digits, field = form.mantissa, 2 * form.bias + 1
    tiny = b.cmp("lt", b.abs(x), form.smallest_normal)
    bits = b.bitcast(b.select(tiny, b.mul(x, 2.0 ** (digits + 1)), x), form.integer)
    biased = b.and_(b.shru(bits, digits), field)
    exponent = b.sub(biased, b.select(tiny, b.const(form.bias + digits, biased), b.const(form.bias - 1, biased)))
    mantissa = b.bitcast(b.or_(b.and_(bits, ~(field << digits)), b.const((form.bias - 1) << digits, bits)), form.name)
    ordinary = b.and_(b.cmp("lt", b.abs(x), math.inf), b.cmp("ne", x, 0.0))
    return b.select(ordinary, mantissa, x), b.cast(b.select(ordinary, exponent, 0), "i32")


def _vjp_frexp(cts, results, x):
    """The exponent is constant near x: the mantissa grows as x does, by a power of two."""
    ct, mantissa = cts[0], results[0]
    moves = ops.and_(ops.abs(x) < x.like(math.inf), x.ne(0))
    return (ct * ops.stop_gradient(ops.select(moves, mantissa / x, x.like(1))),)


frexp = elementwise(
    "frexp",
    1,
    dtypes=FLOATING,
    reference=_frexp,
    lower=_lower_frexp,
    vjp=_vjp_frexp,
    samples=samples_of(),
    results={"mantissa": None, "exponent": int32},
    doc="mantissa of magnitude in [1/2, 1) and exponent with x = mantissa * 2^exponent; x and 0 for zeros, infinities, NaN.",
)
