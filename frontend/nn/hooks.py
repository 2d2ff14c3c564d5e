"""Hooks of modules and optimizers: where they are kept, the handles that remove them, and those of all modules.

In: `register_*_hook` calls. Out: tables, which `calling.py` reads. The names that begin with `register_module_` are of
`flambeau.nn.modules.module`. Next: `calling.py`.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from typing import Any

from flambeau.runtime.recorder import Context

_ids = count()


def _nobody() -> None:
    """The owner of a handle that has outlived it."""


class RemovableHandle(Context):
    """Adds `entry` to the table `owner.<table>` (made when empty); `remove()`, or leaving a `with`, takes it out."""

    def __init__(self, owner: Any, table: str, entry: Any, prepend: bool = False) -> None:
        self.id = next(_ids)
        self._owner: Callable[[], Any] = weakref.ref(owner)
        self._table = table
        hooks = getattr(owner, table) or {}
        added = {self.id: entry}
        setattr(owner, table, {**added, **hooks} if prepend else {**hooks, **added})

    def remove(self) -> None:
        """Take the hook out; a second call does nothing."""
        owner = self._owner()
        if owner is None:
            return
        hooks = {k: v for k, v in (getattr(owner, self._table) or {}).items() if k != self.id}
        setattr(owner, self._table, hooks or None)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_owner": self._owner()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy is the handle of the copied owner."""
        global _ids
        vars(self).update(state)
        owner = state["_owner"]
        self._owner = _nobody if owner is None else weakref.ref(owner)
        _ids = count(max(next(_ids), self.id + 1))  # numbers of another process

    def enter(self) -> RemovableHandle:
        return self

    def leave(self) -> None:
        self.remove()


class HookHandle(RemovableHandle):
    """Adds a hook to a table, and its number to each of `marks`; `remove()`, or leaving a `with`, takes all out."""

    def __init__(self, table: OrderedDict[int, Any], hook: Any, *marks: set[int], prepend: bool = False) -> None:
        self.id = next(_ids)
        self._owner = weakref.ref(table)
        self._marks = marks
        table[self.id] = hook
        for mark in marks:
            mark.add(self.id)
        if prepend:
            table.move_to_end(self.id, last=False)

    def remove(self) -> None:
        """Take the hook out; a second call does nothing."""
        table = self._owner()
        if table is not None:
            table.pop(self.id, None)
        for mark in self._marks:
            mark.discard(self.id)


class ModuleHooks:
    """The hooks of one module, or of all: tables of number and hook, and the numbers of those that are called in another way."""

    def __init__(self) -> None:
        self.forward: OrderedDict[int, Any] = OrderedDict()
        self.forward_pre: OrderedDict[int, Any] = OrderedDict()
        self.backward: OrderedDict[int, Any] = OrderedDict()
        self.backward_pre: OrderedDict[int, Any] = OrderedDict()
        self.forward_with_kwargs: set[int] = set()
        self.forward_pre_with_kwargs: set[int] = set()
        self.always_called: set[int] = set()
        self.is_full: bool | None = None  # whether backward hooks are full ones; None before the first

    def add_backward(self, op: str, hook: Any, is_full: bool, prepend: bool = False) -> RemovableHandle:
        """Add a full backward hook, or one of the old kind. Raises RuntimeError where there are hooks of the other kind."""
        if self.is_full is not None and self.is_full is not is_full:
            raise RuntimeError(
                f"[{op}] there are backward hooks of the other kind. Use register_full_backward_hook for all."
            )
        self.is_full = is_full
        return HookHandle(self.backward, hook, prepend=prepend)


class Registrations:
    """What is called when a parameter, buffer or submodule is registered with any module."""

    def __init__(self) -> None:
        self.parameter: OrderedDict[int, Any] = OrderedDict()
        self.buffer: OrderedDict[int, Any] = OrderedDict()
        self.module: OrderedDict[int, Any] = OrderedDict()


GLOBAL = ModuleHooks()
REGISTRATIONS = Registrations()


def _for_all() -> ModuleHooks:
    """The hooks of all modules. From now on no module calls its `forward` without looking at them."""
    from flambeau.nn.calling import Calls  # that module imports this one

    Calls._call_hooks = GLOBAL
    return GLOBAL


def register_module_forward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(module, args)` before the forward of every module; what it returns, unless None, replaces the arguments."""
    return HookHandle(_for_all().forward_pre, hook)


def register_module_forward_hook(hook: Callable[..., Any], *, always_call: bool = False) -> RemovableHandle:
    """Call `hook(module, args, output)` after the forward of every module, also after one that raised with `always_call`."""
    return HookHandle(_for_all().forward, hook, *([GLOBAL.always_called] if always_call else []))


def register_module_full_backward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(module, grad_output)` in every backward, before the gradients of a module are computed."""
    return HookHandle(_for_all().backward_pre, hook)


def register_module_full_backward_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(module, grad_input, grad_output)` in every backward, once the gradients of a module's inputs are known.

    Raises RuntimeError where `register_module_backward_hook` was called before."""
    return _for_all().add_backward("register_module_full_backward_hook", hook, True)


def register_module_backward_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """The old name of `register_module_full_backward_hook`, which does the same here."""
    return _for_all().add_backward("register_module_backward_hook", hook, False)


def register_module_parameter_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(module, name, parameter)` where a parameter is registered; what it returns, unless None, takes its place."""
    return HookHandle(REGISTRATIONS.parameter, hook)


def register_module_buffer_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(module, name, buffer)` where a buffer is registered; what it returns, unless None, takes its place."""
    return HookHandle(REGISTRATIONS.buffer, hook)


def register_module_module_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(module, name, submodule)` where a submodule is registered; what it returns, unless None, takes its place."""
    return HookHandle(REGISTRATIONS.module, hook)
