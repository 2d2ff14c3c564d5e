"""Nodes that fold an axis, go along one, or look for places in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from flambeau.onnx.names import fb
from flambeau.onnx.node import OnnxNode, rule
from flambeau.runtime.recorder import Tensor


def _prod(x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    for axis in sorted((a % x.dim() for a in axes), reverse=True):
        x = x.prod(axis, keepdim=keepdim)
    return x


def _sum(x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    return x.sum(axes, keepdim=keepdim).to(x.dtype)


def _mean(x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    return x.mean(axes, keepdim=keepdim) if x.dtype.is_floating_point else _sum(x, axes, keepdim)


_FOLDS: dict[str, Callable[[Tensor, tuple[int, ...], bool], Tensor]] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceMax": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: x.amin(axes, keepdim=keep),
    "ReduceProd": _prod,
    "ReduceL1": lambda x, axes, keep: _sum(fb.abs(x), axes, keep),
    "ReduceL2": lambda x, axes, keep: fb.sqrt(_sum(x * x, axes, keep)),
    "ReduceLogSum": lambda x, axes, keep: fb.log(_sum(x, axes, keep)),
    "ReduceLogSumExp": lambda x, axes, keep: fb.logsumexp(x, axes, keepdim=keep),
    "ReduceSumSquare": lambda x, axes, keep: _sum(x * x, axes, keep),
}


@rule(" ".join(_FOLDS), host=(1,))
def _reduce(node: OnnxNode, x: Tensor, given: np.ndarray | None = None) -> Tensor:
    axes = node.ints("axes", given)
    if not axes and node.get("noop_with_empty_axes", 0):
        return (
            x
            if node.kind in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")
            else _FOLDS[node.kind](x.unsqueeze(-1), (-1,), False)
        )
    if x.dim() == 0:
        return _FOLDS[node.kind](x.reshape(1), (0,), False)
    keep = bool(node.get("keepdims", 1))
    return _FOLDS[node.kind](x, tuple(axes or range(x.dim())), keep)


@rule("ArgMax ArgMin")
def _arg(node: OnnxNode, x: Tensor) -> Tensor:
    axis, keep = node.get("axis", 0), bool(node.get("keepdims", 1))
    last = bool(node.get("select_last_index", 0))
    x = x.flip(axis) if last else x
    found = x.argmax(axis, keepdim=keep) if node.kind == "ArgMax" else x.argmin(axis, keepdim=keep)
    return x.shape[axis] - 1 - found if last else found


@rule("CumSum CumProd", host=(1,))
def _cumulative(node: OnnxNode, x: Tensor, given: np.ndarray) -> Tensor:
    axis, call = int(given.item()), fb.cumsum if node.kind == "CumSum" else fb.cumprod
    x = x.flip(axis) if node.get("reverse", 0) else x
    found = call(x, axis, dtype=x.dtype)
    if node.get("exclusive", 0):
        first = fb.full_like(x.narrow(axis, 0, 1), 0 if node.kind == "CumSum" else 1)
        found = fb.cat([first, found.narrow(axis, 0, x.shape[axis] - 1)], axis)
    return found.flip(axis) if node.get("reverse", 0) else found


@rule("TopK", host=(1,))
def _top_k(node: OnnxNode, x: Tensor, given: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
    k = node.get("k") if given is None else int(given.reshape(()) if given.ndim == 0 else given[0])
    found: Any = fb.topk(x, k, node.get("axis", -1), bool(node.get("largest", 1)), bool(node.get("sorted", 1)))
    return found[0], found[1]
