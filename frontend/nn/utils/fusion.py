"""Layers in front of a batch normalization that do its work as well.

In: a convolution or linear layer, and a batch normalization, both in eval mode. Out: one layer. Next: `../batch_norm.py`.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from flambeau.nn.parameter import Parameter
from flambeau.runtime.recorder import Tensor


def _checked(op: str, layer: Any, bn: Any) -> None:
    if layer.training or bn.training:
        raise AssertionError(f"[{op}] a module is in training mode. Call eval() first.")
    if bn.running_mean is None or bn.running_var is None:
        raise AssertionError(
            f"[{op}] the batch normalization has no running statistics. Make it with track_running_stats=True."
        )


def fuse_conv_bn_eval(conv: Any, bn: Any, transpose: bool = False) -> Any:
    """A copy of a convolution that also normalizes as `bn` does; `transpose` for a transposed one. Raises AssertionError in
    training mode, and without running statistics."""
    _checked("fuse_conv_bn_eval", conv, bn)
    made = deepcopy(conv)
    made.weight, made.bias = fuse_conv_bn_weights(
        made.weight, made.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias, transpose
    )
    return made


def fuse_conv_bn_weights(
    conv_w: Tensor,
    conv_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
    transpose: bool = False,
) -> tuple[Parameter, Parameter]:
    """Kernel and bias of a convolution that also normalizes: w * s and (b - mean) * s + shift, s = scale / sqrt(var + eps)."""
    axis = 1 if transpose else 0
    shape = [-1 if d == axis else 1 for d in range(conv_w.ndim)]
    return _fused(conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, shape)


def fuse_linear_bn_eval(linear: Any, bn: Any) -> Any:
    """A copy of a linear layer that also normalizes as `bn` does. Raises AssertionError in training mode, without running
    statistics, and where `bn` has neither one feature nor as many as the layer has outputs."""
    _checked("fuse_linear_bn_eval", linear, bn)
    if bn.num_features not in (1, linear.out_features):
        raise AssertionError(
            f"[fuse_linear_bn_eval] the layer has {linear.out_features} outputs, the normalization {bn.num_features} features. "
            "Make them equal."
        )
    made = deepcopy(linear)
    made.weight, made.bias = fuse_linear_bn_weights(
        made.weight, made.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    )
    return made


def fuse_linear_bn_weights(
    linear_w: Tensor,
    linear_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
) -> tuple[Parameter, Parameter]:
    """Weight and bias of a linear layer that also normalizes, as `fuse_conv_bn_weights`."""
    return _fused(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, [-1, 1])


def _fused(
    weight: Tensor,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    eps: float,
    scale: Tensor | None,
    shift: Tensor | None,
    shape: list[int],
) -> tuple[Parameter, Parameter]:
    factor = (var + eps).rsqrt() if scale is None else scale * (var + eps).rsqrt()
    moved = (-mean if bias is None else bias - mean) * factor
    moved = moved if shift is None else moved + shift
    made = (weight * factor.reshape(shape)).to(weight.dtype)
    new_bias = moved.to(weight.dtype if bias is None else bias.dtype)
    wanted = weight.requires_grad, weight.requires_grad if bias is None else bias.requires_grad
    return Parameter(made.detach(), wanted[0]), Parameter(new_bias.detach(), wanted[1])
