"""The memory of tensors as PyTorch programs see it: data_ptr, storage_offset, untyped_storage; and elements by Python functions.

In: a tensor, whose value is computed. Out: addresses and sizes of its storage. What is told of an address holds until the tensor is
written. Next: `host.py`.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
from flambeau import host, layout
from flambeau.declarations import Unsampled, declared
from flambeau.device import CPU, named
from flambeau.dialects.dtypes import uint8
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data

_MEMORY = Unsampled("tells where elements lie, which changes from run to run")


def _on_host(op: str, tensor: Tensor) -> np.ndarray:
    if tensor._place != CPU.type:
        raise RuntimeError(
            f"[{op}] the tensor lies on {tensor._place}, whose addresses are not told. Use x.cpu() first."
        )
    return host.exported(tensor.detach())


@declared(method=True, aliases="const_data_ptr", samples=_MEMORY)
def data_ptr(self: Tensor) -> int:
    """The address of the first element, 0 of an empty tensor; the value is computed. Raises RuntimeError on other devices."""
    array = _on_host("data_ptr", self)
    recorder.tell_address(self)
    return host.address(array) if array.size else 0


@declared(method=True, samples=_MEMORY)
def storage_offset(self: Tensor) -> int:
    """Where in the storage the first element lies, in elements; 0 where no strides say it."""
    return layout.offset(self)


class ByStorage:
    """What is known of the storages of tensors: `of(x)` is that of x's. Their addresses are told to nobody."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], list[tuple[Tensor, Any]]] = {}

    def _at(self, tensor: Tensor) -> list[tuple[Tensor, Any]]:
        where = tensor._place, recorder.realize(tensor).address, recorder.view_info(tensor)[1], tensor.dtype
        return self._known.setdefault(where, [])

    def of(self, tensor: Tensor) -> Any:
        """What is known of a tensor's storage, read with its dtype; None of a new one."""
        # a clone may lie where its original does until one of them is written
        return next((known for other, known in self._at(tensor) if recorder.same_storage(other, tensor)), None)

    def note(self, tensor: Tensor, known: Any) -> None:
        """Know something of a tensor's storage, which is held from now on."""
        self._at(tensor).append((tensor, known))


class UntypedStorage:
    """The memory below a tensor and its views: how large it is, and where."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor.detach()
        view, shape, _ = recorder.view_info(tensor)
        self._bytes = math.prod(shape) * (view.base.dtype if view else tensor.dtype).itemsize
        self.device = named(tensor._place)

    @classmethod
    def from_file(cls, filename: Any, shared: bool = False, nbytes: int = 0) -> UntypedStorage:
        """The first `nbytes` bytes of a file (0: all), which is mapped, and read where somebody looks. Writes do not reach it: what
        is written has memory of its own. Raises RuntimeError for `shared`, OSError and ValueError as `mmap` does."""
        if shared:
            raise RuntimeError(
                "[UntypedStorage.from_file] writes do not reach a file. Leave shared out, and save again."
            )
        with open(filename, "rb") as file:
            found = mmap.mmap(file.fileno(), nbytes, access=mmap.ACCESS_READ)
        return cls(host.shared(np.frombuffer(found, np.uint8)))

    def __getitem__(self, index: slice) -> UntypedStorage:
        """A part of the bytes. Raises TypeError for an index that is no slice, RuntimeError for a step."""
        if not isinstance(index, slice):
            raise TypeError(f"[UntypedStorage] the index is a {type(index).__name__}. Pass a slice of bytes.")
        if index.step not in (None, 1):
            raise RuntimeError(f"[UntypedStorage] the slice has step {index.step}. Leave it out.")
        return UntypedStorage(host.shared(host.array_of(self.as_bytes())[index]))

    def as_bytes(self) -> Tensor:
        """The bytes as a tensor of uint8, which shares them. Raises RuntimeError for the storage of a view."""
        if not host.is_whole(self._tensor):
            raise RuntimeError("[UntypedStorage] this is the storage of a view. Ask its base for it.")
        return self._tensor if self._tensor.dtype is uint8 else self._tensor.reshape(-1).view(uint8)

    def untyped(self) -> UntypedStorage:
        """The storage itself."""
        return self

    def nbytes(self) -> int:
        """How many bytes there are."""
        return self._bytes

    size = __len__ = nbytes

    def data_ptr(self) -> int:
        """The address of the first byte; the value is computed. Raises RuntimeError on other devices."""
        offset = storage_offset(self._tensor) * self._tensor.dtype.itemsize
        return data_ptr(self._tensor) - offset if self._bytes else 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UntypedStorage) and recorder.same_storage(self._tensor, other._tensor)

    __hash__ = object.__hash__


@declared(method=True, samples=_MEMORY)
def untyped_storage(self: Tensor) -> UntypedStorage:
    """The memory of the tensor, which its views share: `nbytes()`, `data_ptr()`."""
    return UntypedStorage(self)


@declared(method=True, samples=calls(lambda: [call(data(2, 3))]))
def get_device(self: Tensor) -> int:
    """The number of the GPU, -1 on the CPU."""
    place = named(self._place)
    return -1 if place.type == "cpu" else place.index or 0


@declared(
    free="flambeau", method=True, samples=calls(lambda: [call(data(2, 3), data(2, 3)), call(data(2), data(2, 1))])
)
def is_same_size(self: Tensor, other: Tensor) -> bool:
    """Whether both have the same shape."""
    return self.shape == other.shape


@declared(method=True, samples=Unsampled("compares storages"))
def is_set_to(self: Tensor, tensor: Tensor) -> bool:
    """Whether both show the same elements of the same storage."""
    same = recorder.same_storage(self, tensor) and self.shape == tensor.shape and self.stride() == tensor.stride()
    return same and storage_offset(self) == storage_offset(tensor)


@declared(method=True, samples=_MEMORY)
def is_pinned(self: Tensor, device: Any = None) -> bool:
    """False: there is no pinned memory."""
    return False


@declared(method=True, samples=_MEMORY)
def pin_memory(self: Tensor, device: Any = None) -> Tensor:
    """The tensor itself: copies to GPUs need no pinned memory."""
    return self


@declared(method=True, samples=Unsampled("makes a tensor of the user's class"))
def as_subclass(self: Tensor, cls: type) -> Tensor:
    """A tensor of class `cls` on the same storage. Raises TypeError for no class of tensors, RuntimeError for a tensor that
    requires grad."""
    if not (isinstance(cls, type) and issubclass(cls, Tensor)):
        raise TypeError(f"[as_subclass] {cls!r} is no class of tensors. Inherit from flambeau.Tensor.")
    if self.requires_grad:
        raise RuntimeError("[as_subclass] the tensor requires grad. Use x.detach().as_subclass(cls).")
    return recorder.make_leaf(self, False, cls)


# ---- elements by Python functions -------------------------------------------------------------------------


def _written(op: str, self: Tensor, values: list[Any]) -> Tensor:
    if self.requires_grad:
        raise RuntimeError(f"[{op}] the tensor requires grad. Use x.detach().{op}(...).")
    array = np.array(values, dtype=self.dtype.numpy).reshape(self.shape)
    return self.copy_(host.copied(array, self.dtype))


@declared(method=True, samples=calls(lambda: [call(data(2, 3), abs, gradient=False)]))
def apply_(self: Tensor, callable: Callable[[Any], Any]) -> Tensor:
    """Each element replaced by what a Python function of it gives. Raises RuntimeError for a tensor that requires grad."""
    return _written("apply_", self, [callable(x) for x in host.array_of(self.detach()).reshape(-1).tolist()])


@declared(method=True, samples=calls(lambda: [call(data(2, 3), data(3), max, gradient=False)]))
def map_(self: Tensor, other: Tensor, callable: Callable[[Any, Any], Any]) -> Tensor:
    """Each element replaced by what a Python function of it and the other tensor's element, which broadcasts, gives.

    Raises RuntimeError for a tensor that requires grad.
    """
    mine, theirs = host.array_of(self.detach()), np.broadcast_to(host.array_of(other.detach()), tuple(self.shape))
    return _written(
        "map_", self, [callable(x, y) for x, y in zip(mine.reshape(-1).tolist(), theirs.reshape(-1).tolist())]
    )
