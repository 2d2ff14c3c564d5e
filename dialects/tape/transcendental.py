"""exp, log, tanh, ... and pow: functions that compiled code approximates, within the `ulp` of their records.

In: floating-point operands (pow: integers too). Their NumPy references evaluate in float64 and round once; compiled
code differs from them in the last places, so they are not `exact`. Next: `approximations.py` for how they are computed.
"""

from __future__ import annotations

import math

import numpy as np
from flambeau.dialects.dtypes import ARITHMETIC, FLOATING, INEXACT, from_numpy
from flambeau.dialects.record import Nans, OpRecord
from flambeau.dialects.tape import complex_functions
from flambeau.dialects.tape.common import elementwise, in_float64, ops, samples_of

#: Accepted distance from the correctly rounded result, for every dtype whose ops are computed in itself.
ULP = 4.0


def _approximated(name: str, reference, vjp, doc: str, low: float = -3.0, high: float = 3.0) -> OpRecord:
    """An elementwise function of one operand, computed by the function of the same name in `approximations.py`; of complex numbers,
    if it takes them, by that in `complex_functions.py`."""
    parts = getattr(complex_functions, name, None)

    def lower(b, x):
        from flambeau.dialects.tape import approximations  # that module imports this one

        return getattr(approximations, name)(b, x)

    return elementwise(
        name,
        1,
        dtypes=INEXACT if parts else FLOATING,
        reference=in_float64(reference),
        lower=lower,
        vjp=vjp,
        parts=parts,
        holomorphic=parts is not None,
        samples=samples_of(1, low, high),
        exact=False,
        ulp=ULP,
        doc=doc,
    )


def _sigmoid(x: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, 1.0) / (1.0 + small)


_erf = np.vectorize(math.erf, otypes=[np.float64])

exp = _approximated("exp", np.exp, lambda ct, r, x: (ct * r,), "e to the power x.")
expm1 = _approximated("expm1", np.expm1, lambda ct, r, x: (ct * (r + 1.0),), "exp(x) - 1, accurate near 0.")
log = _approximated("log", np.log, lambda ct, r, x: (ct / x,), "The natural logarithm.", 0.25, 9.0)
log1p = _approximated("log1p", np.log1p, lambda ct, r, x: (ct / (x + 1.0),), "log(1 + x), accurate near 0.", -0.75, 9.0)
tanh = _approximated("tanh", np.tanh, lambda ct, r, x: (ct * (1.0 - r * r),), "The hyperbolic tangent.")
sigmoid = _approximated("sigmoid", _sigmoid, lambda ct, r, x: (ct * (r * (1.0 - r)),), "1 / (1 + exp(-x)).")
erf = _approximated(
    "erf",
    _erf,
    lambda ct, r, x: (ct * (ops.exp(-(x * x)) * (2.0 / math.sqrt(math.pi))),),
    "The error function.",
)
sin = _approximated("sin", np.sin, lambda ct, r, x: (ct * ops.cos(x),), "The sine of x radians.")
cos = _approximated("cos", np.cos, lambda ct, r, x: (-(ct * ops.sin(x)),), "The cosine of x radians.")

#: Exponents for which pow is defined by a formula rather than as the rounded power: (exponent, formula on NumPy arrays
#: and, through `_PowersOnEmitter`, on emitter values). Compiled code tests for them at run time, so that a constant exponent
#: and an operand give the same bits.
POW_FORMULAS = (
    (0.0, lambda m, x: m.one),
    (1.0, lambda m, x: x),
    (2.0, lambda m, x: m.mul(x, x)),
    (3.0, lambda m, x: m.mul(m.mul(x, x), x)),
    (0.5, lambda m, x: m.sqrt(x)),
    (-0.5, lambda m, x: m.div(m.one, m.sqrt(x))),
    (-1.0, lambda m, x: m.div(m.one, x)),
)


class _PowersOnArrays:
    """The vocabulary of POW_FORMULAS on NumPy arrays."""

    mul, div, sqrt = staticmethod(np.multiply), staticmethod(np.true_divide), staticmethod(np.sqrt)

    def __init__(self, x: np.ndarray) -> None:
        self.one = np.ones_like(x)


class _PowersOnEmitter:
    """The vocabulary of POW_FORMULAS on emitter values."""

    def __init__(self, b, x) -> None:
        self.mul, self.div, self.sqrt, self.one = b.mul, b.div, b.sqrt, b.const(1, x)


def _pow(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if from_numpy(x.dtype).is_integer:
        return _integer_pow(x, y)
    result = in_float64(np.power)(x, y)
    on_arrays = _PowersOnArrays(x)
    for exponent, formula in POW_FORMULAS:
        result = np.where(y == exponent, formula(on_arrays, x), result)
    return result


def _integer_pow(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Repeated squaring with wrapping; a negative exponent leaves only 1 and -1 different from 0."""
    result, power, rest = np.ones_like(x), x, y
    for _ in range(x.dtype.itemsize * 8 - (x.dtype.kind == "i")):
        result = np.where(rest & 1 != 0, result * power, result)
        power, rest = power * power, rest >> 1
    unit = np.where(x == 1, 1, np.where(x == -1, np.where(y & 1 != 0, -1, 1), 0)).astype(x.dtype)
    return np.where(y < 0, unit, result)


def _lower_pow(b, x, y):
    if not x.is_float:
        return _lower_integer_pow(b, x, y)
    from flambeau.dialects.tape import approximations  # that module imports this one

    result = approximations.pow(b, x, y)
    emitted = _PowersOnEmitter(b, x)
    for exponent, formula in POW_FORMULAS:
        result = b.select(b.cmp("eq", y, b.const(exponent, y)), formula(emitted, x), result)
    return result


def _lower_integer_pow(b, x, y):
    zero, one, minus_one = b.const(0, x), b.const(1, x), b.const(-1, x)
    result, power, rest = one, x, y
    for _ in range(x.bits - x.is_signed):
        result = b.select(b.cmp("ne", b.and_(rest, one), zero), b.mul(result, power), result)
        power, rest = b.mul(power, power), b.shr(rest, one)
    alternating = b.select(b.cmp("ne", b.and_(y, one), zero), minus_one, one)
    unit = b.select(b.cmp("eq", x, one), one, b.select(b.cmp("eq", x, minus_one), alternating, zero))
    return b.select(b.cmp("lt", y, zero), unit, result)


def _vjp_pow(ct, r, x, y):
    """PyTorch's rule: no gradient flows to x where y is 0, nor to y where x is 0 and y is not negative.

    The masked places compute with harmless operands, so that derivatives of this formula are finite there too.
    """
    if x.dtype.is_complex:
        return _vjp_complex_pow(ct, r, x, y)
    flat = ops.and_(y.eq(0), ops.not_(ops.abs(x) > 0))  # elsewhere y * x**(y-1) is 0 by itself
    slope = y * ops.pow(ops.select(flat, x.like(1), x), y - 1.0)
    to_x = ops.select(flat, ct.like(0), ct * slope)
    still = ops.and_(x.eq(0), y >= 0)
    to_y = ops.select(still, ct.like(0), ct * (r * ops.log(ops.select(still, x.like(1), x))))
    return to_x, to_y


def _vjp_complex_pow(ct, r, x, y):
    """The same, with the conjugates of derivatives."""
    flat, still = y.eq(0), ops.and_(x.eq(0), ops.real(y) >= 0.0)
    slope = y * ops.pow(ops.select(flat, x.like(1), x), y - 1.0)
    to_y = r * ops.log(ops.select(still, x.like(1), x))
    nothing = ct.like(0)
    return ops.select(flat, nothing, ct * slope.conj()), ops.select(still, nothing, ct * to_y.conj())


pow_ = elementwise(
    "pow",
    2,
    dtypes=ARITHMETIC,
    parts=complex_functions.power,
    reference=_pow,
    lower=_lower_pow,
    vjp=_vjp_pow,
    samples=samples_of(2, 0.25, 3.0),
    exact=False,
    ulp=ULP,
    nans=Nans.OF_ROOT,  # a power may be a root
    doc="x to the power y. Exponents 0, 1, 2, 3, 0.5, -0.5 and -1 mean 1, x, x*x, x*x*x, sqrt(x), 1/sqrt(x) and 1/x "
    "to the bit; integers wrap, and a negative integer exponent gives 0 unless x is 1 or -1.",
)
