"""Adagrad. Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic optimization" (2011).

With t the step: s = s + g * g; p = p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from flambeau.function import Operand, Static, Tensors, inplace
from flambeau.functions.common import ops
from flambeau.optim.counted import Counted, both_parts, clocked, columns, exact
from flambeau.optim.optimizer import begun, ways
from flambeau.optim.sgd import decayed, spread
from flambeau.runtime.recorder import Tensor


@inplace(name="step", writes="params,sums,steps", on_parts=True)
def _adagrad(
    params: Tensors,
    grads: Tensors,
    sums: Tensors,
    steps: Tensors,
    lr: Operand,
    lr_decay: Operand,
    eps: Operand,
    weight_decay: Operand,
    clocks: Static,
    decay: Static,
    maximize: Static,
):
    lr, lr_decay = exact(lr, lr_decay)
    sizes = [lr / (1.0 + exact(t)[0] * lr_decay) for t in steps]
    new = []
    for p, g, s, clock in zip(params, grads, sums, clocks):
        g = decayed(g, p, weight_decay if decay else None, maximize)
        s = s + g * g
        new.append((p - spread(sizes[clock], p) * (g / (ops.sqrt(s) + spread(eps, p))), s))
    return columns(new, [t + 1.0 for t in steps])


class Adagrad(Counted):
    """Adagrad: each element has a learning rate of its own, which falls with the gradients it has had. `lr`, `lr_decay`, `eps` and
    `weight_decay` may change at any time. `foreach` and `fused` change nothing.

    Raises ValueError for negative options, RuntimeError for `differentiable`.
    """

    _AVERAGES = ("sum",)
    _NOT_NEGATIVE = ("lr_decay", "initial_accumulator_value")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        flags = ways("Adagrad", foreach=foreach, differentiable=differentiable, fused=fused)
        options = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "maximize": maximize,
        }
        super().__init__(params, {**options, **flags})

    def _made(self, group: dict[str, Any], p: Tensor) -> dict[str, Tensor]:
        return {"sum": begun(p, both_parts(group["initial_accumulator_value"], p))}

    def _updates(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Callable[[], Any]]:
        states = self._states(group, params)
        counters, clocks = clocked(states, "step")
        return [
            partial(
                _adagrad,
                params,
                grads,
                *self._averages(states),
                counters["step"],
                group["lr"],
                group["lr_decay"],
                group["eps"],
                group["weight_decay"],
                clocks,
                group["weight_decay"] != 0,
                group["maximize"],
            )
        ]
