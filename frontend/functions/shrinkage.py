"""Further activation functions: softmin, softsign, shrinkages, threshold.

In: floating-point tensors. Out: the same shape and dtype. Next: `gated.py`.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau.declarations import declare, declared
from flambeau.dialects.dtypes import bool_
from flambeau.function import Operand, Tensor_, function
from flambeau.functions.activation import softmax, usual_dim
from flambeau.functions.common import check_floating, floating, ops, promoted
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, index, unary


@declared(
    free="nn.functional",
    samples=calls(lambda: [call(data(3, 4), 1), call(data(3), 1, error=(IndexError, "dim 1 is out of range"))]),
)
def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """softmax(-x) along `dim`; without it along 0 of up to one dimension or of three, along 1 otherwise, with a warning."""
    return softmax(-input, usual_dim("softmin", input.ndim) if dim is None else dim, dtype)


@function(free="nn.functional", samples=unary())
def softsign(input: Tensor_):
    """x / (1 + |x|)."""
    x = input if input.dtype.is_bool else floating(input)
    check_floating("softsign", x)
    return x / (ops.abs(x) + 1.0)


@function(free="nn.functional", samples=unary())
def tanhshrink(input: Tensor_):
    """x - tanh(x)."""
    x = input if input.dtype.is_bool else floating(input)
    check_floating("tanhshrink", x)
    return x - ops.tanh(x)


@function(name="softshrink")
def _softshrink(input: Tensor_, lambd: Operand):
    check_floating("softshrink", input)
    x, limit = promoted("softshrink", input, lambd)
    inside = ops.and_(x >= -limit, x <= limit)
    return ops.select(inside, x * 0.0, ops.select(x > limit, x - limit, x + limit))


@declared(
    free="nn.functional",
    samples=unary()
    + unary(lambd=1.0)
    + calls(
        lambda: [
            call(data(3), -0.5, error=(RuntimeError, "lambd is -0.5")),
            call(data(3), math.inf, error=(RuntimeError, "lambd is inf")),
        ]
    ),
    recalled="operand",
)
def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by `lambd`, and 0 where that would go past it; NaN stays. Raises RuntimeError for a `lambd` below 0 or
    infinite."""
    if not 0 <= lambd < math.inf:
        raise RuntimeError(f"[softshrink] lambd is {lambd}. Use a finite number from 0 on.")
    return _softshrink(input, lambd)


@function(free="flambeau nn.functional", method=True, samples=unary() + unary(lambd=1.0))
def hardshrink(input: Tensor_, lambd: Operand = 0.5):
    """x, but 0 from `-lambd` to `lambd`; NaN stays."""
    check_floating("hardshrink", input)
    x, limit = promoted("hardshrink", input, lambd)
    return ops.select(ops.and_(x >= -limit, x <= limit), x.like(0.0), x)


_THRESHOLD = calls(lambda: [call(data(3, 4), threshold=0.3, value=5.0), call(index(7, 3, 4), 3, 1)])


@function(free="flambeau nn.functional", takes_inplace=True, samples=unary(threshold=0.3, value=5.0) + _THRESHOLD)
def threshold(input: Tensor_, threshold: Operand, value: Operand):
    """x above `threshold`, `value` elsewhere, in the dtype of `input`, which may be an integer one; NaN stays."""
    if input.dtype is bool_ or input.dtype.is_complex:
        raise NotImplementedError(f"[threshold] input has dtype {input.dtype}. Use floats or integers.")
    limit, other = (v.cast(input.dtype).expand(input.shape) for v in (threshold, value))
    return ops.select(input <= limit, other, input)


declare(threshold.inplace, "threshold_", free="flambeau", samples=unary(threshold=0.3, value=5.0))  # type: ignore[attr-defined]
