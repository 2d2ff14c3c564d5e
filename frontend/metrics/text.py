"""Perplexity of language models.

In: scores of tokens and tokens. Out: a 0-d tensor. Next: `aggregation.py`.
"""

from __future__ import annotations

from flambeau.dialects.dtypes import float64, int64
from flambeau.functions.create import zeros
from flambeau.functions.loss import cross_entropy
from flambeau.metrics.metric import Metric, told
from flambeau.runtime.recorder import Tensor


class Perplexity(Metric):
    """exp of the mean cross entropy of tokens [N, ...] under scores [N, ..., V]; `ignore_index` is a token that does not count."""

    def __init__(self, ignore_index: int = -100) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.add_state("total", zeros((), dtype=float64))
        self.add_state("count", zeros((), dtype=int64))

    def update(self, input: Tensor, target: Tensor) -> None:
        """Take in scores and tokens. Raises ValueError for shapes that do not fit, IndexError for tokens beyond the last one (when
        a value is read)."""
        if input.dim() < 2 or input.shape[:-1] != target.shape:
            raise ValueError(
                f"[Perplexity] input has shape {tuple(input.shape)}, target {tuple(target.shape)}. Pass [N, ..., V] and [N, ...]."
            )
        scores, tokens = input.detach().reshape(-1, input.shape[-1]), target.detach().long().reshape(-1)
        loss = cross_entropy(scores, tokens, ignore_index=self.ignore_index, reduction="none")
        self.total.add_(loss.to(float64).sum())
        self.count.add_((tokens != self.ignore_index).sum())

    def compute(self) -> Tensor:
        return told((self.total / self.count).exp())
