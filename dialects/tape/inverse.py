"""Inverse trigonometric, hyperbolic and inverse hyperbolic functions; powers of 2 and logarithms to base 2 and 10.

In: floating-point operands. Computed by `approximations_inverse.py`. Next: `special.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from flambeau.dialects.record import OpRecord
from flambeau.dialects.tape import complex_functions
from flambeau.dialects.tape.common import ops
from flambeau.dialects.tape.special import approximated


def _inverse(
    name: str,
    vjp: Callable[..., tuple[Any, ...]],
    doc: str,
    low: float = -3.0,
    high: float = 3.0,
    reference: Any = None,
) -> OpRecord:
    wanted, parts = reference or getattr(np, name), getattr(complex_functions, name)
    return approximated("approximations_inverse", name, 1, wanted, vjp, doc, low, high, parts=parts)


def _vjp_acosh(ct, r, x):
    """Of complex numbers with two roots, whose cuts are those of the function."""
    slope = ops.rsqrt(x - 1.0) * ops.rsqrt(x + 1.0) if x.dtype.is_complex else ops.rsqrt(x * x - 1.0)
    return (ct * slope,)


asin = _inverse(
    "asin",
    lambda ct, r, x: (ct * ops.rsqrt(1.0 - x * x),),
    "The angle from -pi/2 to pi/2 whose sine is x.",
    -0.9,
    0.9,
    np.arcsin,
)
acos = _inverse(
    "acos",
    lambda ct, r, x: (-(ct * ops.rsqrt(1.0 - x * x)),),
    "The angle from 0 to pi whose cosine is x.",
    -0.9,
    0.9,
    np.arccos,
)
atan = _inverse(
    "atan",
    lambda ct, r, x: (ct / (x * x + 1.0),),
    "The angle from -pi/2 to pi/2 whose tangent is x.",
    reference=np.arctan,
)
sinh = _inverse("sinh", lambda ct, r, x: (ct * ops.cosh(x),), "The hyperbolic sine.")
cosh = _inverse("cosh", lambda ct, r, x: (ct * ops.sinh(x),), "The hyperbolic cosine.")
asinh = _inverse("asinh", lambda ct, r, x: (ct * ops.rsqrt(x * x + 1.0),), "The inverse of sinh.", reference=np.arcsinh)
acosh = _inverse("acosh", _vjp_acosh, "The inverse of cosh, not below 0.", 1.1, 9.0, np.arccosh)
atanh = _inverse(
    "atanh", lambda ct, r, x: (ct / (1.0 - x * x),), "The inverse of tanh; infinite at 1 and -1.", -0.9, 0.9, np.arctanh
)
exp2 = _inverse("exp2", lambda ct, r, x: (ct * r * math.log(2.0),), "2 to the power x; exact where x is whole.")
log2 = _inverse(
    "log2", lambda ct, r, x: (ct / (x * math.log(2.0)),), "The logarithm to base 2; exact of powers of 2.", 0.25, 9.0
)
log10 = _inverse("log10", lambda ct, r, x: (ct / (x * math.log(10.0)),), "The logarithm to base 10.", 0.25, 9.0)


def _vjp_atan2(ct, r, y, x):
    square = y * y + x * x
    inverse = 1.0 / ops.select(square.eq(0), square.like(1.0), square)  # no gradient at the origin
    return ct * (x * inverse), ct * (-y * inverse)


atan2 = approximated(
    "approximations_inverse",
    "atan2",
    2,
    np.arctan2,
    _vjp_atan2,
    "The angle of the point (x, y) from the x axis, from -pi to pi, for operands y and x.",
)
