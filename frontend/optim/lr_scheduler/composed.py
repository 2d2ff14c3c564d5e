"""Schedulers put together: all at once, or one after the other.

In: schedulers of one optimizer. Out: its learning rates (`scheduler.py`). Next: `plateau.py`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from flambeau.optim.lr_scheduler.scheduler import LRScheduler, checked_members, rates, set_rate
from flambeau.optim.optimizer import Optimizer


class _Composed(LRScheduler):
    """A scheduler made of others, which are saved with it."""

    _NOT_SAVED = ("optimizer", "_schedulers")
    _schedulers: list[LRScheduler]

    def state_dict(self) -> dict[str, Any]:
        """As for all schedulers, with the states of its members."""
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for scheduler, saved in zip(self._schedulers, state_dict["_schedulers"]):
            scheduler.load_state_dict(saved)


class ChainedScheduler(_Composed):
    """Several schedulers that step together, each from the learning rates that the one before it set.

    Raises ValueError for no schedulers or those of different optimizers, and for a ReduceLROnPlateau.
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self.optimizer = checked_members("ChainedScheduler", optimizer, schedulers)
        self._schedulers = list(schedulers)
        self._last_lr = rates(self.optimizer)

    def step(self) -> None:  # type: ignore[override]
        """Step all schedulers."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = rates(self.optimizer)


def _undo(scheduler: LRScheduler) -> None:
    """Take back the first step of a scheduler and of its members."""
    if isinstance(scheduler, _Composed):
        for each in scheduler._schedulers:
            _undo(each)
    elif hasattr(scheduler, "last_epoch"):
        scheduler.last_epoch -= 1


class SequentialLR(_Composed):
    """Several schedulers one after the other: the next one begins, at its epoch 0, at each of `milestones`.

    Raises ValueError for no schedulers, those of different optimizers, or unless there is one milestone less than schedulers, and
    for a ReduceLROnPlateau.
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: list[LRScheduler], milestones: list[int], last_epoch: int = -1
    ) -> None:
        self.optimizer = checked_members("SequentialLR", self._checked(optimizer), schedulers)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"[SequentialLR] there are {len(schedulers)} schedulers and {len(milestones)} milestones. "
                "Pass one milestone less than schedulers."
            )
        self._schedulers, self._milestones = schedulers, milestones
        self.last_epoch = last_epoch + 1
        for group in optimizer.param_groups:  # where the first steps of all schedulers have left it
            set_rate(group, group["initial_lr"])
        for each in schedulers:
            _undo(each)
        first = schedulers[bisect_right(milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def step(self) -> None:  # type: ignore[override]
        """Step the scheduler whose turn it is."""
        self.last_epoch += 1
        at = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[at]
        if at > 0 and self._milestones[at - 1] == self.last_epoch:
            scheduler._set(0)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()
