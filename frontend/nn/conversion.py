"""Converting and moving whole modules: `to`, `half`, `cuda`, `to_empty`, ...

In: a module. Out: the same one; its parameters stay the same objects, so that an optimizer made before goes on updating them. Next:
`tree.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flambeau.device import cuda_place
from flambeau.dialects.dtypes import DType, bfloat16, float16, float32, float64
from flambeau.functions.convert import parse_to
from flambeau.functions.create import empty_like
from flambeau.memory_format import checked
from flambeau.nn.tree import Tree
from flambeau.runtime.recorder import Tensor

Self = TypeVar("Self", bound="Conversion")


class Conversion(Tree):
    """What converts modules."""

    def _apply(self: Self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Replace the data of every parameter, gradient and buffer by `fn` of it; parameters stay the same objects."""
        for child in self.children() if recurse else ():
            child._apply(fn)
        for parameter in self._parameters.values():
            if parameter is None:
                continue
            gradient = parameter.grad
            parameter.data = fn(parameter.data)
            if gradient is not None:
                parameter.grad = None
                parameter.grad = fn(gradient.detach())
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self.__dict__[name] = fn(buffer)
        return self

    def to(self: Self, *args: Any, **kwargs: Any) -> Self:
        """`to(dtype)`, `to(device)`, `to(device, dtype)` or `to(tensor)`: move parameters and buffers, convert floating-point and
        complex ones.
        `memory_format` changes nothing: parameters lie as they are, and layers choose the order they work in.

        Parameters keep their identity, so an optimizer made before goes on updating them. Integer dtypes are refused.
        """
        wanted = parse_to("Module.to", *args, **kwargs)
        dtype, kept = wanted.dtype, wanted.memory_format
        if dtype is not None and not dtype.is_inexact:
            raise TypeError(f"[Module.to] dtype {dtype} is not floating point or complex. Use one such as float32.")
        if kept is not None:
            checked("Module.to", kept)
        return self._apply(lambda t: t.to(wanted.device, dtype if t.dtype.is_inexact else None))

    def _floats(self: Self, dtype: DType) -> Self:
        return self._apply(lambda t: t.to(dtype) if t.dtype.is_floating_point else t)

    def _moved(self: Self, device: Any) -> Self:
        """Not by way of `to`, which subclasses override by way of these."""
        return self._apply(lambda t: t.to(device))

    def to_empty(self: Self, *, device: Any, recurse: bool = True) -> Self:
        """Move parameters and buffers to a device without their values: they are unset."""
        return self._apply(lambda t: empty_like(t, device=device), recurse)

    def type(self: Self, dst_type: Any) -> Self:
        """Convert parameters and buffers, all of them, to a dtype or tensor type."""
        return self._apply(lambda t: t.type(dst_type))

    def float(self: Self) -> Self:
        """Convert floating-point members to float32."""
        return self._floats(float32)

    def half(self: Self) -> Self:
        """Convert floating-point members to float16."""
        return self._floats(float16)

    def bfloat16(self: Self) -> Self:
        """Convert floating-point members to bfloat16."""
        return self._floats(bfloat16)

    def double(self: Self) -> Self:
        """Convert floating-point members to float64."""
        return self._floats(float64)

    def cpu(self: Self) -> Self:
        """Move to the CPU."""
        return self._moved("cpu")

    def cuda(self: Self, device: Any = None) -> Self:
        """Move to a GPU, a number or a device, the first one if left out. Raises RuntimeError where there is none."""
        return self._moved(cuda_place("Module.cuda", device))

    def xpu(self: Self, device: Any = None) -> Self:
        """Raises RuntimeError: there is no such device."""
        return self._moved("xpu")

    def ipu(self: Self, device: Any = None) -> Self:
        """Raises RuntimeError: there is no such device."""
        return self._moved("ipu")

    def mtia(self: Self, device: Any = None) -> Self:
        """Raises RuntimeError: there is no such device."""
        return self._moved("mtia")

    def share_memory(self: Self) -> Self:
        """Move parameters and buffers to memory that processes share."""
        return self._apply(lambda t: t.share_memory_())  # type: ignore[attr-defined]
