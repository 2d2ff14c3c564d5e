"""Tensors in memory that processes share: `share_memory_`, `is_shared`, and how such tensors get to other processes.

In: tensors. Out: the same, whose storage is a file without a name. Processes that are forked see it; others, and queues and pipes
of `multiprocessing`, are sent the file's descriptor in place of the values. Next: `unnamed_files.py`.
"""

from __future__ import annotations

import math
import os
import pickle
import weakref
from typing import Any, NamedTuple

import numpy as np
from flambeau import layout
from flambeau.declarations import Unsampled, declared
from flambeau.device import CPU
from flambeau.dialects.dtypes import DType
from flambeau.dialects.locks import process_lock
from flambeau.runtime import Buffer, recorder
from flambeau.runtime.recorder import Tensor
from flambeau.unnamed_files import mapped, new_file

_SHARES = Unsampled("changes or tells where elements lie, not what they are")


class _Memory(NamedTuple):
    """A file that is mapped, as long as somebody has the bytes."""

    file: int
    bytes_: weakref.ref[np.ndarray]


#: By the address in this process, and by the file: what arrives again is mapped once.
_by_address: dict[int, _Memory] = {}
_by_file: dict[tuple[int, int], _Memory] = {}
_lock = process_lock()
_moves = False


def _identity(file: int) -> tuple[int, int]:
    found = os.fstat(file)
    return found.st_dev, found.st_ino


def _attached(file: int, size: int) -> Any:
    """The bytes of a file, whose descriptor is ours from now on."""
    identity = _identity(file)
    with _lock:
        known = _by_file.get(identity)
        found = None if known is None else known.bytes_()
        if known is not None and found is not None:
            if file != known.file:  # a process that was spawned gets a file once, however often it was sent
                os.close(file)
            return found
        found = np.frombuffer(mapped(file, size), np.uint8)
        address = found.ctypes.data
        _by_address[address] = _by_file[identity] = _Memory(file, weakref.ref(found))
        weakref.finalize(found, _forget, address, identity, file)
    return found


def _forget(address: int, identity: tuple[int, int], file: int) -> None:
    with _lock:
        if (known := _by_file.get(identity)) is not None and known.file == file:
            del _by_file[identity]
        if (known := _by_address.get(address)) is not None and known.file == file:
            del _by_address[address]
        os.close(file)


def _storage_bytes(tensor: Tensor) -> int:
    view, shape, _ = recorder.view_info(tensor)
    return math.prod(shape) * (view.base.dtype if view else tensor.dtype).itemsize


def _memory_of(tensor: Tensor) -> _Memory | None:
    if tensor._place != CPU.type or not _by_address:
        return None
    return _by_address.get(recorder.realize(tensor).address)


# ---- to other processes -----------------------------------------------------------------------------------


def _travel(cls: type) -> None:
    """From now on tensors of this class, and of those that inherit from it, go to other processes as descriptors where they can."""
    from multiprocessing.reduction import ForkingPickler

    ForkingPickler.register(cls, _sent)
    heirs: list[type] = type.__subclasses__(cls)
    for heir in heirs:
        _travel(heir)


def share_what_is_sent() -> None:
    """From now on tensors that are sent to other processes are moved to memory that both share, as in PyTorch."""
    global _moves
    _moves = True
    Tensor.__init_subclass__ = classmethod(_travel)  # type: ignore[assignment, method-assign]  # as Parameter, which may come later
    _travel(Tensor)


def _sent(tensor: Tensor) -> Any:
    if _moves and tensor.is_leaf and tensor._place == CPU.type:
        share_memory_(tensor)
    memory, view = _memory_of(tensor), recorder.view_info(tensor)[0]
    has_strides = view is None or (view.base.dtype is tensor.dtype and recorder.strides(tensor) is not None)
    if memory is None or not tensor.is_leaf or not has_strides:
        return tensor.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    where = tuple(tensor.shape), tuple(tensor.stride()), layout.offset(tensor)
    kind = tensor.dtype, tensor.requires_grad, type(tensor)
    return _received, (_handle(memory.file), _storage_bytes(tensor), *where, *kind)


def _handle(file: int) -> Any:
    """What is pickled for a file; one and the same for a process that is being spawned, which refuses to be given a file twice."""
    from multiprocessing.context import get_spawning_popen
    from multiprocessing.reduction import DupFd

    child: Any = get_spawning_popen()
    given = {} if child is None else vars(child).setdefault("flambeau_files", {})
    if file not in given:
        given[file] = DupFd(file)
    return given[file]


def _received(
    handle: Any,
    size: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int,
    dtype: DType,
    requires_grad: bool,
    cls: type,
) -> Any:
    """A leaf on memory that another process shares."""
    _travel(Tensor)
    buffer, count = Buffer.from_object(_attached(handle.detach(), size)), size // dtype.itemsize
    if math.prod(shape) == count and strides == layout.dense(shape):
        made = recorder.tensor_from_buffer(buffer, shape, dtype, shared=True)
    else:
        made = recorder.tensor_from_buffer(buffer, (count,), dtype, shared=True).as_strided(shape, strides, offset)
    return made if cls is Tensor and not requires_grad else recorder.make_leaf(made, requires_grad, cls)


# ---- what users call --------------------------------------------------------------------------------------


@declared(method=True, samples=_SHARES)
def share_memory_(self: Tensor) -> Tensor:
    """The tensor itself, whose storage, which its views share, is moved to memory that processes share: forked ones see it, and
    `multiprocessing` hands it to others instead of a copy. A NumPy array on the old memory no longer sees writes.

    Nothing changes where it lies there already, or on a GPU. Whoever writes is seen when the write has been run, by `flush()` at
    the latest; nothing orders the writes of several processes.
    """
    _travel(Tensor)  # views and `detach()` of a Parameter are plain tensors
    if self._place == CPU.type and _memory_of(self) is None:
        size = max(_storage_bytes(self), 1)
        bytes_ = _attached(new_file("flambeau-shared", size), size)
        recorder.move_storage(self, Buffer.from_object(bytes_))
    return self


@declared(method=True, samples=_SHARES)
def is_shared(self: Tensor) -> bool:
    """Whether the storage lies in memory that processes share: by `share_memory_`, or on a GPU."""
    return self._place != CPU.type or _memory_of(self) is not None
