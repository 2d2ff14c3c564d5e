"""Normalisations: over batches, maps, layers, groups and neighbours."""

from __future__ import annotations

from collections.abc import Sequence

from flambeau.onnx.names import F, fb
from flambeau.onnx.node import OnnxNode, rule
from flambeau.runtime.recorder import Tensor


def _by_channel(v: Tensor, x: Tensor) -> Tensor:
    return v.reshape(1, -1, *[1] * (x.dim() - 2))


def _standard(x: Tensor, axes: Sequence[int], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) / deviation, the mean, and one over the deviation."""
    mean = x.mean(tuple(axes), keepdim=True)
    away = x - mean
    scale = fb.rsqrt((away * away).mean(tuple(axes), keepdim=True) + eps)
    return away * scale, mean, scale


@rule("BatchNormalization")
def _batch_norm(node: OnnxNode, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> object:
    eps = node.get("epsilon", 1e-5)
    if not node.get("training_mode", 0):
        return F.batch_norm(x, mean, var, scale, bias, False, 0.0, eps)
    keep, axes = node.get("momentum", 0.9), (0, *range(2, x.dim()))
    normal, _, _ = _standard(x, axes, eps)
    found = normal * _by_channel(scale, x) + _by_channel(bias, x)
    new = x.mean(axes), fb.var(x, axes, correction=0)
    return found, mean * keep + new[0] * (1 - keep), var * keep + new[1] * (1 - keep)


@rule("InstanceNormalization")
def _instance_norm(node: OnnxNode, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    normal, _, _ = _standard(x, range(2, x.dim()), node.get("epsilon", 1e-5))
    return normal * _by_channel(scale, x) + _by_channel(bias, x)


@rule("LayerNormalization")
def _layer_norm(node: OnnxNode, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> object:
    first, eps = node.get("axis", -1) % x.dim(), node.get("epsilon", 1e-5)
    if node.results == 1 and tuple(scale.shape) == tuple(x.shape[first:]):
        return F.layer_norm(x, tuple(x.shape[first:]), scale, bias, eps)
    normal, mean, rstd = _standard(x, range(first, x.dim()), eps)
    found = normal * scale
    return (found if bias is None else found + bias, mean, rstd)[: node.results]


@rule("RMSNormalization")
def _rms_norm(node: OnnxNode, x: Tensor, scale: Tensor) -> Tensor:
    axes = tuple(range(node.get("axis", -1) % x.dim(), x.dim()))
    return x * fb.rsqrt((x * x).mean(axes, keepdim=True) + node.get("epsilon", 1e-5)) * scale


@rule("GroupNormalization")
def _group_norm(node: OnnxNode, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Since set 21 there is a scale for each channel, before that for each group."""
    groups, channels = node.get("num_groups"), x.shape[1]
    if scale.shape[0] != channels:
        scale, bias = (v.repeat_interleave(channels // groups) for v in (scale, bias))
    return F.group_norm(x, groups, scale, bias, node.get("epsilon", 1e-5))


@rule("LpNormalization")
def _lp_norm(node: OnnxNode, x: Tensor) -> Tensor:
    axis, p = node.get("axis", -1), node.get("p", 2)
    length = fb.abs(x).sum(axis, keepdim=True) if p == 1 else (x * x).sum(axis, keepdim=True).sqrt()
    return fb.where(length == 0, fb.zeros_like(x), x / length)


@rule("MeanVarianceNormalization")
def _mean_variance(node: OnnxNode, x: Tensor) -> Tensor:
    axes = tuple(node.ints("axes") or (0, 2, 3))
    mean = x.mean(axes, keepdim=True)
    return (x - mean) / (fb.var(x, axes, correction=0, keepdim=True).sqrt() + 1e-9)


@rule("LRN")
def _lrn(node: OnnxNode, x: Tensor) -> Tensor:
    """Of an even number of neighbours ONNX has the larger half after, PyTorch before."""
    size = node.get("size")
    x = x if size % 2 else x.flip(1)
    found = F.local_response_norm(x, size, node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0))
    return found if size % 2 else found.flip(1)
