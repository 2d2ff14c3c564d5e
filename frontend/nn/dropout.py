"""Dropouts of elements, of whole channels, and those for SELU, as modules.

In: a tensor. Out: the same shape; in evaluation the tensor itself. Next: `convolution.py`.
"""

from __future__ import annotations

from flambeau.functions import dropout
from flambeau.nn.module import Module
from flambeau.runtime.recorder import Tensor


class Dropout(Module):
    """In training, elements set to 0 with probability `p` and the others divided by 1 - p; the identity in evaluation."""

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"[Dropout] p is {p}. Use a probability from 0 to 1.")
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        return dropout.dropout(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout1d(Dropout):
    """In training, whole channels of [(batch,) channels, length] set to 0 with probability `p`."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout.dropout1d(input, self.p, self.training, self.inplace)


class Dropout2d(Dropout):
    """In training, whole channels of [batch, channels, height, width] set to 0 with probability `p`."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout.dropout2d(input, self.p, self.training, self.inplace)


class Dropout3d(Dropout):
    """In training, whole channels of [batch, channels, depth, height, width] set to 0 with probability `p`."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout.dropout3d(input, self.p, self.training, self.inplace)


class AlphaDropout(Dropout):
    """In training, elements set to SELU's least value with probability `p`, so that mean and variance stay."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout.alpha_dropout(input, self.p, self.training, self.inplace)


class FeatureAlphaDropout(Dropout):
    """`AlphaDropout` of whole channels."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout.feature_alpha_dropout(input, self.p, self.training, self.inplace)
