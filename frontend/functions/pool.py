"""Pooling: max_pool and max_unpool over one to three dimensions, and what all poolings share.

In: [channels, spatial...] or [batch, channels, spatial...]. Out: a result per window; windows reach into margins that hold nothing.
All of it is folds of the family `window` (`dialects/tape/window.py`). Next: `average_pool.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_, int64
from flambeau.dialects.size import Int
from flambeau.function import Sizes, Static, Tensor_, function
from flambeau.functions.common import numbers, ops
from flambeau.runtime.recorder import Function, Tensor
from flambeau.samples import Samples, call, calls, data, index

Numbers = int | Sequence[int]


def check_planes(op: str, x: Value, n: int) -> None:
    """Raise RuntimeError unless the input is [channels, spatial...] or [batch, channels, spatial...], none but the batch empty."""
    if len(x.shape) not in (n + 1, n + 2):
        raise RuntimeError(
            f"[{op}] input has shape {x.shape}. Pass [channels, {n} spatial dims] or [batch, channels, {n} spatial dims]."
        )
    if any(m == 0 for m in x.shape[len(x.shape) - n - 1 :]):
        raise RuntimeError(f"[{op}] input of shape {x.shape} has an empty dimension. Only the batch may be empty.")


def of_dimensions(name: str, fallible: bool = False) -> Callable[[Callable], dict[int, Function]]:
    """A rule as three functions, called `name` with a 1, 2 or 3 in the place of `*`."""
    return lambda rule: {n: function(name=name.replace("*", str(n)), fallible=fallible)(rule) for n in (1, 2, 3)}


class PoolWindows:
    """Where the windows of a call lie: how many along each dimension, and what the records say of them."""

    def __init__(self, op: str, x: Value, n: int, numbers: tuple[tuple[int, ...], ...], ceil_mode: bool) -> None:
        check_planes(op, x, n)
        self.kernel, self.stride, self.padding, self.dilation = numbers
        self.extents = x.shape[len(x.shape) - n :]
        for k, d, p in zip(self.kernel, self.dilation, self.padding):
            if not 0 <= p <= ((k - 1) * d + 1) // 2:
                raise RuntimeError(
                    f"[{op}] padding {p} for windows that reach over {(k - 1) * d + 1} elements. Use at most half of that."
                )
        self.counts = tuple(self._count(op, axis, ceil_mode) for axis in range(n))

    def _count(self, op: str, axis: int, ceil_mode: bool) -> Int:
        size, step, pad = self.kernel[axis], self.stride[axis], self.padding[axis]
        free = self.extents[axis] + 2 * pad - (size - 1) * self.dilation[axis] - 1
        count = (free + (step - 1 if ceil_mode else 0)) // step + 1
        if ceil_mode and (count - 1) * step >= self.extents[axis] + pad:
            count = count - 1  # the last window begins within the input or in front of it
        if count < 1:
            raise RuntimeError(
                f"[{op}] windows of {size} elements do not fit into dimension {axis} of the spatial ones, {self.extents}. "
                "Use a smaller kernel_size."
            )
        return count

    def named(self) -> dict[str, Any]:
        """The attributes of the records."""
        return {
            "shape": self.counts,
            "size": self.kernel,
            "step": self.stride,
            "low": self.padding,
            "dilation": self.dilation,
        }


# ---- max_pool -----------------------------------------------------------------------------------------------


def strides_of(kernel: tuple[int, ...], stride: Any, op: str) -> tuple[int, ...]:
    is_given = stride is not None and stride != () and stride != []
    return numbers(op, "stride", stride, len(kernel), 1) if is_given else kernel


def _pooled(
    n: int, x: Value, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any, both: Any
) -> Any:
    """With indices values are taken where these say, so the two agree, and the gradient goes there."""
    op = f"max_pool{n}d"
    kernel = numbers(op, "kernel_size", kernel_size, n, 1)
    given = (
        kernel,
        strides_of(kernel, stride, op),
        numbers(op, "padding", padding, n, 0),
        numbers(op, "dilation", dilation, n, 1),
    )
    if x.dtype is bool_:
        raise RuntimeError(f"[{op}] is not defined for bool tensors. Cast the input first.")
    windows = PoolWindows(op, x, n, given, bool(ceil_mode))
    if not both:
        return ops.pool_max(x, **windows.named())
    at = ops.pool_argmax(ops.stop_gradient(x), **windows.named())
    return ops.pick(x, at, rank=n), at


def windows_samples(n: int, *more: Any) -> Samples:
    """Calls that overlap, are padded, leave a rest, and one that does not fit."""
    extents = ((2, 9), (1, 5, 6), (1, 4, 3, 5))[n - 1]
    return calls(
        lambda: [
            call(data(*extents), 3, 2, 1),
            call(data(2, *extents), 2, ceil_mode=True),
            call(data(*extents), (2,) * n, (1,) * n),
            *more,
            call(data(*extents), 2, 1, 2, error=(RuntimeError, "padding 2 for windows that reach over 2 elements")),
            call(data(3), 2, error=(RuntimeError, "input has shape (3,)")),
        ]
    )


def _max_samples(n: int) -> Samples:
    extents = ((2, 9), (1, 5, 6), (1, 4, 3, 5))[n - 1]
    return windows_samples(n, call(data(*extents), 2, 1, 0, 2), call(data(*extents), 2, return_indices=True))


@function(free="nn.functional", samples=_max_samples(1))
def max_pool1d(
    input: Tensor_,
    kernel_size: Static,
    stride: Static = None,
    padding: Static = 0,
    dilation: Static = 1,
    ceil_mode: Static = False,
    return_indices: Static = False,
):
    """The largest element of every window of `kernel_size` elements, `dilation` apart, that begins every `stride` (the kernel size
    if left out) of [(batch,) channels, length] with margins of `padding`; NaN where there is one. `ceil_mode` keeps a last
    window that is cut. With `return_indices` also where the first largest is, and the last NaN. Raises RuntimeError for
    shapes and margins that do not fit."""
    return _pooled(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@function(free="nn.functional", samples=_max_samples(2))
def max_pool2d(
    input: Tensor_,
    kernel_size: Static,
    stride: Static = None,
    padding: Static = 0,
    dilation: Static = 1,
    ceil_mode: Static = False,
    return_indices: Static = False,
):
    """`max_pool1d` over windows of [(batch,) channels, height, width]; indices count row by row."""
    return _pooled(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@function(free="nn.functional", samples=_max_samples(3))
def max_pool3d(
    input: Tensor_,
    kernel_size: Static,
    stride: Static = None,
    padding: Static = 0,
    dilation: Static = 1,
    ceil_mode: Static = False,
    return_indices: Static = False,
):
    """`max_pool1d` over windows of [(batch,) channels, depth, height, width]; indices count row by row."""
    return _pooled(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


# ---- max_unpool ---------------------------------------------------------------------------------------------


@of_dimensions("max_unpool*d", fallible=True)
def _max_unpool(input: Tensor_, indices: Tensor_, shape: Sizes, op: Static):
    if indices.dtype is not int64:
        raise RuntimeError(f"[{op}] indices are {indices.dtype.name}. Pass the int64 ones that max_pool gave.")
    if indices.shape != input.shape:
        raise RuntimeError(
            f"[{op}] input has shape {input.shape}, indices {indices.shape}. Pass one index per element."
        )
    at = ops.check_range(
        indices,
        low=0,
        high=math.prod(shape) - 1,
        op=op,
        what="an index",
        text=f"Indices must lie in the output of extents {shape}.",
        error="RuntimeError",
    )
    return ops.put(input, at, shape=shape, add=False)


def _unpooled(
    n: int, input: Tensor, indices: Tensor, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> Tensor:
    op = f"max_unpool{n}d"
    kernel = numbers(op, "kernel_size", kernel_size, n)
    steps, margins = strides_of(kernel, stride, op), numbers(op, "padding", padding, n)
    if input.ndim not in (n + 1, n + 2):
        raise RuntimeError(f"[{op}] input has shape {tuple(input.shape)}. Pass [(batch,) channels, {n} spatial dims].")
    usual = tuple(
        (m - 1) * s - 2 * p + k for m, s, p, k in zip(tuple(input.shape)[-n:], steps, margins, kernel, strict=True)
    )
    if output_size is None:
        return _max_unpool[n](input, indices, usual, op)
    wanted = tuple(output_size)[-n:]
    if len(output_size) not in (n, n + 2):
        raise ValueError(
            f"[{op}] output_size {tuple(output_size)} has {len(output_size)} numbers. Pass {n}, or {n + 2}."
        )
    if any(not u - s < w < u + s for u, s, w in zip(usual, steps, wanted, strict=True)):
        raise ValueError(
            f"[{op}] output_size {wanted} is not what {usual} could come from. Stay less than a stride from that."
        )
    return _max_unpool[n](input, indices, wanted, op)


def _unpool_samples(n: int) -> Samples:
    extents = ((2, 3), (1, 2, 3), (1, 2, 1, 2))[n - 1]
    return calls(
        lambda: [
            call(data(*extents), index(2**n * math.prod(extents[1:]), *extents), 2),
            call(data(*extents), index(5, *extents), 2, gradient=False),
            call(data(*extents), index(5, *extents), 2, output_size=(9,) * n, error=(ValueError, "is not what")),
            call(data(*extents), data(*extents), 2, error=(RuntimeError, "Pass the int64 ones")),
        ]
    )


@declared(free="nn.functional", samples=_unpool_samples(1), recalled="types")
def max_unpool1d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Numbers,
    stride: Numbers | None = None,
    padding: Numbers = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Zeros, with the elements of `input` where `indices`, those of `max_pool1d`, say; of several at one place the last one.
    `output_size` tells which of the lengths that the pooling could have come from. Raises ValueError for one that it could not,
    RuntimeError for indices of another shape, and for one outside of the output."""
    return _unpooled(1, input, indices, kernel_size, stride, padding, output_size)


@declared(free="nn.functional", samples=_unpool_samples(2), recalled="types")
def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Numbers,
    stride: Numbers | None = None,
    padding: Numbers = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """`max_unpool1d` of what `max_pool2d` gave."""
    return _unpooled(2, input, indices, kernel_size, stride, padding, output_size)


@declared(free="nn.functional", samples=_unpool_samples(3), recalled="types")
def max_unpool3d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Numbers,
    stride: Numbers | None = None,
    padding: Numbers = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """`max_unpool1d` of what `max_pool3d` gave."""
    return _unpooled(3, input, indices, kernel_size, stride, padding, output_size)
