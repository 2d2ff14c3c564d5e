"""Layers that compute with integers: int8 weights, inputs of int8 or uint8, sums of int32.

In: floats, which a layer quantizes by the scale that calibration gave it. Out: floats. The ops between two layers are computed
where the first one's sums are finished, so what is stored between them is the second one's integers.
Next: `functions/quantization.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.dialects.dtypes import DType
from flambeau.functions.from_data import tensor
from flambeau.functions.quantization import quantize, quantized_conv, quantized_linear
from flambeau.nn.convolution import Conv1d, Conv2d, Conv3d
from flambeau.nn.linear import Linear
from flambeau.nn.module import Module
from flambeau.quantization.weights import quantized_weight
from flambeau.runtime.recorder import Tensor


def is_convolution(module: Module) -> bool:
    """Whether a layer is a convolution that can be computed with integers."""
    return type(module) in (Conv1d, Conv2d, Conv3d) and module.padding_mode == "zeros"


class _Quantized(Module):
    """`scale` [out] is that of the input times those of the weights."""

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None, input_scale: Tensor, dtype: DType) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)
        self.register_buffer("input_scale", input_scale)
        self.input_dtype = dtype

    def _integers(self, input: Tensor) -> Tensor:
        if self.training:
            name = type(self).__name__
            raise RuntimeError(
                f"[{name}] the layer is in training mode, and its weights are integers, which are not trained. Call eval(), "
                "or train the model that was given to prepare."
            )
        return quantize(input, self.input_scale, dtype=self.input_dtype)

    def get_extra_state(self) -> Tensor:
        """The zero point of the input, whose dtype is part of the state."""
        return tensor(0, dtype=self.input_dtype)

    def set_extra_state(self, state: Tensor) -> None:
        self.input_dtype = state.dtype


def _members(layer: Any, input_scale: float, dtype: DType) -> tuple[Tensor, Tensor, Tensor | None, Tensor, DType]:
    weight, scale = quantized_weight(layer.weight)
    bias = None if layer.bias is None else layer.bias.detach().clone()
    return weight, scale * input_scale, bias, tensor(input_scale), dtype


class QuantizedLinear(_Quantized):
    """`nn.Linear` on integers: see `quantized_linear`. Made by `convert`."""

    @classmethod
    def from_float(cls, layer: Linear, input_scale: float, dtype: DType) -> QuantizedLinear:
        """The layer with the weights of a float one, rounded, for inputs of that scale."""
        return cls(*_members(layer, input_scale, dtype)).eval()

    def forward(self, input: Tensor) -> Tensor:
        return quantized_linear(self._integers(input), self.weight, self.scale, self.bias)

    def extra_repr(self) -> str:
        rows, columns = self.weight.shape
        return (
            f"in_features={columns}, out_features={rows}, bias={self.bias is not None}, input_dtype={self.input_dtype}, "
            f"input_scale={self.input_scale.item():.4g}"
        )


class QuantizedConv(_Quantized):
    """`nn.Conv1d`, `Conv2d` or `Conv3d` on integers: see `quantized_conv`. Made by `convert`. The weight is [O, *K, C / groups],
    so that channels, which are added up four at a time, lie side by side."""

    stride: Any
    padding: Any
    dilation: Any
    groups: int

    @classmethod
    def from_float(cls, layer: Any, input_scale: float, dtype: DType) -> QuantizedConv:
        """The layer with the weights of a float one, rounded, for inputs of that scale."""
        made = cls(*_members(layer, input_scale, dtype)).eval()
        made.weight = made.weight.movedim(1, -1).contiguous()
        made.stride, made.padding, made.dilation, made.groups = (
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
        )
        return made

    def forward(self, input: Tensor) -> Tensor:
        where = self.stride, self.padding, self.dilation, self.groups
        return quantized_conv(self._integers(input), self.weight.movedim(-1, 1), self.scale, self.bias, *where)

    def extra_repr(self) -> str:
        rows, *kernel, columns = self.weight.shape
        return (
            f"{columns * self.groups}, {rows}, kernel_size={tuple(kernel)}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, groups={self.groups}, bias={self.bias is not None}, input_dtype={self.input_dtype}, "
            f"input_scale={self.input_scale.item():.4g}"
        )
