"""Adamax: Adam with the largest gradient so far, faded, not the root of their mean square. Kingma and Ba (2015), section 7.1.

With t the step: m = lerp(m, g, 1 - beta1); u = max(beta2 * u, |g| + eps); p = p - lr / (1 - beta1**t) * m / u.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from flambeau.function import Operand, Static, Tensors, inplace
from flambeau.functions.common import ops
from flambeau.optim.counted import Counted, clocked, columns, exact, interpolated, rest
from flambeau.optim.optimizer import ways
from flambeau.optim.sgd import decayed, spread
from flambeau.runtime.recorder import Tensor


@inplace(name="step", writes="params,averages,largest,steps", on_parts=True)
def _adamax(
    params: Tensors,
    grads: Tensors,
    averages: Tensors,
    largest: Tensors,
    steps: Tensors,
    lr: Operand,
    beta1: Operand,
    beta2: Operand,
    eps: Operand,
    weight_decay: Operand,
    clocks: Static,
    decay: Static,
    maximize: Static,
):
    steps = [t + 1.0 for t in steps]
    lr, first = exact(lr, beta1)
    sizes = [lr / rest(beta1, t) for t in steps]
    new = []
    for p, g, m, u, clock in zip(params, grads, averages, largest, clocks):
        g = decayed(g, p, weight_decay if decay else None, maximize)
        m = interpolated(m, g, 1.0 - first)
        u = ops.maximum(u * spread(beta2, u), ops.abs(g) + spread(eps, g))
        new.append((p - spread(sizes[clock], p) * (m / u), m, u))
    return columns(new, steps)


class Adamax(Counted):
    """Adamax, with L2 regularization. `lr`, `betas`, `eps` and `weight_decay` may change at any time. `foreach` and `capturable`
    change nothing: a step is one program in any case.

    Raises ValueError for negative options and for betas outside of [0, 1), RuntimeError for `differentiable`.
    """

    _AVERAGES = ("exp_avg", "exp_inf")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        flags = ways("Adamax", foreach=foreach, differentiable=differentiable, capturable=capturable)
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, {**options, **flags})

    def _updates(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Callable[[], Any]]:
        states = self._states(group, params)
        counters, clocks = clocked(states, "step")
        return [
            partial(
                _adamax,
                params,
                grads,
                *self._averages(states),
                counters["step"],
                group["lr"],
                *group["betas"],
                group["eps"],
                group["weight_decay"],
                clocks,
                group["weight_decay"] != 0,
                group["maximize"],
            )
        ]
