"""Convolutions as layers: Conv1d, Conv2d, Conv3d, and their transposed forms.

In: maps [N, C, *size], or [C, *size] of one sample. Out: maps. Next: `padding.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flambeau.device import Device
from flambeau.functions.assemble import pad
from flambeau.functions.common import repeated
from flambeau.functions.convolution import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)
from flambeau.functions.create import empty
from flambeau.nn import init
from flambeau.nn.module import Module
from flambeau.nn.parameter import Parameter
from flambeau.runtime.recorder import Tensor

_MODES = ("zeros", "reflect", "replicate", "circular")


class _Convolution(Module):
    """What all six share: a kernel, a bias, and how they are drawn: uniform in [-b, b) with b = 1 / sqrt(inputs of an output)."""

    def __init__(
        self,
        rank: int,
        channels: tuple[int, int],
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        output_padding: Any,
        groups: int,
        bias: bool,
        padding_mode: str,
        transposed: bool,
        device: Device,
        dtype: Any,
    ) -> None:
        super().__init__()
        self._check(channels, groups, stride, padding, padding_mode)
        self.in_channels, self.out_channels = channels
        self.kernel_size, self.stride = repeated(kernel_size, rank), repeated(stride, rank)
        self.padding = padding if isinstance(padding, str) else repeated(padding, rank)
        self.dilation, self.transposed = repeated(dilation, rank), transposed
        self.output_padding, self.groups = repeated(output_padding, rank), groups
        self.padding_mode = padding_mode
        outer, inner = channels[::-1] if not transposed else channels
        shape = (outer, inner // groups, *self.kernel_size)
        self.weight = Parameter(empty(*shape, dtype=dtype, device=device))
        if bias:
            self.bias = Parameter(empty(self.out_channels, dtype=dtype, device=device))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def _check(self, channels: tuple[int, int], groups: int, stride: Any, padding: Any, padding_mode: str) -> None:
        name = type(self).__name__
        if groups < 1:
            raise ValueError(f"[{name}] groups is {groups}. Give at least 1.")
        for what, count in zip(("in_channels", "out_channels"), channels, strict=True):
            if count % groups:
                raise ValueError(f"[{name}] {what} is {count} and groups {groups}. Give a multiple of groups.")
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise ValueError(f"[{name}] padding is {padding!r}. Use 'same', 'valid' or numbers.")
        if padding == "same" and any(n != 1 for n in repeated(stride, 1)):
            raise ValueError(f"[{name}] padding is 'same' and stride {stride}. Use stride 1, or give numbers.")
        if padding_mode not in _MODES:
            raise ValueError(f"[{name}] padding_mode is {padding_mode!r}. Use one of {', '.join(map(repr, _MODES))}.")

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        inputs = math.prod(self.weight.shape[1:])
        if not inputs:
            return
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            init.uniform_(self.bias, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs))

    def extra_repr(self) -> str:
        rank = len(self.kernel_size)
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        unusual = {
            "padding": (self.padding, (0,) * rank),
            "dilation": (self.dilation, (1,) * rank),
            "output_padding": (self.output_padding, (0,) * rank),
            "groups": (self.groups, 1),
            "bias": (self.bias is not None, True),
            "padding_mode": (self.padding_mode, "zeros"),
        }
        return text + "".join(f", {name}={found}" for name, (found, usual) in unusual.items() if found != usual)


# ---- convolutions -----------------------------------------------------------------------------------------------


class _Forward(_Convolution):
    _rank: int
    _function: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Device = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            self._rank, (in_channels, out_channels), kernel_size, stride, padding, dilation, 0, groups, bias,
            padding_mode, False, device, dtype,
        )  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        call = type(self)._function
        if self.padding_mode == "zeros":
            return call(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        padded = pad(input, self._margins(), self.padding_mode)
        return call(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def _margins(self) -> tuple[int, ...]:
        """(low, high) pairs for `pad`, the last axis first."""
        if self.padding == "same":
            total = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            pairs = [(n // 2, n - n // 2) for n in total]
        else:
            pairs = [(n, n) for n in (repeated(0, self._rank) if isinstance(self.padding, str) else self.padding)]
        return tuple(n for pair in reversed(pairs) for n in pair)


class Conv1d(_Forward):
    """`conv1d` with a weight [out_channels, in_channels / groups, kernel_size] and a bias [out_channels].

    Both start uniform in [-b, b), b = 1 / sqrt(in_channels / groups * kernel_size). `padding_mode` says what lies around the map:
    "zeros", "reflect", "replicate" or "circular". Raises ValueError for channels that groups do not divide, and for words
    that do not exist.
    """

    _rank, _function = 1, conv1d


class Conv2d(_Forward):
    """`conv2d` with a weight [out_channels, in_channels / groups, *kernel_size] and a bias [out_channels], as `Conv1d`."""

    _rank, _function = 2, conv2d


class Conv3d(_Forward):
    """`conv3d` with a weight [out_channels, in_channels / groups, *kernel_size] and a bias [out_channels], as `Conv1d`."""

    _rank, _function = 3, conv3d


# ---- transposed convolutions ------------------------------------------------------------------------------------


class _Transposed(_Convolution):
    _rank: int
    _function: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Device = None,
        dtype: Any = None,
    ) -> None:
        if padding_mode != "zeros":
            raise ValueError(f"[{type(self).__name__}] padding_mode is {padding_mode!r}. Use 'zeros'.")
        super().__init__(
            self._rank, (in_channels, out_channels), kernel_size, stride, padding, dilation, output_padding, groups, bias,
            padding_mode, True, device, dtype,
        )  # fmt: skip

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        extra = self.output_padding if output_size is None else self._extra(input, list(output_size))
        return type(self)._function(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation
        )

    def _extra(self, input: Tensor, wanted: list[int]) -> tuple[int, ...]:
        """The `output_padding` that gives a size: of the spatial axes, or of all. Raises ValueError where none does."""
        name, rank = type(self).__name__, self._rank
        if len(wanted) == input.ndim:
            wanted = wanted[-rank:]
        if len(wanted) != rank:
            raise ValueError(f"[{name}] output_size has {len(wanted)} numbers. Give {rank} or {input.ndim}.")
        rows = zip(input.shape[-rank:], self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        least = [(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, k, s, p, d in rows]
        most = [n + s - 1 for n, s in zip(least, self.stride, strict=True)]
        if any(not a <= n <= b for n, a, b in zip(wanted, least, most, strict=True)):
            raise ValueError(
                f"[{name}] output_size is {tuple(wanted)}, and input of shape {tuple(input.shape)} gives {tuple(least)} to "
                f"{tuple(most)}. Give a size between."
            )
        return tuple(n - a for n, a in zip(wanted, least, strict=True))


class ConvTranspose1d(_Transposed):
    """`conv_transpose1d` with a weight [in_channels, out_channels / groups, kernel_size] and a bias [out_channels].

    Both start uniform in [-b, b), b = 1 / sqrt(out_channels / groups * kernel_size). A call may ask for an `output_size`, from
    which `output_padding` follows; ValueError where none gives it.
    """

    _rank, _function = 1, conv_transpose1d


class ConvTranspose2d(_Transposed):
    """`conv_transpose2d` with a weight [in_channels, out_channels / groups, *kernel_size], a bias [out_channels]: as
    `ConvTranspose1d`."""

    _rank, _function = 2, conv_transpose2d


class ConvTranspose3d(_Transposed):
    """`conv_transpose3d` with a weight [in_channels, out_channels / groups, *kernel_size], a bias [out_channels]: as
    `ConvTranspose1d`."""

    _rank, _function = 3, conv_transpose3d
