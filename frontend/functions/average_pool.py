"""Averages over windows: avg_pool and lp_pool over one to three dimensions.

In: [channels, spatial...] or [batch, channels, spatial...]. Out: a mean, or a norm, per window. Next: `adaptive_pool.py`.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import int64
from flambeau.function import Static, Tensor_
from flambeau.functions.activation import relu
from flambeau.functions.common import check_floating, numbers, ops
from flambeau.functions.pool import Numbers, PoolWindows, of_dimensions, strides_of, windows_samples
from flambeau.runtime.recorder import Tensor
from flambeau.samples import Samples, call, calls, data


def divided(total: Value, counts: list[Value]) -> Value:
    """Sums divided by how many elements they are of, which is told along each of the last dimensions."""
    shape = total.shape[len(total.shape) - len(counts) :]
    product: Any = None
    for axis, count in enumerate(counts):
        spread = ops.reshape(count, shape=tuple(n if k == axis else 1 for k, n in enumerate(shape))).expand(shape)
        product = spread if product is None else product * spread
    return total / product.cast(total.dtype).expand(total.shape)


def _counts(x: Value, windows: PoolWindows, include_pad: bool) -> list[Value]:
    """How many elements windows hold along each dimension, those of margins among them if told so."""
    found = []
    for n, m, k, s, p in zip(windows.extents, windows.counts, windows.kernel, windows.stride, windows.padding):
        start = ops.iota(shape=(m,), dim=0, dtype=int64, builder=x.builder) * s - p
        end = ops.minimum(start + k, start.like(n + p))
        if not include_pad:
            start, end = ops.maximum(start, start.like(0)), ops.minimum(end, end.like(n))
        found.append(end - start)
    return found


@of_dimensions("avg_pool*d")
def _avg_pool(
    input: Tensor_, numbers: Static, ceil_mode: Static, count_include_pad: Static, divisor_override: Static, op: Static
):
    check_floating(op, input)
    kernel, *_ = numbers
    windows = PoolWindows(op, input, len(kernel), (*numbers, (1,) * len(kernel)), ceil_mode)
    total = ops.pool_sum(input, **windows.named())
    if divisor_override is not None:
        return total / total.like(divisor_override)
    if not ceil_mode and (count_include_pad or not any(windows.padding)):
        return total / total.like(math.prod(kernel))
    return divided(total, _counts(input, windows, count_include_pad))


def _averaged(n: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, *options: Any) -> Tensor:
    op = f"avg_pool{n}d"
    kernel = numbers(op, "kernel_size", kernel_size, n, 1)
    ceil_mode, include, divisor = options
    if divisor is not None and divisor == 0:
        raise RuntimeError(f"[{op}] divisor_override is 0. Pass another number, or leave it out.")
    rest = strides_of(kernel, stride, op), numbers(op, "padding", padding, n, 0)
    return _avg_pool[n](input, (kernel, *rest), bool(ceil_mode), bool(include), divisor, op)


def _avg_samples(n: int) -> Samples:
    extents = ((2, 9), (1, 5, 6), (1, 4, 3, 5))[n - 1]
    divisor = [] if n == 1 else [call(data(*extents), 2, divisor_override=3)]
    return windows_samples(n, call(data(*extents), 3, 2, 1, True, False), call(data(*extents), 3, 2, 1, True), *divisor)


@declared(free="flambeau nn.functional", samples=_avg_samples(1), recalled="operand")
def avg_pool1d(
    input: Tensor,
    kernel_size: Numbers,
    stride: Numbers | None = (),
    padding: Numbers = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of every window of `kernel_size` elements that begins every `stride` (the kernel size if left out) of [(batch,)
    channels, length] with margins of `padding` zeros, which count unless `count_include_pad` is False. `ceil_mode` keeps a last
    window that is cut. Raises RuntimeError for shapes and margins that do not fit."""
    return _averaged(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


@declared(free="nn.functional", samples=_avg_samples(2), recalled="operand")
def avg_pool2d(
    input: Tensor,
    kernel_size: Numbers,
    stride: Numbers | None = None,
    padding: Numbers = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """`avg_pool1d` over windows of [(batch,) channels, height, width]. `divisor_override` is what sums are divided by."""
    return _averaged(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


@declared(free="nn.functional", samples=_avg_samples(3), recalled="operand")
def avg_pool3d(
    input: Tensor,
    kernel_size: Numbers,
    stride: Numbers | None = None,
    padding: Numbers = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """`avg_pool2d` over windows of [(batch,) channels, depth, height, width]."""
    return _averaged(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


# ---- lp_pool ------------------------------------------------------------------------------------------------


def _normed(n: int, input: Tensor, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool) -> Tensor:
    """In PyTorch's steps: a mean that is then multiplied by the number of elements."""
    op = f"lp_pool{n}d"
    kernel = numbers(op, "kernel_size", kernel_size, n, 1)
    mean = _averaged(n, input.pow(norm_type), kernel, stride, 0, ceil_mode, True, None)
    return (mean.sign() * relu(mean.abs())).mul(math.prod(kernel)).pow(1.0 / norm_type)


def _lp_samples(n: int) -> Samples:
    extents = ((2, 9), (1, 5, 6), (1, 4, 3, 5))[n - 1]
    return calls(
        lambda: [
            call(data(*extents, low=0.5), 2.0, 2),
            call(data(*extents, low=0.5), 3, 3, 2, True),
            call(data(3), 2, 2, error=(RuntimeError, "input has shape (3,)")),
        ]
    )


@declared(free="nn.functional", samples=_lp_samples(1))
def lp_pool1d(
    input: Tensor, norm_type: float, kernel_size: int, stride: Numbers | None = None, ceil_mode: bool = False
) -> Tensor:
    """The `norm_type`-th root of the sum of `norm_type`-th powers of every window of [(batch,) channels, length]."""
    return _normed(1, input, norm_type, kernel_size, stride, ceil_mode)


@declared(free="nn.functional", samples=_lp_samples(2))
def lp_pool2d(
    input: Tensor, norm_type: float, kernel_size: Numbers, stride: Numbers | None = None, ceil_mode: bool = False
) -> Tensor:
    """`lp_pool1d` over windows of [(batch,) channels, height, width]."""
    return _normed(2, input, norm_type, kernel_size, stride, ceil_mode)


@declared(free="nn.functional", samples=_lp_samples(3))
def lp_pool3d(
    input: Tensor, norm_type: float, kernel_size: Numbers, stride: Numbers | None = None, ceil_mode: bool = False
) -> Tensor:
    """`lp_pool1d` over windows of [(batch,) channels, depth, height, width]."""
    return _normed(3, input, norm_type, kernel_size, stride, ceil_mode)
