"""Averaged stochastic gradient descent. Polyak and Juditsky, "Acceleration of stochastic approximation by averaging" (1992).

p = p * (1 - lambd * eta) - eta * g; ax = ax + (p - ax) * mu; then, with t the step, eta = lr / (1 + lambd * lr * t)**alpha and
mu = 1 / max(1, t - t0).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar

from flambeau.device import Device
from flambeau.function import Operand, Static, Tensors, inplace
from flambeau.functions.common import ops
from flambeau.optim.counted import Counted, States, clocked, columns, exact
from flambeau.optim.optimizer import begun_number, ways
from flambeau.optim.sgd import decayed, spread
from flambeau.runtime.recorder import Tensor


@inplace(name="step", writes="params,averages,steps,etas,mus", on_parts=True)
def _asgd(
    params: Tensors,
    grads: Tensors,
    averages: Tensors,
    steps: Tensors,
    etas: Tensors,
    mus: Tensors,
    lr: Operand,
    lambd: Operand,
    alpha: Operand,
    t0: Operand,
    weight_decay: Operand,
    clocks: Static,
    decay: Static,
    maximize: Static,
):
    lr, lambd, alpha, t0 = exact(lr, lambd, alpha, t0)
    exact_etas, exact_mus = exact(*etas), exact(*mus)
    new = []
    for p, g, ax, clock in zip(params, grads, averages, clocks):
        eta, mu = exact_etas[clock], exact_mus[clock]
        g = decayed(g, p, weight_decay if decay else None, maximize)
        p = p * spread(1.0 - lambd * eta, p) - spread(eta, p) * g
        new.append((p, ops.select((mu.eq(1.0)).expand(p.shape), p, ax + (p - ax) * spread(mu, p))))
    steps = [t + 1.0 for t in steps]
    counted = exact(*steps)
    etas = [(lr / ops.pow(1.0 + lambd * lr * t, alpha)).cast(e.dtype) for t, e in zip(counted, etas)]
    mus = [(1.0 / ops.maximum(t - t0, t.like(1))).cast(m.dtype) for t, m in zip(counted, mus)]
    return columns(new, steps, etas, mus)


class ASGD(Counted):
    """Averaged stochastic gradient descent: `state[p]["ax"]` is the average of `p` since step `t0`. `lr`, `lambd`, `alpha`, `t0`
    and `weight_decay` may change at any time. `foreach` and `capturable` change nothing.

    Raises ValueError for negative options, RuntimeError for `differentiable`.
    """

    _AVERAGES = ("ax",)
    _COUNTERS: ClassVar[dict[str, float]] = {"step": 0.0, "eta": 0.0, "mu": 1.0}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0.0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        flags = ways("ASGD", foreach=foreach, differentiable=differentiable, capturable=capturable)
        options = {
            "lr": lr,
            "lambd": lambd,
            "alpha": alpha,
            "t0": t0,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, {**options, **flags})

    def _first(self, group: dict[str, Any], name: str, first: float, device: Device) -> Tensor:
        return begun_number(float(group["lr"]) if name == "eta" else first, device)

    def _updates(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Callable[[], Any]]:
        states: States = self._states(group, params)
        counters, clocks = clocked(states, *self._COUNTERS)
        return [
            partial(
                _asgd,
                params,
                grads,
                *self._averages(states),
                *counters.values(),
                group["lr"],
                group["lambd"],
                group["alpha"],
                group["t0"],
                group["weight_decay"],
                clocks,
                group["weight_decay"] != 0,
                group["maximize"],
            )
        ]
