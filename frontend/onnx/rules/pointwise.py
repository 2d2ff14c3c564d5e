"""Nodes that compute element by element: arithmetic, comparison, activations, casts."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
from flambeau.onnx.names import F, fb
from flambeau.onnx.node import OnnxNode, rule
from flambeau.onnx.package import dtype_of
from flambeau.runtime.recorder import Tensor

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": fb.abs, "Acos": fb.acos, "Acosh": fb.acosh, "Asin": fb.asin, "Asinh": fb.asinh, "Atan": fb.atan, "Atanh": fb.atanh,
    "BitwiseNot": fb.bitwise_not, "Ceil": fb.ceil, "Cos": fb.cos, "Cosh": fb.cosh, "Erf": fb.erf, "Exp": fb.exp, "Floor": fb.floor,
    "HardSwish": F.hardswish, "IsNaN": fb.isnan, "Log": fb.log, "Mish": F.mish, "Neg": fb.neg, "Not": fb.logical_not,
    "Reciprocal": fb.reciprocal, "Relu": F.relu, "Round": fb.round, "Sigmoid": fb.sigmoid, "Sign": fb.sign, "Sin": fb.sin,
    "Sinh": fb.sinh, "Softplus": lambda x: fb.logaddexp(x, fb.zeros_like(x)), "Softsign": F.softsign, "Sqrt": fb.sqrt,
    "Tan": fb.tan, "Tanh": fb.tanh,
}  # fmt: skip

_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": fb.add, "And": fb.logical_and, "BitwiseAnd": fb.bitwise_and, "BitwiseOr": fb.bitwise_or, "BitwiseXor": fb.bitwise_xor,
    "Equal": fb.eq, "Greater": fb.gt, "GreaterOrEqual": fb.ge, "Less": fb.lt, "LessOrEqual": fb.le, "Mul": fb.mul,
    "Or": fb.logical_or, "Sub": fb.sub, "Xor": fb.logical_xor,
}  # fmt: skip


@rule(" ".join(_UNARY))
def _unary(node: OnnxNode, x: Tensor) -> Tensor:
    return _UNARY[node.kind](x)


@rule(" ".join(_BINARY))
def _binary(node: OnnxNode, x: Tensor, y: Tensor) -> Tensor:
    return _BINARY[node.kind](x, y)


@rule("Identity", raw=True)
def _identity(node: OnnxNode, x: Any) -> Any:
    return x


@rule("Dropout")
def _dropout(node: OnnxNode, x: Tensor, ratio: Any = None, training: Any = None) -> Any:
    """As in inference: nothing is dropped."""
    return x if node.results == 1 else (x, fb.ones_like(x, dtype=fb.bool))


@rule("Div")
def _div(node: OnnxNode, x: Tensor, y: Tensor) -> Tensor:
    return fb.div(x, y) if x.dtype.is_floating_point else fb.div(x, y, rounding_mode="trunc")


@rule("Pow")
def _pow(node: OnnxNode, x: Tensor, y: Tensor) -> Tensor:
    if y.dtype.is_floating_point and not x.dtype.is_floating_point:
        return fb.pow(x.to(y.dtype), y).to(x.dtype)
    return fb.pow(x, y.to(x.dtype))


@rule("Mod")
def _mod(node: OnnxNode, x: Tensor, y: Tensor) -> Tensor:
    return fb.fmod(x, y) if node.get("fmod", 0) else fb.remainder(x, y)


@rule("BitShift")
def _bit_shift(node: OnnxNode, x: Tensor, y: Tensor) -> Tensor:
    return fb.bitwise_left_shift(x, y) if node.get("direction") == "LEFT" else fb.bitwise_right_shift(x, y)


@rule("Max Min Sum Mean")
def _several(node: OnnxNode, *xs: Tensor) -> Tensor:
    calls: dict[str, Callable] = {"Max": fb.maximum, "Min": fb.minimum}
    found = reduce(calls.get(node.kind, fb.add), xs)
    return found / len(xs) if node.kind == "Mean" else found


@rule("Where")
def _where(node: OnnxNode, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return fb.where(condition, x, y)


@rule("Cast")
def _cast(node: OnnxNode, x: Tensor) -> Tensor:
    return x.to(dtype_of(node.get("to"), "Cast"))


@rule("CastLike")
def _cast_like(node: OnnxNode, x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype)


@rule("IsInf")
def _is_inf(node: OnnxNode, x: Tensor) -> Tensor:
    found = fb.isinf(x)
    if not node.get("detect_negative", 1):
        found = found & (x > 0)
    return found & (x < 0) if not node.get("detect_positive", 1) else found


@rule("Clip", raw=True)
def _clip(node: OnnxNode, x: Any, low: Any = None, high: Any = None) -> Tensor:
    def bound(name: str, given: Any) -> Any:
        return node.get(name) if given is None else given.item() if isinstance(given, np.ndarray) else given

    low, high = bound("min", low), bound("max", high)
    if low is not None:
        x = fb.maximum(x, low) if isinstance(low, Tensor) else fb.clamp(x, min=low)
    if high is not None:  # also where it is the lower one
        x = fb.minimum(x, high) if isinstance(high, Tensor) else fb.clamp(x, max=high)
    return x


# ---- activations ----------------------------------------------------------------------------------------------


@rule("LeakyRelu")
def _leaky_relu(node: OnnxNode, x: Tensor) -> Tensor:
    return F.leaky_relu(x, node.get("alpha", 0.01))


@rule("PRelu")
def _prelu(node: OnnxNode, x: Tensor, slope: Tensor) -> Tensor:
    return fb.where(x < 0, slope * x, x)


@rule("Elu")
def _elu(node: OnnxNode, x: Tensor) -> Tensor:
    return fb.where(x < 0, node.get("alpha", 1.0) * fb.expm1(fb.clamp(x, max=0)), x)


@rule("Celu")
def _celu(node: OnnxNode, x: Tensor) -> Tensor:
    return F.celu(x, node.get("alpha", 1.0))


@rule("Selu")
def _selu(node: OnnxNode, x: Tensor) -> Tensor:
    alpha, gamma = node.get("alpha", 1.6732632423543772), node.get("gamma", 1.0507009873554805)
    return gamma * fb.where(x > 0, x, alpha * fb.expm1(fb.clamp(x, max=0)))


@rule("HardSigmoid")
def _hard_sigmoid(node: OnnxNode, x: Tensor) -> Tensor:
    return fb.clamp(node.get("alpha", 0.2) * x + node.get("beta", 0.5), 0, 1)


@rule("ThresholdedRelu")
def _thresholded_relu(node: OnnxNode, x: Tensor) -> Tensor:
    return fb.where(x > node.get("alpha", 1.0), x, fb.zeros_like(x))


@rule("Shrink")
def _shrink(node: OnnxNode, x: Tensor) -> Tensor:
    bias, edge = node.get("bias", 0.0), node.get("lambd", 0.5)
    return fb.where(x < -edge, x + bias, fb.where(x > edge, x - bias, fb.zeros_like(x)))


@rule("Gelu")
def _gelu(node: OnnxNode, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=node.get("approximate", "none"))


@rule("Swish")
def _swish(node: OnnxNode, x: Tensor) -> Tensor:
    return x * fb.sigmoid(node.get("alpha", 1.0) * x)


@rule("Softmax LogSoftmax Hardmax")
def _softmax(node: OnnxNode, x: Tensor) -> Tensor:
    """Along an axis; older sets take all axes from one on as one."""
    axis = node.get("axis", -1 if node.version >= 13 else 1)
    if node.version >= 13:
        return _along(node.kind, x, axis)
    return _along(node.kind, x.flatten(axis % max(x.dim(), 1)) if x.dim() else x, -1).reshape(x.shape)


def _along(kind: str, x: Tensor, axis: int) -> Tensor:
    if kind == "Hardmax":
        first = x.argmax(axis, keepdim=True)
        return fb.zeros_like(x).scatter(axis, first, fb.ones_like(x))
    return F.softmax(x, axis) if kind == "Softmax" else F.log_softmax(x, axis)
