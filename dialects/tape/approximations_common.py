"""What the math functions share: float formats, Horner's rule, rounding to integers, double-length arithmetic.

In: an emitter and its values. Out: values. Next: `approximations.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from flambeau.dialects.dtypes import DType, float32, float64


@dataclass(frozen=True)
class Format:
    """A binary float format: its integer twin, mantissa bits and exponent bias.

    `shifter` is 1.5 * 2^mantissa: adding it rounds a small number to an integer, which then lies in the low bits.
    """

    name: str
    integer: str
    mantissa: int
    bias: int

    @property
    def shifter(self) -> float:
        return 1.5 * 2.0**self.mantissa

    @property
    def smallest_normal(self) -> float:
        return 2.0 ** (1 - self.bias)

    def bits(self, number: float) -> int:
        float_code, integer_code = {32: ("<f", "<i"), 64: ("<d", "<q")}[self.width]
        return struct.unpack(integer_code, struct.pack(float_code, number))[0]

    @property
    def width(self) -> int:
        """Bits of a number."""
        return int(self.integer[1:])

    @classmethod
    def of(cls, dtype: DType) -> Format:
        return cls(dtype.mlir, f"i{dtype.bits}", dtype.mantissa, (1 << (dtype.exponent - 1)) - 1)


F32, F64 = Format.of(float32), Format.of(float64)
#: The formats that there are formulas and coefficients for.
FORMATS = {form.name: form for form in (F32, F64)}


def format_of(x) -> Format:
    """The format of a value. Raises TypeError where there are no formulas for it."""
    if x.type not in FORMATS:
        raise TypeError(
            f"[approximations] there are no formulas for {x.type}, only for {', '.join(FORMATS)}. "
            "Cast the operands, as the pass legalise-dtypes does."
        )
    return FORMATS[x.type]


def polynomial(b, t, coefficients: Sequence[float]):
    """Sum of coefficients[i] * t^i by Horner's rule."""
    result = b.const(coefficients[-1], t)
    for c in reversed(coefficients[:-1]):
        result = b.fma(result, t, c)
    return result


def at_most(b, x, limit: float):
    """The lesser of x and limit; NaN stays (one instruction where min returns its second operand)."""
    return b.select(b.cmp("gt", x, limit), b.const(limit, x), x)


def at_least(b, x, limit: float):
    return b.select(b.cmp("lt", x, limit), b.const(limit, x), x)


def round_scaled(b, x, scale: float):
    """The integer nearest to x * scale, of magnitude below 2^(mantissa - 2): as a float, and shifted (see `Format`)."""
    form = format_of(x)
    shifted = b.fma(x, scale, form.shifter)
    return b.sub(shifted, form.shifter), shifted


def shifted_integer(b, shifted, plus: int = 0):
    """The integer in a number from `round_scaled`, plus a constant."""
    form = format_of(shifted)
    return b.sub(b.bitcast(shifted, form.integer), form.bits(form.shifter) - plus)


def from_exponent(b, exponent, form: Format):
    """The float whose biased exponent is `exponent` and whose mantissa is 1."""
    return b.bitcast(b.shl(exponent, form.mantissa), form.name)


def scale_by_shifted(b, y, shifted, plus: int = 0):
    """y * 2^(n + plus) for n from `round_scaled`, in two steps so that only the last one rounds, overflows or underflows. For the
    least n + plus the biased exponents of both are 0: it is y * 0."""
    form = format_of(y)
    exponent = shifted_integer(b, shifted, 2 * form.bias + plus)
    half = b.shru(exponent, 1)
    return b.mul(b.mul(y, from_exponent(b, half, form)), from_exponent(b, b.sub(exponent, half), form))


def scale_within_range(b, y, shifted):
    """y * 2^n where the result is a normal number: n is added to the exponent."""
    form = format_of(y)
    exponent = b.shl(b.bitcast(shifted, form.integer), form.mantissa)
    return b.bitcast(b.add(b.bitcast(y, form.integer), exponent), form.name)


def split_exponent(b, x):
    """(e, m) with x = m * 2^e, m from sqrt(1/2) to sqrt(2), e an integer value; x positive and normal."""
    form = format_of(x)
    bits = b.bitcast(x, form.integer)
    exponent = b.shr(b.sub(bits, form.bits(0.5**0.5)), form.mantissa)
    return exponent, b.bitcast(b.sub(bits, b.shl(exponent, form.mantissa)), form.name)


def split_any_exponent(b, x):
    """`split_exponent` for positive x that may be subnormal; e as a float."""
    form = format_of(x)
    subnormal = b.cmp("lt", x, form.smallest_normal)
    lift = form.mantissa + 2
    exponent, m = split_exponent(b, b.select(subnormal, b.mul(x, 2.0**lift), x))
    correction = b.select(subnormal, b.const(-lift, exponent), b.const(0, exponent))
    return b.cast(b.add(exponent, correction), form.name), m


# ---- sums and products with their rounding errors ---------------------------------------------------------------


def two_sum(b, x, y):
    """(s, e) with s = x + y rounded and s + e = x + y exactly (Knuth)."""
    s = b.add(x, y)
    t = b.sub(s, x)
    return s, b.add(b.sub(x, b.sub(s, t)), b.sub(y, t))


def quick_two_sum(b, x, y):
    """`two_sum` where |x| >= |y| (Dekker)."""
    s = b.add(x, y)
    return s, b.add(b.sub(x, s), y)


def two_product(b, x, y):
    """(p, e) with p = x * y rounded and p + e = x * y exactly."""
    p = b.mul(x, y)
    return p, b.fma(x, y, b.neg(p))


def double_product(b, x, y):
    """The product of two unevaluated sums (high, low), as one."""
    p, e = two_product(b, x[0], y[0])
    return p, b.fma(x[0], y[1], b.fma(x[1], y[0], e))
