"""Reductions made of others: nansum, nanmean, norm, aminmax, var_mean, std_mean, cov, corrcoef.

In: a tensor, the dims to fold and `keepdim`; observations and their weights. Out: smaller tensors, or pairs of them. Next:
`differences.py`.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from flambeau import return_types
from flambeau.declarations import declare, declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import DType, bool_, float64
from flambeau.function import Optional_, Static, Tensor_, function
from flambeau.functions import reduce
from flambeau.functions.common import by_number, canonical_dims, check_between, check_floating, floating, ops
from flambeau.functions.distances import matrix_norm
from flambeau.functions.reduce import _correction, _count, _extreme, _root, accumulating, reduced, variance
from flambeau.out import stored_in
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, folds, index, points

# ---- without NaNs -----------------------------------------------------------------------------------------


def _without_nans(x: Value) -> Value:
    return ops.select(x.eq(x), x, x.like(0)) if x.dtype.is_floating_point else x


@function(
    free="flambeau", method=True, samples=folds(keepdim=True) + calls(lambda: [call(data(2, 3), 1, dtype=float64)])
)
def nansum(input: Tensor_, dim: Static = None, keepdim: Static = False, *, dtype: Static = None):
    """The sum over `dim` (an int, a tuple, or None for all) of what is no NaN. Integers and bools give int64, unless `dtype` says
    otherwise. Raises IndexError for a dim that does not exist."""
    x = _without_nans(accumulating(input, dtype))
    return reduced("sum", x, canonical_dims("nansum", dim, len(x.shape)), keepdim)


@function(free="flambeau", method=True, samples=folds(keepdim=True))
def nanmean(input: Tensor_, dim: Static = None, keepdim: Static = False, *, dtype: Static = None):
    """The mean over `dim` (an int, a tuple, or None for all) of what is no NaN; NaN of nothing.

    Raises RuntimeError for integers.
    """
    check_floating("nanmean", input, error=RuntimeError)
    x = input.cast(dtype) if dtype is not None else input
    axes = canonical_dims("nanmean", dim, len(x.shape))
    count = reduced("sum", ops.stop_gradient(x.eq(x).cast(x.dtype)), axes, keepdim)
    return reduced("sum", _without_nans(x), axes, keepdim) / count


# ---- norms ------------------------------------------------------------------------------------------------

_NORMS = folds(keepdim=True) + calls(
    lambda: [
        *(call(data(3, 4), p, 1) for p in (0, 1, 3.0, math.inf, "fro")),
        call(data(3, 4), "most", error=(RuntimeError, "p is 'most'")),
    ]
)


def _norm(input: Tensor, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: DType | None = None) -> Tensor:
    """The p-norm over `dim` (an int, a tuple, or None for all): sum(|x|**p)**(1/p); `p` may be infinite, "fro" is 2, and
    "nuc" the sum of singular values of matrices.

    The gradient at 0 is 0. Raises RuntimeError for other names and for integers.
    """
    if p is None or p == "fro":
        p = 2.0
    if p == "nuc":
        return matrix_norm(input, p, (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    if isinstance(p, str):
        raise RuntimeError(f"[norm] p is {p!r}. Use a number, 'fro' or 'nuc'; other norms of matrices are in linalg.")
    return reduce.norm(input if dtype is None else input.to(dtype), p, dim, keepdim)


declare(_norm, "norm", method=True, samples=_NORMS, recalled="types")


@declared(free="flambeau", samples=_NORMS, recalled="operand")
def norm(
    input: Tensor,
    p: Any = "fro",
    dim: Any = None,
    keepdim: bool = False,
    out: Tensor | None = None,
    dtype: DType | None = None,
) -> Tensor:
    """The p-norm over `dim` (an int, a tuple, or None for all): sum(|x|**p)**(1/p); `p` may be infinite, "fro" is 2, and
    "nuc" the sum of singular values of matrices.

    The gradient at 0 is 0. Raises RuntimeError for other names and for integers.
    """
    found = _norm(input, p, dim, keepdim, dtype)
    return found if out is None else stored_in("norm", out, found)


# ---- pairs ------------------------------------------------------------------------------------------------


@function(name="aminmax")
def _aminmax(input: Tensor_, dim: Static, keepdim: Static):
    if dim is None and 0 in input.shape:
        raise RuntimeError(
            f"[aminmax] the tensor of shape {input.shape} has no elements. Give a dim that is not empty."
        )
    axes = canonical_dims("aminmax", dim, len(input.shape))
    return tuple(_extreme("aminmax", op, input, axes, keepdim) for op in ("min", "max"))


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(points(), gradient=False),
            call(data(3, 4)),
            call(data(3, 4), dim=0, keepdim=True),
            call(data(2, 3), keepdim=True),
            call(data(0, 2), error=(RuntimeError, "has no elements")),
            call(data(0, 2), dim=0, error=(IndexError, "is empty")),
            call(data(2, 3), dim=2, error=(IndexError, "dim 2 is out of range")),
        ]
    ),
    recalled="operand",
)
def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """(min, max): the smallest and the largest element along `dim`, or of all. NaN wins; ties share the gradient evenly.

    Raises RuntimeError for a tensor without elements, IndexError for a dim that is empty or does not exist.
    """
    return return_types.aminmax(*_aminmax(input, dim, keepdim))


def _mean(x: Value, dim: Any, keepdim: bool) -> Value:
    axes = canonical_dims("mean", dim, len(x.shape))
    return reduced("sum", x, axes, keepdim) / _count(x, axes)


_SPREADS = folds(one=False, keepdim=True) + calls(
    lambda: [
        call(data(3, 4), 1, correction=0),
        call(data(3, 4), False),
        call(index(3, 4), error=(RuntimeError, "expected a floating-point one")),
    ]
)


@function(free="flambeau", samples=_SPREADS)
def var_mean(
    input: Tensor_, dim: Static = None, unbiased: Static = None, keepdim: Static = False, *, correction: Static = None
):
    """(variance, mean) over `dim` (an int, a tuple, or None for all). Arguments and errors: those of `var`."""
    dim, correction = _correction("var_mean", dim, unbiased, correction)
    return variance("var_mean", input, dim, correction, keepdim), _mean(input, dim, keepdim)


@function(free="flambeau", samples=_SPREADS)
def std_mean(
    input: Tensor_, dim: Static = None, unbiased: Static = None, keepdim: Static = False, *, correction: Static = None
):
    """(standard deviation, mean) over `dim` (an int, a tuple, or None for all). Arguments and errors: those of `std`."""
    dim, correction = _correction("std_mean", dim, unbiased, correction)
    return _root(variance("std_mean", input, dim, correction, keepdim), ops.sqrt), _mean(input, dim, keepdim)


# ---- how variables vary together --------------------------------------------------------------------------


def _weights(op: str, x: Value, frequencies: Value | None, importance: Value | None) -> Value | None:
    """One weight for each observation, in the dtype of x or of its parts; None where all count alike."""
    found = None
    for what, given in (("fweights", frequencies), ("aweights", importance)):
        if given is None:
            continue
        if len(given.shape) > 1 or given.shape != x.shape[1:]:
            raise RuntimeError(f"[{op}] {what} have shape {given.shape}. Give a vector of {x.shape[1]}, one each.")
        if what == "fweights" and not (given.dtype.is_integral and given.dtype is not bool_):
            raise RuntimeError(f"[{op}] fweights have dtype {given.dtype}. Give integers: how often each was observed.")
        if what == "aweights" and not given.dtype.is_floating_point:
            raise RuntimeError(f"[{op}] aweights have dtype {given.dtype}. Give floats, or pass them as fweights.")
        checked = check_between(op, what, given, 0, math.inf, "is negative. Use at least 0.")
        checked = checked.cast(x.dtype.to_real())
        found = checked if found is None else found * checked
    return found


@function(name="cov", fallible=True)
def _covariance(input: Tensor_, correction: Static, fweights: Optional_, aweights: Optional_):
    if input.dtype is bool_:
        raise RuntimeError("[cov] the observations are bools. Convert them with .float().")
    x = floating(input)
    x = ops.reshape(x, shape=(1, *(x.shape or (1,)))) if len(x.shape) < 2 else x
    weights = _weights("cov", x, fweights, aweights)

    def weighted(v: Value) -> Value:
        return v if weights is None else v * ops.reshape(weights, shape=(1, x.shape[1])).cast(v.dtype).expand(v.shape)

    if weights is None:
        total: Any = x.shape[1]
        real = x.dtype.to_real()
        norm = ops.maximum(x.builder.constant(total - correction, real), x.builder.constant(0, real))
    else:
        total = ops.sum(weights, axes=(0,))
        total = check_between("cov", "the sum of weights", total, 5e-324, math.inf, "is no divisor.")
        own = weights if aweights is None else weights * aweights.cast(x.dtype.to_real())
        norm = total - (ops.sum(own, axes=(0,)) / total if aweights is not None else total.like(1)) * correction
        norm = ops.maximum(norm, norm.like(0))
    rows = x.shape[0]
    mean = reduced("sum", weighted(x), (1,), True)
    mean = by_number(mean, total) if weights is None else mean / total.cast(x.dtype).expand(mean.shape)
    distance = x - mean.expand(x.shape)
    products = ops.matmul(distance, ops.permute(weighted(distance).conj(), perm=(1, 0)))
    found = products / norm.cast(x.dtype).expand((rows, rows))
    return ops.reshape(found, shape=()) if len(input.shape) < 2 or rows == 1 else found


_OBSERVATIONS = calls(
    lambda: [
        call(data(3, 5)),
        call(data(5)),
        call(data(1, 4)),
        call(data(2, 2, 2), error=(RuntimeError, "Pass a matrix, a row for each variable")),
    ]
)


@declared(
    free="flambeau",
    method=True,
    samples=_OBSERVATIONS
    + calls(
        lambda: [
            call(data(3, 5), correction=0),
            call(data(3, 5), fweights=index(4, 5), aweights=data(5, low=0.5, high=2)),
            call(data(3, 5), fweights=index(4, 4), error=(RuntimeError, "Give a vector of 5")),
            call(data(3, 5), fweights=data(5), error=(RuntimeError, "Give integers")),
        ]
    ),
)
def cov(
    input: Tensor, *, correction: int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None
) -> Tensor:
    """The covariances of variables (rows) over observations (columns): [rows, rows], or of one variable its variance, 0-d.

    The divisor is the count less `correction`. `fweights` says how often each was observed, `aweights` how much it counts.
    Raises RuntimeError for more dimensions than two, bools, weights of another length or kind, or below 0.
    """
    if input.ndim > 2:
        raise RuntimeError(
            f"[cov] the tensor has shape {tuple(input.shape)}. Pass a matrix, a row for each variable, or a vector."
        )
    count = input.shape[-1] if input.ndim else 1
    if fweights is None and aweights is None and count <= correction:
        warnings.warn(f"[cov] {count} observations less {correction} leave no degree of freedom.", stacklevel=2)
    return _covariance(input, correction, fweights, aweights)


@function(name="corrcoef")
def _normalised(input: Tensor_):
    if not input.shape:
        return input / input
    n = input.shape[0]
    flat = ops.reshape(input, shape=(n * n,))
    spread = ops.sqrt(ops.slice(flat, starts=(0,), sizes=(n,), steps=(n + 1 if n > 1 else 1,)))
    found = input / ops.reshape(spread, shape=(n, 1)).expand((n, n)) / ops.reshape(spread, shape=(1, n)).expand((n, n))
    if not found.dtype.is_complex:
        return _held(found)
    return ops.complex(_held(ops.real(found)), _held(ops.imag(found)))


def _held(x: Value) -> Value:
    """From -1 to 1, which rounding may leave."""
    return ops.maximum(ops.minimum(x, x.like(1)), x.like(-1))


@declared(free="flambeau", method=True, samples=_OBSERVATIONS)
def corrcoef(input: Tensor) -> Tensor:
    """The correlations, from -1 to 1, of variables (rows) over observations (columns): covariances over the product of both
    standard deviations. Raises RuntimeError as `cov`."""
    return _normalised(cov(input))
