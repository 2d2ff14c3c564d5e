"""What is said of a name that is not there: whether PyTorch has it, and where to look.

In: `torch_names.txt` (facts, written by `tools/torch_names.py`). Out: AttributeErrors. Modules call `error` from their
`__getattr__`. A tensor's attributes are found without any hook of ours, which would slow down all of them: each method that
PyTorch's tensors have and ours have not is a descriptor that raises.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any

#: What to use instead, where that is not a name that is like it.
_INSTEAD = {
    "clip_grad_norm": "Use clip_grad_norm_.",
}


@cache
def _torch_names() -> dict[str, frozenset[str]]:
    """Owner -> names, of PyTorch's modules under our names and of its classes."""
    with open(os.path.join(os.path.dirname(__file__), "torch_names.txt"), encoding="ascii") as file:
        lines = (line.partition(":") for line in file)
        return {owner: frozenset(names.split()) for owner, _, names in lines}


def knows(owner: str) -> bool:
    """Whether it is known what PyTorch has under a name of ours."""
    return owner in _torch_names()


def has(owner: str, name: str) -> bool:
    """Whether PyTorch has a name under one of ours."""
    return name in _torch_names()[owner]


def names(owner: str) -> frozenset[str]:
    """The names that PyTorch has under one of ours."""
    return _torch_names()[owner]


def text(owner: str, name: str, called: str = "", there: Any = ()) -> str:
    """What is said of a name that `owner` (a module's name, "Tensor", "Module") has not; users see the owner as `called`, and
    `there` are the names that it has."""
    called = called or owner
    if name in _torch_names().get(owner, ()):
        hint = _INSTEAD.get(name) or "docs/differences.md says what is missing and what to use."
        return f"[{called}] PyTorch has '{name}', Flambeau does not have it yet. {hint}"
    import difflib

    near = difflib.get_close_matches(name, there, 1, 0.75)
    hint = f"Did you mean '{near[0]}'?" if near else f"dir() lists the names that {called} has."
    return f"[{called}] there is no '{name}', nor has PyTorch one. {hint}"


def error(owner: str, name: str, obj: Any = None, called: str = "") -> AttributeError:
    """The AttributeError of a missing attribute. Protocols that ask for names with two underscores get a plain one."""
    if name.startswith("__"):
        return AttributeError(f"{called or owner} has no attribute '{name}'", name=name, obj=obj)
    there = () if obj is None else dir(obj)
    return AttributeError(text(owner, name, called, there), name=name, obj=obj)


def module_getattr(module: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module all of whose names are there."""

    def __getattr__(name: str) -> Any:
        import sys

        raise error(module, name, sys.modules.get(module))

    return __getattr__


class Missing:
    """An attribute that is not there: looking at it raises AttributeError, so that `hasattr` says no; instances may set it."""

    def __init__(self, owner: str, name: str) -> None:
        self.owner, self.name = owner, name

    def __get__(self, obj: Any, cls: type) -> Any:
        raise error(self.owner, self.name, obj)


def install(cls: type, owner: str) -> None:
    """Give a class of C's a `Missing` for every name that PyTorch's has and it has not; `dir` of its instances leaves them out."""
    names = _torch_names()[owner] - set(dir(cls))
    for name in names:
        setattr(cls, name, Missing(owner, name))
    setattr(cls, "__dir__", lambda self: sorted(n for n in object.__dir__(self) if n not in names))  # noqa: B010
