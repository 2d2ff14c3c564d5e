"""Transforms of images under torchvision's names, as tensor code: what prepares images in training can be compiled and exported.

In: images of Pillow (an extra), NumPy arrays (height, width, channels), or tensors (..., channels, height, width). Out:
tensors. Start with `image.py`, which says how images become tensors.
"""

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.transforms.color import (
    ColorJitter,
    Grayscale,
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
)
from flambeau.transforms.compose import Compose, Lambda, RandomApply, RandomChoice
from flambeau.transforms.crop import (
    CenterCrop,
    Pad,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomVerticalFlip,
    center_crop,
    crop,
    hflip,
    vflip,
)
from flambeau.transforms.image import Normalize, ToTensor, normalize, to_image, to_tensor
from flambeau.transforms.resize import Resize, resize

__all__ = [
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "Grayscale",
    "Lambda",
    "Normalize",
    "Pad",
    "RandomApply",
    "RandomChoice",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomVerticalFlip",
    "Resize",
    "ToTensor",
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "center_crop",
    "crop",
    "hflip",
    "normalize",
    "resize",
    "to_image",
    "to_tensor",
    "vflip",
]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.transforms")
