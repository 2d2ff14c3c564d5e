"""Limits on gradients: clip_grad_norm_, clip_grad_value_, get_total_norm, clip_grads_with_norm_.

In: parameters with gradients. Out: the gradients changed in place, in one recorded call. `foreach` changes nothing: that is one
program. Next: `optim/optimizer.py`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable

from flambeau.autograd import no_grad
from flambeau.dialects.builder import Value
from flambeau.function import Operand, Static, Tensors, function, inplace
from flambeau.functions.common import ops
from flambeau.functions.from_data import tensor
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


def _scaled(grads: list[Value], max_norm: Value, norm: Value) -> list[Value]:
    """The gradients, times `max_norm / norm` where that is below 1."""
    factor = max_norm.cast(norm.dtype) / (norm + 1e-6)
    factor = ops.select(factor > 1.0, factor.like(1.0), factor)
    return [g * factor.cast(g.dtype).expand(g.shape) for g in grads]


@inplace(name="clip_grad_norm_", writes="grads")
def _clip_norm(grads: Tensors, max_norm: Operand, norm_type: Static):
    total = _norm(grads, norm_type)
    return [*_scaled(grads, max_norm, total), total]


@inplace(name="clip_grads_with_norm_", writes="grads")
def _clip_with_norm(grads: Tensors, max_norm: Operand, total_norm: Operand):
    return _scaled(grads, max_norm, total_norm)


@function(name="get_total_norm")
def _total_norm(tensors: Tensors, norm_type: Static):
    return _norm(tensors, norm_type)


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


def _checked(op: str, norm: Tensor, norm_type: float, error_if_nonfinite: bool) -> Tensor:
    """The norm. Raises RuntimeError, if asked to look, where it is infinite or NaN."""
    if error_if_nonfinite and not math.isfinite(norm.item()):
        raise RuntimeError(
            f"[{op}] the norm of order {norm_type} is {norm.item()}. Pass error_if_nonfinite=False to scale by it anyway."
        )
    return norm


def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of all elements of all tensors together, 0-d; 0 of none. `norm_type` may be infinite.

    Raises RuntimeError, with `error_if_nonfinite`, for a norm that is infinite or NaN: that reads it.
    """
    given = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if not given:
        return tensor(0.0)
    return _checked("get_total_norm", _total_norm(given, float(norm_type)), norm_type, error_if_nonfinite)


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients so that their common norm is at most `max_norm`; returns the norm before. Nothing is read back, unless
    `error_if_nonfinite` asks for it.

    A shared parameter counts once. `norm_type` may be infinite. Raises RuntimeError, with `error_if_nonfinite`, for a norm that is
    infinite or NaN, and then changes nothing.
    """
    grads = _gradients(parameters)
    if not grads:
        return tensor(0.0)
    with no_grad():
        if error_if_nonfinite:
            _checked("clip_grad_norm_", _total_norm(grads, float(norm_type)), norm_type, True)
        (norm,) = _clip_norm(grads, max_norm, float(norm_type))
        return norm


def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """Scale all gradients as `clip_grad_norm_` does for gradients of the norm `total_norm`."""
    grads = _gradients(parameters)
    if grads:
        with no_grad():
            _clip_with_norm(grads, max_norm, total_norm)


def clip_grad_norm(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The old name of `clip_grad_norm_`."""
    warnings.warn("nn.utils.clip_grad_norm is now nn.utils.clip_grad_norm_.", FutureWarning, stacklevel=2)
    return clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Limit every element of every gradient to [-clip_value, clip_value]."""
    grads = _gradients(parameters)
    if grads:
        with no_grad():
            _clip_value(grads, clip_value)
