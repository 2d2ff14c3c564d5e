"""Distances and norms: cdist, pdist, pairwise_distance, dist, cosine_similarity, renorm, and the norms of `linalg`.

In: floating-point tensors. Out: distances. All end in `reduce.norm`; distances of many points become one product of matrices.
Norms of matrices that need singular values are not there yet. Next: `convolution.py`.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import DType
from flambeau.function import Number, Operand, Static, Tensor_, function
from flambeau.functions.common import (
    as_value,
    broadcast_shapes,
    canonical_dim,
    check_between,
    check_floating,
    floating,
    ops,
    promoted,
)
from flambeau.functions.diagonals import triu_indices
from flambeau.functions.linear import _same_dtype
from flambeau.functions.reduce import _root, norm, reduced
from flambeau.functions.shape import _sizes
from flambeau.promotion import result_dtype
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data

# ---- of all pairs -----------------------------------------------------------------------------------------

#: From so many points on, Euclidean distances come from one product of matrices, as in PyTorch.
_MANY = 25


def _euclidean(x: Value, y: Value) -> Value:
    """sqrt(|x|^2 + |y|^2 - 2 x.y), not below 0."""
    rank = len(x.shape)
    shape = (*x.shape[:-1], y.shape[-2])
    product = ops.matmul(x, ops.permute(y, perm=(*range(rank - 2), rank - 1, rank - 2)))
    left = ops.reshape(reduced("sum", x * x, (rank - 1,), True), shape=(*shape[:-1], 1)).expand(shape)
    right = ops.reshape(reduced("sum", y * y, (rank - 1,), False), shape=(*shape[:-2], 1, shape[-1])).expand(shape)
    squared = (left + right) - product * 2.0
    return _root(ops.maximum(squared, squared.like(0.0)), ops.sqrt)


@function(
    free="flambeau",
    samples=calls(
        lambda: [
            *(call(data(3, 2), data(4, 2, low=2, high=5), p) for p in (0.0, 1.0, 2.0, 3.0, math.inf)),
            call(data(2, 3, 2), data(4, 2, low=2, high=5), compute_mode="use_mm_for_euclid_dist"),
            call(data(3, 2), data(4, 3), error=(RuntimeError, "have 2 and 3 columns")),
            call(data(3, 2), data(4, 2), -1.0, error=(RuntimeError, "Use at least 0")),
        ]
    ),
)
def cdist(x1: Tensor_, x2: Tensor_, p: Static = 2.0, compute_mode: Static = "use_mm_for_euclid_dist_if_necessary"):
    """The p-norm of the difference of each row of `x1` [..., P, M] and each of `x2` [..., R, M]: [..., P, R]; leading dimensions
    broadcast. `compute_mode` says when Euclidean distances come from a product of matrices: "use_mm_for_euclid_dist",
    "donot_use_mm_for_euclid_dist", or for more than 25 rows "use_mm_for_euclid_dist_if_necessary".

    Raises RuntimeError for other shapes, dtypes and a negative `p`, ValueError for another mode.
    """
    modes = ("use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist")
    if compute_mode not in (*modes, None):
        raise ValueError(f"[cdist] compute_mode is {compute_mode!r}. Use one of {', '.join(modes)}.")
    check_floating("cdist", x1, "x1", RuntimeError)
    _same_dtype("cdist", x1, x2)
    if p < 0:
        raise RuntimeError(f"[cdist] p is {p}. Use at least 0.")
    if len(x1.shape) < 2 or len(x2.shape) < 2 or x1.shape[-1] != x2.shape[-1]:
        columns = " and ".join(str(x.shape[-1] if x.shape else 0) for x in (x1, x2))
        raise RuntimeError(
            f"[cdist] tensors of shapes {x1.shape} and {x2.shape} have {columns} columns. Pass [..., P, M] and [..., R, M]."
        )
    batch = broadcast_shapes("cdist", x1.shape[:-2], x2.shape[:-2])
    x, y = (v.expand((*batch, *v.shape[-2:])) for v in (x1, x2))
    many = x.shape[-2] > _MANY or y.shape[-2] > _MANY
    if p == 2 and (compute_mode == modes[1] or (compute_mode in (modes[0], None) and many)):
        return _euclidean(x, y)
    shape = (*x.shape[:-1], *y.shape[-2:])
    left = ops.reshape(x, shape=(*x.shape[:-1], 1, x.shape[-1])).expand(shape)
    right = ops.reshape(y, shape=(*batch, 1, *y.shape[-2:])).expand(shape)
    if math.isinf(p) and x.shape[-1] == 0:
        return x.builder.constant(0.0, x.dtype, shape[:-1])
    return norm.rule(left - right, p, -1, False)


@declared(
    free="flambeau nn.functional",
    samples=calls(
        lambda: [
            call(data(4, 2)),
            call(data(3, 2), 1.0),
            call(data(1, 2), gradient=False),
            call(data(3), error=(RuntimeError, "Pass a matrix")),
        ]
    ),
)
def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """The p-norm of the difference of each pair of rows of a matrix [N, M], in the order of `combinations`: [N * (N - 1) / 2].

    Raises RuntimeError for other shapes, dtypes and a negative `p`.
    """
    if input.ndim != 2:
        raise RuntimeError(f"[pdist] the tensor has shape {input.shape}. Pass a matrix.")
    if p < 0:
        raise RuntimeError(f"[pdist] p is {p}. Use at least 0.")
    rows = input.shape[0]
    first, second = triu_indices(rows, rows, 1, device=input.device)
    return norm(input.index_select(0, first) - input.index_select(0, second), float(p), 1)


# ---- of two tensors ---------------------------------------------------------------------------------------


@function(
    free="flambeau nn.functional",
    samples=calls(
        lambda: [
            call(data(3, 4), data(4, low=2, high=5)),
            call(data(3, 4), data(3, 4, low=2, high=5), 1.0, keepdim=True),
            call(data(3), data(2), error=(RuntimeError, "do not broadcast")),
        ]
    ),
)
def pairwise_distance(x1: Tensor_, x2: Tensor_, p: Static = 2.0, eps: Number = 1e-6, keepdim: Static = False):
    """The p-norm of `x1 - x2 + eps` over the last dimension; all sizes broadcast."""
    x, y = promoted("pairwise_distance", x1, x2)
    difference = floating(x - y)
    return norm.rule(difference + as_value(x, eps).cast(difference.dtype).expand(difference.shape), p, -1, keepdim)


@function(
    free="flambeau",
    method=True,
    samples=calls(lambda: [call(data(3, 4), data(4, low=2, high=5)), call(data(3), data(3, low=2, high=5), 1.0)]),
)
def dist(input: Tensor_, other: Tensor_, p: Static = 2):
    """The p-norm of `input - other`, over all elements. Raises RuntimeError for integers."""
    x, y = promoted("dist", input, other)
    return norm.rule(x - y, p, None, False)


@function(
    free="flambeau nn.functional",
    samples=calls(
        lambda: [
            call(data(3, 4), data(4, low=1, high=3)),
            call(data(2, 3), data(2, 3), dim=0),
            call(data(2, 3), data(2, 3), dim=2, error=(IndexError, "dim 2 is out of range")),
        ]
    ),
)
def cosine_similarity(x1: Tensor_, x2: Tensor_, dim: Static = 1, eps: Operand = 1e-8):
    """The cosines of the angles between the vectors along `dim`: their inner product, each divided by its length, or by `eps` if
    that is larger; all sizes broadcast. Raises RuntimeError for integers."""
    dtype = result_dtype([x1, x2])
    if not dtype.is_floating_point:
        raise RuntimeError(
            f"[cosine_similarity] the tensors are {dtype.name}, expected a floating-point dtype. Cast them first."
        )
    x, y = promoted("cosine_similarity", x1, x2)
    axis = canonical_dim("cosine_similarity", dim, len(x.shape))

    def unit(v: Value) -> Value:
        length = norm.rule(v, 2.0, axis, True)
        return v / ops.maximum(length, eps.cast(dtype).expand(length.shape)).expand(v.shape)

    return reduced("sum", unit(x) * unit(y), (axis,) if x.shape else (), False)


@function(
    free="flambeau",
    method=True,
    in_place=True,
    samples=calls(
        lambda: [
            call(data(3, 4), 2.0, 0, 1.0),
            call(data(2, 3), 1.0, -1, 2.5),
            call(data(3), 2.0, 0, 1.0, error=(RuntimeError, "at least 2")),
        ]
    ),
)
def renorm(input: Tensor_, p: Static, dim: Static, maxnorm: Number):
    """With each slice along `dim` whose p-norm is above `maxnorm` scaled down to that.

    Raises RuntimeError for fewer than two dimensions, a `p` that is not positive and a negative `maxnorm`.
    """
    rank = len(input.shape)
    if rank < 2:
        raise RuntimeError(f"[renorm] the tensor has {rank} dimensions. It takes at least 2.")
    if isinstance(maxnorm, Value):
        maxnorm = check_between("renorm", "maxnorm", maxnorm, 0, math.inf, "is negative or NaN. Use at least 0.")
    elif maxnorm < 0:
        raise RuntimeError(f"[renorm] maxnorm is {maxnorm}. Use at least 0.")
    if p <= 0:
        raise RuntimeError(f"[renorm] p is {p}. Use a positive one.")
    axis = canonical_dim("renorm", dim, rank)
    length = norm.rule(input, p, tuple(d for d in range(rank) if d != axis), True)
    limit = as_value(input, maxnorm).cast(length.dtype).expand(length.shape)
    factor = ops.select(length > limit, limit / (length + 1e-7), length.like(1.0))
    return input * factor.expand(input.shape)


# ---- linalg -----------------------------------------------------------------------------------------------

_NORMS = calls(
    lambda: [
        call(data(3, 4)),
        *(call(data(3, 4), ord=p, dim=0) for p in (0, 1, 3.0, math.inf, -math.inf)),
        call(data(2, 3), dim=2, error=(IndexError, "dim 2 is out of range")),
    ]
)


def _vector(op: str, x: Value, ord: Any, dim: Any, keepdim: bool, dtype: DType | None) -> Value:
    check_floating(op, x, error=RuntimeError, complex=True)
    if isinstance(ord, str):
        raise TypeError(f"[{op}] ord is {ord!r}. Pass a number.")
    return norm.rule(x if dtype is None else x.cast(dtype), ord, None if dim == () else dim, keepdim)


@function(free="linalg", samples=_NORMS + calls(lambda: [call(data(2, 3), 2, (0, 1), True)]))
def vector_norm(x: Tensor_, ord: Static = 2, dim: Static = None, keepdim: Static = False, *, dtype: Static = None):
    """The norm of order `ord` of the vectors along `dim` (ints or None for all elements): sum(|x|**ord)**(1/ord).

    Raises RuntimeError for integers.
    """
    return _vector("vector_norm", x, ord, dim, keepdim, dtype)


def _matrix(op: str, x: Value, ord: Any, dim: Any, keepdim: bool, dtype: DType | None) -> Value:
    check_floating(op, x, error=RuntimeError, complex=True)
    x = x if dtype is None else x.cast(dtype)
    rank = len(x.shape)
    if rank < 2:
        raise RuntimeError(f"[{op}] the tensor has {rank} dimensions. It takes at least 2.")
    pair = tuple(canonical_dim(op, d, rank) for d in _sizes(dim))
    if len(pair) != 2 or pair[0] == pair[1]:
        raise RuntimeError(f"[{op}] dim is {dim}. Name two dimensions.")
    if ord == "fro":
        return norm.rule(x, 2.0, pair, keepdim)
    if ord in (2, -2, "nuc"):
        return _of_singular_values(x, ord, pair, keepdim)
    if ord not in (1, -1, math.inf, -math.inf):
        raise RuntimeError(f"[{op}] order {ord!r} of a matrix is unknown. Use 'fro', 'nuc', 1, -1, 2, -2, inf or -inf.")
    summed, kept = pair if abs(ord) == 1 else (pair[1], pair[0])
    sums = norm.rule(x, 1.0, summed, True)
    extreme = norm.rule(sums, math.copysign(math.inf, ord), kept, True)
    if keepdim:
        return extreme
    return ops.reshape(extreme, shape=tuple(n for d, n in enumerate(x.shape) if d not in pair))


def _of_singular_values(x: Value, ord: Any, pair: tuple[int, ...], keepdim: bool) -> Value:
    rest = tuple(d for d in range(len(x.shape)) if d not in pair)
    s = ops.svd(ops.permute(x.cast(x.dtype.accumulation), perm=(*rest, *pair)), complete=False)[1].cast(
        x.dtype.to_real()
    )
    fold = ops.sum if ord == "nuc" else ops.max if ord == 2 else ops.min
    found = fold(s, axes=(len(s.shape) - 1,))
    return ops.reshape(found, shape=tuple(1 if d in pair else n for d, n in enumerate(x.shape))) if keepdim else found


@function(
    free="linalg",
    fallible=True,
    samples=calls(
        lambda: [
            call(data(3, 4)),
            call(data(2, 3, 4), 1, (0, 2), True, gradient=False),
            call(data(3, 4), 1),
            call(data(3, 4), -math.inf),
            call(data(3, 4), 3, error=(RuntimeError, "is unknown")),
            *(call(data(3, 4), p) for p in ("nuc", 2, -2)),
            call(data(2, 3, 4), 2, (0, 2), True),
        ]
    ),
)
def matrix_norm(
    input: Tensor_, ord: Static = "fro", dim: Static = (-2, -1), keepdim: Static = False, *, dtype: Static = None
):
    """The norm of the matrices in the dimensions `dim`: "fro" (of all elements), 1 and -1 (the largest and the smallest sum of a
    column's absolute values), inf and -inf (of a row's), "nuc", 2 and -2 (the sum, the largest and the smallest of singular
    values).

    Raises RuntimeError for integers and other orders.
    """
    return _matrix("matrix_norm", input, ord, dim, keepdim, dtype)


@function(
    free="linalg",
    name="norm",
    fallible=True,
    samples=_NORMS
    + calls(
        lambda: [
            call(data(3, 4), "fro"),
            call(data(3, 4), 1),
            call(data(3, 4), 2),
        ]
    ),
)
def linalg_norm(
    input: Tensor_, ord: Static = None, dim: Static = None, keepdim: Static = False, *, dtype: Static = None
):
    """`vector_norm` without `ord`, of one dimension or of a vector; `matrix_norm` of two dimensions."""
    named = None if dim is None else _sizes(dim)
    if ord is None:
        return _vector("norm", input, 2, dim, keepdim, dtype)
    if named is None and len(input.shape) not in (1, 2):
        raise RuntimeError(
            f"[norm] the tensor has {len(input.shape)} dimensions. Name one or two in dim, or leave ord out."
        )
    if named is not None and len(named) not in (1, 2):
        raise RuntimeError(f"[norm] dim is {dim}. Name one or two dimensions, or leave ord out.")
    if len(input.shape if named is None else named) == 1:
        return _vector("norm", input, ord, dim, keepdim, dtype)
    return _matrix("norm", input, ord, (0, 1) if named is None else named, keepdim, dtype)
