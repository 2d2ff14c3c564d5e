"""Losses that are likelihoods: poisson_nll, gaussian_nll.

In: parameters of distributions, and targets; `reduction` is "mean", "sum" or "none". Out: a 0-d tensor, or one loss per
element. Formulas are those of PyTorch's documentation. Next: `nn/loss.py`.
"""

from __future__ import annotations

import math

from flambeau.dialects.builder import Value
from flambeau.function import Operand, Static, Tensor_, function
from flambeau.functions.common import as_value, check_between, ops, promoted
from flambeau.functions.reduction import loss, reduce_loss
from flambeau.samples import call, calls, data


@loss(
    samples=calls(
        lambda: [
            *(call(data(2, 3), data(2, 3, low=0.5, high=4), reduction=r) for r in ("mean", "sum", "none")),
            call(data(2, 3, low=0.1, high=2), data(2, 3, low=0.5, high=4), log_input=False),
            call(data(2, 3), data(2, 3, low=0.5, high=4), full=True),
            call(data(2), data(2), reduction="most", error=(ValueError, "reduction")),
        ]
    ),
    old_before="eps",
)
def poisson_nll_loss(
    input: Tensor_,
    target: Tensor_,
    log_input: Static = True,
    full: Static = False,
    eps: Operand = 1e-8,
    reduction: Static = "mean",
):
    """exp(x) - target * x of the logarithm of a rate; x - target * log(x + eps) of the rate itself (`log_input` False). `full` adds
    Stirling's approximation of log(target!) where the target is above 1."""
    x, y = promoted("poisson_nll_loss", input, target, float_only=True)
    if log_input:
        found = ops.exp(x) - y * x
    else:
        found = x - y * ops.log(x + as_value(x, eps).cast(x.dtype).expand(x.shape))
    if full:
        many = y > 1
        safe = ops.select(many, y, y.like(1))
        stirling = safe * ops.log(safe) - safe + ops.log(safe * (2 * math.pi)) * 0.5
        found = found + ops.select(many, stirling, stirling.like(0))
    return reduce_loss("poisson_nll_loss", found, reduction)


def _held(variance: Value, eps: Value) -> Value:
    """max(variance, eps), with the gradient of `variance` throughout."""
    least = eps.cast(variance.dtype).expand(variance.shape)
    return ops.select(variance < least, least + (variance - ops.stop_gradient(variance)), variance)


@function(
    free="nn.functional",
    samples=calls(
        lambda: [
            *(call(data(2, 3), data(2, 3), data(2, 3, low=0.2, high=2), reduction=r) for r in ("mean", "sum", "none")),
            call(data(2, 3), data(2, 3), data(2, low=0.2, high=2), full=True),
            call(data(2, 3), data(2, 3), data(2, 1, low=0.2, high=2), eps=0.5, gradient=False),
            call(data(2, 3), data(2, 3), 0.7),
            call(data(2, 3), data(2, 3), data(3, 2), error=(ValueError, "var has shape (3, 2)")),
        ]
    ),
    fallible=True,
)
def gaussian_nll_loss(
    input: Tensor_,
    target: Tensor_,
    var: Operand,
    full: Static = False,
    eps: Operand = 1e-6,
    reduction: Static = "mean",
):
    """(log(v) + (input - target)**2 / v) / 2 with v = max(var, eps), whose gradient takes no notice of eps; `full` adds
    log(2 pi) / 2. `var` is a number, of the input's shape, or has its last dimension missing or one dimension 1. Raises ValueError
    for other shapes, RuntimeError for a negative variance (when the value is read)."""
    op = "gaussian_nll_loss"
    x, y = promoted(op, input, target, float_only=True)
    v = var.cast(x.dtype).expand(x.shape) if var.weak else var.cast(x.dtype)
    if v.shape == x.shape[:-1] and v.shape != x.shape:
        v = ops.reshape(v, shape=(*v.shape, 1))
    unlike = [n for m, n in zip(x.shape, v.shape) if m != n]
    if len(v.shape) != len(x.shape) or len(unlike) > 1 or any(n != 1 for n in unlike):
        raise ValueError(f"[{op}] var has shape {var.shape}, the input {x.shape}. Pass one variance each, or per row.")
    v = check_between(op, "var", v, 0, math.inf, "is negative or NaN. Pass variances.")
    v = _held(v, as_value(x, eps)).expand(x.shape)
    difference = x - y
    found = (ops.log(v) + difference * difference / v) * 0.5
    return reduce_loss(op, found + 0.5 * math.log(2 * math.pi) if full else found, reduction)
