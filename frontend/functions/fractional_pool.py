"""Fractional max pooling: windows of one size whose steps are drawn, over two and three dimensions.

In: [channels, spatial...] or [batch, channels, spatial...]. Out: the largest element of each window. Graham (2015).
Where windows begin is a value of the program, so a call reads them by index. Next: `average_pool.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import float32, float64, int64
from flambeau.function import Sizes, Static, Tensor_, function
from flambeau.functions.common import check_floating, numbers, ops, part
from flambeau.functions.pool import Numbers, check_planes
from flambeau.functions.random import rand
from flambeau.runtime.recorder import Tensor
from flambeau.samples import Samples, call, calls, data

Ratio = float | Sequence[float]


def _begins(sample: Value, extent: Any, count: Any, size: int) -> Value:
    """[N, C, count]: where windows begin along an axis, for one number from 0 to 1 per channel. The last one ends the input."""
    n, c = sample.shape
    shape = (n, c, count)
    last = sample.builder.constant(extent - size, int64, shape)
    if count == 1:
        return last
    step = (sample.like(extent - size) / sample.like(count - 1)).cast(sample.dtype)
    spread = lambda x: ops.reshape(x, shape=(n, c, 1)).expand(shape)  # noqa: E731
    place = ops.iota(shape=shape, dim=2, dtype=sample.dtype, builder=sample.builder)
    found = ops.floor((place + spread(sample)) * spread(step)) - spread(ops.floor(sample * step))
    return ops.select(place < place.like(count - 1), found.cast(int64), last)


def _check(op: str, input: Any, kernel: Sequence[Any], shape: Sequence[Any]) -> None:
    """Raise unless so many windows of this size fit into the input, a tensor or a value."""
    check_floating(op, input)
    rank = len(kernel)
    check_planes(op, input, rank)
    for extent, size, count in zip(input.shape[len(input.shape) - rank :], kernel, shape, strict=True):
        if count < 1 or size + count - 1 > extent:
            raise RuntimeError(
                f"[{op}] {count} windows of {size} elements do not fit into {extent}. Use a smaller output or kernel_size."
            )


def _rule(input: Tensor_, samples: Tensor_, kernel: Static, shape: Sizes, op: Static):
    _check(op, input, kernel, shape)
    rank = len(kernel)
    extents = input.shape[len(input.shape) - rank :]
    lead = input.shape[: len(input.shape) - rank]
    n, c = lead if len(lead) == 2 else (1, *lead)
    if samples.shape != (n, c, rank):
        raise RuntimeError(f"[{op}] _random_samples have shape {samples.shape}. Pass {(n, c, rank)}.")
    # The numbers go with dimensions in PyTorch's order: depth, height, width of three; width, height of two.
    order = (1, 0) if rank == 2 else (0, 1, 2)
    full = (n, c, *shape, *kernel)
    at: Value | None = None
    for k in range(rank):
        sample = ops.reshape(part(samples, 2, order[k], 1), shape=(n, c))
        begins = _begins(sample, extents[k], shape[k], kernel[k])
        unit = (n, c, *(shape[k] if j == k else 1 for j in range(rank)), *(1,) * rank)
        inner = ops.iota(shape=full, dim=2 + rank + k, dtype=int64, builder=input.builder)
        place = ops.reshape(begins, shape=unit).expand(full) + inner
        at = place if at is None else at * at.like(extents[k]) + place
    assert at is not None
    windows, size = math.prod(shape), math.prod(kernel)
    flat = ops.reshape(input, shape=(n, c, math.prod(extents)))
    at = ops.reshape(at, shape=(n, c, windows * size))
    read = ops.reshape(ops.gather(ops.stop_gradient(flat), at, axis=2), shape=(n, c, windows, size))
    best = ops.reshape(ops.argmax(read, axes=(3,)), shape=(n, c, windows))
    place = ops.iota(shape=(n, c, windows), dim=2, dtype=int64, builder=input.builder)
    indices = ops.gather(at, place * size + best, axis=2)
    found = ops.gather(flat, indices, axis=2)
    result = (*lead, *shape)
    return ops.reshape(found, shape=result), ops.reshape(indices, shape=result)


_pooled = {n: function(name=f"fractional_max_pool{n}d", fallible=True)(_rule) for n in (2, 3)}


def _both(rank: int, input: Tensor, kernel_size: Any, size: Any, ratio: Any, samples: Tensor | None) -> Any:
    op = f"fractional_max_pool{rank}d"
    if size is None and ratio is None:
        raise ValueError(f"[{op}] neither output_size nor output_ratio is given. Give one of them.")
    kernel = numbers(op, "kernel_size", kernel_size, rank, 1)
    if input.ndim not in (rank + 1, rank + 2):
        raise RuntimeError(
            f"[{op}] input has shape {tuple(input.shape)}. Pass [(batch,) channels, {rank} spatial dims]."
        )
    if size is None:
        ratios = ratio if isinstance(ratio, tuple | list) else (ratio,) * rank
        if len(ratios) != rank:
            raise ValueError(f"[{op}] output_ratio is {tuple(ratios)}. Give one number, or {rank}.")
        size = tuple(int(n * r) for n, r in zip(input.shape[-rank:], ratios, strict=True))
    shape = numbers(op, "output_size", size, rank)
    if samples is None:
        _check(op, input, kernel, shape)  # before anything is drawn
        batch = input.shape[0] if input.ndim == rank + 2 else 1
        dtype = float64 if input.dtype is float64 else float32
        samples = rand(batch, input.shape[-rank - 1], rank, dtype=dtype, device=input.device)
    return _pooled[rank](input, samples, kernel, shape, op)


def _samples(rank: int) -> Samples:
    extents = ((1, 5, 6), (1, 4, 3, 5))[rank - 2]
    drawn = data(1, 1, rank, low=0.1, high=0.9)
    return calls(
        lambda: [
            call(data(*extents), 2, 2, _random_samples=drawn, gradient=False),
            call(data(2, *extents), 2, output_ratio=0.5, gradient=False),
            call(data(*extents), 2, error=(ValueError, "neither output_size nor output_ratio")),
            call(data(*extents), 3, 9, error=(RuntimeError, "9 windows of 3 elements do not fit")),
        ]
    )


@declared(free="nn.functional", samples=_samples(2))
def fractional_max_pool2d_with_indices(
    input: Tensor,
    kernel_size: Numbers,
    output_size: Numbers | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`fractional_max_pool2d`, always with the indices."""
    return _both(2, input, kernel_size, output_size, output_ratio, _random_samples)


@declared(free="nn.functional", samples=_samples(3))
def fractional_max_pool3d_with_indices(
    input: Tensor,
    kernel_size: Numbers,
    output_size: Numbers | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`fractional_max_pool3d`, always with the indices."""
    return _both(3, input, kernel_size, output_size, output_ratio, _random_samples)


@declared(free="nn.functional", samples=_samples(2))
def fractional_max_pool2d(
    input: Tensor,
    kernel_size: Numbers,
    output_size: Numbers | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """The largest element of each of `output_size` (or `output_ratio` times the input's size) windows of `kernel_size` elements of
    [(batch,) channels, height, width]. How far apart windows are varies, by two numbers from 0 to 1 for each channel, drawn
    unless given as `_random_samples` [batch, channels, 2]. With `return_indices` also where, counted row by row.

    Raises ValueError for neither size nor ratio, RuntimeError for shapes and windows that do not fit.
    """
    found = _both(2, input, kernel_size, output_size, output_ratio, _random_samples)
    return found if return_indices else found[0]


@declared(free="nn.functional", samples=_samples(3))
def fractional_max_pool3d(
    input: Tensor,
    kernel_size: Numbers,
    output_size: Numbers | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """`fractional_max_pool2d` of [(batch,) channels, depth, height, width], by three numbers for each channel."""
    found = _both(3, input, kernel_size, output_size, output_ratio, _random_samples)
    return found if return_indices else found[0]
