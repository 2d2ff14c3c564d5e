"""Means, variances and medians of what a mask holds: `flambeau.masked`.

In: a tensor and `mask`, bools that broadcast to it: true where an element counts; None, where all do. Out: smaller tensors, NaN
where nothing counts. Next: `masked.py`.
"""

from __future__ import annotations

import math

from flambeau.declarations import declared
from flambeau.dialects.dtypes import DType, float32, int64
from flambeau.functions import masked
from flambeau.functions.common import canonical_dims
from flambeau.functions.create import ones
from flambeau.functions.masked import Dims, along_samples, filled, fold_samples, mask_of
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, truth


def _counts(op: str, input: Tensor, dim: Dims, keepdim: bool, mask: Tensor | None) -> Tensor:
    """How many elements count."""
    dims = canonical_dims(op, dim, input.ndim)
    if mask is None:
        return ones(input.shape, dtype=int64, device=input.device).sum(dims, keepdim)
    return mask_of(op, input, mask).sum(dims, keepdim)


@declared(
    free="masked",
    samples=fold_samples()
    + calls(lambda: [call(data(2, 3), dtype=int64, mask=truth(3), error=(ValueError, "dtype is"))]),
)
def mean(
    input: Tensor, dim: Dims = None, *, keepdim: bool = False, dtype: DType | None = None, mask: Tensor | None = None
) -> Tensor:
    """The mean over `dim` (an int, a tuple, or None for all) of what `mask` holds; NaN of nothing. Raises ValueError for integers,
    unless `dtype` says otherwise."""
    wanted = input.dtype if dtype is None else dtype
    if not wanted.is_inexact:
        raise ValueError(f"[masked.mean] dtype is {wanted}, expected a floating-point or complex one. Pass dtype=.")
    total = masked.sum(input, dim, keepdim=keepdim, dtype=dtype, mask=mask)
    return total / _counts("masked.mean", input, dim, keepdim, mask)


@declared(free="masked", samples=along_samples())
def median(
    input: Tensor, dim: int = -1, *, keepdim: bool = False, dtype: DType | None = None, mask: Tensor | None = None
) -> Tensor:
    """The median along `dim` of what `mask` holds, the lower of two; NaN of nothing, and what is NaN is left out. Raises ValueError
    for integers of which nothing counts somewhere, for which it is read."""
    is_float = input.dtype.is_floating_point
    x = filled("masked.median", input if is_float else input.to(float32), mask, math.nan)
    found = x.nanmedian((*canonical_dims("masked.median", dim, x.ndim), 0)[0], keepdim).values
    if is_float:
        return found
    if bool(found.isnan().any()):
        raise ValueError(
            "[masked.median] somewhere the mask holds nothing, and integers have no NaN. Cast the input first."
        )
    return found.to(input.dtype if dtype is None else dtype)


def _variance(
    op: str,
    input: Tensor,
    dim: Dims,
    unbiased: bool | None,
    correction: float | None,
    keepdim: bool,
    dtype: DType | None,
    mask: Tensor | None,
) -> Tensor:
    if unbiased is not None and correction is not None:
        raise ValueError(f"[{op}] unbiased is {unbiased}, correction {correction}. Pass one of them.")
    less = correction if correction is not None else float(unbiased is None or unbiased)
    wanted = dtype if dtype is not None else input.dtype if input.dtype.is_inexact else float32
    working = wanted if wanted.is_inexact else float32
    count = _counts(op, input, dim, True, mask)
    middle = masked.sum(input, dim, keepdim=True, dtype=wanted, mask=mask) / count
    x = filled(op, input, mask, 0) - middle  # what does not count has no slope, NaNs neither
    total = masked.sum(x * x.conj(), dim, keepdim=keepdim, dtype=working, mask=mask)
    free = (count if keepdim else count.reshape(total.shape)).to(working.to_real())
    return (total / (free - less).clamp(min=0)).to(wanted)


@declared(
    free="masked",
    samples=fold_samples()
    + calls(
        lambda: [
            call(data(3, 4), 1, False, mask=truth(3, 4)),
            call(data(3, 4), 1, correction=1.5, mask=truth(3, 4)),
            call(data(3), 0, True, correction=2, error=(ValueError, "Pass one of them")),
        ]
    ),
)
def var(
    input: Tensor,
    dim: Dims = None,
    unbiased: bool | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
    dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """The variance over `dim` (an int, a tuple, or None for all) of what `mask` holds: the sum of squares around the mean, divided
    by the count less `correction` (1; 0 if `unbiased` is False). NaN of nothing. Raises ValueError if both are given."""
    return _variance("masked.var", input, dim, unbiased, correction, keepdim, dtype, mask)


@declared(free="masked", samples=fold_samples())
def std(
    input: Tensor,
    dim: Dims = None,
    unbiased: bool | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
    dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """The square root of `masked.var`, whose arguments it takes."""
    return _variance("masked.std", input, dim, unbiased, correction, keepdim, dtype, mask).sqrt()
