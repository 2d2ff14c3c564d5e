"""Special functions: the error function's relatives, gamma's, modified Bessel functions, logarithms that do not overflow.

In: tensors; integers and bools are converted to the default dtype. All are found in `flambeau.special`, some
only there. Next: `entropy.py`.
"""

from __future__ import annotations

import math

import numpy as np
from flambeau.dialects.builder import Value
from flambeau.function import Operand, Static, Tensor_, function
from flambeau.functions.common import floating, ops, promoted
from flambeau.functions.trigonometry import unary_special
from flambeau.samples import call, calls, data, points


@function(free="flambeau special", method=True, in_place=True, out=True, samples=unary_special())
def erfc(input: Tensor_):
    """1 - erf(x), accurate far out."""
    return ops.erfc(floating(input))


@function(free="flambeau special", method=True, in_place=True, out=True, samples=unary_special(-0.9, 0.9))
def erfinv(input: Tensor_):
    """The inverse of `erf`: infinite at 1 and -1, NaN beyond."""
    return ops.erfinv(floating(input))


@function(free="special", out=True, samples=unary_special())
def erfcx(input: Tensor_):
    """exp(x**2) * erfc(x), which neither overflows nor vanishes for large x."""
    return ops.erfcx(floating(input))


@function(free="special", out=True, samples=unary_special())
def ndtr(input: Tensor_):
    """The normal distribution function: the share of its values below x."""
    return ops.erfc(floating(input) * -math.sqrt(0.5)) * 0.5


@function(free="special", out=True, samples=unary_special(0.1, 0.9))
def ndtri(input: Tensor_):
    """The inverse of `ndtr`: infinite at 0 and 1, NaN beyond."""
    return ops.ndtri(floating(input))


@function(free="special", out=True, samples=unary_special())
def log_ndtr(input: Tensor_):
    """log(ndtr(x)), which does not vanish where that does."""
    x = floating(input) * math.sqrt(0.5)
    low = x < -1.0
    inner, outer = ops.select(low, x, x.like(-1.0)), ops.select(low, x.like(0.0), x)
    left = ops.log(ops.erfcx(-inner) * 0.5) - inner * inner
    return ops.select(low, left, ops.log1p(ops.erfc(outer) * -0.5))


@function(free="flambeau", method=True, in_place=True, out=True, samples=unary_special(0.2, 5))
def lgamma(input: Tensor_):
    """ln|gamma(x)|; infinite at 0 and at negative integers."""
    return ops.lgamma(floating(input))


@function(free="flambeau special", method=True, in_place=True, out=True, samples=unary_special(0.2, 5))
def digamma(input: Tensor_):
    """The derivative of `lgamma`; infinite at zeros, NaN at negative integers."""
    return ops.digamma(floating(input))


def _polygamma(n: int, x: Value) -> Value:
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise RuntimeError(f"[polygamma] n is {n!r}. Pass an int that is not negative.")
    if n == 0:
        return ops.digamma(floating(x))
    x = floating(x)
    return ops.zeta(x.like(n + 1.0), x) * (math.factorial(n) * (-1.0) ** (n + 1))


_ORDERS = calls(
    lambda: [
        call(1, points(), gradient=False),
        call(0, data(3, low=0.2, high=3)),
        call(2, data(2, 3, low=0.5, high=3)),
        call(-1, data(2), error=(RuntimeError, "not negative")),
    ]
)


@function(free="flambeau special", out=True, samples=_ORDERS)
def polygamma(n: Static, input: Tensor_):
    """The derivative of `digamma` of order `n`."""
    return _polygamma(n, input)


@function(
    method=True,
    in_place=True,
    name="polygamma",
    samples=calls(
        lambda: [call(data(2, 3, low=0.5, high=3), 1), call(data(2), -1, error=(RuntimeError, "not negative"))]
    ),
)
def _polygamma_of(input: Tensor_, n: Static):
    """The derivative of `digamma` of order `n`."""
    return _polygamma(n, input)


@function(
    free="flambeau",
    method=True,
    in_place=True,
    out=True,
    samples=calls(
        lambda: [
            call(data(2, 3, low=1.6, high=5), 3),
            call(points(), 1, gradient=False),
            call(data(2), 0, error=(RuntimeError, "at least 1")),
        ]
    ),
)
def mvlgamma(input: Tensor_, p: Static):
    """The logarithm of the gamma function of dimension `p`, for elements above (p - 1) / 2."""
    if isinstance(p, bool) or not isinstance(p, int) or p < 1:
        raise RuntimeError(f"[mvlgamma] p is {p!r}. Pass an int of at least 1.")
    x = floating(input)
    total = ops.lgamma(x) + p * (p - 1) / 4.0 * math.log(math.pi)
    for j in range(1, p):
        total = total + ops.lgamma(x - j / 2.0)
    return total


def _pairs() -> tuple[np.ndarray, np.ndarray]:
    """Special pairs of exponent and place."""
    x, q = np.meshgrid(
        [1.0, 0.5, 2.0, 3.0, 2.5, 40.0, np.inf, np.nan], [1.0, 0.0, -1.0, 0.5, -2.5, 30.0, np.inf, np.nan]
    )
    return x.ravel(), q.ravel()


@function(
    free="special",
    out=True,
    samples=calls(
        lambda: [
            call(*_pairs(), gradient=False),
            call(2.0, data(2, 3, low=0.5, high=3)),
        ]
    ),
)
def zeta(input: Operand, other: Operand):
    """Hurwitz's zeta function, the sum of (other + k)**-input over k = 0, 1, ... No gradient flows to `input`."""
    return ops.zeta(*promoted("zeta", input, other, float_only=True))


@function(free="flambeau special", method=True, in_place=True, out=True, samples=unary_special(-9, 9))
def i0(input: Tensor_):
    """The modified Bessel function of the first kind of order 0."""
    return ops.i0(floating(input))


@function(free="special", out=True, samples=unary_special(-9, 9))
def i0e(input: Tensor_):
    """`i0(x) * exp(-|x|)`."""
    return ops.i0e(floating(input))


@function(free="special", out=True, samples=unary_special(-9, 9))
def i1(input: Tensor_):
    """The modified Bessel function of the first kind of order 1."""
    return ops.i1(floating(input))


@function(free="special", out=True, samples=unary_special(-9, 9))
def i1e(input: Tensor_):
    """`i1(x) * exp(-|x|)`."""
    return ops.i1e(floating(input))
