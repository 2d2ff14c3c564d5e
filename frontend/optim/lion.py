"""Lion: steps of one size along the sign of a momentum. Chen and others, "Symbolic discovery of optimization algorithms" (2023).

p = p * (1 - lr * weight_decay) - lr * sign(lerp(m, g, 1 - beta1)); m = lerp(m, g, 1 - beta2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from flambeau.function import Operand, Static, Tensors, inplace
from flambeau.functions.common import ops
from flambeau.optim.counted import check_betas, columns, decoupled_decay, exact, interpolated, kept_by_decay
from flambeau.optim.optimizer import Optimizer, begun, ways
from flambeau.optim.sgd import spread
from flambeau.runtime.recorder import Tensor


@inplace(name="step", writes="params,averages")
def _lion(
    params: Tensors,
    grads: Tensors,
    averages: Tensors,
    lr: Operand,
    beta1: Operand,
    beta2: Operand,
    weight_decay: Operand,
    decay: Static,
    maximize: Static,
):
    beta1, beta2 = exact(beta1, beta2)
    new = []
    kept = kept_by_decay(lr, weight_decay, decay)
    for p, g, m in zip(params, grads, averages):
        g = -g if maximize else g
        p = decoupled_decay(p, kept)
        p = p - spread(lr, p) * ops.sign(interpolated(m, g, 1.0 - beta1))
        new.append((p, interpolated(m, g, 1.0 - beta2)))
    return columns(new)


class Lion(Optimizer):
    """Lion, with decoupled weight decay. `lr`, `betas` and `weight_decay` may change at any time. (PyTorch has no Lion: the
    arguments are those of its authors.)

    Raises ValueError for negative options and for betas outside of [0, 1).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, {**options, **ways("Lion", foreach=foreach)})

    def _check_options(self, group: dict[str, Any]) -> None:
        super()._check_options(group)
        check_betas("Lion", group["betas"])

    def _updates(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Callable[[], Any]]:
        for p in params:
            if "exp_avg" not in self.state[p]:
                self._remember(p, exp_avg=begun(p))
        return [
            partial(
                _lion,
                params,
                grads,
                [self.state[p]["exp_avg"] for p in params],
                group["lr"],
                *group["betas"],
                group["weight_decay"],
                group["weight_decay"] != 0,
                group["maximize"],
            )
        ]
