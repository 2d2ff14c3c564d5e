"""Special functions: the error function's relatives, gamma's, zeta and modified Bessel functions.

In: floating-point operands. References are those of `special_references.py` in float64, rounded once. Next:
`approximations_error.py` for how compiled code computes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from flambeau.dialects.dtypes import FLOATING, INEXACT
from flambeau.dialects.record import NoGradient, OpRecord
from flambeau.dialects.tape import special_references as references
from flambeau.dialects.tape.common import SPECIALS, elementwise, in_float64, ops, samples_of


def approximated(
    module: str,
    name: str,
    arity: int,
    reference: Callable[..., np.ndarray],
    vjp: Callable[..., tuple[Any, ...]] | NoGradient,
    doc: str,
    low: float = -3.0,
    high: float = 3.0,
    ulp: float = 4.0,
    values: np.ndarray = SPECIALS,
    parts: Callable[..., Any] | None = None,
) -> OpRecord:
    """An elementwise function computed by the function of the same name in a module of this package; `parts` is that of complex
    numbers, if it has one."""

    def lower(b, *operands):
        return getattr(import_module(f"flambeau.dialects.tape.{module}"), name)(b, *operands)

    return elementwise(
        name,
        arity,
        dtypes=INEXACT if parts else FLOATING,
        reference=in_float64(reference),
        lower=lower,
        vjp=vjp,
        parts=parts,
        holomorphic=parts is not None,
        samples=samples_of(arity, low, high, values),
        exact=False,
        ulp=ulp,
        doc=doc,
    )


#: Without numbers close to zeros of lgamma and digamma below 0.
_AWAY = SPECIALS[(SPECIALS != -0.5) & (SPECIALS != -2.5)]
_ROOT_PI = math.sqrt(math.pi)

erfc = approximated(
    "approximations_error",
    "erfc",
    1,
    references.erfc,
    lambda ct, r, x: (ct * (ops.exp(-(x * x)) * (-2.0 / _ROOT_PI)),),
    "1 - erf(x), accurate far out.",
)
erfcx = approximated(
    "approximations_error",
    "erfcx",
    1,
    references.erfcx,
    lambda ct, r, x: (ct * (x * r * 2.0 - 2.0 / _ROOT_PI),),
    "exp(x**2) * erfc(x).",
)
erfinv = approximated(
    "approximations_error",
    "erfinv",
    1,
    references.erfinv,
    lambda ct, r, x: (ct * (ops.exp(r * r) * (_ROOT_PI / 2)),),
    "The inverse of erf: infinite at 1 and -1, NaN beyond.",
    -0.99,
    0.99,
)
ndtri = approximated(
    "approximations_error",
    "ndtri",
    1,
    references.ndtri,
    lambda ct, r, x: (ct * (ops.exp(r * r * 0.5) * math.sqrt(2 * math.pi)),),
    "The quantile of the normal distribution: infinite at 0 and 1, NaN beyond.",
    0.01,
    0.99,
)
lgamma = approximated(
    "approximations_gamma",
    "lgamma",
    1,
    references.lgamma,
    lambda ct, r, x: (ct * ops.digamma(x),),
    "ln|gamma(x)|; infinite at 0 and negative integers. Near its zeros below 0 the error is that of a number of magnitude 1.",
    0.1,
    12.0,
    ulp=8.0,
    values=_AWAY,
)
digamma = approximated(
    "approximations_gamma",
    "digamma",
    1,
    references.digamma,
    lambda ct, r, x: (ct * ops.zeta(x.like(2.0), x),),
    "The derivative of lgamma; infinite at zeros, NaN at negative integers. Near its zeros below 0 the error is that of a "
    "number of magnitude 1.",
    1.6,
    12.0,
    ulp=8.0,
    values=_AWAY,
)
zeta = approximated(
    "approximations_gamma",
    "zeta",
    2,
    references.zeta,
    lambda ct, r, x, q: (None, ct * (-x * ops.zeta(x + 1.0, q))),
    "Hurwitz's zeta function, the sum of (q + k)**-x over k = 0, 1, ...; infinite at x = 1, NaN below. No gradient flows to x.",
    1.5,
    9.0,
    values=_AWAY,
)


def _vjp_i1(ct, r, x):
    """i0 - i1/x, which is 1/2 at 0."""
    nothing = ops.abs(x) <= 0.5**x.dtype.mantissa
    inner = ops.select(nothing, x.like(1.0), x)
    return (ct * ops.select(nothing, x.like(0.5), ops.i0(x) - r / inner),)


def _vjp_i1e(ct, r, x):
    nothing = ops.abs(x) <= 0.5**x.dtype.mantissa
    inner = ops.select(nothing, x.like(1.0), x)
    return (ct * ops.select(nothing, x.like(0.5), ops.i0e(x) - r * (ops.sign(x) + 1.0 / inner)),)


def _bessel(name: str, vjp: Callable[..., tuple[Any, ...]], doc: str) -> OpRecord:
    return approximated("approximations_bessel", name, 1, getattr(references, name), vjp, doc, -12.0, 12.0, 6.0)


i0 = _bessel("i0", lambda ct, r, x: (ct * ops.i1(x),), "The modified Bessel function of the first kind of order 0.")
i1 = _bessel("i1", _vjp_i1, "The modified Bessel function of the first kind of order 1.")
i0e = _bessel("i0e", lambda ct, r, x: (ct * (ops.i1e(x) - r * ops.sign(x)),), "i0(x) * exp(-|x|).")
i1e = _bessel("i1e", _vjp_i1e, "i1(x) * exp(-|x|).")
