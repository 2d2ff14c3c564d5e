"""`torchvision.utils`: images side by side, and into files.

In: images [N, channels, height, width]. Out: one image, or a file, by way of Pillow (the extra `images`).
"""

from __future__ import annotations

from typing import Any

import flambeau
from flambeau.runtime.recorder import Tensor

fb: Any = flambeau


def _scaled(x: Any, value_range: tuple[float, float] | None) -> Any:
    low, high = (x.min(), x.max()) if value_range is None else (fb.tensor(float(v)) for v in value_range)
    return (x.clamp(low, high) - low) / (high - low).clamp(min=1e-5)


def make_grid(
    tensor: Any,
    nrow: int = 8,
    padding: int = 2,
    normalize: bool = False,
    value_range: tuple[float, float] | None = None,
    scale_each: bool = False,
    pad_value: float = 0.0,
) -> Any:
    """Images in rows of `nrow`, with `padding` of `pad_value` around each: [channels, height, width], of gray ones three times
    the same channel. `normalize` scales them from `value_range`, or from the least and greatest value, to 0 to 1."""
    images = fb.stack(list(tensor)) if isinstance(tensor, (list, tuple)) else tensor
    images = images.reshape((1,) * (4 - images.dim()) + tuple(images.shape)) if images.dim() < 4 else images
    if images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    if normalize:
        images = fb.stack([_scaled(x, value_range) for x in images]) if scale_each else _scaled(images, value_range)
    n, channels, height, width = (int(k) for k in images.shape)
    if n == 1:
        return images[0]
    across = min(nrow, n)
    down = -(-n // across)
    shape = (channels, (height + padding) * down + padding, (width + padding) * across + padding)
    grid = fb.full(shape, pad_value, dtype=images.dtype)
    for k in range(n):
        y, x = (k // across) * (height + padding) + padding, (k % across) * (width + padding) + padding
        grid[:, y : y + height, x : x + width] = images[k]
    return grid


def save_image(tensor: Any, fp: Any, format: str | None = None, **kwargs: Any) -> None:
    """`make_grid` of images with values from 0 to 1, as a file: a path, or an open file and its `format`."""
    from PIL import Image

    with fb.no_grad():
        grid: Tensor = make_grid(tensor, **kwargs)
        array = (grid * 255 + 0.5).clamp(0, 255).permute(1, 2, 0).to(fb.uint8).numpy()
    Image.fromarray(array).save(fp, format=format)
