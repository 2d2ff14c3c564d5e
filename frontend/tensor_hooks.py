"""Tensor hooks and retained gradients: what users register, and where in a history each of them belongs.

A hook on a result belongs to the place in the gradient history that the tensor has at that time: it lives as long as
the history does, whether or not the tensor does. A hook on a leaf, and a retained gradient, belong to the tensor.
In: tensors. Out: `places()` for the engine that records gradients op by op. Next: `inline.py`.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from functools import partial

from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor
from flambeau.shared_views import Place

_serial = itertools.count()


class Hook:
    """A function to call with the gradient of a tensor; its result, if any, takes the gradient's place."""

    def __init__(self, tensor: Tensor, fn: Callable) -> None:
        self.fn: Callable | None = fn
        self.order = next(_serial)
        self.view, _, self.starts = recorder.view_info(tensor)
        self.owner: weakref.ref[Tensor] | None = None
        number = self.order
        _live[number] = weakref.ref(self, lambda _: _live.pop(number, None))
        self._number = number

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

    def place(self) -> Place | None:
        """Where the owner is in the current trace, if it is there."""
        tensor = self.owner() if self.owner is not None else None
        slot = None if tensor is None else recorder.known_history(tensor)
        return None if slot is None else Place(slot, self.view, self.starts)


class Retained(Hook):
    """Keeps the gradient that the hooks leave in `.grad` of its tensor."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__(tensor, self._keep)
        self.owner = weakref.ref(tensor)
        self.order += 1 << 60  # after all hooks

    def _keep(self, gradient: Tensor) -> None:
        tensor = self.owner() if self.owner is not None else None
        if tensor is not None:
            before = tensor.grad
            recorder.if_lost(gradient, partial(setattr, tensor, "grad", before))
            tensor.__dict__["_retained_grad"] = gradient if before is None else before + gradient


_live: dict[int, weakref.ref[Hook]] = {}  #: a dict: other threads may add hooks while it is listed


class Handle:
    """A registered hook; `remove()` takes it away."""

    def __init__(self, hook: Hook) -> None:
        self._hook = weakref.ref(hook)

    def remove(self) -> None:
        hook = self._hook()
        if hook is not None:
            hook.fn = None
            _live.pop(hook._number, None)


def hooked() -> bool:
    """Whether any tensor or history has hooks."""
    return bool(_live)


def places() -> list[tuple[Place, Hook]]:
    """The hooks of the current trace and of those imported into it, in the order in which they run at one place."""
    found = [(Place(slot, hook.view, hook.starts), hook) for slot, hook in recorder.trace_marks()]
    live = [hook for ref in list(_live.values()) if (hook := ref()) is not None]
    owned = [(hook.place(), hook) for hook in live if hook.owner is not None]
    found += [(place, hook) for place, hook in owned if place is not None]
    return sorted(((p, h) for p, h in found if h.fn is not None), key=lambda pair: pair[1].order)


def register_hook(tensor: Tensor, hook: Callable[[Tensor], Tensor | None]) -> Handle:
    """Call `hook(gradient)` in every backward, once the gradient of this tensor is complete; what it returns, if anything,
    takes its place. Returns a handle with `remove()`. Raises RuntimeError for a tensor that does not require grad."""
    if not tensor.requires_grad:
        raise RuntimeError("[register_hook] the tensor does not require grad. Call requires_grad_() first.")
    made = Hook(tensor, hook)
    if recorder.is_of_leaf(tensor):
        made.owner = weakref.ref(tensor)
        tensor.__dict__.setdefault("_hooks", []).append(made)
    else:
        recorder.mark_history(tensor, made)
    return Handle(made)


def retain_grad(tensor: Tensor) -> None:
    """Have `backward()` set `.grad` of this intermediate result too."""
    if not tensor.requires_grad:
        raise RuntimeError("[retain_grad] the tensor does not require grad. Compute it from tensors that do.")
    if not tensor.is_leaf and "_retained" not in tensor.__dict__:
        tensor.__dict__["_retained"] = Retained(tensor)
