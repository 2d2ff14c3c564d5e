"""Elements as integers in the order that sorting goes by.

In: an element, or a vector of them. Out: a signed integer of 32 or 64 bits that is less where the element comes first. Next:
`sort_entries.py`.
"""

from __future__ import annotations

from flambeau.compiler.codegen.emitter import Emitter, Val
from flambeau.dialects.dtypes import DType


def key_bits(dtype: DType) -> int:
    """The bits of a key."""
    return 64 if dtype.bits == 64 else 32


def sort_key(b: Emitter, x: Val, descending: bool) -> Val:
    """The key of `x`. Of floats: bits, with those below the sign turned for negative ones; -0 is +0, NaN the greatest."""
    element = f"i{key_bits(x.dtype)}"
    key = _float_key(b, x) if x.is_float else _whole_key(b, x, element)
    return b.not_(key) if descending else key


def _whole_key(b: Emitter, x: Val, element: str) -> Val:
    if x.dtype.is_bool:
        return b.extend_unsigned(x, element)
    key = b.cast(x, element)
    fills = not x.is_signed and x.bits == key.bits
    return b.xor(key, -1 << (x.bits - 1)) if fills else key  # so that what is beyond the signed ones comes after them


def _float_key(b: Emitter, x: Val) -> Val:
    if x.dtype.is_narrow:
        x = b.cast(x, x.dtype.accumulation.mlir)
    element = f"i{x.bits}"
    bits = b.bitcast(b.add(x, 0.0), element)
    key = b.ordered(bits)
    return b.select(b.is_nan(x), b.const((1 << (x.bits - 1)) - 1, key), key)
