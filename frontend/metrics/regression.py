"""Errors of numbers: mean squared and mean absolute error, the coefficient of determination.

In: predictions and targets of one shape. Out: 0-d tensors. Next: `text.py`.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau.dialects.dtypes import float64, int64
from flambeau.functions.choose import where
from flambeau.functions.create import zeros
from flambeau.metrics.metric import Metric, told
from flambeau.runtime.recorder import Tensor


def _differences(op: str, input: Tensor, target: Tensor) -> Tensor:
    """In float64. Raises ValueError for shapes that differ."""
    if input.shape != target.shape:
        raise ValueError(f"[{op}] input has shape {tuple(input.shape)}, target {tuple(target.shape)}. Make them equal.")
    return input.detach().to(float64) - target.detach().to(float64)


class _Error(Metric):
    """The mean of something of the differences; NaN of nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", zeros((), dtype=float64))
        self.add_state("count", zeros((), dtype=int64))

    def _add(self, errors: Tensor) -> None:
        self.total.add_(errors.sum())
        self.count.add_(errors.numel())


class MeanSquaredError(_Error):
    """The mean of squared differences, or its root with `squared=False`."""

    def __init__(self, squared: bool = True) -> None:
        super().__init__()
        self.squared = squared

    def update(self, input: Tensor, target: Tensor) -> None:
        """Take in predictions and targets. Raises ValueError for shapes that differ."""
        self._add(_differences("MeanSquaredError", input, target).square())

    def compute(self) -> Tensor:
        mean = self.total / self.count
        return told(mean if self.squared else mean.sqrt())


class MeanAbsoluteError(_Error):
    """The mean of absolute differences."""

    def update(self, input: Tensor, target: Tensor) -> None:
        """Take in predictions and targets. Raises ValueError for shapes that differ."""
        self._add(_differences("MeanAbsoluteError", input, target).abs())

    def compute(self) -> Tensor:
        return told(self.total / self.count)


class R2Score(Metric):
    """1 minus the squared differences over those of the targets to their mean. With `num_outputs` K predictions and targets are
    [N, K], and the result is the mean of K scores ("uniform_average"), or all of them ("raw_values").

    Where all targets are equal there is nothing to explain: 1 for predictions that equal them, 0 for others. NaN of fewer than two.

    Means and squares of batches are put together by the formulas of Chan, Golub and LeVeque (1983), so that large targets cost no
    digits. Raises ValueError for other words.
    """

    def __init__(self, num_outputs: int | None = None, *, multioutput: str = "uniform_average") -> None:
        super().__init__()
        if multioutput not in ("uniform_average", "raw_values"):
            raise ValueError(f"[R2Score] multioutput is {multioutput!r}. Use 'uniform_average' or 'raw_values'.")
        self.num_outputs, self.multioutput = num_outputs, multioutput
        shape = () if num_outputs is None else (num_outputs,)
        for name in ("mean", "squares", "residuals"):
            self.add_state(name, zeros(shape, dtype=float64))
        self.add_state("count", zeros((), dtype=float64))

    def update(self, input: Tensor, target: Tensor) -> None:
        """Take in predictions and targets. Raises ValueError for shapes that do not fit."""
        differences = _differences("R2Score", input, target)
        count = self.num_outputs
        if count is not None and (input.dim() != 2 or input.shape[1] != count):
            raise ValueError(f"[R2Score] input has shape {tuple(input.shape)}. Pass [N, {count}].")
        if not target.numel():
            return
        over: Any = tuple(range(input.dim())) if count is None else 0
        y = target.detach().to(float64)
        mean = y.mean(over)
        self._merge(
            {
                "mean": mean,
                "squares": (y - mean).square().sum(over),
                "residuals": differences.square().sum(over),
                "count": zeros((), dtype=float64, device=y.device) + y.numel() / (count or 1),
            }
        )

    def _merge(self, states: dict[str, Any]) -> None:
        mean, squares, residuals, count = (
            states[n].to(self.count.device) for n in ("mean", "squares", "residuals", "count")
        )
        both, apart = (self.count + count).clamp(min=1.0), mean - self.mean
        self.squares.add_(squares + apart.square() * (self.count * count / both))
        self.mean.add_(apart * (count / both))
        self.residuals.add_(residuals)
        self.count.add_(count)

    def compute(self) -> Tensor:
        none = self.squares == 0
        scores = where(none, (self.residuals == 0).to(float64), 1.0 - self.residuals / where(none, 1.0, self.squares))
        scores = where(self.count < 2, math.nan, scores)
        return told(scores.mean() if self.multioutput == "uniform_average" else scores)
