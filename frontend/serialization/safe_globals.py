"""Functions and classes of users that `load` may call with `weights_only=True`.

In: callables, as `add_safe_globals` was given them. Out: `allowed`, by module and name. Next: `rebuilding.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_Given = Callable | tuple[Callable, str]

_added: dict[tuple[str, str], Callable] = {}


def _named(given: _Given) -> tuple[tuple[str, str], Callable]:
    function, name = given if isinstance(given, tuple) else (given, "")
    if not callable(function):
        raise TypeError(f"[add_safe_globals] {function!r} cannot be called. Pass classes and functions.")
    path = name or f"{function.__module__}.{function.__qualname__}"
    module, _, last = path.rpartition(".")
    return (module, last), function


def add_safe_globals(safe_globals: list[_Given]) -> None:
    """Let `load(..., weights_only=True)` call these classes and functions, each given as it is or as (it, "module.name").

    Whoever wrote the file says what they are called with: add nothing that does harm. Raises TypeError for what cannot be called.
    """
    _added.update(map(_named, safe_globals))


def get_safe_globals() -> list[_Given]:
    """What was added."""
    return list(_added.values())


def clear_safe_globals() -> None:
    """Let `load` call nothing of users any more."""
    _added.clear()


class safe_globals:
    """`with safe_globals([Config]): load(path)` adds them for the block."""

    def __init__(self, safe_globals: list[_Given]) -> None:
        self._given = safe_globals

    def __enter__(self) -> None:
        self._before = dict(_added)
        add_safe_globals(self._given)

    def __exit__(self, *exception: object) -> None:
        _added.clear()
        _added.update(self._before)


def allowed(module: str, name: str) -> Any:
    """What was added under a name, or None."""
    return _added.get((module, name))


def is_allowed(function: Any) -> bool:
    """Whether a callable was added."""
    return any(function is each for each in _added.values())
