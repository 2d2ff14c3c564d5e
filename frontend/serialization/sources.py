"""Where a file is read from: a path or a stream that can seek, in parts, trusting no size that the file speaks of.

In: an open file. Out: `FileSource`, whose parts exist. Next: `zip_format.py`.
"""

from __future__ import annotations

import io
import mmap
import os
import stat
from typing import Any, BinaryIO

from flambeau.serialization.machine import refuse

_CHUNK = 1 << 24


class FileSource:
    """A file from where its stream stands on."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.start = stream.tell()
        self.size = stream.seek(0, io.SEEK_END) - self.start
        stream.seek(self.start)
        self._map: mmap.mmap | None = None

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes at `offset`. Raises ValueError where the file ends before."""
        if not 0 <= offset <= offset + size <= self.size:
            refuse("it ends too early")
        found = bytearray(size)
        self.fill(offset, memoryview(found))
        return bytes(found)

    def fill(self, offset: int, target: memoryview) -> None:
        """Read as many bytes as there is room for. Raises ValueError where the file ends before."""
        self.stream.seek(self.start + offset)
        done = 0
        while done < len(target):
            found = self.stream.read(min(_CHUNK, len(target) - done))
            if not found:
                refuse("it ends too early")
            target[done : done + len(found)] = found
            done += len(found)

    def mapped(self) -> mmap.mmap:
        """The file in memory, for reading."""
        if self._map is None:
            self._map = mmap.mmap(self.stream.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def begins_with(self, magic: bytes) -> bool:
        return self.size >= len(magic) and self.read(0, len(magic)) == magic


def can_seek(stream: Any) -> bool:
    """Whether a stream can go back, so that its kind can be looked at."""
    seekable = getattr(stream, "seekable", None)
    return bool(hasattr(stream, "seek") and hasattr(stream, "tell") and (seekable is None or seekable()))


def is_regular(stream: BinaryIO) -> bool:
    """Whether a stream is a file on a disk, which can be mapped."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, AttributeError, io.UnsupportedOperation):
        return False
