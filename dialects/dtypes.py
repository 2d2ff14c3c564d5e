"""Element types: one object per dtype, with its NumPy and MLIR names, and PyTorch's promotion rules.

In: nothing. Out: the `DType` singletons and `promote`. Next: `aval.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class DType:
    """An element type.

    `code` is the number the C runtime uses; `mlir` the MLIR type; `category` orders promotion
    (0 bool, 1 integer, 2 floating); `itemsize` is in bytes (bool is stored as one byte, 0 or 1).
    """

    name: str
    mlir: str
    code: int
    itemsize: int
    category: int

    @property
    def is_floating_point(self) -> bool:
        return self.category == 2

    @property
    def is_integer(self) -> bool:
        return self.category == 1

    @property
    def is_complex(self) -> bool:
        return False

    @property
    def is_signed(self) -> bool:
        return self is not uint8 and self.category > 0

    @property
    def is_bool(self) -> bool:
        return self.category == 0

    @property
    def numpy(self) -> np.dtype:
        if self.name == "bfloat16":
            import ml_dtypes

            return np.dtype(ml_dtypes.bfloat16)
        return np.dtype(self.name)

    def __repr__(self) -> str:
        return f"flambeau.{self.name}"

    def __reduce__(self):
        return (by_name, (self.name,))


bool_ = DType("bool", "i1", 0, 1, 0)
uint8 = DType("uint8", "ui8", 1, 1, 1)
int8 = DType("int8", "i8", 2, 1, 1)
int16 = DType("int16", "i16", 3, 2, 1)
int32 = DType("int32", "i32", 4, 4, 1)
int64 = DType("int64", "i64", 5, 8, 1)
float16 = DType("float16", "f16", 6, 2, 2)
bfloat16 = DType("bfloat16", "bf16", 7, 2, 2)
float32 = DType("float32", "f32", 8, 4, 2)
float64 = DType("float64", "f64", 9, 8, 2)

ALL = (bool_, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64)
#: The dtypes that records, kernels and the frontend accept today; the tables cover ALL.
SUPPORTED = (bool_, int32, int64, float32, float64)
FLOATING = tuple(d for d in SUPPORTED if d.is_floating_point)
INTEGER = tuple(d for d in SUPPORTED if d.is_integer)
NUMERIC = INTEGER + FLOATING

_BY_NAME = {d.name: d for d in ALL}
_BY_MLIR = {d.mlir: d for d in ALL}


def by_name(name: str) -> DType:
    return _BY_NAME[name]


def by_mlir(text: str) -> DType:
    return _BY_MLIR[text]


def from_numpy(dtype: np.dtype) -> DType:
    """The DType of a NumPy dtype. Raises TypeError when there is none."""
    found = _BY_NAME.get(np.dtype(dtype).name)
    if found is None:
        raise TypeError(f"[dtype] NumPy dtype {dtype} has no Flambeau equivalent. Convert the array first.")
    return found


def promote(a: DType, b: DType) -> DType:
    """The common dtype of two tensors of equal standing, as in PyTorch."""
    if a is b:
        return a
    if a.category != b.category:
        return a if a.category > b.category else b
    if a.category == 2:
        if {a, b} == {float16, bfloat16}:
            return float32
        return a if a.itemsize > b.itemsize else b
    if a.itemsize == b.itemsize:  # uint8 with int8
        return int16
    wide, narrow = (a, b) if a.itemsize > b.itemsize else (b, a)
    return wide if narrow is not uint8 or wide is not int8 else int16
