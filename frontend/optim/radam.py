"""RAdam: Adam that leaves out the division while too few gradients are known. Liu and others, "On the variance of the adaptive
learning rate and beyond" (2020).

With t the step, r = 2 / (1 - beta2) - 1 and r_t = r - 2 * t * beta2**t / (1 - beta2**t): m and v as Adam's;
m' = m / (1 - beta1**t); p = p - lr * m' where r_t <= 5, and else p - lr * m' * sqrt(1 - beta2**t) / (sqrt(v) + eps)
* sqrt((r_t - 4) * (r_t - 2) * r / ((r - 4) * (r - 2) * r_t)).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from flambeau.dialects.builder import Value
from flambeau.function import Operand, Static, Tensors, inplace
from flambeau.functions.common import ops
from flambeau.optim.counted import (
    Counted,
    clocked,
    columns,
    decoupled_decay,
    exact,
    interpolated,
    kept_by_decay,
    rest,
    squares,
)
from flambeau.optim.optimizer import ways
from flambeau.optim.sgd import decayed, spread
from flambeau.runtime.recorder import Tensor


class _RAdamScales:
    """The numbers of one step, in float64; `t` is the step's number."""

    def __init__(self, t: Value, lr: Value, beta1: Value, beta2: Value) -> None:
        t, lr, beta2 = exact(t, lr, beta2)
        rest2 = rest(beta2, t)
        longest = 2.0 / (1.0 - beta2) - 1.0
        length = longest - 2.0 * t * (1.0 - rest2) / rest2
        self.is_known = length > 5.0
        ratio = (length - 4.0) * (length - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * length)
        self.size = lr / rest(beta1, t)
        self.of_divided = self.size * ops.sqrt(ratio) * ops.sqrt(rest2)


@inplace(name="step", writes="params,firsts,seconds,steps", on_parts=True)
def _radam(
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
    decoupled: Static,
    maximize: Static,
):
    steps = [t + 1.0 for t in steps]
    scales = [_RAdamScales(t, lr, beta1, beta2) for t in steps]
    (first,) = exact(beta1)
    new = []
    kept = kept_by_decay(lr, weight_decay, decay and decoupled)
    for p, g, m, v, clock in zip(params, grads, firsts, seconds, clocks):
        scale = scales[clock]
        g = decayed(g, p, weight_decay if decay and not decoupled else None, maximize)
        p = decoupled_decay(p, kept)
        m, v = interpolated(m, g, 1.0 - first), squares(v, g, beta2)
        divided = spread(scale.of_divided, p) * (m / (ops.sqrt(v) + spread(eps, p)))
        step = ops.select(scale.is_known.expand(p.shape), divided, spread(scale.size, p) * m)
        new.append((p - step, m, v))
    return columns(new, steps)


class RAdam(Counted):
    """Rectified Adam, with L2 regularization or, with `decoupled_weight_decay`, AdamW's. `lr`, `betas`, `eps` and `weight_decay`
    may change at any time. `foreach` and `capturable` change nothing.

    Raises ValueError for negative options and for betas outside of [0, 1), RuntimeError for `differentiable`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        flags = ways("RAdam", foreach=foreach, capturable=capturable, differentiable=differentiable)
        options = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, {**options, **flags})

    def _updates(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Callable[[], Any]]:
        states = self._states(group, params)
        counters, clocks = clocked(states, "step")
        return [
            partial(
                _radam,
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
                group["decoupled_weight_decay"],
                group["maximize"],
            )
        ]
