"""Crops, flips and borders: views of images, at places that are fixed or drawn.

In: images. Out: images. Where a crop begins is a number of the recording, so that no place compiles anew. Next: `color.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flambeau.nn import functional as F
from flambeau.runtime.recorder import Tensor
from flambeau.transforms.chance import below, uniforms
from flambeau.transforms.image import to_image
from flambeau.transforms.resize import resize


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[0])) if len(size) == 1 else (int(size[0]), int(size[1]))


def pad(image: Tensor, padding: int | Sequence[int], fill: float = 0, padding_mode: str = "constant") -> Tensor:
    """Borders of `padding`: one number, (left and right, top and bottom), or (left, top, right, bottom). Raises ValueError for
    others."""
    sides = [padding] * 4 if isinstance(padding, int) else [int(p) for p in padding]
    sides = sides * 2 if len(sides) == 2 else sides * 4 if len(sides) == 1 else sides
    if len(sides) != 4:
        raise ValueError(f"[Pad] padding is {padding}. Give 1, 2 or 4 numbers.")
    left, top, right, bottom = sides
    if not any(sides):
        return image
    if padding_mode == "constant":
        return F.pad(image, (left, right, top, bottom), value=fill)
    return F.pad(image, (left, right, top, bottom), mode="replicate" if padding_mode == "edge" else padding_mode)


def crop(img: Any, top: int, left: int, height: int, width: int) -> Tensor:
    """A part of the image. Raises ValueError for one that is not within it."""
    image = to_image(img)
    h, w = image.shape[-2:]
    if not (0 <= top <= h - height and 0 <= left <= w - width and height > 0 and width > 0):
        raise ValueError(
            f"[crop] ({top}, {left}) with the size ({height}, {width}) is not within an image of ({h}, {w}). "
            "Pad it, or crop less."
        )
    return image[..., top : top + height, left : left + width]


def center_crop(img: Any, output_size: int | Sequence[int]) -> Tensor:
    """The middle, with borders of 0 where the image is smaller."""
    image, (h, w) = to_image(img), _pair(output_size)
    missing = [max(0, h - image.shape[-2]), max(0, w - image.shape[-1])]
    image = pad(image, (missing[1] // 2, missing[0] // 2, -(-missing[1] // 2), -(-missing[0] // 2)))
    return crop(image, round((image.shape[-2] - h) / 2), round((image.shape[-1] - w) / 2), h, w)


def hflip(img: Any) -> Tensor:
    """Left and right exchanged."""
    return to_image(img).flip(-1)


def vflip(img: Any) -> Tensor:
    """Top and bottom exchanged."""
    return to_image(img).flip(-2)


class CenterCrop:
    """See `center_crop`."""

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = _pair(size)

    def __call__(self, img: Any) -> Tensor:
        return center_crop(img, self.size)

    def __repr__(self) -> str:
        return f"CenterCrop(size={self.size})"


class Pad:
    """Borders: see `pad`. `padding_mode` is "constant", "edge", "reflect" or "symmetric"'s kin that `nn.functional.pad` has."""

    def __init__(self, padding: int | Sequence[int], fill: float = 0, padding_mode: str = "constant") -> None:
        self.padding, self.fill, self.padding_mode = padding, fill, padding_mode

    def __call__(self, img: Any) -> Tensor:
        return pad(to_image(img), self.padding, self.fill, self.padding_mode)


class RandomCrop:
    """A part of `size` at a random place, after `padding`; `pad_if_needed` adds borders where the image is smaller.

    Raises ValueError for an image that is smaller else.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        padding: int | Sequence[int] | None = None,
        pad_if_needed: bool = False,
        fill: float = 0,
        padding_mode: str = "constant",
    ) -> None:
        self.size, self.padding, self.pad_if_needed = _pair(size), padding, pad_if_needed
        self.fill, self.padding_mode = fill, padding_mode

    def __call__(self, img: Any) -> Tensor:
        image, (h, w) = to_image(img), self.size
        if self.padding is not None:
            image = pad(image, self.padding, self.fill, self.padding_mode)
        if self.pad_if_needed:
            sides = max(0, w - image.shape[-1]), max(0, h - image.shape[-2])
            image = pad(image, sides, self.fill, self.padding_mode)
        rows, columns = image.shape[-2] - h, image.shape[-1] - w
        if rows < 0 or columns < 0:
            raise ValueError(
                f"[RandomCrop] the size {self.size} is larger than the image, {tuple(image.shape[-2:])}. Set pad_if_needed."
            )
        u, v = uniforms(2)
        return crop(image, below(rows + 1, u), below(columns + 1, v), h, w)

    def __repr__(self) -> str:
        return f"RandomCrop(size={self.size}, padding={self.padding})"


class RandomResizedCrop:
    """A random part, of a share of the area between `scale` and with width / height between `ratio`, resized to `size`."""

    def __init__(
        self,
        size: int | Sequence[int],
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        interpolation: str = "bilinear",
        antialias: bool = True,
    ) -> None:
        self.size, self.scale, self.ratio = _pair(size), scale, ratio
        self.interpolation, self.antialias = interpolation, antialias

    def place(self, h: int, w: int) -> tuple[int, int, int, int]:
        """(top, left, height, width): ten are tried, then the middle is taken, as torchvision does."""
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(10):
            area, shape, u, v = uniforms(4)
            area = h * w * (self.scale[0] + area * (self.scale[1] - self.scale[0]))
            shape = math.exp(low + shape * (high - low))
            width, height = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
            if 0 < width <= w and 0 < height <= h:
                return below(h - height + 1, u), below(w - width + 1, v), height, width
        width, height = w, h
        if w / h < self.ratio[0]:
            height = round(w / self.ratio[0])
        elif w / h > self.ratio[1]:
            width = round(h * self.ratio[1])
        return (h - height) // 2, (w - width) // 2, height, width

    def __call__(self, img: Any) -> Tensor:
        image = to_image(img)
        part = crop(image, *self.place(*image.shape[-2:]))
        return resize(part, self.size, self.interpolation, antialias=self.antialias)


class RandomHorizontalFlip:
    """`hflip` with probability `p`."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def __call__(self, img: Any) -> Tensor:
        return hflip(img) if uniforms(1)[0] < self.p else to_image(img)

    def __repr__(self) -> str:
        return f"RandomHorizontalFlip(p={self.p})"


class RandomVerticalFlip:
    """`vflip` with probability `p`."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def __call__(self, img: Any) -> Tensor:
        return vflip(img) if uniforms(1)[0] < self.p else to_image(img)
