"""What the names in files of `torch.save` stand for here: the functions that rebuild tensors, storages, containers, dtypes.

In: a module's name and a name in it. Out: a `Named`, which only `Rebuilding.call` calls. Nothing is looked up by import. What a
name is called with is checked: shapes and strides against the storage, and copies of containers against the length of the file.
Next: `storages.py`, of which tensors are views.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flambeau import declarations, host
from flambeau.device import device
from flambeau.dialects import dtypes
from flambeau.dialects.dtypes import DType
from flambeau.nn.parameter import Parameter
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Size, Tensor
from flambeau.serialization.machine import HASHED_APART, MOST_COPIED, MOST_ODD_KEYS, refuse
from flambeau.serialization.safe_globals import allowed, is_allowed
from flambeau.serialization.storages import MOST_DIMENSIONS, Storage, Typed, view


def declared_function(namespace: str, name: str) -> Any:
    """A function that a module keeps, such as its activation: it comes back by its name, and is called by nobody here."""
    found = declarations._found(namespace, name)
    if not isinstance(found, recorder.Function):
        raise KeyError(name)
    return found


@dataclass(frozen=True)
class Named:
    """A function that a pickle may call, under the name that it has in files."""

    module: str
    name: str
    call: Callable[..., Any]


@dataclass(frozen=True)
class StorageType:
    """A class of storages: `torch.FloatStorage`; None of bytes that have no dtype."""

    dtype: DType | None


_BY_STORAGE = {f"{d.tensor}Storage": StorageType(d) for d in dtypes.ALL if d.tensor and d.has_classes}


class Rebuilding:
    """The `World` of a file: `find_storage(key, dtype, count, place)` gives its storages."""

    def __init__(self, find_storage: Callable[[str, DType, int, str], Storage]) -> None:
        self.find_storage = find_storage
        self.copied = self.odd_keys = 0
        self.names: dict[tuple[str, str], Any] = {**_NAMES, **self._own_names()}

    def _own_names(self) -> dict[tuple[str, str], Any]:
        calls: dict[tuple[str, str], Callable[..., Any]] = {
            ("torch._utils", "_rebuild_tensor"): self.tensor,
            ("torch._utils", "_rebuild_tensor_v2"): self.tensor,
            ("torch._utils", "_rebuild_tensor_v3"): self.tensor_of_bytes,
            ("torch._utils", "_rebuild_parameter"): parameter,
            ("torch._utils", "_rebuild_parameter_with_state"): parameter_with_state,
            ("torch._tensor", "_rebuild_from_type_v2"): self.typed,
            ("torch", "Size"): lambda sizes=(): Size(self.counted(sizes)),
            ("collections", "OrderedDict"): self.ordered,
            ("collections", "Counter"): self.counter,
            ("_codecs", "encode"): self.encoded,
            ("flambeau.declarations", "_found"): declared_function,
        }
        for module in ("builtins", "__builtin__"):
            calls[module, "set"] = lambda given=(): set(self.keys(given))
            calls[module, "frozenset"] = lambda given=(): frozenset(self.keys(given))
            calls[module, "bytearray"] = self.byte_array
            calls[module, "complex"] = lambda real, imag: complex(float(real), float(imag))
            calls[module, "slice"] = slice
        return {key: Named(*key, call) for key, call in calls.items()}

    # ---- what a machine asks for

    def find(self, module: str, name: str) -> Any:
        found = self.names.get((module, name))
        if found is None:
            found = allowed(module, name)
        if found is None:
            refuse(
                f"it names {module}.{name}, which is not among what may be called",
                "Save a state_dict(); or, if you trust whoever wrote it, call flambeau.serialization.add_safe_globals with "
                "it, or load with weights_only=False, which runs whatever the file says.",
            )
        return found

    def call(self, function: Any, arguments: tuple) -> Any:
        if not isinstance(function, Named):
            if not is_allowed(function):
                refuse(f"it calls a {type(function).__name__}")
            return function(*arguments)
        try:
            return function.call(*arguments)
        except (TypeError, ValueError, OverflowError, AttributeError, KeyError) as error:
            if str(error).startswith("[load]"):
                raise
            return refuse(f"it calls {function.module}.{function.name} with what that does not take")

    def create(self, cls: Any, arguments: tuple) -> Any:
        if isinstance(cls, type) and is_allowed(cls):
            return cls.__new__(cls, *arguments)
        return self.call(cls, arguments)

    def build(self, made: Any, state: Any) -> None:
        if type(made) is OrderedDict and type(state) is dict and all(name == "_metadata" for name in state):
            vars(made).update(state)
        elif is_allowed(type(made)):
            _set_state(made, state)
        else:
            refuse(f"it gives a {type(made).__name__} attributes")

    def persistent(self, name: Any) -> Typed:
        if type(name) is not tuple or len(name) not in (5, 6) or name[0] != "storage" or name[5:] not in ((), (None,)):
            refuse("it names a storage in an unknown way")
        _, kind, key, there, count = name[:5]
        if type(kind) is not StorageType or type(key) is not str or type(there) is not str:
            refuse("it names a storage in an unknown way")
        if type(count) is not int or not 0 <= count < 2**60:
            refuse("a storage has no size that memory can have")
        return Typed(self.find_storage(key, kind.dtype or dtypes.uint8, count, there), kind.dtype)

    # ---- containers, each element of which was read once

    def counted(self, given: Any) -> Any:
        if type(given) not in (list, tuple, str, bytes, dict):
            refuse(f"a container is made of a {type(given).__name__}")
        self.copied += len(given)
        if self.copied > MOST_COPIED:
            refuse("it copies containers again and again")
        return given

    def keys(self, given: Any) -> Any:
        if any(type(each) not in (str, int, float, bool, bytes, type(None), DType) for each in self.counted(given)):
            refuse("a set in it has what is neither a number nor text")
        self.odd_keys += sum(type(each) is not str and not _is_small(each) for each in given)
        if self.odd_keys > MOST_ODD_KEYS:
            refuse("it has sets with too many elements that are no strings")
        return given

    def ordered(self, given: Any = ()) -> OrderedDict:
        """Of pairs, as Python 2 wrote it; Python 3 writes an empty one, and then what is in it."""
        if any(type(pair) not in (list, tuple) or len(pair) != 2 for pair in self.counted(given)):
            refuse("an OrderedDict in it is not made of pairs")
        return OrderedDict(zip(self.keys([key for key, _ in given]), (value for _, value in given)))

    def counter(self, given: Any = ()) -> Counter:
        return Counter({key: given[key] for key in self.keys(given)} if given else {})

    def encoded(self, text: Any, encoding: Any) -> bytes:
        if type(text) is not str or encoding not in ("latin1", "latin-1"):
            refuse("it encodes what are no bytes")
        return self.counted(text).encode("latin1")

    def byte_array(self, given: Any = b"", encoding: Any = "latin-1") -> bytearray:
        return bytearray(given if type(given) is bytes and self.counted(given) else self.encoded(given or "", encoding))

    # ---- tensors

    def tensor(
        self, storage: Any, offset: Any, sizes: Any, strides: Any, requires_grad: Any = False, *more: Any
    ) -> Any:
        found = self.tensor_of_bytes(storage, offset, sizes, strides, requires_grad, None, None)
        return _resolved(found, more[1]) if len(more) > 1 and more[1] is not None else found

    def tensor_of_bytes(
        self, storage: Any, offset: Any, sizes: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, *more: Any
    ) -> Tensor:
        if type(storage) is not Typed:
            refuse("a tensor has no storage")
        dtype = storage.dtype if dtype is None else dtype
        if type(dtype) is not DType or type(grad) is not bool:
            refuse("a tensor has no dtype, or does not say whether it requires grad")
        host.check_supported("load", dtype)
        for numbers in (sizes, strides, (offset,)):
            if type(numbers) not in (tuple, Size) or any(type(n) is not int or not 0 <= n < 2**62 for n in numbers):
                refuse("a tensor has sizes or strides that are none")
        if len(sizes) != len(strides) or len(sizes) > MOST_DIMENSIONS:
            refuse(f"a tensor has {len(sizes)} sizes and {len(strides)} strides")
        found = view(storage.storage, dtype, offset, tuple(sizes), tuple(strides))
        return _requiring(found, True, Tensor) if grad else found

    def typed(self, function: Any, cls: Any, arguments: Any, state: Any) -> Any:
        """A tensor with attributes, which are dropped."""
        if not isinstance(function, Named) or not isinstance(cls, Named) or type(arguments) is not tuple:
            refuse("a tensor is of an unknown class")
        made = self.call(function, arguments)
        return parameter(made, made.requires_grad) if cls.name == "Parameter" else made


def _resolved(found: Tensor, flags: Any) -> Tensor:
    """A tensor of PyTorch's that waits to be conjugated or negated, as its values are."""
    if type(flags) is not dict or any(
        name not in ("conj", "neg") or type(on) is not bool for name, on in flags.items()
    ):
        refuse("a tensor has flags of an unknown kind")
    made = found.detach().conj() if flags.get("conj") else found  # type: ignore[attr-defined]
    made = -made.detach() if flags.get("neg") else made
    return made if made is found else _requiring(made, found.requires_grad, Tensor)


def _is_small(key: Any) -> bool:
    return type(key) is int and abs(key) < HASHED_APART


def _requiring(data: Any, requires_grad: Any, cls: type) -> Tensor:
    if not isinstance(data, Tensor) or type(requires_grad) is not bool:
        refuse("a parameter has no tensor, or does not say whether it requires grad")
    if requires_grad and not data.dtype.is_inexact:
        refuse(f"a tensor of {data.dtype.name} requires grad")
    data = data.detach()
    if not host.is_whole(data):  # a leaf has a storage of its own
        data = data.clone()  # type: ignore[attr-defined]
    return recorder.make_leaf(data, requires_grad, cls)


def parameter(data: Any, requires_grad: Any = True, hooks: Any = None) -> Tensor:
    return _requiring(data, requires_grad, Parameter)


def parameter_with_state(data: Any, requires_grad: Any, hooks: Any, state: Any) -> Tensor:
    return parameter(data, requires_grad)


def _set_state(made: Any, state: Any) -> None:
    """As pickles do, of a class that the user allowed."""
    if hasattr(made, "__setstate__"):
        made.__setstate__(state)
        return
    slots = state[1] if type(state) is tuple and len(state) == 2 else None
    for part in (state[0], slots) if slots is not None else (state,):
        if part is not None and type(part) is not dict:
            refuse(f"it gives a {type(made).__name__} attributes that have no names")
        for name, value in (part or {}).items():
            object.__setattr__(made, name, value)


def _layout(name: Any) -> Any:
    return name if name == "torch.strided" else refuse("a tensor is not strided")


def _device(name: Any, index: Any = None) -> device:
    if type(name) is not str or len(name) > 20 or not (index is None or type(index) is int):
        refuse("a device has no name")
    try:
        return device(name, index)
    except RuntimeError:
        return refuse(f"it names the device '{name}'")


_NAMES: dict[tuple[str, str], Any] = {
    **{("torch", name): kind for name, kind in _BY_STORAGE.items()},
    **{("torch", name): d for d in dtypes.ALL for name in (d.name, *d.aliases)},
    ("torch.storage", "UntypedStorage"): StorageType(None),
    ("torch", "device"): Named("torch", "device", _device),
    ("torch", "strided"): "torch.strided",
    ("torch.serialization", "_get_layout"): Named("torch.serialization", "_get_layout", _layout),
    ("torch", "Tensor"): Named("torch", "Tensor", lambda *given: refuse("it makes a tensor of nothing")),
    ("torch.nn.parameter", "Parameter"): Named("torch.nn.parameter", "Parameter", parameter),
    ("flambeau.dialects.dtypes", "by_name"): Named(
        "flambeau.dialects.dtypes", "by_name", lambda name: dict((d.name, d) for d in dtypes.ALL)[name]
    ),
}
