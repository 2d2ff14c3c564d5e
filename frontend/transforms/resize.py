"""Resizing: two products with matrices of weights, so that it compiles, has gradients and runs on any device.

In: images (..., height, width). Out: the same at another size, weighted as Pillow and
`torch.nn.functional.interpolate(antialias=True)` do. Next: `crop.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from flambeau.dialects.dtypes import DType, float32
from flambeau.functions.from_data import tensor
from flambeau.runtime.recorder import Tensor
from flambeau.transforms.image import to_image


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - np.abs(x))


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys (1981) with a = -1/2, as Pillow."""
    x, a = np.abs(x), -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))


_FILTERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"bilinear": _triangle, "bicubic": _cubic}


@lru_cache(64)
def _weights(n: int, wanted: int, interpolation: str, antialias: bool, dtype: DType) -> Tensor:
    """(wanted, n): row i has the weights of the elements that result i is made of; they add up to 1. Made of an array of the dtype,
    so that nothing is recorded: what is kept must not belong to the trace at hand."""
    scale = n / wanted
    places = np.arange(n)[None, :]
    if interpolation == "nearest":
        matrix = places == np.floor(np.arange(wanted) * scale)[:, None]
        return tensor(matrix.astype(dtype.numpy))
    width = max(scale, 1.0) if antialias else 1.0
    centers = (np.arange(wanted)[:, None] + 0.5) * scale
    matrix = _FILTERS[interpolation]((places + 0.5 - centers) / width)
    return tensor((matrix / matrix.sum(1, keepdims=True)).astype(dtype.numpy))


def _sizes(image: Tensor, size: int | Sequence[int], max_size: int | None) -> tuple[int, int]:
    """(height, width); one number is that of the shorter side, whose longer one is at most `max_size`."""
    if not isinstance(size, int) and len(size) == 2:
        if max_size is not None:
            raise ValueError("[resize] max_size is for a size of one number. Leave it out.")
        return int(size[0]), int(size[1])
    short = size if isinstance(size, int) else int(size[0])
    h, w = image.shape[-2:]
    long = int(short * max(h, w) / min(h, w))
    if max_size is not None:
        if max_size <= short:
            raise ValueError(f"[resize] max_size {max_size} is not above the size {short}. Raise it.")
        if long > max_size:
            short, long = int(max_size * short / long), max_size
    return (short, long) if h <= w else (long, short)


def resize(
    img: Any,
    size: int | Sequence[int],
    interpolation: str = "bilinear",
    max_size: int | None = None,
    antialias: bool = True,
) -> Tensor:
    """The image at a size (height, width), or with a shorter side of `size`: "bilinear", "bicubic" or "nearest". Where it
    shrinks, all elements take part, unless `antialias` is not set (bilinear only). Integers are rounded and kept within their
    dtype.

    Raises ValueError for another interpolation and for sizes below 1.
    """
    interpolation = str(getattr(interpolation, "value", interpolation))
    if interpolation not in (*_FILTERS, "nearest"):
        raise ValueError(f"[resize] interpolation is '{interpolation}'. Use 'bilinear', 'bicubic' or 'nearest'.")
    if interpolation == "bicubic" and not antialias:
        raise ValueError("[resize] bicubic goes with antialias only. Leave it set.")
    image = to_image(img)
    h, w = _sizes(image, size, max_size)
    if h < 1 or w < 1:
        raise ValueError(f"[resize] the size would be ({h}, {w}). Use at least 1.")
    dtype = image.dtype
    x = image if image.is_floating_point() else image.to(float32)
    rows = _weights(x.shape[-2], h, interpolation, antialias, x.dtype)
    columns = _weights(x.shape[-1], w, interpolation, antialias, x.dtype)
    y = rows @ (x @ columns.T)
    return y if dtype is x.dtype else y.round().to(dtype)  # a cast saturates


class Resize:
    """See `resize`."""

    def __init__(
        self,
        size: int | Sequence[int],
        interpolation: str = "bilinear",
        max_size: int | None = None,
        antialias: bool = True,
    ) -> None:
        self.size, self.interpolation, self.max_size, self.antialias = size, interpolation, max_size, antialias

    def __call__(self, img: Any) -> Tensor:
        return resize(img, self.size, self.interpolation, self.max_size, self.antialias)

    def __repr__(self) -> str:
        return f"Resize(size={self.size}, interpolation={self.interpolation})"
