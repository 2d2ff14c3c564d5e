"""NAdam: Adam with Nesterov's momentum, whose weight grows. Dozat, "Incorporating Nesterov momentum into Adam" (2016).

With t the step and mu_t = beta1 * (1 - 0.96**(t * momentum_decay) / 2): m = lerp(m, g, 1 - beta1); v as Adam's;
p = p - lr * ((1 - mu_t) / (1 - mu_1...mu_t) * g + mu_t+1 / (1 - mu_1...mu_t+1) * m) / (sqrt(v / (1 - beta2**t)) + eps).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar

from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import float64
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


class _NAdamScales:
    """The numbers of one step, in float64; `t` is the step's number, `product` that of the momenta before it."""

    def __init__(self, t: Value, product: Value, lr: Value, beta1: Value, beta2: Value, momentum_decay: Value) -> None:
        t, lr, beta1, momentum_decay = exact(t, lr, beta1, momentum_decay)
        fade = t.builder.constant(0.96, float64)
        now, then = (beta1 * (1.0 - ops.pow(fade, s * momentum_decay) * 0.5) for s in (t, t + 1.0))
        self.product = product * now.cast(product.dtype)
        (before,) = exact(self.product)
        self.of_gradient = lr * (1.0 - now) / (1.0 - before)
        self.of_average = lr * then / (1.0 - before * then)
        self.rest2 = rest(beta2, t)


@inplace(name="step", writes="params,firsts,seconds,steps,products", on_parts=True)
def _nadam(
    params: Tensors,
    grads: Tensors,
    firsts: Tensors,
    seconds: Tensors,
    steps: Tensors,
    products: Tensors,
    lr: Operand,
    beta1: Operand,
    beta2: Operand,
    eps: Operand,
    weight_decay: Operand,
    momentum_decay: Operand,
    clocks: Static,
    decay: Static,
    decoupled: Static,
    maximize: Static,
):
    steps = [t + 1.0 for t in steps]
    scales = [_NAdamScales(t, product, lr, beta1, beta2, momentum_decay) for t, product in zip(steps, products)]
    (first,) = exact(beta1)
    new = []
    kept = kept_by_decay(lr, weight_decay, decay and decoupled)
    for p, g, m, v, clock in zip(params, grads, firsts, seconds, clocks):
        scale = scales[clock]
        g = decayed(g, p, weight_decay if decay and not decoupled else None, maximize)
        p = decoupled_decay(p, kept)
        m, v = interpolated(m, g, 1.0 - first), squares(v, g, beta2)
        divisor = ops.sqrt(v / spread(scale.rest2, v)) + spread(eps, p)
        p = p - spread(scale.of_gradient, p) * (g / divisor) - spread(scale.of_average, p) * (m / divisor)
        new.append((p, m, v))
    return columns(new, steps, [scale.product for scale in scales])


class NAdam(Counted):
    """Adam with Nesterov's momentum, and L2 regularization or, with `decoupled_weight_decay`, AdamW's. `lr`, `betas`, `eps`,
    `weight_decay` and `momentum_decay` may change at any time. `foreach` and `capturable` change nothing.

    Raises ValueError for negative options and for betas outside of [0, 1), RuntimeError for `differentiable`.
    """

    _COUNTERS: ClassVar[dict[str, float]] = {"step": 0.0, "mu_product": 1.0}
    _NOT_NEGATIVE = ("momentum_decay",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        flags = ways("NAdam", foreach=foreach, capturable=capturable, differentiable=differentiable)
        options = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, {**options, **flags})

    def _updates(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Callable[[], Any]]:
        states = self._states(group, params)
        counters, clocks = clocked(states, "step", "mu_product")
        return [
            partial(
                _nadam,
                params,
                grads,
                *self._averages(states),
                counters["step"],
                counters["mu_product"],
                group["lr"],
                *group["betas"],
                group["eps"],
                group["weight_decay"],
                group["momentum_decay"],
                clocks,
                group["weight_decay"] != 0,
                group["decoupled_weight_decay"],
                group["maximize"],
            )
        ]
