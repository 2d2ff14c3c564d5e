"""The standard's reductions, which keep their operand's kind, take any axes, and reduce nothing over `axis=()`.

In: an array, axes. Out: an array. Next: `searching.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.array_api.operands import axes_of, fb
from flambeau.dialects.dtypes import DType
from flambeau.runtime.recorder import Tensor

Axes = int | tuple[int, ...] | None


def _shaped(made: Tensor, x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    """A result without the reduced axes, or with them as size 1."""
    if not keepdims:
        return made
    return fb.reshape(made, tuple(1 if i in axes else n for i, n in enumerate(x.shape)))


def _over(call: Callable[..., Tensor], x: Tensor, axis: Axes, keepdims: bool, **options: Any) -> Tensor:
    """A reduction that takes one axis at a time, over axes that are moved to the end and made one."""
    axes = axes_of(axis, x)
    if axes == () and axis == ():
        return call(fb.unsqueeze(x, -1), -1, **options)
    kept = [i for i in range(x.ndim) if i not in axes]
    last = fb.permute(x, (*kept, *axes))
    count = 1
    for a in axes:
        count *= x.shape[a]
    flat = fb.reshape(last, (*(x.shape[i] for i in kept), count))
    return _shaped(call(flat, -1, **options), x, axes, keepdims)


def _added(x: Tensor, dtype: DType | None) -> DType:
    """The dtype of sums and products: int64 for smaller integers, as no greater one without a sign is here."""
    return dtype if dtype is not None else x.dtype if x.dtype.is_floating_point or x.dtype.is_complex else fb.int64


def sum(x: Tensor, /, *, axis: Axes = None, dtype: DType | None = None, keepdims: bool = False) -> Tensor:
    """The sum over axes; of integers in int64 unless a dtype is named."""
    return _over(fb.sum, x, axis, keepdims, dtype=_added(x, dtype))


def prod(x: Tensor, /, *, axis: Axes = None, dtype: DType | None = None, keepdims: bool = False) -> Tensor:
    """The product over axes; of integers in int64 unless a dtype is named."""
    return _over(fb.prod, x, axis, keepdims, dtype=_added(x, dtype))


def max(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The largest element over axes; NaN wins."""
    return _over(fb.amax, x, axis, keepdims)


def min(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The smallest element over axes; NaN wins."""
    return _over(fb.amin, x, axis, keepdims)


def mean(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The mean over axes."""
    return _over(fb.mean, x, axis, keepdims)


def var(x: Tensor, /, *, axis: Axes = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The variance over axes: squares of differences from the mean, added up, over their count less `correction`."""
    return _over(fb.var, x, axis, keepdims, correction=correction)


def std(x: Tensor, /, *, axis: Axes = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The standard deviation over axes: the root of `var`."""
    return _over(fb.std, x, axis, keepdims, correction=correction)


def all(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Whether every element over axes is not 0: a bool."""
    return _over(fb.all, x.to(fb.bool), axis, keepdims)


def any(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Whether one element over axes is not 0: a bool."""
    return _over(fb.any, x.to(fb.bool), axis, keepdims)


def count_nonzero(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """How many elements over axes are not 0: int64."""
    return sum(x.to(fb.bool), axis=axis, keepdims=keepdims)


def _cumulative(
    call: Callable[..., Tensor], first: int, x: Tensor, axis: int | None, dtype: DType | None, include_initial: bool
) -> Tensor:
    if axis is None:
        if x.ndim != 1:
            raise ValueError(f"[array_api] an array of {x.ndim} dimensions is added up along an axis. Name it.")
        axis = 0
    made = call(x, axis, dtype=_added(x, dtype))
    if not include_initial:
        return made
    shape = tuple(1 if i == axis % x.ndim else n for i, n in enumerate(x.shape))
    return fb.cat([fb.full(shape, first, dtype=made.dtype, device=made.device), made], axis)


def cumulative_sum(
    x: Tensor, /, *, axis: int | None = None, dtype: DType | None = None, include_initial: bool = False
) -> Tensor:
    """The sums of the elements up to each along an axis, with `include_initial` after a 0. A vector needs no axis."""
    return _cumulative(fb.cumsum, 0, x, axis, dtype, include_initial)


def cumulative_prod(
    x: Tensor, /, *, axis: int | None = None, dtype: DType | None = None, include_initial: bool = False
) -> Tensor:
    """The products of the elements up to each along an axis, with `include_initial` after a 1. A vector needs no axis."""
    return _cumulative(fb.cumprod, 1, x, axis, dtype, include_initial)


def diff(
    x: Tensor, /, *, axis: int = -1, n: int = 1, prepend: Tensor | None = None, append: Tensor | None = None
) -> Tensor:
    """The differences of neighbours along an axis, `n` times; with more before and after."""
    return fb.diff(x, n=n, dim=axis, prepend=prepend, append=append)
