"""Nested dicts, lists and tuples of tensors, numbers and strings in safetensors files, which other readers open too.

In: an object. Out: tensors by name, and what is not a tensor as JSON in the file's metadata; and back. Next:
`safetensors_format.py`.
"""

from __future__ import annotations

import json
from typing import Any

from flambeau import host
from flambeau.dialects import dtypes
from flambeau.dialects.dtypes import DType
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor

_STRUCTURE = "flambeau.structure"
_PLAIN = (bool, int, float, str)


class TensorPacker:
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


def packed(obj: Any) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name and the metadata of a file. Raises TypeError for what is not tensors, numbers, strings, dicts, lists or
    tuples, ValueError for what is nested too deeply."""
    packer = TensorPacker()
    try:
        structure = json.dumps(packer.tree(dict(obj) if isinstance(obj, dict) else obj))
    except RecursionError:
        raise ValueError("[save] the object is nested too deeply, or contains itself. Save less of it.") from None
    except ValueError as error:
        raise ValueError(f"[save] a number cannot be written: {error}. Save it as a string.") from None
    return packer.tensors, {"format": "pt", _STRUCTURE: structure}


def unpacked(tensors: dict[str, Tensor], metadata: dict[str, str]) -> Any:
    """What was packed; the tensors by name of a file that was written by others. Raises ValueError for malformed metadata."""
    if _STRUCTURE not in metadata:
        return tensors
    try:
        return _unpack(json.loads(metadata[_STRUCTURE], object_pairs_hook=_single), tensors)
    except (ValueError, RecursionError):
        raise _malformed() from None


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


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Objects of the structure have one member each."""
    if len(pairs) != 1:
        raise _malformed()
    return dict(pairs)
