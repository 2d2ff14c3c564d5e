"""Operands as the array API standard takes them: numbers beside arrays, the dtype that mixed arrays compute in, axes.

In: arrays and numbers. Out: tensors of one dtype. Next: `elementwise.py`.
"""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

from flambeau.declarations import here
from flambeau.dialects.dtypes import DType, promote
from flambeau.functions.from_data import as_tensor
from flambeau.promotion import get_default_dtype
from flambeau.public import NAMES
from flambeau.runtime.recorder import Tensor

#: The package's functions.
fb: Any = SimpleNamespace(**NAMES)


def names_of(module: ModuleType) -> dict[str, Any]:
    """What a module of this folder defines for the namespace."""
    return {name: getattr(module, name) for name in getattr(module, "__all__", here(vars(module)))}


def common(*operands: Any) -> list[Tensor]:
    """The operands as tensors of their common dtype, which arrays decide whatever their dimensions are, numbers only by being of
    a higher kind. Raises TypeError for what is neither, or without an array."""
    arrays = [x for x in operands if isinstance(x, Tensor)]
    if not arrays:
        raise TypeError(f"[array_api] the operands are {', '.join(type(x).__name__ for x in operands)}. Pass an array.")
    dtype = arrays[0].dtype
    for x in arrays[1:]:
        dtype = promote(dtype, x.dtype)
    for x in operands:
        dtype = with_number(dtype, x)
    return [x.to(dtype) if isinstance(x, Tensor) else as_tensor(x, dtype, arrays[0].device) for x in operands]


def with_number(dtype: DType, x: Any) -> DType:
    """The dtype of arithmetic between an array of a dtype and a number: that dtype, or the default of the number's kind."""
    if isinstance(x, complex) and not dtype.is_complex:
        return (dtype if dtype.is_floating_point else get_default_dtype()).to_complex()
    if isinstance(x, float) and not dtype.is_floating_point and not dtype.is_complex:
        return get_default_dtype()
    if isinstance(x, int) and not isinstance(x, bool) and dtype is fb.bool:
        return fb.int64  # type: ignore[no-any-return]
    return dtype


def axes_of(axis: int | tuple[int, ...] | None, x: Tensor) -> tuple[int, ...]:
    """The axes of x that `axis` names, counted from 0: all for None. Raises IndexError for those that x does not have."""
    if axis is None:
        return tuple(range(x.ndim))
    named = axis if isinstance(axis, tuple) else (axis,)
    for a in named:
        if not -x.ndim <= a < x.ndim:
            raise IndexError(f"[array_api] axis {a} of an array of {x.ndim} dimensions. Pass one that it has.")
    return tuple(a % x.ndim for a in named)
