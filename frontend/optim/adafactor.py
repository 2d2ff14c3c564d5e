"""Adafactor: second moments of matrices by their rows and columns. Shazeer and Stern, "Adafactor: adaptive learning rates with
sublinear memory cost" (2018), with PyTorch's use of `lr` and eps.

With t the step, w = t**beta2_decay and rms(x) = |x| / sqrt(size): r = lerp(r, mean of g * g along rows, w), c the same along
columns, v = r * c / max(mean of r, eps1) for matrices (of two dims or more), else v = lerp(v, g * g, w);
u = g / sqrt(max(v, eps1**2));
p = p * (1 - lr * weight_decay) - max(eps2, rms(p)) * min(lr, 1 / sqrt(t)) * u / max(1, rms(u) / d).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from math import prod
from typing import Any

from flambeau.dialects.builder import Value
from flambeau.function import Operand, Static, Tensors, inplace
from flambeau.functions.common import ops
from flambeau.optim.counted import Counted, clocked, columns, decoupled_decay, exact, interpolated, kept_by_decay, norm
from flambeau.optim.optimizer import begun, ways
from flambeau.optim.sgd import spread
from flambeau.runtime.recorder import Tensor
from flambeau.type_info import finfo


def _mean(x: Value, axis: int) -> Value:
    """The mean along one axis, which stays with size 1."""
    axis %= len(x.shape)
    kept = tuple(1 if k == axis else n for k, n in enumerate(x.shape))
    return ops.reshape(ops.sum(x, axes=(axis,)), shape=kept) / x.shape[axis]


def _rms(x: Value) -> Value:
    """The root of the mean square, in float64."""
    (found,) = exact(norm(x))
    return found / float(prod(x.shape)) ** 0.5


@inplace(name="step", writes="params,rows,cols,variances,steps")
def _adafactor(
    params: Tensors,
    grads: Tensors,
    rows: Tensors,
    cols: Tensors,
    variances: Tensors,
    steps: Tensors,
    lr: Operand,
    beta2_decay: Operand,
    eps1: Operand,
    eps2: Operand,
    d: Operand,
    weight_decay: Operand,
    clocks: Static,
    own_eps: Static,
    decay: Static,
    maximize: Static,
):
    """One step; `rows` and `cols` are those of the matrices among the parameters, `variances` those of the others."""
    rate, eps2, d, beta2_decay = exact(lr, eps2, d, beta2_decay)
    steps = [t + 1.0 for t in steps]
    weights = [ops.pow(t, beta2_decay) for t in exact(*steps)]
    most = [ops.minimum(rate, 1.0 / ops.sqrt(t)) for t in exact(*steps)]
    matrices, others = iter(zip(rows, cols)), iter(variances)
    new, new_matrices, new_others = [], [], []
    kept = kept_by_decay(lr, weight_decay, decay)
    for p, g, clock in zip(params, grads, clocks):
        g = -g if maximize else g
        size = ops.maximum(eps2, _rms(p)) * most[clock]
        least = p.builder.constant(finfo(p.dtype).eps, p.dtype) if own_eps else eps1.cast(p.dtype)
        p = decoupled_decay(p, kept)
        if len(p.shape) > 1:
            r, c = next(matrices)
            r = interpolated(r, _mean(g * g, -1), weights[clock])
            c = interpolated(c, _mean(g * g, -2), weights[clock])
            mean = _mean(r, -2)
            v = r.expand(p.shape) * c.expand(p.shape) / ops.maximum(mean, spread(least, mean)).expand(p.shape)
            new_matrices.append((r, c))
        else:
            v = interpolated(next(others), g * g, weights[clock])
            new_others.append(v)
        update = ops.rsqrt(ops.maximum(v, spread(least * least, v))) * g
        divisor = ops.maximum(_rms(update) / d, size.like(1))
        new.append((p - spread(size / divisor, p) * update,))
    return [*columns(new), *columns(new_matrices), *new_others, *steps]


class Adafactor(Counted):
    """Adafactor: as much memory as a row and a column of each parameter. `lr` is the largest relative step; `eps` are the least
    root of a second moment (None: the dtype's eps) and the least relative step; `d` is where updates are clipped. They may change
    at any time. `foreach` changes nothing.

    Raises ValueError for negative options, for a positive `beta2_decay` and for a `d` below 1; `step` RuntimeError for complex
    parameters.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        options = {
            "lr": lr,
            "beta2_decay": beta2_decay,
            "eps": eps,
            "d": d,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, {**options, **ways("Adafactor", foreach=foreach)})

    def _check_options(self, group: dict[str, Any]) -> None:
        super()._check_options({**group, "eps": group["eps"][1]})
        if group["beta2_decay"] > 0.0:
            raise ValueError(f"[Adafactor] beta2_decay is {group['beta2_decay']}. Use at most 0.")
        if group["eps"][0] is not None and not group["eps"][0] >= 0.0:
            raise ValueError(f"[Adafactor] eps is {group['eps']}. Use numbers of at least 0, or None for the first.")
        if not group["d"] >= 1.0:
            raise ValueError(f"[Adafactor] d is {group['d']}. Use at least 1.")

    def _made(self, group: dict[str, Any], p: Tensor) -> dict[str, Tensor]:
        if p.dtype.is_complex:
            raise RuntimeError(f"[Adafactor] a parameter is {p.dtype.name}. Give complex ones to another optimizer.")
        if p.dim() < 2:
            return {"variance": begun(p)}
        *batch, n, m = p.shape
        return {"row_var": begun(p, shape=(*batch, n, 1)), "col_var": begun(p, shape=(*batch, 1, m))}

    def _updates(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Callable[[], Any]]:
        states = self._states(group, params)
        counters, clocks = clocked(states, "step")
        eps1, eps2 = group["eps"]
        return [
            partial(
                _adafactor,
                params,
                grads,
                [s["row_var"] for s in states if "row_var" in s],
                [s["col_var"] for s in states if "col_var" in s],
                [s["variance"] for s in states if "variance" in s],
                counters["step"],
                group["lr"],
                group["beta2_decay"],
                0.0 if eps1 is None else eps1,
                eps2,
                group["d"],
                group["weight_decay"],
                clocks,
                eps1 is None,
                group["weight_decay"] != 0,
                group["maximize"],
            )
        ]
