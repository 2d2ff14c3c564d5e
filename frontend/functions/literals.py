"""Python data as arrays: numbers and nested sequences of numbers, arrays and tensors.

In: what users give to `tensor`. Out: a NumPy array in the dtype that the tensor gets. Next: `create.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flambeau import host
from flambeau.border import shown
from flambeau.dialects.dtypes import DType, bool_, from_numpy, int64, promote, uint64
from flambeau.functions.common import least_stored
from flambeau.promotion import get_default_dtype, number_dtype
from flambeau.runtime.recorder import Tensor


def array_of(op: str, data: Any, dtype: DType | None) -> np.ndarray:
    """`data` as an array. Its dtype is the common one of all numbers in it: floats count as the default dtype (unless
    `dtype` is given: then they are left as they are, to be converted once), ints as int64; arrays and tensors as theirs.

    Raises ValueError for ragged rows and for ints that the dtype cannot hold beyond 64 bits, TypeError for text and for numbers
    beside lists, RuntimeError for other things that are no numbers and for numbers that an integer dtype does not hold. Arrays are
    converted as they are.
    """
    array = _array_of(op, data, dtype)
    if dtype is not None and dtype.is_integer and not hasattr(data, "__array__"):
        _check_held(op, array, dtype)
    return array


def _check_held(op: str, array: np.ndarray, dtype: DType) -> None:
    """Raise RuntimeError for numbers that an integer dtype does not hold. Unsigned ones count numbers below 0 from their end."""
    is_float = array.dtype.kind == "f"
    if array.dtype.kind not in "iuf" or not array.size or (dtype in (int64, uint64) and not is_float):
        return
    low, high = least_stored(dtype, is_float), dtype.greatest
    held = (array >= low) | (array > low - 1)  # float64 holds -2**63, but not the number before it
    lost = array[~(held & (array < high + 1))]
    if lost.size:
        raise RuntimeError(f"[{op}] {lost[0]} is no value of {dtype.name}. Use {dtype.least}..{dtype.greatest}.")


def _array_of(op: str, data: Any, dtype: DType | None) -> np.ndarray:
    if isinstance(data, (np.ndarray, np.generic)):
        return np.asarray(data)
    if isinstance(data, complex):
        return np.asarray(data, np.complex128 if dtype else number_dtype(data).numpy)
    if (large := _beyond_int64(data)) is not None:
        return _with_large(op, data, large, dtype)
    if isinstance(data, (bool, int, float)):
        floats = np.float64 if dtype else get_default_dtype().numpy
        return np.asarray(data, floats if isinstance(data, float) else number_dtype(data).numpy)
    if hasattr(data, "__array__") and not isinstance(data, Tensor):
        return np.asarray(data)
    try:
        array = np.array(_without_tensors(data))
    except (ValueError, OverflowError) as error:
        kind = TypeError if _mixes(data) else ValueError
        raise kind(f"[{op}] the data is ragged or out of range: {error}. Make all rows equally long.") from None
    if array.dtype.kind not in "biufc":
        other = TypeError if array.dtype.kind == "U" else RuntimeError
        raise other(f"[{op}] {_no_number(data)} is no number. Pass numbers, lists or an array.")
    return array if dtype else array.astype(_dtype(data).numpy, copy=False)


def _mixes(data: Any) -> bool:
    """Whether numbers stand beside lists."""
    lists = [x for x in data if isinstance(x, list | tuple)] if isinstance(data, list | tuple) else []
    return 0 < len(lists) < len(data) or any(map(_mixes, lists))


def _beyond_int64(data: Any) -> int | None:
    """The first int that int64 does not hold."""
    if isinstance(data, list | tuple):
        return next((x for x in map(_beyond_int64, data) if x is not None), None)
    return data if isinstance(data, int) and not -(2**63) <= data < 2**63 else None


def _with_large(op: str, data: Any, large: int, dtype: DType | None) -> np.ndarray:
    """`data` with an int beyond int64, which floats take rounded, and uint64 up to its end."""
    target = dtype or _dtype(data)
    kind = (np.complex128 if target.is_complex else np.float64) if target.is_inexact else np.uint64
    if not target.is_inexact and target is not uint64:
        raise ValueError(f"[{op}] {large} is no {target.name}. Pass dtype=uint64, or a floating-point one.")
    try:
        return np.array(_without_tensors(data), kind)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"[{op}] the data is ragged or no {target.name}: {error}. Pass another dtype.") from None


def _without_tensors(data: Any) -> Any:
    """Nested sequences with tensors replaced by their values; a tensor of one element is a number, as in PyTorch."""
    if isinstance(data, Tensor):
        return data.item() if data.numel() == 1 else host.array_of(data)
    if isinstance(data, (list, tuple)):
        return data if _NUMBERS.issuperset(map(type, data)) else [_without_tensors(item) for item in data]
    return data


_NUMBERS = {bool, int, float, complex}


def _dtype(data: Any) -> DType:
    """The common dtype of everything in nested sequences; the default one of nothing."""
    found: DType | None = None
    for dtype in _dtypes(data):
        found = dtype if found is None else promote(found, dtype)
    return found or get_default_dtype()


def _dtypes(data: Any) -> set[DType]:
    if isinstance(data, (list, tuple)):
        kinds = set(map(type, data))
        plain = {_number_kind(kind) for kind in kinds & _NUMBERS}
        return (
            plain.union(*(_dtypes(item) for item in data if type(item) not in _NUMBERS)) if kinds - _NUMBERS else plain
        )
    if isinstance(data, Tensor):
        return {data.dtype}
    if isinstance(data, (bool, int, float, complex)) and not isinstance(data, np.generic):
        return {number_dtype(data)}
    return {from_numpy(np.asarray(data).dtype)}


def _number_kind(kind: type) -> DType:
    if kind is complex:
        return get_default_dtype().to_complex()
    return bool_ if kind is bool else int64 if kind is int else get_default_dtype()


def _no_number(data: Any, where: str = "") -> str:
    """The first element of nested data that is no number, with its place."""
    if isinstance(data, list | tuple):
        found = (_no_number(x, f"{where}[{i}]") for i, x in enumerate(data))
        return next((text for text in found if text), "")
    if isinstance(data, bool | int | float | complex | np.number | np.bool_ | Tensor):
        return ""
    value = "None" if data is None else f"the {shown(data)}"
    return f"{value} at data{where}" if where else value
