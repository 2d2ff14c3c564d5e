"""The standard's functions that make arrays.

In: shapes, numbers, what holds elements. Out: arrays. Next: `manipulation.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.array_api.operands import fb
from flambeau.device import Device
from flambeau.dialects.dtypes import DType
from flambeau.runtime.recorder import Tensor

Shape = int | tuple[int, ...]


def asarray(obj: Any, /, *, dtype: DType | None = None, device: Device = None, copy: bool | None = None) -> Tensor:
    """`obj` as an array: itself, sharing memory where that is possible, or with `copy` a copy. Raises ValueError where a copy is
    needed and `copy` is False."""
    if device is None and isinstance(obj, Tensor):
        device = obj.device
    return fb.asarray(obj, dtype=dtype, device=device, copy=copy)


def from_dlpack(x: Any, /, *, device: Device = None, copy: bool | None = None) -> Tensor:
    """An array on the memory of one with `__dlpack__`; with `copy`, or on another device, a copy."""
    return fb.from_dlpack(x, device=device, copy=copy)


def _sizes(shape: Shape) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)


def empty(shape: Shape, *, dtype: DType | None = None, device: Device = None) -> Tensor:
    """An array whose elements are anything."""
    return fb.empty(_sizes(shape), dtype=dtype, device=device)


def zeros(shape: Shape, *, dtype: DType | None = None, device: Device = None) -> Tensor:
    """An array of zeros."""
    return fb.zeros(_sizes(shape), dtype=dtype, device=device)


def ones(shape: Shape, *, dtype: DType | None = None, device: Device = None) -> Tensor:
    """An array of ones."""
    return fb.ones(_sizes(shape), dtype=dtype, device=device)


def full(shape: Shape, fill_value: Any, *, dtype: DType | None = None, device: Device = None) -> Tensor:
    """An array of one number."""
    return fb.full(_sizes(shape), fill_value, dtype=dtype, device=device)


def empty_like(x: Tensor, /, *, dtype: DType | None = None, device: Device = None) -> Tensor:
    """An array of the shape of x, and its dtype unless another is named, whose elements are anything."""
    return fb.empty_like(x, dtype=dtype, device=device)


def zeros_like(x: Tensor, /, *, dtype: DType | None = None, device: Device = None) -> Tensor:
    """Zeros in the shape of x, and its dtype unless another is named."""
    return fb.zeros_like(x, dtype=dtype, device=device)


def ones_like(x: Tensor, /, *, dtype: DType | None = None, device: Device = None) -> Tensor:
    """Ones in the shape of x, and its dtype unless another is named."""
    return fb.ones_like(x, dtype=dtype, device=device)


def full_like(x: Tensor, /, fill_value: Any, *, dtype: DType | None = None, device: Device = None) -> Tensor:
    """One number in the shape of x, and its dtype unless another is named."""
    return fb.full_like(x, fill_value, dtype=dtype, device=device)


def arange(
    start: float, /, stop: float | None = None, step: float = 1, *, dtype: DType | None = None, device: Device = None
) -> Tensor:
    """start, start + step, ... before `stop`; `arange(n)` starts from 0. Empty where `stop` lies on the other side."""
    if dtype is None and any(isinstance(n, float) for n in (start, stop, step)):
        dtype = fb.get_default_dtype()
    first, end = (0, start) if stop is None else (start, stop)
    if (end - first) * step < 0:
        end = first
    return fb.arange(first, end, step, dtype=dtype, device=device)


def linspace(
    start: Any, stop: Any, /, num: int, *, dtype: DType | None = None, device: Device = None, endpoint: bool = True
) -> Tensor:
    """`num` numbers from `start` to `stop` in equal steps, `stop` being the last one, or with `endpoint` False the next one."""
    made = fb.linspace(start, stop, num if endpoint else num + 1, dtype=dtype, device=device)
    return made if endpoint else made[:num]


def eye(
    n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: DType | None = None, device: Device = None
) -> Tensor:
    """A matrix with ones on its k-th diagonal, and zeros elsewhere."""
    wide = n_rows if n_cols is None else n_cols
    rows, columns = fb.arange(n_rows, device=device).unsqueeze(1), fb.arange(wide, device=device)
    return (columns - rows == k).to(fb.get_default_dtype() if dtype is None else dtype)


def meshgrid(*arrays: Tensor, indexing: str = "xy") -> list[Tensor]:
    """Vectors, each spread along its own axis of one grid; "xy" exchanges the first two axes, "ij" does not."""
    return list(fb.meshgrid(*arrays, indexing=indexing))


def tril(x: Tensor, /, *, k: int = 0) -> Tensor:
    """Matrices with zeros above the k-th diagonal."""
    return fb.tril(x, k)


def triu(x: Tensor, /, *, k: int = 0) -> Tensor:
    """Matrices with zeros below the k-th diagonal."""
    return fb.triu(x, k)
