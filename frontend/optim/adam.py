"""Adam and AdamW. Kingma and Ba (2015); Loshchilov and Hutter, "Decoupled weight decay regularization" (2019).

With t the step, counted in a 0-d tensor: m = lerp(m, g, 1 - beta1); v = beta2 * v + (1 - beta2) * g * g;
p = p - lr / (1 - beta1**t) * m / (sqrt(v) / sqrt(1 - beta2**t) + eps). Adam adds weight_decay * p to g, AdamW
multiplies p by 1 - lr * weight_decay first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import float64
from flambeau.function import Operand, Static, Tensors, inplace
from flambeau.functions.common import ops
from flambeau.optim.counted import Counted, clocked, decoupled_decay, interpolated, kept_by_decay, rest
from flambeau.optim.optimizer import begun, ways
from flambeau.optim.sgd import Spreads, decayed
from flambeau.runtime.recorder import Tensor


class _AdamScales:
    """The numbers of one step, in float64 as Python would compute them; `t` is the step's number."""

    def __init__(self, t: Value, lr: Value, beta1: Value, beta2: Value) -> None:
        t, beta1, beta2 = t.cast(float64), beta1.cast(float64), beta2.cast(float64)
        self.rest1, self.beta2, self.rest2 = 1.0 - beta1, beta2, 1.0 - beta2
        self.step_size = lr.cast(float64) / rest(beta1, t)
        self.inverse_root = 1.0 / ops.sqrt(rest(beta2, t))


@inplace(name="step", writes="params,firsts,seconds,largest,steps", on_parts=True)
def _adam(
    params: Tensors,
    grads: Tensors,
    firsts: Tensors,
    seconds: Tensors,
    largest: Tensors,
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
    """One step; parameter i is at step number `steps[clocks[i]]`."""
    new_steps = [t + 1.0 for t in steps]
    scales = [_AdamScales(t, lr, beta1, beta2) for t in new_steps]
    new: tuple[list[Value], ...] = ([], [], [], [])
    spread = Spreads()
    kept = kept_by_decay(lr, weight_decay, decay and decoupled)
    for i, (p, g, m, v) in enumerate(zip(params, grads, firsts, seconds)):
        scale = scales[clocks[i]]
        g = decayed(g, p, weight_decay if decay and not decoupled else None, maximize)
        p = decoupled_decay(p, kept, spread)
        m = interpolated(m, g, scale.rest1, spread)
        v = v * spread(scale.beta2, p) + spread(scale.rest2, p) * g * g
        top = ops.maximum(largest[i], v) if largest else v
        divisor = ops.sqrt(top) * spread(scale.inverse_root, p) + spread(eps, p)
        p = p - spread(scale.step_size, p) * (m / divisor)
        for part, value in zip(new, (p, m, v, top)):
            part.append(value)
    return [*new[0], *new[1], *new[2], *(new[3] if largest else []), *new_steps]


class Adam(Counted):
    """Adam with L2 regularization, or with `decoupled_weight_decay` as AdamW. `lr`, `betas`, `eps` and `weight_decay` may change
    at any time. `foreach`, `fused` and `capturable` change nothing: a step is one program in any case.

    Raises ValueError for negative options, for betas outside of [0, 1) and, as PyTorch does, for tensors as `lr` or `betas` beside
    `foreach` without `capturable`; RuntimeError for `differentiable`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        flags = ways(
            type(self).__name__, foreach=foreach, capturable=capturable, differentiable=differentiable, fused=fused
        )
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                **flags,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def _check_options(self, group: dict[str, Any]) -> None:
        super()._check_options(group)
        given = {"lr": group["lr"], **{f"betas[{i}]": beta for i, beta in enumerate(group["betas"])}}
        tensors = [name for name, value in given.items() if isinstance(value, Tensor)]
        if len([name for name in tensors if name != "lr"]) == 1:
            raise ValueError(f"[{type(self).__name__}] one of betas is a tensor. Pass two numbers, or two tensors.")
        if tensors and group["foreach"] and not group["capturable"]:
            raise ValueError(
                f"[{type(self).__name__}] {tensors[0]} is a tensor, beside foreach=True without capturable=True. "
                "Leave out foreach: it changes nothing."
            )

    def _updates(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Callable[[], Any]]:
        states = self._states(group, params)
        if group["amsgrad"]:
            for p, state in zip(params, states):
                if state.get("max_exp_avg_sq") is None:
                    self._remember(p, max_exp_avg_sq=begun(p))
        counters, clocks = clocked(states, "step")
        return [
            partial(
                _adam,
                params,
                grads,
                *self._averages(states),
                [s["max_exp_avg_sq"] for s in states] if group["amsgrad"] else [],
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


class AdamW(Adam):
    """Adam with decoupled weight decay, 0.01 by default."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )
