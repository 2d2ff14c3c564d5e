"""Tensors from data: tensor, as_tensor, from_numpy, from_dlpack, frombuffer, from_buffer.

In: Python data, arrays, memory. Out: tensors, on a copy or on the same memory. Next: `create.py`, tensors from nothing.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from flambeau import dlpack, host
from flambeau.declarations import Unsampled, declared
from flambeau.device import Device, place
from flambeau.dialects.aval import CPU
from flambeau.dialects.dtypes import DType, bool_, float64, int64, of_python
from flambeau.dialects.dtypes import from_numpy as from_numpy_dtype
from flambeau.functions import literals
from flambeau.functions.common import size_of
from flambeau.functions.storage import UntypedStorage
from flambeau.functions.transfer import moved
from flambeau.memory_format import in_format
from flambeau.promotion import get_default_dtype
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data

# ---- from data --------------------------------------------------------------------------------------------


def check_leaf(op: str, dtype: DType, requires_grad: bool) -> None:
    """Raise RuntimeError for a leaf of a dtype that has no gradients: before anything is drawn for it."""
    if requires_grad and not dtype.is_inexact:
        raise RuntimeError(
            f"[{op}] only floating-point tensors can require grad, this one is {dtype.name}. Cast it first."
        )


def with_grad(made: Tensor, requires_grad: bool, there: str | None = None) -> Tensor:
    """What a function makes of no tensors: moved to where it is to lie, and a leaf."""
    made = made if there is None else moved(made, there)
    return made.requires_grad_() if requires_grad else made


def floating_dtype(op: str, dtype: DType | None) -> DType:
    """The dtype of what is made, the default one unless named. Raises RuntimeError for one that is not floating-point."""
    dtype = host.check_supported(op, dtype or get_default_dtype())
    if not dtype.is_floating_point:
        raise RuntimeError(f"[{op}] dtype {dtype} is not floating point. Use one such as float32.")
    return dtype


def drawn_dtype(op: str, dtype: DType | None) -> DType:
    """As `floating_dtype`, and complex dtypes are allowed."""
    dtype = of_python(dtype)
    return dtype if isinstance(dtype, DType) and dtype.is_complex else floating_dtype(op, dtype)


def laid_alike(op: str, made: Tensor, memory_format: Any, requires_grad: bool) -> Tensor:
    """What a function makes: its elements lie row by row, or as the memory format says."""
    return with_grad(in_format(op, made, memory_format), requires_grad)


def alike(
    op: str,
    make: Callable[..., Tensor],
    input: Tensor,
    *arguments: Any,
    dtype: DType | None,
    device: Device,
    requires_grad: bool,
    memory_format: Any,
    **options: Any,
) -> Tensor:
    """What `make` makes of the arguments: in the dtype of a tensor and on its device, unless others are named."""
    there = input.device if device is None else device  # a device may be the number 0
    made = make(*arguments, dtype=dtype or input.dtype, device=there, **options)
    return laid_alike(op, made, memory_format, requires_grad)


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call([[1.0, 2.0], [3.0, 4.0]]),
            call([1, 2], dtype=float64),
            call(True),
            call([[1], [1, 2]], error=(ValueError, "")),
        ]
    ),
)
def tensor(
    data: Any,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A tensor with a copy of `data`: a number, nested lists of numbers, arrays and tensors, a NumPy array.

    Floats give the default dtype, ints int64, bools bool, arrays and tensors their own dtype; a mix gives the common one.
    Raises ValueError for ragged lists, RuntimeError for numbers that an integer dtype does not hold, TypeError for what is not
    numbers. Example: `flambeau.tensor([[1.0, 2.0], [3.0, 4.0]])`.
    """
    there, dtype = place(device), None if dtype is None else of_python(dtype)
    if pin_memory:
        raise RuntimeError("[tensor] no memory can be pinned. Leave out pin_memory.")
    made = recorder.literal(data, dtype, get_default_dtype(), int64, bool_)
    if made is not None:
        return with_grad(made, requires_grad, there)
    if isinstance(data, Tensor):
        there = data._place if device is None else there
        warnings.warn("[tensor] to copy a tensor, use x.clone().detach() rather than tensor(x).", stacklevel=2)
        data = host.array_of(data)
    array = literals.array_of("tensor", data, dtype)
    if (
        dtype is not None
        and array.dtype.kind == "c"
        and not dtype.is_complex
        and isinstance(data, complex | list | tuple)
    ):
        raise TypeError(f"[tensor] complex numbers are no values of {dtype.name}. Use a complex dtype.")
    return with_grad(host.copied(array, dtype, there=there), requires_grad)


@declared(free="flambeau", samples=calls(lambda: [call([1.0, 2.0]), call(data(3), dtype=float64)]))
def as_tensor(data: Any, dtype: DType | None = None, device: Device = None) -> Tensor:
    """`data` as a tensor: itself if it is one of that dtype on that device, sharing memory with a NumPy array if possible, else a
    copy."""
    dtype = of_python(dtype)
    if isinstance(data, Tensor):
        data = data if dtype is None or data.dtype is dtype else data.to(dtype)
        return data if device is None else moved(data, place(device))
    if place(device) == CPU and isinstance(data, np.ndarray) and (dtype is None or dtype.numpy == data.dtype):
        return host.shared(data)
    return tensor(data, dtype=dtype, device=device)


@declared(
    free="flambeau",
    samples=calls(lambda: [call([1.0, 2.0]), call(data(3), dtype=float64), call(data(3), copy=True), call(data())]),
)
def asarray(
    obj: Any,
    *,
    dtype: DType | None = None,
    device: Device = None,
    copy: bool | None = None,
    requires_grad: bool | None = None,
) -> Tensor:
    """`obj` as a tensor: itself, or sharing memory with an array, one with `__dlpack__`, a buffer or a storage (its bytes) where
    that is possible; with `copy` always a copy. `requires_grad` says whether it is a leaf that requires grad; None leaves that as
    it is.

    Raises ValueError where a copy is needed and `copy` is False.
    """
    obj = obj.as_bytes() if isinstance(obj, UntypedStorage) else obj
    is_shared, dtype = isinstance(obj, Tensor | np.ndarray), of_python(dtype)
    if not is_shared and hasattr(obj, "__dlpack__"):
        obj, is_shared = from_dlpack(obj), True
    if not is_shared and isinstance(obj, bytearray | memoryview) and dtype is not None:
        obj, is_shared = np.frombuffer(obj, dtype.numpy), True
    made = as_tensor(obj, dtype, device)
    is_own = isinstance(obj, Tensor) and made is not obj
    is_own |= isinstance(obj, np.ndarray) and (made.dtype is not from_numpy_dtype(obj.dtype) or made._place != CPU)
    if copy is False and (is_own or not is_shared):
        raise ValueError("[asarray] this takes a copy, and copy is False. Leave out copy, dtype or device.")
    if copy and is_shared and not is_own:
        made = made.clone() if isinstance(obj, Tensor) else made.detach().clone()
    if requires_grad is None or requires_grad == made.requires_grad:
        return made
    return made.detach().requires_grad_() if requires_grad else made.detach()


@declared(free="flambeau", samples=calls(lambda: [call(3), call(True, dtype=bool_), call(2.5, dtype=float64)]))
def scalar_tensor(s: Any, *, dtype: DType | None = None, device: Device = None, requires_grad: bool = False) -> Tensor:
    """A 0-d tensor of a number, of the default dtype unless another is named."""
    return tensor(s, dtype or get_default_dtype(), device, requires_grad)


@declared(
    free="flambeau", samples=Unsampled("what it gives is memory of others, or a copy of it: see the tests of creation")
)
def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A tensor that shares the memory of a NumPy array: writes to either are seen by the other. A read-only array is copied, unless
    its memory is that of `bytes` or of a map opened for reading: that is read where it is, and writing to the tensor moves it.

    Raises TypeError for other objects and unsupported dtypes, ValueError for strides that are not a permutation and for bytes in
    another order than the machine's.
    """
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"[from_numpy] expected a NumPy array, got {type(ndarray).__name__}. Use tensor(data).")
    return host.shared(ndarray)


@declared(
    free="flambeau", samples=Unsampled("what it gives is memory of others, or a copy of it: see the tests of creation")
)
def from_dlpack(ext_tensor: Any, *, device: Device = None, copy: bool | None = None) -> Tensor:
    """A tensor that shares the memory of any CPU array with `__dlpack__`, or of a capsule; with `copy`, or on another `device`, a
    copy of it.

    Raises ValueError where that takes a copy and `copy` is False.
    """
    made = host.shared(dlpack.array_from(ext_tensor))
    if copy is False and device is not None and place(device) != CPU:
        raise ValueError(f"[from_dlpack] device {device} takes a copy, and copy is False. Leave out one of them.")
    made = made.clone() if copy else made
    return made if device is None else moved(made, place(device))


@declared(
    free="flambeau", samples=Unsampled("what it gives is memory of others, or a copy of it: see the tests of creation")
)
def frombuffer(buffer: Any, *, dtype: DType, count: int = -1, offset: int = 0, requires_grad: bool = False) -> Tensor:
    """A 1-d tensor on the memory of a bytes-like object, from byte `offset`; writing to it moves it where they are read-only.

    Raises ValueError if `count` elements do not fit.
    """
    whole = memoryview(buffer).nbytes
    size = host.check_supported("frombuffer", dtype).itemsize
    left = whole - offset
    if count == -1 and (left < 0 or left % size):
        raise ValueError(
            f"[frombuffer] {left} bytes are not a multiple of {size}, the size of {dtype.name}. Pass count."
        )
    count = left // size if count == -1 else count
    if offset < 0 or count < 0 or offset + count * size > whole:
        raise ValueError(
            f"[frombuffer] {count} elements of {size} bytes from offset {offset} leave a buffer of {whole} bytes. "
            "Check count and offset."
        )
    array = np.frombuffer(buffer, dtype.numpy, count, offset)
    return with_grad(host.shared(array), requires_grad)


@declared(
    free="flambeau", samples=Unsampled("what it gives is memory of others, or a copy of it: see the tests of creation")
)
def from_buffer(buffer: Any, dtype: DType, shape: tuple[int, ...], *, copy: bool = False) -> Tensor:
    """A tensor of `shape` on the memory of a bytes-like object, or with `copy` on its own.

    Raises ValueError unless the buffer holds exactly as many elements.
    """
    shape = size_of("from_buffer", shape)
    found = memoryview(buffer).nbytes
    wanted = math.prod(shape) * host.check_supported("from_buffer", dtype).itemsize
    if found != wanted:
        raise ValueError(f"[from_buffer] shape {shape} of {dtype.name} takes {wanted} bytes, the buffer has {found}.")
    array = np.frombuffer(buffer, dtype.numpy).reshape(shape)
    return host.copied(array) if copy else host.shared(array)
