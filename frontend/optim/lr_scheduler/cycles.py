"""Learning rates that go up and down, and momentum with them. Smith, "Cyclical learning rates for training neural networks"
(2017); Smith and Topin, "Super-convergence" (2018).

In: an optimizer. Out: its learning rates (`scheduler.py`), and its momentum or first beta. Next: `composed.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from flambeau.optim.lr_scheduler.scheduler import LRScheduler, Rate, per_group, set_rate, state_of
from flambeau.optim.optimizer import Optimizer


class _Momentum:
    """The momentum of groups: "momentum", or the first of "betas"."""

    def __init__(self, op: str, optimizer: Optimizer) -> None:
        self.is_beta = "betas" in optimizer.defaults
        if not self.is_beta and "momentum" not in optimizer.defaults:
            raise ValueError(f"[{op}] {type(optimizer).__name__} has no momentum. Pass cycle_momentum=False.")

    def set(self, group: dict[str, Any], value: float) -> None:
        if self.is_beta:
            group["betas"] = (value, *group["betas"][1:])
        else:
            group["momentum"] = value

    def begin(self, group: dict[str, Any], base: float, largest: float) -> None:
        self.set(group, largest)
        group["max_momentum"], group["base_momentum"] = largest, base


class CyclicLR(LRScheduler):
    """From `base_lr` up to `max_lr` in `step_size_up` steps and down again in `step_size_down` (as many, unless given), over and
    over; `cycle_momentum`: momentum goes from `max_momentum` down to `base_momentum` meanwhile. `mode` is "triangular",
    "triangular2" (cycles become half as high each time) or "exp_range" (times `gamma`**step); `scale_fn`, if given, is what to
    multiply by instead, a function of the cycle's number or, where `scale_mode` is "iterations", of the step's.

    Raises ValueError for another mode without a `scale_fn`, and for an optimizer without momentum where that should cycle.
    """

    _NOT_SAVED = ("optimizer", "_momentum", "_scale_fn_custom")

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float = 0.8,
        max_momentum: float = 0.9,
        last_epoch: int = -1,
    ) -> None:
        self._checked(optimizer)
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise ValueError(
                f"[CyclicLR] mode is {mode!r}. Use 'triangular', 'triangular2' or 'exp_range', or pass scale_fn."
            )
        lowest = per_group("CyclicLR", "base_lr", optimizer, base_lr)
        self.max_lrs = per_group("CyclicLR", "max_lr", optimizer, max_lr)
        down = step_size_up if step_size_down is None else step_size_down
        self.total_size = float(step_size_up) + float(down)
        self.step_ratio = float(step_size_up) / self.total_size
        self.mode, self.gamma, self._scale_fn_custom = mode, gamma, scale_fn
        by_steps = mode == "exp_range" if scale_fn is None else scale_mode == "iterations"
        self.scale_mode = "iterations" if by_steps else "cycle"
        self.cycle_momentum = cycle_momentum
        if last_epoch == -1:
            for lr, group in zip(lowest, optimizer.param_groups):
                set_rate(group, lr)
        if cycle_momentum:
            self._momentum = _Momentum("CyclicLR", optimizer)
            self.base_momentums = per_group("CyclicLR", "base_momentum", optimizer, base_momentum)
            self.max_momentums = per_group("CyclicLR", "max_momentum", optimizer, max_momentum)
            if last_epoch == -1:
                for group, base, most in zip(optimizer.param_groups, self.base_momentums, self.max_momentums):
                    self._momentum.begin(group, base, most)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = lowest

    def scale_fn(self, x: float) -> float:
        """What the height of a cycle is multiplied by: `x` is the number of the cycle or of the step."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        if self.mode == "exp_range":
            return self.gamma**x
        return 1.0 if self.mode == "triangular" else 1 / (2.0 ** (x - 1))

    def get_lr(self) -> list[Rate]:
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        place = 1.0 + self.last_epoch / self.total_size - cycle
        height = place / self.step_ratio if place <= self.step_ratio else (place - 1) / (self.step_ratio - 1)
        scale = self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            for group, base, most in zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums):
                self._momentum.set(group, most - (most - base) * height * scale)
        return [base + (most - base) * height * scale for base, most in zip(self.base_lrs, self.max_lrs)]

    def state_dict(self) -> dict[str, Any]:
        """As for all schedulers; of `scale_fn`, its attributes if it is an object."""
        return {**super().state_dict(), "_scale_fn_custom": state_of(self._scale_fn_custom)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if state_dict.get("_scale_fn_custom") is not None:
            self._scale_fn_custom.__dict__.update(state_dict["_scale_fn_custom"])


class _Phase(NamedTuple):
    """Part of a cycle: the last step of it, and the names of the options of a group from which and to which it goes."""

    end: float
    rates: tuple[str, str]
    momenta: tuple[str, str]


_UP = ("initial_lr", "max_lr"), ("max_momentum", "base_momentum")
_DOWN = ("max_lr", "initial_lr"), ("base_momentum", "max_momentum")


class OneCycleLR(LRScheduler):
    """One cycle of `total_steps` (or `epochs` * `steps_per_epoch`) steps: from `max_lr` / `div_factor` up to `max_lr` in a part
    `pct_start` of them, then down to the first rate / `final_div_factor`; `three_phase`: down to the first rate in as many, and on
    from there. `anneal_strategy` is "cos" or "linear". `cycle_momentum`: momentum goes down where the rate goes up.

    Raises ValueError for lengths that are not positive ints, other strategies, a part outside of [0, 1], an optimizer without
    momentum where that should cycle, and for steps beyond the last one.
    """

    _NOT_SAVED = ("optimizer", "_momentum", "_schedule_phases")

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self._checked(optimizer)
        self.total_steps = _length(total_steps, epochs, steps_per_epoch)
        if not isinstance(pct_start, float) or not 0.0 <= pct_start <= 1.0:
            raise ValueError(f"[OneCycleLR] pct_start is {pct_start!r}. Use a float from 0 to 1.")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"[OneCycleLR] anneal_strategy is {anneal_strategy!r}. Use 'cos' or 'linear'.")
        up, last = float(pct_start * self.total_steps) - 1, self.total_steps - 1
        self._schedule_phases = [_Phase(up, *_UP)]
        if three_phase:
            self._schedule_phases += [_Phase(float(2 * pct_start * self.total_steps) - 2, *_DOWN)]
            self._schedule_phases += [_Phase(last, ("initial_lr", "min_lr"), ("max_momentum", "max_momentum"))]
        else:
            self._schedule_phases += [_Phase(last, ("max_lr", "min_lr"), _DOWN[1])]
        self._anneal_func_type = anneal_strategy
        self.cycle_momentum = cycle_momentum
        largest = per_group("OneCycleLR", "max_lr", optimizer, max_lr)
        if last_epoch == -1:
            for lr, group in zip(largest, optimizer.param_groups):
                group["initial_lr"], group["max_lr"] = lr / div_factor, lr
                group["min_lr"] = group["initial_lr"] / final_div_factor
        if cycle_momentum:
            self._momentum = _Momentum("OneCycleLR", optimizer)
            least = per_group("OneCycleLR", "base_momentum", optimizer, base_momentum)
            most = per_group("OneCycleLR", "max_momentum", optimizer, max_momentum)
            if last_epoch == -1:
                for group, b, m in zip(optimizer.param_groups, least, most):
                    self._momentum.begin(group, b, m)
        super().__init__(optimizer, last_epoch)

    def _between(self, start: float, end: float, part: float) -> float:
        if self._anneal_func_type == "linear":
            return (end - start) * part + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * part) + 1)

    def get_lr(self) -> list[Rate]:
        step = self.last_epoch
        if step > self.total_steps:
            raise ValueError(f"[OneCycleLR] step {step} is beyond the {self.total_steps} of the cycle. Make it longer.")
        begin: float = 0
        for phase in self._schedule_phases:
            if step <= phase.end or phase is self._schedule_phases[-1]:
                break
            begin = phase.end
        part = (step - begin) / (phase.end - begin)
        found = []
        for group in self.optimizer.param_groups:
            found.append(self._between(group[phase.rates[0]], group[phase.rates[1]], part))
            if self.cycle_momentum:
                self._momentum.set(group, self._between(group[phase.momenta[0]], group[phase.momenta[1]], part))
        return found


def _length(total_steps: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    if total_steps is None and (epochs is None or steps_per_epoch is None):
        raise ValueError("[OneCycleLR] the length is not known. Pass total_steps, or epochs and steps_per_epoch.")
    given = (
        {"epochs": epochs, "steps_per_epoch": steps_per_epoch} if total_steps is None else {"total_steps": total_steps}
    )
    for name, value in given.items():
        if not isinstance(value, int) or value <= 0:
            raise ValueError(f"[OneCycleLR] {name} is {value!r}. Use an int above 0.")
    return math.prod(given.values())  # type: ignore[arg-type]
