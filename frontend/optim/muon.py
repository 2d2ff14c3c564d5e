"""Muon: momentum made orthogonal, for matrices. Jordan and others, "Muon: an optimizer for hidden layers" (2024); learning rates as
there, or as in Liu and others, "Muon is scalable for LLM training" (2025).

m = lerp(m, g, 1 - momentum); u = lerp(g, m, momentum) with nesterov, else m; o = u / max(|u|, eps), then ns_steps times
o = a * o + (b * s + c * s @ s) @ o with s = o @ o.T, in bfloat16, on the wide side of the matrix;
p = p * (1 - lr * weight_decay) - lr * ratio * o.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bfloat16, float32
from flambeau.function import Operand, Static, Tensors, inplace
from flambeau.functions.common import ops
from flambeau.optim.counted import columns, decoupled_decay, exact, interpolated, kept_by_decay, norm
from flambeau.optim.optimizer import Optimizer, begun
from flambeau.optim.sgd import spread
from flambeau.runtime.recorder import Tensor


def _turned(x: Value) -> Value:
    return ops.permute(x, perm=(1, 0))


def _rounded(x: Value) -> Value:
    """The bfloat16 numbers nearest to those of x, as float32, to compute with."""
    return x.cast(bfloat16).cast(float32)


def _orthogonal(x: Value, coefficients: tuple[float, float, float], eps: Value, rounds: int) -> Value:
    """About the orthogonal matrix nearest to a matrix, by Newton-Schulz iterations of fifth order. Each product with what is added
    to it rounds once, as a call of `addmm` does."""
    a, b, c = coefficients
    is_high = x.shape[0] > x.shape[1]
    o = _rounded(_turned(x) if is_high else x)
    size = _rounded(norm(o))
    o = _rounded(o / spread(ops.maximum(size, spread(eps, size)), o))
    for _ in range(rounds):
        square = _rounded(ops.matmul(o, _turned(o)))
        update = _rounded(square * b + ops.matmul(square, square) * c)
        o = _rounded(o * a + ops.matmul(update, o))
    return (_turned(o) if is_high else o).cast(x.dtype)


def _ratio(adjust: str | None, shape: tuple[int, ...]) -> float:
    """What the learning rate of a matrix of `shape` is multiplied by."""
    rows, cols = shape
    return 0.2 * math.sqrt(max(rows, cols)) if adjust == "match_rms_adamw" else math.sqrt(max(1, rows / cols))


@inplace(name="step", writes="params,buffers")
def _muon(
    params: Tensors,
    grads: Tensors,
    buffers: Tensors,
    lr: Operand,
    weight_decay: Operand,
    momentum: Operand,
    eps: Operand,
    coefficients: Static,
    rounds: Static,
    nesterov: Static,
    adjust: Static,
    decay: Static,
):
    rate, momentum = exact(lr, momentum)
    new = []
    kept = kept_by_decay(lr, weight_decay, decay)
    for p, g, m in zip(params, grads, buffers):
        m = interpolated(m, g, 1.0 - momentum)
        update = _orthogonal(interpolated(g, m, momentum) if nesterov else m, coefficients, eps, rounds)
        p = decoupled_decay(p, kept)
        new.append((p - spread(rate * _ratio(adjust, p.shape), p) * update, m))
    return columns(new)


class Muon(Optimizer):
    """Muon, for the matrices of hidden layers; leave others to AdamW. `lr`, `weight_decay`, `momentum` and `eps` may change
    at any time. `adjust_lr_fn` is "original" (None means that) or "match_rms_adamw", with which learning rates of AdamW fit.

    Raises ValueError for negative options, and for parameters that are no matrices; `step` RuntimeError for complex ones.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "nesterov": nesterov,
                "ns_coefficients": ns_coefficients,
                "eps": eps,
                "ns_steps": ns_steps,
                "adjust_lr_fn": adjust_lr_fn,
            },
        )

    def _check_options(self, group: dict[str, Any]) -> None:
        super()._check_options(group)
        if group["adjust_lr_fn"] not in (None, "original", "match_rms_adamw"):
            raise ValueError(
                f"[Muon] adjust_lr_fn is {group['adjust_lr_fn']!r}. Use 'original', 'match_rms_adamw' or None."
            )
        if len(group["ns_coefficients"]) != 3:
            raise ValueError(f"[Muon] ns_coefficients are {group['ns_coefficients']}. Pass three numbers.")
        if not 0 <= group["ns_steps"] < 100:
            raise ValueError(f"[Muon] ns_steps is {group['ns_steps']}. Use a number below 100.")
        for p in group["params"]:
            if p.dim() != 2:
                raise ValueError(
                    f"[Muon] a parameter has shape {tuple(p.shape)}, which is no matrix. Give it to another optimizer."
                )

    def _updates(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Callable[[], Any]]:
        for p in params:
            if p.dtype.is_complex:
                raise RuntimeError(f"[Muon] a parameter is {p.dtype.name}. Give complex ones to another optimizer.")
            if "momentum_buffer" not in self.state[p]:
                self._remember(p, momentum_buffer=begun(p))
        return [
            partial(
                _muon,
                params,
                grads,
                [self.state[p]["momentum_buffer"] for p in params],
                group["lr"],
                group["weight_decay"],
                group["momentum"],
                group["eps"],
                tuple(group["ns_coefficients"]),
                group["ns_steps"],
                group["nesterov"],
                group["adjust_lr_fn"],
                group["weight_decay"] != 0,
            )
        ]
