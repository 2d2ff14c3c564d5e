"""Nodes that read and write at positions. Negative positions count from the end."""

from __future__ import annotations

from typing import Any

import numpy as np
from flambeau.onnx.names import fb
from flambeau.onnx.node import OnnxNode, rule
from flambeau.runtime.recorder import Tensor

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _from_start(index: Tensor, n: Any) -> Tensor:
    index = index.to(fb.int64)
    return fb.where(index < 0, index + n, index)


def _positions(index: Any, n: Any) -> Tensor:
    """The same as a tensor; what is known without computing is made right without, too."""
    if isinstance(index, np.ndarray):
        return fb.from_numpy(np.where(index < 0, index + int(n), index).astype(np.int64))
    return _from_start(index, n)


@rule("Gather", raw=True)
def _gather(node: OnnxNode, x: Any, index: Any) -> Tensor:
    axis = node.get("axis", 0)
    x = fb.from_numpy(x) if isinstance(x, np.ndarray) else x
    axis %= x.dim()
    if isinstance(index, np.ndarray) and index.ndim == 0:
        return x.select(axis, int(index))
    at = _positions(index, x.shape[axis])
    found = x.index_select(axis, at.reshape(-1))
    return found.reshape([*x.shape[:axis], *at.shape, *x.shape[axis + 1 :]])


@rule("GatherElements")
def _gather_elements(node: OnnxNode, x: Tensor, index: Tensor) -> Tensor:
    axis = node.get("axis", 0)
    return fb.gather(x, axis, _from_start(index, x.shape[axis]))


def _row_numbers(index: Tensor, sizes: Any) -> Tensor:
    """Of positions [..., k] in the first k axes, of these sizes, the number of each, row-major: [...]."""
    found: Any = 0
    for j, n in enumerate(sizes):
        found = found * n + _from_start(index[..., j], n)
    return found


@rule("GatherND")
def _gather_nd(node: OnnxNode, x: Tensor, index: Tensor) -> Tensor:
    b, k = node.get("batch_dims", 0), index.shape[-1]
    batch, inner = [int(n) for n in x.shape[:b]], x.shape[b : b + k]
    at = _row_numbers(index, inner)
    if b:
        first = np.arange(int(np.prod(batch))).reshape([*batch, *[1] * (at.dim() - b)]) * int(np.prod(tuple(inner)))
        at = at + fb.from_numpy(first)
    rows = x.reshape([int(np.prod(tuple(x.shape[: b + k]))), *x.shape[b + k :]])
    return rows.index_select(0, at.reshape(-1)).reshape([*at.shape, *x.shape[b + k :]])


@rule("ScatterElements Scatter")
def _scatter(node: OnnxNode, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    axis, how = node.get("axis", 0), node.get("reduction", "none")
    at = _from_start(index, x.shape[axis])
    return fb.scatter(x, axis, at, updates) if how == "none" else x.scatter_reduce(axis, at, updates, _REDUCTIONS[how])


@rule("ScatterND")
def _scatter_nd(node: OnnxNode, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    k, how = int(index.shape[-1]), node.get("reduction", "none")
    rest = int(np.prod(tuple(x.shape[k:])))
    rows = x.reshape(-1, rest)
    at = _row_numbers(index, x.shape[:k]).reshape(-1, 1).expand(-1, rest)
    new = updates.reshape(-1, rest)
    found = rows.scatter(0, at, new) if how == "none" else rows.scatter_reduce(0, at, new, _REDUCTIONS[how])
    return found.reshape(x.shape)


@rule("OneHot", host=(1,))
def _one_hot(node: OnnxNode, index: Tensor, depth: np.ndarray, values: Tensor) -> Tensor:
    n, axis = int(depth.reshape(-1)[0]), node.get("axis", -1)
    axis = axis + index.dim() + 1 if axis < 0 else axis
    classes = fb.arange(n).reshape([n if d == axis else 1 for d in range(index.dim() + 1)])
    return fb.where(_from_start(index, n).unsqueeze(axis) == classes, values[1], values[0])


@rule("NonZero")
def _nonzero(node: OnnxNode, x: Tensor) -> Tensor:
    """How many there are is not known before: this reads the values."""
    return fb.nonzero(x).t()


@rule("Compress", host=(1,))
def _compress(node: OnnxNode, x: Tensor, condition: np.ndarray) -> Tensor:
    axis = node.get("axis")
    x = x.reshape(-1) if axis is None else x
    return x.index_select(axis or 0, fb.from_numpy(np.flatnonzero(condition)))


@rule("ReverseSequence", host=(1,))
def _reverse_sequence(node: OnnxNode, x: Tensor, lengths: np.ndarray) -> Tensor:
    time, batch = node.get("time_axis", 0), node.get("batch_axis", 1)
    steps = np.arange(x.shape[time])[:, None]
    at = np.where(steps < lengths, lengths - 1 - steps, steps).astype(np.int64)  # [T, N]
    at = at if time < batch else at.T
    shape = [x.shape[d] if d in (time, batch) else 1 for d in range(x.dim())]
    return fb.gather(x, time, fb.from_numpy(at.copy()).reshape(shape).expand(x.shape))
