"""`torch.ops` and `torch.library`: ops that Python programs define are Python functions; those of C++ libraries are not there.

In: functions. Out: the same under names. Next: `stand_ins.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Names = dict[str, Any]


def same(function: Any = None, *args: Any, **kwargs: Any) -> Any:
    """A decorator with or without arguments, that changes nothing."""
    return function if callable(function) else lambda given: given


def false(*args: Any, **kwargs: Any) -> bool:
    return False


def nothing(*args: Any, **kwargs: Any) -> None:
    return None


def refused(what: str, instead: str = "See docs/differences.md.") -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"[{what}] there is no such thing in Flambeau. {instead}")

    return refuse


class _LibraryOp:
    """`torch.ops.name.op`: what `torch.library` defined under that name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.call: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.call is None:
            raise RuntimeError(
                f"[torch.ops] there is no op '{self.name}': C++ extensions are not loaded. See docs/differences.md."
            )
        return self.call(*args, **kwargs)

    @property
    def default(self) -> _LibraryOp:
        return self

    def __getattr__(self, name: str) -> _LibraryOp:
        if name.startswith("__"):
            raise AttributeError(name)
        return self  # an overload


class _LibraryOps:
    """`torch.ops`, and a namespace in it."""

    def __init__(self, name: str = "") -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = _LibraryOp(f"{self._name}::{name}") if self._name else _LibraryOps(name)
        self.__dict__[name] = made
        return made

    def load_library(self, path: str) -> None:
        raise RuntimeError(f"[torch.ops] '{path}' is a library of PyTorch's, which cannot be loaded.")


OPS = _LibraryOps()


def _op(name: str) -> _LibraryOp:
    namespace, _, last = name.partition("::")
    return getattr(getattr(OPS, namespace), last.partition(".")[0])


class CustomOp:
    """What `torch.library.custom_op` makes of a function: the function; how it would be traced elsewhere is not asked."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name, self._function = name, function
        self.__name__ = getattr(function, "__name__", name)
        _op(name).call = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def register_fake(self, fn: Any = None, **kwargs: Any) -> Any:
        return same(fn)

    register_vmap = register_torch_dispatch = register_fake

    def register_kernel(self, device_types: Any, fn: Any = None) -> Any:
        return same(fn)

    def register_autograd(self, backward: Any, *, setup_context: Any = None) -> None:
        raise RuntimeError(
            f"[torch.library] '{self._name}' has a gradient of its own, which is not called. Use autograd.Function."
        )


def _custom_op(name: str, fn: Any = None, **kwargs: Any) -> Any:
    return (lambda function: CustomOp(name, function)) if fn is None else CustomOp(name, fn)


class Library:
    """`torch.library.Library`: names are defined, and what is implemented for the CPU is called by them."""

    def __init__(self, ns: str, kind: str, dispatch_key: str = "") -> None:
        self.ns = ns

    def define(self, schema: str, alias_analysis: str = "", *, tags: Any = ()) -> str:
        return schema.partition("(")[0]

    def impl(self, op_name: Any, fn: Callable[..., Any], dispatch_key: str = "", **kwargs: Any) -> None:
        if dispatch_key in ("", "CPU", "CompositeImplicitAutograd", "CompositeExplicitAutograd"):
            name = str(getattr(op_name, "name", op_name)).rpartition("::")[2]
            _op(f"{self.ns}::{name}").call = fn


def _implemented(name: str, types: Any = "", func: Any = None, *, lib: Any = None) -> Any:
    def register(function: Any) -> Any:
        if types in ("", "cpu", "default", "CPU", "CompositeExplicitAutograd"):
            _op(name).call = function
        return function

    return register if func is None else register(func)


def library() -> Names:
    registering = {f"register_{kind}": lambda *args, **kwargs: same for kind in ("fake", "vmap", "torch_dispatch")}
    return {
        "Library": Library, "custom_op": _custom_op, "impl": _implemented, "define": nothing, "wrap_triton": same,
        "triton_op": _custom_op, "register_kernel": _implemented, "impl_abstract": lambda *a, **k: same,
        "register_autograd": nothing, "opcheck": nothing, "infer_schema": lambda *a, **k: "()", **registering,
    }  # fmt: skip
