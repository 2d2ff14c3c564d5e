"""Containers: Sequential, ModuleList, ModuleDict.

In: modules. Out: modules whose children are named by position or key. Next: `linear.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flambeau.nn.members import MODULE
from flambeau.nn.module import Module


class _Indexed(Module):
    """Children named "0", "1", ..."""

    def _names(self) -> list[str]:
        return [name for name, kind in self._members.items() if kind == MODULE]

    def _resolve(self, index: int) -> str:
        if not -len(self) <= index < len(self):
            raise IndexError(f"[{type(self).__name__}] index {index} is out of range for {len(self)} modules.")
        return str(index % len(self))

    def __len__(self) -> int:
        return len(self._names())

    def __iter__(self) -> Iterator[Module]:
        return iter([self.__dict__[name] for name in self._names()])

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self._of(list(self)[index])
        return list(self)[int(self._resolve(index))]

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._names()[int(self._resolve(index))], module)

    def __delitem__(self, index: int | slice) -> None:
        kept = list(self)
        del kept[index]
        self._refill(kept)

    def _refill(self, modules: Iterable[Module]) -> None:
        for name in self._names():
            delattr(self, name)
        for i, module in enumerate(modules):
            self.register_module(str(i), module)

    def _of(self, modules: list[Module]) -> Module:
        raise NotImplementedError

    def append(self, module: Module) -> Any:
        """Add a module at the end."""
        self.register_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add modules at the end."""
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Add a module before position `index`."""
        modules = list(self)
        modules.insert(index, module)
        self._refill(modules)
        return self

    def pop(self, index: int = -1) -> Module:
        """Take out and return the module at `index`."""
        module = self[index]
        del self[index]
        return module

    def __contains__(self, module: object) -> bool:
        return any(m is module for m in self)


class Sequential(_Indexed):
    """Runs modules one after the other: `Sequential(a, b)(x) == b(a(x))`. Also takes one dict of names and modules."""

    def __init__(self, *args: Any) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            for name, module in args[0].items():
                self.register_module(name, module)
        else:
            for i, module in enumerate(args):
                self.register_module(str(i), module)

    def _of(self, modules: list[Module]) -> Module:
        return type(self)(*modules)

    def forward(self, input: Any) -> Any:
        attributes = self.__dict__
        for name, kind in self._members.items():
            if kind == MODULE:
                input = attributes[name](input)
        return input


class ModuleList(_Indexed):
    """A list of modules whose parameters are found. It has no forward."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        if modules is not None:  # a subclass's own `extend` is not called for nothing
            self.extend(modules)

    def _of(self, modules: list[Module]) -> Module:
        return type(self)(modules)

    def __iadd__(self, modules: Iterable[Module]) -> ModuleList:
        return self.extend(modules)

    def __repr__(self) -> str:
        if not len(self):
            return f"{self._get_name()}()"
        lines: list[str] = []
        runs: list[tuple[int, int, str]] = []
        for i, text in enumerate(map(repr, self)):
            if runs and runs[-1][2] == text:
                runs[-1] = (runs[-1][0], i, text)
            else:
                runs.append((i, i, text))
        for first, last, text in runs:
            label = f"({first}): " if first == last else f"({first}-{last}): {last - first + 1} x "
            lines.append(label + text.replace("\n", "\n  "))
        return "\n  ".join([f"{self._get_name()}(", *lines]) + "\n)"


class ModuleDict(Module):
    """A dict of modules whose parameters are found. It has no forward."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        if modules is not None:  # a subclass's own `update` is not called for nothing
            self.update(modules)

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.register_module(key, module)

    def __delitem__(self, key: str) -> None:
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._members))

    def __contains__(self, key: object) -> bool:
        return key in self._members

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._modules.keys()

    def values(self) -> Iterable[Any]:
        """The modules."""
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Any]]:
        """(name, module) pairs."""
        return self._modules.items()

    def pop(self, key: str) -> Module:
        """Take out and return the module called `key`."""
        module = self[key]
        del self[key]
        return module

    def clear(self) -> None:
        """Take out all modules."""
        for key in list(self._members):
            del self[key]

    def update(self, modules: Mapping[str, Module] | ModuleDict | Iterable[tuple[str, Module]]) -> None:
        """Add or replace modules: of a dict, of a `ModuleDict`, or of pairs. Raises TypeError for others, ValueError for pairs of
        another length."""
        if not isinstance(modules, Iterable):
            raise TypeError(f"[ModuleDict] it is given a {type(modules).__name__}. Pass a dict, or pairs.")
        pairs: Iterable[Any] = modules.items() if isinstance(modules, Mapping | ModuleDict) else modules
        for pair in pairs:
            if not isinstance(pair, Iterable):
                raise TypeError(f"[ModuleDict] an item is a {type(pair).__name__}. Pass pairs of a key and a module.")
            key, *rest = pair
            if len(rest) != 1:
                raise ValueError(f"[ModuleDict] an item has {1 + len(rest)} parts. Pass pairs of a key and a module.")
            self[key] = rest[0]
