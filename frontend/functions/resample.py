"""Maps at another size: `interpolate` and the older names of it.

In: [batch, channels, spatial...] of one to three spatial dimensions, and the sizes or factors wanted. Out: the map at these sizes.
Every mode goes axis by axis. Nearest elements are views wherever the factor is whole: repeated rows, or strided slices. All else
reads each result's few neighbours by positions that the kernel counts itself (iota, scaled), times weights counted likewise: that
fuses with whatever is around it, costs a few operations per element whatever the sizes, and makes one program for all of them. A
product by a matrix of weights would have the simpler gradient, but costs as much per element as the axis is long, and spreads an
infinity over it. Next: `sampling.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import DType, float32, float64, int64
from flambeau.dialects.size import Size
from flambeau.function import Sizes, Static, Tensor_, function
from flambeau.functions.common import check_floating, ops


def along(x: Value, vector: Value, axis: int) -> Value:
    """A vector along an axis, repeated over the other dimensions of `x`."""
    n, rank = vector.shape[0], len(x.shape)
    unit = tuple(n if d == axis else 1 for d in range(rank))
    return ops.reshape(vector, shape=unit).expand(tuple(n if d == axis else k for d, k in enumerate(x.shape)))


def _read(x: Value, at: Value, axis: int) -> Value:
    """The elements at positions `at`, a vector that is never outside, along an axis."""
    return ops.gather(x, along(x, at, axis), axis=axis)


class _ResampledAxis:
    """One axis of n elements that becomes one of m: `ratio` is how many of the n a step is, in `dtype` as PyTorch has it."""

    def __init__(self, x: Value, axis: int, m: Any, factor: float | None, is_aligned: bool, dtype: DType) -> None:
        self.n, self.m, self.axis, self.builder, self.dtype = x.shape[axis], m, axis, x.builder, dtype
        self.factor, self.is_aligned = factor, is_aligned
        self.ratio = self._ratio()

    def number(self, value: Any) -> Value:
        return self.builder.constant(value, self.dtype)

    def _ratio(self) -> Value:
        if self.is_aligned:
            return self.number(self.n - 1) / self.number(self.m - 1) if self.m > 1 else self.number(0)
        if self.factor is not None:
            return self.number(1.0 / self.factor)
        return self.number(self.n) / self.number(self.m)

    def step(self) -> float:
        """`ratio` as a number; makes a program for these sizes."""
        n, m = int(self.n), int(self.m)
        if self.is_aligned:
            return (n - 1) / (m - 1) if m > 1 else 0.0
        return n / m if self.factor is None else 1.0 / self.factor

    def count(self) -> Value:
        """0 to m - 1, as numbers."""
        return ops.iota(shape=(self.m,), dim=0, dtype=self.dtype, builder=self.builder)

    def source(self) -> Value:
        """Where each result lies among the n elements."""
        ratio = self.ratio.expand((self.m,))
        return self.count() * ratio if self.is_aligned else (self.count() + 0.5) * ratio - 0.5

    def clipped(self, at: Value) -> Value:
        return ops.minimum(ops.maximum(at, at.like(0)), at.like(self.n - 1))

    def is_kept(self) -> bool:
        return self.factor is None and self.n == self.m


# ---- nearest ------------------------------------------------------------------------------------------------


def _repeats(axis: _ResampledAxis, shift: float) -> int:
    """How often every element comes, where that is the same for all of them in arithmetic of the dtype too; or 0."""
    if isinstance(axis.n, Size) or isinstance(axis.m, Size) or axis.m % axis.n:
        return 0
    times, real = axis.m // axis.n, axis.dtype.numpy.type
    ratio = real(1.0 / axis.factor) if axis.factor is not None else real(axis.n) / real(axis.m)
    found = np.floor((np.arange(axis.m).astype(real) + real(shift)) * ratio)
    return times if np.array_equal(found, np.arange(axis.m) // times) else 0


def _nearest(x: Value, axis: _ResampledAxis, shift: float) -> Value:
    """The element that each result lies on; `shift` is 0.5 where the middle of a result counts."""
    k, shape = axis.axis, x.shape
    if times := _repeats(axis, shift):
        split = (*shape[: k + 1], 1, *shape[k + 1 :])
        wide = ops.reshape(x, shape=split).expand((*shape[: k + 1], times, *shape[k + 1 :]))
        return ops.reshape(wide, shape=(*shape[:k], axis.m, *shape[k + 1 :]))
    if not isinstance(axis.n, Size) and not isinstance(axis.m, Size) and axis.n % axis.m == 0 and axis.factor is None:
        step = axis.n // axis.m
        starts = tuple(int(step * shift) if d == k else 0 for d in range(len(shape)))
        sizes, steps = (
            tuple(v if d == k else o for d, o in enumerate(other))
            for v, other in ((axis.m, shape), (step, (1,) * len(shape)))
        )
        return ops.slice(x, starts=starts, sizes=sizes, steps=steps)
    places = ops.floor((axis.count() + shift) * axis.ratio.expand((axis.m,))).cast(int64)
    return _read(x, axis.clipped(places), k)


# ---- linear and cubic -----------------------------------------------------------------------------------------


def _weighted(x: Value, axis: _ResampledAxis, taps: list[tuple[Value, Value]]) -> Value:
    """The sum of elements at positions times weights."""
    total = None
    for at, weight in taps:
        term = _read(x, axis.clipped(at), axis.axis)
        term = term * along(term, weight.cast(x.dtype), axis.axis)
        total = term if total is None else total + term
    assert total is not None
    return total


def _linear(x: Value, axis: _ResampledAxis) -> Value:
    if axis.n == axis.m:
        return x
    source = axis.source()
    source = ops.maximum(source, source.like(0))
    low = ops.minimum(ops.floor(source), source.like(axis.n - 1))
    share = ops.minimum(source - low, source.like(1))
    at = low.cast(int64)
    return _weighted(x, axis, [(at, 1.0 - share), (at + 1, share)])


def inner_cubic(t: Value, a: float) -> Value:
    """Keys' kernel up to a distance of 1."""
    return ((t * (a + 2)) - (a + 3)) * t * t + 1.0


def outer_cubic(t: Value, a: float) -> Value:
    """Keys' kernel at distances from 1 to 2. Keys, "Cubic convolution interpolation for digital image processing" (1981)."""
    return ((t * a - 5 * a) * t + 8 * a) * t - 4 * a


def cubic_weights(t: Value, a: float = -0.75) -> list[Value]:
    """The weights of the elements at -1, 0, 1 and 2 from the one below a place that is `t` above it."""
    rest = 1.0 - t
    return [outer_cubic(t + 1.0, a), inner_cubic(t, a), inner_cubic(rest, a), outer_cubic(rest + 1.0, a)]


def _cubic(x: Value, axis: _ResampledAxis) -> Value:
    if axis.is_kept():
        return x
    source = axis.source()
    low = ops.minimum(ops.floor(source), source.like(axis.n - 1))
    at, weights = low.cast(int64), cubic_weights(ops.minimum(source - low, source.like(1)))
    return _weighted(x, axis, [(at + (k - 1), w) for k, w in enumerate(weights)])


# ---- without aliasing -------------------------------------------------------------------------------------------


def _triangle(t: Value) -> Value:
    return ops.maximum(1.0 - t, t.like(0))


def _bell(t: Value) -> Value:
    return ops.select(t < 1.0, inner_cubic(t, -0.5), ops.select(t < 2.0, outer_cubic(t, -0.5), t.like(0)))


def _smoothed(x: Value, axis: _ResampledAxis, kernel: Callable[[Value], Value], reach: float) -> Value:
    """Kernels as wide as a step, which hold more elements the smaller the result is: one read of all of them, then a sum."""
    if axis.is_kept():
        return x
    n, m, k = int(axis.n), int(axis.m), axis.axis
    step = axis.step()
    wide = axis.number(max(step, 1.0) * reach)
    taps = math.ceil(max(step, 1.0) * reach) * 2 + 1
    center = (axis.count() + 0.5) * axis.ratio.expand((m,))
    # Positions are above 0 or cut to that, so that rounding down is what PyTorch's conversion to integers does.
    first = ops.maximum(ops.floor(center - wide.expand((m,)) + 0.5), center.like(0))
    end = ops.minimum(ops.floor(center + wide.expand((m,)) + 0.5), center.like(n))
    grid = lambda v: ops.reshape(v, shape=(m, 1)).expand((m, taps))  # noqa: E731
    places = grid(first) + ops.iota(shape=(m, taps), dim=1, dtype=axis.dtype, builder=axis.builder)
    weights = kernel(ops.abs((places - grid(center) + 0.5) * (1.0 / max(step, 1.0))))
    weights = ops.select(places < grid(end), weights, weights.like(0))
    total = ops.sum(weights, axes=(1,))
    weights = weights / grid(ops.select(total.eq(0), total.like(1), total))
    at = axis.clipped(places.cast(int64))
    read = _read(x, ops.reshape(at, shape=(m * taps,)), k)
    read = read * along(read, ops.reshape(weights, shape=(m * taps,)).cast(x.dtype), k)
    inside = along(read, ops.reshape(places < grid(end), shape=(m * taps,)), k)
    read = ops.select(
        inside, read, read.like(0)
    )  # what is not held is not multiplied by 0, which infinities would show
    return ops.sum(ops.reshape(read, shape=(*x.shape[:k], m, taps, *x.shape[k + 1 :])), axes=(k + 1,))


_LINEAR = ("linear", "bilinear", "trilinear")


def _along_axis(x: Value, axis: _ResampledAxis, mode: str, is_smooth: bool) -> Value:
    if mode in ("nearest", "nearest-exact"):
        return _nearest(x, axis, 0.5 if mode == "nearest-exact" else 0.0)
    if is_smooth:
        return _smoothed(x, axis, *((_triangle, 1.0) if mode in _LINEAR else (_bell, 2.0)))
    return _linear(x, axis) if mode in _LINEAR else _cubic(x, axis)


@function(name="interpolate", fallible=True)
def resized(input: Tensor_, size: Sizes, factors: Static, mode: Static, align_corners: Static, antialias: Static):
    """[N, C, *size] of [N, C, spatial...]; `factors` are those that the caller gave, which then say how far steps are."""
    n, dtype = len(size), input.dtype
    if any(k < 1 for k in (*input.shape[2:], *size)):
        raise RuntimeError(
            f"[interpolate] input has sizes {input.shape[2:]}, the result {tuple(size)}. Use sizes of at least 1."
        )
    exact = mode in ("nearest", "nearest-exact")
    if not exact:
        check_floating("interpolate", input)
    real = float64 if dtype is float64 else float32
    x = input if exact else input.cast(real)
    for k in reversed(range(n)):
        factor = None if factors is None else factors[k]
        x = _along_axis(
            x, _ResampledAxis(x, k + 2, size[k], factor, bool(align_corners) and not exact, real), mode, antialias
        )
    return x.cast(dtype)
