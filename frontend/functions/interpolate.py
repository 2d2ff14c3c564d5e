"""What users call to have maps at another size: `nn.functional.interpolate`, `upsample`, `upsample_nearest`, `upsample_bilinear`.

In: [batch, channels, spatial...]. Out: the same with other spatial sizes. Next: `resample.py`, which says how.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from flambeau.declarations import declared
from flambeau.functions.adaptive_pool import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from flambeau.functions.resample import resized
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data

_BY_DIMENSIONS = {"linear": 3, "bilinear": 4, "bicubic": 4, "trilinear": 5}
_PLAIN = ("nearest", "nearest-exact", "area")
_AREA = {1: adaptive_avg_pool1d, 2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d}


def _each(op: str, what: str, given: Any, n: int) -> list[Any]:
    """One number for every spatial dimension. Raises ValueError for another count."""
    if not isinstance(given, list | tuple):
        return [given] * n
    if len(given) != n:
        raise ValueError(
            f"[{op}] {what} is {tuple(given)}, and the input has {n} spatial dimensions. Give one number, or {n}."
        )
    return list(given)


def _check(input: Tensor, size: Any, scale_factor: Any, mode: str, align_corners: Any, recompute: Any) -> None:
    if mode not in _PLAIN and mode not in _BY_DIMENSIONS:
        raise NotImplementedError(
            f"[interpolate] mode is {mode!r}. Use one of {', '.join(map(repr, (*_PLAIN, *_BY_DIMENSIONS)))}."
        )
    if mode in _PLAIN and align_corners is not None:
        raise ValueError(f"[interpolate] align_corners is {align_corners} with mode {mode!r}. Leave it out there.")
    if input.ndim not in (3, 4, 5) or input.ndim != _BY_DIMENSIONS.get(mode, input.ndim):
        wanted = _BY_DIMENSIONS.get(mode, "3, 4 or 5")
        raise NotImplementedError(
            f"[interpolate] input has {input.ndim} dimensions; mode {mode!r} takes {wanted}. Pass [N, C, spatial...]."
        )
    if (size is None) == (scale_factor is None):
        found = "both are given" if size is not None else "neither is given"
        raise ValueError(f"[interpolate] of size and scale_factor {found}. Give one of them.")
    if recompute and size is not None:
        raise ValueError("[interpolate] recompute_scale_factor is True with size. Use it with scale_factor only.")


@declared(
    free="nn.functional",
    samples=calls(
        lambda: [
            call(data(1, 2, 3), 5),
            call(data(1, 1, 3, 4), scale_factor=2),
            call(data(1, 1, 6, 4), (2, 3), mode="nearest-exact"),
            call(data(1, 1, 4), 7, mode="linear"),
            call(data(1, 1, 3, 4), (5, 3), mode="bilinear", align_corners=True),
            call(data(1, 1, 3, 4), scale_factor=(1.7, 0.8), mode="bicubic"),
            call(data(1, 1, 2, 3, 2), 3, mode="trilinear"),
            call(data(1, 1, 5, 7), (3, 2), mode="bilinear", antialias=True),
            call(data(1, 1, 5, 4), (2, 5), mode="bicubic", antialias=True),
            call(data(1, 1, 4, 5), 3, mode="area"),
            call(data(1, 1, 4), 7, mode="bilinear", error=(NotImplementedError, "input has 3 dimensions")),
            call(data(1, 1, 4), error=(ValueError, "neither is given")),
            call(data(1, 1, 4), 0, error=(RuntimeError, "Use sizes of at least 1")),
            call(data(1, 1, 4), (2, 3), error=(ValueError, "1 spatial dimensions")),
        ]
    ),
    recalled="operand",
)
def interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """[N, C, spatial...], at another `size` or at `scale_factor` times its size: an int, or one per spatial dimension.

    `mode`: "nearest" (result i is element floor(i * n / m)), "nearest-exact" (counted from the middles of elements), "linear",
    "bilinear", "trilinear" (by dimensions), "bicubic", "area" (means of what an element covers). `align_corners`: the outermost
    elements stay where they are. A step is 1 / scale_factor, unless `recompute_scale_factor` has it made of the sizes.
    `antialias`, with "bilinear" and "bicubic" of [N, C, height, width]: kernels widen where the result is smaller.

    Any dtype for the nearest modes, floating-point ones otherwise. Raises ValueError for arguments that exclude each other,
    NotImplementedError for modes of other dimensions, RuntimeError for sizes below 1.
    """
    _check(input, size, scale_factor, mode, align_corners, recompute_scale_factor)
    n = input.ndim - 2
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError(f"[interpolate] antialias is True with mode {mode!r}. Use it with 'bilinear' and 'bicubic'.")
    factors = None
    if size is not None:
        sizes = _each("interpolate", "size", size, n)
    else:
        factors = [float(f) for f in _each("interpolate", "scale_factor", scale_factor, n)]
        sizes = [math.floor(k * f) for k, f in zip(input.shape[2:], factors, strict=True)]
    if mode == "area":
        return _AREA[n](input, sizes)
    # A factor that is not above 0 gives sizes below 1, which are refused.
    known = None if factors is None or recompute_scale_factor or min(factors) <= 0 else tuple(factors)
    return resized(input, tuple(sizes), known, mode, align_corners, bool(antialias))


def _outdated(name: str) -> None:
    warnings.warn(f"[{name}] is an older name. Use nn.functional.interpolate.", stacklevel=4)


_SAMPLES = calls(
    lambda: [
        call(data(1, 2, 3, 4), scale_factor=2),
        call(data(1, 1, 3, 4), (5, 3)),
        call(data(1, 1, 4, 4), error=(ValueError, "neither is given")),
    ]
)


@declared(free="nn.functional", samples=_SAMPLES)
def upsample(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
) -> Tensor:
    """`interpolate` by its older name; warns."""
    _outdated("upsample")
    return interpolate(input, size, scale_factor, mode, align_corners)


@declared(free="nn.functional", samples=_SAMPLES)
def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """`interpolate` with mode "nearest" by its older name; warns."""
    _outdated("upsample_nearest")
    return interpolate(input, size, scale_factor, "nearest")


@declared(free="nn.functional", samples=_SAMPLES)
def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """`interpolate` with mode "bilinear" and aligned corners by its older name; warns."""
    _outdated("upsample_bilinear")
    return interpolate(input, size, scale_factor, "bilinear", True)
