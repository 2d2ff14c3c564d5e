"""Calling modules: `module(...)`, and the hooks around its `forward`.

In: arguments. Out: what `forward` returns, as the hooks leave it. A module without hooks calls `forward` at once, from C
(`runtime/recorder/forward.c`): `_call_hooks` is None in its class until somebody registers a hook for all modules.
Next: `hooks.py`.
"""

from __future__ import annotations

import inspect
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from flambeau.nn.hooks import GLOBAL, HookHandle, ModuleHooks, RemovableHandle
from flambeau.nn.tree import Tree
from flambeau.runtime import recorder


class _CallTable:
    """An attribute of modules: a table of their hooks, or the numbers of some."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, module: Any, owner: type) -> Any:
        return self if module is None else getattr(module._own_hooks(), self._name)

    def __set__(self, module: Any, value: Any) -> None:
        setattr(module._own_hooks(), self._name, OrderedDict(value) if isinstance(value, dict) else value)


class _Signature:
    """`__signature__` of modules, for `inspect.signature` knows of no calls in C; classes have that of their `__init__`."""

    def __get__(self, module: Any, owner: type) -> inspect.Signature | None:
        return None if module is None else inspect.signature(module.__call__)


class Calls(Tree, recorder.Forwarding):
    """What modules are called by."""

    __signature__ = _Signature()
    _call_hooks: ModuleHooks | None = None

    _forward_hooks = _CallTable("forward")
    _forward_pre_hooks = _CallTable("forward_pre")
    _backward_hooks = _CallTable("backward")
    _backward_pre_hooks = _CallTable("backward_pre")
    _forward_hooks_with_kwargs = _CallTable("forward_with_kwargs")
    _forward_pre_hooks_with_kwargs = _CallTable("forward_pre_with_kwargs")
    _forward_hooks_always_called = _CallTable("always_called")
    _is_full_backward_hook = _CallTable("is_full")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "_call_impl" in vars(cls):  # which is called where there may be hooks
            cls._call_hooks = ModuleHooks()

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        if self._call_hooks is None:
            return self.forward(*args, **kwargs)
        return _HookedCall(self, args, kwargs).run()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the module's outputs. Subclasses define it; it takes and returns anything."""
        raise NotImplementedError(f"[forward] module {type(self).__name__} has no forward(). Define it.")

    def _own_hooks(self) -> ModuleHooks:
        """The tables of this module's hooks, made where there are none."""
        self._registered()
        return self.__dict__.setdefault("_call_hooks", ModuleHooks())

    def register_forward_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args, output)` after every forward; what it returns, unless None, replaces the output.

        `with_kwargs`: call `hook(module, args, kwargs, output)`. `always_call`: also after a forward that raised, where the output
        is None.
        """
        own = self._own_hooks()
        marks = [own.forward_with_kwargs] * with_kwargs + [own.always_called] * always_call
        return HookHandle(own.forward, hook, *marks, prepend=prepend)

    def register_forward_pre_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args)` before every forward; what it returns, unless None, replaces the arguments.

        `with_kwargs`: call `hook(module, args, kwargs)`, which returns a pair of both, or None.
        """
        own = self._own_hooks()
        return HookHandle(own.forward_pre, hook, *[own.forward_pre_with_kwargs] * with_kwargs, prepend=prepend)

    def register_full_backward_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)` in every backward, once the gradients of the inputs are known.

        Both are tuples, of as many as there are positional arguments and results, None for those without gradient. What the hook
        returns, unless None, takes the place of `grad_input`. Raises RuntimeError beside hooks of `register_backward_hook`.
        """
        return self._own_hooks().add_backward("register_full_backward_hook", hook, True, prepend)

    def register_backward_hook(self, hook: Callable) -> RemovableHandle:
        """The old name of `register_full_backward_hook`, which does the same here. Raises RuntimeError beside hooks of that."""
        return self._own_hooks().add_backward("register_backward_hook", hook, False)

    def register_full_backward_pre_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_output)` in every backward, before the gradients of the module are computed; what it returns,
        unless None, takes the place of `grad_output`."""
        return HookHandle(self._own_hooks().backward_pre, hook, prepend=prepend)


class _HookedCall:
    """One call of a module with hooks: first those of all modules, then its own."""

    def __init__(self, module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        self.module, self.args, self.kwargs = module, args, kwargs
        self.own = module._call_hooks
        self.result: Any = None
        self.called: set[int] = set()

    def _hooks(self, table: str) -> Iterator[tuple[int, Callable]]:
        """(number, hook) of a table."""
        if self.own is not GLOBAL:
            yield from list(getattr(GLOBAL, table).items())
        yield from list(getattr(self.own, table).items())

    def _is(self, number: int, mark: str) -> bool:
        return number in getattr(self.own, mark) or number in getattr(GLOBAL, mark)

    def run(self) -> Any:
        try:
            return self._run()
        except Exception:
            self._always()
            raise

    def _run(self) -> Any:
        self._before()
        full, pre = (tuple(hook for _, hook in self._hooks(t)) for t in ("backward", "backward_pre"))
        watch = None
        if full or pre:
            from flambeau.nn.backward_hooks import BackwardHooks  # that module imports this one

            watch = BackwardHooks(self.module, full, pre)
            self.args = watch.enter(self.args)
        self.result = self.module.forward(*self.args, **self.kwargs)
        for number, hook in self._hooks("forward"):
            self._after(number, hook)
        return watch.leave(self.result) if watch else self.result

    def _before(self) -> None:
        for number, hook in self._hooks("forward_pre"):
            if not self._is(number, "forward_pre_with_kwargs"):
                found = hook(self.module, self.args)
                if found is not None:
                    self.args = found if isinstance(found, tuple) else (found,)
                continue
            found = hook(self.module, self.args, self.kwargs)
            if found is None:
                continue
            if not (isinstance(found, tuple) and len(found) == 2):
                raise RuntimeError(f"[hook] a forward pre-hook returned {found!r}. Return (args, kwargs), or None.")
            self.args, self.kwargs = found

    def _after(self, number: int, hook: Callable) -> None:
        self.called.add(number)
        more = (self.kwargs,) if self._is(number, "forward_with_kwargs") else ()
        found = hook(self.module, self.args, *more, self.result)
        self.result = self.result if found is None else found

    def _always(self) -> None:
        """Call the hooks that are always called, and have not been, of a call that failed."""
        for number, hook in self._hooks("forward"):
            if not self._is(number, "always_called") or number in self.called:
                continue
            try:
                self._after(number, hook)
            except Exception as error:
                warnings.warn(
                    f"[hook] a forward hook with always_call raised {error!r} after a forward that raised.",
                    stacklevel=4,
                )
