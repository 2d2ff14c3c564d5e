"""LAMB: Adam's steps, scaled by the norm of each parameter. You and others, "Large batch optimization for deep learning" (2020).

With t the step, m and v as Adam's: r = m / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + eps) + weight_decay * p;
p = p - lr * |p| / |r| * r, and p - lr * r where one of the norms is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from flambeau.function import Operand, Static, Tensors, inplace
from flambeau.functions.common import ops
from flambeau.optim.counted import Counted, clocked, columns, exact, interpolated, norm, rest, squares
from flambeau.optim.optimizer import ways
from flambeau.optim.sgd import spread
from flambeau.runtime.recorder import Tensor


@inplace(name="step", writes="params,firsts,seconds,steps")
def _lamb(
    params: Tensors,
    grads: Tensors,
    firsts: Tensors,
    seconds: Tensors,
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
    rests = [(rest(beta1, t), rest(beta2, t)) for t in steps]
    lr, first = exact(lr, beta1)
    new = []
    for p, g, m, v, clock in zip(params, grads, firsts, seconds, clocks):
        rest1, rest2 = rests[clock]
        g = -g if maximize else g
        m, v = interpolated(m, g, 1.0 - first), squares(v, g, beta2)
        step = m / spread(rest1, m) / (ops.sqrt(v / spread(rest2, v)) + spread(eps, v))
        step = step + spread(weight_decay, p) * p if decay else step
        of_p, of_step = exact(norm(p), norm(step))
        usable = ops.and_(of_p > 0.0, of_step > 0.0)
        trust = ops.select(usable, of_p / of_step, of_p.like(1))
        new.append((p - spread(lr * trust, p) * step, m, v))
    return columns(new, steps)


class Lamb(Counted):
    """LAMB, for large batches. `lr`, `betas`, `eps` and `weight_decay` may change at any time. (PyTorch has no LAMB.)

    Raises ValueError for negative options and for betas outside of [0, 1).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, {**options, **ways("Lamb", foreach=foreach)})

    def _updates(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Callable[[], Any]]:
        states = self._states(group, params)
        counters, clocks = clocked(states, "step")
        return [
            partial(
                _lamb,
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
