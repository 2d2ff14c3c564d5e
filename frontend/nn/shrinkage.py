"""Further activation functions, and shuffles of channels and pixels, as modules.

In: a tensor. Out: the same elements, or functions of them. Next: `normalization.py`.
"""

from __future__ import annotations

from flambeau.functions import activation, shrinkage, shuffle
from flambeau.nn.activation import _forms_of, _InPlace
from flambeau.nn.module import Module
from flambeau.runtime.recorder import Tensor


class Softmin(Module):
    """softmax(-x) along `dim`."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return shrinkage.softmin(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax2d(Module):
    """`softmax` over the channels of [(batch,) channels, height, width]."""

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim not in (3, 4):
            raise ValueError(f"[Softmax2d] input has {input.ndim} dimensions. Pass [(batch,) channels, height, width].")
        return activation.softmax(input, -3)


class Softsign(Module):
    """x / (1 + |x|)."""

    def forward(self, input: Tensor) -> Tensor:
        return shrinkage.softsign(input)


class Tanhshrink(Module):
    """x - tanh(x)."""

    def forward(self, input: Tensor) -> Tensor:
        return shrinkage.tanhshrink(input)


class Softshrink(Module):
    """x moved towards 0 by `lambd`, and 0 where that would go past it."""

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, input: Tensor) -> Tensor:
        return shrinkage.softshrink(input, self.lambd)

    def extra_repr(self) -> str:
        return str(self.lambd)


class Hardshrink(Module):
    """x, but 0 from `-lambd` to `lambd`."""

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, input: Tensor) -> Tensor:
        return shrinkage.hardshrink(input, self.lambd)

    def extra_repr(self) -> str:
        return str(self.lambd)


class Threshold(_InPlace):
    """x above `threshold`, `value` elsewhere."""

    _forms = _forms_of(shrinkage.threshold)

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.threshold, self.value = threshold, value

    def forward(self, input: Tensor) -> Tensor:
        return self._forms[1 if self.inplace else 0](input, self.threshold, self.value)

    def extra_repr(self) -> str:
        return self._repr_with(f"threshold={self.threshold}, value={self.value}")


class PixelShuffle(Module):
    """[..., c * r * r, h, w] as [..., c, h * r, w * r] for r = `upscale_factor`."""

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return shuffle.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """[..., c, h * r, w * r] as [..., c * r * r, h, w] for r = `downscale_factor`."""

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return shuffle.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """[batch, channels, ...] with the channels of `groups` groups in turn."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, input: Tensor) -> Tensor:
        return shuffle.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"
