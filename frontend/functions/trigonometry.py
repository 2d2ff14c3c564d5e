"""Angles and hyperbolic functions: asin, atan2, sinh, hypot, sinc and relatives.

In: tensors; integers and bools are converted to the default dtype. Next: `special.py`.
"""

from __future__ import annotations

import math

import numpy as np
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import float32, float64
from flambeau.function import Operand, Tensor_, function
from flambeau.functions.common import floating, ops, promoted, promoted_floats
from flambeau.samples import binary, call, calls, data, points


def unary_special(low: float = -2.0, high: float = 2.0):
    """Special numbers, and some in between."""
    return calls(
        lambda: [call(points(), gradient=False), call(data(3, 7, low=low, high=high)), call(data(0, 2), gradient=False)]
    )


@function(free="flambeau", method=True, in_place=True, aliases="arcsin", out=True, samples=unary_special(-0.9, 0.9))
def asin(input: Tensor_):
    """The angle in radians, from -pi/2 to pi/2, whose sine is the element; NaN beyond -1 and 1."""
    return ops.asin(floating(input))


@function(free="flambeau", method=True, in_place=True, aliases="arccos", out=True, samples=unary_special(-0.9, 0.9))
def acos(input: Tensor_):
    """The angle in radians, from 0 to pi, whose cosine is the element; NaN beyond -1 and 1."""
    return ops.acos(floating(input))


@function(free="flambeau", method=True, in_place=True, aliases="arctan", out=True, samples=unary_special())
def atan(input: Tensor_):
    """The angle in radians, from -pi/2 to pi/2, whose tangent is the element."""
    return ops.atan(floating(input))


@function(free="flambeau", method=True, in_place=True, aliases="arctan2", out=True, samples=binary(0.5, 3, number=None))
def atan2(input: Tensor_, other: Tensor_):
    """The angle in radians, from -pi to pi, of the point (other, input)."""
    return ops.atan2(*promoted("atan2", input, other, float_only=True))


@function(free="flambeau", method=True, in_place=True, out=True, samples=unary_special())
def sinh(input: Tensor_):
    """The hyperbolic sine."""
    return ops.sinh(floating(input))


@function(free="flambeau", method=True, in_place=True, out=True, samples=unary_special())
def cosh(input: Tensor_):
    """The hyperbolic cosine."""
    return ops.cosh(floating(input))


@function(free="flambeau", method=True, in_place=True, aliases="arcsinh", out=True, samples=unary_special())
def asinh(input: Tensor_):
    """The inverse of `sinh`."""
    return ops.asinh(floating(input))


@function(free="flambeau", method=True, in_place=True, aliases="arccosh", out=True, samples=unary_special(1.1, 4))
def acosh(input: Tensor_):
    """The inverse of `cosh`, not below 0; NaN below 1."""
    return ops.acosh(floating(input))


@function(free="flambeau", method=True, in_place=True, aliases="arctanh", out=True, samples=unary_special(-0.9, 0.9))
def atanh(input: Tensor_):
    """The inverse of `tanh`: infinite at 1 and -1, NaN beyond."""
    return ops.atanh(floating(input))


@function(free="flambeau", method=True, in_place=True, out=True, samples=binary(0.5, 3, number=None))
def hypot(input: Tensor_, other: Tensor_):
    """sqrt(input**2 + other**2), without overflow on the way. Raises RuntimeError for integers."""
    return ops.hypot(*promoted_floats("hypot", input, other))


def _scaled(x: Value, factor: float) -> Value:
    """x times a factor that float32 does not hold, rounded once."""
    x = floating(x)
    return (x.cast(float64) * factor).cast(x.dtype) if x.dtype is float32 else x * factor


@function(free="flambeau", method=True, in_place=True, out=True, samples=unary_special())
def deg2rad(input: Tensor_):
    """Degrees as radians."""
    return _scaled(input, math.pi / 180.0)


@function(free="flambeau", method=True, in_place=True, out=True, samples=unary_special())
def rad2deg(input: Tensor_):
    """Radians as degrees."""
    return _scaled(input, 180.0 / math.pi)


def sin_pi(x: Value) -> Value:
    """sin(pi x), whose period is exact: x less the nearest even number is."""
    real = ops.real(x) if x.dtype.is_complex else x
    turns = ops.stop_gradient(ops.round(real * 0.5) * 2.0)
    turns = ops.complex(turns, turns.like(0.0)) if x.dtype.is_complex else turns
    return ops.sin((x - turns) * math.pi)


@function(free="flambeau special", method=True, in_place=True, out=True, samples=unary_special())
def sinc(input: Tensor_):
    """sin(pi x) / (pi x), which is 1 at 0."""
    x = floating(input)
    near = ops.abs(x) < 0.15
    inner, outer = ops.select(near, x, x.like(0.0)), ops.select(near, x.like(1.0), x)
    square = inner * inner * math.pi**2
    series = x.like(1.0)
    for k in range(9, 0, -1):  # 1 - t/3! + t^2/5! - ..., for gradients do not survive a quotient of small numbers
        series = 1.0 - series * square * (1.0 / (2 * k * (2 * k + 1)))
    return ops.select(near, series, sin_pi(outer) / (outer * math.pi))


@function(free="flambeau", method=True, in_place=True, out=True, samples=binary(number=2))
def copysign(input: Tensor_, other: Operand):
    """The magnitude of `input` with the sign of `other`, which is positive for NaN; the gradient at 0 is 0."""
    return ops.copysign(*promoted("copysign", input, other, float_only=True))


@function(
    free="flambeau",
    method=True,
    in_place=True,
    out=True,
    samples=calls(
        lambda: [
            call(np.repeat(points(), 4), np.tile(np.roll(points(), 3)[::4], 16), gradient=False),
            call(data(3, 1), data(4), gradient=False),
        ]
    ),
)
def nextafter(input: Tensor_, other: Tensor_):
    """The number of the dtype that follows `input` in the direction of `other`. The gradient goes to `input` where the two
    differ.

    Raises RuntimeError for integers and floats of less than 32 bits."""
    return ops.nextafter(*promoted_floats("nextafter", input, other))
