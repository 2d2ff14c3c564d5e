"""Accuracy, precision, recall and F1, of two classes or of many; confusion matrices.

In: predictions, as scores or classes, and classes. Out: shares from 0 to 1, and counts. For `num_classes=None` there are two
classes: scores of the target's shape are of class 1 from `threshold` on, and precision, recall and F1 are its. Else
predictions are scores [N, C, ...], of which the largest counts, or classes [N, ...] like the target. What is added up is how often
each class was hit, predicted and there. Next: `ranking.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.dialects.dtypes import float64, int64
from flambeau.functions.choose import where
from flambeau.functions.create import zeros
from flambeau.functions.ramps import arange
from flambeau.metrics.metric import Metric, told
from flambeau.runtime.recorder import Tensor

_AVERAGES = ("micro", "macro", "weighted", None)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, 0 of nothing."""
    return where(whole == 0, 0.0, part.to(float64) / where(whole == 0, 1, whole))


def _averaged(shares: Tensor, actual: Tensor, is_there: Tensor, average: str | None) -> Tensor:
    """Shares of classes as one number: of those that are there, or by how often each is."""
    if average is None or not shares.dim():
        return shares
    weights = (actual if average == "weighted" else is_there).to(float64)
    return _ratio((shares * weights).sum(), weights.sum())


class _PredictedClasses(Metric):
    """What classes are predicted, and what they are."""

    def __init__(self, num_classes: int | None, threshold: float, ignore_index: int | None) -> None:
        super().__init__()
        if num_classes is not None and num_classes < 2:
            raise ValueError(f"[{type(self).__name__}] num_classes is {num_classes}. Use at least 2, or None for two.")
        self.num_classes, self.threshold, self.ignore_index = num_classes, threshold, ignore_index

    def _misfit(self, input: Tensor, target: Tensor) -> ValueError:
        count = self.num_classes
        wanted = (
            "[N, ...] like the target" if count is None else f"scores [N, {count}, ...], or classes like the target"
        )
        return ValueError(
            f"[{type(self).__name__}] input is {input.dtype.name} of shape {tuple(input.shape)}, target has shape "
            f"{tuple(target.shape)}. Pass {wanted}."
        )

    def _predicted(self, input: Tensor, target: Tensor) -> Tensor:
        """The classes that are predicted, of the target's shape. Raises ValueError for shapes that do not fit."""
        is_score, count = input.dtype.is_floating_point, self.num_classes
        if input.shape == target.shape and not (is_score and count):
            return (input >= self.threshold).long() if is_score else input.long()
        if is_score and self._are_scores(input, target):
            return input.argmax(1)
        raise self._misfit(input, target)

    def _are_scores(self, input: Tensor, target: Tensor) -> bool:
        rest = (*input.shape[:1], *input.shape[2:])
        return (
            input.dim() == target.dim() + 1 > 1 and rest == tuple(target.shape) and input.shape[1] == self.num_classes
        )

    def _read(self, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Predicted classes, classes, and 1 where they count, 0 where they are to be ignored: vectors."""
        predicted, actual = self._predicted(input.detach(), target).reshape(-1), target.detach().long().reshape(-1)
        counts = actual * 0 + 1
        if self.ignore_index is not None:
            counted = actual != self.ignore_index
            predicted, actual, counts = where(counted, predicted, 0), where(counted, actual, 0), counted.long()
        return predicted, actual, counts

    def _known(self, classes: Tensor) -> Tensor:
        """The classes: IndexError for one that there is not, above all where its number would be taken for a count."""
        return arange(self.num_classes or 2, device=classes.device).gather(0, classes)


class _Shares(_PredictedClasses):
    """Shares that follow from how often classes were hit, predicted and there."""

    def __init__(
        self, num_classes: int | None, average: str | None, threshold: float, ignore_index: int | None
    ) -> None:
        super().__init__(num_classes, threshold, ignore_index)
        if average not in _AVERAGES:
            raise ValueError(
                f"[{type(self).__name__}] average is {average!r}. Use 'micro', 'macro', 'weighted' or None."
            )
        self.average = average
        shape = () if num_classes is None else (num_classes,)
        for name in ("hits", "predicted", "actual"):
            self.add_state(name, zeros(shape, dtype=int64))

    def update(self, input: Tensor, target: Tensor) -> None:
        """Take in predictions and classes. Raises ValueError for shapes that do not fit, IndexError for a class that there is not
        (when a value is read)."""
        predicted, actual, counts = self._read(input, target)
        self._count(predicted, actual, predicted.eq(actual).long() * counts, counts)

    def _count(self, predicted: Tensor, actual: Tensor, hits: Tensor, counts: Tensor) -> None:
        if self.num_classes is None:
            predicted, actual = self._known(predicted), self._known(actual)
            for state, each in ((self.hits, hits * actual), (self.predicted, predicted), (self.actual, actual)):
                state.add_((each * counts).sum())
            return
        for state, at, each in (
            (self.hits, actual, hits),
            (self.predicted, predicted, counts),
            (self.actual, actual, counts),
        ):
            state.index_add_(0, at, each)

    def compute(self) -> Tensor:
        part, whole = self._parts()
        if self.average == "micro" and self.num_classes is not None:
            return told(_ratio(part.sum(), whole.sum()))
        return told(_averaged(_ratio(part, whole), self.actual, self._is_there(), self.average))

    def _parts(self) -> tuple[Tensor, Tensor]:
        """What is divided by what, for each class."""
        raise NotImplementedError(f"[{type(self).__name__}] it has no _parts(). Define it.")

    def _is_there(self) -> Tensor:
        """Which classes count in a mean: those that were met at all."""
        return self.predicted + self.actual > 0


class Accuracy(_Shares):
    """The share of predictions that are right; by `average` of all of them ("micro"), or of each class: their mean ("macro", the
    balanced accuracy), the mean by how often each is there ("weighted"), or a tensor of all (None). A prediction is right, too,
    where fewer than `top_k` scores are above that of the target. `ignore_index` is a target that does not count.

    Raises ValueError for other averages and for sizes below 1.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        *,
        average: str | None = "micro",
        threshold: float = 0.5,
        top_k: int = 1,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(num_classes, average, threshold, ignore_index)
        if top_k < 1:
            raise ValueError(f"[Accuracy] top_k is {top_k}. Use at least 1.")
        self.top_k = top_k

    def update(self, input: Tensor, target: Tensor) -> None:
        """Take in predictions and classes. Raises ValueError for shapes that do not fit."""
        predicted, actual, counts = self._read(input, target)
        hits = predicted.eq(actual).long() if self.top_k == 1 else self._near(input.detach(), target, actual)
        hits = hits * counts
        if self.num_classes is None:
            self.hits.add_(hits.sum())
            self.actual.add_(counts.sum())
        else:
            self._count(predicted, actual, hits, counts)

    def _near(self, input: Tensor, target: Tensor, actual: Tensor) -> Tensor:
        """Whether fewer than `top_k` scores are above that of the target."""
        if not self._are_scores(input, target):
            raise self._misfit(input, target)
        own = input.gather(1, actual.reshape(target.shape).unsqueeze(1))
        return ((input > own).sum(1) < self.top_k).long().reshape(-1)

    def _are_scores(self, input: Tensor, target: Tensor) -> bool:
        if self.num_classes is not None:
            return super()._are_scores(input, target)
        return input.dim() == target.dim() + 1 > 1 and (*input.shape[:1], *input.shape[2:]) == tuple(target.shape)

    def _parts(self) -> tuple[Tensor, Tensor]:
        return self.hits, self.actual

    def _is_there(self) -> Tensor:
        return self.actual > 0


class TopKAccuracy(Accuracy):
    """The share of targets whose score is among the `k` largest: fewer than `k` scores are above it."""

    def __init__(
        self,
        k: int = 5,
        num_classes: int | None = None,
        *,
        average: str | None = "micro",
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(num_classes, average=average, top_k=k, ignore_index=ignore_index)


class _ByClass(_Shares):
    def __init__(
        self,
        num_classes: int | None = None,
        *,
        average: str | None = "macro",
        threshold: float = 0.5,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(num_classes, average, threshold, ignore_index)


class Precision(_ByClass):
    """Of what is predicted to be of a class the share that is; 0 of nothing. `average` as in `Accuracy`; a mean ("macro") is over
    the classes that are met."""

    def _parts(self) -> tuple[Tensor, Tensor]:
        return self.hits, self.predicted


class Recall(_ByClass):
    """Of what is of a class the share that is predicted to be; 0 of nothing. `average` as in `Precision`."""

    def _parts(self) -> tuple[Tensor, Tensor]:
        return self.hits, self.actual


class F1Score(_ByClass):
    """The harmonic mean of precision and recall; 0 of nothing. `average` as in `Precision`."""

    def _parts(self) -> tuple[Tensor, Tensor]:
        return self.hits * 2, self.predicted + self.actual


class ConfusionMatrix(_PredictedClasses):
    """How often class i (rows) was predicted as class j: int64 [C, C]; two classes for `num_classes=None`. `normalize` "true"
    divides rows by their sums, "pred" columns, "all" everything. Raises ValueError for other words."""

    def __init__(
        self,
        num_classes: int | None = None,
        *,
        normalize: str | None = None,
        threshold: float = 0.5,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(num_classes, threshold, ignore_index)
        if normalize not in (None, "true", "pred", "all"):
            raise ValueError(f"[ConfusionMatrix] normalize is {normalize!r}. Use 'true', 'pred', 'all' or None.")
        self.normalize = normalize
        count = num_classes or 2
        self.add_state("matrix", zeros((count, count), dtype=int64))

    def update(self, input: Tensor, target: Tensor) -> None:
        """Take in predictions and classes. Raises ValueError for shapes that do not fit, IndexError for a class that there is not
        (when a value is read)."""
        predicted, actual, counts = self._read(input, target)
        self.matrix.index_put_((self._known(actual), self._known(predicted)), counts, accumulate=True)

    def compute(self) -> Tensor:
        if self.normalize is None:
            return self.matrix.clone()
        over: Any = {"true": (1,), "pred": (0,), "all": (0, 1)}[self.normalize]
        return told(_ratio(self.matrix, self.matrix.sum(over, keepdim=True)))
