"""Tensor hooks and retained gradients: what users register, and where in a history each of them belongs.

A hook on a result belongs to the place in the gradient history that the tensor has at that time: it lives as long as
the history does, whether or not the tensor does. A hook on a leaf, and a retained gradient, belong to the tensor.
In: tensors. Out: `slots()` for the engine that records gradients op by op. Next: `inline.py`.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import CellType
from typing import Any

from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor

_serial = itertools.count()


class Hook:
    """A function to call with the gradient of a tensor; its result, if any, takes the gradient's place."""

    def __init__(self, tensor: Tensor, fn: Callable, is_owned: bool, end: Callable[[], None] | None = None) -> None:
        self.fn: Callable | None = fn
        self.end = end  # called when a backward that could meet it is over
        self.order = next(_serial)
        self.view, _, self.starts = recorder.view_info(tensor)
        self.owner = weakref.ref(tensor) if is_owned else None
        number = self.order
        live = _owned if is_owned else _of_histories
        live[number] = weakref.ref(self, lambda _: live.pop(number, None))
        self._number, self._live = number, live

    def run(self, gradient: Tensor) -> Tensor:
        fn = self.fn
        replaced = fn(gradient) if fn is not None else None
        if replaced is None:
            return gradient
        if (replaced.shape, replaced.dtype) != (gradient.shape, gradient.dtype):
            raise RuntimeError(
                f"[hook] a hook returned a gradient of shape {replaced.shape} for one of {gradient.shape}."
            )
        return replaced

    def slot(self) -> int | None:
        """Where the owner is in the current trace, if it is there. What it is a view of may have changed by other `data`."""
        tensor = self.owner() if self.owner is not None else None
        if tensor is None:
            return None
        self.view, _, self.starts = recorder.view_info(tensor)
        return recorder.known_history(tensor)

    def forget(self) -> None:
        self.fn = self.end = None
        self._live.pop(self._number, None)


class Retained(Hook):
    """Keeps the gradient that the hooks leave in `.grad` of its tensor."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__(tensor, self._keep, is_owned=True)
        self.order += 1 << 60  # after all hooks

    def _keep(self, gradient: Tensor) -> None:
        tensor = self.owner() if self.owner is not None else None
        if tensor is not None:
            before = tensor.grad
            recorder.if_lost(gradient, partial(setattr, tensor, "grad", before))
            tensor.__dict__["_retained_grad"] = gradient if before is None else before + gradient


#: Hooks that belong to tensors, and those that belong to histories. Dicts: other threads may add hooks while they are listed.
_owned: dict[int, weakref.ref[Hook]] = {}
_of_histories: dict[int, weakref.ref[Hook]] = {}


class Handle:
    """A registered hook; `remove()` takes it away."""

    def __init__(self, hook: Hook | _Accumulated) -> None:
        self._hook: weakref.ref[Hook | _Accumulated] = weakref.ref(hook)

    def remove(self) -> None:
        hook = self._hook()
        if hook is not None:
            hook.forget()


class Handles:
    """Several registered hooks; `remove()` takes them away."""

    def __init__(self, hooks: Sequence[Hook]) -> None:
        self._handles = [Handle(hook) for hook in hooks]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()


def hooked() -> bool:
    """Whether any tensor or history has hooks."""
    return bool(_owned or _of_histories or _after)


def meets(outputs: Sequence[Tensor]) -> bool:
    """Whether hooks may be met where these are differentiated: those of the trace and of the histories behind the outputs. What
    is hooked elsewhere in the process has no say."""
    return hooked() and recorder.held(_meets, outputs)


def _meets(outputs: Sequence[Tensor]) -> bool:
    for t in outputs:
        if t.requires_grad:
            recorder.import_history(t)
    after = [made.owner() for ref in list(_after.values()) if (made := ref()) is not None]
    return bool(slots()) or any(t is not None and recorder.known_history(t) is not None for t in after)


def slots() -> list[tuple[int, Hook]]:
    """The hooks of the current trace and of those imported into it, with the slots where they are: as many as there are, of which
    most have nothing to do with what is differentiated now."""
    owned = [(hook.slot(), hook) for ref in list(_owned.values()) if (hook := ref()) is not None]
    return [*recorder.trace_marks(), *((slot, hook) for slot, hook in owned if slot is not None)]


def register_hook(tensor: Tensor, hook: Callable[[Tensor], Tensor | None]) -> Handle:
    """Call `hook(gradient)` in every backward, once the gradient of this tensor is complete; what it returns, if anything,
    takes its place. Returns a handle with `remove()`. Raises RuntimeError for a tensor that does not require grad."""
    if not tensor.requires_grad:
        raise RuntimeError("[register_hook] the tensor does not require grad. Call requires_grad_() first.")
    return Handle(attach(tensor, hook))


def _held(fn: Callable) -> list[Any]:
    """What a function was made with."""
    if isinstance(fn, partial):
        return [*fn.args, *fn.keywords.values(), *_held(fn.func)]
    return [*map(_content, getattr(fn, "__closure__", None) or ()), *(getattr(fn, "__defaults__", None) or ())]


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing yet
        return None


def track(held: Iterable[Any]) -> None:
    """Have the collector of garbage see the tensors among these. What belongs to a place in a history holds them, and that may be
    the history they have."""
    for x in held:
        if isinstance(x, Tensor):
            recorder.track(x)


def attach(tensor: Tensor, fn: Callable[[Tensor], Tensor | None], end: Callable[[], None] | None = None) -> Hook:
    """A hook on a tensor that requires grad; `end()` is called after each backward that could meet it."""
    made = Hook(tensor, fn, recorder.is_of_leaf(tensor), end)
    track(_held(fn))
    if made.owner is not None:
        tensor.__dict__.setdefault("_hooks", []).append(made)
    else:
        recorder.mark_history(tensor, made)
    return made


class _Accumulated:
    """What is to be called once a leaf's gradient has been added to its `.grad`."""

    def __init__(self, tensor: Tensor, fn: Callable[[Tensor], None]) -> None:
        self.fn, self.number = fn, next(_serial)
        self.owner = weakref.ref(tensor)
        number = self.number
        _after[number] = weakref.ref(self, lambda _: _after.pop(number, None))

    def forget(self) -> None:
        tensor = self.owner()
        if tensor is not None:
            tensor.__dict__.get("_after", {}).pop(self.number, None)


_after: dict[int, weakref.ref[_Accumulated]] = {}


def register_post_accumulate_grad_hook(tensor: Tensor, hook: Callable[[Tensor], None]) -> Handle:
    """Call `hook(tensor)` in every `backward()`, once the gradient of this leaf has been added to its `.grad`. Returns a
    handle with `remove()`. Raises RuntimeError for a tensor that is no leaf, or does not require grad."""
    if not tensor.requires_grad or not tensor.is_leaf:
        raise RuntimeError(
            "[register_post_accumulate_grad_hook] the tensor is no leaf that requires grad. Use register_hook for results."
        )
    made = _Accumulated(tensor, hook)
    tensor.__dict__.setdefault("_after", {})[made.number] = made
    return Handle(made)


def accumulated(owners: Sequence[Any]) -> None:
    """Call the hooks of the leaves whose `.grad` has been added to: those that share it with one of the owners of gradients."""
    if not _after:
        return
    added = {id(owner.grad) for owner in owners}
    hooks = [hook for ref in list(_after.values()) if (hook := ref()) is not None]
    for hook in hooks:
        tensor = hook.owner()
        if tensor is not None and tensor.grad is not None and id(tensor.grad) in added:
            hook.fn(tensor)


def retain_grad(tensor: Tensor) -> None:
    """Have `backward()` set `.grad` of this intermediate result too."""
    if not tensor.requires_grad:
        raise RuntimeError("[retain_grad] the tensor does not require grad. Compute it from tensors that do.")
    if not tensor.is_leaf and "_retained" not in tensor.__dict__:
        tensor.__dict__["_retained"] = Retained(tensor)
