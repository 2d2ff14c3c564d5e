"""Adaptive pooling: as many windows as are asked for, which may overlap, over one to three dimensions.

In: [channels, spatial...] or [batch, channels, spatial...] and the spatial sizes of the result. Out: means, or largest elements.
Windows that divide the input evenly are those of `pool.py`, folded in the same order. Next: `windows.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_, int64
from flambeau.dialects.size import Size
from flambeau.function import Sizes, Static, Tensor_
from flambeau.functions.average_pool import divided
from flambeau.functions.common import check_floating, ops
from flambeau.functions.pool import check_planes, of_dimensions
from flambeau.runtime.recorder import Tensor
from flambeau.samples import Samples, call, calls, data

Target = int | None | Sequence[int | None]


def _extents(x: Value, n: int) -> tuple[Any, ...]:
    return x.shape[len(x.shape) - n :]


def _target(op: str, x: Value, n: int, given: Any) -> tuple[Any, ...]:
    """The sizes of the result; None keeps the input's. PyTorch looks at the sizes that are listed before all else, but in 1d."""
    if n > 1 and isinstance(given, tuple | list) and len(x.shape) <= len(given):
        raise ValueError(
            f"[{op}] output_size lists {len(given)} sizes, and input has shape {x.shape}. Pass [channels, {n} spatial dims] or "
            f"[batch, channels, {n} spatial dims]."
        )
    check_planes(op, x, n)
    numbers = tuple(given) if isinstance(given, tuple | list) else (given,) * n
    if len(numbers) != n:
        raise RuntimeError(f"[{op}] output_size {numbers} has {len(numbers)} numbers. Pass one, or {n}.")
    found = tuple(m if k is None else k for k, m in zip(numbers, _extents(x, n)))
    if any(k < 0 for k in found):
        raise RuntimeError(f"[{op}] output_size {numbers} has a negative number. Use at least 0.")
    return found


def _even(x: Value, target: tuple[Any, ...]) -> dict[str, Any] | None:
    """The windows where sizes are known and those of the result divide those of the input."""
    extents = _extents(x, len(target))
    if any(isinstance(k, Size) or k == 0 for k in (*extents, *target)) or any(n % m for n, m in zip(extents, target)):
        return None
    size = tuple(n // m for n, m in zip(extents, target))
    return {"shape": target, "size": size, "step": size, "low": (0,) * len(size), "dilation": (1,) * len(size)}


def _numbers(x: Value, target: tuple[Any, ...]) -> list[Value]:
    """How many elements the windows hold along each dimension."""
    found = []
    for n, m in zip(_extents(x, len(target)), target):
        o = ops.iota(shape=(m,), dim=0, dtype=int64, builder=x.builder)
        start, stop = ops.int_div(o * n, o.like(m)), ops.int_div((o + 1) * n + (m - 1), o.like(m))
        found.append(stop - start)
    return found


@of_dimensions("adaptive_avg_pool*d")
def _adaptive_avg_pool(input: Tensor_, output_size: Sizes, n: Static, op: Static):
    check_floating(op, input)
    target = _target(op, input, n, output_size)
    if all(m == 1 for m in target):
        axes, extents = tuple(range(len(input.shape) - n, len(input.shape))), _extents(input, n)
        total = ops.sum(input, axes=axes)
        return ops.reshape(total / total.like(math.prod(extents)), shape=(*total.shape, *target))
    if (windows := _even(input, target)) is not None:
        total = ops.pool_sum(input, **windows)
        return total / total.like(math.prod(windows["size"]))
    total = ops.adaptive_sum(input, shape=target)
    return divided(total, _numbers(input, target)) if 0 not in total.shape else total


def _adaptive_windows(x: Value, target: Any, n: int, op: str) -> tuple[str, dict[str, Any]]:
    if x.dtype is bool_:
        raise RuntimeError(f"[{op}] is not defined for bool tensors. Cast the input first.")
    found = _target(op, x, n, target)
    windows = _even(x, found)
    return ("adaptive", {"shape": found}) if windows is None else ("pool", windows)


@of_dimensions("adaptive_max_pool*d")
def _adaptive_max_pool(input: Tensor_, output_size: Sizes, n: Static, op: Static):
    kind, windows = _adaptive_windows(input, output_size, n, op)
    return getattr(ops, f"{kind}_max")(input, **windows)


@of_dimensions("adaptive_max_pool*d")
def _adaptive_max_pool_with_indices(input: Tensor_, output_size: Sizes, n: Static, op: Static):
    kind, windows = _adaptive_windows(input, output_size, n, op)
    at = getattr(ops, f"{kind}_argmax")(ops.stop_gradient(input), **windows)
    return ops.pick(input, at, rank=n), at


def _listed(target: Any) -> Any:
    return tuple(target) if isinstance(target, list) else target


def _largest(n: int, input: Tensor, target: Any, both: bool) -> Any:
    return (_adaptive_max_pool_with_indices if both else _adaptive_max_pool)[n](
        input, _listed(target), n, f"adaptive_max_pool{n}d"
    )


def _adaptive_samples(n: int, *more: Any) -> Samples:
    extents = ((2, 7), (1, 5, 6), (1, 4, 3, 5))[n - 1]
    return calls(
        lambda: [
            call(data(*extents), 3),
            call(data(*extents), 1),
            call(data(2, *extents), (2,) * n if n == 1 else (None, *(3,) * (n - 1))),
            *more,
            call(data(1, *extents), (2,) * (n + 1), error=(RuntimeError, f"has {n + 1} numbers")),
            *([call(data(2, 3), (2,) * n, error=(ValueError, f"lists {n} sizes"))] if n > 1 else []),
            call(data(3), 2, error=(RuntimeError, "input has shape (3,)")),
        ]
    )


def _largest_samples(n: int) -> Samples:
    return _adaptive_samples(n, call(data(*((2, 7), (1, 5, 6), (1, 4, 3, 5))[n - 1]), 2, return_indices=True))


@declared(free="flambeau nn.functional", samples=_adaptive_samples(1), recalled="operand")
def adaptive_avg_pool1d(input: Tensor, output_size: Target) -> Tensor:
    """The means of `output_size` windows of [(batch,) channels, length]: window o of m goes from floor(o length / m) to
    ceil((o + 1) length / m). None keeps a size. Raises RuntimeError for shapes that do not fit."""
    return _adaptive_avg_pool[1](input, _listed(output_size), 1, "adaptive_avg_pool1d")


@declared(free="nn.functional", samples=_adaptive_samples(2), recalled="operand")
def adaptive_avg_pool2d(input: Tensor, output_size: Target) -> Tensor:
    """`adaptive_avg_pool1d` over windows of [(batch,) channels, height, width]."""
    return _adaptive_avg_pool[2](input, _listed(output_size), 2, "adaptive_avg_pool2d")


@declared(free="nn.functional", samples=_adaptive_samples(3), recalled="operand")
def adaptive_avg_pool3d(input: Tensor, output_size: Target) -> Tensor:
    """`adaptive_avg_pool1d` over windows of [(batch,) channels, depth, height, width]."""
    return _adaptive_avg_pool[3](input, _listed(output_size), 3, "adaptive_avg_pool3d")


@declared(free="nn.functional", samples=_largest_samples(1), recalled="operand")
def adaptive_max_pool1d(input: Tensor, output_size: Target, return_indices: bool = False) -> Any:
    """The largest elements of the windows of `adaptive_avg_pool1d`; with `return_indices` also where they are."""
    return _largest(1, input, output_size, return_indices)


@declared(free="nn.functional", samples=_largest_samples(2), recalled="operand")
def adaptive_max_pool2d(input: Tensor, output_size: Target, return_indices: bool = False) -> Any:
    """`adaptive_max_pool1d` over windows of [(batch,) channels, height, width]; indices count row by row."""
    return _largest(2, input, output_size, return_indices)


@declared(free="nn.functional", samples=_largest_samples(3), recalled="operand")
def adaptive_max_pool3d(input: Tensor, output_size: Target, return_indices: bool = False) -> Any:
    """`adaptive_max_pool1d` over windows of [(batch,) channels, depth, height, width]; indices count row by row."""
    return _largest(3, input, output_size, return_indices)
