"""The tables of a module's members, as public code reads and changes them: `_parameters`, `_buffers`, `_modules`.

In: a module, whose members are attributes, and the kinds that `_members` remembers. Out: mappings that show them, and through which
they are set and deleted. Next: `tree.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

PARAMETER, BUFFER, TRANSIENT, MODULE = "parameter", "buffer", "buffer (not saved)", "module"
BUFFERS = (BUFFER, TRANSIENT)


class Members(MutableMapping[str, Any]):
    """The members of `module` that are of one of `kinds`, by name, None among them; new ones are of the first kind."""

    def __init__(self, module: Any, *kinds: str) -> None:
        self._module, self._kinds = module, kinds

    def _names(self) -> list[str]:
        return [name for name, kind in self._module._registered().items() if kind in self._kinds]

    def __getitem__(self, name: str) -> Any:
        if self._module._registered().get(name) not in self._kinds:
            raise KeyError(name)
        return self._module.__dict__[name]

    def __setitem__(self, name: str, value: Any) -> None:
        known = self._module._registered().get(name)
        self._module._register(name, value, known if known in self._kinds else self._kinds[0])

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        object.__delattr__(self._module, name)
        del self._module._registered()[name]

    def __contains__(self, name: object) -> bool:
        return self._module._registered().get(name) in self._kinds

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __repr__(self) -> str:
        return repr(dict(self))

    def copy(self) -> dict[str, Any]:
        """The members in a dict of its own."""
        return dict(self)


class Table:
    """The attribute of modules that shows their members of some kinds, and that a mapping can be assigned to."""

    def __init__(self, *kinds: str) -> None:
        self._kinds = kinds

    def __get__(self, module: Any, owner: type) -> Any:
        return self if module is None else Members(module, *self._kinds)

    def __set__(self, module: Any, values: Any) -> None:
        given, mine = dict(values), Members(module, *self._kinds)
        mine.clear()
        mine.update(given)


class TransientNames:
    """The attribute `_non_persistent_buffers_set`: the names of the buffers that state dicts leave out."""

    def __get__(self, module: Any, owner: type) -> Any:
        return self if module is None else _Transient(module)


class _Transient(set[Any]):
    """Such names; adding and taking one away says it of the buffer."""

    def __init__(self, module: Any) -> None:
        super().__init__(name for name, kind in module._registered().items() if kind == TRANSIENT)
        self._kinds = module._registered()

    def add(self, name: Any) -> None:
        super().add(name)
        self._kinds[name] = TRANSIENT

    def discard(self, name: Any) -> None:
        super().discard(name)
        if self._kinds.get(name) == TRANSIENT:
            self._kinds[name] = BUFFER
