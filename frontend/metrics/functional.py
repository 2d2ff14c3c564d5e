"""Metrics of one batch, as functions: what the classes of the same names give after one update.

In: predictions and targets, and the options of the class. Out: tensors. Next: `metric.py`.
"""

from __future__ import annotations

from flambeau.metrics.classification import (
    Accuracy,
    ConfusionMatrix,
    F1Score,
    Precision,
    Recall,
    TopKAccuracy,
)
from flambeau.metrics.metric import Metric
from flambeau.metrics.ranking import AUROC, AveragePrecision
from flambeau.metrics.regression import MeanAbsoluteError, MeanSquaredError, R2Score
from flambeau.metrics.text import Perplexity
from flambeau.runtime.recorder import Tensor


def _of(metric: Metric, input: Tensor, target: Tensor) -> Tensor:
    metric.to(input.device)
    metric.update(input, target)
    return metric.compute()


def accuracy(
    input: Tensor,
    target: Tensor,
    num_classes: int | None = None,
    *,
    average: str | None = "micro",
    threshold: float = 0.5,
    top_k: int = 1,
    ignore_index: int | None = None,
) -> Tensor:
    """The share of predictions that are right: see `Accuracy`."""
    options = {"average": average, "threshold": threshold, "top_k": top_k, "ignore_index": ignore_index}
    return _of(Accuracy(num_classes, **options), input, target)  # type: ignore[arg-type]


def topk_accuracy(
    input: Tensor,
    target: Tensor,
    k: int = 5,
    num_classes: int | None = None,
    *,
    average: str | None = "micro",
    ignore_index: int | None = None,
) -> Tensor:
    """The share of targets whose score is among the `k` largest: see `TopKAccuracy`."""
    return _of(TopKAccuracy(k, num_classes, average=average, ignore_index=ignore_index), input, target)


def precision(
    input: Tensor,
    target: Tensor,
    num_classes: int | None = None,
    *,
    average: str | None = "macro",
    threshold: float = 0.5,
    ignore_index: int | None = None,
) -> Tensor:
    """Of what is predicted to be of a class the share that is: see `Precision`."""
    return _of(Precision(num_classes, average=average, threshold=threshold, ignore_index=ignore_index), input, target)


def recall(
    input: Tensor,
    target: Tensor,
    num_classes: int | None = None,
    *,
    average: str | None = "macro",
    threshold: float = 0.5,
    ignore_index: int | None = None,
) -> Tensor:
    """Of what is of a class the share that is predicted to be: see `Recall`."""
    return _of(Recall(num_classes, average=average, threshold=threshold, ignore_index=ignore_index), input, target)


def f1_score(
    input: Tensor,
    target: Tensor,
    num_classes: int | None = None,
    *,
    average: str | None = "macro",
    threshold: float = 0.5,
    ignore_index: int | None = None,
) -> Tensor:
    """The harmonic mean of precision and recall: see `F1Score`."""
    return _of(F1Score(num_classes, average=average, threshold=threshold, ignore_index=ignore_index), input, target)


def confusion_matrix(
    input: Tensor,
    target: Tensor,
    num_classes: int | None = None,
    *,
    normalize: str | None = None,
    threshold: float = 0.5,
    ignore_index: int | None = None,
) -> Tensor:
    """How often class i was predicted as class j: see `ConfusionMatrix`."""
    made = ConfusionMatrix(num_classes, normalize=normalize, threshold=threshold, ignore_index=ignore_index)
    return _of(made, input, target)


def auroc(input: Tensor, target: Tensor, num_classes: int | None = None, *, average: str | None = "macro") -> Tensor:
    """The area under the ROC curve: see `AUROC`."""
    return _of(AUROC(num_classes, average=average), input, target)


def average_precision(
    input: Tensor, target: Tensor, num_classes: int | None = None, *, average: str | None = "macro"
) -> Tensor:
    """The area under the curve of precision and recall: see `AveragePrecision`."""
    return _of(AveragePrecision(num_classes, average=average), input, target)


def mean_squared_error(input: Tensor, target: Tensor, *, squared: bool = True) -> Tensor:
    """The mean of squared differences: see `MeanSquaredError`."""
    return _of(MeanSquaredError(squared), input, target)


def mean_absolute_error(input: Tensor, target: Tensor) -> Tensor:
    """The mean of absolute differences: see `MeanAbsoluteError`."""
    return _of(MeanAbsoluteError(), input, target)


def r2_score(
    input: Tensor, target: Tensor, num_outputs: int | None = None, *, multioutput: str = "uniform_average"
) -> Tensor:
    """The coefficient of determination: see `R2Score`."""
    return _of(R2Score(num_outputs, multioutput=multioutput), input, target)


def perplexity(input: Tensor, target: Tensor, ignore_index: int = -100) -> Tensor:
    """exp of the mean cross entropy of tokens: see `Perplexity`."""
    return _of(Perplexity(ignore_index), input, target)
