"""Pooling as modules, and windows as columns.

In: [(batch,) channels, spatial...]. Out: a result per window. Formulas and errors are those of `functions/pool.py` and the files
beside it. Next: `embedding.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from flambeau.functions import adaptive_pool, average_pool, columns, pool
from flambeau.functions.adaptive_pool import Target
from flambeau.functions.common import repeated
from flambeau.functions.pool import Numbers
from flambeau.nn.module import Module
from flambeau.runtime.recorder import Tensor

_Function = Callable[..., Any]


class _MaxPool(Module):
    _function: ClassVar[_Function]

    def __init__(
        self,
        kernel_size: Numbers,
        stride: Numbers | None = None,
        padding: Numbers = 0,
        dilation: Numbers = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, input: Tensor) -> Any:
        return type(self)._function(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """The largest element of every window of [(batch,) channels, length]; with `return_indices` also where it is."""

    _function = staticmethod(pool.max_pool1d)


class MaxPool2d(_MaxPool):
    """The largest element of every window of [(batch,) channels, height, width]; with `return_indices` also where it is."""

    _function = staticmethod(pool.max_pool2d)


class MaxPool3d(_MaxPool):
    """The largest element of every window of [(batch,) channels, depth, height, width]; with `return_indices` also where it is."""

    _function = staticmethod(pool.max_pool3d)


class _MaxUnpool(Module):
    _function: ClassVar[_Function]
    _dims: ClassVar[int]

    def __init__(self, kernel_size: Numbers, stride: Numbers | None = None, padding: Numbers = 0) -> None:
        super().__init__()
        self.kernel_size = repeated(kernel_size, self._dims)
        self.stride = repeated(kernel_size if stride is None else stride, self._dims)
        self.padding = repeated(padding, self._dims)

    def forward(self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return type(self)._function(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """Zeros, with the elements that `MaxPool1d` took where it took them."""

    _function, _dims = staticmethod(pool.max_unpool1d), 1


class MaxUnpool2d(_MaxUnpool):
    """Zeros, with the elements that `MaxPool2d` took where it took them."""

    _function, _dims = staticmethod(pool.max_unpool2d), 2


class MaxUnpool3d(_MaxUnpool):
    """Zeros, with the elements that `MaxPool3d` took where it took them."""

    _function, _dims = staticmethod(pool.max_unpool3d), 3


class AvgPool1d(Module):
    """The mean of every window of [(batch,) channels, length]."""

    def __init__(
        self,
        kernel_size: Numbers,
        stride: Numbers | None = None,
        padding: Numbers = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size = repeated(kernel_size, 1)
        self.stride = repeated(kernel_size if stride is None else stride, 1)
        self.padding = repeated(padding, 1)
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        return average_pool.avg_pool1d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _AvgPool(Module):
    _function: ClassVar[_Function]

    def __init__(
        self,
        kernel_size: Numbers,
        stride: Numbers | None = None,
        padding: Numbers = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, input: Tensor) -> Tensor:
        numbers = (self.kernel_size, self.stride, self.padding)
        return type(self)._function(input, *numbers, self.ceil_mode, self.count_include_pad, self.divisor_override)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(_AvgPool):
    """The mean of every window of [(batch,) channels, height, width]."""

    _function = staticmethod(average_pool.avg_pool2d)


class AvgPool3d(_AvgPool):
    """The mean of every window of [(batch,) channels, depth, height, width]."""

    _function = staticmethod(average_pool.avg_pool3d)


class _LPPool(Module):
    _function: ClassVar[_Function]

    def __init__(
        self, norm_type: float, kernel_size: Numbers, stride: Numbers | None = None, ceil_mode: bool = False
    ) -> None:
        super().__init__()
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = norm_type, kernel_size, stride, ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        return type(self)._function(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self) -> str:
        return f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, ceil_mode={self.ceil_mode}"


class LPPool1d(_LPPool):
    """The norm of every window of [(batch,) channels, length]."""

    _function = staticmethod(average_pool.lp_pool1d)


class LPPool2d(_LPPool):
    """The norm of every window of [(batch,) channels, height, width]."""

    _function = staticmethod(average_pool.lp_pool2d)


class LPPool3d(_LPPool):
    """The norm of every window of [(batch,) channels, depth, height, width]."""

    _function = staticmethod(average_pool.lp_pool3d)


# ---- adaptive -----------------------------------------------------------------------------------------------


class _AdaptiveAvgPool(Module):
    _function: ClassVar[_Function]

    def __init__(self, output_size: Target) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        return type(self)._function(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The means of `output_size` windows of [(batch,) channels, length]."""

    _function = staticmethod(adaptive_pool.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The means of `output_size` windows of [(batch,) channels, height, width]."""

    _function = staticmethod(adaptive_pool.adaptive_avg_pool2d)


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """The means of `output_size` windows of [(batch,) channels, depth, height, width]."""

    _function = staticmethod(adaptive_pool.adaptive_avg_pool3d)


class _AdaptiveMaxPool(Module):
    _function: ClassVar[_Function]

    def __init__(self, output_size: Target, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size, self.return_indices = output_size, return_indices

    def forward(self, input: Tensor) -> Any:
        return type(self)._function(input, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest elements of `output_size` windows of [(batch,) channels, length]."""

    _function = staticmethod(adaptive_pool.adaptive_max_pool1d)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest elements of `output_size` windows of [(batch,) channels, height, width]."""

    _function = staticmethod(adaptive_pool.adaptive_max_pool2d)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """The largest elements of `output_size` windows of [(batch,) channels, depth, height, width]."""

    _function = staticmethod(adaptive_pool.adaptive_max_pool3d)


# ---- columns ------------------------------------------------------------------------------------------------


class Unfold(Module):
    """The windows of [(batch,) channels, height, width] as columns."""

    def __init__(self, kernel_size: Numbers, dilation: Numbers = 1, padding: Numbers = 0, stride: Numbers = 1) -> None:
        super().__init__()
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        return columns.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


class Fold(Module):
    """Columns of `Unfold`, summed where they came from."""

    def __init__(
        self,
        output_size: Numbers,
        kernel_size: Numbers,
        dilation: Numbers = 1,
        padding: Numbers = 0,
        stride: Numbers = 1,
    ) -> None:
        super().__init__()
        self.output_size, self.kernel_size = output_size, kernel_size
        self.dilation, self.padding, self.stride = dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        return columns.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, dilation={self.dilation}, "
            f"padding={self.padding}, stride={self.stride}"
        )
