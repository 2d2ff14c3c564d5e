"""`autograd.graph.saved_tensors_hooks`: what is kept for a backward that a user wrote, in a form of the user's.

In: a pair of functions. Out: packed objects instead of what `save_for_backward` keeps, unpacked where `saved_tensors` is read. What
Flambeau's own ops keep are values of compiled programs, chosen by the compiler; no hook sees them. Next: `function.py`.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flambeau import border as _border
from flambeau.autograd.grad_mode import no_grad
from flambeau.runtime.recorder import Tensor


class _EnteredHooks(threading.local):
    """The pairs of hooks that the thread has entered, innermost last, and what is said where they are disabled."""

    def __init__(self) -> None:
        self.pairs: list[saved_tensors_hooks] = []
        self.disabled: str | None = None


_here = _EnteredHooks()


class saved_tensors_hooks:
    """A context in which `pack_hook(tensor)` is called for each tensor that an `autograd.Function` (or `custom_vjp`) saves, and
    what it gives is kept; `unpack_hook` of that must give the tensor again, with its shape, dtype and device, each time
    that `saved_tensors` is read. `pack_hook` runs without gradient history. Of nested contexts the inner one counts.

    What Flambeau's own ops need for their gradients is kept or computed again as the compiler decides; the hooks do not see it, as
    a warning says. Raises RuntimeError within `disable_saved_tensors_hooks`, and where `unpack_hook` gives no tensor.
    """

    _warns = True

    def __init__(self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]) -> None:
        for name, hook in (("pack_hook", pack_hook), ("unpack_hook", unpack_hook)):
            if not callable(hook):
                raise TypeError(f"[saved_tensors_hooks] {name} is a {type(hook).__name__}. Pass a function.")
        self.pack_hook, self.unpack_hook = pack_hook, unpack_hook

    def __enter__(self) -> None:
        if _here.disabled is not None:
            raise RuntimeError(_here.disabled)
        if self._warns:
            warnings.warn(
                "[saved_tensors_hooks] the hooks see what autograd.Function saves. What other ops need for their gradients is the "
                "compiler's to keep. docs/differences.md says more.",
                stacklevel=2,
            )
        _here.pairs.append(self)

    def __exit__(self, *exc: object) -> None:
        _here.pairs.pop()


class save_on_cpu(saved_tensors_hooks):
    """A context in which what an `autograd.Function` saves lies in the host's memory until the backward reads it; tensors there
    already are kept as they are. `pin_memory` and `device_type` change nothing. As `saved_tensors_hooks`, but for the warning.
    """

    _warns = False

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        super().__init__(lambda tensor: (tensor.device, tensor.cpu()), lambda packed: packed[1].to(packed[0]))


@contextmanager
def disable_saved_tensors_hooks(error_message: str) -> Iterator[None]:
    """A context in which entering `saved_tensors_hooks` raises RuntimeError with this message, as does this within such hooks."""
    if _here.pairs:
        raise RuntimeError(error_message)
    before, _here.disabled = _here.disabled, error_message
    try:
        yield
    finally:
        _here.disabled = before


class Packed:
    """A tensor as `pack_hook` left it."""

    def __init__(self, hooks: saved_tensors_hooks, tensor: Tensor) -> None:
        self._unpack = hooks.unpack_hook
        with no_grad():
            self.content = hooks.pack_hook(tensor)

    def unpacked(self) -> Tensor:
        found = self._unpack(self.content)
        if not isinstance(found, Tensor):
            raise TypeError(
                f"[saved_tensors_hooks] unpack_hook gave a {type(found).__name__}. Give the tensor that pack_hook got."
            )
        return found


def packed(tensor: Tensor) -> Packed | None:
    """The tensor packed by the innermost hooks, None where there are none."""
    return Packed(_here.pairs[-1], tensor) if _here.pairs else None


__all__ = ["disable_saved_tensors_hooks", "save_on_cpu", "saved_tensors_hooks"]

_border.publish(globals(), __all__)
