"""Files that go to the disk while they are written: waiting for them at the end (`replacing.sync`) is then short.

In: a path. Out: a stream. What is written to it goes to the system straight from the memory it lies in, and the disk begins
with a block as soon as the system has it, while the next one is copied or its sum is taken. Left to itself, the system
keeps a gigabyte in memory until somebody waits for it. Next: `replacing.py`.
"""

from __future__ import annotations

import ctypes
import io
import os
from functools import cache
from typing import Any, BinaryIO

BLOCK = 1 << 22
#: More at once took up to four times as long in the system (Linux, ext4).
_WRITE = 1 << 18
_BUFFER = 1 << 17  # gathers headers and small tensors
_BEGIN = 2  # SYNC_FILE_RANGE_WRITE of Linux: begin to write what is not on the disk, wait for nothing


def opened(path: str | os.PathLike) -> BinaryIO:
    """A stream that makes, or empties, the file at `path` and writes to it. Raises OSError."""
    return io.BufferedWriter(_Steady(path), _BUFFER)


class _Steady(io.FileIO):
    def __init__(self, path: str | os.PathLike) -> None:
        super().__init__(path, "wb")
        self._end = self._begun = 0

    def write(self, data: Any) -> int:
        """Write some of the bytes, or all where they are few; how many that was."""
        done = super().write(memoryview(data)[:_WRITE])
        self._end += done
        whole = self._end - self._end % BLOCK
        if whole > self._begun:
            begin_writing(self.fileno(), self._begun, whole - self._begun)
            self._begun = whole
        return done


def begin_writing(file: int, start: int, size: int) -> None:
    """Let the disk begin with a part of a file. Nothing where the system cannot: what goes wrong shows when the file is synced."""
    if (function := _function()) is not None:
        function(file, start, size, _BEGIN)


@cache
def _function() -> Any:
    function = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return function
