"""`save` and `load`: state dicts and nested dicts of them, as safetensors files.

In: dicts, lists and tuples of tensors, numbers and strings. Out: a file that other safetensors readers open too; what is
not a tensor stands in its metadata as JSON. Nothing in a file is ever executed. Next: `safetensors_format.py`.
"""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any

from flambeau import host, safetensors_format
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
        self._names: dict[tuple, str] = {}

    def tensor(self, t: Tensor, path: str) -> str:
        """The name under which `t` is stored: that of the same memory if it was stored before."""
        key = (recorder.realize(t).address, t.shape, t.dtype) if host.is_whole(t) and 0 not in t.shape else (path,)
        if key not in self._names:
            name = path
            while name in self.tensors or name == "__metadata__":
                name += "~"
            self.tensors[name] = t.detach()
            self._names[key] = name
        return self._names[key]

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


def _is_flat(obj: Any, packer: _Packer) -> bool:
    """Whether names and tensors say it all."""
    return type(obj) is dict and list(obj) == list(packer.tensors) and all(isinstance(v, Tensor) for v in obj.values())


def save(obj: Any, f: Any) -> None:
    """Write `obj` to a path or a binary stream. A path is replaced only when everything has been written.

    Raises TypeError for what is not tensors, numbers, strings, dicts, lists or tuples.
    """
    packer = _Packer()
    tree = packer.tree(dict(obj) if isinstance(obj, dict) else obj)
    flat = _is_flat(dict(obj) if isinstance(obj, dict) else obj, packer)
    metadata = {"format": "pt"} if flat else {"format": "pt", _STRUCTURE: json.dumps(tree)}
    if hasattr(f, "write"):
        safetensors_format.write(f, packer.tensors, metadata)
        return
    path = os.fspath(f)
    handle, partial = tempfile.mkstemp(dir=os.path.dirname(os.path.abspath(path)), prefix=os.path.basename(path) + ".")
    try:
        with os.fdopen(handle, "wb") as stream:
            safetensors_format.write(stream, packer.tensors, metadata)
        os.chmod(partial, 0o666 & ~_umask())
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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
    if kind == "dtype" and value in {d.name for d in dtypes.ALL}:
        return dtypes.by_name(value)
    if kind == "dict" and isinstance(value, list) and all(isinstance(p, list) and len(p) == 2 for p in value):
        return {key: _unpack(item, tensors) for key, item in value}
    if kind in ("list", "tuple") and isinstance(value, list):
        items = [_unpack(item, tensors) for item in value]
        return items if kind == "list" else tuple(items)
    raise _malformed()


def load(f: Any, map_location: Any = None) -> Any:
    """Read what `save` wrote, or any safetensors file (a dict of tensors), from a path or a binary stream.

    Raises ValueError for a malformed file, TypeError for dtypes that are not supported yet.
    """
    from flambeau.device import check_device

    check_device(map_location)
    if hasattr(f, "read"):
        tensors, metadata = safetensors_format.read(f)
    else:
        with open(f, "rb") as stream:
            tensors, metadata = safetensors_format.read(stream)
    if _STRUCTURE not in metadata:
        return tensors
    try:
        tree = json.loads(metadata[_STRUCTURE])
    except (json.JSONDecodeError, RecursionError):
        raise _malformed() from None
    return _unpack(tree, tensors)
