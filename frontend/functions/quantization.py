"""Numbers as small integers and a scale: quantize, dequantize, fake quantization, and products with weights that are int8.

An integer q stands for (q - zero_point) * scale. In: floats, or int8 and uint8 with their scales. Out: integers or floats.
Products of floats with int8 weights are those of the weights as floats, scaled at the end; products of integers are exact int32
sums. Next: `flambeau/quantization/layers.py`, the layers; `docs/quantization.md`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import DType, float32, int8, int32, uint8
from flambeau.function import Operand, Optional_, Padding, Static, Tensor_, function
from flambeau.functions.common import canonical_dim, check_between, check_floating, matched, ops, promoted
from flambeau.functions.convolution import convolution
from flambeau.functions.linear import matmul
from flambeau.promotion import get_default_dtype
from flambeau.samples import call, calls, data

# ---- numbers as integers ----------------------------------------------------------------------------------------


def _along(op: str, what: str, v: Value, x: Value, axis: int | None) -> Value:
    """A number for all of `x`, or one for each place along `axis`, in a shape that broadcasts to `x`."""
    if axis is None:
        if v.shape not in ((), (1,)):
            raise RuntimeError(f"[{op}] {what} has shape {v.shape}, and there is no axis. Pass one number, or axis.")
        return ops.reshape(v, shape=()) if v.shape else v
    axis = canonical_dim(op, axis, len(x.shape))
    if v.shape not in ((), (x.shape[axis],)):
        raise RuntimeError(
            f"[{op}] {what} has shape {v.shape}, and input of shape {x.shape} has {x.shape[axis]} places along axis {axis}. "
            "Give one number each."
        )
    return ops.reshape(v, shape=tuple(n if d == axis else 1 for d, n in enumerate(x.shape))) if v.shape else v


def _whole(op: str, x: Value, scale: Value, zero_point: Value, axis: int | None) -> tuple[Value, Value, Value]:
    """round(x / scale) + zero_point as floats, not limited to any dtype; then scale and zero point, of that shape. The quotient
    is x times one over the scale, as in PyTorch."""
    scale = _along(op, "scale", scale, x, axis)
    zero_point = _along(op, "zero_point", zero_point, x, axis)
    dtype = promoted(op, x, scale)[0].dtype
    x, inverse, scale, zero_point = matched(op, dtype, x, 1.0 / scale.cast(dtype), scale, zero_point)
    return ops.round(x * inverse) + zero_point, scale, zero_point


def _integer(op: str, dtype: Any) -> DType:
    if not isinstance(dtype, DType) or not dtype.is_integer:
        raise RuntimeError(f"[{op}] dtype is {dtype}. Use an integer one, such as flambeau.int8.")
    return dtype


_SCALE = np.float32(0.02)
_MAP = np.arange(-60, 60, 5, dtype=np.int8)
_SCALES, _ZEROS = np.array([0.02, 0.05, 0.01], np.float32), np.array([0, 3, -2], np.int32)


@function(
    free="quantization",
    samples=calls(
        lambda: [
            call(data(3, 4), 0.02, gradient=False),
            call(data(3, 4), np.array(_SCALE), np.array(7, np.int32), dtype=uint8, gradient=False),
            call(data(3, 4), _SCALES, _ZEROS, axis=0, gradient=False),
            call(data(4, 3), _SCALES, axis=-1, gradient=False),
            call(data(2), 0.1, dtype=float32, error=(RuntimeError, "Use an integer one")),
            call(data(2, 4), _SCALES, axis=1, error=(RuntimeError, "has 4 places along axis 1")),
            call(data(2, 4), _SCALES, error=(RuntimeError, "there is no axis")),
            call(np.ones(2, np.int32), 0.1, error=(RuntimeError, "expected a floating-point one")),
        ]
    ),
)
def quantize(input: Tensor_, scale: Operand, zero_point: Operand = 0, dtype: Static = int8, axis: Static = None):
    """round(input * (1 / scale)) + zero_point as integers of `dtype`, halves to the even one, limited to what that holds; NaN
    becomes 0. `scale` and `zero_point` are one number, or one for each place along `axis`.

    Raises RuntimeError for inputs that are no floats, dtypes that are no integers, and shapes that do not fit.
    """
    check_floating("quantize", input)
    return _whole("quantize", input, scale, zero_point, axis)[0].cast(_integer("quantize", dtype))


@function(
    free="quantization",
    samples=calls(
        lambda: [
            call(np.arange(-128, 128, dtype=np.int8), np.array(_SCALE)),
            call(np.arange(200, 212, dtype=np.uint8).reshape(3, 4), _SCALES, _ZEROS, 0),
            call(np.arange(12, dtype=np.int8).reshape(4, 3), 0.5, 2),
            call(data(2), 0.5, error=(RuntimeError, "expected an integer one")),
            call(np.ones((2, 4), np.int8), _SCALES, 0, 1, error=(RuntimeError, "has 4 places along axis 1")),
        ]
    ),
)
def dequantize(input: Tensor_, scale: Operand, zero_point: Operand = 0, axis: Static = None):
    """(input - zero_point) * scale, in the dtype of `scale`, the default one for a number. `scale` and `zero_point` are one
    number, or one for each place along `axis`. Raises RuntimeError for inputs that are no integers, and shapes that do not
    fit."""
    if not input.dtype.is_integer:
        raise RuntimeError(f"[dequantize] input has dtype {input.dtype}, expected an integer one. Quantize it first.")
    scale = _along("dequantize", "scale", scale, input, axis)
    zero_point = _along("dequantize", "zero_point", zero_point, input, axis)
    dtype = get_default_dtype() if scale.weak else scale.dtype
    x, scale, zero_point = matched("dequantize", dtype, input, scale, zero_point)
    return (x - zero_point) * scale


# ---- what quantization changes ----------------------------------------------------------------------------------


def _fake(op: str, x: Value, scale: Value, zero_point: Value, axis: int | None, low: int, high: int) -> Value:
    check_floating(op, x)
    if low > high:
        raise RuntimeError(f"[{op}] quant_min is {low} and quant_max {high}. Give a quant_min that is not above.")
    if zero_point.weak:
        zero_point = check_between(op, "zero_point", zero_point, low, high, f"is out of range. Use {low}..{high}.")
    whole, scale, zero_point = _whole(op, x, scale, zero_point, axis)
    inside = ops.and_(whole >= low, whole <= high)
    kept = ops.minimum(ops.maximum(whole, whole.like(low)), whole.like(high))
    found = ops.stop_gradient((kept - zero_point) * scale)
    passed = ops.select(inside, x.cast(found.dtype), found.like(0))  # for its gradient: its value is taken off again
    return (found + (passed - ops.stop_gradient(passed))).cast(x.dtype)


@function(
    free="flambeau",
    samples=calls(
        lambda: [
            call(data(3, 4), 0.1, 0, -128, 127, gradient=False),
            call(data(3, 4), np.array(_SCALE), np.array(7, np.int32), 0, 255, gradient=False),
            call(data(3), 0.1, 0, 3, 2, error=(RuntimeError, "quant_min is 3 and quant_max 2")),
            call(data(3), 0.1, 300, 0, 255, error=(RuntimeError, "is out of range. Use 0..255.")),
            call(np.ones(2, np.int32), 0.1, 0, 0, 255, error=(RuntimeError, "expected a floating-point one")),
        ]
    ),
    fallible=True,
)
def fake_quantize_per_tensor_affine(
    input: Tensor_, scale: Operand, zero_point: Operand, quant_min: Static, quant_max: Static
):
    """What `input` is after it was quantized to quant_min..quant_max and back. The gradient passes where nothing was cut off.
    Raises RuntimeError for bounds that cross, a number `zero_point` beyond them, and inputs that are no floats."""
    return _fake("fake_quantize_per_tensor_affine", input, scale, zero_point, None, quant_min, quant_max)


@function(
    free="flambeau",
    samples=calls(
        lambda: [
            call(data(3, 4), _SCALES, _ZEROS, 0, -8, 7, gradient=False),
            call(data(2, 3, 2), _SCALES, _ZEROS, 1, -128, 127, gradient=False),
            call(data(2, 4), _SCALES, _ZEROS, 1, 0, 255, error=(RuntimeError, "has 4 places along axis 1")),
            call(data(3), _SCALES, _ZEROS, 0, 3, 2, error=(RuntimeError, "quant_min is 3 and quant_max 2")),
        ]
    ),
)
def fake_quantize_per_channel_affine(
    input: Tensor_, scale: Tensor_, zero_point: Tensor_, axis: Static, quant_min: Static, quant_max: Static
):
    """`fake_quantize_per_tensor_affine` with a scale and a zero point for each place along `axis`. Raises RuntimeError for bounds
    that cross, shapes that do not fit, and inputs that are no floats."""
    return _fake("fake_quantize_per_channel_affine", input, scale, zero_point, axis, quant_min, quant_max)


# ---- products with quantized weights ----------------------------------------------------------------------------


def _check_weight(op: str, weight: Value, scale: Value, rank: int) -> None:
    if weight.dtype is not int8 or len(weight.shape) != rank:
        raise RuntimeError(
            f"[{op}] weight is {weight.dtype} of shape {weight.shape}, expected int8 with {rank} dimensions. Quantize it first."
        )
    if scale.shape not in ((), (weight.shape[0],)):
        raise RuntimeError(
            f"[{op}] scale has shape {scale.shape}, and weight of shape {weight.shape} has {weight.shape[0]} rows. Give one "
            "number each."
        )


def _check_features(op: str, x: Value, weight: Value) -> None:
    if not x.shape or x.shape[-1] != weight.shape[1]:
        raise RuntimeError(
            f"[{op}] input of shape {x.shape} and weight of shape {weight.shape} do not fit: the last sizes must be equal. "
            "Check in_features."
        )


def _check_small(op: str, x: Value) -> None:
    if x.dtype not in (int8, uint8):
        raise RuntimeError(f"[{op}] input has dtype {x.dtype}, expected int8 or uint8. Quantize it first.")


def _rows(x: Value, weight: Value) -> Value:
    """x @ weight.T."""
    return matmul.rule(x, ops.permute(weight, perm=(1, 0)))


def _scaled(op: str, y: Value, scale: Value, bias: Value | None, axis: int) -> Value:
    """y * scale + bias, both one for each place along `axis`."""
    shape = tuple(n if d == axis else 1 for d, n in enumerate(y.shape))
    if bias is not None and bias.shape != (y.shape[axis],):
        raise RuntimeError(
            f"[{op}] bias has shape {bias.shape}, and there are {y.shape[axis]} rows. Give one number each."
        )
    scale, *rest = (
        v if not v.shape else ops.reshape(v, shape=shape) for v in (scale, *([] if bias is None else [bias]))
    )
    y = y * scale.cast(y.dtype).expand(y.shape)
    return y + rest[0].cast(y.dtype).expand(y.shape) if rest else y


_WEIGHT = np.arange(-64, 64, 7, dtype=np.int8)[:12]


@function(
    free="quantization",
    samples=calls(
        lambda: [
            call(data(2, 4), _WEIGHT.reshape(3, 4), data(3), data(3)),
            call(data(4), _WEIGHT.reshape(3, 4), data(3)),
            call(data(2, 1, 4), _WEIGHT.reshape(3, 4), data()),
            call(data(2, 3), _WEIGHT.reshape(3, 4), data(3), error=(RuntimeError, "the last sizes must be equal")),
            call(data(2, 4), data(3, 4), data(3), error=(RuntimeError, "expected int8 with 2 dimensions")),
            call(data(2, 3), _WEIGHT.reshape(4, 3), data(3), error=(RuntimeError, "has 4 rows")),
            call(data(2, 4), _WEIGHT.reshape(3, 4), data(3), data(4), error=(RuntimeError, "bias has shape (4,)")),
        ]
    ),
)
def int8_linear(input: Tensor_, weight: Tensor_, scale: Tensor_, bias: Optional_ = None):
    """`(input @ weight.T) * scale + bias`: [..., in], int8 weight [out, in], scale [out] (or one number) and bias [out] give
    [..., out] in the dtype of `input`.

    The product is that of `linear` with the weights converted to the input's dtype, which holds them exactly; it is scaled once,
    at the end. The converted weights are never in memory. Raises RuntimeError for shapes and dtypes that do not fit.
    """
    check_floating("int8_linear", input)
    _check_weight("int8_linear", weight, scale, 2)
    _check_features("int8_linear", input, weight)
    return _scaled("int8_linear", _rows(input, weight.cast(input.dtype)), scale, bias, -1 % len(input.shape))


@function(
    free="quantization",
    samples=calls(
        lambda: [
            call(_WEIGHT[:8].reshape(2, 4), _WEIGHT.reshape(3, 4), data(3), data(3)),
            call(_WEIGHT[:4].view(np.uint8), _WEIGHT.reshape(3, 4), data(3)),
            call(data(2, 4), _WEIGHT.reshape(3, 4), data(3), error=(RuntimeError, "expected int8 or uint8")),
            call(_WEIGHT[:3], _WEIGHT.reshape(3, 4), data(3), error=(RuntimeError, "the last sizes must be equal")),
        ]
    ),
)
def quantized_linear(input: Tensor_, weight: Tensor_, scale: Tensor_, bias: Optional_ = None):
    """`(input @ weight.T) * scale + bias`: [..., in] of int8 or uint8, int8 weight [out, in], scale [out] (or one number) and bias
    [out] give [..., out] in the dtype of `scale`.

    The product is added up in int32, exactly for up to 65,793 features, and wraps beyond. Zero points are 0; `scale` is that of the
    input times those of the weights. Raises RuntimeError for shapes and dtypes that do not fit.
    """
    _check_small("quantized_linear", input)
    _check_weight("quantized_linear", weight, scale, 2)
    _check_features("quantized_linear", input, weight)
    found = _rows(input.cast(int32), weight.cast(int32)).cast(scale.dtype)
    return _scaled("quantized_linear", found, scale, bias, -1 % len(input.shape))


@function(
    free="quantization",
    samples=calls(
        lambda: [
            call(_MAP.reshape(1, 3, 4, 2), _MAP[:18].reshape(3, 3, 2, 1), data(3), data(3), padding=1),
            call(
                _MAP.reshape(2, 4, 3).view(np.uint8),
                _MAP[:12].reshape(3, 2, 2),
                data(3),
                None,
                1,
                0,
                1,
                2,
                error=(RuntimeError, "does not divide into 2 groups"),
            ),
            call(_MAP.reshape(2, 12).view(np.uint8), _MAP[:18].reshape(3, 2, 3), data(3), None, 2, "valid"),
            call(
                data(1, 3, 4, 2), _MAP[:18].reshape(3, 3, 2, 1), data(3), error=(RuntimeError, "expected int8 or uint8")
            ),
            call(_MAP.reshape(1, 3, 4, 2), _MAP[:9].reshape(3, 3), data(3), error=(RuntimeError, "with 4 dimensions")),
        ]
    ),
)
def quantized_conv(
    input: Tensor_,
    weight: Tensor_,
    scale: Tensor_,
    bias: Optional_ = None,
    stride: Static = 1,
    padding: Padding = 0,
    dilation: Static = 1,
    groups: Static = 1,
):
    """A convolution (`conv1d`, `conv2d` or `conv3d`, as the weight has dimensions) times `scale` plus `bias`: maps of int8 or
    uint8, int8 weight [O, C / groups, *K], scale [O] (or one number) and bias [O] give maps in the dtype of `scale`.

    Sums, scales and errors are as those of `quantized_linear`; maps are 0 beyond their margins.
    """
    _check_small("quantized_conv", input)
    rank = len(weight.shape) - 2
    _check_weight("quantized_conv", weight, scale, rank + 2 if rank in (1, 2, 3) else len(input.shape))
    wide = input.cast(int32), weight.cast(int32)
    found = convolution("quantized_conv", rank, *wide, None, stride, padding, dilation, groups).cast(scale.dtype)
    return _scaled("quantized_conv", found, scale, bias, len(found.shape) - 1 - rank)
