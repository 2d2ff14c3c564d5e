"""Neighbours along a dim: diff, gradient, trapezoid, cumulative_trapezoid.

In: samples of a function along a dim, and where they were taken. Out: differences, slopes and areas. Next: `scan.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_
from flambeau.function import Operand, Optional_, Static, Tensor_, function
from flambeau.functions.assemble import joined
from flambeau.functions.common import broadcast_shapes, canonical_dim, floating, ops, part, promoted
from flambeau.functions.reduce import reduced
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, index


def _steps(x: Value, axis: int) -> Value:
    """Each element less the one before it; of bools whether they differ."""
    n = x.shape[axis]
    after, before = part(x, axis, 1, n - 1), part(x, axis, 0, n - 1)
    return after.ne(before) if x.dtype is bool_ else after - before


@function(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(7)),
            call(data(3, 5), 2),
            call(data(3, 5), 1, 0),
            call(data(3, 5), 9),
            call(data(3, 5), 0),
            call(data(3, 5), 1, -1, data(3, 1), data(3, 2)),
            call(data(0, 3), 1, 0, gradient=False),
            call(data(), error=(RuntimeError, "has no dimension")),
            call(data(3), -1, error=(RuntimeError, "n is -1")),
        ]
    ),
)
def diff(input: Tensor_, n: Static = 1, dim: Static = -1, prepend: Optional_ = None, append: Optional_ = None):
    """Differences of neighbours along `dim`, taken `n` times, after `prepend` and `append` were joined to the ends. Of bools:
    whether they differ. Raises RuntimeError for 0-d tensors, negative `n`, and for what cannot be joined."""
    if not input.shape:
        raise RuntimeError("[diff] a 0-d tensor has no dimension to go along. Give it one first.")
    if n < 0:
        raise RuntimeError(f"[diff] n is {n}. Use at least 0.")
    axis = canonical_dim("diff", dim, len(input.shape))
    ends = [v for v in (prepend, input, append) if v is not None]
    if any(len(v.shape) != len(input.shape) for v in ends):
        raise RuntimeError(
            f"[diff] input has {len(input.shape)} dimensions, and an end has another number. Give each as many."
        )
    x = joined("diff", ends, axis) if len(ends) > 1 and n else input
    if x.shape[axis] <= n:
        return part(x, axis, 0, 0) if n else x
    for _ in range(n):
        x = _steps(x, axis)
    return x


# ---- slopes -----------------------------------------------------------------------------------------------


def _checked(x: Value, axis: int, order: int) -> Value:
    if order not in (1, 2):
        raise RuntimeError(f"[gradient] edge_order is {order}. Use 1 or 2.")
    if x.shape[axis] < order + 1:
        raise RuntimeError(
            f"[gradient] dimension {axis} of shape {x.shape} has {x.shape[axis]} elements. It takes at least {order + 1}."
        )
    return floating(x)


@function(name="gradient")
def _even_slope(input: Tensor_, step: Operand, dim: Static, order: Static):
    """By central differences of elements one `step` apart; at the ends by 2 or 3 elements."""
    x = _checked(input, dim, order)
    n, step = x.shape[dim], step.cast(x.dtype)
    inner = (part(x, dim, 2, n - 2) - part(x, dim, 0, n - 2)) / 2.0

    def edge(places: tuple[int, int, int], sign: float) -> Value:
        a, b, c = (part(x, dim, p, 1) if p is not None else None for p in places)
        return (b - a) * sign if c is None else (b * 2.0 - a * 1.5 - c * 0.5) * sign

    first = edge((0, 1, 2 if order == 2 else None), 1.0)  # type: ignore[arg-type]
    last = edge((n - 1, n - 2, n - 3 if order == 2 else None), -1.0)  # type: ignore[arg-type]
    found = ops.concat(first, inner, last, dim=dim)
    return found / step.expand(found.shape)


@function(name="gradient")
def _slope_at(input: Tensor_, places: Tensor_, dim: Static, order: Static):
    """By differences of elements at `places`, weighted so that parabolas are exact (Fornberg, 1988)."""
    x = _checked(input, dim, order)
    n = x.shape[dim]
    if places.shape != (n,):
        raise RuntimeError(f"[gradient] coordinates have shape {places.shape}. Give a vector of {n}, one each.")
    shape = tuple(n if d == dim else 1 for d in range(len(x.shape)))
    wide = ops.reshape(places.cast(x.dtype), shape=shape).expand(x.shape)
    steps, rises = _steps(wide, dim), _steps(x, dim)
    slopes = rises / steps
    left, right = part(slopes, dim, 0, n - 2), part(slopes, dim, 1, n - 2)
    before, after = part(steps, dim, 0, n - 2), part(steps, dim, 1, n - 2)
    inner = (left * after + right * before) / (before + after)
    if order == 1:
        return ops.concat(part(slopes, dim, 0, 1), inner, part(slopes, dim, n - 2, 1), dim=dim)

    def edge(near: int, far: int) -> Value:
        slope, next_ = part(slopes, dim, near, 1), part(slopes, dim, far, 1)
        step, other = part(steps, dim, near, 1), part(steps, dim, far, 1)
        return slope + (slope - next_) * step / (step + other)

    return ops.concat(edge(0, 1), inner, edge(n - 2, n - 3), dim=dim)


def _spacings(spacing: Any, dims: tuple[int, ...], all_dims: bool) -> list[Any]:
    """One for each dim: a number, or a vector of coordinates."""
    if spacing is None:
        return [1.0] * len(dims)
    if not isinstance(spacing, tuple | list):
        return [spacing] * len(dims)
    if len(spacing) != len(dims):
        why = "the tensor has" if all_dims else "dim names"
        raise RuntimeError(
            f"[gradient] spacing has {len(spacing)} entries, {why} {len(dims)} dimensions. Give as many."
        )
    return list(spacing)


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call(data(5)),
            call(data(3, 4), spacing=2.0),
            call(data(3, 4), spacing=(0.5, 2.0), edge_order=2),
            call(data(3, 4), dim=1),
            call(data(3, 4), spacing=[np.array([0.0, 1.0, 3.0]), np.array([0.0, 0.5, 2.0, 2.5])], edge_order=2),
            call(data(3, 4), spacing=(np.array([0.0, 1.0, 3.0]),), dim=0),
            call(data(1, 4), error=(RuntimeError, "It takes at least 2")),
            call(data(4), edge_order=3, error=(RuntimeError, "Use 1 or 2")),
            call(data(3, 4), spacing=(1.0,), error=(RuntimeError, "Give as many")),
        ]
    ),
)
def gradient(input: Tensor, *, spacing: Any = None, dim: Any = None, edge_order: int = 1) -> tuple[Tensor, ...]:
    """The slopes of a function that was sampled on a grid, along each of `dim` (an int, several, or None for all).

    `spacing` is the distance of neighbours: a number, one for each dim, or vectors of coordinates. Inside by central differences;
    at the ends by differences of order `edge_order`, 1 or 2. Raises RuntimeError for fewer than `edge_order + 1` samples.
    """
    given = range(input.ndim) if dim is None else dim if isinstance(dim, tuple | list) else (dim,)
    dims = tuple(canonical_dim("gradient", d, input.ndim) for d in given)
    if len(set(dims)) < len(dims):
        raise RuntimeError(f"[gradient] dim {dim} names a dimension twice. Name each once.")
    return tuple(
        _slope_at(input, s, d, edge_order) if isinstance(s, Tensor) and s.ndim else _even_slope(input, s, d, edge_order)
        for d, s in zip(dims, _spacings(spacing, dims, dim is None), strict=True)
    )


# ---- areas ------------------------------------------------------------------------------------------------


def _areas(op: str, y: Value, x: Value | None, dx: Value, dim: Any) -> tuple[Value, int]:
    """Twice the areas between neighbours along an axis, and which that is."""
    for what, v in (("y", y), ("x", x)):
        if v is not None and v.dtype is bool_:
            raise RuntimeError(f"[{op}] {what} are bools. Convert them with .float().")
    axis = canonical_dim(op, dim, len(y.shape))
    if not y.shape:
        raise IndexError(f"[{op}] a 0-d tensor has no dimension {dim}. Give it one first.")
    n = y.shape[axis]
    if n == 0:
        return floating(y), axis
    if x is None:
        both = part(y, axis, 1, n - 1) + part(y, axis, 0, n - 1)
        left, right = promoted(op, floating(both), dx)
        return left * right, axis
    if len(x.shape) == 1:
        x = ops.reshape(x, shape=tuple(x.shape[0] if d == axis else 1 for d in range(len(y.shape))))
    elif len(x.shape) < len(y.shape):
        x = ops.reshape(x, shape=(1,) * (len(y.shape) - len(x.shape)) + x.shape)
    along = axis - len(y.shape)
    if x.shape[along] != n and n != 1:
        raise RuntimeError(f"[{op}] x has {x.shape[along]} elements along dim {dim}, y {n}. Give one for each.")
    wide = broadcast_shapes(op, x.shape, y.shape)
    x, y, axis = x.expand(wide), y.expand(wide), along + len(wide)
    left, right = promoted(op, part(y, axis, 1, n - 1) + part(y, axis, 0, n - 1), _steps(x, axis))
    return floating(left) * floating(right), axis


_SAMPLES = calls(
    lambda: [
        call(data(5)),
        call(data(3, 4), dx=0.5, dim=0),
        call(data(3, 4), data(4)),
        call(data(3, 4), data(3, 4), dim=0),
        call(data(2, 3, 4), data(3, 4), dim=1),
        call(index(5, 4)),
        call(data(3, 1)),
        call(data(3, 4), data(3), error=(RuntimeError, "Give one for each")),
        call(data(), error=(IndexError, "0-d tensor")),
    ]
)


def _one_of(op: str, x: Any, dx: Any) -> Any:
    if x is not None and dx != 1:
        raise TypeError(f"[{op}] x and dx both say how far apart the samples are. Give one.")
    return dx


@function(name="trapezoid")
def _trapezoid(y: Tensor_, x: Optional_, dx: Operand, dim: Static):
    twice, axis = _areas("trapezoid", y, x, dx, dim)
    return reduced("sum", twice, (axis,), False) / 2.0


@declared(
    free="flambeau",
    aliases="trapz",
    samples=_SAMPLES + calls(lambda: [call(data(0, 3), dim=0, gradient=False)]),
    recalled="types",
)
def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = 1, dim: int = -1) -> Tensor:
    """The integral of samples along `dim` by the trapezoidal rule: taken at `x`, which broadcasts, or `dx` (1) apart.

    Raises RuntimeError for bools and for another number of x than of samples.
    """
    return _trapezoid(y, x, _one_of("trapezoid", x, dx), dim)


@function(name="cumulative_trapezoid")
def _cumulative(y: Tensor_, x: Optional_, dx: Operand, dim: Static):
    twice, axis = _areas("cumulative_trapezoid", y, x, dx, dim)
    return ops.cumsum(twice / 2.0, axis=axis, reverse=False)


@declared(free="flambeau", samples=_SAMPLES, recalled="types")
def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = 1, dim: int = -1) -> Tensor:
    """The integrals from the first sample to each other one along `dim`, of which there is one less. See `trapezoid`."""
    return _cumulative(y, x, _one_of("cumulative_trapezoid", x, dx), dim)
