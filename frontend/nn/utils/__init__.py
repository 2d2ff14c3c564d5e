"""Tools on gradients and parameters: clip_grad_norm_, clip_grad_value_.

In: parameters with gradients. Out: the gradients changed in place, in one recorded call. Next: `optim/optimizer.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.autograd import no_grad
from flambeau.declarations import here as _here
from flambeau.dialects.builder import Value
from flambeau.function import Operand, Static, Tensors, inplace
from flambeau.functions.common import ops
from flambeau.functions.from_data import tensor
from flambeau.nn.utils import rnn
from flambeau.runtime.recorder import Tensor


def _power_sum(g: Value, p: float) -> Value:
    terms = ops.abs(g) if p == 1 else g * g if p == 2 else ops.pow(ops.abs(g), g.like(p))
    return ops.sum(terms, axes=tuple(range(len(g.shape)))) if g.shape else terms


def _norm(grads: list[Value], p: float) -> Value:
    """The p-norm of all elements of all tensors together."""
    if p == math.inf:
        largest = [ops.max(ops.abs(g), axes=tuple(range(len(g.shape)))) if g.shape else ops.abs(g) for g in grads]
        total = largest[0]
        for x in largest[1:]:
            total = ops.maximum(total, x.cast(total.dtype))
        return total
    parts = [_power_sum(g, p) for g in grads]
    total = parts[0]
    for part in parts[1:]:
        total = total + part.cast(total.dtype)
    return total if p == 1 else ops.sqrt(total) if p == 2 else ops.pow(total, total.like(1 / p))


@inplace(name="clip_grad_norm_", writes="grads")
def _clip_norm(grads: Tensors, max_norm: Operand, norm_type: Static):
    total = _norm(grads, norm_type)
    factor = max_norm.cast(total.dtype) / (total + 1e-6)
    factor = ops.select(factor > 1.0, factor.like(1.0), factor)
    return [*(g * factor.cast(g.dtype).expand(g.shape) for g in grads), total]


@inplace(name="clip_grad_value_", writes="grads")
def _clip_value(grads: Tensors, limit: Operand):
    new = []
    for g in grads:
        high = limit.cast(g.dtype).expand(g.shape)
        low = ops.select(g < -high, -high, g)
        new.append(ops.select(low > high, high, low))
    return new


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    params: Iterable[Tensor] = [parameters] if isinstance(parameters, Tensor) else parameters  # type: ignore[list-item]
    return list({id(p): p.grad for p in params if p.grad is not None}.values())


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0) -> Tensor:
    """Scale all gradients so that their common norm is at most `max_norm`; returns the norm before. Nothing is read back.

    A shared parameter counts once. `norm_type` may be infinite.
    """
    grads = _gradients(parameters)
    if not grads:
        return tensor(0.0)
    with no_grad():
        (norm,) = _clip_norm(grads, max_norm, float(norm_type))
        return norm


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit every element of every gradient to [-clip_value, clip_value]."""
    grads = _gradients(parameters)
    if grads:
        with no_grad():
            _clip_value(grads, clip_value)


__all__ = [*_here(globals()), "rnn"]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.nn.utils")
