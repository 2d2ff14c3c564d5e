"""PyTorch's format since 1.6: a zip archive with a pickle and a record of bytes per storage, none compressed.

In: a pickle and storages; or a `FileSource`. Out: an archive, sizes and sums of which are known before it is written, so that any
stream will do, with records at multiples of 64 bytes; and back. Records must lie apart, so that a small file has no large
content. Next: `rebuilding.py`.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Any, BinaryIO, cast

from flambeau.dialects.dtypes import DType
from flambeau.serialization.machine import LONGEST, refuse
from flambeau.serialization.sources import FileSource
from flambeau.serialization.storages import Saved, Storage, mapped_storage, read_storage

_ALIGNMENT = 64
_LARGE = 0xFFFFFFFF
_DATE = (0, 33)  # time and day, as zip archives have them: 1980-01-01

# ---- writing --------------------------------------------------------------------------------------------------


def write(stream: BinaryIO, name: str, text: bytes, storages: list[Saved]) -> None:
    """Write an archive whose records lie in a folder `name`. Raises OSError."""
    records: list[tuple[str, Any]] = [("data.pkl", text), (".format_version", b"1"), (".storage_alignment", b"64")]
    records += [("byteorder", b"little"), *((f"data/{s.key}", s.data) for s in storages), ("version", b"3\n")]
    at, directory = 0, []
    for record, data in records:
        header, extra_entry = _record(f"{name}/{record}".encode(), data, at)
        stream.write(header)
        if len(data):
            stream.write(data)
        at += len(header) + len(data)
        directory.append(extra_entry)
    listed = b"".join(directory)
    stream.write(listed + _end(len(records), len(listed), at))


def _record(name: bytes, data: Any, at: int) -> tuple[bytes, bytes]:
    """What stands before a record that begins at `at`, and its line in the directory."""
    size, checksum = len(data), zlib.crc32(data)
    large = struct.pack("<HHQQ", 1, 16, size, size) if size >= _LARGE else b""
    begin = at + 30 + len(name) + len(large) + 4
    padding = -begin % _ALIGNMENT
    extra = large + struct.pack("<HH", 0x4246, padding) + b"Z" * padding
    shown = min(size, _LARGE)
    common = struct.pack("<HHHHHIII", 45 if large else 20, 0x800, 0, *_DATE, checksum, shown, shown)
    header = b"PK\3\4" + common + struct.pack("<HH", len(name), len(extra)) + name + extra
    far = struct.pack("<Q", at) if at >= _LARGE else b""
    fields = (struct.pack("<QQ", size, size) if large else b"") + far
    more = struct.pack("<HH", 1, len(fields)) + fields if fields else b""
    entry = b"PK\1\2" + struct.pack("<H", 45 if more else 20) + common
    entry += struct.pack("<HHHHHII", len(name), len(more), 0, 0, 0, 0, min(at, _LARGE)) + name + more
    return header, entry


def _end(count: int, size: int, at: int) -> bytes:
    far = b""
    if count >= 0xFFFF or at >= _LARGE or size >= _LARGE:
        far = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, size, at)
        far += b"PK\6\7" + struct.pack("<IQI", 0, at + size, 1)
    shown = min(count, 0xFFFF)
    return far + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, shown, shown, min(size, _LARGE), min(at, _LARGE), 0)


# ---- reading --------------------------------------------------------------------------------------------------


class Archive:
    """The records of a file of `torch.save`. Raises ValueError for archives that are malformed or something else."""

    def __init__(self, source: FileSource) -> None:
        self.source = source
        self.records: dict[str, tuple[int, int]] = {}  # name without the folder: where, how long
        entries = self._entries()
        text = next(
            (e.filename for e in entries if e.filename.endswith("data.pkl") and e.filename.count("/") < 2), None
        )
        if text is None:
            refuse("it is an archive without a data.pkl")
        self.folder = text[: -len("data.pkl")]
        if any(e.filename == self.folder + "constants.pkl" for e in entries):
            refuse("it is a TorchScript program", "Save the state_dict() of its model with torch.save.")
        for entry in entries:
            self._add(entry)
        if self.records.get("byteorder") and self.read("byteorder") != b"little":
            refuse("its numbers are in the byte order of another machine", "Save it again on a common machine.")

    def _entries(self) -> list[zipfile.ZipInfo]:
        try:
            return zipfile.ZipFile(cast(Any, _SourceWindow(self.source))).infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error, OSError, LookupError):
            return refuse("the archive's list of records is malformed")

    def _add(self, entry: zipfile.ZipInfo) -> None:
        if not entry.filename.startswith(self.folder):
            return
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size or entry.flag_bits & 1:
            refuse("a record is compressed or encrypted", "Write it with torch.save, which does neither.")
        name = entry.filename[len(self.folder) :]
        if name in self.records:
            refuse(f"it has the record '{name[:100]}' twice")
        header = self.source.read(entry.header_offset, 30)
        if header[:4] != b"PK\3\4":
            refuse("a record does not begin where the archive says")
        start = entry.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))
        if start + entry.file_size > self.source.size:
            refuse("it ends too early")
        self.records[name] = (start, entry.file_size)

    def check_apart(self) -> None:
        """Raise ValueError where records share bytes."""
        end = 0
        for start, size in sorted(self.records.values()):
            if size and start < end:
                refuse("two records share bytes")
            end = max(end, start + size)

    def read(self, name: str) -> bytes:
        start, size = self.records[name]
        if size > LONGEST:
            refuse(f"its {name} has {size} bytes")
        return self.source.read(start, size)

    def storage(self, key: str, dtype: DType, count: int, is_mapped: bool) -> Storage:
        """The storage of a key. Raises ValueError where there is none, or one of another size."""
        if f"data/{key}" not in self.records:
            refuse(f"there is no storage '{key[:100]}'")
        start, size = self.records[f"data/{key}"]
        if size != count * dtype.itemsize:
            refuse(f"storage '{key[:100]}' has {size} bytes for {count} elements")
        if is_mapped and size:
            return mapped_storage(self.source.mapped(), self.source.start + start, size, dtype)
        return read_storage(lambda target: self.source.fill(start, target), size, dtype)


class _SourceWindow(io.RawIOBase):
    """The source as a file from 0 on, of which no more is asked than there is."""

    def __init__(self, source: FileSource) -> None:
        self.source, self.at = source, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        at = (0, self.at, self.source.size)[whence] + offset
        if at < 0:
            raise OSError("before the beginning")
        self.at = at
        return at

    def tell(self) -> int:
        return self.at

    def read(self, size: int = -1) -> bytes:
        left = max(0, self.source.size - self.at)
        found = self.source.read(self.at, left if size < 0 else min(size, left)) if left else b""
        self.at += len(found)
        return found


def has_pickle(source: FileSource) -> bool:
    """Whether an archive that can be read has a `data.pkl`."""
    try:
        return any(name.endswith("data.pkl") for name in zipfile.ZipFile(cast(Any, _SourceWindow(source))).namelist())
    except Exception:  # whatever is wrong with it, it is told elsewhere
        return False
