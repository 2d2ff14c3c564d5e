"""Normalization: layer_norm, and vectors of unit length.

In: floating-point tensors. Out: the same shape. Means and variances take two passes over a row. Next: `channel_norm.py`.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau.dialects.builder import Value
from flambeau.function import Default, Operand, Optional_, Sizes, Static, Tensor_, function
from flambeau.functions.common import canonical_dim, check_floating, ops
from flambeau.functions.reduce import norm
from flambeau.out import stored_in
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data


def last_axes(op: str, x: Value, normalized_shape: Any) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """The shape to normalize over, and the last axes of `x`, which have it. Raises RuntimeError if they have not."""
    shape = tuple(normalized_shape) if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
    if not shape or x.shape[len(x.shape) - len(shape) :] != shape:
        raise RuntimeError(
            f"[{op}] input of shape {x.shape} does not end in normalized_shape {shape}. Check the module."
        )
    return shape, tuple(range(len(x.shape) - len(shape), len(x.shape)))


def inverse_deviation(variance: Value, eps: Value) -> Value:
    """1 / sqrt(variance + eps)."""
    return ops.rsqrt(variance + eps.cast(variance.dtype).expand(variance.shape))


@function(
    free="nn.functional",
    samples=calls(
        lambda: [
            call(data(3, 4), (4,)),
            call(data(2, 3, 4), (3, 4), data(3, 4), data(3, 4)),
            call(data(3, 4), (4,), eps=0.1),
            call(data(3, 4), (3,), error=(RuntimeError, "(3,)")),
        ]
    ),
)
def layer_norm(
    input: Tensor_,
    normalized_shape: Sizes,
    weight: Optional_ = None,
    bias: Optional_ = None,
    eps: Operand = 1e-05,
):
    """(x - mean) / sqrt(var + eps) over the last dimensions, which have `normalized_shape`; then times `weight`, plus `bias`.

    Ba, Kiros, Hinton, "Layer normalization" (2016). Raises RuntimeError for shapes that do not fit.
    """
    x = input
    check_floating("layer_norm", x)
    shape, axes = last_axes("layer_norm", x, normalized_shape)
    count = math.prod(shape)

    def mean(v: Value) -> Value:
        total = ops.sum(v, axes=axes) / count
        return ops.reshape(total, shape=(*total.shape, *(1 for _ in axes)))

    centred = x - mean(x).expand(x.shape)
    result = centred * inverse_deviation(mean(centred * centred), eps).expand(x.shape)
    for name, extra in (("weight", weight), ("bias", bias)):
        if extra is None:
            continue
        if extra.shape != shape or extra.dtype is not x.dtype:
            raise RuntimeError(
                f"[layer_norm] {name} is {extra.dtype.name} of shape {extra.shape}. Pass {x.dtype.name} of shape {shape}."
            )
        spread = extra.expand(x.shape)
        result = result * spread if name == "weight" else result + spread
    return result


def _normalize_into(
    input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Tensor | None = None
) -> Tensor:
    found = normalize(input, p, dim, eps)
    return found if out is None else stored_in("normalize", out, found)


@function(
    free="nn.functional",
    otherwise=_normalize_into,
    samples=calls(
        lambda: [
            call(data(3, 4)),
            call(data(3, 4), dim=0, p=1.0),
            call(data(3, 4), dim=2, error=(IndexError, "dim 2 is out of range")),
        ]
    ),
)
def normalize(input: Tensor_, p: Static = 2.0, dim: Static = 1, eps: Operand = 1e-12, out: Default = None):
    """`input` divided by its p-norm along `dim`, or by `eps` if that is larger."""
    check_floating("normalize", input, error=RuntimeError, complex=True)
    dim = canonical_dim("normalize", dim, len(input.shape))
    length = norm.rule(input, p, dim, True)
    length = ops.maximum(length, eps.cast(length.dtype).expand(length.shape))
    return input / length.cast(input.dtype).expand(input.shape)
