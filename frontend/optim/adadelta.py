"""Adadelta. Zeiler, "Adadelta: an adaptive learning rate method" (2012).

v = rho * v + (1 - rho) * g * g; d = sqrt(a + eps) / sqrt(v + eps) * g; a = rho * a + (1 - rho) * d * d; p = p - lr * d.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from flambeau.function import Operand, Static, Tensors, inplace
from flambeau.functions.common import ops
from flambeau.optim.counted import Counted, clocked, columns, squares
from flambeau.optim.optimizer import ways
from flambeau.optim.sgd import decayed, spread
from flambeau.runtime.recorder import Tensor


@inplace(name="step", writes="params,gradients,changes,steps", on_parts=True)
def _adadelta(
    params: Tensors,
    grads: Tensors,
    gradients: Tensors,
    changes: Tensors,
    steps: Tensors,
    lr: Operand,
    rho: Operand,
    eps: Operand,
    weight_decay: Operand,
    decay: Static,
    maximize: Static,
):
    new = []
    for p, g, v, a in zip(params, grads, gradients, changes):
        g = decayed(g, p, weight_decay if decay else None, maximize)
        v = squares(v, g, rho)
        change = ops.sqrt(a + spread(eps, a)) / ops.sqrt(v + spread(eps, v)) * g
        new.append((p - spread(lr, p) * change, v, squares(a, change, rho)))
    return columns(new, [t + 1.0 for t in steps])


class Adadelta(Counted):
    """Adadelta: steps of the size that the last ones had, beside that of their gradients. `lr`, `rho`, `eps` and `weight_decay` may
    change at any time. `foreach` and `capturable` change nothing.

    Raises ValueError for negative options and for a `rho` outside of [0, 1], RuntimeError for `differentiable`.
    """

    _AVERAGES = ("square_avg", "acc_delta")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        flags = ways("Adadelta", foreach=foreach, capturable=capturable, differentiable=differentiable)
        options = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, {**options, **flags})

    def _check_options(self, group: dict[str, Any]) -> None:
        super()._check_options(group)
        if not 0.0 <= group["rho"] <= 1.0:
            raise ValueError(f"[Adadelta] rho is {group['rho']}. Use a number from 0 to 1.")

    def _updates(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Callable[[], Any]]:
        states = self._states(group, params)
        counters, _ = clocked(states, "step")
        return [
            partial(
                _adadelta,
                params,
                grads,
                *self._averages(states),
                counters["step"],
                group["lr"],
                group["rho"],
                group["eps"],
                group["weight_decay"],
                group["weight_decay"] != 0,
                group["maximize"],
            )
        ]
