"""Images as tensors: (..., channels, height, width), uint8 from 0 to 255 or floats from 0 to 1.

In: images of Pillow, arrays, tensors. Out: tensors. Next: `resize.py`, `crop.py`, `color.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from flambeau.dialects.dtypes import float32, uint8
from flambeau.functions.from_data import as_tensor, tensor
from flambeau.runtime.recorder import Tensor


def to_image(image: Any) -> Tensor:
    """An image of Pillow or an array (height, width) or (height, width, channels) as a tensor (channels, height, width) of its
    own dtype; tensors pass. Images of one bit and of a palette become gray and RGB(A) ones. Raises TypeError for anything else,
    ValueError for arrays of other ranks."""
    if isinstance(image, Tensor):
        return image
    if not isinstance(image, np.ndarray):
        image = _array(image)
    if image.ndim not in (2, 3):
        raise ValueError(
            f"[to_image] an array has the shape {image.shape}. Pass (height, width) or (height, width, channels)."
        )
    planes = image[None] if image.ndim == 2 else np.moveaxis(image, 2, 0)
    return tensor(np.ascontiguousarray(planes))


def _array(image: Any) -> np.ndarray:
    if not (hasattr(image, "mode") and hasattr(image, "convert")):
        raise TypeError(
            f"[to_image] {type(image).__name__} is no image. Pass one of Pillow, a NumPy array, or a tensor."
        )
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    return np.asarray(image.convert("L") if image.mode == "1" else image)


def to_tensor(pic: Any) -> Tensor:
    """`to_image`, and uint8 as float32 from 0 to 1: divided by 255. Other dtypes stay as they are."""
    image = to_image(pic)
    return image.to(float32) / 255 if image.dtype is uint8 else image


def normalize(tensor: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(x - mean) / std, a number per channel or one for all. Raises TypeError for integers, ValueError for a std of 0 and for
    shapes that do not fit."""
    if not tensor.is_floating_point():
        raise TypeError(f"[normalize] the image has dtype {tensor.dtype}. Use to_tensor first.")
    means, stds = (as_tensor(np.asarray(v, np.float64)).to(tensor.dtype).reshape(-1, 1, 1) for v in (mean, std))
    for name, v in (("mean", means), ("std", stds)):
        if tensor.ndim < 3 or v.shape[0] not in (1, tensor.shape[-3]):
            raise ValueError(
                f"[normalize] {name} has {v.shape[0]} numbers, the image the shape {tensor.shape}. Give one per channel."
            )
    if not np.all(np.asarray(std, np.float64)):
        raise ValueError(f"[normalize] std is {std}. Use numbers other than 0.")
    return (tensor - means) / stds


class ToTensor:
    """See `to_tensor`."""

    def __call__(self, pic: Any) -> Tensor:
        return to_tensor(pic)

    def __repr__(self) -> str:
        return "ToTensor()"


class Normalize:
    """See `normalize`. `inplace` changes nothing: a compiled program needs no copy."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], inplace: bool = False) -> None:
        self.mean, self.std, self.inplace = mean, std, inplace

    def __call__(self, tensor: Tensor) -> Tensor:
        return normalize(tensor, self.mean, self.std)

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean}, std={self.std})"
