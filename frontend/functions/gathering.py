"""Reading at positions given by a tensor: gather, index_select, take, take_along_dim, embedding.

In: data and int64 positions. Out: new tensors. Positions are checked when the values are computed: the error names the first
that is out of range and the line that recorded the call. Next: `bags.py`.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.function import Operand, Static, Tensor_, function, inplace
from flambeau.functions.common import broadcast_shapes, canonical_dim, check_floating, flat, ops
from flambeau.functions.positions import from_front, spread, vector_along, whole
from flambeau.functions.reduce import norm
from flambeau.out import stored_in
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, index


@function(
    out=True,
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(4, 3), 0, index(4, 5)),
            call(data(4, 3), 1, index(3, 2)),
            call(data(4, 3), 0, index(3, 2, 2), error=(IndexError, "Pass a vector")),
        ]
    ),
    fallible=True,
)
def index_select(input: Tensor_, dim: Static, index: Tensor_):
    """The slices of `input` at positions `index` (a vector of int64) along `dim`.

    Raises IndexError for positions outside of 0..size-1 (when a value is read).
    """
    dim, vector = vector_along("index_select", input, dim, index)
    if not input.shape:
        return ops.reshape(ops.gather(flat(input), vector, axis=0), shape=())
    return ops.gather(input, spread(vector, dim, input.shape), axis=dim)


def check_fit(op: str, input: Value, index: Value, dim: int) -> None:
    """Raise unless `index` is nowhere larger than `input` but along `dim`."""
    if len(index.shape) != len(input.shape):
        raise RuntimeError(
            f"[{op}] index of shape {index.shape} and input of shape {input.shape} differ in dimensions. Make them equal."
        )
    for d, (n, limit) in enumerate(zip(index.shape, input.shape)):
        if d != dim and n > limit:
            raise RuntimeError(
                f"[{op}] index of shape {index.shape} is larger than the input of shape {input.shape} at dimension {d}. "
                f"Only dimension {dim} may be larger."
            )


def corner(x: Value, sizes: tuple[int, ...]) -> Value:
    """The first `sizes` elements along each dimension."""
    if sizes == x.shape:
        return x
    return ops.slice(x, starts=(0,) * len(sizes), sizes=sizes, steps=(1,) * len(sizes))


@function(
    out=True,
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(4, 3), 0, index(4, 2, 3)),
            call(data(4, 3), 1, index(3, 4, 5)),
            call(data(4, 3), 0, index(4, 5), error=(RuntimeError, "differ in dimensions")),
        ]
    ),
    fallible=True,
)
def gather(input: Tensor_, dim: Static, index: Tensor_, *, sparse_grad: Static = False):
    """`out[i, j] = input[index[i, j], j]` for `dim` 0, and so on; the result has the shape of `index`.

    Raises RuntimeError for shapes that do not fit, and for positions outside (when a value is read), which is an IndexError, too.
    """
    if sparse_grad:
        raise NotImplementedError("[gather] there are no sparse gradients. Leave sparse_grad at False.")
    dim = canonical_dim("gather", dim, len(input.shape))
    if 0 in index.shape:
        return ops.reshape(corner(flat(input), (0,)), shape=index.shape)
    index = whole("gather", index)
    if not input.shape and len(index.shape) == 1:  # PyTorch takes a number for a vector of one here
        return ops.gather(flat(input), index, axis=0)
    check_fit("gather", input, index, dim)
    if not input.shape:
        return ops.reshape(ops.gather(flat(input), flat(index), axis=0), shape=index.shape)
    sizes = tuple(input.shape[d] if d == dim else n for d, n in enumerate(index.shape))
    return ops.gather(corner(input, sizes), index, axis=dim)


@function(
    out=True,
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(4, 3), index(12, 2, 5)),
            call(data(4, 3), index(12, 3) - 12),
            call(data(), index(1, 2), gradient=False),
            call(data(4, 3), data(2), error=(RuntimeError, "Convert it with .long()")),
        ]
    ),
    fallible=True,
)
def take(input: Tensor_, index: Tensor_):
    """The elements of `input`, counted row by row, at positions `index`: in its shape. Negative ones count from the end.

    Raises IndexError for positions outside (when a value is read).
    """
    places = from_front("take", flat(whole("take", index)), math.prod(input.shape))
    return ops.reshape(ops.gather(flat(input), places, axis=0), shape=index.shape)


@function(name="take_along_dim", fallible=True)
def _take_along(input: Tensor_, indices: Tensor_, dim: Static):
    index = whole("take_along_dim", indices, "indices")
    dim = canonical_dim("take_along_dim", dim, len(input.shape))
    if len(index.shape) != len(input.shape):
        raise RuntimeError(
            f"[take_along_dim] indices of shape {index.shape} and input of shape {input.shape} differ in dimensions. "
            "Make them equal."
        )
    if not input.shape:
        return ops.reshape(ops.gather(flat(input), flat(index), axis=0), shape=())
    outside = [tuple(1 if d == dim else n for d, n in enumerate(x.shape)) for x in (input, index)]
    shape = broadcast_shapes("take_along_dim", *outside)
    along = lambda x: x.expand(tuple(x.shape[dim] if d == dim else n for d, n in enumerate(shape)))  # noqa: E731
    index = from_front("take_along_dim", index, input.shape[dim], "indices")
    return ops.gather(along(input), along(index), axis=dim)


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(4, 3), index(3, 4, 2), 1),
            call(data(4, 3), index(4, 2, 1), 0),
            call(data(4, 3), index(12, 5)),
            call(data(4, 3), index(3, 2), 1, error=(RuntimeError, "differ in dimensions")),
        ]
    ),
    recalled="types",
)
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None, *, out: Tensor | None = None) -> Tensor:
    """The elements of `input` at `indices` along `dim`, as argsort and argmax give them; both broadcast in all other dimensions.
    Without `dim`: of all elements, row by row.

    Raises RuntimeError for shapes that do not fit, IndexError for positions outside (when a value is read).
    """
    if dim is None:
        input, indices, dim = input.reshape(-1), indices.reshape(-1), 0
    found = _take_along(input, indices, dim)
    return found if out is None else stored_in("take_along_dim", out, found)


def by_frequency(picked: Value, vector: Value, count: Any) -> Value:
    """Rows picked at the positions `vector` of `count` rows: each gets its gradient divided by how often its row was picked."""
    nothing = picked.builder.constant(0, picked.dtype, (count,))
    often = ops.scatter_add(nothing, vector, picked.builder.constant(1, picked.dtype, vector.shape), axis=0)
    share = 1.0 / ops.gather(often, vector, axis=0)
    part = picked * ops.reshape(share, shape=(vector.shape[0], 1)).expand(picked.shape)
    change = part - ops.stop_gradient(part)  # 0, but for infinities
    return ops.stop_gradient(picked) + ops.select(change.eq(change), change, change.like(0))


@function(fallible=True)
def embedding(input: Tensor_, weight: Tensor_, padding_idx: Static = None, scale_grad_by_freq: Static = False):
    """Rows of `weight` [count, features] at the positions `input` (int64, any shape). The row `padding_idx` gets no gradient;
    a negative one counts from the end. With `scale_grad_by_freq` gradients of a row are divided by how often it is picked.

    Raises IndexError for positions outside of 0..count-1 (when a value is read), RuntimeError for such a `padding_idx`, for
    positions of other dtypes and for weights of other than two dimensions.
    """
    index = whole("embedding", input, "input", RuntimeError)
    check_floating("embedding", weight, "weight")
    if len(weight.shape) != 2:
        raise RuntimeError(f"[embedding] weight has shape {weight.shape}. Give it two dimensions: rows, features.")
    vector = flat(index)
    picked = ops.gather(weight, spread(vector, 0, weight.shape), axis=0)
    if scale_grad_by_freq:
        picked = by_frequency(picked, vector, weight.shape[0])
    if padding_idx is not None:
        row = padding_row("embedding", padding_idx, weight.shape[0])
        is_padding = ops.reshape(vector.eq(row), shape=(vector.shape[0], 1)).expand(picked.shape)
        picked = ops.select(is_padding, ops.stop_gradient(picked), picked)
    return ops.reshape(picked, shape=(*index.shape, weight.shape[1]))


@inplace(name="embedding", fallible=True)
def limit_rows(weight: Tensor_, input: Tensor_, max_norm: Operand, norm_type: Static):
    """Writes to `weight` [count, features]: of the rows at `input`, those whose norm is above `max_norm` are scaled down to it."""
    vector = flat(whole("embedding", input, "input", RuntimeError))
    at = spread(vector, 0, weight.shape)
    rows = ops.gather(weight, at, axis=0)
    norms = norm.rule(rows, norm_type, 1, True)
    limit = max_norm.cast(weight.dtype).expand(norms.shape)
    scale = ops.select(norms > limit, limit / (norms + 1e-7), norms.like(1))
    return ops.scatter(weight, at, rows * scale.expand(rows.shape), axis=0)


def padding_row(op: str, padding_idx: Any, count: Any) -> int:
    """`padding_idx` counted from the front."""
    if isinstance(padding_idx, bool) or not isinstance(padding_idx, int):
        raise TypeError(f"[{op}] padding_idx is {padding_idx!r}, a {type(padding_idx).__name__}. Pass an int or None.")
    if not -count <= padding_idx < count:
        raise RuntimeError(
            f"[{op}] padding_idx {padding_idx} is out of range for {count} rows. Use {-count} to {count - 1}."
        )
    return padding_idx + count if padding_idx < 0 else padding_idx
