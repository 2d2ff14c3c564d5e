"""Conversions between a float and one of fewer exponents that registers carry as integers: float8 and float32.

In: values of either. Out: values of the other, rounded to nearest even; every NaN is the canonical one. Scaling by a power of two
moves numbers between the ranges exactly, subnormal ones included. Next: `arithmetic.py`, which calls this.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau.compiler.codegen.values import Val, float_bits
from flambeau.dialects.dtypes import DType


def _bias(dtype: DType) -> int:
    return (1 << (dtype.exponent - 1)) - 1


def _last(dtype: DType) -> int:
    """The bits of infinity, or of the greatest number where there is none: what is greater is a NaN."""
    return float_bits(math.inf, dtype.mlir)


def widened(b: Any, x: Val) -> Val:
    """`x` in the dtype that it accumulates in. Exact. `b`: an emitter."""
    narrow, wide = x.dtype, x.dtype.accumulation
    integer = f"i{wide.bits}"
    bits = b.extend_unsigned(b.bitcast(x, narrow.carrier), integer)
    magnitude = b.and_(bits, (1 << (narrow.bits - 1)) - 1)
    near_zero = b.bitcast(b.shl(magnitude, wide.mantissa - narrow.mantissa), wide.mlir)
    scaled = b.mul(near_zero, 2.0 ** (_bias(wide) - _bias(narrow)))
    if narrow.has_infinity:
        scaled = b.select(b.cmp("eq", magnitude, _last(narrow)), math.inf, scaled)
    sign = b.shl(b.shru(bits, narrow.bits - 1), wide.bits - 1)
    signed = b.bitcast(b.or_(b.bitcast(scaled, integer), sign), wide.mlir)
    return b.select(b.cmp("gt", magnitude, _last(narrow)), math.nan, signed)


def narrowed(b: Any, x: Val, target: DType) -> Val:
    """`x`, of the accumulation dtype, rounded. What is too large becomes infinity, or the greatest number where there is none."""
    wide = x.dtype
    dropped, integer = wide.mantissa - target.mantissa, f"i{wide.bits}"
    bits = b.bitcast(x, integer)
    magnitude = b.and_(bits, (1 << (wide.bits - 1)) - 1)
    rebiased = b.sub(magnitude, (_bias(wide) - _bias(target)) << wide.mantissa)
    odd = b.and_(b.shru(rebiased, dropped), 1)
    normal = b.shru(b.add(rebiased, b.add(odd, (1 << (dropped - 1)) - 1)), dropped)
    # Added to this number, what is below the normal ones is rounded to multiples of the least: its last bits count these.
    step = 2.0 ** (1 - _bias(target) - target.mantissa + wide.mantissa)
    counted = b.bitcast(b.add(b.bitcast(magnitude, wide.mlir), step), integer)
    subnormal = b.sub(counted, float_bits(step, wide.mlir))
    least_normal = float_bits(2.0 ** (1 - _bias(target)), wide.mlir)
    rounded = b.select(b.cmp("lt", magnitude, least_normal), subnormal, normal)
    rounded = b.select(b.cmp("gt", rounded, _last(target)), _last(target), rounded)
    sign = b.shl(b.shru(bits, wide.bits - 1), target.bits - 1)
    kept = b.select(b.is_nan(x), float_bits(math.nan, target.mlir), b.or_(rounded, sign))
    return b.bitcast(b.truncate(kept, target.carrier), target.mlir)
