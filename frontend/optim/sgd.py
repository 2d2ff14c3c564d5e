"""Stochastic gradient descent, with momentum, Nesterov momentum and weight decay.

The update is PyTorch's: g = grad + weight_decay * p; v = momentum * v + (1 - dampening) * g, v = g at first;
p = p - lr * (nesterov: g + momentum * v, else v).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import DType
from flambeau.function import Operand, Static, Tensors, inplace
from flambeau.functions.create import zeros_like
from flambeau.optim.optimizer import Optimizer, ways
from flambeau.runtime.recorder import Tensor


def spread(scalar: Value, like: Value) -> Value:
    """A number as a tensor of the dtype and shape of `like`."""
    return scalar.cast(like.dtype).expand(like.shape)


class Spreads:
    """As `spread`, within one rule: what parameters of one dtype and shape have in common is made once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, DType, tuple[Any, ...]], tuple[Value, Value]] = {}

    def __call__(self, scalar: Value, like: Value) -> Value:
        form = id(scalar), like.dtype, like.shape
        if form not in self._known:
            self._known[form] = scalar, spread(scalar, like)  # the number lives, so its id is its own
        return self._known[form][1]


def decayed(g: Value, p: Value, weight_decay: Value | None, maximize: bool) -> Value:
    """The gradient to descend along: negated for `maximize`, plus weight_decay * p."""
    g = -g if maximize else g
    return g if weight_decay is None else g + spread(weight_decay, p) * p


@inplace(name="step", writes="params")
def _plain(params: Tensors, grads: Tensors, lr: Operand, weight_decay: Operand, decay: Static, maximize: Static):
    new = []
    for p, g in zip(params, grads):
        g = decayed(g, p, weight_decay if decay else None, maximize)
        new.append(p - spread(lr, p) * g)
    return new


@inplace(name="step", writes="params,buffers")
def _momentum(
    params: Tensors,
    grads: Tensors,
    buffers: Tensors,
    lr: Operand,
    weight_decay: Operand,
    momentum: Operand,
    dampening: Operand,
    first: Static,
    decay: Static,
    nesterov: Static,
    maximize: Static,
):
    new_params, new_buffers = [], []
    for p, g, v in zip(params, grads, buffers):
        g = decayed(g, p, weight_decay if decay else None, maximize)
        mu = spread(momentum, p)
        v = g if first else v * mu + g * (1.0 - spread(dampening, p))
        new_buffers.append(v)
        new_params.append(p - spread(lr, p) * (g + mu * v if nesterov else v))
    return new_params + new_buffers


_UNWRITTEN = "_unwritten_at"


def _unwritten_like(p: Tensor) -> Tensor:
    """A buffer of momentum that knows that no step has written it, also if the step that made it is interrupted."""
    buffer = zeros_like(p)
    buffer.__dict__[_UNWRITTEN] = buffer._version
    return buffer


def _is_unwritten(buffer: Tensor) -> bool:
    """Whether no step has written the buffer yet. What was loaded or copied does not pass for new."""
    made_at = buffer.__dict__.get(_UNWRITTEN)
    if made_at is not None and made_at != buffer._version:
        del buffer.__dict__[_UNWRITTEN]
        made_at = None
    return made_at is not None


class SGD(Optimizer):
    """Stochastic gradient descent. `lr` and the other options may change at any time; `foreach` and `fused` change nothing.

    Raises ValueError for negative options, and for `nesterov` without momentum or with dampening, RuntimeError for
    `differentiable`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        flags = ways(type(self).__name__, foreach=foreach, differentiable=differentiable, fused=fused)
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
                **flags,
            },
        )

    def _check_options(self, group: dict[str, Any]) -> None:
        super()._check_options(group)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError("[SGD] nesterov needs a momentum above 0 and dampening 0.")

    def _updates(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Callable[[], Any]]:
        decay = group["weight_decay"] != 0
        if not group["momentum"]:
            return [partial(_plain, params, grads, group["lr"], group["weight_decay"], decay, group["maximize"])]
        for p in params:
            if self.state[p].get("momentum_buffer") is None:
                self._remember(p, momentum_buffer=_unwritten_like(p))
        new = {id(p) for p in params if _is_unwritten(self.state[p]["momentum_buffer"])}
        parts = {first: [(p, g) for p, g in zip(params, grads) if (id(p) in new) is first] for first in (False, True)}
        return [
            partial(
                _momentum,
                [p for p, _ in chosen],
                [g for _, g in chosen],
                [self.state[p]["momentum_buffer"] for p, _ in chosen],
                group["lr"],
                group["weight_decay"],
                group["momentum"],
                group["dampening"],
                first,
                decay,
                group["nesterov"],
                group["maximize"],
            )
            for first, chosen in parts.items()
            if chosen
        ]
