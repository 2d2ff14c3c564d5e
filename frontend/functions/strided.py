"""Views by strides: as_strided and its kin, which show the storage of a tensor however the tensor itself lies in it.

In: a tensor, of which only the storage and the place of its first element count; a size, strides and an offset in elements. Out: a
view, which may be written to where none of its elements share memory. Next: `windows.py`.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau import layout
from flambeau.declarations import Unsampled, attribute, declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import int64
from flambeau.function import Sizes, Starts, Static, Tensor_, view
from flambeau.functions.common import ops, size_of
from flambeau.functions.copies import _copied
from flambeau.functions.inplace import copy_
from flambeau.functions.inplace_views import _become
from flambeau.functions.positions import STORE, combine
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor


def _by_stride(size: Any, stride: Any) -> list[int]:
    """The dimensions along which elements differ, those with large strides first."""
    return sorted((d for d, (n, s) in enumerate(zip(size, stride)) if n != 1 and s), key=lambda d: -stride[d])


def _span(size: Any, stride: Any, dims: Any) -> Any:
    """How many elements of the storage lie from the first to the last one along these dimensions."""
    return 1 + sum((size[d] - 1) * stride[d] for d in dims)


def _overlaps(size: Any, stride: Any) -> bool:
    """Whether two elements share memory, as far as nested strides tell."""
    dims = _by_stride(size, stride)
    nested = all(stride[d] >= _span(size, stride, dims[i + 1 :]) for i, d in enumerate(dims))
    return not nested or any(n != 1 and not s for n, s in zip(size, stride))


def _read(base: Value, starts: Any, size: Any, stride: Any) -> Value:
    """Windows within windows along the storage, the widest strides first."""
    flat = ops.reshape(base, shape=(math.prod(base.shape),))
    if 0 in size:
        return ops.reshape(ops.slice(flat, starts=(0,), sizes=(0,), steps=(1,)), shape=size)
    dims = _by_stride(size, stride)
    found = ops.dynamic_slice(flat, starts[-1], sizes=(_span(size, stride, dims),), steps=(1,))
    for i, d in enumerate(dims):
        inner = _span(size, stride, dims[i + 1 :])
        if stride[d] == inner:
            found = ops.reshape(found, shape=(*found.shape[:-1], size[d], inner))
        else:
            found = ops.unfold(found, axis=i, size=inner, step=stride[d], dilation=1)
    found = ops.reshape(found, shape=tuple(size[d] for d in dims))
    found = ops.permute(found, perm=tuple(dims.index(d) for d in sorted(dims))) if dims != sorted(dims) else found
    found = ops.reshape(found, shape=tuple(n if d in dims else 1 for d, n in enumerate(size)))
    return found.expand(tuple(size))


def _put(base: Value, new: Value, starts: Any, size: Any, stride: Any) -> Value:
    """The storage with the elements that the view shows replaced."""
    if 0 in size:
        return base
    if _overlaps(size, stride):
        raise RuntimeError(
            f"[as_strided] elements of size {tuple(size)} and strides {tuple(stride)} share memory. Write to a clone()."
        )
    count = math.prod(base.shape)
    flat, dims = ops.reshape(base, shape=(count,)), _by_stride(size, stride)
    index = starts[-1].expand(new.shape)
    for d in dims:
        index = index + ops.iota(shape=new.shape, dim=d, dtype=int64, builder=base.builder) * stride[d]
    elements = math.prod(new.shape)
    index, new = ops.reshape(index, shape=(elements,)), ops.reshape(new, shape=(elements,))
    return ops.reshape(combine(STORE, flat, index, new, 0), shape=base.shape)


@view(put=_put, name="as_strided", of_storage=True)
def _strided(input: Tensor_, starts: Starts, size: Sizes, stride: Static):
    return _read(input, starts, size, stride)


def storage_size(tensor: Tensor) -> int:
    """How many elements the storage holds."""
    return math.prod(recorder.view_info(tensor)[1])


def _checked(
    op: str, input: Tensor, size: Any, stride: Any, offset: Any
) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Size, strides and offset as ints. Raises RuntimeError for what does not fit the storage."""
    shape = size_of(op, (tuple(size) if isinstance(size, tuple | list) else size,))
    steps = tuple(n.__index__() for n in (stride if isinstance(stride, tuple | list) else (stride,)))
    start = layout.offset(input) if offset is None else offset.__index__()
    if len(shape) != len(steps):
        raise RuntimeError(f"[{op}] size {shape} and stride {steps} differ in length. Give one stride for each size.")
    if min((*steps, start)) < 0:
        raise RuntimeError(f"[{op}] strides {steps} or the offset {start} are negative. Use at least 0; see flip.")
    needed = 0 if 0 in shape else start + 1 + sum((n - 1) * s for n, s in zip(shape, steps))
    if needed > storage_size(input):
        raise RuntimeError(
            f"[{op}] size {shape}, strides {steps} and offset {start} need a storage of {needed} elements, and that of the tensor "
            f"has {storage_size(input)}."
        )
    return shape, steps, start


_SAMPLES = Unsampled("depends on how the elements lie, which the tests vary: see test_strided.py")


@declared(free="flambeau", method=True, samples=_SAMPLES, recalled="place")
def as_strided(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """A view of the storage of `input`: element [i, j] lies at `storage_offset + i * stride[0] + j * stride[1]`, and so on; the
    offset is that of `input` unless given. Windows that overlap share elements, and cannot be written to.

    Raises RuntimeError for strides and offsets below 0 or outside of the storage, and for another number of strides than of sizes.
    """
    shape, steps, start = _checked("as_strided", input, size, stride, storage_offset)
    return _strided(input, (start,), shape, steps)


@declared(free="flambeau", method=True, samples=_SAMPLES)
def as_strided_(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """`as_strided`, of the tensor itself. Raises RuntimeError for a leaf that requires grad."""
    return _become("as_strided_", input, as_strided(input, size, stride, storage_offset))


@declared(free="flambeau", samples=_SAMPLES)
def as_strided_copy(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """A copy of what `as_strided` shows."""
    return _copied(as_strided(input, size, stride, storage_offset))


@declared(free="flambeau", method=True, samples=_SAMPLES)
def as_strided_scatter(input: Tensor, src: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """A copy of `input`, which lies like it, with `src` in the place that `as_strided` shows.

    Raises RuntimeError for another shape than `size`, and where elements of that place share memory.
    """
    shape, steps, start = _checked("as_strided_scatter", input, size, stride, storage_offset)
    if tuple(src.shape) != shape:
        raise RuntimeError(
            f"[as_strided_scatter] src of shape {tuple(src.shape)} does not fit the place of shape {shape}. Make them equal."
        )
    copy = _copied(_strided(input, (0,), (storage_size(input),), (1,)))
    copy_(_strided(copy, (start,), shape, steps), src)
    return _strided(copy, (layout.offset(input),), tuple(input.shape), tuple(layout.strides(input)))


# ---- what a view is of -----------------------------------------------------------------------------------------


@declared(method=True, samples=Unsampled("tells how the tensor was made: see test_strided.py"))
def _is_view(self: Tensor) -> bool:
    """Whether the tensor is a view of another one, which it has gradient history with."""
    shown = recorder.view_info(self)[0]
    return shown is not None and bool(shown.steps)


@attribute("_base")
def base(self: Tensor) -> Tensor | None:
    """What the tensor is a view of, all of it, as a new tensor that shares its memory; None of what is no view."""
    if not _is_view(self):
        return None
    shape = tuple(recorder.view_info(self)[1])
    return as_strided(self, shape, layout.dense(shape), 0)
