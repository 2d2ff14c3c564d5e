"""Reading a file of `torch.save`, or of ours in these formats.

In: a `FileSource`, and what `load` was given. Out: the object. With `weights_only` a `Machine` runs the pickle; without it Python's
does, which runs whatever the file says. Next: `machine.py`.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from typing import Any

from flambeau.dialects.dtypes import DType
from flambeau.serialization import legacy_format
from flambeau.serialization.machine import Machine, UnpicklingError
from flambeau.serialization.places import mover
from flambeau.serialization.rebuilding import Named, Rebuilding
from flambeau.serialization.sources import FileSource
from flambeau.serialization.storages import Storage
from flambeau.serialization.zip_format import Archive


@dataclass(frozen=True)
class How:
    """What `load` was asked for."""

    map_location: Any = None
    weights_only: bool = True
    mmap: bool = False
    encoding: str = "utf-8"


def archive(source: FileSource, how: How) -> Any:
    """The object of a zip archive."""
    found = Archive(source)
    found.check_apart()
    return _object(found.read("data.pkl"), 0, found, how)


def legacy(source: FileSource, how: How) -> Any:
    """The object of a file of pickles."""
    if how.mmap:
        raise RuntimeError("[load] only files of the zip format can be mapped. Leave mmap out, or save the file again.")
    found = legacy_format.Pickles(source, how.encoding)
    return _object(found.text, found.begin, found, how)


def _object(text: bytes, at: int, found: Archive | legacy_format.Pickles, how: How) -> Any:
    known: dict[str, Storage] = {}
    move = mover(how.map_location)

    def storage(key: str, dtype: DType, count: int, there: str) -> Storage:
        if key not in known:
            known[key] = found.storage(key, dtype, count, how.mmap)
            move(known[key], there)
        return known[key]

    world = Rebuilding(storage)
    if how.weights_only:
        return Machine(text, world, at, how.encoding).run()
    try:
        return _Trusting(io.BytesIO(text[at:]), world, how.encoding).load()
    except UnpicklingError:
        raise
    except (pickle.UnpicklingError, EOFError) as error:
        raise UnpicklingError(f"[load] the pickle cannot be read: {error}. Check who wrote the file.") from None


class _Trusting(pickle.Unpickler):
    """Python's own, for which PyTorch's names mean what they mean here."""

    def __init__(self, stream: io.BytesIO, world: Rebuilding, encoding: str) -> None:
        super().__init__(stream, encoding=encoding)
        self.world = world

    def find_class(self, module: str, name: str) -> Any:
        own = self.world.names.get((module, name))
        if own is not None and module.startswith("torch"):
            return own.call if isinstance(own, Named) else own
        if module.partition(".")[0] == "torch":
            raise UnpicklingError(
                f"[load] the file has a {module}.{name}, whose inside is PyTorch's. Save its state_dict() instead."
            )
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        return self.world.persistent(pid)
