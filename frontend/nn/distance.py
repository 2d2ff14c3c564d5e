"""CosineSimilarity and PairwiseDistance.

In: two tensors. Out: their similarity or distance. Next: `loss.py`.
"""

from __future__ import annotations

from flambeau.functions.distances import cosine_similarity, pairwise_distance
from flambeau.nn.module import Module
from flambeau.runtime.recorder import Tensor


class CosineSimilarity(Module):
    """`nn.functional.cosine_similarity` along `dim`."""

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """`nn.functional.pairwise_distance` over the last dimension."""

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.norm, self.eps, self.keepdim = p, eps, keepdim

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
