"""Whole numbers that stand for others: x = (q - zero) * scale, with one scale and zero, or one along an axis."""

from __future__ import annotations

from flambeau.onnx.names import fb
from flambeau.onnx.node import OnnxNode, rule
from flambeau.runtime.recorder import Tensor


def _along(node: OnnxNode, v: Tensor, x: Tensor) -> Tensor:
    if v.dim() == 0 or v.numel() == 1:
        return v.reshape([])
    if v.dim() > 1:
        raise node.lacks("has scales in blocks")
    axis = node.get("axis", 1) % x.dim()
    return v.reshape([-1 if d == axis else 1 for d in range(x.dim())])


@rule("DequantizeLinear")
def _dequantize(node: OnnxNode, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    found = x.to(scale.dtype)
    found = found if zero is None else found - _along(node, zero, x).to(scale.dtype)
    return found * _along(node, scale, x)


@rule("QuantizeLinear")
def _quantize(node: OnnxNode, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    dtype = fb.uint8 if zero is None else zero.dtype
    found = fb.round(x / _along(node, scale, x))
    found = found if zero is None else found + _along(node, zero, x).to(x.dtype)
    limits = fb.iinfo(dtype)
    return fb.clamp(found, limits.min, limits.max).to(dtype)
