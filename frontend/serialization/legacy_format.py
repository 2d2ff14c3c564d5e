"""PyTorch's format before 1.6, which some files still have: pickles one after the other, then the bytes of the storages.

In: a pickle and storages; or a `FileSource`. Out: magic number, protocol, facts of the system, the object, the keys of the
storages, and each storage as its length and its elements; and back. The object is read twice: first for what storages it names.
Next: `rebuilding.py`.
"""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

from flambeau.dialects.dtypes import DType
from flambeau.serialization.machine import LONGEST, Machine, refuse
from flambeau.serialization.pickling import plain
from flambeau.serialization.rebuilding import Rebuilding, StorageType
from flambeau.serialization.sources import FileSource
from flambeau.serialization.storages import Saved, Storage, read_storage

_NUMBER, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
MAGIC = b"\x8a\n" + _NUMBER.to_bytes(10, "little")  #: in the pickle of the number, after the two bytes of its protocol


def write(stream: BinaryIO, text: bytes, storages: list[Saved], protocol: int) -> None:
    """Write a file. Raises OSError."""
    system = {"protocol_version": _PROTOCOL, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    for value in (_NUMBER, _PROTOCOL, system):
        stream.write(plain(value, protocol))
    stream.write(text + plain([s.key for s in storages], protocol))
    for s in storages:
        stream.write(struct.pack("<q", s.array.size))
        stream.write(s.data)


class _Looking:
    """A `World` in which nothing is made: it notes which storages an object has."""

    def __init__(self) -> None:
        self.storages: dict[str, DType] = {}
        self._known = Rebuilding(self._note)

    def _note(self, key: str, dtype: DType, count: int, there: str) -> Any:
        if self.storages.setdefault(key, dtype) is not dtype:
            refuse(f"storage '{key[:100]}' has two dtypes")

    def find(self, module: str, name: str) -> Any:
        found = self._known.names.get((module, name))
        return found if type(found) is StorageType else None

    def call(self, function: Any, arguments: tuple) -> Any:
        return None

    def create(self, cls: Any, arguments: tuple) -> Any:
        return None

    def build(self, made: Any, state: Any) -> None:
        pass

    def persistent(self, name: Any) -> Any:
        return self._known.persistent(name)


class _LookingMachine(Machine):
    """Its containers are not filled, for what would be keys are not there."""

    def items(self, pairs: list[Any]) -> None:
        pass

    def add(self, values: list[Any]) -> None:
        pass

    def extend(self, values: list[Any]) -> None:
        if all(type(value) in (str, int) for value in values):
            super().extend(values)

    def key(self, key: Any) -> Any:
        return None


class Pickles:
    """The pickles of a file, and where its storages are. Raises ValueError for malformed files."""

    def __init__(self, source: FileSource, encoding: str) -> None:
        self.source = source
        self.text = source.read(0, min(source.size, LONGEST))
        number, at = self._plain(0, encoding)
        version, at = self._plain(at, encoding)
        _, self.begin = self._plain(at, encoding)
        if number != _NUMBER or version != _PROTOCOL:
            refuse("it does not begin as PyTorch's old files do")
        looking = _Looking()
        machine = _LookingMachine(self.text, looking, self.begin, encoding)
        machine.run()
        keys, at = self._plain(machine.end, encoding)
        if type(keys) is not list or any(type(key) is not str for key in keys):
            refuse("it has no list of storages")
        self.places: dict[str, tuple[int, int]] = {}
        for key in keys:
            at = self._place(key, looking.storages, at)

    def _plain(self, at: int, encoding: str) -> tuple[Any, int]:
        machine = _LookingMachine(self.text, _Looking(), at, encoding)
        return machine.run(), machine.end

    def _place(self, key: str, storages: dict[str, DType], at: int) -> int:
        """Note where a storage is; returns where it ends."""
        if key not in storages or key in self.places:
            refuse(f"it has a storage '{key[:100]}' that nothing needs")
        dtype = storages[key]
        (count,) = struct.unpack("<q", self.source.read(at, 8))
        size = count * dtype.itemsize
        if count < 0 or at + 8 + size > self.source.size:
            refuse("it ends too early")
        self.places[key] = (at + 8, size)
        return at + 8 + size

    def storage(self, key: str, dtype: DType, count: int, is_mapped: bool) -> Storage:
        """The storage of a key. Raises ValueError where there is none, or one of another size."""
        if key not in self.places:
            refuse(f"there is no storage '{key[:100]}'")
        start, size = self.places[key]
        if size != count * dtype.itemsize:
            refuse(f"storage '{key[:100]}' has {size} bytes for {count} elements")
        return read_storage(lambda target: self.source.fill(start, target), size, dtype)
