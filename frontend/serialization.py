"""`save` and `load`: state dicts and nested dicts of them, as safetensors files.

In: dicts, lists and tuples of tensors, numbers and strings. Out: a file that other safetensors readers open too; what is
not a tensor stands in its metadata as JSON. Nothing in a file is ever executed. Next: `safetensors_format.py`.
"""

from __future__ import annotations

import json
import os
from typing import Any

from flambeau import host, replacing, safetensors_format
from flambeau.declarations import Unsampled, declared
from flambeau.dialects import dtypes
from flambeau.dialects.dtypes import DType
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor

_STRUCTURE = "flambeau.structure"
_PLAIN = (bool, int, float, str)


class _Packer:
    """Takes the tensors out of a nested object; `tree` of it is JSON."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[tuple, list[str]] = {}

    def tensor(self, t: Tensor, path: str) -> str:
        """The name under which `t` is stored: that of the same storage if it was stored before.

        A clone may lie in the memory of what it was cloned from until one of them is written, and is none the less another.
        """
        key = (recorder.realize(t).address, t.shape, t.dtype) if host.is_whole(t) and 0 not in t.shape else (path,)
        known = self._names.setdefault(key, [])
        for name in known:
            if recorder.same_storage(self.tensors[name], t):
                return name
        name = path
        while name in self.tensors or name == "__metadata__":
            name += "~"
        self.tensors[name] = t.detach()
        known.append(name)
        return name

    def tree(self, obj: Any, path: str = "") -> Any:
        inner = f"{path}." if path else ""
        if isinstance(obj, Tensor):
            return {"tensor": self.tensor(obj, path or "tensor")}
        if obj is None or isinstance(obj, _PLAIN):
            return {"value": obj}
        if isinstance(obj, DType):
            return {"dtype": obj.name}
        if isinstance(obj, dict):
            for key in obj:
                if not (key is None or isinstance(key, _PLAIN)):
                    raise TypeError(
                        f"[save] the dict at '{path}' has a key of type {type(key).__name__}. Use strings or numbers."
                    )
            return {"dict": [[key, self.tree(value, f"{inner}{key}")] for key, value in obj.items()]}
        if isinstance(obj, (list, tuple)):
            kind = "list" if isinstance(obj, list) else "tuple"
            return {kind: [self.tree(value, f"{inner}{i}") for i, value in enumerate(obj)]}
        raise TypeError(
            f"[save] there is a {type(obj).__name__} at '{path}'. Save tensors, numbers, strings and dicts, lists and "
            "tuples of them; of a module, save its state_dict()."
        )


@declared(free="flambeau", samples=Unsampled("reads and writes files"))
def save(obj: Any, f: Any) -> None:
    """Write `obj` to a path or a binary stream.

    A path is replaced whole, when everything is on the disk: whoever reads it, also after a crash, finds the old file or the
    new one. Permissions remain, a link stays a link; a device or pipe is written to.
    Raises TypeError for what is not tensors, numbers, strings, dicts, lists or tuples, ValueError for what is nested too
    deeply, OSError where the file cannot be written; an existing file is then as it was.
    """
    packer = _Packer()
    try:
        structure = json.dumps(packer.tree(dict(obj) if isinstance(obj, dict) else obj))
    except RecursionError:
        raise ValueError("[save] the object is nested too deeply, or contains itself. Save less of it.") from None
    except ValueError as error:
        raise ValueError(f"[save] a number cannot be written: {error}. Save it as a string.") from None
    metadata = {"format": "pt", _STRUCTURE: structure}
    if hasattr(f, "write"):
        safetensors_format.write(f, packer.tensors, metadata)
        return
    path = os.fsdecode(f)
    try:
        _write(path, packer.tensors, metadata)
    except OSError as error:
        told = type(error)(f"[save] cannot write {path}: {error.strerror or error}. The file is as it was.")
        told.errno = error.errno
        raise told from error


def _write(path: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as stream:
            safetensors_format.write(stream, tensors, metadata)
        return
    with replacing.replaced_file(path) as partial:
        safetensors_format.write(partial, tensors, metadata)


def _malformed() -> ValueError:
    return ValueError("[load] the structure in the file's metadata is malformed. Check who wrote the file.")


def _unpack(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(tree, dict) or len(tree) != 1:
        raise _malformed()
    ((kind, value),) = tree.items()
    if kind == "tensor" and isinstance(value, str) and value in tensors:
        return tensors[value]
    if kind == "value" and (value is None or isinstance(value, _PLAIN)):
        return value
    if kind == "dtype" and isinstance(value, str) and value in {d.name for d in dtypes.ALL}:
        return dtypes.by_name(value)
    if kind == "dict" and isinstance(value, list):
        return _unpack_dict(value, tensors)
    if kind in ("list", "tuple") and isinstance(value, list):
        items = [_unpack(item, tensors) for item in value]
        return items if kind == "list" else tuple(items)
    raise _malformed()


def _unpack_dict(pairs: list[Any], tensors: dict[str, Tensor]) -> dict:
    found: dict[Any, Any] = {}
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not (pair[0] is None or isinstance(pair[0], _PLAIN)):
            raise _malformed()
        if pair[0] in found:
            raise _malformed()
        found[pair[0]] = _unpack(pair[1], tensors)
    return found


@declared(free="flambeau", samples=Unsampled("reads and writes files"))
def load(f: Any, map_location: Any = None) -> Any:
    """Read what `save` wrote, or any safetensors file (a dict of tensors), from a path or a binary stream. Tensors lie on the
    device `map_location`, else on the CPU.

    Raises RuntimeError for a device that is not there, ValueError for a malformed file and for one of another kind, TypeError
    for dtypes that are not supported yet, OSError for a path that cannot be read.
    """
    from flambeau.device import place
    from flambeau.functions.transfer import moved

    there = place(map_location)
    if isinstance(f, int):  # a descriptor, which would be closed
        raise TypeError(f"[load] argument 'f' must be a path or a binary stream, got {type(f).__name__} {f}. Pass one.")
    if hasattr(f, "read"):
        tensors, metadata = safetensors_format.read(f)
    else:
        with open(f, "rb") as stream:
            tensors, metadata = safetensors_format.read(stream, f)
    tensors = {name: moved(t, there) for name, t in tensors.items()}
    if _STRUCTURE not in metadata:
        return tensors
    try:
        return _unpack(json.loads(metadata[_STRUCTURE], object_pairs_hook=_single), tensors)
    except (ValueError, RecursionError):
        raise _malformed() from None


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Objects of the structure have one member each."""
    if len(pairs) != 1:
        raise _malformed()
    return dict(pairs)
