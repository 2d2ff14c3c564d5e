"""Areas under curves: AUROC and average precision, exact, with ties. Fawcett, "An introduction to ROC analysis" (2006).

In: scores, and classes. Out: numbers from 0 to 1. All scores are kept, for what they say depends on their order. Both areas are
sums over positive samples: of the negative ones that score less, or of the precision at each one's own score; so nothing depends
on how many different scores there are, and what is compiled does not, either. Next: `regression.py`.
"""

from __future__ import annotations

import math

import numpy as np
from flambeau import host
from flambeau.dialects.dtypes import float64, int64
from flambeau.functions.assemble import cat
from flambeau.functions.choose import where
from flambeau.functions.compare import isnan
from flambeau.functions.create import zeros
from flambeau.functions.from_data import as_tensor
from flambeau.functions.ramps import arange
from flambeau.functions.search import searchsorted
from flambeau.metrics.metric import Metric, told
from flambeau.runtime.recorder import Tensor


class _Ranking(Metric):
    """Scores [N] of class 1 and classes 0 and 1; or scores [N, `num_classes`], each class against the others."""

    def __init__(self, num_classes: int | None = None, *, average: str | None = "macro") -> None:
        super().__init__()
        if average not in ("macro", "weighted", None):
            raise ValueError(f"[{type(self).__name__}] average is {average!r}. Use 'macro', 'weighted' or None.")
        self.num_classes, self.average = num_classes, average
        self.add_state("scores", [], "cat")
        self.add_state("targets", [], "cat")

    def update(self, input: Tensor, target: Tensor) -> None:
        """Take in scores and classes. Raises ValueError for shapes that do not fit."""
        count = self.num_classes
        wanted = (target.numel(),) if count is None else (target.numel(), count)
        if target.dim() != 1 or tuple(input.shape) != wanted:
            needed = "[N] and [N]" if count is None else f"[N, {count}] and [N]"
            raise ValueError(
                f"[{type(self).__name__}] input has shape {tuple(input.shape)}, target {tuple(target.shape)}. Pass {needed}."
            )
        self.scores.append(input.detach().clone())
        self.targets.append(target.detach().clone())

    def compute(self) -> Tensor:
        """The area; NaN where there are no samples of one kind, or a score is NaN. The mean is over the classes that have one."""
        if not self.scores:
            return told(as_tensor(math.nan))
        scores, targets = (
            as_tensor(np.concatenate([host.array_of(x) for x in xs])) for xs in (self.scores, self.targets)
        )
        if self.num_classes is None:
            return told(self._of_rows(scores.unsqueeze(0), (targets != 0).unsqueeze(0))[0])
        is_class = arange(self.num_classes).unsqueeze(1) == targets
        areas = self._of_rows(scores.transpose(0, 1).contiguous(), is_class)
        if self.average is None:
            return told(areas)
        weights = is_class.sum(1) if self.average == "weighted" else areas.eq(areas).long()
        return told((where(areas == areas, areas, 0.0) * weights).sum() / weights.sum())

    def _of_rows(self, scores: Tensor, is_class: Tensor) -> Tensor:
        """Areas of rows; a NaN has no place in their order."""
        return where(isnan(scores).any(1), math.nan, self._area(scores, is_class))

    def _area(self, scores: Tensor, is_class: Tensor) -> Tensor:
        """Of rows of scores, and whether each is of the class."""
        raise NotImplementedError(f"[{type(self).__name__}] it has no _area(). Define it.")


def _sorted(scores: Tensor, is_class: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores from the least up; whether each is of the class, as int64; and how many are among the first 0, 1, ... of them."""
    found, order = scores.sort(1)
    held = is_class.long().gather(1, order)
    return found, held, cat([zeros((held.shape[0], 1), dtype=int64), held.cumsum(1)], 1)


class AUROC(_Ranking):
    """The area under the ROC curve: how often a sample of the class scores more than one of no such class, ties counting half."""

    def _area(self, scores: Tensor, is_class: Tensor) -> Tensor:
        found, held, before = _sorted(scores, is_class)
        least, most = searchsorted(found, found), searchsorted(found, found, right=True)
        others = least - before.gather(1, least) + most - before.gather(1, most)
        positive = held.sum(1).to(float64)
        return (held * others).sum(1).to(float64) / 2 / (positive * (held.shape[1] - positive))


class AveragePrecision(_Ranking):
    """The mean, over samples of the class, of the precision where all that score at least as much are taken for the class."""

    def _area(self, scores: Tensor, is_class: Tensor) -> Tensor:
        found, held, before = _sorted(scores, is_class)
        least, positive = searchsorted(found, found), held.sum(1, keepdim=True)
        precision = (positive - before.gather(1, least)).to(float64) / (held.shape[1] - least)
        return (held * precision).sum(1) / positive.squeeze(1)
