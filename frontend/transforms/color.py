"""Colours: brightness, contrast, saturation, hue, gray. The formulas are torchvision's.

In: images of 1 or 3 channels, uint8 or floats from 0 to 1. Out: the same dtype, kept within its range. Next: `compose.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.dialects.dtypes import float32
from flambeau.functions.assemble import stack
from flambeau.public import NAMES
from flambeau.runtime.recorder import Tensor
from flambeau.transforms.chance import below, uniforms
from flambeau.transforms.image import to_image

_where = NAMES["where"]


def _floats(img: Any) -> tuple[Tensor, float]:
    """The image as floats, and its largest value. Raises ValueError for another number of channels."""
    image = to_image(img)
    if image.ndim < 3 or image.shape[-3] not in (1, 3):
        raise ValueError(f"[transforms] an image of shape {image.shape} has no 1 or 3 channels. Pass gray or RGB.")
    return (image, 1.0) if image.is_floating_point() else (image.to(float32), 255.0)


def _back(x: Tensor, img: Any, bound: float) -> Tensor:
    x = x.clamp(0, bound)
    return x.to(to_image(img).dtype)  # integers are cut, as torchvision cuts them


def _gray(x: Tensor) -> Tensor:
    if x.shape[-3] == 1:
        return x
    r, g, b = x.unbind(-3)
    return (0.2989 * r + 0.587 * g + 0.114 * b).unsqueeze(-3)


def _blend(img: Any, other: Any, ratio: float) -> Tensor:
    x, bound = _floats(img)
    return _back(ratio * x + (1 - ratio) * other(x), img, bound)


def adjust_brightness(img: Any, brightness_factor: float) -> Tensor:
    """Every value times a factor: 0 is black, 1 the image itself."""
    return _blend(img, lambda x: x * 0, brightness_factor)


def adjust_contrast(img: Any, contrast_factor: float) -> Tensor:
    """The distance from the mean gray times a factor."""

    def mean(x: Tensor) -> Tensor:
        gray = _gray(x)
        return (gray if to_image(img).is_floating_point() else gray.floor()).mean((-3, -2, -1), keepdim=True)

    return _blend(img, mean, contrast_factor)


def adjust_saturation(img: Any, saturation_factor: float) -> Tensor:
    """The distance from gray times a factor; gray images stay as they are."""
    image = to_image(img)
    is_gray = image.ndim >= 3 and image.shape[-3] == 1
    return image if is_gray else _blend(img, _gray, saturation_factor)


def adjust_hue(img: Any, hue_factor: float) -> Tensor:
    """Hues turned by a factor between -0.5 and 0.5, of a whole turn. Raises ValueError for others."""
    if not -0.5 <= hue_factor <= 0.5:
        raise ValueError(f"[adjust_hue] hue_factor is {hue_factor}. Use -0.5 to 0.5.")
    x, bound = _floats(img)
    if x.shape[-3] == 1:
        return to_image(img)
    r, g, b = (x / bound).unbind(-3)
    top, low = r.maximum(g).maximum(b), r.minimum(g).minimum(b)
    spread = top - low
    safe = _where(spread == 0, 1.0, spread)
    red, green, blue = ((top - c) / safe for c in (r, g, b))
    hue = _where(r == top, blue - green, _where(g == top, 2 + red - blue, 4 + green - red)) / 6
    turned = (hue + hue_factor) % 1 * 6
    # a channel is at the top where the hue is within 1 of its own, falls for 1 more, and is at the bottom else
    made = []
    for own in (5.0, 3.0, 1.0):
        k = (turned + own) % 6
        made.append(top - spread * k.minimum(4 - k).clamp(0, 1))
    turned_image = stack(made, -3) * bound
    return _back(turned_image.round() if bound > 1 else turned_image, img, bound)


class Grayscale:
    """Gray, in 1 channel or in 3 that are alike."""

    def __init__(self, num_output_channels: int = 1) -> None:
        if num_output_channels not in (1, 3):
            raise ValueError(f"[Grayscale] num_output_channels is {num_output_channels}. Use 1 or 3.")
        self.num_output_channels = num_output_channels

    def __call__(self, img: Any) -> Tensor:
        x, bound = _floats(img)
        gray = _back(_gray(x), img, bound)
        return gray.expand(*gray.shape[:-3], self.num_output_channels, *gray.shape[-2:])


class ColorJitter:
    """Brightness, contrast, saturation and hue by random factors, in random order. A number a means 1 - a to 1 + a (-a to a for
    hue), a pair the bounds. Raises ValueError for bounds that cannot be."""

    def __init__(self, brightness: Any = 0, contrast: Any = 0, saturation: Any = 0, hue: Any = 0) -> None:
        self.brightness = self._bounds("brightness", brightness, 1, 0, float("inf"))
        self.contrast = self._bounds("contrast", contrast, 1, 0, float("inf"))
        self.saturation = self._bounds("saturation", saturation, 1, 0, float("inf"))
        self.hue = self._bounds("hue", hue, 0, -0.5, 0.5)

    @staticmethod
    def _bounds(name: str, value: Any, center: float, least: float, most: float) -> tuple[float, float] | None:
        if isinstance(value, Sequence):
            low, high = value
        else:
            low, high = max(least, center - value) if value >= 0 else value, center + value
        if not least <= low <= high <= most:
            raise ValueError(f"[ColorJitter] {name} is {value}. Use bounds from {least} to {most}.")
        return None if low == high == center else (low, high)

    def __call__(self, img: Any) -> Tensor:
        steps = [
            (bounds, adjust) for bounds, adjust in (
                (self.brightness, adjust_brightness), (self.contrast, adjust_contrast),
                (self.saturation, adjust_saturation), (self.hue, adjust_hue),
            ) if bounds is not None
        ]  # fmt: skip
        image, drawn = to_image(img), uniforms(2 * len(steps))
        while steps:
            (low, high), adjust = steps.pop(below(len(steps), drawn.pop()))
            image = adjust(image, low + drawn.pop() * (high - low))
        return image
