"""`save` and `load`: objects with tensors, in PyTorch's files and in safetensors, without PyTorch.

In: an object and a path or stream. Out: a file that `torch.load` reads, or a safetensors file; and back from what either wrote.
Nothing that a file says is executed, unless `weights_only=False` asks for it. Next: `zip_format.py`, `reading.py`, `structure.py`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau import replacing, safetensors_format, steady
from flambeau.declarations import Unsampled, declared
from flambeau.device import place
from flambeau.functions.transfer import moved
from flambeau.serialization import legacy_format, pickling, reading, structure, zip_format
from flambeau.serialization.reading import How
from flambeau.serialization.safe_globals import (
    add_safe_globals,
    clear_safe_globals,
    get_safe_globals,
    safe_globals,
)
from flambeau.serialization.sources import FileSource, can_seek, is_regular

DEFAULT_PROTOCOL = 2


@declared(free="flambeau", samples=Unsampled("reads and writes files"))
def save(
    obj: Any,
    f: Any,
    pickle_module: Any = None,
    pickle_protocol: int = DEFAULT_PROTOCOL,
    _use_new_zipfile_serialization: bool = True,
    _disable_byteorder_record: bool = False,
    *,
    format: str | None = None,
) -> None:
    """Write `obj` to a path or a binary stream, as a file that `torch.load` reads too. Tensors that share memory share it again
    when they are loaded.

    `format` is "zip", "legacy" (PyTorch's before 1.6) or "safetensors", which holds tensors, numbers, strings, dicts, lists and
    tuples; by itself it is "safetensors" for a path that ends in `.safetensors`, else "zip".
    A path is replaced whole, when everything is on the disk: whoever reads it, also after a crash, finds the old file or the
    new one. Permissions remain, a link stays a link; a device or pipe is written to.
    Raises TypeError for what cannot be written, ValueError for what is nested too deeply, OSError where the file cannot be
    written; an existing file is then as it was.
    """
    is_stream = hasattr(f, "write")
    path = "" if is_stream else os.fsdecode(f)
    chosen = format or ("safetensors" if path.endswith(".safetensors") else "zip")
    if not _use_new_zipfile_serialization and format is None:
        chosen = "legacy"
    write = _writer(obj, chosen, Path(path).stem or "archive", pickle_protocol)
    if is_stream:
        write(f)
        return
    try:
        _write(path, write)
    except OSError as error:
        told = type(error)(f"[save] cannot write {path}: {error.strerror or error}. The file is as it was.")
        told.errno = error.errno
        raise told from error


def _writer(obj: Any, format: str, name: str, protocol: int) -> Any:
    """What writes `obj` to a stream that is given to it; all that can be wrong with the object has been found."""
    if format == "safetensors":
        tensors, metadata = structure.packed(obj)
        return lambda stream: safetensors_format.write(stream, tensors, metadata)
    if format not in ("zip", "legacy"):
        raise ValueError(f"[save] there is no format '{format}'. Use 'zip', 'legacy' or 'safetensors'.")
    text, storages = pickling.pickled(obj, protocol, (None,) if format == "legacy" else ())
    if format == "zip":
        return lambda stream: zip_format.write(stream, name, text, storages)
    return lambda stream: legacy_format.write(stream, text, storages, protocol)


def _write(path: str, write: Any) -> None:
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as stream:
            write(stream)
        return
    with replacing.replaced_file(path) as partial, steady.opened(partial) as stream:
        write(stream)


@declared(free="flambeau", samples=Unsampled("reads and writes files"))
def load(
    f: Any,
    map_location: Any = None,
    pickle_module: Any = None,
    *,
    weights_only: bool | None = None,
    mmap: bool | None = None,
    encoding: str = "utf-8",
) -> Any:
    """Read what `save` or `torch.save` wrote, in the zip format or the one before it, or any safetensors file (a dict of
    tensors), from a path or a binary stream.

    Tensors lie where `map_location` says: a device, a dict of devices, or a function of a storage and the place that it had; else
    where they lay when they were saved. With `weights_only` (by default) nothing that the file says is executed: it may hold
    tensors, parameters, numbers, text, containers, dtypes, and what `serialization.add_safe_globals` was given; without, it is
    unpickled as Python does, which runs whatever it says: of files that you trust. `mmap` maps a file, so that it is read when
    tensors are; they are copied where they are written. `encoding` is that of
    strings in pickles of Python 2.
    Raises RuntimeError for a device that is not there, ValueError for a malformed file, one of another kind and one that needs
    more than is allowed, TypeError for dtypes that are not supported yet, OSError for a path that cannot be read.
    """
    if isinstance(f, int):  # a descriptor, which would be closed
        raise TypeError(f"[load] argument 'f' must be a path or a binary stream, got {type(f).__name__} {f}. Pass one.")
    how = How(map_location, weights_only is not False, bool(mmap), encoding)
    if hasattr(f, "read"):
        return _read(f, None, how)
    with open(f, "rb") as stream:
        return _read(stream, f, how)


def _read(stream: BinaryIO, path: Any, how: How) -> Any:
    if how.mmap and not (path is not None and is_regular(stream)):
        raise ValueError("[load] mmap needs the path of a file. Pass one, or leave mmap out.")
    if can_seek(stream) and (path is None or is_regular(stream)):
        source = FileSource(stream)
        if source.begins_with(b"PK\3\4") and _is_torch(source):
            return reading.archive(source, how)
        if source.size > 14 and source.read(2, 12) == legacy_format.MAGIC:
            return reading.legacy(source, how)
        stream.seek(source.start)
    return _safetensors(stream, path, how)


def _is_torch(source: FileSource) -> bool:
    """Whether an archive begins as those of `torch.save` do, or has a pickle anywhere."""
    return b"data.pkl" in source.read(0, min(source.size, 4096)) or zip_format.has_pickle(source)


def _safetensors(stream: BinaryIO, path: Any, how: How) -> Any:
    there = place(how.map_location if not callable(how.map_location) else None)
    tensors, metadata = safetensors_format.read(stream, path, how.mmap)
    return structure.unpacked({name: moved(t, there) for name, t in tensors.items()}, metadata)


__all__ = [
    "add_safe_globals",
    "clear_safe_globals",
    "get_safe_globals",
    "load",
    "safe_globals",
    "save",
]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.serialization")
