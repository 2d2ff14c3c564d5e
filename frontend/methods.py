"""Tensor methods that are not recorded ops: reading values, sizes, conversion to NumPy, text, and aliases of functions.

In: a tensor. Out: Python values and arrays; reading runs what was recorded. Importing this module declares them.
Next: `printing.py`.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np
from flambeau import dlpack as other_memory
from flambeau import host, layout
from flambeau.border import public
from flambeau.declarations import Unsampled, attribute, declare, declared
from flambeau.device import CPU, Device, cuda_place, named, place
from flambeau.dialects.dtypes import bool_, int64
from flambeau.functions import assemble, choose, compare, expansion, shape
from flambeau.functions.create import empty, full, ones, zeros
from flambeau.functions.from_data import tensor
from flambeau.functions.storage import ByStorage, untyped_storage
from flambeau.functions.transfer import moved
from flambeau.memory_format import checked, in_format, lies_so
from flambeau.out import strided
from flambeau.printing import tensor_text
from flambeau.promotion import get_default_dtype
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, points, truth
from flambeau.ufuncs import array_ufunc

_LOOKS = Unsampled("Python calls it, with what is not only tensors")

# ---- values -----------------------------------------------------------------------------------------------


declare(
    public(recorder.item, "Tensor.item"),
    "item",
    method=True,
    samples=calls(lambda: [call(data()), call(data(1, 1)), call(data(2), error=(RuntimeError, "not one"))]),
)
declare(
    public(recorder.tolist, "Tensor.tolist"),
    "tolist",
    method=True,
    samples=calls(lambda: [call(data(2, 3)), call(data())]),
)


@declared(method=True, samples=calls(lambda: [call(points(), gradient=False), call(data(2, 3), gradient=False)]))
def numpy(self: Tensor, *, force: bool = False) -> np.ndarray:
    """The elements as a NumPy array that shares memory with the tensor; `force` gives a copy in any case.

    Raises RuntimeError for a tensor that requires grad, TypeError for one on another device, unless `force`.
    """
    if force:
        return host.array_of(self.detach()).copy()
    if self.requires_grad:
        raise RuntimeError("[numpy] the tensor requires grad. Use x.detach().numpy().")
    return host.exported(self)


@declared(method="__array__", samples=_LOOKS)
def to_array(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    """What `numpy.asarray(x)` calls."""
    array = numpy(self)
    if dtype is not None and array.dtype != dtype:
        if copy is False:
            raise ValueError(f"[numpy] converting {array.dtype} to {dtype} needs a copy. Leave out copy=False.")
        return array.astype(dtype)
    return array.copy() if copy else array


@declared(method=True, samples=calls(lambda: [call(data(2, 3))]))
def tobytes(self: Tensor) -> bytes:
    """The elements in row-major order as bytes."""
    return host.array_of(self).tobytes()


@declared(method="__dlpack__", samples=_LOOKS)
def dlpack(
    self: Tensor,
    *,
    stream: Any = None,
    max_version: tuple[int, int] | None = None,
    dl_device: tuple[int, int] | None = None,
    copy: bool | None = None,
) -> Any:
    """A DLPack capsule that shares memory. Raises BufferError for a tensor that requires grad."""
    if self.requires_grad:
        raise BufferError("[dlpack] the tensor requires grad. Use x.detach().")
    if self._place != CPU.type:
        raise BufferError(f"[dlpack] the tensor lies on {self._place}, whose memory cannot be shared. Use x.cpu().")
    return other_memory.capsule_of(
        host.exported(self), stream=stream, max_version=max_version, dl_device=dl_device, copy=copy
    )


@declared(free="flambeau", samples=Unsampled("what it gives is for other packages"))
def to_dlpack(tensor: Tensor) -> Any:
    """A DLPack capsule that shares memory: `tensor.__dlpack__()`."""
    return dlpack(tensor)


@declared(method="__dlpack_device__", samples=_LOOKS)
def dlpack_device(self: Tensor) -> tuple[int, int | None]:
    """Device type 1, the CPU, or 2, a GPU, and its number."""
    return (2, self.device.index) if self.is_cuda else (1, 0)


@declared(method="__array_namespace__", samples=_LOOKS)
def array_namespace(self: Tensor, *, api_version: str | None = None) -> Any:
    """The namespace of the array API standard: `flambeau.array_api`. Raises ValueError for a version that it does not know."""
    if api_version not in (None, "2021.12", "2022.12", "2023.12", "2024.12"):
        raise ValueError(f"[array_api] version {api_version!r} is not there. Ask for 2024.12, or an earlier one.")
    return import_module("flambeau.array_api")


@declared(method="to_device", samples=calls(lambda: [call(data(2, 3), "cpu")]))
def to_device(self: Tensor, device: Device, /, *, stream: Any = None) -> Tensor:
    """`to(device)`, as the array API standard spells it; `stream` must be None. Raises ValueError for others."""
    if stream is not None:
        raise ValueError("[to_device] there are no streams. Leave out stream.")
    return moved(self, place(device))


@declared(method="__deepcopy__", samples=_LOOKS)
def deepcopy(self: Tensor, memo: dict[int, Any]) -> Tensor:
    """A leaf of its own storage with the same values; views that are copied together share one again.

    Raises RuntimeError for a tensor with gradient history.
    """
    if not self.is_leaf:
        raise RuntimeError("[deepcopy] only leaf tensors can be copied deeply. Use x.detach().clone().")
    made = memo[id(self)] = _leaf(_copied(self, memo), self.requires_grad, type(self))
    return made


def _copied(x: Tensor, memo: dict[Any, Any]) -> Tensor:
    """The elements of a tensor, in what `memo` has of its storage."""
    if x.requires_grad or named(x._place) != CPU or not numel(x):
        return host.copied(host.array_of(x), there=x._place)
    known: ByStorage = memo.setdefault(ByStorage, ByStorage())
    whole, size = known.of(x), untyped_storage(x).nbytes() // x.dtype.itemsize
    if whole is None and numel(x) == size and is_contiguous(x):
        whole = host.copied(host.array_of(x), there=x._place)
        known.note(x, whole)
        return whole
    if whole is None:
        whole = host.copied(host.array_of(x.as_strided((size,), (1,), 0)), there=x._place)
        known.note(x, whole)
    return whole.as_strided(x.shape, x.stride(), x.storage_offset())


def _leaf(data: Tensor, requires_grad: bool, cls: type) -> Tensor:
    return data if cls is Tensor and not requires_grad else recorder.make_leaf(data, requires_grad, cls)


def rebuild(array: np.ndarray, requires_grad: bool, cls: type, there: str = CPU.type) -> Tensor:
    """A leaf from what `__reduce_ex__` stored. Raises RuntimeError where the device that it lay on is not there."""
    return _leaf(host.copied(array, there=place(there)), requires_grad, cls)


@declared(method="__reduce_ex__", samples=_LOOKS)
def reduce_ex(self: Tensor, protocol: int) -> tuple[Any, ...]:
    """Pickling, by value. Raises RuntimeError for a tensor with gradient history."""
    if not self.is_leaf:
        raise RuntimeError("[pickle] only leaf tensors can be pickled. Use x.detach().")
    there = () if self._place == CPU.type else (self._place,)
    return rebuild, (host.array_of(self).copy(), self.requires_grad, type(self), *there)


# ---- text -------------------------------------------------------------------------------------------------


@declared(method="__repr__", samples=_LOOKS)
def text(self: Tensor) -> str:
    """`repr(x)`, as PyTorch prints: values, then dtype and gradient where they are not the usual ones."""
    array = host.array_of(self)
    default = get_default_dtype()
    usual = (default, default.to_complex(), int64, bool_) if array.size else (default,)
    gradient: str | None = None
    if self.requires_grad:
        gradient = "requires_grad=True" if self.is_leaf else f"grad_fn={self.grad_fn}"
    dtype = None if self.dtype in usual else repr(self.dtype)
    name = getattr(type(self), "_text_name", None) or ("tensor" if type(self) is Tensor else type(self).__name__)
    there = None if self._place == CPU.type else f"device='{self._place}'"
    return tensor_text(array, dtype=dtype, gradient=gradient, name=name, device=there)


@declared(method="__complex__", samples=_LOOKS)
def as_complex(self: Tensor) -> complex:
    """`complex(x)`, of a tensor with one element. Raises ValueError for another number of them."""
    if numel(self) != 1:
        raise ValueError(
            f"[complex] a tensor of shape {self.shape} has {numel(self)} elements, not one. Index it first."
        )
    return complex(recorder.item(self))


@declared(method="__format__", samples=_LOOKS)
def formatted(self: Tensor, spec: str) -> str:
    """`format(x, spec)`: that of the number for a 0-d tensor, else `str(x)`."""
    return format(self.item(), spec) if self.ndim == 0 else object.__format__(self, spec)


# ---- sizes ------------------------------------------------------------------------------------------------


@declared(
    method=True,
    samples=calls(
        lambda: [call(data(2, 3)), call(data(2, 3), -1), call(data(2), 1, error=(IndexError, "out of range"))]
    ),
)
def size(self: Tensor, dim: int | None = None) -> Any:
    """The shape, or one of its sizes."""
    if dim is None:
        return self.shape
    rank = self.ndim
    if not -max(rank, 1) <= dim < max(rank, 1) or rank == 0:
        raise IndexError(f"[size] dim {dim} is out of range for a tensor of {rank} dimensions.")
    return self.shape[dim]


@declared(
    free="flambeau",
    method=True,
    samples=calls(lambda: [call(data(2, 3)), call(data()), call(data(0, 2))]),
)
def numel(self: Tensor) -> int:
    """The number of elements."""
    return math.prod(self.shape)


declare(numel, "nelement", method=True, samples=calls(lambda: [call(data(2, 3))]))


@declared(method=True, samples=Unsampled("depends on how the elements lie, which the tests vary"))
def stride(self: Tensor, dim: int | None = None) -> Any:
    """Steps in elements between neighbours along each dimension, or along one."""
    steps = layout.strides(self)
    return steps if dim is None else steps[dim]


@declared(method=True, samples=Unsampled("depends on how the elements lie, which the tests vary"))
def dim_order(self: Tensor, *, ambiguity_check: Any = False) -> tuple[int, ...]:
    """The dimensions from the one with the largest steps to that with the smallest; equal steps in their order.

    `ambiguity_check` (True, or memory formats of which one must be the order) raises RuntimeError where steps leave it open.
    """
    steps, shape = layout.strides(self), self.shape
    if ambiguity_check is True and (len(set(steps)) < len(steps) or 1 in shape or 0 in shape):
        raise RuntimeError(f"[dim_order] strides {steps} of shape {tuple(shape)} leave the order open.")
    return tuple(sorted(range(len(steps)), key=lambda d: (-steps[d], d)))


@declared(method=True, samples=Unsampled("depends on how the elements lie, which the tests vary"))
def is_contiguous(self: Tensor, memory_format: Any = None) -> bool:
    """Whether the elements lie row by row in the storage, or in the order of a memory format."""
    if memory_format is not None:
        return lies_so(self, checked("is_contiguous", memory_format))
    return layout.is_dense(self.shape, layout.strides(self))


@declared(method="__contains__", samples=_LOOKS)
def contains(self: Tensor, element: Any) -> bool:
    """Whether some element equals `element`. Raises RuntimeError for what is no number and no tensor."""
    if not isinstance(element, Tensor | int | float | complex | np.generic):
        raise RuntimeError(
            f"[contains] a {type(element).__name__} is no number and no tensor. Compare elements in x.tolist()."
        )
    return bool(compare.eq(self, element).any())


@declared(method=True, samples=calls(lambda: [call(data(3, 1), data(2, 3, 4))]), recalled="types")
def expand_as(self: Tensor, other: Tensor) -> Tensor:
    """Expanded to the shape of `other`."""
    return expansion.expand(self, other.shape)


@declared(method=True, samples=calls(lambda: [call(data(2, 6), data(3, 4))]), recalled="types")
def reshape_as(self: Tensor, other: Tensor) -> Tensor:
    """Reshaped to the shape of `other`."""
    return shape.reshape(self, other.shape)


@declared(method=True, samples=calls(lambda: [call(data(2, 6), data(3, 4))]), recalled="types")
def view_as(self: Tensor, other: Tensor) -> Tensor:
    """Viewed in the shape of `other`."""
    return shape.view_as(self, other.shape)


@declared(
    method=True,
    samples=calls(lambda: [call(data(2, 3), truth(3), data(3)), call(data(2, 3), truth(2, 1), 1)]),
    recalled="types",
)
def where(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    """The elements where `condition` holds, else those of `other`."""
    return choose.where(condition, self, other)


@declared(
    free="flambeau",
    method=True,
    samples=calls(lambda: [call(data(9), data(9)), call(data(9), data(9) * 1.1), call(data(9), data(9) * 1.1, rtol=1)]),
)
def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether all elements are close: |x - y| <= atol + rtol * |y|."""
    return bool(compare._allclose(input, other, rtol, atol, equal_nan))


@declared(
    free="flambeau",
    method=True,
    samples=calls(lambda: [call(data(9), data(9)), call(data(9), data(3)), call(points(), points())]),
)
def equal(input: Tensor, other: Tensor) -> bool:
    """Whether both tensors have the same shape and elements."""
    return input.shape == other.shape and bool(compare._equal(input, other))


def _new(make: Any, *arguments: Any) -> None:
    def method(self: Tensor, *args: Any, dtype: Any = None, device: Device = None, **kwargs: Any) -> Tensor:
        return make(*args, dtype=dtype or self.dtype, device=self.device if device is None else device, **kwargs)

    method.__name__ = "new_" + make.__name__
    method.__doc__ = f"`{make.__name__}` in the dtype of this tensor, on its device."
    samples = calls(lambda: [call(data(2), *arguments, gradient=False)])
    declare(method, method.__name__, method=True, samples=samples, recalled="" if make is tensor else "operand")


_new(zeros, 2, 3)
_new(ones, 2, 3)
_new(empty, 0, 3)
_new(full, (2, 3), 1)
_new(tensor, [[1, 2]])


# ---- types ------------------------------------------------------------------------------------------------

attribute("device")(lambda self: named(self._place))
attribute("itemsize")(lambda self: self.dtype.itemsize)
attribute("nbytes")(lambda self: numel(self) * self.dtype.itemsize)
attribute("layout")(lambda self: strided)
attribute("is_sparse")(lambda self: False)
attribute("is_quantized")(lambda self: False)
attribute("is_meta")(lambda self: False)
for _kind in ("xpu", "mps", "ipu", "xla", "mtia", "maia", "vulkan", "mkldnn", "nested", "sparse_csr", "distributed"):
    attribute(f"is_{_kind}")(lambda self: False)
attribute("is_cuda")(lambda self: named(self._place).type == "cuda")


@declared(method=True, aliases="ndimension", samples=calls(lambda: [call(data(2, 3)), call(data())]))
def dim(self: Tensor) -> int:
    """The number of dimensions."""
    return self.ndim


@declared(method=True, samples=calls(lambda: [call(data(2, 3))]))
def element_size(self: Tensor) -> int:
    """The bytes of one element."""
    return self.dtype.itemsize


@declared(free="flambeau", method=True, samples=calls(lambda: [call(data(2, 3))]))
def is_floating_point(input: Tensor) -> bool:
    """Whether the dtype is one of floats."""
    return input.dtype.is_floating_point


@declared(free="flambeau", method=True, samples=calls(lambda: [call(data(2, 3))]))
def is_complex(input: Tensor) -> bool:
    """Whether the dtype is one of complex numbers."""
    return input.dtype.is_complex


@declared(method=True, samples=calls(lambda: [call(data(2, 3))]))
def is_signed(self: Tensor) -> bool:
    """Whether the dtype has negative numbers."""
    return self.dtype.is_signed


@declared(free="flambeau", samples=Unsampled("takes anything, and says whether it is a tensor"))
def is_tensor(obj: Any) -> bool:
    """Whether `obj` is a tensor."""
    return isinstance(obj, Tensor)


@declared(method=True, samples=calls(lambda: [call(data(2, 3))]))
def cpu(self: Tensor, memory_format: Any = None) -> Tensor:
    """`to("cpu")`: the tensor itself if it is there, and lies in the memory format."""
    made = moved(self, CPU.type)
    return in_format("cpu", made, memory_format)


@declared(method=True, samples=Unsampled("needs a GPU; the tests pretend that there is one"))
def cuda(self: Tensor, device: Device = None, non_blocking: bool = False, memory_format: Any = None) -> Tensor:
    """`to("cuda")`, or to the GPU `device`, a number or a device: the tensor itself if it is there. `non_blocking` changes nothing.
    Raises RuntimeError where there is none."""
    made = moved(self, cuda_place("cuda", device))
    return in_format("cuda", made, memory_format)


declare(array_ufunc, "__array_ufunc__", method=True, samples=_LOOKS)
declare(lambda self: assemble.flip(self, 0), "__reversed__", method=True, samples=_LOOKS)
