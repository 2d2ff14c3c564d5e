"""SSA values and literals of kernel text.

In: Python numbers. Out: `Val`, the operand type of every emitter method, and the spelling of constants.
Next: `emitter.py`.
"""

from __future__ import annotations

import ctypes
import math
import struct
from typing import NamedTuple

import numpy as np
from flambeau.dialects.dtypes import ALL, DType, by_mlir, register_type
from flambeau.dialects.size import Size

POINTER = "!llvm.ptr"


def dtype_of(element: str) -> DType:
    """The row of the table behind an element type. Raises TypeError where there is none."""
    try:
        return by_mlir(element)
    except KeyError:
        known = ", ".join(d.mlir for d in ALL)
        raise TypeError(f"[emitter] {element} is no element type. Use one of {known}.") from None


def is_element(text: str) -> bool:
    """Whether an MLIR type is that of elements."""
    return any(d.mlir == text for d in ALL)


class Val(NamedTuple):
    """An SSA name with its element type; `lanes` 1 is a scalar, more a one-dimensional vector.

    The type says whether an integer is signed (`ui8`), which MLIR's registers do not know (`i8`): so comparisons, division,
    shifts and conversions of an unsigned value need no other methods.
    """

    name: str
    type: str
    lanes: int = 1

    @property
    def mlir(self) -> str:
        """The type as MLIR spells it."""
        return spell_type(self.type, self.lanes)

    @property
    def dtype(self) -> DType:
        return dtype_of(self.type)

    @property
    def is_float(self) -> bool:
        return self.dtype.is_floating_point

    @property
    def is_signed(self) -> bool:
        """Whether integers have a sign; bools have none."""
        return self.dtype.is_signed

    @property
    def bits(self) -> int:
        return self.dtype.bits


Number = int | float | bool | Size
Operand = Val | Number


def spell_type(element: str, lanes: int = 1) -> str:
    register = register_type(element)
    return register if lanes == 1 else f"vector<{lanes}x{register}>"


def is_unsigned(element: str) -> bool:
    """Whether a type is that of integers without a sign; bools are none here."""
    return element.startswith("ui")


def unsigned(literal: str, element: str) -> str:
    """What `spell_number` spelled of an unsigned integer, as the number that it is."""
    return str(int(literal) & ((1 << dtype_of(element).bits) - 1))


def storage_type(element: str) -> str:
    """The type an element has in memory: bools take a byte."""
    return "i8" if element == "i1" else register_type(element)


def storage_bytes(element: str) -> int:
    return 8 if element == POINTER else dtype_of(element).itemsize


def float_bits(number: Number, element: str) -> int:
    """The bit pattern of `number` rounded to a float type; too large a number becomes infinite, or the greatest."""
    number = float(number)
    if element == "f64":
        return struct.unpack("<Q", struct.pack("<d", number))[0]
    if element == "f32":
        return struct.unpack("<I", struct.pack("<f", ctypes.c_float(number).value))[0]
    dtype = dtype_of(element)
    if not dtype.is_floating_point:
        raise TypeError(f"[emitter] {dtype.name} is no float, so {number} has no bits in it. Use a float's type.")
    if not dtype.has_infinity and not math.isnan(number):
        number = max(dtype.least, min(number, dtype.greatest))
    with np.errstate(over="ignore"):
        return int(np.asarray(number, dtype.numpy).view(f"u{dtype.itemsize}"))


def spell_number(number: Number, element: str) -> str:
    """The literal of a constant: floats by their bits, so that equal values have equal text; integers as MLIR's signless ones."""
    dtype = dtype_of(element)
    if dtype.is_complex:
        raise TypeError(f"[emitter] there are no constants of {dtype.name} yet. Use a real dtype.")
    if dtype.is_floating_point and dtype.carrier:
        return spell_number(float_bits(number, element), dtype.carrier)
    if dtype.is_floating_point:
        return f"0x{float_bits(number, element):0{dtype.itemsize * 2}X}"
    if dtype.is_bool:
        return "true" if number else "false"
    wrapped = int(number) & ((1 << dtype.bits) - 1)
    return str(wrapped - (1 << dtype.bits) if wrapped >> (dtype.bits - 1) else wrapped)
