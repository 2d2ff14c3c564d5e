"""Element types: the table with one row per dtype, and all that follows from a row. PyTorch's promotion rules.

In: nothing. Out: the `DType`s, the sets of those that ops take, `promote`. What a dtype is called, how wide it is, where
numbers of it are added up: nobody else keeps a table of that. Adding one is a row here, a name in SUPPORTED, and what is
really special about it (docs/adding-a-dtype.md). Next: `aval.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np


class Category(IntEnum):
    """What kind of numbers; the higher one wins in promotion."""

    BOOL = 0
    INTEGER = 1
    FLOATING = 2
    COMPLEX = 3


@dataclass(frozen=True, eq=False)
class DType:
    """An element type: a row of the table.

    `mlir` is the element type in the tape dialect and in code generators, signedness included; `bits` the width of a value (bool
    1, stored as a byte, 0 or 1). `exponent` and `mantissa` are the stored bits of a float, of a complex number those of its
    parts. `accumulator` names the dtype that numbers of this one are computed, added up and multiplied in where that is another
    one: results are rounded to this one once per op. `carrier` is the MLIR integer that holds a value's bits in registers where
    machines and LLVM do not move them as they are: only conversions look into it. `parts` names the dtype of a complex number's
    parts. `is_stored_only` is said of what is moved, converted and compared for being equal, and not computed with;
    `has_infinity` of floats that have infinities, `has_classes` of those that PyTorch has classes of tensors and storages for
    (`LongTensor`, `LongStorage`), as it has for none of its younger dtypes. `module` is where NumPy has the type from, `dlpack`
    its code in DLPack where NumPy has none. `c_type`, `safetensors`, `tensor` and `aliases` are its names in C, in safetensors
    files, in `Tensor.type()`, and PyTorch's other names for it.
    """

    name: str
    mlir: str
    category: Category
    bits: int
    signed: bool = True
    exponent: int = 0
    mantissa: int = 0
    accumulator: str = ""
    carrier: str = ""
    parts: str = ""
    is_stored_only: bool = False
    has_infinity: bool = True
    has_classes: bool = True
    module: str = "numpy"
    dlpack: int = 0
    c_type: str = ""
    safetensors: str = ""
    tensor: str = ""
    aliases: tuple[str, ...] = ()

    # ---- kinds ---------------------------------------------------------------------------------------------
    # Kept once they are known: an emitter asks for them a few times per op that it writes.

    @cached_property
    def is_floating_point(self) -> bool:
        return self.category is Category.FLOATING

    @cached_property
    def is_complex(self) -> bool:
        return self.category is Category.COMPLEX

    @cached_property
    def is_inexact(self) -> bool:
        """Whether numbers are rounded, and so have gradients: floats and complex ones."""
        return self.category >= Category.FLOATING

    @cached_property
    def is_integer(self) -> bool:
        return self.category is Category.INTEGER

    @cached_property
    def is_bool(self) -> bool:
        return self.category is Category.BOOL

    @cached_property
    def is_integral(self) -> bool:
        """Whether numbers are whole: integers and bools."""
        return self.category <= Category.INTEGER

    @cached_property
    def is_signed(self) -> bool:
        """Whether there are values below 0."""
        return self.signed

    @property
    def fills_word(self) -> bool:
        """Whether a real number takes a GPU's register or two."""
        return self.bits >= 32 and not self.is_complex

    # ---- in memory, in MLIR, in NumPy ------------------------------------------------------------------------

    @cached_property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return -(-self.bits // 8)

    @cached_property
    def register(self) -> str:
        """The MLIR type of a register: there the ops carry signedness, not the integers."""
        return f"i{self.bits}" if self.is_integral else self.carrier or self.mlir

    @cached_property
    def numpy(self) -> np.dtype:
        if self.module == "numpy":
            return np.dtype(self.name)
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, self.name))

    @cached_property
    def code(self) -> str:
        """The letter of Python's `struct` module for an element, "" where it has none: how the recorder reads one."""
        known = self.module == "numpy" and not self.is_complex
        return self.numpy.newbyteorder("=").char.replace("l", "q").replace("L", "Q") if known else ""

    # ---- numbers -----------------------------------------------------------------------------------------------

    @cached_property
    def number(self) -> type:
        """The Python type of an element."""
        return (bool, int, float, complex)[self.category]

    @property
    def accumulation(self) -> DType:
        """The dtype that folds, products and elementwise ops on this one compute in; itself for most."""
        return _BY_NAME[self.accumulator] if self.accumulator else self

    @cached_property
    def is_narrow(self) -> bool:
        """Whether ops on this dtype compute in another one and round to this one once."""
        return bool(self.accumulator)

    @property
    def least(self) -> float | int:
        """No value is below: of floats -inf where they have it."""
        if self.is_floating_point:
            return -self.greatest
        return -(1 << self._value_bits) if self.is_integer and self.signed else 0

    @property
    def greatest(self) -> float | int:
        """No value is above: of floats inf where they have it."""
        if not self.is_floating_point:
            return (1 << self._value_bits) - 1
        top = 1 << (self.exponent - 1)
        return math.inf if self.has_infinity else (2.0 - 2.0 ** (1 - self.mantissa)) * 2.0**top

    @property
    def _value_bits(self) -> int:
        """Bits of an integer beside its sign."""
        return self.bits - (self.is_integer and self.signed)

    def to_real(self) -> DType:
        """The dtype of a complex number's parts; itself for others."""
        return _BY_NAME[self.parts] if self.parts else self

    def to_complex(self) -> DType:
        """The dtype of complex numbers with parts of this one; itself if it is complex. Raises TypeError where there is none."""
        found = self if self.is_complex else next((d for d in ALL if d.parts == self.name), None)
        if found is None:
            raise TypeError(
                f"[to_complex] there are no complex numbers with parts of {self.name}. Use float32 or float64."
            )
        return found

    def holds(self, other: DType) -> bool:
        """Whether every value of `other` is one of this dtype."""
        if self is other:
            return True
        if self.is_complex:
            return _BY_NAME[self.parts].holds(_BY_NAME[other.parts] if other.is_complex else other)
        if other.is_complex or self.category < other.category:
            return False
        if self.is_floating_point and other.is_floating_point:
            return self.exponent >= other.exponent and self.mantissa >= other.mantissa
        if self.is_floating_point:
            return self.mantissa + 1 >= other._value_bits and 1 << (self.exponent - 1) > other._value_bits
        return self._value_bits >= other._value_bits and (self.signed or not (other.is_integer and other.signed))

    def __repr__(self) -> str:
        return f"flambeau.{self.name}"

    def __reduce__(self):
        return (by_name, (self.name,))


del DType.__dataclass_fields__  # libraries take dataclasses for containers, and PyTorch's dtypes are none

# ---- the table ------------------------------------------------------------------------------------------------


def _integer(bits: int, tensor: str, alias: str = "", signed: bool = True) -> DType:
    u, capital = ("", "I") if signed else ("u", "U")
    c_type, mlir = f"{u}int{bits}_t", f"{u}i{bits}"
    aliases = (alias,) if alias else ()
    return DType(
        f"{u}int{bits}", mlir, Category.INTEGER, bits, signed, c_type=c_type, safetensors=f"{capital}{bits}",
        tensor=tensor, aliases=aliases, has_classes=signed or bits == 8,
    )  # fmt: skip


def _floating(name: str, mlir: str, exponent: int, mantissa: int, **fields) -> DType:
    bits = 1 + exponent + mantissa
    return DType(name, mlir, Category.FLOATING, bits, exponent=exponent, mantissa=mantissa, **fields)


def _complex(parts: DType, alias: str, tensor: str, safetensors: str = "") -> DType:
    name, mlir, bits = f"complex{2 * parts.bits}", f"complex<{parts.mlir}>", 2 * parts.bits
    return DType(
        name, mlir, Category.COMPLEX, bits, exponent=parts.exponent, mantissa=parts.mantissa, parts=parts.name,
        safetensors=safetensors, tensor=tensor, aliases=(alias,), c_type=f"{parts.c_type} _Complex",
    )  # fmt: skip


bool_ = DType(
    "bool", "i1", Category.BOOL, 1, signed=False, c_type="uint8_t", safetensors="BOOL", tensor="Bool", aliases=("bool",)
)
uint8 = _integer(8, "Byte", signed=False)
int8 = _integer(8, "Char")
int16 = _integer(16, "Short", "short")
int32 = _integer(32, "Int", "int")
int64 = _integer(64, "Long", "long")
uint16, uint32, uint64 = (_integer(bits, f"UInt{bits}", signed=False) for bits in (16, 32, 64))
float16 = _floating(
    "float16", "f16", 5, 10, accumulator="float32", safetensors="F16", tensor="Half", c_type="uint16_t", aliases=("half",),
)  # fmt: skip
bfloat16 = _floating(
    "bfloat16", "bf16", 8, 7, accumulator="float32", carrier="i16", safetensors="BF16", tensor="BFloat16", c_type="uint16_t",
    module="ml_dtypes", dlpack=4,
)  # fmt: skip
#: float8: to be stored and exchanged. e4m3fn has no infinities, and one NaN of each sign.
float8_e4m3fn = _floating(
    "float8_e4m3fn", "f8E4M3FN", 4, 3, accumulator="float32", carrier="i8", is_stored_only=True, has_infinity=False,
    has_classes=False, safetensors="F8_E4M3", tensor="Float8_e4m3fn", c_type="uint8_t", module="ml_dtypes", dlpack=10,
)  # fmt: skip
float8_e5m2 = _floating(
    "float8_e5m2", "f8E5M2", 5, 2, accumulator="float32", carrier="i8", is_stored_only=True, has_classes=False,
    safetensors="F8_E5M2", tensor="Float8_e5m2", c_type="uint8_t", module="ml_dtypes", dlpack=12,
)  # fmt: skip
float32 = _floating("float32", "f32", 8, 23, safetensors="F32", tensor="Float", c_type="float", aliases=("float",))
float64 = _floating("float64", "f64", 11, 52, safetensors="F64", tensor="Double", c_type="double", aliases=("double",))
complex64 = _complex(float32, "cfloat", "ComplexFloat", safetensors="C64")
complex128 = _complex(float64, "cdouble", "ComplexDouble")

#: Every dtype that has a name. Those that are not in SUPPORTED can be named and promoted, and are refused by ops.
ALL: tuple[DType, ...] = (
    *(bool_, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64),
    *(uint16, uint32, uint64, float8_e4m3fn, float8_e5m2),
    *(complex64, complex128),
)
_supported: tuple[DType, ...] = ALL

_BY_NAME = {d.name: d for d in ALL}
_BY_MLIR = {d.mlir: d for d in ALL}
_REGISTERS = {d.mlir: d.register for d in ALL}
_narrow: dict[np.dtype, DType | None] = {}  # what `narrow` has answered
#: Those that NumPy has itself, and exports.
NATIVE = {d.numpy: d for d in ALL if d.module == "numpy"}
_TABLES: tuple[dict[Any, Any], ...] = (_BY_NAME, _BY_MLIR, _REGISTERS, NATIVE)


class DTypes(Sequence[DType]):
    """The supported dtypes of some categories, in the table's order; `stored`: also those that are not computed with. Looked up
    whenever it is asked, so that a record that takes a set takes what is added to the table, too."""

    def __init__(self, *categories: Category, stored: bool = False) -> None:
        self.categories, self.stored = frozenset(categories), stored
        self._found: tuple[tuple[DType, ...], tuple[DType, ...]] = ((), ())  # of which supported ones

    def _now(self) -> tuple[DType, ...]:
        among, found = self._found
        if among is not _supported:
            among = _supported
            found = tuple([d for d in among if d.category in self.categories and self.stored >= d.is_stored_only])
            self._found = among, found
        return found

    def __contains__(self, dtype: object) -> bool:
        return dtype in self._now()

    def __iter__(self) -> Iterator[DType]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._now()[index]

    def __repr__(self) -> str:
        return repr(self._now())


#: The dtypes that records, kernels and the frontend accept today; those that no op computes with are in no other set.
SUPPORTED = DTypes(*Category, stored=True)
FLOATING = DTypes(Category.FLOATING)
STORED_FLOATING = DTypes(Category.FLOATING, stored=True)
INTEGER = DTypes(Category.INTEGER)
NUMERIC = DTypes(Category.INTEGER, Category.FLOATING)
COMPLEX = DTypes(Category.COMPLEX)
#: All but complex ones: what there are constants of.
REAL = DTypes(Category.BOOL, Category.INTEGER, Category.FLOATING, stored=True)
#: What is rounded.
INEXACT = DTypes(Category.FLOATING, Category.COMPLEX)
#: What is added and multiplied.
ARITHMETIC = DTypes(Category.INTEGER, Category.FLOATING, Category.COMPLEX)
#: What has bits to combine.
LOGICAL = DTypes(Category.BOOL, Category.INTEGER)
#: What has an order: all but complex numbers.
ORDERED = DTypes(Category.BOOL, Category.INTEGER, Category.FLOATING)


@contextmanager
def added(*dtypes: DType) -> Iterator[None]:
    """Inside, these dtypes, rows of the table or new ones, are supported: how one is tried. Copied sets of dtypes lack them."""
    global ALL, _supported
    before, tables = (ALL, _supported), [(table, dict(table)) for table in _TABLES]
    ALL = (*ALL, *(d for d in dtypes if d not in ALL))
    _supported = tuple([d for d in ALL if d in _supported or d in dtypes])
    _BY_NAME.update({d.name: d for d in dtypes})
    _BY_MLIR.update({d.mlir: d for d in dtypes})
    _REGISTERS.update({d.mlir: d.register for d in dtypes})
    NATIVE.update({d.numpy: d for d in dtypes if d.module == "numpy"})
    _narrow.clear()
    try:
        yield
    finally:
        ALL, _supported = before
        for table, old in tables:
            table.clear()
            table.update(old)
        _narrow.clear()


# ---- finding one ----------------------------------------------------------------------------------------------


_OF_PYTHON: dict[type, DType] = {bool: bool_, int: int64, float: float64, complex: complex128}


def of_python(dtype: Any) -> Any:
    """The dtype that a type of Python's numbers stands for, as `float` does for float64; anything else as it is."""
    return _OF_PYTHON.get(dtype, dtype) if isinstance(dtype, type) else dtype


def by_name(name: str) -> DType:
    return _BY_NAME[name]


def by_mlir(text: str) -> DType:
    """The dtype of an MLIR element type. Raises KeyError when there is none."""
    return _BY_MLIR[text]


def register_type(element: str) -> str:
    """The MLIR type of a scalar in a register; what is no element (a pointer, an index, a tensor) has its own."""
    return _REGISTERS.get(element, element)


def carrier_of(element: str) -> str:
    """The integer that carries a float of this type in registers, "" where none does or the type is none of elements."""
    dtype = _BY_MLIR.get(element)
    return "" if dtype is None else dtype.carrier


def by_safetensors(text: str) -> DType | None:
    """The dtype that a safetensors file calls by this name, None if there is none."""
    return next((d for d in ALL if d.safetensors == text), None)


def from_numpy(dtype: np.dtype) -> DType:
    """The DType of a NumPy dtype. Raises TypeError when there is none."""
    found = _BY_NAME.get(np.dtype(dtype).name)
    if found is None:
        raise TypeError(f"[dtype] NumPy dtype {dtype} has no Flambeau equivalent. Convert the array first.")
    return found


def narrow(dtype: np.dtype) -> DType | None:
    """The DType of NumPy's if that is a narrow one, else None."""
    if dtype not in _narrow:  # NumPy spells out the name each time it is asked
        found = _BY_NAME.get(dtype.name)
        _narrow[dtype] = found if found is not None and found.accumulator else None
    return _narrow[dtype]


def is_inexact(array: np.ndarray) -> bool:
    """Whether an array holds numbers that are rounded: NumPy's `kind` does not know the types that others added to it."""
    if not is_foreign(array.dtype):
        return array.dtype.kind in "fc"
    known = _BY_NAME.get(array.dtype.name)
    return known is not None and known.is_inexact


def is_foreign(dtype: np.dtype) -> bool:
    """Whether others have added it to NumPy, which exports no buffers of it."""
    return dtype.isbuiltin == 2


def exported(array: np.ndarray) -> np.ndarray:
    """The array, or its bits as integers where NumPy exports no buffer of its dtype."""
    return array.view(f"u{array.itemsize}") if is_foreign(array.dtype) else array


# ---- promotion ------------------------------------------------------------------------------------------------


def promote(a: DType, b: DType) -> DType:
    """The common dtype of two tensors of equal standing, as in PyTorch: the higher category's, and within a category the
    smallest that holds both. Raises TypeError where there is none, RuntimeError for what is only stored."""
    if a is b:
        return a
    if a.is_stored_only or b.is_stored_only:
        raise RuntimeError(
            f"[dtype] {a.name} and {b.name} have no common dtype: float8 is not promoted. Cast one of them."
        )
    low, high = sorted((a, b), key=lambda d: d.category)
    if high.is_complex and low.category >= Category.FLOATING:
        parts = promote(low.to_real(), high.to_real())
        return _smallest([d for d in ALL if d.is_complex and _BY_NAME[d.parts].holds(parts)], a, b)
    if high.category != low.category:
        return high
    return _smallest(
        [d for d in ALL if d.category is a.category and not d.is_stored_only and d.holds(a) and d.holds(b)], a, b
    )


def _smallest(found: Iterable[DType], a: DType, b: DType) -> DType:
    least = min(found, key=lambda d: d.bits, default=None)
    if least is None:
        raise TypeError(f"[dtype] no dtype holds both {a.name} and {b.name}. Cast one of them.")
    return least
