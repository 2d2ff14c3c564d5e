"""Which dtype a mix of tensors and Python numbers computes in: PyTorch's category rules, and the default dtype.

In: `builder.Value`s (or tensors). Out: a dtype. A tensor with dimensions decides before a 0-d tensor, and that before a
number, unless the lesser one is of a higher category (bool < integer < floating). Next: `functions/common.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flambeau.declarations import Unsampled, declared
from flambeau.dialects.dtypes import DType, bool_, float32, float64, int64, of_python, promote
from flambeau.runtime import recorder

_FLOAT64_MODE = 2  # bit of the recorder's mode word, so that traces under different defaults are different


@declared(free="flambeau", samples=Unsampled("of dtypes, not of tensors"))
def get_default_dtype() -> DType:
    """The dtype of tensors made from Python floats, and of true division of integers."""
    return float64 if recorder.get_mode() & _FLOAT64_MODE else float32


@declared(free="flambeau", samples=Unsampled("of dtypes, not of tensors"))
def set_default_dtype(dtype: DType) -> None:
    """Make `dtype` (float32 or float64) the default in this thread. Raises TypeError for others."""
    if dtype not in (float32, float64):
        raise TypeError(f"[set_default_dtype] {dtype!r} cannot be the default. Use float32 or float64.")
    mode = recorder.get_mode() & ~_FLOAT64_MODE
    recorder.set_mode(mode | _FLOAT64_MODE if dtype is float64 else mode)


def number_dtype(value: complex) -> DType:
    """The dtype a Python number has by itself. Raises TypeError for other objects."""
    if isinstance(value, bool):
        return bool_
    if isinstance(value, int):
        return int64
    if isinstance(value, float):
        return get_default_dtype()
    if isinstance(value, complex):
        return get_default_dtype().to_complex()
    raise TypeError(f"[dtype] {type(value).__name__} is not a number. Pass a bool, int, float or complex number.")


def _combine(higher: DType | None, lower: DType | None) -> DType | None:
    if higher is None or lower is None:
        return higher or lower
    if lower.category <= higher.category:
        return higher
    if lower.is_complex and higher.is_floating_point:  # which says how precise it is
        return higher.accumulation.to_complex()
    return lower


def _common(dtypes: Iterable[DType]) -> DType | None:
    result: DType | None = None
    for dtype in dtypes:
        result = dtype if result is None else promote(result, dtype)
    return result


def result_dtype(values: Iterable[Any]) -> DType:
    """The dtype that an op on `values` (with `shape`, `dtype` and `weak`) computes in."""
    values = list(values)
    full = _common(v.dtype for v in values if v.shape and not v.weak)
    scalar = _common(v.dtype for v in values if not v.shape and not v.weak)
    number = _common(_of_number(v.dtype) for v in values if v.weak)
    found = _combine(_combine(full, scalar), number)
    if found is None:
        raise TypeError("[result_type] there is nothing to take a dtype from. Pass at least one tensor or number.")
    return found


def _of_number(dtype: DType) -> DType:
    """The dtype that a Python number of a kind has by itself."""
    default = get_default_dtype()
    return default.to_complex() if dtype.is_complex else default if dtype.is_floating_point else dtype


class _Plain:
    """A tensor or number as `result_dtype` sees it."""

    def __init__(self, value: Any) -> None:
        number = isinstance(value, (bool, int, float, complex))
        self.weak = number
        self.shape = () if number else tuple(value.shape)
        self.dtype = number_dtype(value) if number else value.dtype


@declared(free="flambeau", samples=Unsampled("of dtypes, not of tensors"))
def result_type(
    *tensors: Any,
    tensor: Any = None,
    other: Any = None,
    scalar: Any = None,
    scalar1: Any = None,
    scalar2: Any = None,
    tensor1: Any = None,
    tensor2: Any = None,
) -> DType:
    """The dtype of arithmetic between two tensors or numbers: `result_type(int_tensor, 1.5)` is float32.

    By name they are `tensor` and `other`, `scalar` and `tensor`, `tensor1` and `tensor2`, `scalar1` and `scalar2`. Raises TypeError
    for more or fewer than two.
    """
    named = (tensor, other, scalar, scalar1, scalar2, tensor1, tensor2)
    given = (*tensors, *(x for x in named if x is not None))
    if len(given) != 2:
        raise TypeError(f"[result_type] there are {len(given)} operands. Give two tensors or numbers.")
    return result_dtype([_Plain(x) for x in given])


@declared(free="flambeau", samples=Unsampled("of dtypes, not of tensors"))
def promote_types(type1: DType, type2: DType) -> DType:
    """The smallest dtype that both convert to."""
    return promote(of_python(type1), of_python(type2))


@declared(free="flambeau", samples=Unsampled("of dtypes, not of tensors"))
def can_cast(from_: DType, to: DType) -> bool:
    """Whether an in-place op may store a `from_` result in a `to` tensor: categories may only go up."""
    return of_python(from_).category <= of_python(to).category
