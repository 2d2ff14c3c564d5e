"""Learning rates along a cosine. Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts" (2017).

In: an optimizer. Out: its learning rates (`scheduler.py`). Next: `cycles.py`.
"""

from __future__ import annotations

import math

from flambeau.optim.lr_scheduler.scheduler import LRScheduler, Rate
from flambeau.optim.optimizer import Optimizer


def _height(part: float) -> float:
    """Half a cosine: 1 at 0, 0 at 1."""
    return (1 + math.cos(math.pi * part)) / 2


class CosineAnnealingLR(LRScheduler):
    """From the initial learning rate down to `eta_min` in `T_max` epochs, along half a cosine; after them, up again."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Rate]:
        if self._is_initial:
            return self._kept()
        if self._step_count == 1 and self.last_epoch > 0:
            return self._closed_form()
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:  # the epoch before was at the bottom
            rise = 1 - _height(1 / self.T_max)
            groups = self.optimizer.param_groups
            return [g["lr"] + (lr - self.eta_min) * rise for g, lr in zip(groups, self.base_lrs)]
        ratio = _height(self.last_epoch / self.T_max) / _height((self.last_epoch - 1) / self.T_max)
        return [ratio * (group["lr"] - self.eta_min) + self.eta_min for group in self.optimizer.param_groups]

    def _closed_form(self) -> list[Rate]:
        height = _height(self.last_epoch / self.T_max)
        return [self.eta_min + (lr - self.eta_min) * height for lr in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """From the initial learning rate down to `eta_min` along half a cosine, in `T_0` epochs and then again from the top, each time
    in `T_mult` as many. `step` also takes fractions of epochs.

    Raises ValueError for lengths that are not positive ints.
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        if not isinstance(T_0, int) or T_0 <= 0:
            raise ValueError(f"[CosineAnnealingWarmRestarts] T_0 is {T_0!r}. Use an int above 0.")
        if not isinstance(T_mult, int) or T_mult < 1:
            raise ValueError(f"[CosineAnnealingWarmRestarts] T_mult is {T_mult!r}. Use an int of at least 1.")
        if not isinstance(eta_min, (int, float)):
            raise ValueError(f"[CosineAnnealingWarmRestarts] eta_min is a {type(eta_min).__name__}. Use a number.")
        self.T_0, self.T_i, self.T_mult, self.eta_min = T_0, T_0, T_mult, eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Rate]:
        height = _height(self.T_cur / self.T_i)
        return [self.eta_min + (lr - self.eta_min) * height for lr in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:  # type: ignore[override]
        """Set the learning rates of the next epoch, or of `epoch`, which may be a fraction. Raises ValueError below 0."""
        if epoch is None and self.last_epoch >= 0:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        else:
            epoch = 0 if epoch is None else epoch
            if epoch < 0:
                raise ValueError(f"[CosineAnnealingWarmRestarts] epoch is {epoch}. Use at least 0.")
            restarts = self._restarts(epoch)
            self.T_i = self.T_0 * self.T_mult**restarts
            passed = restarts if self.T_mult == 1 else (self.T_mult**restarts - 1) / (self.T_mult - 1)
            self.T_cur = epoch - self.T_0 * passed
        super().step(math.floor(epoch))

    def _restarts(self, epoch: float) -> int:
        """How many there were before `epoch`."""
        if epoch < self.T_0:
            return 0
        if self.T_mult == 1:
            return int(epoch // self.T_0)
        return int(math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
