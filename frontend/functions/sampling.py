"""Maps read where a grid says: `grid_sample`, and grids of affine maps: `affine_grid`.

In: [N, C, spatial...] of two or three spatial dimensions, and places [N, *size, 2 or 3] from -1 to 1, x first. Out: [N, C, *size].
A result reads its neighbours by one gather each, at positions that its kernel computes, and sums them times weights. Jaderberg
and others, "Spatial transformer networks" (2015). Next: `columns.py`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from itertools import product
from typing import Any

from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_, float32, float64, int64
from flambeau.function import Sizes, Static, Tensor_, function
from flambeau.functions.common import check_floating, ops, part
from flambeau.functions.resample import cubic_weights
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data

_MODES = ("bilinear", "nearest", "bicubic")
_MARGINS = ("zeros", "border", "reflection")


# ---- grid_sample --------------------------------------------------------------------------------------------


class _Plane:
    """The map as [N, C, elements], and what lies around it."""

    def __init__(self, x: Value, margins: str, is_aligned: bool) -> None:
        self.extents, self.margins, self.is_aligned = x.shape[2:], margins, is_aligned
        self.flat = ops.reshape(x, shape=(*x.shape[:2], math.prod(self.extents)))

    def scaled(self, place: Value, n: Any) -> Value:
        """-1 to 1 as positions of n elements. Kernels take NaN for -1."""
        place = ops.select(place.ne(place), place.like(-1), place)
        if self.is_aligned:
            return (place + 1.0) * 0.5 * place.like(n - 1)
        return ((place + 1.0) * place.like(n) - 1.0) * 0.5

    def moved(self, at: Value, n: Any) -> Value:
        """Positions outside of n elements, moved to where margins repeat the map; no gradient beyond the edges of "border"."""
        if self.margins == "zeros":
            return at
        if self.margins == "reflection":
            at = self._mirrored(at, n)
        low, high = at <= 0, at >= at.like(n - 1)
        return ops.select(low, at.like(0), ops.select(high, at.like(n - 1), at))

    def _mirrored(self, at: Value, n: Any) -> Value:
        low, span = (0.0, n - 1) if self.is_aligned else (-0.5, n)
        if span == 0:
            return at * 0.0
        wide = at.like(span)
        distance = ops.abs(at - low)
        flips = ops.stop_gradient(ops.floor(distance / wide))
        rest = distance - flips * wide
        is_even = (flips - ops.floor(flips * 0.5) * 2.0).eq(0)
        return ops.select(is_even, rest, wide - rest) + low

    def read(self, places: Sequence[Value]) -> Value:
        """[N, C, P]: the elements at whole positions [N, P] along each dimension; 0 outside of the map."""
        index: Value | None = None
        inside: Value | None = None
        for at, n in zip(places, self.extents):
            held = ops.and_(at >= 0, at <= at.like(n - 1))
            inside = held if inside is None else ops.and_(inside, held)
            at = ops.minimum(ops.maximum(at, at.like(0)), at.like(n - 1)).cast(int64)
            index = at if index is None else index * index.like(n) + at
        assert index is not None and inside is not None
        found = ops.gather(self.flat, self.spread(index), axis=2)
        return ops.select(self.spread(inside), found, found.like(0))

    def spread(self, x: Value) -> Value:
        """[N, P] for every channel."""
        n, p = x.shape
        return ops.reshape(x, shape=(n, 1, p)).expand((n, self.flat.shape[1], p))


def _nearest(plane: _Plane, places: list[Value]) -> Value:
    found = plane.read([ops.stop_gradient(ops.round(p)) for p in places])
    nowhere = found.builder.constant(False, bool_, found.shape)
    for p in places:  # places have the gradient 0, not none
        found = ops.select(nowhere, plane.spread(p), found)
    return found


def _linear(plane: _Plane, places: list[Value]) -> Value:
    low = [ops.stop_gradient(ops.floor(p)) for p in places]
    shares = [(1.0 - (p - k), p - k) for p, k in zip(places, low)]
    total = None
    for corner in product((0, 1), repeat=len(places)):
        weight = shares[0][corner[0]]
        for s, c in zip(shares[1:], corner[1:]):
            weight = weight * s[c]
        term = plane.read([k + float(c) for k, c in zip(low, corner)]) * plane.spread(weight)
        total = term if total is None else total + term
    assert total is not None
    return total


def _cubic(plane: _Plane, places: list[Value]) -> Value:
    low = [ops.stop_gradient(ops.floor(p)) for p in places]
    down, across = (cubic_weights(p - k) for p, k in zip(places, low))
    ats = [[plane.moved(k + float(t - 1), n) for t in range(4)] for k, n in zip(low, plane.extents)]
    total = None
    for y, weight in zip(ats[0], down):
        row = None
        for x, w in zip(ats[1], across):
            term = plane.read([y, x]) * plane.spread(w)
            row = term if row is None else row + term
        assert row is not None
        row = row * plane.spread(weight)
        total = row if total is None else total + row
    assert total is not None
    return total


@function(name="grid_sample", fallible=True)
def _sampled(input: Tensor_, grid: Tensor_, mode: Static, padding_mode: Static, align_corners: Static):
    check_floating("grid_sample", input)
    n = len(input.shape) - 2
    if grid.dtype is not input.dtype:
        raise RuntimeError(f"[grid_sample] input is {input.dtype}, grid {grid.dtype}. Convert one with .to().")
    if n not in (2, 3) or len(grid.shape) != n + 2 or grid.shape[-1] != n or grid.shape[0] != input.shape[0]:
        raise RuntimeError(
            f"[grid_sample] input has shape {input.shape}, grid {grid.shape}. Pass [N, C, H, W] and [N, h, w, 2], or "
            "[N, C, D, H, W] and [N, d, h, w, 3]."
        )
    if any(k < 1 for k in input.shape[1:]):
        raise RuntimeError(f"[grid_sample] input of shape {input.shape} is empty. Only the batch may be empty.")
    if mode == "bicubic" and n != 2:
        raise RuntimeError("[grid_sample] mode 'bicubic' takes [N, C, H, W] only. Use 'bilinear'.")
    real = float64 if input.dtype is float64 else float32
    plane = _Plane(input.cast(real), padding_mode, align_corners)
    size = grid.shape[1:-1]
    flat = ops.reshape(grid.cast(real), shape=(grid.shape[0], math.prod(size), n))
    axes = [ops.reshape(part(flat, 2, n - 1 - k, 1), shape=flat.shape[:2]) for k in range(n)]
    places = [plane.scaled(p, extent) for p, extent in zip(axes, plane.extents)]
    if mode == "bicubic":
        found = _cubic(plane, places)
    else:
        places = [plane.moved(p, extent) for p, extent in zip(places, plane.extents)]
        found = (_nearest if mode == "nearest" else _linear)(plane, places)
    return ops.reshape(found, shape=(*input.shape[:2], *size)).cast(input.dtype)


def _aligned(op: str, align_corners: bool | None) -> bool:
    if align_corners is None:
        warnings.warn(
            f"[{op}] align_corners is left out, which means False. Say which, so that -1 and 1 are where you want them.",
            stacklevel=4,
        )
    return bool(align_corners)


@declared(
    free="nn.functional",
    samples=calls(
        lambda: [
            *(
                call(data(1, 2, 3, 4), data(1, 2, 3, 2, low=-1.3, high=1.3), padding_mode=p, align_corners=a)
                for p in _MARGINS
                for a in (False, True)
            ),
            call(data(1, 1, 3, 4), data(1, 2, 3, 2, low=-1.3, high=1.3), "nearest", align_corners=False),
            call(data(2, 1, 4, 3), data(2, 2, 1, 2, low=-1.2, high=1.2), "bicubic", "zeros", True),
            call(data(1, 1, 4, 3), data(1, 2, 1, 2, low=-1.2, high=1.2), "bicubic", "reflection", False),
            call(data(1, 1, 2, 3, 2), data(1, 2, 1, 2, 3, low=-1.2, high=1.2), "bilinear", "border", False),
            call(data(1, 1, 2, 2), data(1, 2, 2, 3), error=(RuntimeError, "grid (1, 2, 2, 3)")),
            call(data(1, 1, 2, 2), data(1, 2, 2, 2), "cubic", error=(ValueError, "mode is 'cubic'")),
        ]
    ),
)
def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """`input` [N, C, H, W] read at `grid` [N, h, w, 2]: (x, y) from -1 to 1; or [N, C, D, H, W] at [N, d, h, w, 3].

    -1 and 1 are the middles of the outermost elements with `align_corners`, their outer edges without. `mode`: "bilinear",
    "nearest" (whose grid has gradient 0) or "bicubic" (of [N, C, H, W]). Outside lies what `padding_mode` says: "zeros", "border"
    (the elements at the edge) or "reflection". NaN counts as -1.

    Raises ValueError for other words, RuntimeError for shapes and dtypes that do not fit.
    """
    for name, given, words in (("mode", mode, _MODES), ("padding_mode", padding_mode, _MARGINS)):
        if given not in words:
            raise ValueError(f"[grid_sample] {name} is {given!r}. Use one of {', '.join(map(repr, words))}.")
    return _sampled(input, grid, mode, padding_mode, _aligned("grid_sample", align_corners))


# ---- affine_grid --------------------------------------------------------------------------------------------


@function(name="affine_grid")
def _affine(theta: Tensor_, size: Sizes, align_corners: Static):
    n, count = len(size), theta.shape[0]
    shape = (count, *size)
    real = float64 if theta.dtype is float64 else float32
    axes = []
    for k, m in enumerate(size):
        step = ops.iota(shape=(m,), dim=0, dtype=real, builder=theta.builder) * 2.0
        place = (step - step.like(m - 1)) / step.like(m - 1 if align_corners and m != 1 else m)
        unit = tuple(m if d == k + 1 else 1 for d in range(n + 1))
        axes.append(ops.reshape(place, shape=unit).expand(shape))
    rows = []
    for r in range(n):
        numbers = [part(part(theta.cast(real), 1, r, 1), 2, c, 1) for c in range(n + 1)]
        spread = [ops.reshape(v, shape=(count, *(1,) * n)).expand(shape) for v in numbers]
        total = axes[n - 1] * spread[0]  # x first: along the last dimension
        for c in range(1, n):
            total = total + axes[n - 1 - c] * spread[c]
        rows.append(ops.reshape(total + spread[n], shape=(*shape, 1)))
    return ops.concat(*rows, dim=n + 1).cast(theta.dtype)


@declared(
    free="nn.functional",
    samples=calls(
        lambda: [
            call(data(2, 2, 3), (2, 1, 3, 4), align_corners=False),
            call(data(1, 2, 3), (1, 1, 1, 3), True),
            call(data(1, 3, 4), [1, 1, 2, 3, 2], align_corners=True),
            call(data(1, 2, 3), (1, 1, 2), align_corners=True, error=(NotImplementedError, "size (1, 1, 2)")),
            call(data(1, 3, 3), (1, 1, 2, 2), align_corners=True, error=(ValueError, "theta has shape (1, 3, 3)")),
        ]
    ),
)
def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The grid for `grid_sample` that takes every place to what `theta` [N, 2, 3] makes of it: [N, H, W, 2] for a `size` of
    (N, C, H, W); [N, D, H, W, 3] of [N, 3, 4] for one of (N, C, D, H, W). `align_corners` as there.

    Raises ValueError for matrices and sizes that do not fit, NotImplementedError for other numbers of sizes.
    """
    if not theta.dtype.is_floating_point:
        raise ValueError(f"[affine_grid] theta has dtype {theta.dtype}. Pass floating-point numbers.")
    given: tuple[Any, ...] = tuple(size)
    if len(given) not in (4, 5):
        raise NotImplementedError(f"[affine_grid] size {given} has {len(given)} numbers. Pass 4 or 5.")
    n = len(given) - 2
    if tuple(theta.shape) != (given[0], n, n + 1):
        raise ValueError(
            f"[affine_grid] theta has shape {tuple(theta.shape)} for size {given}. Pass [{given[0]}, {n}, {n + 1}]."
        )
    if min(given) <= 0:
        raise ValueError(f"[affine_grid] size {given} has a number below 1. Use at least 1.")
    return _affine(theta, given[2:], _aligned("affine_grid", align_corners))
