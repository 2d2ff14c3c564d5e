"""Convolutions to the bit: k of every op spelled out element by element, then the blocks of a contraction.

`convolution`, `convolution_input` and `convolution_weight` are what compiled code must give, for floats of ordinary magnitude.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import contraction_order
import numpy as np


def _places(extents) -> list[tuple[int, ...]]:
    return list(product(*map(range, extents)))


def _read(x: np.ndarray, place: tuple[int, ...]) -> np.ndarray:
    """`x[:, :, place]`, zeros outside of the map."""
    inside = all(0 <= p < n for p, n in zip(place, x.shape[2:], strict=True))
    return x[(slice(None), slice(None), *place)] if inside else np.zeros(x.shape[:2], x.dtype)


def _patches(x: np.ndarray, kernel, map, stride, padding, dilation) -> np.ndarray:
    """[N, C, taps, places]: what every tap meets of x."""
    at = lambda p, r: tuple(a * s + b * d - c for a, b, s, d, c in zip(p, r, stride, dilation, padding))  # noqa: E731
    rows = [np.stack([_read(x, at(p, r)) for p in _places(map)], -1) for r in _places(kernel)]
    return np.stack(rows, 2)


def _matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[*batch, M, K] times [*batch, K, N], each broadcast, in blocks whatever the extents."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    count = int(np.prod(batch))
    left = np.broadcast_to(a, (*batch, *a.shape[-2:])).reshape(count, *a.shape[-2:])
    right = np.broadcast_to(b, (*batch, *b.shape[-2:])).reshape(count, *b.shape[-2:])
    return contraction_order.blocks(left, right).reshape(*batch, a.shape[-2], b.shape[-1])


def convolution(x: np.ndarray, w: np.ndarray, sizes, stride, padding, dilation, groups: int) -> np.ndarray:
    n, (o, c), kernel = x.shape[0], w.shape[:2], w.shape[2:]
    patches = _patches(x, kernel, sizes, stride, padding, dilation)
    right = patches.reshape(n, groups, -1, patches.shape[-1])
    left = w.reshape(groups, o // groups, c * int(np.prod(kernel)))
    return _matmul(left, right).reshape(n, o, *sizes)


def convolution_weight(x: np.ndarray, y: np.ndarray, sizes, stride, padding, dilation, groups: int) -> np.ndarray:
    n, o = y.shape[:2]
    patches = _patches(x, sizes, y.shape[2:], stride, padding, dilation).reshape(
        n, groups, -1, int(np.prod(y.shape[2:]))
    )
    right = patches.transpose(1, 0, 3, 2).reshape(groups, -1, patches.shape[2])
    left = y.reshape(n, groups, o // groups, -1).transpose(1, 2, 0, 3).reshape(groups, o // groups, -1)
    return _matmul(left, right).reshape(o, x.shape[1] // groups, *sizes)


def convolution_input(y: np.ndarray, w: np.ndarray, sizes, stride, padding, dilation, groups: int) -> np.ndarray:
    """Place by place: the taps r for which place + padding - r * dilation is a multiple of the stride."""
    n, (o, c) = y.shape[0], w.shape[:2]
    found = np.empty((n, groups, c, *sizes), y.dtype)
    kernel = w.reshape(groups, o // groups, c, *w.shape[2:])
    for place in _places(sizes):
        left, right = [], []
        for r in _places(w.shape[2:]):
            far = [i + p - k * d for i, p, k, d in zip(place, padding, r, dilation, strict=True)]
            if all(f % s == 0 for f, s in zip(far, stride, strict=True)):
                left.append(kernel[(..., *r)])
                right.append(_read(y, tuple(f // s for f, s in zip(far, stride, strict=True))))
        taps = len(left)
        a = np.stack(left, 2) if taps else np.empty((groups, o // groups, 0, c), y.dtype)
        b = np.stack(right, 2) if taps else np.empty((n, o, 0), y.dtype)
        a = a.reshape(groups, o // groups * taps, c).transpose(0, 2, 1)
        b = b.reshape(n, groups, o // groups * taps).transpose(1, 2, 0)
        found[(..., *place)] = _matmul(a, b).transpose(2, 0, 1)
    return found.reshape(n, groups * c, *sizes)


def run(name: str, a: np.ndarray, b: np.ndarray, attrs: dict[str, Any]) -> np.ndarray:
    """The op of that name."""
    return globals()[name](a, b, **attrs)
