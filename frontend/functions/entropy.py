"""Functions of information theory, finite where a factor of 0 meets an infinite one: xlogy, logaddexp, logit, entr.

In: tensors; integers and bools are converted to the default dtype. Next: `activation.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from flambeau.dialects.builder import Value
from flambeau.function import Operand, Static, Tensor_, function
from flambeau.functions.common import floating, ops, promoted, promoted_floats
from flambeau.functions.trigonometry import unary_special
from flambeau.samples import binary, call, calls, data, points


def _times_log(x: Value, y: Value, pole: float, log: Callable[[Value], Value]) -> Value:
    """x log(y), and +0 where x is 0 and y no NaN. There log is not infinite: in its place stands that of an ordinary number."""
    nothing, extreme = x.eq(0), ops.or_(y <= pole, y.eq(math.inf))
    product = x * log(ops.select(ops.and_(nothing, extreme), y.like(pole + 1.0), y))
    return product + ops.select(nothing, x.like(0.0), x.like(-0.0))  # -0 + 0 is +0, and x + -0 is x


@function(free="flambeau special", method=True, in_place=True, out=True, samples=binary(0.5, 3))
def xlogy(input: Operand, other: Operand):
    """`input * log(other)`; 0 where `input` is 0, unless `other` is NaN."""
    x, y = promoted("xlogy", input, other, float_only=True)
    return _times_log(x, y, 0.0, ops.log)


@function(free="special", out=True, samples=binary(0.5, 3))
def xlog1py(input: Operand, other: Operand):
    """`input * log1p(other)`; 0 where `input` is 0, unless `other` is NaN."""
    x, y = promoted("xlog1py", input, other, float_only=True)
    return _times_log(x, y, -1.0, ops.log1p)


@function(free="special", out=True, samples=unary_special(0.1, 2))
def entr(input: Tensor_):
    """-x log(x): 0 at 0, -infinity below."""
    return ops.entr(floating(input))


@function(free="flambeau", method=True, out=True, samples=binary(number=None))
def logaddexp(input: Tensor_, other: Tensor_):
    """log(exp(input) + exp(other)), without overflow. Raises RuntimeError for integers."""
    return ops.logaddexp(*promoted_floats("logaddexp", input, other))


@function(free="flambeau", method=True, out=True, samples=binary(number=None))
def logaddexp2(input: Tensor_, other: Tensor_):
    """log2(2**input + 2**other), without overflow. Raises RuntimeError for integers."""
    return ops.logaddexp2(*promoted_floats("logaddexp2", input, other))


@function(
    free="flambeau special",
    method=True,
    in_place=True,
    out=True,
    samples=unary_special(0.1, 0.9) + calls(lambda: [call(points(), eps=0.25, gradient=False), call(data(7), eps=0.3)]),
)
def logit(input: Tensor_, eps: Static = None):
    """log(x / (1 - x)); x is limited to [eps, 1 - eps] first, if there is an `eps`. NaN beyond 0 and 1 without."""
    x = floating(input)
    if eps is None:
        return ops.logit(x)
    low, high = x < eps, x > 1.0 - eps
    inner = ops.select(low, x.like(eps), ops.select(high, x.like(1.0 - eps), x))
    return ops.logit(inner)
