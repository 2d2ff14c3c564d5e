"""Pooling nodes. What PyTorch's poolings cannot say (other margins on both sides, rounding up) is padded by hand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from flambeau.onnx.names import F, fb
from flambeau.onnx.node import OnnxNode, rule
from flambeau.onnx.rules.convolution import SpatialWindows, padded, windows
from flambeau.runtime.recorder import Tensor

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _counts(node: OnnxNode, at: SpatialWindows, sizes: Sequence[int]) -> list[int]:
    """How many windows there are along each axis: rounded up if asked for, but none that begins in what is added at the end."""
    found = []
    for size, extent, s, low, high in zip(sizes, at.extents(), at.stride, at.low, at.high):
        room = size + low + high - extent
        count = (-(-room // s) if node.get("ceil_mode", 0) else room // s) + 1
        found.append(count - 1 if node.get("ceil_mode", 0) and (count - 1) * s >= size + low else count)
    return found


def _enlarged(at: SpatialWindows, sizes: Sequence[int], counts: Sequence[int]) -> list[int]:
    """How much must be added at the end so that there are so many windows."""
    ends = zip(counts, at.stride, at.extents(), sizes, at.low, at.high)
    return [max((count - 1) * s + extent - size - low, high) for count, s, extent, size, low, high in ends]


def _is_plain(node: OnnxNode, at: SpatialWindows) -> bool:
    return at.is_even and not node.get("ceil_mode", 0) and all(2 * p <= k for p, k in zip(at.low, at.kernel))


@rule("MaxPool")
def _max_pool(node: OnnxNode, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    sizes = list(x.shape[2:])
    at = windows(node, sizes, node.ints("kernel_shape") or ())
    pool = _MAX[len(sizes)]
    if node.results > 1 and (not _is_plain(node, at) or node.get("storage_order", 0)):
        raise node.lacks("gives places of maxima with margins of its own, in ceil_mode or with storage_order")
    if node.results > 1:
        values, places = pool(x, at.kernel, at.stride, at.low, at.dilation, return_indices=True)
        planes = fb.arange(x.shape[0] * x.shape[1]).reshape(x.shape[0], x.shape[1], *[1] * len(sizes))
        return values, places + planes * int(np.prod(sizes))
    if _is_plain(node, at):
        return pool(x, at.kernel, at.stride, at.low, at.dilation)
    high = _enlarged(at, sizes, _counts(node, at, sizes))
    least = float("-inf") if x.dtype.is_floating_point else fb.iinfo(x.dtype).min
    return pool(padded(x, at.low, high, least), at.kernel, at.stride, 0, at.dilation)


def _present(node: OnnxNode, at: SpatialWindows, sizes: Sequence[int], counts: Sequence[int]) -> np.ndarray:
    """How many elements each window holds; what is added counts if the node says so, but not past it."""
    whole = bool(node.get("count_include_pad", 0))
    found = np.ones(())
    for count, s, k, d, size, low, high in zip(counts, at.stride, at.kernel, at.dilation, sizes, at.low, at.high):
        taps = np.arange(count)[:, None] * s - low + np.arange(k) * d
        exist = (taps >= (-low if whole else 0)) & (taps < (size + high if whole else size))
        found = np.multiply.outer(found, exist.sum(1))
    return found


def _sums(x: Tensor, at: SpatialWindows, counts: Sequence[int]) -> Tensor:
    """The sum of every window of maps that hold all of them."""
    if all(d == 1 for d in at.dilation):
        return _AVERAGE[len(counts)](x, at.kernel, at.stride) * float(np.prod(at.kernel))
    found: Any = 0
    for taps in product(*(range(k) for k in at.kernel)):
        firsts = [t * d for t, d in zip(taps, at.dilation)]
        index = [slice(f, f + (n - 1) * s + 1, s) for f, n, s in zip(firsts, counts, at.stride)]
        found = found + x[(slice(None), slice(None), *index)]
    return found


@rule("AveragePool")
def _average_pool(node: OnnxNode, x: Tensor) -> Tensor:
    sizes = list(x.shape[2:])
    at = windows(node, sizes, node.ints("kernel_shape") or ())
    if _is_plain(node, at) and all(d == 1 for d in at.dilation):
        return _AVERAGE[len(sizes)](
            x, at.kernel, at.stride, at.low, count_include_pad=bool(node.get("count_include_pad", 0))
        )
    counts = _counts(node, at, sizes)
    total = _sums(padded(x, at.low, _enlarged(at, sizes, counts)), at, counts)
    return total / fb.tensor(_present(node, at, sizes, counts), dtype=x.dtype)


@rule("LpPool")
def _lp_pool(node: OnnxNode, x: Tensor) -> Tensor:
    """(sum of |x|**p)**(1 / p) over each window."""
    sizes, p = list(x.shape[2:]), node.get("p", 2)
    at = windows(node, sizes, node.ints("kernel_shape") or ())
    counts = _counts(node, at, sizes)
    return _sums(padded(fb.abs(x) ** p, at.low, _enlarged(at, sizes, counts)), at, counts) ** (1.0 / p)


@rule("GlobalAveragePool GlobalMaxPool GlobalLpPool")
def _global(node: OnnxNode, x: Tensor) -> Tensor:
    axes = tuple(range(2, x.dim()))
    if node.kind == "GlobalAveragePool":
        return x.mean(axes, keepdim=True)
    if node.kind == "GlobalMaxPool":
        return x.amax(axes, keepdim=True)
    p = node.get("p", 2)
    return (fb.abs(x) ** p).sum(axes, keepdim=True) ** (1.0 / p)
