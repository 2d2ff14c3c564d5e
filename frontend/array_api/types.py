"""The standard's dtypes, what it asks of them, and what a namespace says of itself (`__array_namespace_info__`).

In: dtypes, arrays. Out: dtypes, facts. Next: `creation.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flambeau.array_api.operands import fb, with_number
from flambeau.cuda import device_count
from flambeau.device import Device, device
from flambeau.dialects.dtypes import DType, promote
from flambeau.runtime.recorder import Tensor

#: The standard's name of a kind -> what is of it.
_KINDS: dict[str, tuple[str, ...]] = {
    "bool": ("bool",),
    "signed integer": ("int8", "int16", "int32", "int64"),
    "unsigned integer": ("uint8",),
    "real floating": ("float32", "float64"),
    "complex floating": ("complex64", "complex128"),
}
_UNIONS = {
    "integral": ("signed integer", "unsigned integer"),
    "numeric": ("signed integer", "unsigned integer", "real floating", "complex floating"),
}
DTYPES: dict[str, DType] = {name: getattr(fb, name) for names in _KINDS.values() for name in names}

__all__ = ["astype", "can_cast", "finfo", "iinfo", "isdtype", "result_type"]


@dataclass(frozen=True)
class FloatInfo:
    """Limits of a floating-point dtype."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: DType


@dataclass(frozen=True)
class IntegerInfo:
    """Limits of an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: DType


def finfo(type: DType | Tensor, /) -> FloatInfo:
    """Limits of a floating-point dtype, or of an array's; of complex ones those of their parts. Raises TypeError for others."""
    dtype = type.dtype if isinstance(type, Tensor) else type
    dtype = dtype.to_real() if isinstance(dtype, DType) else dtype
    found = fb.finfo(dtype)
    return FloatInfo(found.bits, found.eps, found.max, found.min, found.smallest_normal, dtype)


def iinfo(type: DType | Tensor, /) -> IntegerInfo:
    """Limits of an integer dtype, or of an array's. Raises TypeError for others."""
    dtype = type.dtype if isinstance(type, Tensor) else type
    found = fb.iinfo(dtype)
    return IntegerInfo(found.bits, found.max, found.min, dtype)


def astype(x: Tensor, dtype: DType, /, *, copy: bool = True, device: Device = None) -> Tensor:
    """x in another dtype; a copy, unless `copy` is False and nothing changes."""
    return x.to(device=x.device if device is None else device, dtype=dtype, copy=copy)


def result_type(*arrays_and_dtypes: Any) -> DType:
    """The dtype of arithmetic between arrays, dtypes and numbers; arrays of no dimensions count like others.

    Raises TypeError where there are only numbers.
    """
    found: DType | None = None
    for x in arrays_and_dtypes:
        dtype = x.dtype if isinstance(x, Tensor) else x if isinstance(x, DType) else None
        found = found if dtype is None else dtype if found is None else promote(found, dtype)
    if found is None:
        raise TypeError("[result_type] there is no array and no dtype among the arguments. Pass one.")
    for x in arrays_and_dtypes:
        found = with_number(found, x)
    return found


def can_cast(from_: DType | Tensor, to: DType, /) -> bool:
    """Whether every value of the first dtype (or an array's) is one of the second by the standard's promotion."""
    dtype = from_.dtype if isinstance(from_, Tensor) else from_
    if dtype.category != to.category and not (dtype is fb.bool and to is not fb.bool):
        return False
    return dtype is fb.bool or promote(dtype, to) is to


def isdtype(dtype: DType, kind: Any) -> bool:
    """Whether a dtype is another one, of a kind ("bool", "integral", "real floating", ...), or one of a tuple of these.

    Raises ValueError for a kind that does not exist, TypeError for what is no kind.
    """
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str):
        return dtype.name in _of_kind(kind)
    if isinstance(kind, DType):
        return dtype is kind
    raise TypeError(
        f"[isdtype] kind is a {type(kind).__name__}. Pass a dtype, the name of a kind, or a tuple of these."
    )


def _of_kind(kind: str) -> tuple[str, ...]:
    if kind not in _KINDS and kind not in _UNIONS:
        raise ValueError(f"[isdtype] there is no kind '{kind}'. Pass one of {', '.join((*_KINDS, *_UNIONS))}.")
    more = ("float16", "bfloat16") if kind in ("real floating", "numeric") else ()
    return (*(name for k in _UNIONS.get(kind, (kind,)) for name in _KINDS[k]), *more)


class Info:
    """What `__array_namespace_info__()` gives: facts about the namespace, by the standard's names."""

    def capabilities(self) -> dict[str, Any]:
        """Masks are indices, shapes may depend on values, and there is no greatest number of dimensions but 64."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> device:
        """Where arrays are made unless something else is said."""
        return device("cpu")

    def default_dtypes(self, *, device: Device = None) -> dict[str, DType]:
        """The dtype of each kind that arrays have unless something else is said."""
        made = fb.get_default_dtype()
        return {
            "real floating": made,
            "complex floating": made.to_complex(),
            "integral": fb.int64,
            "indexing": fb.int64,
        }

    def dtypes(self, *, device: Device = None, kind: Any = None) -> dict[str, DType]:
        """The standard's dtypes that are here, by name; of one kind, or of a tuple of kinds."""
        return {name: d for name, d in DTYPES.items() if kind is None or isdtype(d, kind)}

    def devices(self) -> list[device]:
        """The CPU, and what GPUs there are."""
        return [device("cpu"), *(device(f"cuda:{i}") for i in range(device_count()))]
