"""Whether what an op gave is what its record promises, beside what its NumPy reference gives.

In: a node's record, operands and attributes, what was computed, and what the reference says. Out: nothing, or how they differ. The
generated tests and `flambeau.verify` ask this. Next: `reference.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from flambeau.dialects.dtypes import from_numpy, is_inexact
from flambeau.dialects.record import OpRecord

#: What a library computes may be so many epsilons off, beside the greatest number.
_LIBRARY = 500


class Difference(NamedTuple):
    """Where two arrays differ most: `place` is the element, `by` says how much, and of what."""

    place: tuple[int, ...]
    by: str


def ulp_distance(result: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Representable numbers between floats, elementwise; NaN equals NaN. Signed zeros are 0 apart."""
    bits = np.dtype(f"i{result.dtype.itemsize}").type

    def ordered(x: np.ndarray) -> np.ndarray:
        raw = x.view(bits).astype(object) if x.dtype.itemsize == 8 else x.view(bits).astype(np.int64)
        return np.where(raw < 0, np.iinfo(bits).min - raw, raw)

    shape = np.shape(result)
    result, expected = np.atleast_1d(result), np.atleast_1d(expected)
    distance = np.abs(ordered(result) - ordered(expected)).astype(np.float64)
    nans = np.isnan(result), np.isnan(expected)
    return np.where(nans[0] & nans[1], 0.0, np.where(nans[0] | nans[1], np.inf, distance)).reshape(shape)


def unequal_bits(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where arrays of one type differ, elementwise; signs and payloads of NaNs do not count."""
    if not is_inexact(x):
        return np.asarray(x != y)
    if np.iscomplexobj(x):
        return unequal_bits(x.real, y.real) | unequal_bits(x.imag, y.imag)
    both = np.isnan(x) & np.isnan(y)
    return np.asarray(~(both | ((x == y) & (np.signbit(x) == np.signbit(y)))))


def same_bits(x: np.ndarray, y: np.ndarray) -> bool:
    """Equal to the bit, up to the sign and payload of NaNs."""
    return x.shape == y.shape and x.dtype == y.dtype and not unequal_bits(x, y).any()


def bits_apart(found: np.ndarray, wanted: np.ndarray) -> Difference | None:
    """Where two arrays of one type differ in a bit."""
    return _worst(unequal_bits(found, wanted).astype(np.float64), 0.0, lambda _: "bits differ")


def difference(
    record: OpRecord, operands: Sequence[np.ndarray], attrs: tuple[Any, ...], found: np.ndarray, wanted: np.ndarray
) -> Difference | None:
    """Where a result is not what the record promises; `wanted` is the reference's, of the same type.

    Exact ops, and integers: bit for bit the reference. What a library computes: 500 eps beside the greatest number, and but for
    the sign. Sums of K products: 4 eps sqrt(K) of the sum of absolute products, and K of the least positive number; what is made of
    infinities and NaNs is the same one, and what overflows may do so in any order. Functions of complex numbers, which are formulas
    of several approximations: 32 eps of the number, and the same infinities and NaNs in each part. Approximations: within the
    record's ulp of the reference, which is itself within one of the correct answer.
    """
    is_complex = any(map(np.iscomplexobj, operands))
    is_exact = record.exact and not (is_complex and record.name == "abs")  # which is a square root of a sum then
    if is_exact or not is_inexact(wanted):
        return bits_apart(found, wanted)
    eps = float(ml_dtypes.finfo(wanted.dtype).eps)
    if record.family.sums_products:
        bound = _products_bound(record, operands, attrs, wanted.dtype)
        return _worst(_apart(found, wanted), bound, lambda e: f"the error {e:.3g} is above its bound")
    if record.family.calls:
        scale = max(1.0, *(float(np.abs(x).max(initial=0)) for x in (wanted, *operands)))
        error = _apart(np.abs(found), np.abs(wanted))  # vectors have no sign
        return _worst(error, _LIBRARY * eps * scale, lambda e: f"the error is {e:.3g} beside numbers up to {scale:.3g}")
    if is_complex:
        return _complex_apart(found, wanted)
    limit = record.ulp_in(from_numpy(wanted.dtype))
    return _worst(ulp_distance(found, wanted), limit, lambda e: f"they are {e:.0f} ulp apart, {limit:g} may be")


def _apart(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The distance of numbers: none between NaNs and equal infinities, infinite from either to anything else."""
    wide = np.complex128 if np.iscomplexobj(wanted) else np.float64
    x, y = found.astype(wide), wanted.astype(wide)
    with np.errstate(all="ignore"):
        error = np.abs(x - y)
        # of numbers with two parts it depends on how they are multiplied which part is no longer finite
        is_same = (np.isnan(x) & np.isnan(y)) | (x == y) if wide is np.float64 else ~np.isfinite(x) & ~np.isfinite(y)
    return np.asarray(np.where(is_same, 0.0, np.where(np.isfinite(error), error, np.inf)))


def _products_bound(
    record: OpRecord, operands: Sequence[np.ndarray], attrs: tuple[Any, ...], dtype: np.dtype
) -> np.ndarray:
    limits = ml_dtypes.finfo(dtype)
    magnitudes = [np.abs(x).astype(np.float64) for x in operands]
    with np.errstate(over="ignore"):
        (total,) = record.run_reference([np.where(np.isfinite(x), x, 0) for x in magnitudes], attrs)
    (count,) = record.run_reference([np.ones_like(x) for x in magnitudes], attrs)
    bound = 4 * float(limits.eps) * np.sqrt(np.maximum(count, 1)) * total + count * float(limits.smallest_subnormal)
    return np.asarray(np.where(total > float(limits.max), np.inf, bound))


def _complex_apart(found: np.ndarray, wanted: np.ndarray) -> Difference | None:
    limits = np.finfo(wanted.dtype)
    apart = np.zeros(found.shape, bool)
    for x, y in ((found.real, wanted.real), (found.imag, wanted.imag)):
        apart |= (np.isnan(x) != np.isnan(y)) | (np.isinf(x) != np.isinf(y))
    with np.errstate(all="ignore"):
        error = np.where(np.isfinite(wanted), np.abs(found - wanted), 0)
        bound = 32 * limits.eps * np.abs(wanted) + 32 * limits.smallest_normal
        bound = np.where(np.isfinite(wanted), bound, 0)
    return _worst(np.where(apart, np.inf, error), bound, lambda e: f"they are {e:.3g} apart")


def _worst(error: np.ndarray, bound: Any, told: Any) -> Difference | None:
    """The element that is furthest above the bound; what is not a number is."""
    is_within = error <= bound
    if np.all(is_within):
        return None
    with np.errstate(invalid="ignore"):
        above = error - bound
    above = np.where(is_within, -np.inf, np.where(np.isnan(above), np.inf, above))
    worst = int(np.argmax(above))
    place = np.unravel_index(worst, error.shape)
    return Difference(tuple(map(int, place)), told(float(error.reshape(-1)[worst])))
