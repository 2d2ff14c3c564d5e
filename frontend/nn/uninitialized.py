"""Parameters and buffers whose shape is not known yet: `UninitializedParameter`, `UninitializedBuffer`.

In: a device and a dtype. Out: tensors that cannot be computed with until `materialize` has given them a shape, which leaves them
the objects that they were, so that optimizers that hold them go on. Next: `lazy.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.device import Device
from flambeau.functions.create import empty
from flambeau.nn.parameter import Buffer, Parameter
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor

_WHAT_TO_DO = "Call the module with a batch first, or materialize it."


def is_lazy(value: Any) -> bool:
    """Whether it is a parameter or buffer without a shape."""
    return isinstance(value, UninitializedParameter | UninitializedBuffer)


def _refused(self: Any) -> Any:
    raise RuntimeError(f"[{type(self).__name__}] it has no shape yet. {_WHAT_TO_DO}")


def _refusing(name: str) -> Callable[..., Any]:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise ValueError(f"[{name}] an {type(self).__name__} has no value yet. {_WHAT_TO_DO}")

    return refuse


#: What is not asked of a value: these stay.
_KEPT = {"to", "cpu", "cuda", "half", "bfloat16", "float", "double", "type", "requires_grad_", "detach", "is_floating_point",
    "element_size", "is_complex", "is_contiguous", "share_memory_", "register_hook"}  # fmt: skip
_OPERATORS = (
    "add",
    "sub",
    "mul",
    "matmul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "and",
    "or",
    "xor",
    "lshift",
    "rshift",
)
_DUNDERS = [f"__{side}{name}__" for name in _OPERATORS for side in ("", "r", "i")]
_DUNDERS += [f"__{name}__" for name in ("lt", "le", "gt", "ge", "neg", "abs", "invert", "getitem", "setitem", "len", "iter", "bool",
    "float", "int", "index", "array")]  # fmt: skip


def _without_values(cls: type) -> type:
    """A class of tensors all of whose methods and operators that need a value raise ValueError."""
    methods = [
        n for n in dir(Tensor) if not n.startswith("_") and callable(getattr(Tensor, n, None)) and n not in _KEPT
    ]
    for name in [*methods, *(d for d in _DUNDERS if hasattr(Tensor, d))]:
        if name not in vars(cls):
            setattr(cls, name, _refusing(name.strip("_")))
    return cls


class _Shapeless:
    """What both have."""

    shape = property(_refused, doc="Raises RuntimeError: there is none yet.")
    cls_to_become: type

    def materialize(self: Any, shape: Any, device: Device = None, dtype: Any = None) -> None:
        """Become what it stands for, of a shape, uninitialized; on its own device and of its own dtype unless told otherwise."""
        size = (shape,) if isinstance(shape, int) else tuple(shape)
        self.data = empty(size, dtype=dtype or self.dtype, device=device or self.device)
        self.__class__ = self.cls_to_become

    def detach(self: Any) -> Any:
        """Itself: there is nothing to share yet."""
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    __str__ = __repr__

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Any:
        made = type(self)(self.requires_grad, self.device, self.dtype)
        memo[id(self)] = made
        return made

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        return type(self), (self.requires_grad, self.device, self.dtype)


@_without_values
class UninitializedParameter(_Shapeless, Parameter):
    """A parameter that has no shape yet. Computing with it raises ValueError, asking for its shape RuntimeError."""

    cls_to_become = Parameter

    def __new__(cls, requires_grad: bool = True, device: Device = None, dtype: Any = None) -> UninitializedParameter:
        return recorder.make_leaf(empty(0, dtype=dtype, device=device), requires_grad, cls)


@_without_values
class UninitializedBuffer(_Shapeless, Tensor, Buffer):
    """A buffer that has no shape yet. Computing with it raises ValueError, asking for its shape RuntimeError."""

    cls_to_become = Tensor
    persistent: bool

    def __new__(
        cls, requires_grad: bool = False, device: Device = None, dtype: Any = None, persistent: bool = True
    ) -> UninitializedBuffer:
        made = recorder.make_leaf(empty(0, dtype=dtype, device=device), requires_grad, cls)
        made.persistent = persistent
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    @property
    def tensor(self) -> Tensor:  # type: ignore[override]
        """What modules register: itself."""
        return self
