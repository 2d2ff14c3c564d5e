"""Reverse mode as users see it: `backward`, `grad`, grad modes, tensor hooks.

In: tensors with history. Out: gradients. Without hooks or `create_graph` a backward is one recorded entry whose
expansion comes from `expand_backward`, run on a miss only; with them the engine below records every op of the gradient
as it goes, on tensors. Both call the same `dialects/autodiff.vjp`. Next: `programs.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import Builder, Value
from flambeau.dialects.record import OpRecord
from flambeau.engine import GRAD_MODE
from flambeau.runtime import recorder
from flambeau.runtime.recorder import REQUIRED, Function, Tensor

# ---- grad mode ------------------------------------------------------------------------------------------------


class set_grad_enabled:
    """Turn gradient recording on or off: at once when called, until the end of the block when used as a context
    manager, or inside a function when used as a decorator."""

    def __init__(self, mode: bool) -> None:
        self.enabled = bool(mode)
        self.before = recorder.get_mode()
        self._set()

    def _set(self) -> None:
        mode = recorder.get_mode()
        recorder.set_mode(mode | GRAD_MODE if self.enabled else mode & ~GRAD_MODE)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        recorder.set_mode(self.before)

    def __call__(self, fn: Callable) -> Callable:
        recorder.set_mode(self.before)
        return _decorated(fn, lambda: set_grad_enabled(self.enabled))


class _Mode:
    """A grad mode that takes effect on entering."""

    enabled = False

    def __enter__(self) -> None:
        self.before = recorder.get_mode()
        recorder.set_mode(self.before | GRAD_MODE if self.enabled else self.before & ~GRAD_MODE)

    def __exit__(self, *exc: object) -> None:
        recorder.set_mode(self.before)

    def __call__(self, fn: Callable) -> Callable:
        return _decorated(fn, type(self))

    def __new__(cls, fn: Callable | None = None) -> Any:
        return cls()(fn) if fn is not None else super().__new__(cls)


class no_grad(_Mode):
    """No gradient history inside: `with no_grad():`, `@no_grad()` or `@no_grad`."""


class enable_grad(_Mode):
    """Gradient history inside, also within `no_grad`."""

    enabled = True


class inference_mode(_Mode):
    """As `no_grad`."""


def _decorated(fn: Callable, manager: Callable) -> Callable:
    from functools import wraps

    @wraps(fn)
    def inner(*args: Any, **kwargs: Any) -> Any:
        with manager():
            return fn(*args, **kwargs)

    return inner


def is_grad_enabled() -> bool:
    """Whether new operations get gradient history."""
    return bool(recorder.get_mode() & GRAD_MODE)


# ---- one entry: the hooks -------------------------------------------------------------------------------------


# ---- op by op: the inline engine ------------------------------------------------------------------------------


def _primitive(op: OpRecord) -> Function:
    """A recorded function that is one primitive op."""
    found = _primitives.get(op.name)
    if found is None:
        params = (("operands", "tensors", REQUIRED, False), ("attrs", "static", REQUIRED, False))

        def rule(operands: list[Value], attrs: tuple) -> Value:
            from flambeau.function import builder

            return builder().emit(op, operands, attrs)

        found = _primitives[op.name] = Function(f"tape.{op.name}", params, "pure", rule, fallible=op.fallible)
    return found


_primitives: dict[str, Function] = {}


class TensorBuilder(Builder):
    """Records every op it is given: values are tensors."""

    def emit(self, op: OpRecord, operands: Sequence[Value], attrs: tuple) -> Value:
        return self.value(_primitive(op)([v.id for v in operands], attrs))

    def value(self, tensor: Tensor) -> Value:
        return Value(self, tensor, Aval(tensor.shape, tensor.dtype))
