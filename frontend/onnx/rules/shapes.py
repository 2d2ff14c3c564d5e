"""Nodes that give elements another shape, order or neighbourhood, and those that ask for shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
from flambeau.onnx.names import fb
from flambeau.onnx.node import OnnxNode, rule
from flambeau.onnx.package import dtype_of
from flambeau.runtime.recorder import Tensor


@rule("Shape", raw=True)
def _shape(node: OnnxNode, x: Any) -> np.ndarray:
    return np.array(tuple(x.shape)[slice(node.get("start", 0), node.get("end"))], np.int64)


@rule("Size", raw=True)
def _size(node: OnnxNode, x: Any) -> np.ndarray:
    return np.array(int(np.prod(tuple(x.shape))), np.int64)


@rule("Reshape", host=(1,))
def _reshape(node: OnnxNode, x: Tensor, given: np.ndarray | None = None) -> Tensor:
    wanted = node.ints("shape", given) or []
    if not node.get("allowzero", 0):  # 0 is what is there
        wanted = [x.shape[axis] if n == 0 else n for axis, n in enumerate(wanted)]
    return x.reshape(wanted)


@rule("Flatten")
def _flatten(node: OnnxNode, x: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(int(np.prod(tuple(x.shape[:axis]))), int(np.prod(tuple(x.shape[axis:]))))


@rule("Transpose")
def _transpose(node: OnnxNode, x: Tensor) -> Tensor:
    return x.permute(node.ints("perm") or list(range(x.dim()))[::-1])


@rule("Squeeze", host=(1,))
def _squeeze(node: OnnxNode, x: Tensor, given: np.ndarray | None = None) -> Tensor:
    axes = node.ints("axes", given)
    axes = [a for a in range(x.dim()) if x.shape[a] == 1] if axes is None else [a % x.dim() for a in axes]
    return x.reshape([n for axis, n in enumerate(x.shape) if axis not in axes])


@rule("Unsqueeze", host=(1,))
def _unsqueeze(node: OnnxNode, x: Tensor, given: np.ndarray | None = None) -> Tensor:
    axes = node.ints("axes", given) or []
    rank = x.dim() + len(axes)
    for axis in sorted(a % rank for a in axes):
        x = x.unsqueeze(axis)
    return x


@rule("Concat")
def _concat(node: OnnxNode, *xs: Tensor) -> Tensor:
    return fb.cat(list(xs), node.get("axis", 0))


@rule("Split", host=(1,))
def _split(node: OnnxNode, x: Tensor, given: np.ndarray | None = None) -> tuple[Tensor, ...]:
    axis = node.get("axis", 0)
    sizes = node.ints("split", given)
    if sizes is None:  # equal parts, of which the last one may be smaller
        count, n = node.get("num_outputs") or node.results, x.shape[axis]
        each = -(-n // count)
        sizes = [max(min(each, n - k * each), 0) for k in range(count)]
    return tuple(fb.split(x, sizes, axis))


@rule("Slice", host=(1, 2, 3, 4))
def _slice(node: OnnxNode, x: Tensor, *given: np.ndarray | None) -> Tensor:
    named = ("starts", "ends", "axes", "steps")
    starts, ends, axes, steps = (node.ints(name, part) for name, part in zip(named, (*given, *[None] * 4)))
    assert starts is not None and ends is not None
    for start, end, axis, step in zip(starts, ends, axes or range(len(starts)), steps or [1] * len(starts)):
        n = int(x.shape[axis])
        places = range(n)[slice(max(start, -n - 1), max(end, -n - 1), step)]
        if step < 0:
            x, places = x.flip(axis), range(n - 1 - places.start, n - 1 - places.stop, -step)
        index = [slice(None)] * x.dim()
        index[axis] = slice(places.start, max(places.stop, places.start), abs(step))
        x = x[tuple(index)]
    return x


@rule("Expand", host=(1,))
def _expand(node: OnnxNode, x: Tensor, given: np.ndarray) -> Tensor:
    return x.broadcast_to(np.broadcast_shapes(tuple(x.shape), tuple(given.tolist())))


@rule("Tile", host=(1,))
def _tile(node: OnnxNode, x: Tensor, given: np.ndarray) -> Tensor:
    return x.repeat(given.tolist())


@rule("Pad", host=(1, 2, 3))
def _pad(
    node: OnnxNode,
    x: Tensor,
    pads: np.ndarray | None = None,
    value: np.ndarray | None = None,
    axes: np.ndarray | None = None,
) -> Tensor:
    amounts, mode = node.ints("pads", pads) or [], node.get("mode", "constant")
    fill = node.get("value", 0.0) if value is None or value.size == 0 else value.item()
    where = range(x.dim()) if axes is None else [int(a) % x.dim() for a in axes]
    for axis, low, high in zip(where, amounts, amounts[len(where) :]):
        n = int(x.shape[axis])
        if low < 0 or high < 0:  # a negative amount is cut away
            x = x.narrow(axis, max(-low, 0), n - max(-low, 0) - max(-high, 0))
        x = _around(x, axis, max(low, 0), max(high, 0), mode, fill)
    return x


def _around(x: Tensor, axis: int, low: int, high: int, mode: Any, fill: Any) -> Tensor:
    if low == high == 0:
        return x
    if mode == "constant":
        sizes = (int(n) for n in x.shape)
        parts = [(*s[:axis], amount, *s[axis + 1 :]) for s in [tuple(sizes)] for amount in (low, high)]
        before, after = (fb.full(part, fill, dtype=x.dtype) for part in parts)
        return fb.cat([before, x, after], axis)
    places = np.pad(np.arange(x.shape[axis]), (low, high), mode=mode)
    return x.index_select(axis, fb.from_numpy(places))


@rule("ConstantOfShape", host=(0,))
def _constant_of_shape(node: OnnxNode, given: np.ndarray) -> Tensor:
    value = node.get("value")
    value = np.zeros(1, np.float32) if value is None else value
    return fb.from_numpy(np.full(given.tolist(), value.reshape(()), value.dtype))


@rule("EyeLike")
def _eye_like(node: OnnxNode, x: Tensor) -> Tensor:
    dtype = dtype_of(node.get("dtype"), "EyeLike") if node.get("dtype") else x.dtype
    rows, columns = fb.arange(x.shape[0])[:, None], fb.arange(x.shape[1])[None]
    return (columns - rows == node.get("k", 0)).to(dtype)


@rule("Trilu", host=(1,))
def _trilu(node: OnnxNode, x: Tensor, given: np.ndarray | None = None) -> Tensor:
    k = 0 if given is None else int(given.item())
    return fb.triu(x, k) if node.get("upper", 1) else fb.tril(x, k)


@rule("Range", host=(0, 1, 2))
def _range(node: OnnxNode, start: np.ndarray, limit: np.ndarray, delta: np.ndarray) -> np.ndarray:
    return np.arange(start.item(), limit.item(), delta.item()).astype(start.dtype)


@rule("DepthToSpace")
def _depth_to_space(node: OnnxNode, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    b = node.get("blocksize")
    if node.get("mode", "DCR") == "DCR":
        return x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)
    return x.reshape(n, c // b**2, b, b, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // b**2, h * b, w * b)


@rule("SpaceToDepth")
def _space_to_depth(node: OnnxNode, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    b = node.get("blocksize")
    order = (0, 3, 5, 1, 2, 4) if node.get("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    return x.reshape(n, c, h // b, b, w // b, b).permute(order).reshape(n, c * b**2, h // b, w // b)
