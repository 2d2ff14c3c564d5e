"""The pickle in a file of `save`: what PyTorch's would be, written without PyTorch.

In: an object. Out: bytes in which tensors, parameters, dtypes, sizes and devices stand under PyTorch's names, and storages under
keys. Anything else is pickled as Python does. Next: `storages.py`.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from typing import Any

from flambeau.device import device
from flambeau.dialects.dtypes import DType
from flambeau.nn.parameter import Parameter
from flambeau.nn.state import StateDict
from flambeau.runtime.recorder import Size, Tensor
from flambeau.serialization.storages import Keeping, Saved


class _Name:
    """A function of PyTorch's, which is only named."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __call__(self) -> None:
        """What pickles name can be called; this is not."""


_TENSOR = _Name("torch._utils", "_rebuild_tensor_v2")
_TENSOR_OF_BYTES = _Name("torch._utils", "_rebuild_tensor_v3")
_BYTES = _Name("torch.storage", "UntypedStorage")
_PARAMETER = _Name("torch._utils", "_rebuild_parameter")
_SIZE, _DEVICE = _Name("torch", "Size"), _Name("torch", "device")
_names: dict[str, _Name] = {}


def _torch(name: str) -> _Name:
    return _names.setdefault(name, _Name("torch", name))


_InPython: Any = pickle._Pickler  # type: ignore[attr-defined]  # C's looks for what it names


class _StatePickler(_InPython):
    def __init__(self, file: io.BytesIO, protocol: int, more: tuple) -> None:
        super().__init__(file, protocol)
        self.keeping, self.more = Keeping(), more

    def persistent_id(self, obj: Any) -> tuple | None:
        if type(obj) is not Saved:
            return None
        kind, count = _torch(f"{obj.dtype.tensor}Storage"), obj.array.size
        if not obj.dtype.has_classes:
            kind, count = _BYTES, obj.array.nbytes
        return ("storage", kind, obj.key, obj.place, count, *self.more)

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Tensor):
            return self._tensor(obj)
        if type(obj) in (_Name, DType):
            return obj.name
        if type(obj) is StateDict:
            return OrderedDict, (), vars(obj) or None, None, iter(obj.items())
        if type(obj) is Size:
            return _SIZE, (tuple(map(int, obj)),)
        if type(obj) is device:
            return _DEVICE, (obj.type,) if obj.index is None else (obj.type, obj.index)
        return NotImplemented

    def _tensor(self, t: Tensor) -> tuple:
        if not t.is_leaf:
            t = t.detach().requires_grad_(t.requires_grad)
        saved, offset, strides = self.keeping.of(t)
        grad = t.requires_grad and type(t) is Tensor
        arguments: tuple = (saved, offset, tuple(map(int, t.shape)), strides, grad, OrderedDict())
        rebuild = _TENSOR
        if not t.dtype.has_classes:
            rebuild, arguments = _TENSOR_OF_BYTES, (*arguments, t.dtype)
        if not isinstance(t, Parameter):
            return rebuild, arguments
        return _PARAMETER, (_Data(rebuild, arguments), t.requires_grad, OrderedDict())

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if type(obj) not in (_Name, DType):
            super().save_global(obj, name)
            return
        module = obj.module if type(obj) is _Name else "torch"
        self.write(pickle.GLOBAL + f"{module}\n{obj.name}\n".encode())
        self.memoize(obj)


class _Data:
    """The tensor below a parameter."""

    def __init__(self, rebuild: _Name, arguments: tuple) -> None:
        self.rebuild, self.arguments = rebuild, arguments

    def __reduce__(self) -> Any:
        return self.rebuild, self.arguments


def pickled(obj: Any, protocol: int, more: tuple = ()) -> tuple[bytes, list[Saved]]:
    """The pickle, and the storages; `more` ends the name of each storage. Raises ValueError for what is nested too deeply, and what
    `pickle` raises for what it cannot write."""
    stream = io.BytesIO()
    pickler = _StatePickler(stream, protocol, more)
    try:
        pickler.dump(obj)
    except RecursionError:
        raise ValueError("[save] the object is nested too deeply, or contains itself. Save less of it.") from None
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise _told(error) from None
    return stream.getvalue(), pickler.keeping.storages


def _told(error: Exception) -> Exception:
    """What pickle raises for objects without a name, in the house's form."""
    if str(error).startswith("["):
        return error
    return pickle.PicklingError(f"[save] {error}. Save a state_dict(), or objects that pickle can write.")


def plain(value: Any, protocol: int) -> bytes:
    """The pickle of numbers and text."""
    return pickle.dumps(value, protocol)
