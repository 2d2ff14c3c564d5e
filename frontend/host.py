"""Between tensors and host memory: NumPy arrays, raw bytes, DLPack.

In: Python data, arrays, buffers. Out: tensors, copied or sharing memory; and back. Reading a tensor runs what was recorded.
Next: `functions/create.py` for the functions users call, `methods.py` for the methods.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
from flambeau.dialects import dtypes
from flambeau.dialects.aval import CPU
from flambeau.dialects.dtypes import NATIVE, SUPPORTED, DType, from_numpy, is_inexact, of_python
from flambeau.dialects.parts import ArrayBuilder
from flambeau.dialects.tape.elementwise import saturate
from flambeau.runtime import Buffer, OutOfMemory, devices, recorder
from flambeau.runtime.recorder import Tensor


def check_supported(op: str, dtype: DType) -> DType:
    """`dtype` itself, or what a type of Python's numbers stands for. Raises TypeError if there are no kernels for it yet."""
    dtype = of_python(dtype)
    if dtype not in SUPPORTED:
        names = ", ".join(d.name for d in SUPPORTED)
        raise TypeError(f"[{op}] dtype {dtype!r} is not supported yet. Use one of {names}.")
    return dtype


def byte_count(shape: tuple[int, ...], dtype: DType) -> int:
    """How many bytes a tensor has. Raises OutOfMemory, as the recorder does, for more than int64 counts."""
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes > 2**63 - 1:
        raise OutOfMemory(
            f"[memory] a tensor of shape {shape} and dtype {dtype} has more bytes than int64 counts. Use smaller sizes."
        )
    return nbytes


# ---- to tensors -------------------------------------------------------------------------------------------


def empty_array(shape: tuple[int, ...], dtype: DType) -> tuple[Buffer, np.ndarray]:
    """A block of the runtime's memory and a NumPy array on it."""
    buffer = Buffer.alloc(byte_count(shape, dtype))
    return buffer, np.ndarray(shape, dtype.numpy, buffer=memoryview(buffer))


def copied(array: np.ndarray, dtype: DType | None = None, *, cls: type | None = None, there: str = CPU) -> Tensor:
    """A tensor of its own memory, on device `there`, with the elements of `array`, converted as the op `cast` converts."""
    dtype = check_supported("tensor", dtype or from_numpy(array.dtype))
    buffer, target = empty_array(array.shape, dtype)
    target[...] = saturate(array, dtype) if is_inexact(array) or dtype.is_narrow else array
    if there != CPU:
        buffer = devices.find(there).handle.upload(buffer)
    return recorder.tensor_from_buffer(buffer, array.shape, dtype, cls=cls, device=there)


def filled(number: complex, shape: tuple[int, ...], dtype: DType) -> Tensor:
    """A tensor of its own memory, filled with a number."""
    buffer, target = empty_array(shape, dtype)
    target[...] = saturate(np.asarray(number, dtype.accumulation.numpy), dtype)
    return recorder.tensor_from_buffer(buffer, shape, dtype)


def stacked(arrays: Sequence[np.ndarray]) -> Tensor:
    """A tensor of its own memory with arrays of one shape and dtype along a new first dimension."""
    dtype = check_supported("stack", from_numpy(arrays[0].dtype))
    buffer, target = empty_array((len(arrays), *arrays[0].shape), dtype)
    np.stack(arrays, out=target)
    return recorder.tensor_from_buffer(buffer, target.shape, dtype)


def shared(array: np.ndarray) -> Tensor:
    """A tensor on the memory of `array`, which may be a permutation of a C-contiguous one. A read-only array is read where it is
    if nobody can write its memory (see `immutable`), and else copied.

    Raises ValueError for other strides, and for bytes in another order than the machine's.
    """
    made = recorder.tensor_on(array, NATIVE)
    return made if made is not None else _shared(array)


def _shared(array: np.ndarray) -> Tensor:
    dtype = check_supported("from_numpy", from_numpy(array.dtype))
    if not array.dtype.isnative:
        raise ValueError(
            f"[from_numpy] the bytes of {array.dtype.str} are in another order than this machine's. "
            "Pass array.astype(array.dtype.newbyteorder('='))."
        )
    is_lent = array.flags.writeable
    order = sorted(range(array.ndim), key=lambda d: -array.strides[d])
    dense = array if array.flags.c_contiguous else array.transpose(order)
    if is_lent and not dense.flags.c_contiguous:
        raise ValueError(
            f"[from_numpy] an array with strides {array.strides} cannot be shared. Pass numpy.ascontiguousarray(array)."
        )
    memory: Any = dtypes.exported(dense) if is_lent else immutable(dense)
    if memory is None:
        return copied(array)
    made = recorder.tensor_from_buffer(Buffer.from_object(memory), dense.shape, dtype, shared=is_lent)
    if dense is array:
        return made
    return made.permute(*(order.index(d) for d in range(array.ndim)))


def immutable(array: np.ndarray) -> memoryview | None:
    """The memory of a C-contiguous array if nobody can write to it: that of `bytes`, or of a map that was opened for reading.

    That an array is locked says nothing: what it is a view of may be writable, or be unlocked.
    """
    owner: Any = array
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    if type(owner) not in (bytes, mmap.mmap) or not array.flags.c_contiguous:
        return None
    whole = memoryview(owner)
    start = address(array) - address(np.frombuffer(whole, np.uint8)) if array.size else 0
    if not whole.readonly or not 0 <= start <= whole.nbytes - array.nbytes:
        return None
    return whole[start : start + array.nbytes]


def address(array: np.ndarray) -> int:
    """Where the first element lies."""
    return array.__array_interface__["data"][0]


# ---- from tensors -----------------------------------------------------------------------------------------


def array_of(tensor: Tensor) -> np.ndarray:
    """The elements of `tensor` in an array that may share its memory and must not be written to; a copy of those on a device."""
    memory = recorder.memory(tensor)
    if memory is not None:
        return np.ndarray(*memory)
    buffer = recorder.realize(tensor)
    if tensor._place != CPU:
        buffer = devices.find(tensor._place).handle.download(buffer)
    view, base_shape, starts = recorder.view_info(tensor)
    dtype = tensor.dtype if view is None else view.base.dtype
    base = np.ndarray(base_shape, dtype.numpy, buffer=buffer)
    return base if view is None or not view.steps else view_of(base, view, starts)


def view_of(base: np.ndarray, view: Any, starts: tuple[int, ...]) -> np.ndarray:
    """What a tensor with this view shows, given the array of its storage; shares memory where strides allow."""
    b = ArrayBuilder()
    return view.read(b.wrap(base), [b.wrap(np.asarray(s, np.int64)) for s in starts]).id


def is_whole(tensor: Tensor) -> bool:
    """Whether a tensor shows all of its storage as it lies there."""
    view = recorder.view_info(tensor)[0]
    return view is None or not view.steps


def exported(tensor: Tensor) -> np.ndarray:
    """An array that shares the memory of `tensor`, or a copy if its view cannot be expressed in strides. Raises TypeError for a
    tensor on another device."""
    if tensor._place != CPU:
        raise TypeError(
            f"[numpy] the tensor lies on {tensor._place}, whose memory cannot be shared. Use x.cpu() first."
        )
    array = recorder.array_on(tensor)
    return array_of(tensor) if array is None else array
