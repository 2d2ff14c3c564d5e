"""Means, sums and extremes of numbers that come one after the other: losses of an epoch, say.

In: numbers or tensors. Out: 0-d tensors. Next: `metric.py`.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau.dialects.dtypes import float64, int64
from flambeau.functions.choose import maximum, minimum, where
from flambeau.functions.create import full, zeros
from flambeau.functions.from_data import as_tensor
from flambeau.functions.ramps import arange
from flambeau.metrics.metric import Metric, told
from flambeau.runtime.recorder import Tensor


def _exact(value: Any) -> Tensor:
    return (value.detach() if isinstance(value, Tensor) else as_tensor(value)).to(float64)


class Mean(Metric):
    """The mean of all elements, times weights that broadcast to them; NaN of nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", zeros((), dtype=float64))
        self.add_state("weight", zeros((), dtype=float64))

    def update(self, value: Any, weight: Any = 1.0) -> None:
        """Take in numbers."""
        x = _exact(value)
        w = _exact(weight).to(x.device).expand(x.shape)
        self.total.add_((x * w).sum())
        self.weight.add_(w.sum())

    def compute(self) -> Tensor:
        return told(self.total / self.weight)


class Sum(Metric):
    """The sum of all elements."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", zeros((), dtype=float64))

    def update(self, value: Any) -> None:
        """Take in numbers."""
        self.total.add_(_exact(value).sum())

    def compute(self) -> Tensor:
        return told(self.total.clone())


class Max(Metric):
    """The largest element; -inf of nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("largest", full((), -math.inf, dtype=float64), "max")

    def update(self, value: Any) -> None:
        """Take in numbers."""
        self.largest.copy_(maximum(self.largest, _exact(value).max()))

    def compute(self) -> Tensor:
        return told(self.largest.clone())


class Min(Metric):
    """The least element; inf of nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("least", full((), math.inf, dtype=float64), "min")

    def update(self, value: Any) -> None:
        """Take in numbers."""
        self.least.copy_(minimum(self.least, _exact(value).min()))

    def compute(self) -> Tensor:
        return told(self.least.clone())


class RunningMean(Metric):
    """The mean of the last `window` numbers, each the mean of what one update is given; NaN of none. Raises ValueError for a window
    below 1, and `merge_state` RuntimeError: of numbers of two places there are no last ones."""

    def __init__(self, window: int = 100) -> None:
        super().__init__()
        if window < 1:
            raise ValueError(f"[RunningMean] window is {window}. Use at least 1.")
        self.window = window
        self.add_state("values", zeros(window, dtype=float64))
        self.add_state("count", zeros((), dtype=int64))

    def update(self, value: Any) -> None:
        """Take in a number."""
        is_next = arange(self.window, device=self.count.device) == self.count % self.window
        self.values.copy_(where(is_next, _exact(value).mean(), self.values))
        self.count.add_(1)

    def compute(self) -> Tensor:
        return told(self.values.sum() / self.count.clamp(max=self.window))

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Take in a number, and return it."""
        self.update(*args, **kwargs)
        return told(_exact(args[0] if args else kwargs["value"]).mean())

    def _merge(self, states: dict[str, Any]) -> None:
        raise RuntimeError("[RunningMean] two of them cannot be merged. Merge a Mean of all numbers.")
