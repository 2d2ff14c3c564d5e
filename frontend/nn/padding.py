"""Padding as modules.

In: [(batch,) channels, spatial...]. Out: the same with margins, given as (low, high) pairs of the last dimension first. Formulas
and errors are those of `nn.functional.pad`. Next: `pooling.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from flambeau.functions.assemble import pad
from flambeau.functions.common import repeated
from flambeau.nn.module import Module
from flambeau.runtime.recorder import Tensor


class _Pad(Module):
    _dims: ClassVar[int]
    _mode: ClassVar[str]

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__()
        self.padding = repeated(padding, 2 * self._dims)

    def forward(self, input: Tensor) -> Tensor:
        self._check(input)
        return pad(input, self.padding, self._mode)

    def _check(self, input: Tensor) -> None:
        """Raise for inputs that the layer does not take; `pad` does so for most."""

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    _mode = "constant"

    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return pad(input, self.padding, self._mode, self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ZeroPad1d(_Pad):
    """Margins of zeros around the last dimension."""

    _dims, _mode = 1, "constant"


class ZeroPad2d(_Pad):
    """Margins of zeros around the last 2 dimensions."""

    _dims, _mode = 2, "constant"


class ZeroPad3d(_Pad):
    """Margins of zeros around the last 3 dimensions."""

    _dims, _mode = 3, "constant"


class ConstantPad1d(_ConstantPad):
    """Margins of one number around the last dimension."""

    _dims = 1


class ConstantPad2d(_ConstantPad):
    """Margins of one number around the last 2 dimensions."""

    _dims = 2


class ConstantPad3d(_ConstantPad):
    """Margins of one number around the last 3 dimensions."""

    _dims = 3


class ReflectionPad1d(_Pad):
    """Margins of the input mirrored at its edges around the last dimension."""

    _dims, _mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """Margins of the input mirrored at its edges around the last 2 dimensions."""

    _dims, _mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """Margins of the input mirrored at its edges around the last 3 dimensions."""

    _dims, _mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """Margins of the elements at its edges around the last dimension."""

    _dims, _mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """Margins of the elements at its edges around the last 2 dimensions."""

    _dims, _mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """Margins of the elements at its edges around the last 3 dimensions."""

    _dims, _mode = 3, "replicate"


class _CircularPad(_Pad):
    _mode = "circular"

    def _check(self, input: Tensor) -> None:
        least = self._dims + 1
        if input.dim() not in (least, least + 1):
            raise ValueError(
                f"[{type(self).__name__}] input has {input.dim()} dimensions. Pass {least}, or {least + 1} with a batch."
            )


class CircularPad1d(_CircularPad):
    """Margins of the input from its other end around the last dimension."""

    _dims = 1


class CircularPad2d(_CircularPad):
    """Margins of the input from its other end around the last 2 dimensions."""

    _dims = 2


class CircularPad3d(_CircularPad):
    """Margins of the input from its other end around the last 3 dimensions."""

    _dims = 3
