"""Whole numbers that stand for others: x = (q - zero) * scale, with one scale and zero, or one along an axis, or in blocks of it.

Products of such numbers are made of whole numbers, exactly, as int32.
"""

from __future__ import annotations

from typing import Any

from flambeau.onnx.names import fb
from flambeau.onnx.node import OnnxNode, rule
from flambeau.onnx.package import dtype_of
from flambeau.onnx.rules.convolution import convolved
from flambeau.runtime.recorder import Tensor


def _along(node: OnnxNode, v: Tensor, x: Tensor, axis: int | None = None) -> Tensor:
    """A scale or zero in a form that is stretched over x."""
    if v.dim() == 0 or v.numel() == 1:
        return v.reshape([])
    axis = (node.get("axis", 1) if axis is None else axis) % x.dim()
    if v.dim() > 1:
        block = node.get("block_size", 0)
        if not block:
            raise node.lacks(f"has scales of {v.dim()} dimensions without a block_size")
        return v.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    return v.reshape([-1 if d == axis else 1 for d in range(x.dim())])


def _saturated(x: Tensor, zero: Tensor | None, dtype: Any) -> Tensor:
    """Rounded to the nearest (even) whole number, moved by zero, and kept to what the dtype holds."""
    limits = fb.iinfo(dtype)
    found = fb.round(x)
    found = found if zero is None else found + zero.to(x.dtype)
    return fb.clamp(found, limits.min, limits.max).to(dtype)


@rule("DequantizeLinear")
def _dequantize(node: OnnxNode, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    found = x.to(scale.dtype)
    found = found if zero is None else found - _along(node, zero, x).to(scale.dtype)
    return found * _along(node, scale, x)


@rule("QuantizeLinear")
def _quantize(node: OnnxNode, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    wanted = node.get("output_dtype", 0)
    dtype = zero.dtype if zero is not None else dtype_of(wanted, node.kind) if wanted else fb.uint8
    if x.dtype.is_integer:
        x = x.to(scale.dtype)
    return _saturated(x / _along(node, scale, x), None if zero is None else _along(node, zero, x), dtype)


@rule("DynamicQuantizeLinear")
def _quantize_by_range(node: OnnxNode, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """To uint8 by what is between the least and the greatest, and 0; of zeros alone the scale is 1."""
    least, most = fb.clamp(x.amin(), max=0), fb.clamp(x.amax(), min=0)
    scale = (most - least) / 255
    scale = fb.where(scale == 0, 1.0, scale)
    zero = _saturated(-least / scale, None, fb.uint8)
    return _saturated(x / scale, zero, fb.uint8), scale, zero


# ---- products ------------------------------------------------------------------------------------------------


def _moved(x: Tensor, zero: Tensor | None) -> Tensor:
    """x - zero, as int32."""
    x = x.to(fb.int32)
    return x if zero is None else x - zero.to(fb.int32)


def _of_rows(v: Tensor) -> Tensor:
    """A scale or zero of each row of a matrix, as a column."""
    return v.unsqueeze(-1) if v.dim() == 1 and v.numel() > 1 else v


@rule("MatMulInteger")
def _matmul_integer(node: OnnxNode, x: Tensor, y: Tensor, zero: Any = None, zero_y: Any = None) -> Tensor:
    return fb.matmul(_moved(x, None if zero is None else _of_rows(zero)), _moved(y, zero_y))


@rule("ConvInteger")
def _conv_integer(node: OnnxNode, x: Tensor, w: Tensor, zero: Any = None, zero_w: Any = None) -> Tensor:
    zero_w = None if zero_w is None else _along(node, zero_w, w, axis=0)
    return convolved(node, _moved(x, zero), _moved(w, zero_w))


@rule("QLinearMatMul")
def _matmul(
    node: OnnxNode,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    *result: Tensor,
) -> Tensor:
    scale, zero = result
    whole = fb.matmul(_moved(a, _of_rows(a_zero)), _moved(b, b_zero))
    return _saturated(
        whole.to(scale.dtype) * (_of_rows(a_scale) * b_scale / _of_rows(scale)), _of_rows(zero), zero.dtype
    )


@rule("QLinearConv")
def _conv(
    node: OnnxNode,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero: Tensor,
    *result: Tensor,
) -> Tensor:
    """The bias counts in units of both scales."""
    scale, zero, *bias = result
    whole = convolved(node, _moved(x, x_zero), _moved(w, _along(node, w_zero, w, axis=0)), *bias)
    factor = x_scale * w_scale / scale
    return _saturated(whole.to(scale.dtype) * _along(node, factor, whole, axis=1), zero, zero.dtype)
