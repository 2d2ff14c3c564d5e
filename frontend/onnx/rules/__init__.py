"""What computes each kind of node: importing this package fills `node.RULES`. Each module is a family of nodes."""

from flambeau.onnx.rules import (
    convolution,
    indexing,
    normalization,
    pointwise,
    pooling,
    products,
    quantization,
    recurrent,
    reductions,
    resizing,
    shapes,
)

__all__ = [
    "convolution",
    "indexing",
    "normalization",
    "pointwise",
    "pooling",
    "products",
    "quantization",
    "recurrent",
    "reductions",
    "resizing",
    "shapes",
]
