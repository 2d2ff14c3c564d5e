"""`LRScheduler`: what sets the learning rates of an optimizer's groups, once per epoch or step.

In: an optimizer. Out: `group["lr"]` of each group, a number or, where it was one, a tensor that is filled. A learning rate is an
operand of the optimizer's program: changing it never compiles. A subclass says what follows from the rates that are set now
(`get_lr`), so that schedulers and users may change them together; where the rates of an epoch can be said without those before,
`_closed_form` says them. Next: `steps.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from types import FunctionType
from typing import Any

from flambeau.optim.optimizer import Optimizer
from flambeau.runtime.recorder import Tensor

#: A learning rate: a number, or a tensor of one element.
Rate = Any


def set_rate(group: dict[str, Any], value: Rate, name: str = "lr") -> None:
    """Set an option of a group; a tensor stays the one it is."""
    if isinstance(group[name], Tensor):
        group[name].fill_(value)
    else:
        group[name] = value


def rates(optimizer: Optimizer, name: str = "lr") -> list[Rate]:
    """An option of every group; copies of tensors."""
    found = [group[name] for group in optimizer.param_groups]
    return [v.clone() if isinstance(v, Tensor) else v for v in found]


def per_group(op: str, what: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """One value per group, given as one for all or as a list. Raises ValueError for a list of another length."""
    count = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"[{op}] {what} has {len(value)} entries for {count} groups of parameters. Pass one for each.")
    return list(value)


def state_of(called: Any) -> dict[str, Any] | None:
    """What is saved of a function given by the user: nothing, but the attributes of a callable object."""
    return None if called is None or isinstance(called, FunctionType) else called.__dict__.copy()


class LRScheduler:
    """Base class of schedulers. `last_epoch` -1 begins anew; another one goes on after it, with an optimizer whose groups
    have "initial_lr". Call `step()` after `optimizer.step()`.

    Raises TypeError for what is no optimizer, KeyError where a schedule cannot go on since "initial_lr" is missing.
    """

    #: Attributes that are not saved.
    _NOT_SAVED: tuple[str, ...] = ("optimizer",)
    _is_initial = False
    #: Whether `step` is given a metric.
    _takes_metrics = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = self._checked(optimizer)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                lr = group["lr"]
                group.setdefault("initial_lr", lr.clone() if isinstance(lr, Tensor) else lr)
            elif "initial_lr" not in group:
                raise KeyError(
                    f"[{type(self).__name__}] group {i} has no 'initial_lr' to go on with after epoch {last_epoch}. "
                    "Load the optimizer's state first, or leave last_epoch out."
                )
        self.base_lrs: list[Rate] = rates(optimizer, "initial_lr")
        self.last_epoch = last_epoch
        self._initial_step()

    def _checked(self, optimizer: Any) -> Optimizer:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"[{type(self).__name__}] optimizer is a {type(optimizer).__name__}. Pass an optimizer.")
        return optimizer

    def _initial_step(self) -> None:
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def get_lr(self) -> list[Rate]:
        """The learning rates of `last_epoch`, from those that are set. `get_last_lr` gives the ones that are set."""
        raise NotImplementedError(f"[LRScheduler] {type(self).__name__} has no get_lr(). Define it.")

    def _closed_form(self) -> list[Rate] | None:
        """The learning rates of `last_epoch`, from the initial ones; None where they depend on those before."""
        return None

    def get_last_lr(self) -> list[Rate]:
        """The learning rates that the last step set, of each group."""
        return self._last_lr

    def step(self, epoch: int | None = None) -> None:
        """Set the learning rates of the next epoch, or of `epoch`."""
        if self._step_count == 1 and self.optimizer._has_stepped is False:
            warnings.warn(
                f"[{type(self).__name__}] step() was called before optimizer.step(), so the first learning rate is skipped. "
                "Call it after.",
                UserWarning,
                stacklevel=3,
            )
        self._step_count += 1
        self._set(epoch)

    def _set(self, epoch: int | None) -> None:
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        closed = None if epoch is None else self._closed_form()
        values = self.get_lr() if closed is None else closed
        for group, value in zip(self.optimizer.param_groups, values, strict=True):
            set_rate(group, value)
        self._last_lr = rates(self.optimizer)

    def _scaled(self, factor: float) -> list[Rate]:
        return [group["lr"] * factor for group in self.optimizer.param_groups]

    def _kept(self) -> list[Rate]:
        return rates(self.optimizer)

    def _from_first(self, factor: float) -> list[Rate]:
        return [lr * factor for lr in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """All that the schedule needs to go on, but for the optimizer, which is saved by itself."""
        return {name: value for name, value in self.__dict__.items() if name not in self._NOT_SAVED}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on as the scheduler did whose `state_dict()` is given."""
        self.__dict__.update({name: value for name, value in state_dict.items() if name not in self._NOT_SAVED})


def checked_members(op: str, optimizer: Optimizer | None, schedulers: Sequence[Any]) -> Optimizer:
    """The one optimizer of schedulers that are put together. Raises ValueError for none, for those of different optimizers
    and for those that take metrics, TypeError for what is no scheduler."""
    if not schedulers:
        raise ValueError(f"[{op}] there are no schedulers. Pass at least one.")
    for i, each in enumerate(schedulers):
        if not isinstance(each, LRScheduler):
            raise TypeError(f"[{op}] scheduler {i} is a {type(each).__name__}. Pass schedulers.")
        if each._takes_metrics:
            raise ValueError(
                f"[{op}] scheduler {i} is a {type(each).__name__}, whose step() takes a metric. Step it by itself."
            )
        optimizer = optimizer or each.optimizer
        if each.optimizer is not optimizer:
            raise ValueError(f"[{op}] scheduler {i} is of another optimizer. Pass schedulers of one.")
    assert optimizer is not None
    return optimizer
