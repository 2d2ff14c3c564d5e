"""Activations whose slope below 0 is chosen, or drawn: celu, prelu, rrelu.

In: floating-point tensors. Out: the same shape and dtype. Next: `shuffle.py`; `nn/activation.py` for modules.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau import generator as generators
from flambeau.declarations import declared
from flambeau.function import Operand, Stream_, Tensor_, function, inplace
from flambeau.functions.activation import leaky_relu
from flambeau.functions.common import check_floating, ops, promoted
from flambeau.functions.random import _between, _uniform
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, points, unary


def _few(**attrs: Any):
    return calls(lambda: [call(points(), gradient=False, **attrs), call(data(3, 7), **attrs)])


@function(name="celu")
def _celu(input: Tensor_, alpha: Operand):
    check_floating("celu", input)
    x, a = promoted("celu", input, alpha)
    return ops.select(x <= 0, a * ops.expm1(ops.select(x <= 0, x, x.like(0.0)) / a), x)


_celu_ = inplace(name="celu")(_celu.rule)


_CELU = unary() + _few(alpha=0.5) + calls(lambda: [call(data(3), 0.0, error=(RuntimeError, "alpha is 0"))])


@declared(free="flambeau nn.functional", samples=_CELU, recalled="operand")
def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x above 0, `alpha * (exp(x / alpha) - 1)` elsewhere; NaN stays. Barron (2017). Raises RuntimeError for an `alpha` of 0."""
    if alpha == 0:
        raise RuntimeError("[celu] alpha is 0, by which x is divided. Use another number.")
    return (_celu_ if inplace else _celu)(input, alpha)


@declared(free="flambeau nn.functional", samples=_CELU, recalled="operand")
def celu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """`celu` in place."""
    return celu(input, alpha, True)


@function(
    free="flambeau nn.functional",
    method=True,
    samples=calls(
        lambda: [
            call(points(), data(1, low=0.1, high=0.5), gradient=False),
            call(data(2, 3, 4), data(3, low=0.1, high=0.5)),
            call(data(2, 3), data(2), error=(RuntimeError, "weight")),
        ]
    ),
)
def prelu(input: Tensor_, weight: Tensor_):
    """x above 0, `weight * x` elsewhere; one weight for all, or one for each of the second dimension. He et al. (2015)."""
    check_floating("prelu", input)
    channels = input.shape[1] if len(input.shape) > 1 else 1
    count = weight.shape[0] if weight.shape else 1
    if len(weight.shape) > 1 or (count != 1 and count != channels):
        raise RuntimeError(
            f"[prelu] weight has shape {weight.shape} for an input of shape {input.shape}. Give 1 or {channels} numbers."
        )
    if weight.dtype is not input.dtype:
        raise RuntimeError(f"[prelu] input is {input.dtype} and weight {weight.dtype}. Cast one of them.")
    rest = (1,) * max(len(input.shape) - 2, 0)
    slope = ops.reshape(weight, shape=(count, *rest) if len(input.shape) > 1 else ()).expand(input.shape)
    return ops.select(input > 0, input, slope * input)


@function(name="rrelu")
def _rrelu(input: Tensor_, lower: Operand, upper: Operand, generator: Stream_ = generators.default_generator):
    check_floating("rrelu", input)
    x = input.cast(input.dtype.accumulation)
    slope = _between(_uniform(generator, x.shape, x.dtype), lower, upper)
    return ops.select(x > 0, x, x * slope).cast(input.dtype)


_rrelu_ = inplace(name="rrelu")(_rrelu.rule)


def _check_bounds(lower: float, upper: float) -> None:
    for what, bound in (("lower", lower), ("upper", upper)):
        if not math.isfinite(bound):
            raise RuntimeError(f"[rrelu] {what} is {bound}. Use a finite number.")
    if lower > upper:
        raise RuntimeError(f"[rrelu] lower {lower} is above upper {upper}. Exchange them.")


@declared(
    free="flambeau nn.functional",
    samples=calls(
        lambda: [
            call(data(3, 4)),
            call(data(3, 4), training=True),
            call(points(), 0.5, 0.5, gradient=False),
            call(data(3), 0.3, 0.1, error=(RuntimeError, "lower 0.3 is above upper 0.1")),
            call(data(3), 0.3, math.inf, True, error=(RuntimeError, "upper is inf")),
        ]
    ),
    recalled="operand",
)
def rrelu(
    input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """x above 0, a times x elsewhere: a is drawn from `lower` to `upper` in training, else their mean. Xu et al. (2015). Raises
    RuntimeError for bounds that are not finite, and for a `lower` above `upper`."""
    _check_bounds(lower, upper)
    if not training:
        return (leaky_relu.inplace if inplace else leaky_relu)(input, (lower + upper) / 2)
    return (_rrelu_ if inplace else _rrelu)(input, lower, upper)


@declared(
    free="flambeau nn.functional",
    samples=calls(lambda: [call(data(3, 4)), call(data(3, 4), training=True)]),
    recalled="operand",
)
def rrelu_(
    input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, generator: Any = None
) -> Tensor:
    """`rrelu` in place."""
    _check_bounds(lower, upper)
    if not training:
        return leaky_relu.inplace(input, (lower + upper) / 2)
    return _rrelu_(input, lower, upper, generator)
