"""Convolutions, and how ONNX says where their windows lie.

`SpatialWindows` makes of attributes numbers for each spatial axis: kernel, stride, dilation, and how much is added before and
after. Next: `pooling.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flambeau.onnx.names import F, fb
from flambeau.onnx.node import OnnxNode, rule
from flambeau.runtime.recorder import Tensor

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class SpatialWindows(NamedTuple):
    """Of every spatial axis."""

    kernel: list[int]
    stride: list[int]
    dilation: list[int]
    low: list[int]
    high: list[int]

    @property
    def is_even(self) -> bool:
        """Whether as much is added before as after."""
        return self.low == self.high

    def extents(self) -> list[int]:
        """How much a window spans."""
        return [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation)]


def windows(node: OnnxNode, sizes: Sequence[int], kernel: Sequence[int]) -> SpatialWindows:
    """Of a node on maps of these sizes. Raises NotImplementedError for maps of more than three dimensions."""
    n = len(sizes)
    if n not in _CONVOLUTIONS:
        raise node.lacks(f"has maps of {n} dimensions")
    stride = node.ints("strides") or [1] * n
    dilation = node.ints("dilations") or [1] * n
    pads = node.ints("pads") or [0] * 2 * n
    found = SpatialWindows([int(k) for k in kernel], stride, dilation, pads[:n], pads[n:])
    same = node.get("auto_pad", "NOTSET")
    if not same.startswith("SAME"):
        return found
    whole = [max((-(-size // s) - 1) * s + e - size, 0) for size, s, e in zip(sizes, stride, found.extents())]
    less, more = [w // 2 for w in whole], [w - w // 2 for w in whole]
    return found._replace(low=less, high=more) if same == "SAME_UPPER" else found._replace(low=more, high=less)


def padded(x: Tensor, low: Sequence[int], high: Sequence[int], value: float = 0.0) -> Tensor:
    """Maps with so much of a value around them."""
    amounts = [amount for pair in zip(reversed(low), reversed(high)) for amount in pair]
    return F.pad(x, amounts, value=value) if any(amounts) else x


@rule("Conv")
def convolved(node: OnnxNode, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """The convolution that a node of this or a quantized kind says."""
    at = windows(node, x.shape[2:], node.ints("kernel_shape") or w.shape[2:])
    padding = at.low
    if not at.is_even:
        x, padding = padded(x, at.low, at.high), [0] * len(at.low)
    convolution = _CONVOLUTIONS[x.dim() - 2]
    return convolution(x, w, b, at.stride, padding, at.dilation, node.get("group", 1))


@rule("ConvTranspose")
def _conv_transpose(node: OnnxNode, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Whole, then cut to what is wanted: ONNX may cut more on one side than on the other."""
    at = windows(node, x.shape[2:], node.ints("kernel_shape") or w.shape[2:])
    n = x.dim() - 2
    extra, wanted = node.ints("output_padding") or [0] * n, node.ints("output_shape")
    whole = [(size - 1) * s + e for size, s, e in zip(x.shape[2:], at.stride, at.extents())]
    low, high = at.low, at.high
    same = node.get("auto_pad", "NOTSET")
    if wanted is None and same.startswith("SAME"):
        wanted = [size * s for size, s in zip(x.shape[2:], at.stride)]
    if wanted is not None:
        wanted = wanted[-n:]
        cut = [total + e - size for total, e, size in zip(whole, extra, wanted)]
        part = [max(c, 0) // 2 if same == "SAME_UPPER" else max(c, 0) - max(c, 0) // 2 for c in cut]
        low, high = part, [c - p for c, p in zip(cut, part)]
    if low == high and all(c >= 0 for c in low) and all(e < s for e, s in zip(extra, at.stride)):
        return _TRANSPOSED[n](x, w, b, at.stride, low, extra, node.get("group", 1), at.dilation)
    found = _TRANSPOSED[n](x, w, None, at.stride, 0, 0, node.get("group", 1), at.dilation)
    found = padded(found, [-c for c in low], [e - c for e, c in zip(extra, high)])
    return found if b is None else found + fb.reshape(b, (-1, *[1] * n))
