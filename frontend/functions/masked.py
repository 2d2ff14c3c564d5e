"""Reductions, scans and softmaxes that leave out what a mask does not hold: `flambeau.masked`.

In: a tensor and `mask`, bools that broadcast to it: true where an element counts; None, where all do. Out: what the function
of that name gives of those that count, made of it by putting in its neutral element. Next: `masked_moments.py`.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau.declarations import declared
from flambeau.dialects.dtypes import DType, bool_
from flambeau.functions import activation, shrinkage
from flambeau.functions.common import canonical_dims
from flambeau.functions.distances import vector_norm
from flambeau.runtime.recorder import Tensor
from flambeau.samples import Samples, call, calls, data, truth

Dims = int | tuple[int, ...] | None


def mask_of(op: str, input: Tensor, mask: Tensor) -> Tensor:
    """The mask as bools, as large as the input. Raises IndexError where it has more dimensions, RuntimeError for other shapes."""
    if mask.ndim > input.ndim:
        raise IndexError(
            f"[{op}] mask has shape {tuple(mask.shape)}, input {tuple(input.shape)}. Pass a mask that broadcasts to the input."
        )
    return mask.to(bool_).expand(input.shape)


def filled(op: str, input: Tensor, mask: Tensor | None, number: Any) -> Tensor:
    """The input with `number` where the mask does not hold."""
    return input if mask is None else input.masked_fill(~mask_of(op, input, mask), number)


def _bound(op: str, dtype: DType, sign: int) -> Any:
    """The least number of a dtype (sign -1), or the largest one; an infinity if there is one."""
    if dtype.is_inexact:
        return sign * math.inf
    if dtype is bool_:
        raise NotImplementedError(f"[{op}] is not defined for bool tensors. Cast the input first.")
    return int(dtype.least if sign < 0 else dtype.greatest)


def _bounded(op: str, input: Tensor, mask: Tensor | None, sign: int) -> Tensor:
    """The input with the bound of its dtype where the mask does not hold."""
    return input if mask is None else filled(op, input, mask, _bound(op, input.dtype, sign))


def _cast(found: Tensor, dtype: DType | None, input: Tensor) -> Tensor:
    return found.to(input.dtype if dtype is None else dtype)


def _along(op: str, input: Tensor, dim: int) -> int:
    """One dimension, counted from the front."""
    return (*canonical_dims(op, dim, input.ndim), 0)[0]


def along_samples(*more: Any, finite: bool = True) -> Samples:
    """Calls along one dimension, after the arguments `more`: with masks, one of which leaves nothing in places, without, and
    with wrong ones. `finite`: where something counts, results are."""
    return calls(
        lambda: [
            call(data(3, 4), *more, 1, mask=truth(3, 4), gradient=finite),
            call(data(2, 3, 4), *more, 0, mask=truth(4) | (data(3, 1) > 0), gradient=False),
            call(data(3, 4), *more, -1),
            call(data(3), *more, 0, mask=truth(2, 3), error=(IndexError, "mask has shape (2, 3)")),
            call(data(2, 3), *more, 0, mask=truth(2), error=(RuntimeError, "")),
            call(data(2, 3), *more, 2, mask=truth(3), error=(IndexError, "dim 2 is out of range")),
        ]
    )


def fold_samples() -> Samples:
    """Those, and calls over several dimensions."""
    return along_samples() + calls(
        lambda: [
            call(data(3, 4), mask=truth(3, 4)),
            call(data(2, 3, 4), (0, 2), keepdim=True, mask=truth(2, 3, 4)),
        ]
    )


# ---- sums, products, extrema ------------------------------------------------------------------------------------


@declared(free="masked", samples=fold_samples())
def sum(
    input: Tensor, dim: Dims = None, *, keepdim: bool = False, dtype: DType | None = None, mask: Tensor | None = None
) -> Tensor:
    """The sum over `dim` (an int, a tuple, or None for all) where `mask` holds; 0 of nothing. Integers give int64."""
    x = filled("masked.sum", input, mask, 0)
    return x.sum(canonical_dims("masked.sum", dim, x.ndim), keepdim, dtype=dtype)


@declared(free="masked", samples=fold_samples())
def prod(
    input: Tensor, dim: Dims = None, *, keepdim: bool = False, dtype: DType | None = None, mask: Tensor | None = None
) -> Tensor:
    """The product over `dim` (an int, a tuple, or None for all) where `mask` holds; 1 of nothing. Integers give int64."""
    x = filled("masked.prod", input, mask, 1)
    x = x if dtype is None else x.to(dtype)
    dims = canonical_dims("masked.prod", dim, x.ndim)
    for d in reversed(dims):
        x = x.prod(d, keepdim)
    return x if dims else x.prod()


@declared(free="masked", samples=fold_samples())
def amax(
    input: Tensor, dim: Dims = None, *, keepdim: bool = False, dtype: DType | None = None, mask: Tensor | None = None
) -> Tensor:
    """The largest elements over `dim` (an int, a tuple, or None for all) where `mask` holds; -inf, or the least integer, of
    nothing."""
    x = _bounded("masked.amax", input, mask, -1)
    return _cast(x.amax(canonical_dims("masked.amax", dim, x.ndim), keepdim), dtype, input)


@declared(free="masked", samples=fold_samples())
def amin(
    input: Tensor, dim: Dims = None, *, keepdim: bool = False, dtype: DType | None = None, mask: Tensor | None = None
) -> Tensor:
    """The least elements over `dim` (an int, a tuple, or None for all) where `mask` holds; inf, or the largest integer, of
    nothing."""
    x = _bounded("masked.amin", input, mask, 1)
    return _cast(x.amin(canonical_dims("masked.amin", dim, x.ndim), keepdim), dtype, input)


@declared(free="masked", samples=along_samples())
def argmax(
    input: Tensor,
    dim: int | None = None,
    *,
    keepdim: bool = False,
    dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Where the largest element along `dim`, or of all, is of those where `mask` holds. As in PyTorch the result has the input's
    dtype, unless `dtype` says otherwise."""
    x = _bounded("masked.argmax", input, mask, -1)
    return _cast(x.argmax(dim, keepdim), dtype, input)


@declared(free="masked", samples=along_samples())
def argmin(
    input: Tensor,
    dim: int | None = None,
    *,
    keepdim: bool = False,
    dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Where the least element along `dim`, or of all, is of those where `mask` holds. As in PyTorch the result has the input's
    dtype, unless `dtype` says otherwise."""
    x = _bounded("masked.argmin", input, mask, 1)
    return _cast(x.argmin(dim, keepdim), dtype, input)


# ---- running ones -------------------------------------------------------------------------------------------------


@declared(free="masked", samples=along_samples())
def cumsum(input: Tensor, dim: int, *, dtype: DType | None = None, mask: Tensor | None = None) -> Tensor:
    """The running sums along `dim` of what `mask` holds, in the input's dtype or `dtype`."""
    x = filled("masked.cumsum", input, mask, 0)
    return _cast(x.cumsum(_along("masked.cumsum", x, dim), dtype=dtype), dtype, input)


@declared(free="masked", samples=along_samples())
def cumprod(input: Tensor, dim: int, *, dtype: DType | None = None, mask: Tensor | None = None) -> Tensor:
    """The running products along `dim` of what `mask` holds, in the input's dtype or `dtype`."""
    x = filled("masked.cumprod", input, mask, 1)
    return _cast(x.cumprod(_along("masked.cumprod", x, dim), dtype=dtype), dtype, input)


# ---- logarithms of sums, softmaxes --------------------------------------------------------------------------------


@declared(free="masked", samples=fold_samples())
def logsumexp(
    input: Tensor, dim: Dims = None, *, keepdim: bool = False, dtype: DType | None = None, mask: Tensor | None = None
) -> Tensor:
    """log(sum(exp(x))) over `dim` (an int, a tuple, or None for all) where `mask` holds; -inf of nothing."""
    x = _bounded("masked.logsumexp", input, mask, -1)
    return _cast(x.logsumexp(canonical_dims("masked.logsumexp", dim, x.ndim), keepdim), dtype, input)


@declared(
    free="masked",
    samples=calls(
        lambda: [
            call(data(3, 4), data(4), input_mask=truth(3, 4), other_mask=~truth(4), gradient=False),
            call(data(3), data(3), other_mask=truth(3)),
            call(data(3), data(3), input_mask=truth(2, 3), error=(IndexError, "mask has shape (2, 3)")),
        ]
    ),
)
def logaddexp(
    input: Tensor,
    other: Tensor,
    *,
    dtype: DType | None = None,
    input_mask: Tensor | None = None,
    other_mask: Tensor | None = None,
) -> Tensor:
    """log(exp(x) + exp(y)), where a mask does not hold without that one; -inf where neither holds."""
    x, y = (
        filled("masked.logaddexp", input, input_mask, -math.inf),
        filled("masked.logaddexp", other, other_mask, -math.inf),
    )
    return _cast(x.logaddexp(y), dtype, input)


@declared(free="masked", samples=along_samples())
def softmax(input: Tensor, dim: int, *, dtype: DType | None = None, mask: Tensor | None = None) -> Tensor:
    """softmax along `dim` of what `mask` holds, 0 elsewhere; NaN where it holds nothing."""
    x = filled("masked.softmax", input, mask, -math.inf)
    return activation.softmax(x, _along("masked.softmax", x, dim), dtype)


@declared(free="masked", samples=along_samples(finite=False))
def log_softmax(input: Tensor, dim: int, *, dtype: DType | None = None, mask: Tensor | None = None) -> Tensor:
    """log(softmax) along `dim` of what `mask` holds, -inf elsewhere; NaN where it holds nothing."""
    x = filled("masked.log_softmax", input, mask, -math.inf)
    return activation.log_softmax(x, _along("masked.log_softmax", x, dim), dtype)


@declared(free="masked", samples=along_samples())
def softmin(input: Tensor, dim: int, *, dtype: DType | None = None, mask: Tensor | None = None) -> Tensor:
    """softmax(-x) along `dim` of what `mask` holds, 0 elsewhere; NaN where it holds nothing."""
    x = filled("masked.softmin", input, mask, math.inf)
    return shrinkage.softmin(x, _along("masked.softmin", x, dim), dtype=dtype)


# ---- norms --------------------------------------------------------------------------------------------------------


@declared(
    free="masked",
    samples=along_samples(2.0) + calls(lambda: [call(data(3, 4), -math.inf, 1, mask=truth(3, 4))]),
)
def norm(
    input: Tensor,
    ord: float | None = 2.0,
    dim: Dims = None,
    *,
    keepdim: bool = False,
    dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """The norm of order `ord` over `dim` (an int, a tuple, or None for all) where `mask` holds; of nothing 0, or inf for -inf."""
    x = filled("masked.norm", input, mask, math.inf if ord == -math.inf else 0)
    return vector_norm(x, ord, canonical_dims("masked.norm", dim, x.ndim), keepdim, dtype=dtype)


@declared(free="masked", samples=along_samples(2.0))
def normalize(
    input: Tensor, ord: float, dim: int, *, eps: float = 1e-12, dtype: DType | None = None, mask: Tensor | None = None
) -> Tensor:
    """What `mask` holds divided by its norm of order `ord` along `dim`, which is at least `eps`; 0 elsewhere."""
    length = norm(input, ord, dim, keepdim=True, dtype=dtype, mask=mask)
    return filled("masked.normalize", input, mask, 0) / length.clamp(min=eps)
