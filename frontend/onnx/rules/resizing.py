"""Resize, Upsample, GridSample: maps read between their elements.

Of each axis it is known beforehand which elements every result is made of, and how much of each: NumPy says so, and what is
computed is a sum of selected elements times these weights, axis after axis.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from flambeau.onnx.names import F, fb
from flambeau.onnx.node import OnnxNode, rule
from flambeau.runtime.recorder import Tensor


class _ResizedAxis(NamedTuple):
    """n elements become m; `scale` is the factor as it was given, and `crop` the part of the axis that is read."""

    n: int
    m: int
    scale: float
    crop: tuple[float, float]

    def places(self, how: str) -> np.ndarray:
        """Where each result lies among the elements."""
        i, n, m, scale = np.arange(self.m, dtype=np.float64), self.n, self.m, self.scale
        if how == "align_corners":
            return i * (n - 1) / (scale * n - 1) if scale * n != 1 else i * 0
        if how == "asymmetric":
            return i / scale
        if how == "tf_crop_and_resize":
            first, last = self.crop
            if m == 1:
                return np.full(1, 0.5 * (first + last) * (n - 1))
            return first * (n - 1) + i * (last - first) * (n - 1) / (m - 1)
        if how == "half_pixel_symmetric":
            adjusted = m / (scale * n)
            return n / 2 * (1 - adjusted) + (i + 0.5) / scale - 0.5
        if how == "pytorch_half_pixel" and m == 1:
            return i * 0
        return (i + 0.5) / scale - 0.5


def _nearest(at: np.ndarray, how: str) -> np.ndarray:
    if how == "floor":
        return np.floor(at)
    if how == "ceil":
        return np.ceil(at)
    return np.ceil(at - 0.5) if how == "round_prefer_floor" else np.floor(at + 0.5)


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys, "Cubic convolution interpolation for digital image processing" (1981)."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def _weights(node: OnnxNode, axis: _ResizedAxis, at: np.ndarray, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Of every result the elements that it is made of, which may lie outside, and how much of each: [m, taps] both."""
    if mode == "nearest":
        found = _nearest(at, node.get("nearest_mode", "round_prefer_floor"))[:, None]
        return found.astype(np.int64), np.ones_like(found)
    wide = max(1.0, 1.0 / axis.scale) if node.get("antialias", 0) else 1.0
    reach = (2 if mode == "cubic" else 1) * wide
    first = np.floor(at - reach).astype(np.int64) + 1
    taps = first[:, None] + np.arange(int(np.ceil(2 * reach)) + 1)
    away = (taps - at[:, None]) / wide
    how_much = _cubic(away, node.get("cubic_coeff_a", -0.75)) if mode == "cubic" else np.maximum(1 - np.abs(away), 0)
    if node.get("exclude_outside", 0):
        how_much = np.where((taps >= 0) & (taps < axis.n), how_much, 0)
    return taps, how_much / how_much.sum(1, keepdims=True)


def _along(node: OnnxNode, x: Tensor, d: int, axis: _ResizedAxis, mode: str) -> Tensor:
    how = node.get("coordinate_transformation_mode", "half_pixel")
    at = axis.places(how)
    taps, how_much = _weights(node, axis, at, mode)
    places = np.clip(taps, 0, axis.n - 1)
    shape = [axis.m if k == d else 1 for k in range(x.dim())]
    found: Any = None
    for k in range(taps.shape[1]):
        if not how_much[:, k].any():
            continue
        part = x.index_select(d, fb.from_numpy(np.ascontiguousarray(places[:, k])))
        if mode != "nearest":
            part = part * fb.tensor(how_much[:, k].reshape(shape), dtype=x.dtype)
        found = part if found is None else found + part
    if how == "tf_crop_and_resize":
        inside = fb.from_numpy(((at >= 0) & (at <= axis.n - 1)).reshape(shape))
        found = fb.where(inside, found, fb.full_like(found, node.get("extrapolation_value", 0.0)))
    return found


def _resized(node: OnnxNode, x: Tensor, scales: Any, sizes: Any, crop: Any, axes: Any) -> Tensor:
    mode = node.get("mode", "nearest")
    for k, d in enumerate(axes):
        n = int(x.shape[d])
        m = int(sizes[k]) if sizes is not None else int(np.floor(n * scales[k]))
        scale = float(scales[k]) if sizes is None else m / n
        part = (0.0, 1.0) if crop is None else (float(crop[k]), float(crop[k + len(axes)]))
        plain = node.get("coordinate_transformation_mode") != "tf_crop_and_resize"
        if not (n == m and scale == 1.0 and plain):
            x = _along(node, x, d, _ResizedAxis(n, m, scale, part), mode)
    return x


@rule("Resize", host=(1, 2, 3))
def _resize(
    node: OnnxNode,
    x: Tensor,
    roi: np.ndarray | None = None,
    scales: np.ndarray | None = None,
    sizes: np.ndarray | None = None,
) -> Tensor:
    if node.version < 11:  # (x, scales)
        return _resized(_as_of_old(node), x, roi, None, None, range(x.dim()))
    axes = [a % x.dim() for a in node.ints("axes") or range(x.dim())]
    if sizes is None or not sizes.size:
        return _resized(node, x, scales, None, roi, axes)
    policy = node.get("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return _resized(node, x, None, sizes, roi, axes)
    ratios = [int(m) / int(x.shape[d]) for m, d in zip(sizes, axes)]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    sizes = np.array([int(np.floor(int(x.shape[d]) * scale + 0.5)) for d in axes])
    return _resized(node, x, None, sizes, roi, axes)


def _as_of_old(node: OnnxNode) -> OnnxNode:
    """Before set 11 results lay where they start, and nearest elements were those below."""
    rules = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return node._replace(attributes={**node.attributes, **rules})


@rule("Upsample", host=(1,))
def _upsample(node: OnnxNode, x: Tensor, scales: np.ndarray | None = None) -> Tensor:
    return _resized(_as_of_old(node), x, node.get("scales") if scales is None else scales, None, None, range(x.dim()))


@rule("GridSample")
def _grid_sample(node: OnnxNode, x: Tensor, grid: Tensor) -> Tensor:
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(node.get("mode", "linear"), node.get("mode", "linear"))
    padding = node.get("padding_mode", "zeros")
    return F.grid_sample(x, grid, mode, padding, align_corners=bool(node.get("align_corners", 0)))
