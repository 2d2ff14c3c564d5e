"""`SWALR`: the learning rate of stochastic weight averaging. Izmailov and others (2018).

In: an optimizer. Out: its learning rates (`scheduler.py`).
"""

from __future__ import annotations

import math

from flambeau.optim.lr_scheduler.scheduler import LRScheduler, Rate, per_group
from flambeau.optim.optimizer import Optimizer


class SWALR(LRScheduler):
    """From the learning rates that are set to `swa_lr` in `anneal_epochs` epochs, by `anneal_strategy` "cos" or "linear"; then
    constant. Raises ValueError for another strategy and for a negative length.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"[SWALR] anneal_strategy is {anneal_strategy!r}. Use 'cos' or 'linear'.")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"[SWALR] anneal_epochs is {anneal_epochs!r}. Use an int of at least 0.")
        for group, lr in zip(self._checked(optimizer).param_groups, per_group("SWALR", "swa_lr", optimizer, swa_lr)):
            group["swa_lr"] = lr
        self._anneal_strategy, self.anneal_epochs = anneal_strategy, anneal_epochs
        super().__init__(optimizer, last_epoch)

    def _part(self, step: int) -> float:
        """How much of the way to `swa_lr` is gone after a step."""
        t = max(0.0, min(1.0, step / max(1, self.anneal_epochs)))
        return t if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * t)) / 2

    def get_lr(self) -> list[Rate]:
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = self._part(step - 1), self._part(step)
        found = []
        for group in self.optimizer.param_groups:
            lr, end = group["lr"], group["swa_lr"]
            start = end if before == 1 else (lr - before * end) / (1 - before)
            found.append(end * now + start * (1 - now))
        return found
