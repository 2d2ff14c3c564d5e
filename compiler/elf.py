"""Reads what the compiler must know of an ELF object: which symbols it expects from elsewhere.

In: the bytes of a 64-bit little-endian relocatable object. Out: names. Next: `backend.py`.
"""

from __future__ import annotations

import struct

_SYMBOL_TABLE = 2


def undefined_symbols(code: bytes) -> list[str]:
    """Names of symbols used but not defined; nothing for objects in another format."""
    if code[:6] != b"\x7fELF\x02\x01":
        return []
    (section_offset,) = struct.unpack_from("<Q", code, 0x28)
    size, count = struct.unpack_from("<HH", code, 0x3A)
    headers = [struct.unpack_from("<IIQQQQIIQQ", code, section_offset + i * size) for i in range(count)]
    found: list[str] = []
    for _, kind, _, _, offset, length, link, _, _, entry in headers:
        if kind == _SYMBOL_TABLE:
            names = headers[link][4]
            found += _undefined(code, range(offset + entry, offset + length, entry), names)
    return found


def _undefined(code: bytes, entries: range, names: int) -> list[str]:
    found = []
    for at in entries:
        name, _, _, section = struct.unpack_from("<IBBH", code, at)
        if section == 0:
            start = names + name
            found.append(code[start : code.index(b"\0", start)].decode())
    return found
