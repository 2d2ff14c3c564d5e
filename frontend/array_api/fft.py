"""The standard's Fourier transforms: those of `flambeau.fft`, with the standard's arguments.

In: arrays. Out: arrays. Next: `flambeau/fft.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from flambeau.declarations import names
from flambeau.device import Device
from flambeau.dialects.dtypes import DType
from flambeau.runtime.recorder import Tensor

_fft: Any = SimpleNamespace(**names("fft"))
_OF_ONE_AXIS = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
_OF_SEVERAL = ("fftn", "ifftn", "rfftn", "irfftn")
__all__ = [*_OF_ONE_AXIS, *_OF_SEVERAL, "fftfreq", "fftshift", "ifftshift", "rfftfreq"]


def _named(function: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`flambeau.fft.{name}`."
    return function


def _of_one_axis(name: str) -> Callable[..., Tensor]:
    call = getattr(_fft, name)

    def function(x: Tensor, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
        return call(x, n, axis, norm)

    return _named(function, name)


def _of_several(name: str) -> Callable[..., Tensor]:
    call = getattr(_fft, name)

    def function(
        x: Tensor, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str = "backward"
    ) -> Tensor:
        return call(x, s, axes, norm)

    return _named(function, name)


globals().update({name: _of_one_axis(name) for name in _OF_ONE_AXIS})
globals().update({name: _of_several(name) for name in _OF_SEVERAL})


def fftfreq(n: int, /, *, d: float = 1.0, dtype: DType | None = None, device: Device = None) -> Tensor:
    """The frequencies of `fft` of n samples that are `d` apart."""
    return _fft.fftfreq(n, d, dtype=dtype, device=device)


def rfftfreq(n: int, /, *, d: float = 1.0, dtype: DType | None = None, device: Device = None) -> Tensor:
    """The frequencies of `rfft` of n samples that are `d` apart."""
    return _fft.rfftfreq(n, d, dtype=dtype, device=device)


def fftshift(x: Tensor, /, *, axes: int | tuple[int, ...] | None = None) -> Tensor:
    """With the frequency 0 in the middle of axes."""
    return _fft.fftshift(x, axes)


def ifftshift(x: Tensor, /, *, axes: int | tuple[int, ...] | None = None) -> Tensor:
    """`fftshift` undone."""
    return _fft.ifftshift(x, axes)
