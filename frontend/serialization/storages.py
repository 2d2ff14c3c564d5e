"""The memory below tensors, as files have it: what tensors share on the way out, and views of it on the way in.

In: tensors; or storages of a file with sizes and strides. Out: `Saved` storages, each once, with where a tensor lies in them; or
tensors that share what was shared. There is no function that makes a view of any strides: `strided` finds the ones that do, and
what they cannot show is copied. Next: `zip_format.py`, `legacy_format.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flambeau import host
from flambeau.dialects import dtypes
from flambeau.dialects.aval import CPU
from flambeau.dialects.dtypes import DType
from flambeau.functions.storage import ByStorage
from flambeau.functions.transfer import moved
from flambeau.runtime import devices, recorder
from flambeau.runtime.recorder import Tensor
from flambeau.serialization.machine import refuse

MOST_DIMENSIONS = 64
Place = str

# ---- saving ---------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Saved:
    """A storage on its way into a file: its key, its elements on the host in a row, where it lies."""

    key: str
    array: np.ndarray
    dtype: DType
    place: Place

    @property
    def data(self) -> memoryview:
        return self.array.view(np.uint8).reshape(-1).data if self.array.size else memoryview(b"")


class Keeping:
    """The storages of the tensors that were met, in order."""

    def __init__(self) -> None:
        self.storages: list[Saved] = []
        self._known = ByStorage()

    def of(self, t: Tensor) -> tuple[Saved, int, tuple[int, ...]]:
        """The storage of a tensor, and where in it: offset and strides, in elements."""
        t = t.detach()
        base, shape = self._base(t)
        view, _, starts = recorder.view_info(t)
        array = base.array.reshape(shape)
        shown = array if view is None or not view.steps else host.view_of(array, view, starts)
        size = t.dtype.itemsize
        offset = host.address(shown) - host.address(base.array) if shown.size else 0
        if shown.dtype != base.array.dtype or not 0 <= offset < max(1, base.array.nbytes) or not _lies_in(shown, base):
            return self._new(np.ascontiguousarray(shown), t), 0, row_by_row(tuple(shown.shape))
        strides = tuple(n // size for n in shown.strides)
        return base, offset // size, strides if shown.size else row_by_row(tuple(shown.shape))

    def _base(self, t: Tensor) -> tuple[Saved, tuple[int, ...]]:
        buffer, shape = recorder.realize(t), recorder.view_info(t)[1]
        saved = self._known.of(t)
        if saved is None:
            if t._place != CPU:
                buffer = devices.find(t._place).handle.download(buffer)
            saved = self._new(np.ndarray((math.prod(shape),), t.dtype.numpy, buffer=buffer), t)
            self._known.note(t, saved)
        return saved, shape

    def _new(self, array: np.ndarray, t: Tensor) -> Saved:
        self.storages.append(Saved(str(len(self.storages)), array.reshape(-1), t.dtype, t._place))
        return self.storages[-1]


def _lies_in(shown: np.ndarray, base: Saved) -> bool:
    """Whether an array is a view of a storage that files can express: whole strides, none below 0."""
    if any(n < 0 or n % shown.itemsize for n in shown.strides):
        return False
    return not shown.size or np.may_share_memory(shown, base.array)


def row_by_row(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a contiguous tensor, as PyTorch gives them."""
    return tuple(math.prod([max(1, n) for n in shape[i + 1 :]]) for i in range(len(shape)))


# ---- loading --------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Storage:
    """A storage of a file, and the tensor of all of it, which is made by `make(shape)` when the first view is asked for: of that
    one's shape if it shows everything, so that it can be a leaf. `dtype` is None of bytes of which the file does not say it."""

    make: Callable[[tuple[int, ...]], Tensor]
    dtype: DType
    nbytes: int
    there: Place = "cpu"
    tensor: Tensor | None = None
    as_dtype: dict[DType, Tensor] = field(default_factory=dict)
    copied: int = 0  #: bytes that no views could show

    @property
    def count(self) -> int:
        return self.nbytes // self.dtype.itemsize

    def whole(self, shape: tuple[int, ...]) -> Tensor:
        """All elements, in this shape."""
        if self.tensor is None:
            self.tensor = moved(self.make(shape), self.there)
        return self.tensor if tuple(self.tensor.shape) == shape else self.tensor.view(shape)  # type: ignore[attr-defined]

    def flat(self, dtype: DType) -> Tensor:
        """The elements in a row, as ones of a dtype, which share the memory."""
        row = self.whole((self.count,)) if self.tensor is None else self.tensor.view((self.count,))  # type: ignore[attr-defined]
        if self.dtype is dtype:
            return row
        if dtype not in self.as_dtype:
            self.as_dtype[dtype] = row.view(dtype)
        return self.as_dtype[dtype]


@dataclass(frozen=True)
class Typed:
    """A storage as a tensor names it; of bytes where there is no dtype."""

    storage: Storage
    dtype: DType | None


def view(storage: Storage, dtype: DType, offset: int, sizes: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
    """The tensor with these sizes and strides. Raises ValueError where it reaches out of the storage."""
    if storage.nbytes % dtype.itemsize:
        refuse(f"a storage of {storage.nbytes} bytes is one of {dtype.name}")
    count, is_empty = storage.nbytes // dtype.itemsize, 0 in sizes
    last = 0 if is_empty else offset + sum((n - 1) * s for n, s in zip(sizes, strides))
    if not is_empty and last >= count:
        refuse(f"a tensor of shape {sizes} and strides {strides} from {offset} reaches out of its storage of {count}")
    host.byte_count(sizes, dtype)
    is_row = all(n == 1 or s == r for n, s, r in zip(sizes, strides, row_by_row(sizes))) or is_empty
    if is_row and dtype is storage.dtype and math.prod(sizes) == count:
        return storage.whole(sizes)
    flat: Any = storage.flat(dtype)
    if is_empty:
        return flat[:0].reshape(sizes)
    if is_row:
        return flat[offset : last + 1].view(sizes)
    shown = strided(flat, count, offset, sizes, strides)
    return _copy(storage, flat, offset, sizes, strides) if shown is None else shown


def _copy(storage: Storage, flat: Tensor, offset: int, sizes: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
    size = flat.dtype.itemsize
    storage.copied += math.prod(sizes) * size
    if storage.copied > 4 * storage.nbytes:
        refuse("it has windows of tensors that overlap", "Save them contiguous.")
    seen = np.lib.stride_tricks.as_strided(host.array_of(flat)[offset:], sizes, [size * s for s in strides])
    return host.copied(np.ascontiguousarray(seen), flat.dtype, there=flat._place)


def strided(flat: Any, count: int, offset: int, sizes: tuple, strides: tuple) -> Any | None:
    """Views of `flat`, of `count` elements, that show these elements; None where rows of rows do not describe them.

    Dimensions are taken from the largest stride down: each cuts what is left into rows of that length, of which those before
    `offset` and after the last one are left out; the next lies within a row. Repeated dimensions are expanded at the end.
    """
    real = sorted((d for d, n in enumerate(sizes) if n > 1 and strides[d]), key=lambda d: (-strides[d], d))
    x, length = flat, count
    for depth, d in enumerate(real):
        n, step = sizes[d], strides[d]
        first, offset = divmod(offset, step)
        inner = [(sizes[e] - 1) * strides[e] for e in real[depth + 1 :]]
        reach = offset + sum(inner)  # of the last element needed in a row
        if depth + 1 == len(real):  # no further dimension: every step-th element
            x = x.narrow(depth, first * step + offset, (n - 1) * step + 1)
            x = x[(slice(None),) * depth + (slice(None, None, step),)] if step > 1 else x
            length, offset = 1, 0
            break
        if reach >= step:
            return None
        if (first + n) * step > length:
            return None
        x = x.narrow(depth, first * step, n * step).unflatten(depth, (n, step))
        length = step
    if not real:
        x = x.narrow(0, offset, 1).reshape(())
    x = x.permute([real.index(d) for d in sorted(real)]) if len(real) > 1 else x
    if len(real) == len(sizes):
        return x
    return x.reshape([sizes[d] if d in real else 1 for d in range(len(sizes))]).expand(sizes)


def read_storage(read: Callable[[memoryview], None], nbytes: int, dtype: DType) -> Storage:
    """A storage of memory of its own, which `read` fills. Raises ValueError for bools that are neither 0 nor 1."""
    host.check_supported("load", dtype)
    buffer, array = host.empty_array((nbytes // dtype.itemsize,), dtype)
    if nbytes:
        read(array.view(np.uint8).data)
    check_bools(array, dtype)
    return Storage(lambda shape: recorder.tensor_from_buffer(buffer, shape, dtype), dtype, nbytes)


def mapped_storage(memory: Any, offset: int, nbytes: int, dtype: DType) -> Storage:
    """A storage in a file that is mapped for reading; in memory of its own where it does not lie as numbers must."""
    host.check_supported("load", dtype)
    array = np.frombuffer(memory, np.uint8, nbytes, offset)
    check_bools(array, dtype)
    is_aligned = not host.address(array) % dtype.itemsize
    found = array.view(dtype.numpy)
    make = host.shared if is_aligned else host.copied
    return Storage(lambda shape: make(found.reshape(shape)), dtype, nbytes)


def check_bools(data: np.ndarray, dtype: DType) -> None:
    if dtype is dtypes.bool_ and (data.view(np.uint8) > 1).any():
        refuse("a storage of bools has bytes other than 0 and 1")
