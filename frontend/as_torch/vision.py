"""What libraries take from torchvision beside transforms, as far as it needs no C++.

In: nothing. Out: names for `torchvision.ops`. Next: `stand_ins.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flambeau import nn
from flambeau.functions.create import ones, zeros
from flambeau.functions.from_data import tensor
from flambeau.runtime.recorder import Tensor


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


def names() -> dict[str, Any]:
    """What stands in `torchvision.ops` and `torchvision.ops.misc`."""
    return {"FrozenBatchNorm2d": FrozenBatchNorm2d, "nms": nms}
