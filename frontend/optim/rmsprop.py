"""RMSprop. Tieleman and Hinton, "Lecture 6.5, rmsprop" (2012); centred as in Graves, "Generating sequences with recurrent neural
networks" (2013).

v = alpha * v + (1 - alpha) * g * g; centred: a = lerp(a, g, 1 - alpha), d = sqrt(v - a * a) + eps, else d = sqrt(v) + eps;
with momentum: b = momentum * b + g / d, p = p - lr * b; without: p = p - lr * g / d.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from flambeau.function import Operand, Static, Tensors, inplace
from flambeau.functions.common import ops
from flambeau.optim.counted import Counted, clocked, columns, exact, interpolated, squares
from flambeau.optim.optimizer import begun, ways
from flambeau.optim.sgd import decayed, spread
from flambeau.runtime.recorder import Tensor


@inplace(name="step", writes="params,seconds,averages,buffers,steps", on_parts=True)
def _rmsprop(
    params: Tensors,
    grads: Tensors,
    seconds: Tensors,
    averages: Tensors,
    buffers: Tensors,
    steps: Tensors,
    lr: Operand,
    alpha: Operand,
    eps: Operand,
    weight_decay: Operand,
    momentum: Operand,
    decay: Static,
    maximize: Static,
):
    """One step: centred if there are averages, with momentum if there are buffers."""
    (kept,) = exact(alpha)
    new = []
    for i, (p, g, v) in enumerate(zip(params, grads, seconds)):
        g = decayed(g, p, weight_decay if decay else None, maximize)
        v = squares(v, g, alpha)
        row, variance = [v], v
        if averages:
            average = interpolated(averages[i], g, 1.0 - kept)
            variance = v - average * average
            row.append(average)
        step = g / (ops.sqrt(variance) + spread(eps, p))
        if buffers:
            step = buffers[i] * spread(momentum, p) + step
            row.append(step)
        new.append((p - spread(lr, p) * step, *row))
    return columns(new, [t + 1.0 for t in steps])


class RMSprop(Counted):
    """RMSprop, also centred and with momentum. `lr`, `alpha`, `eps`, `weight_decay` and `momentum` may change at any time.
    `foreach` and `capturable` change nothing.

    Raises ValueError for negative options, RuntimeError for `differentiable`.
    """

    _AVERAGES = ("square_avg",)
    _NOT_NEGATIVE = ("alpha",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        flags = ways("RMSprop", capturable=capturable, foreach=foreach, differentiable=differentiable)
        options = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, {**options, **flags})

    def _extras(self, group: dict[str, Any]) -> list[str]:
        """The parts of the state that the group's options ask for."""
        wanted = {"grad_avg": group["centered"], "momentum_buffer": group["momentum"] > 0}
        return [name for name, is_wanted in wanted.items() if is_wanted]

    def _updates(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Callable[[], Any]]:
        states = self._states(group, params)
        for p, state in zip(params, states):
            for name in self._extras(group):
                if name not in state:
                    self._remember(p, **{name: begun(p)})
        counters, _ = clocked(states, "step")
        return [
            partial(
                _rmsprop,
                params,
                grads,
                *self._averages(states),
                [s["grad_avg"] for s in states] if group["centered"] else [],
                [s["momentum_buffer"] for s in states] if group["momentum"] > 0 else [],
                counters["step"],
                group["lr"],
                group["alpha"],
                group["eps"],
                group["weight_decay"],
                group["momentum"],
                group["weight_decay"] != 0,
                group["maximize"],
            )
        ]
