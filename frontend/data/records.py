"""Files of records with an index: any record is read at once, so that a dataset of any size is shuffled as a whole.

In: records, as bytes or as samples like those of archives. Out: a file, mapped when it is read. The format: 8 bytes `FBRECS01`;
the records, one after the other; where each begins and where the last one ends, in bytes from the start of the file, as
little-endian uint64; a CRC-32 of each, uint32; the number of records, uint64; `FBRECEND`. Next: `archives.py`.
"""

from __future__ import annotations

import bisect
import contextlib
import io
import itertools
import json
import mmap
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flambeau.data.archives import decoded, encoded, expand
from flambeau.data.dataset import Dataset

_START, _END = b"FBRECS01", b"FBRECEND"
_TAIL = struct.Struct("<Q8s")


def packed(sample: dict[str, Any]) -> bytes:
    """A sample as a record: the length of a JSON list of endings and sizes, that list, and the contents (see
    `archives.encoded`)."""
    parts = {k: encoded(k, v) for k, v in sample.items() if k != "__key__"}
    head = json.dumps([sample.get("__key__", ""), [[k, len(v)] for k, v in parts.items()]]).encode()
    return struct.pack("<I", len(head)) + head + b"".join(parts.values())


def unpacked(record: bytes) -> dict[str, Any]:
    """The sample, its contents decoded. Raises ValueError for a record that is none."""
    try:
        (length,) = struct.unpack_from("<I", record)
        key, parts = json.loads(record[4 : 4 + length])
        stream, sample = io.BytesIO(record[4 + length :]), {"__key__": key}
        for ending, size in parts:
            sample[ending] = decoded(ending, stream.read(size))
        return sample
    except (struct.error, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"[Records] a record is no sample: {error}. Read it as bytes.") from error


class RecordWriter:
    """Writes records to a file, which is there when it is complete: `with RecordWriter("a.rec") as w: w.write(b"...")`; a dict
    is a sample."""

    def __init__(self, path: Any) -> None:
        self.path = os.fspath(path)
        folder, name = os.path.split(self.path)
        self._partial = os.path.join(folder, f".{name}.{os.getpid()}.partial")
        self._file: Any = open(self._partial, "wb")
        self._file.write(_START)
        self._ends, self._sums = [len(_START)], list[int]()

    def write(self, record: Any) -> None:
        """Add a record: bytes, or a sample."""
        data = packed(record) if isinstance(record, dict) else bytes(record)
        self._file.write(data)
        self._ends.append(self._ends[-1] + len(data))
        self._sums.append(zlib.crc32(data))

    def close(self) -> None:
        """Complete the file."""
        if not self._file.closed:
            for numbers, dtype in ((self._ends, "<u8"), (self._sums, "<u4")):
                self._file.write(np.array(numbers, dtype).tobytes())
            self._file.write(_TAIL.pack(len(self._sums), _END))
            self._file.close()
            os.replace(self._partial, self.path)

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind is None:
            self.close()
            return
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._partial)


class _File:
    """One file, mapped."""

    def __init__(self, path: str) -> None:
        self.path = path
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        if size < len(_START) + 8 + _TAIL.size or self._map[:8] != _START or self._map[-8:] != _END:
            raise ValueError(f"[Records] '{path}' is no complete file of records. Write it anew.")
        self.count, _ = _TAIL.unpack(self._map[-_TAIL.size :])
        table = size - _TAIL.size - 12 * self.count - 8
        if not len(_START) <= table < size:
            raise ValueError(f"[Records] '{path}' speaks of {self.count} records, more than it has. Write it anew.")
        self._ends = np.frombuffer(self._map, "<u8", self.count + 1, table)
        self._sums = np.frombuffer(self._map, "<u4", self.count, table + 8 * (self.count + 1))
        if self._ends[0] != len(_START) or self._ends[-1] != table or (self._ends[1:] < self._ends[:-1]).any():
            raise ValueError(f"[Records] the index of '{path}' is malformed. Write it anew.")

    def read(self, i: int) -> bytes:
        data = self._map[int(self._ends[i]) : int(self._ends[i + 1])]
        if zlib.crc32(data) != self._sums[i]:
            raise ValueError(f"[Records] record {i} of '{self.path}' is damaged. Copy the file anew.")
        return bytes(data)


class Records(Dataset[Any]):
    """The records of files, in order: a path, a pattern such as `train-{00..11}.rec`, or several. `decode` (`unpacked` for
    samples) makes something of the bytes. Files are mapped: nothing is read before it is asked for, and workers share what was.

    Raises ValueError for a malformed file and, when it is read, for a damaged record.
    """

    def __init__(self, paths: Any, decode: Callable[[bytes], Any] | None = unpacked) -> None:
        many: Sequence[Any] = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        self.paths = [name for path in many for name in expand(os.fspath(path))]
        self.decode = decode
        self._open()

    def _open(self) -> None:
        self._files = [_File(path) for path in self.paths]
        self._ends = list(itertools.accumulate(f.count for f in self._files))

    def __getitem__(self, index: int) -> Any:
        n = len(self)
        if not -n <= index < n:
            raise IndexError(f"[Records] index {index} is out of range for {n} records.")
        index %= n
        which = bisect.bisect_right(self._ends, index)
        record = self._files[which].read(index - (self._ends[which - 1] if which else 0))
        return record if self.decode is None else self.decode(record)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getstate__(self) -> dict[str, Any]:
        return {"paths": self.paths, "decode": self.decode}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.paths, self.decode = state["paths"], state["decode"]
        self._open()
