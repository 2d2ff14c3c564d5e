"""Channels as pixels and back: pixel_shuffle, pixel_unshuffle, channel_shuffle.

In: [..., channels, height, width], or [batch, channels, ...]. Out: the same elements elsewhere. Next: `dropout.py`.
"""

from __future__ import annotations

from flambeau.dialects.builder import Value
from flambeau.function import Static, Tensor_, function
from flambeau.functions.common import ops
from flambeau.samples import call, calls, data


def _check_image(op: str, x: Value, factor: int) -> None:
    if len(x.shape) < 3:
        raise RuntimeError(f"[{op}] input has shape {x.shape}. Pass [..., channels, height, width].")
    if factor < 1:
        raise RuntimeError(f"[{op}] the factor is {factor}. Use at least 1.")


@function(
    free="flambeau nn.functional",
    samples=calls(
        lambda: [
            call(data(2, 4, 2, 3), 2),
            call(data(9, 1, 2), 3),
            call(data(3, 2, 2), 2, error=(RuntimeError, "3 channels")),
            call(data(3, 2), 2, error=(RuntimeError, "input has shape (3, 2)")),
        ]
    ),
)
def pixel_shuffle(input: Tensor_, upscale_factor: Static):
    """[..., c * r * r, h, w] as [..., c, h * r, w * r] for r = `upscale_factor`. Shi et al. (2016). Raises RuntimeError for
    shapes that do not fit."""
    r, x = upscale_factor, input
    _check_image("pixel_shuffle", x, r)
    *lead, c, h, w = x.shape
    if c % (r * r):
        raise RuntimeError(f"[pixel_shuffle] {c} channels are no multiple of {r * r}. Make them one.")
    n = len(lead)
    split = ops.reshape(x, shape=(*lead, c // (r * r), r, r, h, w))
    moved = ops.permute(split, perm=(*range(n + 1), n + 3, n + 1, n + 4, n + 2))
    return ops.reshape(moved, shape=(*lead, c // (r * r), h * r, w * r))


@function(
    free="flambeau nn.functional",
    samples=calls(
        lambda: [
            call(data(2, 1, 4, 6), 2),
            call(data(1, 3, 6), 3),
            call(data(1, 3, 2), 2, error=(RuntimeError, "3 and 2")),
        ]
    ),
)
def pixel_unshuffle(input: Tensor_, downscale_factor: Static):
    """[..., c, h * r, w * r] as [..., c * r * r, h, w] for r = `downscale_factor`: `pixel_shuffle` undone. Raises RuntimeError
    for shapes that do not fit."""
    r, x = downscale_factor, input
    _check_image("pixel_unshuffle", x, r)
    *lead, c, h, w = x.shape
    if h % r or w % r:
        raise RuntimeError(f"[pixel_unshuffle] height and width are {h} and {w}, no multiples of {r}. Make them ones.")
    n = len(lead)
    split = ops.reshape(x, shape=(*lead, c, h // r, r, w // r, r))
    moved = ops.permute(split, perm=(*range(n + 1), n + 2, n + 4, n + 1, n + 3))
    return ops.reshape(moved, shape=(*lead, c * r * r, h // r, w // r))


@function(
    free="flambeau nn.functional",
    samples=calls(
        lambda: [
            call(data(2, 4, 3), 2),
            call(data(1, 6, 2, 2), 3),
            call(data(1, 3, 2), 2, error=(RuntimeError, "3 channels")),
        ]
    ),
    aliases="native_channel_shuffle",
)
def channel_shuffle(input: Tensor_, groups: Static):
    """[batch, channels, ...] with the channels of `groups` groups in turn. Zhang et al. (2018). Raises RuntimeError for shapes that
    do not fit."""
    x = input
    if len(x.shape) < 3:
        raise RuntimeError(f"[channel_shuffle] input has shape {x.shape}. Pass [batch, channels, spatial...].")
    n, c, *rest = x.shape
    if groups < 1 or c % groups:
        raise RuntimeError(f"[channel_shuffle] {c} channels are no {groups} groups. Use a number that divides them.")
    split = ops.reshape(x, shape=(n, groups, c // groups, *rest))
    moved = ops.permute(split, perm=(0, 2, 1, *range(3, len(split.shape))))
    return ops.reshape(moved, shape=x.shape)
