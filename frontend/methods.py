"""Tensor methods that are not recorded ops: reading values, sizes, conversion to NumPy, text, and aliases of functions.

In: a tensor. Out: Python values and arrays; reading runs what was recorded. Importing this module installs them.
Next: `printing.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flambeau import host, layout
from flambeau.device import CPU
from flambeau.dialects.dtypes import bool_, int64
from flambeau.functions import arithmetic, assemble, compare, convert, indexing, inplace, random, reduce, shape
from flambeau.functions.create import empty, full, ones, tensor, zeros
from flambeau.printing import tensor_text
from flambeau.promotion import get_default_dtype
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor
from flambeau.ufuncs import array_ufunc

# ---- values -----------------------------------------------------------------------------------------------


def item(self: Tensor) -> bool | int | float:
    """The only element as a Python number of the matching kind. Raises RuntimeError for more elements or none."""
    array = host.array_of(self)
    if array.size != 1:
        raise RuntimeError(f"[item] a tensor of shape {self.shape} has {array.size} elements, not one. Index it first.")
    return array.item()


def tolist(self: Tensor) -> Any:
    """The elements as nested lists of Python numbers; a number for a 0-d tensor."""
    return host.array_of(self).tolist()


def to_bool(self: Tensor) -> bool:
    """`bool(x)`. Raises RuntimeError unless there is exactly one element."""
    if math.prod(self.shape) != 1:
        raise RuntimeError(
            f"[bool] the truth of a tensor of shape {self.shape} is ambiguous. Use .any(), .all() or compare its item()."
        )
    return bool(item(self))


def to_int(self: Tensor) -> int:
    """`int(x)` of a tensor with one element."""
    return int(item(self))


def to_float(self: Tensor) -> float:
    """`float(x)` of a tensor with one element."""
    return float(item(self))


def to_index(self: Tensor) -> int:
    """The value of an integer tensor with one element, for indices. Raises TypeError for other dtypes."""
    if self.dtype.is_floating_point:
        raise TypeError(f"[index] a tensor of dtype {self.dtype} cannot be used as an index. Convert it with .long().")
    return int(item(self))


def numpy(self: Tensor, *, force: bool = False) -> np.ndarray:
    """The elements as a NumPy array that shares memory with the tensor; `force` gives a copy in any case.

    Raises RuntimeError for a tensor that requires grad, unless `force`.
    """
    if force:
        return host.array_of(self.detach()).copy()
    if self.requires_grad:
        raise RuntimeError("[numpy] the tensor requires grad. Use x.detach().numpy().")
    return host.exported(self)


def to_array(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    """What `numpy.asarray(x)` calls."""
    array = numpy(self)
    if dtype is not None and array.dtype != dtype:
        if copy is False:
            raise ValueError(f"[numpy] converting {array.dtype} to {dtype} needs a copy. Leave out copy=False.")
        return array.astype(dtype)
    return array.copy() if copy else array


def tobytes(self: Tensor) -> bytes:
    """The elements in row-major order as bytes."""
    return host.array_of(self).tobytes()


def dlpack(self: Tensor, **kwargs: Any) -> Any:
    """A DLPack capsule that shares memory. Raises BufferError for a tensor that requires grad."""
    if self.requires_grad:
        raise BufferError("[dlpack] the tensor requires grad. Use x.detach().")
    return host.exported(self).__dlpack__(**kwargs)


def dlpack_device(self: Tensor) -> tuple[int, int]:
    """Device type 1, the CPU."""
    return (1, 0)


def deepcopy(self: Tensor, memo: dict[int, Any]) -> Tensor:
    """A leaf of its own storage with the same values. Raises RuntimeError for a tensor with gradient history."""
    if not self.is_leaf:
        raise RuntimeError("[deepcopy] only leaf tensors can be copied deeply. Use x.detach().clone().")
    made = memo[id(self)] = _leaf(host.copied(host.array_of(self)), self.requires_grad, type(self))
    return made


def _leaf(data: Tensor, requires_grad: bool, cls: type) -> Tensor:
    return data if cls is Tensor and not requires_grad else recorder.make_leaf(data, requires_grad, cls)


def rebuild(array: np.ndarray, requires_grad: bool, cls: type) -> Tensor:
    """A leaf from what `__reduce_ex__` stored."""
    return _leaf(host.copied(array), requires_grad, cls)


def reduce_ex(self: Tensor, protocol: int) -> tuple[Any, ...]:
    """Pickling, by value. Raises RuntimeError for a tensor with gradient history."""
    if not self.is_leaf:
        raise RuntimeError("[pickle] only leaf tensors can be pickled. Use x.detach().")
    return rebuild, (host.array_of(self).copy(), self.requires_grad, type(self))


# ---- text -------------------------------------------------------------------------------------------------


def text(self: Tensor) -> str:
    """`repr(x)`, as PyTorch prints: values, then dtype and gradient where they are not the usual ones."""
    array = host.array_of(self)
    usual = (get_default_dtype(), int64, bool_) if array.size else (get_default_dtype(),)
    gradient: str | None = None
    if self.requires_grad:
        gradient = "requires_grad=True" if self.is_leaf else "grad_fn=<Backward>"
    dtype = None if self.dtype in usual else repr(self.dtype)
    name = getattr(type(self), "_text_name", None) or ("tensor" if type(self) is Tensor else type(self).__name__)
    return tensor_text(array, dtype=dtype, gradient=gradient, name=name)


def formatted(self: Tensor, spec: str) -> str:
    """`format(x, spec)`: that of the number for a 0-d tensor, else `str(x)`."""
    return format(item(self), spec) if self.ndim == 0 else object.__format__(self, spec)


# ---- sizes ------------------------------------------------------------------------------------------------


def size(self: Tensor, dim: int | None = None) -> Any:
    """The shape, or one of its sizes."""
    if dim is None:
        return self.shape
    rank = self.ndim
    if not -max(rank, 1) <= dim < max(rank, 1) or rank == 0:
        raise IndexError(f"[size] dim {dim} is out of range for a tensor of {rank} dimensions.")
    return self.shape[dim]


def numel(self: Tensor) -> int:
    """The number of elements."""
    return math.prod(self.shape)


def stride(self: Tensor, dim: int | None = None) -> Any:
    """Steps in elements between neighbours along each dimension, or along one."""
    steps = layout.strides(self)
    return steps if dim is None else steps[dim]


def is_contiguous(self: Tensor) -> bool:
    """Whether the elements lie row by row in the storage."""
    return layout.is_dense(self.shape, layout.strides(self))


def iterate(self: Tensor) -> Any:
    """Slices along the first dimension."""
    if not self.ndim:
        raise TypeError("[iter] a 0-d tensor cannot be iterated. Use .item() for its value.")
    return iter(indexing.unbind(self, 0))


def contains(self: Tensor, element: Any) -> bool:
    """Whether some element equals `element`."""
    return bool((self == element).any())


def expand_as(self: Tensor, other: Tensor) -> Tensor:
    """Expanded to the shape of `other`."""
    return shape.expand(self, other.shape)


def reshape_as(self: Tensor, other: Tensor) -> Tensor:
    """Reshaped to the shape of `other`."""
    return shape.reshape(self, other.shape)


def view_as(self: Tensor, other: Tensor) -> Tensor:
    """Viewed in the shape of `other`."""
    return shape.view_as(self, other.shape)


def where(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    """The elements where `condition` holds, else those of `other`."""
    return arithmetic.where(condition, self, other)


def allclose(self: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether all elements are close: |x - y| <= atol + rtol * |y|."""
    return bool(compare._allclose(self, other, rtol, atol, equal_nan))


def equal(self: Tensor, other: Tensor) -> bool:
    """Whether both tensors have the same shape and elements."""
    return self.shape == other.shape and bool(compare._equal(self, other))


def _new(make: Any) -> Any:
    def method(self: Tensor, *args: Any, dtype: Any = None, **kwargs: Any) -> Tensor:
        return make(*args, dtype=dtype or self.dtype, **kwargs)

    method.__name__ = "new_" + make.__name__
    method.__doc__ = f"`{make.__name__}` in the dtype of this tensor."
    return method


_PROPERTIES: dict[str, Any] = {
    "T": shape.reversed_dims,
    "mT": shape.matrix_transpose,
    "device": lambda self: CPU,
    "itemsize": lambda self: self.dtype.itemsize,
    "nbytes": lambda self: numel(self) * self.dtype.itemsize,
    "is_cuda": lambda self: False,
    "grad_fn": lambda self: "<Backward>" if self.requires_grad and not self.is_leaf else None,
}

_METHODS: dict[str, Any] = {
    **convert.METHODS,
    "item": item,
    "tolist": tolist,
    "numpy": numpy,
    "tobytes": tobytes,
    "__array__": to_array,
    "__array_ufunc__": array_ufunc,
    "__dlpack__": dlpack,
    "__dlpack_device__": dlpack_device,
    "__deepcopy__": deepcopy,
    "__reduce_ex__": reduce_ex,
    "__repr__": text,
    "__str__": text,
    "__format__": formatted,
    "__iter__": iterate,
    "__contains__": contains,
    "__reversed__": lambda self: assemble.flip(self, 0),
    "size": size,
    "dim": lambda self: self.ndim,
    "ndimension": lambda self: self.ndim,
    "numel": numel,
    "nelement": numel,
    "element_size": lambda self: self.dtype.itemsize,
    "stride": stride,
    "is_floating_point": lambda self: self.dtype.is_floating_point,
    "is_contiguous": is_contiguous,
    "contiguous": shape.contiguous,
    "reshape": shape.reshape,
    "view": shape.view_as,
    "flatten": shape.flatten,
    "cpu": lambda self: self,
    "pow": arithmetic.pow,
    "pow_": inplace.pow_,
    "clamp": arithmetic.clamp,
    "clamp_": inplace.clamp_,
    "clip": arithmetic.clamp,
    "clip_": inplace.clamp_,
    "copy_": inplace.copy_,
    "uniform_": random.uniform_,
    "normal_": random.normal_,
    "bernoulli_": random.bernoulli_,
    "max": reduce.max,
    "min": reduce.min,
    "select": indexing.select,
    "narrow": indexing.narrow,
    "split": indexing.split,
    "chunk": indexing.chunk,
    "unbind": indexing.unbind,
    "expand_as": expand_as,
    "reshape_as": reshape_as,
    "view_as": view_as,
    "where": where,
    "allclose": allclose,
    "equal": equal,
    "multiply": arithmetic.mul,
    "subtract": arithmetic.sub,
    "divide": arithmetic.div,
    "true_divide": arithmetic.div,
    "absolute": arithmetic.abs,
    "negative": arithmetic.neg,
    "swapaxes": shape.transpose,
    "new_zeros": _new(zeros),
    "new_ones": _new(ones),
    "new_empty": _new(empty),
    "new_full": _new(full),
    "new_tensor": _new(tensor),
}


def _install() -> None:
    for name, method in _METHODS.items():
        setattr(Tensor, name, method)
    for name, getter in _PROPERTIES.items():
        setattr(Tensor, name, property(getter))


_install()
