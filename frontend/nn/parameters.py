"""Containers of parameters: ParameterList, ParameterDict.

In: tensors, which become parameters, and other values, which are kept as they are. Out: modules whose parameters are found by
position or key. Next: `parallel.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flambeau.nn.module import Module
from flambeau.nn.parameter import Parameter
from flambeau.runtime.recorder import Tensor


def _as_parameter(value: Any) -> Any:
    return Parameter(value) if isinstance(value, Tensor) and not isinstance(value, Parameter) else value


def _line(key: Any, value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"  ({key}): Object of type: {type(value).__name__}"
    kind = "Parameter" if isinstance(value, Parameter) else "Tensor"
    size = "x".join(map(str, value.shape))
    where = "" if str(value.device) == "cpu" else f" ({value.device})"
    return f"  ({key}): {kind} containing: [{value.dtype} of size {size}{where}]"


class ParameterList(Module):
    """A list of parameters that are found. Tensors become parameters; anything else is kept, and is no parameter."""

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self._size = 0
        if values is not None:
            self.extend(values)

    def _key(self, index: int) -> str:
        place = index.__index__()
        if not -len(self) <= place < len(self):
            raise IndexError(f"[ParameterList] index {place} is out of range for {len(self)} values.")
        return str(place % len(self))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return getattr(self, self._key(index))

    def __setitem__(self, index: int, value: Any) -> None:
        setattr(self, self._key(index), _as_parameter(value))

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return iter([getattr(self, str(k)) for k in range(len(self))])

    def __iadd__(self, values: Iterable[Any]) -> ParameterList:
        return self.extend(values)

    def __dir__(self) -> list[str]:
        return [key for key in super().__dir__() if not key.isdigit()]

    def append(self, value: Any) -> ParameterList:
        """Add a value at the end."""
        self._size += 1
        self[len(self) - 1] = value
        return self

    def extend(self, values: Iterable[Any]) -> ParameterList:
        """Add values at the end. Raises TypeError for a tensor, and for what is no sequence of values."""
        if isinstance(values, Tensor) or not isinstance(values, Iterable):
            raise TypeError(f"[ParameterList] values are a {type(values).__name__}. Pass a list of them.")
        for value in values:
            self.append(value)
        return self

    def pop(self, index: int = -1) -> Any:
        """Take out and return the value at `index`."""
        values = list(self)
        found = values.pop(int(self._key(index)))
        for k in range(len(self)):
            delattr(self, str(k))
        self._size = 0
        self.extend(values)
        return found

    def extra_repr(self) -> str:
        return "\n".join(_line(k, value) for k, value in enumerate(self))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("[ParameterList] it has no forward. Call a module that uses its parameters.")


class ParameterDict(Module):
    """A dict of parameters that are found, in order of insertion. Tensors become parameters; anything else is kept, and is no
    parameter."""

    def __init__(self, parameters: Any = None) -> None:
        super().__init__()
        self._keys: dict[str, None] = {}
        if parameters is not None:
            self.update(parameters)

    def __getitem__(self, key: str) -> Any:
        if key not in self._keys:
            raise KeyError(key)
        return getattr(self, key)

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(f"[ParameterDict] the key {key!r} is a {type(key).__name__}. Pass a string.")
        if key not in self._keys and hasattr(self, key):
            raise KeyError(f"[ParameterDict] the key {key!r} is an attribute of the module. Choose another one.")
        self._keys[key] = None
        setattr(self, key, _as_parameter(value))

    def __delitem__(self, key: str) -> None:
        del self._keys[key]
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._keys))

    def __reversed__(self) -> Iterator[str]:
        return reversed(list(self._keys))

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __or__(self, other: Any) -> ParameterDict:
        made = self.copy()
        made.update(other)
        return made

    def __ror__(self, other: ParameterDict) -> ParameterDict:
        made = other.copy()
        made.update(self)
        return made

    def __ior__(self, other: Any) -> ParameterDict:
        self.update(other)
        return self

    def copy(self) -> ParameterDict:
        """Another dict of the same parameters."""
        return type(self)(dict(self.items()))

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value called `key`, which becomes `default` if there is none."""
        if key not in self:
            self[key] = default
        return self[key]

    def clear(self) -> None:
        """Take out all values."""
        for key in self:
            del self[key]

    def pop(self, key: str) -> Any:
        """Take out and return the value called `key`."""
        value = self[key]
        del self[key]
        return value

    def popitem(self) -> tuple[str, Any]:
        """Take out and return the last pair of a key and a value."""
        key = next(reversed(self))
        return key, self.pop(key)

    def get(self, key: str, default: Any = None) -> Any:
        """The value called `key`, or `default` if there is none."""
        return getattr(self, key) if key in self else default

    def fromkeys(self, keys: Iterable[str], default: Any = None) -> ParameterDict:
        """A new dict with one value for all keys."""
        return type(self)((key, default) for key in keys)

    def keys(self) -> Iterable[str]:
        """The keys."""
        return self._keys.keys()

    def values(self) -> Iterable[Any]:
        """The values."""
        return [self[key] for key in self]

    def items(self) -> Iterable[tuple[str, Any]]:
        """(key, value) pairs."""
        return [(key, self[key]) for key in self]

    def update(self, parameters: Any) -> None:
        """Add or replace values: of a mapping, in the order of its keys if that is a plain dict, or of pairs. Raises TypeError for
        others, ValueError for pairs of another length."""
        if isinstance(parameters, Mapping | ParameterDict):
            pairs = list(parameters.items())
        elif isinstance(parameters, Iterable) and not isinstance(parameters, Tensor):
            pairs = [tuple(pair) for pair in parameters]
        else:
            raise TypeError(f"[ParameterDict] it is given a {type(parameters).__name__}. Pass a dict, or pairs.")
        for pair in pairs:
            if len(pair) != 2:
                raise ValueError(f"[ParameterDict] an item has {len(pair)} parts. Pass pairs of a key and a value.")
            self[pair[0]] = pair[1]

    def extra_repr(self) -> str:
        return "\n".join(_line(key, value) for key, value in self.items())

    def __call__(self, input: Any) -> Any:
        raise RuntimeError("[ParameterDict] it has no forward. Call a module that uses its parameters.")
