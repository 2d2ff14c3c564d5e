"""Rprop: steps whose sizes follow the signs of the gradients alone. Riedmiller and Braun (1993), in the form without backtracking
(iRprop-) of Igel and Huesken (2000).

Where g * before > 0 the size grows by etas[1]; where it is negative the size shrinks by etas[0] and g becomes 0; sizes stay within
step_sizes; p = p - sign(g) * size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from flambeau.function import Operand, Static, Tensors, inplace
from flambeau.functions.common import ops
from flambeau.optim.counted import Counted, both_parts, clocked, columns
from flambeau.optim.optimizer import begun, ways
from flambeau.optim.sgd import spread
from flambeau.runtime.recorder import Tensor


@inplace(name="step", writes="params,before,sizes,steps", on_parts=True)
def _rprop(
    params: Tensors,
    grads: Tensors,
    before: Tensors,
    sizes: Tensors,
    steps: Tensors,
    shrink: Operand,
    grow: Operand,
    least: Operand,
    most: Operand,
    maximize: Static,
):
    new = []
    for p, g, last, size in zip(params, grads, before, sizes):
        g = -g if maximize else g
        agreement = g * last
        turned = agreement < 0.0
        factor = ops.select(agreement > 0.0, spread(grow, p), p.like(1))
        size = size * ops.select(turned, spread(shrink, p), factor)
        size = ops.minimum(ops.maximum(size, spread(least, p)), spread(most, p))
        g = ops.select(turned, g.like(0), g)
        new.append((p - ops.sign(g) * size, g, size))
    return columns(new, [t + 1.0 for t in steps])


class Rprop(Counted):
    """Resilient backpropagation, for gradients of whole data sets. `etas` are the factors by which steps shrink and grow,
    `step_sizes` the least and the largest step; both may change at any time, `lr` is the first step. `foreach` and `capturable`
    change nothing.

    Raises ValueError for a negative `lr` and unless etas[0] < 1 < etas[1], RuntimeError for `differentiable`.
    """

    _AVERAGES = ("prev", "step_size")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        flags = ways("Rprop", foreach=foreach, differentiable=differentiable, capturable=capturable)
        options = {"lr": lr, "etas": etas, "step_sizes": step_sizes, "maximize": maximize}
        super().__init__(params, {**options, **flags})

    def _check_options(self, group: dict[str, Any]) -> None:
        super()._check_options(group)
        shrink, grow = group["etas"]
        if not 0.0 < shrink < 1.0 < grow:
            raise ValueError(f"[Rprop] etas are {group['etas']}. Use a number between 0 and 1, and one above 1.")

    def _made(self, group: dict[str, Any], p: Tensor) -> dict[str, Tensor]:
        return {"prev": begun(p), "step_size": begun(p, both_parts(float(group["lr"]), p))}

    def _updates(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Callable[[], Any]]:
        states = self._states(group, params)
        counters, _ = clocked(states, "step")
        return [
            partial(
                _rprop,
                params,
                grads,
                *self._averages(states),
                counters["step"],
                *group["etas"],
                *group["step_sizes"],
                group["maximize"],
            )
        ]
