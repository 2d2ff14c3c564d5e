"""`Counted`: optimizers whose updates depend on how many there have been.

In: parameters. Out: the state of each, with counters beside it. A counter is a 0-d tensor, so that its value is an operand and
the same program runs at every step; parameters that start together share theirs, and one that skips a step gets its own,
which does not advance. A subclass names the state that a parameter starts with (`_AVERAGES`). Next: `adam.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from flambeau.device import Device
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import float64
from flambeau.functions.common import ops
from flambeau.functions.create import full
from flambeau.optim.optimizer import Optimizer, begun, begun_number
from flambeau.optim.sgd import spread
from flambeau.runtime.recorder import Tensor

States = Sequence[dict[str, Any]]


def both_parts(number: float, p: Tensor) -> complex:
    """A number for each part of a complex tensor."""
    return complex(number, number) if p.dtype.is_complex else number


class Counted(Optimizer):
    """An optimizer with counters: `_COUNTERS` has "step", and others that change as it does. `_AVERAGES` are the names of the
    tensors like a parameter that its state begins with."""

    _AVERAGES: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")

    def _made(self, group: dict[str, Any], p: Tensor) -> dict[str, Tensor]:
        """The state of a parameter at its first step, without the counters: zeros, unless a subclass says otherwise."""
        return {name: begun(p) for name in self._AVERAGES}

    def _averages(self, states: States) -> list[list[Tensor]]:
        """For each of `_AVERAGES` those of all states."""
        return [[s[name] for s in states] for name in self._AVERAGES]

    def _first(self, group: dict[str, Any], name: str, first: float, device: Device) -> Tensor:
        """The counter `name` before its first step."""
        return begun_number(first, device)

    def _check_options(self, group: dict[str, Any]) -> None:
        super()._check_options(group)
        if "betas" in group:
            check_betas(type(self).__name__, group["betas"])

    def _states(self, group: dict[str, Any], params: list[Tensor]) -> States:
        """The states of `params`, which are updated now; those at their first step are made."""
        states = [self.state[p] for p in params]
        fresh = [p for p, s in zip(params, states) if "step" not in s]
        if fresh:
            device = fresh[0].device
            counters = {name: self._first(group, name, first, device) for name, first in self._COUNTERS.items()}
            for p in fresh:
                self._remember(p, **counters, **self._made(group, p))
        if len(params) < len(group["params"]):
            self._stop_clocks(group, params, states)
        return states

    def _share(self, state: dict[Tensor, dict[str, Any]]) -> None:
        """Counters that say the same are one from here on: the program of a step counts each. Old files have numbers for them."""
        first: dict[tuple, dict[str, Tensor]] = {}
        for p, entry in state.items():
            for name in self._COUNTERS:
                if isinstance(entry.get(name), int | float):
                    entry[name] = full((), float(entry[name]), device=p.device)
            if all(isinstance(entry.get(name), Tensor) for name in self._COUNTERS):
                said = tuple((entry[name].dtype, entry[name].item()) for name in self._COUNTERS)
                known = first.setdefault((p._place, *said), {name: entry[name] for name in self._COUNTERS})
                entry.update(known)

    def _stop_clocks(self, group: dict[str, Any], params: list[Tensor], states: States) -> None:
        """Give the parameters that skip this step counters of their own, which do not advance."""
        moving = {id(s["step"]) for s in states}
        updated = {id(p) for p in params}
        copies: dict[int, dict[str, Tensor]] = {}
        for p in group["params"]:
            state = self.state.get(p, {})
            if id(p) in updated or id(state.get("step")) not in moving:
                continue
            copy = copies.get(id(state["step"]))
            if copy is None:
                copy = copies[id(state["step"])] = {name: state[name].clone() for name in self._COUNTERS}
            self._remember(p, **copy)


def check_betas(op: str, betas: tuple[float, float]) -> None:
    """Raise ValueError for weights of averages that are none."""
    if not all(0.0 <= beta < 1.0 for beta in betas):
        raise ValueError(f"[{op}] betas are {betas}. Use numbers from 0 up to, not including, 1.")


def clocked(states: States, *counters: str) -> tuple[dict[str, list[Tensor]], tuple[int, ...]]:
    """The different counters among `states`, and for each state the place of its own."""
    first = {id(s["step"]): s for s in states}
    order = {key: i for i, key in enumerate(first)}
    return {name: [s[name] for s in first.values()] for name in counters}, tuple(order[id(s["step"])] for s in states)


def columns(rows: Sequence[tuple[Value, ...]], *counters: list[Value]) -> list[Value]:
    """What a step returns: all parameters, then all states of the first kind, ..., then the counters."""
    return [*(value for column in zip(*rows, strict=True) for value in column), *(c for each in counters for c in each)]


#: What makes a number as large as a tensor: `spread`, or `Spreads` within one rule.
Spread = Callable[[Value, Value], Value]

# ---- for the rules -----------------------------------------------------------------------------------------------


def exact(*numbers: Value) -> list[Value]:
    """Numbers of a step in float64, as Python would compute them."""
    return [n.cast(float64) for n in numbers]


def decoupled_decay(p: Value, kept: Value | None, spread: Spread = spread) -> Value:
    """Weight decay as Loshchilov and Hutter have it: a part of `p` is dropped, whatever the gradient. `kept` is what is left of 1
    (`kept_by_decay`), None where there is no decay."""
    return p if kept is None else p * spread(kept, p)


def kept_by_decay(lr: Value, weight_decay: Value, decays: bool) -> Value | None:
    """What decoupled weight decay leaves of 1; None where there is none."""
    if not decays:
        return None
    lr, weight_decay = exact(lr, weight_decay)
    return 1.0 - lr * weight_decay


def interpolated(average: Value, new: Value, weight: Value, spread: Spread = spread) -> Value:
    """`average` moved towards `new` by `weight`, a number."""
    return average + spread(weight, average) * (new - average)


def squares(average: Value, g: Value, beta: Value) -> Value:
    """A running average of squared gradients."""
    (beta,) = exact(beta)
    return average * spread(beta, g) + spread(1.0 - beta, g) * g * g


def rest(beta: Value, t: Value) -> Value:
    """1 - beta**t: what an average of `t` elements that began with 0 is short of."""
    beta, t = exact(beta, t)
    return 1.0 - ops.pow(beta, t)


def norm(x: Value) -> Value:
    """The root of the sum of squares of all elements, 0-d."""
    return ops.sqrt(ops.sum(x * x, axes=tuple(range(len(x.shape)))) if x.shape else x * x)
