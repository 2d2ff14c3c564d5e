"""Blocks of memory that a worker fills and its loader reads in place.

In: batches, in a worker. Out: the same in the loader, whose large tensors and arrays lie where the worker wrote them. A block
is a file without a name, so that nothing of it remains when the last process that has it ends, however it ends. The worker
makes it and sends it once; when nobody in the loader holds what lies in it, the loader says so and the worker fills it again.
Next: `channel.py`, `worker.py`, `processes.py`.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import mmap
import os
import pickle
import threading
import weakref
from collections import deque
from typing import Any

import numpy as np
from flambeau import host
from flambeau.data import memory
from flambeau.dialects import dtypes
from flambeau.dialects.aval import CPU
from flambeau.dialects.dtypes import DType
from flambeau.runtime import Buffer, recorder
from flambeau.runtime.recorder import Tensor
from flambeau.unnamed_files import mapped, new_file

#: What is smaller goes in the message: a page of its own costs more.
SMALLEST = 4096
#: So many blocks are lent out at a time, in all loaders of a process; what comes then is copied. Each is an open file.
MOST_LENT = 256
#: A worker keeps no more free blocks than this.
_MOST_FREE = 32


class _Block:
    """A block in the worker that made it; `file` is its descriptor until it was sent."""

    def __init__(self, number: int, size: int) -> None:
        self.number, self.size = number, size
        self.file: int | None = new_file("flambeau-batch", size)
        try:
            self.memory = mapped(self.file, size)
        except BaseException:
            self.close()
            raise
        self.address = host.address(np.frombuffer(self.memory, np.uint8))
        self.is_placed = False  # in the batch that is packed
        self.holder: Any = None  # a weak reference to what this process still sees of it

    @property
    def is_held(self) -> bool:
        return self.holder is not None and self.holder() is not None

    def close(self) -> None:
        if self.file is not None:
            os.close(self.file)
            self.file = None


#: A pickled batch, the blocks of its arrays with their bytes, new blocks with their sizes, and blocks that are no more.
Packed = tuple[bytes, list[tuple[int, int]], list[tuple[int, int]], list[int]]


class Filled:
    """The blocks of a worker: those that lie with the loader, those that are filled now, and those that are free."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._free: list[_Block] = []
        self._lent: dict[int, _Block] = {}
        self._filling: list[_Block] = []
        self._dropped: list[int] = []

    def allocate(self, shape: tuple[int, ...], dtype: DType) -> tuple[Any, np.ndarray]:
        """As `host.empty_array`, in a block where it is large."""
        nbytes = host.byte_count(shape, dtype)
        if nbytes < SMALLEST:
            return host.empty_array(shape, dtype)
        block = self._take(nbytes)
        data: Any = np.frombuffer(block.memory, np.uint8, nbytes)
        block.holder = weakref.ref(data)
        return Buffer.from_object(data), data.view(dtype.numpy).reshape(shape)

    def released(self, numbers: list[int]) -> None:
        """The loader has no more use for these."""
        self._free += [self._lent.pop(number) for number in numbers]
        while len(self._free) > _MOST_FREE:
            self._drop(self._free.pop(0))

    def pack(self, batch: Any) -> tuple[Packed, list[int]]:
        """The batch, and the files of new blocks. What was allocated for it stays where it is, other large tensors and arrays are
        copied into blocks."""
        stream, placed = io.BytesIO(), list[tuple[int, int]]()
        try:
            _BlockPickler(stream, self, placed).dump(batch)
        except BaseException:
            self.abandon()
            raise
        used = [block for block in self._filling if block.is_placed]
        self._free += [block for block in self._filling if not block.is_placed]
        self._filling = []
        self._lent.update((block.number, block) for block in used)
        new = [block for block in used if block.file is not None]
        gone, self._dropped = self._dropped, []
        message = (stream.getvalue(), placed, [(block.number, block.size) for block in new], gone)
        return message, [block.file for block in new if block.file is not None]

    def sent(self) -> None:
        """What `pack` gave has arrived: its files are the loader's now."""
        for block in self._lent.values():
            block.close()

    def abandon(self) -> None:
        """There will be no batch: what was filled for it is free."""
        self._free += self._filling
        self._filling = []

    def _take(self, nbytes: int) -> _Block:
        fitting = [b for b in self._free if nbytes <= b.size <= 4 * nbytes + (1 << 16) and not b.is_held]
        if fitting:
            block = min(fitting, key=lambda b: b.size)
            self._free.remove(block)
        else:
            block = _Block(next(self._numbers), -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE)
        block.is_placed = False
        self._filling.append(block)
        return block

    def _drop(self, block: _Block) -> None:
        if block.file is None:
            self._dropped.append(block.number)
        block.close()

    def place(self, data: np.ndarray) -> int:
        """The number of the block that begins with these bytes: the one that they were put in, or another one that has a copy."""
        address = host.address(data)
        block = next((b for b in self._filling if b.address == address and not b.is_placed), None)
        if block is None:
            block = self._take(data.nbytes)
            np.frombuffer(block.memory, np.uint8, data.nbytes)[:] = data
        block.is_placed = True
        return block.number


class _BlockPickler(pickle.Pickler):
    """Puts tensors and arrays into blocks where they are large."""

    def __init__(self, stream: io.BytesIO, blocks: Filled, placed: list[tuple[int, int]]) -> None:
        super().__init__(stream, 5, buffer_callback=self._lend)
        self._blocks, self._placed = blocks, placed

    def _lend(self, buffer: pickle.PickleBuffer) -> bool:
        data = np.frombuffer(buffer.raw(), np.uint8)
        if data.nbytes < SMALLEST:
            return True
        self._placed.append((self._blocks.place(data), data.nbytes))
        return False

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is not Tensor or obj.requires_grad or obj._place != CPU:
            return NotImplemented
        array = np.ascontiguousarray(host.array_of(obj))
        data = array.reshape(-1).view(np.uint8) if array.size else np.empty(0, np.uint8)
        if data.nbytes < SMALLEST:
            return _small, (data.tobytes(), tuple(obj.shape), obj.dtype.name)
        return _large, (self._blocks.place(data), data.nbytes, tuple(obj.shape), obj.dtype.name)


class _BlocksBeingRead(threading.local):
    blocks: Any = None


_reading = _BlocksBeingRead()


def _small(data: bytes, shape: tuple[int, ...], dtype: str) -> Tensor:
    made = dtypes.by_name(dtype)
    return host.copied(np.frombuffer(data, made.numpy).reshape(shape), made)


def _large(number: int, nbytes: int, shape: tuple[int, ...], dtype: str) -> Tensor:
    data, is_lent = _reading.blocks.data(number, nbytes)
    made = dtypes.by_name(dtype)
    if not is_lent:
        return host.copied(data.view(made.numpy).reshape(shape), made)
    return recorder.tensor_from_buffer(Buffer.from_object(data), shape, made)


class Lent:
    """The blocks of one worker, as the loader sees them."""

    def __init__(self) -> None:
        self._memory: dict[int, mmap.mmap] = {}
        self._released: list[int] = []

    def take_released(self) -> list[int]:
        """The numbers of blocks that nobody holds any more, told once."""
        settle()
        released, self._released = self._released, []
        return released

    def arrived(self, new: list[tuple[int, int]], gone: list[int], files: list[int]) -> None:
        """Map new blocks, whose files are closed, and forget those that are gone."""
        try:
            for (number, size), file in zip(new, files, strict=True):
                self._memory[number] = mapped(file, size)
        finally:
            for file in files:
                os.close(file)
        for number in gone:
            self._memory.pop(number, None)

    def unpack(self, batch: bytes, placed: list[tuple[int, int]]) -> Any:
        """What the worker packed."""
        _reading.blocks = self
        try:
            return pickle.loads(batch, buffers=[self._array(*place) for place in placed])
        finally:
            _reading.blocks = None

    def _array(self, number: int, nbytes: int) -> np.ndarray:
        data, is_lent = self.data(number, nbytes)
        return data if is_lent else data.copy()

    def data(self, number: int, nbytes: int) -> tuple[np.ndarray, bool]:
        """The bytes of a block, and whether they may stay there: then the block is released when they are held no longer."""
        data = np.frombuffer(self._memory[number], np.uint8, nbytes)
        settle()
        if len(_loans) >= MOST_LENT:
            self.release(number)
            return data, False
        loan = weakref.ref(
            data, _ended.append
        )  # no code of Python's: an interrupt that comes there would be printed and lost
        _loans[id(loan)] = loan, self, number
        return data, True

    def release(self, number: int) -> None:
        """Nobody holds this block."""
        self._released.append(number)


#: What is lent out: id of the reference -> (it, whose block, its number).
_loans: dict[int, tuple[weakref.ref, Lent, int]] = {}
#: Loans that have ended since `settle` was called.
_ended: deque[weakref.ref] = deque()


def settle() -> int:
    """Release the blocks whose loans have ended; how many are still lent out."""
    while _ended:
        with contextlib.suppress(IndexError, ValueError):  # where another thread is faster
            loan = _ended[0]
            if (found := _loans.pop(id(loan), None)) is not None:
                _, lent, number = found
                lent.release(number)
            _ended.remove(loan)  # last: an interrupt may come between any two lines
    return len(_loans)


def fill_in_worker() -> Filled:
    """Blocks for this worker, in which batches are put from now on."""
    made = Filled()
    memory.give_from(made.allocate)
    return made
