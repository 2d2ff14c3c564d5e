"""Weights of int8 beside floats: what is read of them is a quarter, which is what a product with few rows waits for.

In: a model. Out: the same, with `Int8Linear` where `nn.Linear` was. Next: `calibration.py`, where maps are int8, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flambeau.functions.quantization import dequantize, int8_linear
from flambeau.nn.linear import Linear
from flambeau.nn.module import Module
from flambeau.quantization.weights import Filter, quantized_weight, replace_layers
from flambeau.runtime.recorder import Tensor


class Int8Linear(Module):
    """`input @ weight.T * scale + bias` with an int8 weight [out, in] and a scale [out]: see `int8_linear`.

    Gradients pass to the input; weight, scale and bias are buffers, which no optimizer changes. Made by `from_float` of an
    `nn.Linear`, as `quantize_` does. `dequantize()` gives the float weight that it stands for.
    """

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)

    @classmethod
    def from_float(cls, layer: Linear) -> Int8Linear:
        """The layer with the weights of a float one, rounded."""
        bias = None if layer.bias is None else layer.bias.detach().clone()
        weight, scale = quantized_weight(layer.weight)
        return cls(weight, scale, bias)

    def dequantize(self) -> Tensor:
        """The weight as floats."""
        return dequantize(self.weight, self.scale, axis=0)

    def forward(self, input: Tensor) -> Tensor:
        return int8_linear(input, self.weight, self.scale, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


@dataclass(frozen=True)
class Int8WeightOnlyConfig:
    """Says to `quantize_`: int8 weights with a scale for each output, floats otherwise."""


def is_linear(module: Module, path: str) -> bool:
    """Whether a layer is an `nn.Linear`, and nothing made of it: others may read its weight themselves."""
    return type(module) is Linear


def quantize_(model: Module, config: Any, filter_fn: Filter | None = None) -> None:
    """Change the layers of a model in place, as `config` says: `Int8WeightOnlyConfig()` makes every `nn.Linear` an `Int8Linear`,
    for which `filter_fn(module, path)` holds; by default all.

    Raises TypeError for other configs, ValueError where no layer is changed, or where `model` itself is the layer.
    """
    if not isinstance(config, Int8WeightOnlyConfig):
        raise TypeError(f"[quantize_] config is a {type(config).__name__}. Pass an Int8WeightOnlyConfig().")
    if is_linear(model, ""):
        raise ValueError(
            "[quantize_] the model itself is a Linear, which cannot be replaced in place. Use Int8Linear.from_float(model)."
        )
    wanted = is_linear if filter_fn is None else lambda m, path: is_linear(m, path) and filter_fn(m, path)
    if not replace_layers(model, wanted, Int8Linear.from_float):
        raise ValueError("[quantize_] the model has no Linear that filter_fn chooses. Pass a model that has.")
