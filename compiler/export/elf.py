"""What the compiler must know of ELF objects: which symbols one expects from elsewhere, and how data is added to one.

In: the bytes of a 64-bit little-endian relocatable object. Out: names; or a file with one more section, whose bytes have
not gone through LLVM, where each takes ten of memory. Source of the format: System V ABI, chapter 4 (object files).
Next: `backend/object_code.py`, `object_file.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

_SYMBOL_TABLE = 2  # types of sections
_BITS = 1
_ALLOCATED = 2  # a flag of sections
_HIDDEN_OBJECT = (0x11, 2)  # binding and type, visibility of a symbol
_MOST_SECTIONS = 0xFF00
_SECTION, _SYMBOL = struct.Struct("<IIQQQQIIQQ"), struct.Struct("<IBBHQQ")
#: Data starts, and each piece of it, at multiples of this: what kernels want for speed.
ALIGNMENT = 64


class _Section(NamedTuple):
    """The fields of a section header, in order."""

    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry: int

    def packed(self) -> bytes:
        return _SECTION.pack(*self)


def undefined_symbols(code: bytes) -> list[str]:
    """Names of symbols used but not defined; nothing for objects in another format."""
    return [name for _, name in _undefined(code, _sections(code))] if _is_elf(code) else []


def write_with_data(file: BinaryIO, code: bytes, symbol: str, pieces: Sequence[memoryview]) -> None:
    """Write the object `code` with `pieces`, each at a multiple of `ALIGNMENT`, in a read-only section of their own, which
    starts at `symbol`: a symbol that the object uses and does not define.

    Raises ValueError for another format, or where there is no such symbol. Raises OSError.
    """
    if not _is_elf(code):
        raise ValueError("[elf] the object is not in the 64-bit little-endian ELF format.")
    sections = _sections(code)
    places = [at for at, name in _undefined(code, sections) if name == symbol]
    if not places or len(sections) + 1 >= _MOST_SECTIONS:
        raise ValueError(f"[elf] the object has no undefined symbol '{symbol}', or too many sections.")
    (names_index,) = struct.unpack_from("<H", code, 0x3E)
    names = sections[names_index]
    texts = code[names.offset : names.offset + names.size]
    size = sum(map(_aligned, map(len, pieces)))
    start = _aligned(len(code))
    more = _Section(len(texts), _BITS, _ALLOCATED, 0, start, size, 0, 0, ALIGNMENT, 0)
    texts += b".rodata.weights\0"
    sections[names_index] = names._replace(offset=start + size, size=len(texts))
    head = bytearray(code)
    for at in places:
        name, *_ = _SYMBOL.unpack_from(head, at)
        _SYMBOL.pack_into(head, at, name, *_HIDDEN_OBJECT, len(sections), 0, size)
    table = start + size + _aligned(len(texts))
    struct.pack_into("<Q", head, 0x28, table)
    struct.pack_into("<H", head, 0x3C, len(sections) + 1)
    for piece in (memoryview(head), *pieces, memoryview(texts)):
        file.write(piece)
        file.write(bytes(_aligned(len(piece)) - len(piece)))
    file.write(b"".join(s.packed() for s in (*sections, more)))


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _is_elf(code: bytes) -> bool:
    return code[:6] == b"\x7fELF\x02\x01"


def _sections(code: bytes) -> list[_Section]:
    (offset,) = struct.unpack_from("<Q", code, 0x28)
    size, count = struct.unpack_from("<HH", code, 0x3A)
    return [_Section(*_SECTION.unpack_from(code, offset + i * size)) for i in range(count)]


def _undefined(code: bytes, sections: Sequence[_Section]) -> Iterator[tuple[int, str]]:
    """Where the entry of each undefined symbol lies, and its name. The first entry of a table is no symbol."""
    for table in sections:
        if table.type != _SYMBOL_TABLE:
            continue
        names = sections[table.link].offset
        for at in range(table.offset + table.entry, table.offset + table.size, table.entry):
            name, _, _, section, _, _ = _SYMBOL.unpack_from(code, at)
            if section == 0:
                start = names + name
                yield at, code[start : code.index(b"\0", start)].decode()
