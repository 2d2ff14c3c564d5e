"""Named tensors and safetensors files.

In: tensors by name and string metadata; out: a stream, to which tensors go from where they lie, while the package `safetensors` has
no writer that copies nothing and lets the disk begin before all is there; and back, trusting nothing, by way of that package,
imported when it is needed: it checks that sizes, offsets, shapes and dtypes of the header agree with
the file before memory is reserved. Done here is what it does not do: it takes a name that stands twice for one, and sizes that
no array can have; it reads streams whole, so they are bounded by what their header speaks of; and it says of files of other
kinds that their header is too large. Next: `foreign.py` for those, `serialization/`.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import re
import stat
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from flambeau import foreign, host
from flambeau.dialects import dtypes
from flambeau.runtime.recorder import Tensor

_MOST_DIMENSIONS = 64  # of a NumPy array
_CHUNK = 1 << 24


# ---- writing --------------------------------------------------------------------------------------------------


def write(stream: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata, each tensor from where it lies. Raises OSError, ValueError for a name that is not Unicode and for
    more of them than a header may hold, and TypeError for a dtype that the format does not have."""
    for name in tensors:
        if not name.isascii() and re.search("[\ud800-\udfff]", name):
            raise ValueError(f"[save] the name {name!a} is not Unicode. Rename it.")
    if unknown := next(((n, t.dtype) for n, t in tensors.items() if not t.dtype.safetensors), None):
        raise TypeError(
            f"[save] safetensors has no name for {unknown[1]}, the dtype of '{unknown[0]}'. Use another format, or convert it."
        )
    in_file = sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))  # each is aligned then
    text = _header_of(in_file, metadata)
    if len(text) > foreign.LARGEST_HEADER:
        raise ValueError(
            f"[save] the header would have {len(text)} bytes. Save fewer or shorter names, or in the zip format."
        )
    stream.write(len(text).to_bytes(8, "little") + text)
    for _, t in in_file:
        array = np.ascontiguousarray(host.array_of(t))
        if array.size:
            stream.write(array.reshape(-1).view(np.uint8).data)


def _header_of(in_file: list[tuple[str, Tensor]], metadata: Mapping[str, str]) -> bytes:
    """What the file says of tensors in this order; data after it begin at a multiple of 8."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, t in in_file:
        end = at + math.prod(t.shape) * t.dtype.itemsize
        header[name] = {"dtype": t.dtype.safetensors, "shape": list(map(int, t.shape)), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


# ---- reading --------------------------------------------------------------------------------------------------


class _Entry(NamedTuple):
    dtype: str
    shape: list[int]
    array: Any  # a function that reads it


def read(source: BinaryIO, path: Any = None, is_mapped: bool = False) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, in the header's order, and metadata. `path` is that of a stream which has just been opened; `is_mapped`
    leaves its tensors in the file until they are read.

    Raises ValueError for a malformed file, TypeError for unsupported dtypes.
    """
    from safetensors import SafetensorError, deserialize, safe_open

    text, header = _header(source)
    given = 0
    try:
        if path is not None and stat.S_ISREG(os.fstat(source.fileno()).st_mode):
            given = os.fstat(source.fileno()).st_size - 8 - len(text)
            with safe_open(_same(source, path), "np", backend="pread") as file:
                reader = _mapper(source, len(text), header)
                reader = reader if is_mapped else _reader(file, reader)
                entries = {n: _Entry(s.get_dtype(), s.get_shape(), reader(n)) for n, s in _slices(file)}
                return _tensors(entries, header), _metadata(header)
        data = _data(source, header)
        given = sum(map(len, data))
        found = deserialize(b"".join([len(text).to_bytes(8, "little"), text, *data]))
        entries = {n: _Entry(e["dtype"], e["shape"], lambda e=e: e.pop("data")) for n, e in found}
        return _tensors(entries, header), _metadata(header)
    except SafetensorError as error:
        wanted = _needed(header)
        more = "or more " if path is None and given > wanted else ""
        sizes = f" (its tensors need {wanted} bytes, {given} {more}follow the header)" if given != wanted else ""
        raise refuse(_shortened(str(error).partition(": ")[2] or str(error)) + sizes) from None


def _slices(file: Any) -> Iterator[tuple[str, Any]]:
    return ((name, file.get_slice(name)) for name in file.offset_keys())


def _reader(file: Any, mapped: Any) -> Any:
    """Reads tensors as arrays; as bytes what the package's arrays have no dtype for, which is any float8."""

    def reader(name: str) -> Any:
        dtype = dtypes.by_safetensors(file.get_slice(name).get_dtype())
        if dtype is not None and dtype.is_stored_only:
            return lambda: bytes(mapped(name)())
        return lambda: file.get_tensor(name)

    return reader


def _mapper(source: BinaryIO, length: int, header: dict[str, Any]) -> Any:
    """Reads tensors as parts of a map of the file, whose offsets the package has found to be sound."""
    whole: list[memoryview] = []

    def reader(name: str) -> Any:
        start, end = (8 + length + int(n) for n in header[name]["data_offsets"])
        if not whole:
            whole.append(memoryview(mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)))
        return lambda: whole[0][start:end]

    return reader


def _tensors(entries: dict[str, _Entry], header: dict[str, Any]) -> dict[str, Tensor]:
    """All are looked at before the first is read."""
    for name, e in entries.items():
        dtype = dtypes.by_safetensors(e.dtype)
        if dtype is None:
            raise TypeError(
                f"[load] '{_shortened(name)}' has dtype {e.dtype}, which is not supported. Convert it first."
            )
        host.check_supported("load", dtype)
        size = math.prod([max(1, n) for n in e.shape[: _MOST_DIMENSIONS + 1]]) * dtype.itemsize
        if len(e.shape) > _MOST_DIMENSIONS or size >= 2**63:
            raise refuse(f"'{_shortened(name)}' has the shape {_shortened(str(e.shape))}, which no tensor can have")
    return {name: _tensor(name, entries[name]) for name in header if name != "__metadata__"}


def _tensor(name: str, e: _Entry) -> Tensor:
    dtype = dtypes.by_safetensors(e.dtype)
    assert dtype is not None  # looked at in `_tensors`
    array = np.frombuffer(e.array(), np.uint8)
    if dtype is dtypes.bool_ and (array > 1).any():
        raise refuse(f"'{_shortened(name)}' has bool bytes other than 0 and 1")
    found = array.view(dtype.numpy).reshape(e.shape)
    if host.immutable(array) is None or not array.size or host.address(array) % dtype.itemsize:
        return host.copied(found)
    return host.shared(found)


def _metadata(header: dict[str, Any]) -> dict[str, str]:
    return header.get("__metadata__") or {}


# ---- the header -----------------------------------------------------------------------------------------------


def _header(stream: BinaryIO) -> tuple[bytes, dict[str, Any]]:
    """The header, as bytes and as JSON whose numbers have remained text: no size in it has been believed."""
    start = _upto(stream, 8)
    try:
        return _parsed(stream, start)
    except ValueError:
        if kind := foreign.kind(stream, start):
            raise ValueError(f"[load] {kind}") from None
        raise


def _parsed(stream: BinaryIO, start: bytes) -> tuple[bytes, dict[str, Any]]:
    length = int.from_bytes(start, "little")
    if len(start) < 8:
        raise refuse("it ends within its length")
    if length > foreign.LARGEST_HEADER:
        raise refuse(f"its header would have {length} bytes")
    text = _upto(stream, length)
    if len(text) < length:
        raise refuse("it ends within its header")
    try:
        header = json.loads(text.decode(), object_pairs_hook=_unique, parse_int=str, parse_float=str)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise refuse("its header is not JSON") from None
    if not isinstance(header, dict):
        raise refuse("its header is not an object")
    return text, header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise refuse(f"'{_shortened(name)}' stands in its header twice")
        found[name] = value
    return found


def _same(source: BinaryIO, path: Any) -> Any:
    """A path of the file that is open, where the system has one: under its own it may have been replaced since."""
    name = f"/proc/self/fd/{source.fileno()}"
    return name if os.path.exists(name) else os.fsdecode(path)


def _data(stream: BinaryIO, header: dict[str, Any]) -> list[bytes]:
    """What follows the header, as far as the tensors reach, and a byte more if there is one."""
    left = _needed(header) + 1
    chunks = []
    while left > 0 and (chunk := _upto(stream, min(left, _CHUNK))):
        chunks.append(chunk)
        left -= len(chunk)
    return chunks


def _needed(header: dict[str, Any]) -> int:
    """How many bytes the tensors reach into what follows the header."""
    return max((_end(entry) for name, entry in header.items() if name != "__metadata__"), default=0)


def _end(entry: Any) -> int:
    """Where the data of an entry ends; 0 for what the package will refuse."""
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    last = offsets[-1] if isinstance(offsets, list) and offsets else None
    return int(last) if isinstance(last, str) and re.fullmatch(r"[0-9]{1,19}", last) else 0


def _upto(stream: BinaryIO, size: int) -> bytes:
    """`size` bytes, or fewer where the stream ends."""
    found = bytearray()
    while len(found) < size and (chunk := stream.read(min(size - len(found), _CHUNK))):
        found += chunk
    return bytes(found)


def refuse(fact: str) -> ValueError:
    return ValueError(f"[load] this is not a valid safetensors file: {fact}. Check that it was written completely.")


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:100]}...{text[-50:]}"
