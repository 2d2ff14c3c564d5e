"""SSA values and literals of kernel text.

In: Python numbers. Out: `Val`, the operand type of every emitter method, and the spelling of constants.
Next: `emitter.py`.
"""

from __future__ import annotations

import ctypes
import struct
from typing import NamedTuple

from flambeau.dialects.size import Size

FLOAT_BITS = {"f16": 16, "bf16": 16, "f32": 32, "f64": 64}
INTEGER_BITS = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64}
POINTER = "!llvm.ptr"


class Val(NamedTuple):
    """An SSA name with its element type; `lanes` 1 is a scalar, more a one-dimensional vector."""

    name: str
    type: str
    lanes: int = 1

    @property
    def mlir(self) -> str:
        """The type as MLIR spells it."""
        return self.type if self.lanes == 1 else f"vector<{self.lanes}x{self.type}>"

    @property
    def is_float(self) -> bool:
        return self.type in FLOAT_BITS

    @property
    def bits(self) -> int:
        return FLOAT_BITS.get(self.type) or INTEGER_BITS[self.type]


Number = int | float | bool | Size
Operand = Val | Number


def spell_type(element: str, lanes: int = 1) -> str:
    return element if lanes == 1 else f"vector<{lanes}x{element}>"


def storage_type(element: str) -> str:
    """The type an element has in memory: bools take a byte."""
    return "i8" if element == "i1" else element


def storage_bytes(element: str) -> int:
    if element == POINTER:
        return 8
    return (FLOAT_BITS.get(element) or INTEGER_BITS[storage_type(element)]) // 8


def float_bits(number: Number, element: str) -> int:
    """The bit pattern of `number` rounded to a float type; too large a number becomes infinite."""
    number = float(number)
    if element == "f64":
        return struct.unpack("<Q", struct.pack("<d", number))[0]
    if element == "f32":
        return struct.unpack("<I", struct.pack("<f", ctypes.c_float(number).value))[0]
    if element == "f16":
        limited = number if abs(number) < 65520.0 or number != number else float("inf") * (1 if number > 0 else -1)
        return struct.unpack("<H", struct.pack("<e", limited))[0]
    return _bfloat16_bits(number)


def _bfloat16_bits(number: float) -> int:
    import ml_dtypes
    import numpy as np

    return int(np.asarray(number, ml_dtypes.bfloat16).view(np.uint16))


def spell_number(number: Number, element: str) -> str:
    """The literal of a constant: floats by their bits, so that equal values have equal text."""
    if element in FLOAT_BITS:
        return f"0x{float_bits(number, element):0{FLOAT_BITS[element] // 4}X}"
    if element == "i1":
        return "true" if number else "false"
    bits = INTEGER_BITS[element]
    wrapped = int(number) & ((1 << bits) - 1)
    return str(wrapped - (1 << bits) if wrapped >> (bits - 1) else wrapped)
