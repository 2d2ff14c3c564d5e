"""The safetensors file format: a JSON header and raw tensor data. https://huggingface.co/docs/safetensors

In: named tensors and string metadata. Out: a stream of bytes; and back, trusting nothing: every size, offset, shape and
dtype of a file is checked before memory is reserved. Next: `serialization.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from flambeau import host
from flambeau.dialects import dtypes
from flambeau.dialects.dtypes import DType
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor

_NAMES = {
    dtypes.bool_: "BOOL",
    dtypes.uint8: "U8",
    dtypes.int8: "I8",
    dtypes.int16: "I16",
    dtypes.int32: "I32",
    dtypes.int64: "I64",
    dtypes.float16: "F16",
    dtypes.bfloat16: "BF16",
    dtypes.float32: "F32",
    dtypes.float64: "F64",
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}
_LARGEST_HEADER = 100_000_000


def write(stream: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors, in order, and metadata."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, t in tensors.items():
        size = math.prod(t.shape) * t.dtype.itemsize
        header[name] = {"dtype": _NAMES[t.dtype], "shape": list(t.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    stream.write(len(text).to_bytes(8, "little"))
    stream.write(text)
    for t in tensors.values():
        stream.write(host.array_of(t).tobytes())


class _Entry(NamedTuple):
    name: str
    dtype: DType
    shape: tuple[int, ...]
    start: int
    stop: int


def _refuse(fact: str) -> ValueError:
    return ValueError(f"[load] this is not a valid safetensors file: {fact}. Check that it was written completely.")


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _entry(name: str, given: Any) -> _Entry:
    if not isinstance(given, dict) or set(given) != {"dtype", "shape", "data_offsets"}:
        raise _refuse(f"the entry of '{name}' is malformed")
    shape, offsets = given["shape"], given["data_offsets"]
    if given["dtype"] not in _DTYPES:
        raise _refuse(f"'{name}' has the unknown dtype {given['dtype']!r}")
    if not isinstance(shape, list) or not all(map(_is_size, shape)):
        raise _refuse(f"'{name}' has the shape {shape!r}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        raise _refuse(f"'{name}' has the offsets {offsets!r}")
    dtype = _DTYPES[given["dtype"]]
    start, stop = offsets
    if stop - start != math.prod(shape) * dtype.itemsize:
        raise _refuse(f"'{name}' of shape {shape} and dtype {dtype.name} has {stop - start} bytes")
    return _Entry(name, dtype, tuple(shape), start, stop)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise _refuse("a name stands in the header twice")
    return dict(pairs)


def _header(stream: BinaryIO) -> tuple[list[_Entry], dict[str, str]]:
    length = int.from_bytes(_exactly(stream, 8, "its length"), "little")
    if length > _LARGEST_HEADER:
        raise _refuse(f"its header would have {length} bytes")
    try:
        header = json.loads(_exactly(stream, length, "its header"), object_pairs_hook=_unique)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise _refuse("its header is not JSON") from None
    if not isinstance(header, dict):
        raise _refuse("its header is not an object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _refuse("its metadata is not made of strings")
    entries = sorted((_entry(name, given) for name, given in header.items()), key=lambda e: (e.start, e.stop))
    at = 0
    for e in entries:
        if e.start != at:
            raise _refuse(f"the data of '{e.name}' starts at {e.start}, not at {at}")
        at = e.stop
    return entries, metadata


def _exactly(stream: BinaryIO, size: int, what: str) -> bytes:
    found = stream.read(size)
    if len(found) != size:
        raise _refuse(f"it ends within {what}")
    return found


def _data(stream: BinaryIO, e: _Entry) -> Tensor:
    buffer, _ = host.empty_array(e.shape, e.dtype)
    place = memoryview(buffer).cast("B")[: e.stop - e.start]
    at = 0
    while at < len(place):
        found = stream.readinto(place[at:]) if hasattr(stream, "readinto") else None  # type: ignore[attr-defined]
        if found is None:
            chunk = stream.read(len(place) - at)
            found = len(chunk)
            place[at : at + found] = chunk
        if not found:
            raise _refuse(f"it ends within the data of '{e.name}'")
        at += found
    if e.dtype is dtypes.bool_ and (np.frombuffer(place, np.uint8) > 1).any():
        raise _refuse(f"'{e.name}' has bool bytes other than 0 and 1")
    return recorder.tensor_from_buffer(buffer, e.shape, e.dtype)


def read(stream: BinaryIO) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, and metadata. Raises ValueError for a malformed file, TypeError for unsupported dtypes."""
    entries, metadata = _header(stream)
    for e in entries:
        host.check_supported("load", e.dtype)
    tensors = {e.name: _data(stream, e) for e in entries}
    if stream.read(1):
        raise _refuse("there are bytes after the last tensor")
    return tensors, metadata
