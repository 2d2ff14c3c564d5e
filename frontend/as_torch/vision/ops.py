"""`torchvision.ops`, as far as it needs no C++: boxes, which are (N, 4: x1, y1, x2, y2), and a few layers.

In: tensors. Out: tensors. Next: `models/`.
"""

from __future__ import annotations

from typing import Any

import flambeau
import flambeau.nn.functional
import numpy as np
from flambeau import nn
from flambeau.functions.create import ones, zeros
from flambeau.functions.from_data import tensor
from flambeau.runtime.recorder import Tensor

fb: Any = flambeau


class FrozenBatchNorm2d(nn.Module):
    """Batch normalization by statistics and weights that are buffers: (N, C, H, W) in, the same out."""

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        for name, made in (("weight", ones), ("bias", zeros), ("running_mean", zeros), ("running_var", ones)):
            self.register_buffer(name, made(num_features))

    def forward(self, x: Any) -> Any:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


def nms(boxes: Any, scores: Any, iou_threshold: float) -> Tensor:
    """Which boxes (N, 4: x1, y1, x2, y2) stay, the best scores first: none that covers one before it by more than the threshold
    (area of both over area of either). Computed on the host."""
    corners, order = boxes.detach().numpy(), np.argsort(-scores.detach().numpy(), kind="stable")
    area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    kept = []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(int(best))
        low = np.maximum(corners[best, :2], corners[order, :2])
        high = np.minimum(corners[best, 2:], corners[order, 2:])
        common = np.prod(np.clip(high - low, 0, None), axis=1)
        order = order[common <= iou_threshold * (area[best] + area[order] - common)]
    return tensor(np.array(kept, np.int64))


def batched_nms(boxes: Any, scores: Any, idxs: Any, iou_threshold: float) -> Tensor:
    """`nms` for each class of `idxs` by itself: boxes of other classes are moved out of the way."""
    if boxes.numel() == 0:
        return tensor(np.zeros(0, np.int64))
    away = idxs.to(boxes.dtype) * (boxes.max() + 1)
    return nms(boxes + away[:, None], scores, iou_threshold)


def box_area(boxes: Any) -> Any:
    """Width times height of each box: (N,)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _common(boxes1: Any, boxes2: Any) -> tuple[Any, Any]:
    """Of every pair, the area that both cover and that either covers: (N, M)."""
    low = fb.maximum(boxes1[:, None, :2], boxes2[:, :2])
    high = fb.minimum(boxes1[:, None, 2:], boxes2[:, 2:])
    sides = (high - low).clamp(min=0)
    both = sides[..., 0] * sides[..., 1]
    return both, box_area(boxes1)[:, None] + box_area(boxes2) - both


def box_iou(boxes1: Any, boxes2: Any) -> Any:
    """Area of both over area of either, of every pair: (N, M)."""
    both, either = _common(boxes1, boxes2)
    return both / either


def generalized_box_iou(boxes1: Any, boxes2: Any) -> Any:
    """`box_iou` less the part of the smallest box around both that neither covers: (N, M). Rezatofighi and others (2019)."""
    both, either = _common(boxes1, boxes2)
    low = fb.minimum(boxes1[:, None, :2], boxes2[:, :2])
    high = fb.maximum(boxes1[:, None, 2:], boxes2[:, 2:])
    sides = (high - low).clamp(min=0)
    around = sides[..., 0] * sides[..., 1]
    return both / either - (around - either) / around


def box_convert(boxes: Any, in_fmt: str, out_fmt: str) -> Any:
    """Boxes in another form: "xyxy" (two corners), "xywh" (a corner and the size) or "cxcywh" (the middle and the size)."""
    for form in (in_fmt, out_fmt):
        if form not in ("xyxy", "xywh", "cxcywh"):
            raise ValueError(f"[box_convert] the format is {form!r}. Use 'xyxy', 'xywh' or 'cxcywh'.")
    first, second = boxes[..., :2], boxes[..., 2:]
    if in_fmt == "xywh":
        first, second = first, first + second
    elif in_fmt == "cxcywh":
        first, second = first - second / 2, first + second / 2
    if out_fmt == "xywh":
        first, second = first, second - first
    elif out_fmt == "cxcywh":
        first, second = (first + second) / 2, second - first
    return fb.cat([first, second], -1)


def clip_boxes_to_image(boxes: Any, size: tuple[int, int]) -> Any:
    """Boxes cut to an image of `size` (height, width)."""
    height, width = size
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return fb.stack([x, y], -1).reshape(boxes.shape)


def remove_small_boxes(boxes: Any, min_size: float) -> Any:
    """The numbers of the boxes whose sides are both at least `min_size`."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return fb.nonzero((sides >= min_size).all(1)).flatten()


def sigmoid_focal_loss(
    inputs: Any, targets: Any, alpha: float = 0.25, gamma: float = 2, reduction: str = "none"
) -> Any:
    """Binary cross entropy in which what is already right counts less. Lin and others, "Focal loss" (2017)."""
    p = fb.sigmoid(inputs)
    loss = flambeau.nn.functional.binary_cross_entropy_with_logits(inputs, targets, reduction="none")
    right = p * targets + (1 - p) * (1 - targets)
    loss = loss * (1 - right) ** gamma
    if alpha >= 0:
        loss = (alpha * targets + (1 - alpha) * (1 - targets)) * loss
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"[sigmoid_focal_loss] reduction is {reduction!r}. Use 'none', 'mean' or 'sum'.")
    return loss if reduction == "none" else getattr(loss, reduction)()


def stochastic_depth(input: Any, p: float, mode: str, training: bool = True) -> Any:
    """All of the input dropped with probability `p` ("batch"), or each sample by itself ("row"); what stays is scaled up."""
    if mode not in ("batch", "row") or not 0.0 <= p <= 1.0:
        raise ValueError(f"[stochastic_depth] mode is {mode!r} and p {p}. Use 'batch' or 'row', and p from 0 to 1.")
    if not training or p == 0.0:
        return input
    shape = [input.shape[0] if mode == "row" else 1] + [1] * (input.dim() - 1)
    kept = (fb.rand(shape) >= p).to(input.dtype)
    return input * (kept / (1.0 - p) if p < 1.0 else kept)


class StochasticDepth(nn.Module):
    """`stochastic_depth` in training."""

    def __init__(self, p: float, mode: str) -> None:
        super().__init__()
        self.p, self.mode = p, mode

    def forward(self, input: Any) -> Any:
        return stochastic_depth(input, self.p, self.mode, self.training)
