"""Between tensors and host memory: NumPy arrays, raw bytes, DLPack.

In: Python data, arrays, buffers. Out: tensors, copied or sharing memory; and back. Reading a tensor runs what was recorded.
Next: `functions/create.py` for the functions users call, `methods.py` for the methods.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.builder import Builder, Value
from flambeau.dialects.dtypes import SUPPORTED, DType, from_numpy, is_inexact
from flambeau.dialects.tape.elementwise import saturate
from flambeau.runtime import Buffer, OutOfMemory, devices, recorder
from flambeau.runtime.recorder import Tensor


def check_supported(op: str, dtype: DType) -> DType:
    """`dtype` itself. Raises TypeError if there are no kernels for it yet."""
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


def shared(array: np.ndarray) -> Tensor:
    """A tensor on the memory of `array`, which may be a permutation of a C-contiguous one. Read-only arrays are copied.

    Raises ValueError for other strides.
    """
    dtype = check_supported("from_numpy", from_numpy(array.dtype))
    if not array.flags.writeable:
        return copied(array)
    order = sorted(range(array.ndim), key=lambda d: -array.strides[d])
    dense = array if array.flags.c_contiguous else array.transpose(order)
    if not dense.flags.c_contiguous:
        raise ValueError(
            f"[from_numpy] an array with strides {array.strides} cannot be shared. Pass numpy.ascontiguousarray(array)."
        )
    buffer = Buffer.from_object(dense.view(f"u{dense.itemsize}").data if dense.dtype.kind == "V" else dense.data)
    made = recorder.tensor_from_buffer(buffer, dense.shape, dtype, shared=True)
    if dense is array:
        return made
    return made.permute(*(order.index(d) for d in range(array.ndim)))


# ---- from tensors -----------------------------------------------------------------------------------------


class _ArrayBuilder(Builder):
    """Runs records on NumPy arrays at once: the views of a tensor, applied to the array of its storage."""

    def emit_all(self, op: Any, operands: Any, attrs: tuple) -> tuple[Value, ...]:
        return tuple(self.wrap(np.asarray(x)) for x in op.run_reference([v.id for v in operands], attrs))

    def wrap(self, array: np.ndarray) -> Value:
        return Value(self, array, Aval(array.shape, from_numpy(array.dtype)))


def array_of(tensor: Tensor) -> np.ndarray:
    """The elements of `tensor` in an array that may share its memory and must not be written to; a copy of those on a device."""
    memory = recorder.memory(tensor)
    if memory is not None:
        return np.ndarray(*memory)
    buffer = recorder.realize(tensor)
    if tensor._place != CPU:
        buffer = devices.find(tensor._place).handle.download(buffer)
    view, base_shape, starts = recorder.view_info(tensor)
    dtype = tensor.dtype.numpy
    base = np.ndarray(base_shape, dtype, buffer=buffer)
    return base if view is None or not view.steps else view_of(base, view, starts)


def view_of(base: np.ndarray, view: Any, starts: tuple[int, ...]) -> np.ndarray:
    """What a tensor with this view shows, given the array of its storage; shares memory where strides allow."""
    b = _ArrayBuilder()
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
    recorder.set_shared(tensor, True)
    return array_of(tensor)
