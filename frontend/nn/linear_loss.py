"""The last layer of a classifier and its loss as one module, and what PyTorch's may be told about memory.

In: features and targets. Out: a loss. The formula is that of the function in `functions/linear_loss.py`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from flambeau.device import Device
from flambeau.dialects.dtypes import DType
from flambeau.functions.linear_loss import linear_cross_entropy
from flambeau.nn.linear import Linear
from flambeau.nn.loss import _WeightedLoss
from flambeau.runtime.recorder import Tensor

_METHODS = re.compile(r"auto|aspect_ratio(:0*[1-9]\d*)?")
_POLICIES = ("auto", "accurate", "balanced", "compact")


@dataclass(frozen=True)
class LinearCrossEntropyOptions:
    """How PyTorch cuts the scores of `linear_cross_entropy` into pieces. Kept and checked, and without effect: what exists at a
    time is for the compiler to decide. Raises ValueError for what PyTorch refuses."""

    allow_retain_graph: bool = False
    batch_chunk_size: int | None = None
    chunking_method: str | None = "auto"
    acc_policy: str = "auto"
    acc_dtype: Any = None

    def __post_init__(self) -> None:
        op = "LinearCrossEntropyOptions"
        if self.acc_policy not in _POLICIES:
            raise ValueError(f"[{op}] acc_policy is {self.acc_policy!r}. Use one of {', '.join(map(repr, _POLICIES))}.")
        method = self.chunking_method
        if method is not None and not (isinstance(method, str) and _METHODS.fullmatch(method)):
            raise ValueError(
                f"[{op}] chunking_method is {method!r}. Use 'auto', 'aspect_ratio', 'aspect_ratio:2' or None."
            )
        size = self.batch_chunk_size
        if size is not None and not (isinstance(size, int) and size > 0):
            raise ValueError(f"[{op}] batch_chunk_size is {size!r}. Use an int above 0, or None.")
        if self.acc_dtype is not None and not (isinstance(self.acc_dtype, DType) and self.acc_dtype.is_floating_point):
            raise ValueError(f"[{op}] acc_dtype is {self.acc_dtype}. Use a floating-point dtype, or None.")


class LinearCrossEntropyLoss(_WeightedLoss):
    """`linear_cross_entropy` with a `Linear` layer of its own, `linear`, from `in_features` to `num_classes`, of which there are as
    many as `out_features` has places. Raises RuntimeError for a weight of another shape and for smoothing outside of [0, 1]."""

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        device: Device = None,
        dtype: Any = None,
        reduction: str = "mean",
        weight: Tensor | None = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        options: LinearCrossEntropyOptions | None = None,
    ) -> None:
        op = "LinearCrossEntropyLoss"
        if weight is not None and tuple(weight.shape) != (num_classes,):
            raise RuntimeError(
                f"[{op}] weight has shape {tuple(weight.shape)}. Give one weight for each of {num_classes}."
            )
        if not 0.0 <= label_smoothing <= 1.0:
            raise RuntimeError(f"[{op}] label_smoothing is {label_smoothing}. Use a number from 0 to 1.")
        super().__init__(weight, reduction=reduction)
        self.num_classes, self.out_features = num_classes, tuple(out_features)
        self.ignore_index, self.label_smoothing, self.options = ignore_index, label_smoothing, options
        rows = math.prod(self.out_features, start=num_classes)
        self.linear = Linear(in_features, rows, bias, device=device, dtype=dtype)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        shape, bias = (self.num_classes, *self.out_features), self.linear.bias
        return linear_cross_entropy(
            input,
            self.linear.weight.reshape(*shape, self.linear.in_features),
            target,
            linear_bias=None if bias is None else bias.reshape(shape),
            weight=self.weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            options=self.options,
        )

    def extra_repr(self) -> str:
        return (
            f"in_features={self.linear.in_features}, num_classes={self.num_classes}, out_features={self.out_features}, "
            f"bias={self.linear.bias is not None}, reduction={self.reduction}, ignore_index={self.ignore_index}, "
            f"label_smoothing={self.label_smoothing}, options={self.options}"
        )
