"""State dicts of modules: collecting them, and loading them all or nothing.

In: a module; a dict of names and tensors. Out: the same; a report of what does not fit. Each module saves and loads its own part
(`_save_to_state_dict`, `_load_from_state_dict`), which subclasses override. Copies wait until everything fits, but for modules that
load in a way of their own or have hooks that look at what was loaded. Next: `flambeau.serialization`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from flambeau.autograd import no_grad
from flambeau.functions.from_data import as_tensor
from flambeau.nn.hooks import HookHandle, RemovableHandle
from flambeau.nn.members import BUFFER, PARAMETER
from flambeau.nn.parameter import Parameter
from flambeau.nn.tree import Tree
from flambeau.runtime.recorder import Tensor

_EXTRA = "_extra_state"
_loading = threading.local()  # pending: the copies to be made once everything fits


class IncompatibleKeys(NamedTuple):
    """Names that the module has and the state dict lacks, and the other way round."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class StateDict(OrderedDict[str, Any]):
    """Names and tensors; `_metadata` has the version of each module's part."""

    _metadata: dict[str, Any]


class _HookTable:
    """An attribute of modules: a table of hooks, made when it is first asked for."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, module: Any, owner: type) -> Any:
        return self if module is None else module.__dict__.setdefault(self._name, OrderedDict())

    def __set__(self, module: Any, value: Any) -> None:
        module.__dict__[self._name] = OrderedDict(value)


class State(Tree):
    """What saves and loads modules."""

    _version = 1
    _state_dict_pre_hooks = _HookTable()
    _state_dict_hooks = _HookTable()
    _load_state_dict_pre_hooks = _HookTable()
    _load_state_dict_post_hooks = _HookTable()

    # ---- saving ----------------------------------------------------------------------------------------

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """Dotted names and tensors of parameters and saved buffers, detached aliases of the live ones (`keep_vars`: the
        live ones themselves), put into `destination` if there is one. The arguments may be given by position, too."""
        given = dict(zip(("destination", "prefix", "keep_vars"), args))
        prefix, keep_vars = given.get("prefix", prefix), given.get("keep_vars", keep_vars)
        destination = given.get("destination", destination)
        if destination is None:
            destination = StateDict()
            destination._metadata = OrderedDict()
        local_metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = local_metadata
        for hook in self._hooks("_state_dict_pre_hooks"):
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in self._hooks("_state_dict_hooks"):
            found = hook(self, destination, prefix, local_metadata)
            destination = destination if found is None else found
        return destination

    def _hooks(self, table: str) -> Iterator[Callable]:
        """The hooks of a table, which may not be there."""
        return iter(list(self.__dict__.get(table, {}).values()))

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Put this module's own part of the state into `destination`. Subclasses may override it."""
        for kind in (PARAMETER, BUFFER):
            for name, value in self._of_kind(kind).items():
                if value is not None:
                    destination[prefix + name] = value if keep_vars else value.detach()
        if type(self).get_extra_state is not State.get_extra_state:
            destination[prefix + _EXTRA] = self.get_extra_state()

    def get_extra_state(self) -> Any:
        """What else belongs to the state of this module. Subclasses that have such define it, and `set_extra_state`."""
        raise RuntimeError(f"[get_extra_state] {type(self).__name__} has no extra state. Define get_extra_state().")

    def set_extra_state(self, state: Any) -> None:
        """Take over what `get_extra_state` gave. Subclasses that have such define it."""
        raise RuntimeError(f"[set_extra_state] {type(self).__name__} has no extra state. Define set_extra_state().")

    def register_state_dict_pre_hook(self, hook: Callable) -> RemovableHandle:
        """Call `hook(module, prefix, keep_vars)` before every `state_dict`."""
        return HookHandle(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Callable) -> RemovableHandle:
        """Call `hook(module, state_dict, prefix, local_metadata)` at the end of `state_dict`. It may change the dict in place; a
        RuntimeError is raised if it returns something."""
        return HookHandle(self._state_dict_hooks, partial(_without_result, hook))

    def _register_state_dict_hook(self, hook: Callable) -> RemovableHandle:
        """The old form: what the hook returns, unless None, is returned by `state_dict`."""
        return HookHandle(self._state_dict_hooks, hook)

    # ---- loading ---------------------------------------------------------------------------------------

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copy the values of `state_dict` into this module's parameters and buffers; `assign` puts its tensors in their place.

        Nothing is copied unless everything fits. `strict` raises RuntimeError for missing and for unexpected names;
        otherwise both are returned. A shape that differs always raises.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"[load_state_dict] expected a dict of names and tensors, got {type(state_dict).__name__}.")
        before = getattr(_loading, "pending", None)
        loading = _Loading(getattr(state_dict, "_metadata", None), assign)
        try:
            loading.load(self, OrderedDict(state_dict), "")
            if loading.problems or (strict and any(loading.keys)):
                raise RuntimeError(_report(self, loading, strict))
            loading.copy()
        finally:
            _loading.pending = before
        return loading.keys

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Load this module's own part of the state, and append to the lists what does not fit. Subclasses may override it."""
        for hook in self._hooks("_load_state_dict_pre_hooks"):
            hook(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        self._complete(state_dict, prefix, local_metadata.get("version"))
        live = {n: v for n, v in {**self._of_kind(PARAMETER), **self._of_kind(BUFFER)}.items() if v is not None}
        assign, waits = local_metadata.get("assign_to_params_buffers", False), self._waits()
        for name, value in live.items():
            if prefix + name in state_dict:
                copy = self._copy_of(name, value, state_dict[prefix + name], prefix + name, assign, error_msgs)
                if copy is not None and waits is not None:
                    waits.append(copy)
                elif copy is not None:
                    copy()
            elif strict:
                missing_keys.append(prefix + name)
        takes_extra = type(self).set_extra_state is not State.set_extra_state
        if takes_extra and prefix + _EXTRA in state_dict:
            self.set_extra_state(state_dict[prefix + _EXTRA])
        elif takes_extra and strict:
            missing_keys.append(prefix + _EXTRA)
        if strict:
            known = {prefix + n for n in live} | ({prefix + _EXTRA} if takes_extra else set())
            unexpected_keys += [k for k in state_dict if k.startswith(prefix) and self._is_strange(k, prefix, known)]

    def _complete(self, state_dict: Any, prefix: str, version: int | None) -> None:
        """Add what a state dict that was saved by an earlier `_version` of this module, or by none, lacks."""

    def _waits(self) -> list[Callable[[], Any]] | None:
        """Where copies wait; None where they are made at once: outside of `load_state_dict`, and in classes that load in their own
        way, which may look at what was loaded."""
        own = type(self)._load_from_state_dict is not State._load_from_state_dict
        return None if own else getattr(_loading, "pending", None)

    def _is_strange(self, key: str, prefix: str, known: set[str]) -> bool:
        first, dot, _ = key[len(prefix) :].partition(".")
        return key not in known and not (dot and first in self._modules)

    def _copy_of(
        self, name: str, live: Tensor, given: Any, key: str, assign: bool, error_msgs: list[str]
    ) -> Callable[[], Any] | None:
        """What copies a value of the state dict, or puts it in the place of `live`; None, and a message, where it does not fit."""
        found = as_tensor(given)
        if live.ndim == 0 and found.shape == (1,):
            found = found[0]
        if tuple(found.shape) != tuple(live.shape):
            error_msgs.append(
                f"Size mismatch for {key}: the state dict has {tuple(found.shape)}, the module has {tuple(live.shape)}."
            )
            return None
        return partial(self._assign, name, live, found) if assign else partial(_copy, live, found)

    def _assign(self, name: str, live: Tensor, found: Tensor) -> None:
        if isinstance(live, Parameter):
            found = found if isinstance(found, Parameter) else Parameter(found, live.requires_grad)
            found.requires_grad_(live.requires_grad)
        setattr(self, name, found)

    def register_load_state_dict_pre_hook(self, hook: Callable) -> RemovableHandle:
        """Call `hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)` before this
        module's part is loaded; it may change any of these in place."""
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def _register_load_state_dict_pre_hook(self, hook: Callable, with_module: bool = False) -> RemovableHandle:
        """The same; without the first argument unless `with_module`."""
        return HookHandle(self._load_state_dict_pre_hooks, partial(hook, self) if with_module else hook)

    def register_load_state_dict_post_hook(self, hook: Callable) -> RemovableHandle:
        """Call `hook(module, incompatible_keys)` once this module and those below have been loaded; it may change the keys in
        place."""
        return HookHandle(self._load_state_dict_post_hooks, hook)


class _Loading:
    """One `load_state_dict`."""

    def __init__(self, metadata: Mapping[str, Any] | None, assign: bool) -> None:
        self.metadata, self.assign = metadata or {}, assign
        self.keys = IncompatibleKeys([], [])
        self.problems: list[str] = []
        self.pending: list[Callable[[], Any]] = []
        _loading.pending = self.pending

    def load(self, module: Any, state: Any, prefix: str) -> None:
        local = dict(self.metadata.get(prefix[:-1], {}))
        if self.assign:
            local["assign_to_params_buffers"] = True
        module._load_from_state_dict(state, prefix, local, True, *self.keys, self.problems)
        for name, child in module._modules.items():
            if child is not None:
                below = f"{prefix}{name}."
                self.load(child, OrderedDict((k, v) for k, v in state.items() if k.startswith(below)), below)
        for hook in module._hooks("_load_state_dict_post_hooks"):
            self.copy()
            if hook(module, self.keys) is not None:
                raise AssertionError("[hook] a load_state_dict post-hook returned something. Change the keys in place.")

    def copy(self) -> None:
        for copy in self.pending:
            copy()
        self.pending.clear()


def _copy(live: Tensor, found: Tensor) -> None:
    with no_grad():
        live.copy_(found)


def _without_result(hook: Callable, *args: Any) -> None:
    if hook(*args) is not None:
        raise RuntimeError("[hook] a state_dict post-hook returned something. Change the dict in place.")


def _report(module: Any, loading: _Loading, strict: bool) -> str:
    missing, unexpected = loading.keys if strict else ([], [])
    lines = [f"[load_state_dict] the state dict does not fit {type(module).__name__}; nothing was loaded."]
    if missing:
        lines.append("Missing key(s): " + ", ".join(map(repr, missing)) + ".")
    if unexpected:
        lines.append("Unexpected key(s): " + ", ".join(map(repr, unexpected)) + ".")
    lines += loading.problems
    if not loading.problems:
        lines.append("Load a matching checkpoint, or pass strict=False to load only what matches.")
    return "\n    ".join(lines)
