"""`ReduceLROnPlateau`: learning rates that fall when a metric no longer gets better.

In: an optimizer, and a metric at each step. Out: its learning rates (`scheduler.py`).
"""

from __future__ import annotations

from math import inf
from typing import Any

from flambeau.optim.lr_scheduler.scheduler import LRScheduler, per_group, rates, set_rate
from flambeau.optim.optimizer import Optimizer


class ReduceLROnPlateau(LRScheduler):
    """The learning rate times `factor`, not below `min_lr`, when `step(metric)` has not been better for more than `patience`
    epochs; after that, `cooldown` epochs are not counted. Better means less where `mode` is "min", and more where it is "max", by
    `threshold`: a part of the best so far, or an amount where `threshold_mode` is "abs". Changes of at most `eps` are not made.

    Raises ValueError for a factor of 1 or more and for other modes.
    """

    _takes_metrics = True

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: list[float] | float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        op = "ReduceLROnPlateau"
        if not factor < 1.0:
            raise ValueError(f"[{op}] factor is {factor}. Use a number below 1.")
        if mode not in ("min", "max"):
            raise ValueError(f"[{op}] mode is {mode!r}. Use 'min' or 'max'.")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"[{op}] threshold_mode is {threshold_mode!r}. Use 'rel' or 'abs'.")
        self.optimizer = self._checked(optimizer)
        self.min_lrs = per_group(op, "min_lr", optimizer, min_lr)
        self.default_min_lr = None if isinstance(min_lr, (list, tuple)) else min_lr
        self.mode, self.threshold, self.threshold_mode = mode, threshold, threshold_mode
        self.factor, self.patience, self.cooldown, self.eps = factor, patience, cooldown, eps
        self.last_epoch = 0
        self._last_lr = rates(optimizer)
        self._reset()

    def _reset(self) -> None:
        self.best = inf if self.mode == "min" else -inf
        self.cooldown_counter = self.num_bad_epochs = 0

    @property
    def in_cooldown(self) -> bool:
        """Whether epochs are not counted now."""
        return self.cooldown_counter > 0

    def is_better(self, metric: float) -> bool:
        """Whether a metric is better than the best so far."""
        sign = 1 if self.mode == "min" else -1
        if self.threshold_mode == "abs":
            return sign * metric < sign * self.best - self.threshold
        return sign * metric < sign * self.best * (1.0 - sign * self.threshold)

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Take the metric of an epoch, a number or a tensor of one element, and set the learning rates."""
        metric = float(metrics)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self.is_better(metric):
            self.best, self.num_bad_epochs = metric, 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = rates(self.optimizer)

    def _reduce(self) -> None:
        for group, least in zip(self.optimizer.param_groups, self._least()):
            old = float(group["lr"])
            new = max(old * self.factor, least)
            if old - new > self.eps:
                set_rate(group, new)

    def _least(self) -> list[float]:
        """The least rate of each group. One number holds for groups that came later, too."""
        count = len(self.optimizer.param_groups)
        if self.default_min_lr is not None and count > len(self.min_lrs):
            self.min_lrs = [self.default_min_lr] * count
        if count != len(self.min_lrs):
            raise RuntimeError(
                f"[ReduceLROnPlateau] there are {count} groups of parameters, and min_lrs has {len(self.min_lrs)} entries. "
                "Give it one for each."
            )
        return self.min_lrs
