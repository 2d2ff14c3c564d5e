"""Reading and adding at positions given by a tensor: gather, index_select, scatter_add, index_add, embedding.

In: data and int64 positions. Out: new tensors; equal positions add up in order. Positions are checked when the values are
computed: the error names the first that is out of range and the line that recorded the call. Next: `inplace.py`.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import int32, int64
from flambeau.function import Operand, Static, Tensor_, function
from flambeau.functions.common import canonical_dim, check_floating, ops
from flambeau.samples import call, calls, data, index


def _whole(op: str, index: Value, what: str = "index") -> Value:
    if index.dtype not in (int32, int64):  # PyTorch takes no smaller ones for positions: uint8 once was a mask
        raise IndexError(f"[{op}] {what} has dtype {index.dtype}. Convert it with .long().")
    return index.cast(int64)


def _spread(index: Value, dim: int, shape: tuple[int, ...]) -> Value:
    """A vector of positions along `dim` of `shape`, repeated over the other dimensions."""
    unit = tuple(index.shape[0] if d == dim else 1 for d in range(len(shape)))
    full = tuple(index.shape[0] if d == dim else n for d, n in enumerate(shape))
    return ops.reshape(index, shape=unit).expand(full)


@function(fallible=True, name="getitem")
def take_along_dim(input: Tensor_, index: Tensor_, dim: Static):
    """`input[:, ..., index]` with `index`, of any shape, at dimension `dim`; negative positions count from the end."""
    if not input.shape:
        raise IndexError("[getitem] a 0-d tensor cannot be indexed. Use .item() for its value.")
    index = _whole("getitem", index)
    extent = input.shape[dim]
    flat = ops.reshape(index, shape=(math.prod(index.shape),))
    flat = ops.select(flat < 0, flat + extent, flat)
    picked = ops.gather(input, _spread(flat, dim, input.shape), axis=dim)
    return ops.reshape(picked, shape=(*input.shape[:dim], *index.shape, *input.shape[dim + 1 :]))


@function(
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
    index = _whole("index_select", index)
    if len(index.shape) > 1:
        raise IndexError(f"[index_select] index has shape {index.shape}. Pass a vector of positions.")
    dim = canonical_dim("index_select", dim, len(input.shape))
    flat = ops.reshape(index, shape=(math.prod(index.shape),))
    if not input.shape:
        return ops.reshape(ops.gather(ops.reshape(input, shape=(1,)), flat, axis=0), shape=())
    return ops.gather(input, _spread(flat, dim, input.shape), axis=dim)


def _check_fit(op: str, input: Value, index: Value, dim: int) -> None:
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


def _corner(x: Value, sizes: tuple[int, ...]) -> Value:
    """The first `sizes` elements along each dimension."""
    if sizes == x.shape:
        return x
    return ops.slice(x, starts=(0,) * len(sizes), sizes=sizes, steps=(1,) * len(sizes))


@function(
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
def gather(input: Tensor_, dim: Static, index: Tensor_):
    """`out[i, j] = input[index[i, j], j]` for `dim` 0, and so on; the result has the shape of `index`.

    Raises RuntimeError for shapes that do not fit, IndexError for positions outside (when a value is read).
    """
    index = _whole("gather", index)
    dim = canonical_dim("gather", dim, len(input.shape))
    _check_fit("gather", input, index, dim)
    if not input.shape:
        return ops.reshape(ops.gather(ops.reshape(input, shape=(1,)), ops.reshape(index, shape=(1,)), axis=0), shape=())
    sizes = tuple(input.shape[d] if d == dim else n for d, n in enumerate(index.shape))
    return ops.gather(_corner(input, sizes), index, axis=dim)


@function(
    free="flambeau",
    method=True,
    in_place=True,
    samples=calls(
        lambda: [
            call(data(4, 3), 0, index(4, 2, 3), data(2, 3)),
            call(data(4, 3), 1, index(3, 4, 5), data(4, 5)),
            call(data(4, 3), 0, index(4, 5), data(5), error=(RuntimeError, "differ in dimensions")),
        ]
    ),
    fallible=True,
)
def scatter_add(input: Tensor_, dim: Static, index: Tensor_, src: Tensor_):
    """`input` with `src[i, j]` added at `[index[i, j], j]` for `dim` 0, and so on; equal positions add up in order.

    Raises RuntimeError for shapes or dtypes that do not fit, IndexError for positions outside (when a value is read).
    """
    index = _whole("scatter_add", index)
    dim = canonical_dim("scatter_add", dim, len(input.shape))
    _check_fit("scatter_add", input, index, dim)
    _check_fit("scatter_add", src, index, -1)
    if src.dtype is not input.dtype:
        raise RuntimeError(f"[scatter_add] src is {src.dtype}, the input {input.dtype}. Convert one with .to().")
    if not input.shape:
        one = (ops.reshape(v, shape=(1,)) for v in (input, index, src))
        return ops.reshape(ops.scatter_add(*one, axis=0), shape=())
    sizes = tuple(input.shape[d] if d == dim else n for d, n in enumerate(index.shape))
    added = ops.scatter_add(_corner(input, sizes), index, _corner(src, index.shape), axis=dim)
    if sizes == input.shape:
        return added
    zeros = [input.builder.constant(0, int64)] * len(sizes)
    return ops.update_slice(input, added, *zeros, steps=(1,) * len(sizes))


@function(
    free="flambeau",
    method=True,
    in_place=True,
    samples=calls(
        lambda: [
            call(data(4, 3), 0, index(4, 5), data(5, 3)),
            call(data(4, 3), 1, index(3, 2), data(4, 2), alpha=2),
            call(data(4, 3), 0, index(4, 5), data(4, 3), error=(RuntimeError, "do not fit the input")),
        ]
    ),
    fallible=True,
)
def index_add(input: Tensor_, dim: Static, index: Tensor_, source: Tensor_, *, alpha: Operand = 1):
    """`input` with the slices of `alpha * source` added at positions `index` along `dim`; equal positions add up in order.

    Raises RuntimeError for shapes or dtypes that do not fit, IndexError for positions outside (when a value is read).
    """
    index = _whole("index_add", index)
    dim = canonical_dim("index_add", dim, len(input.shape))
    index = index if index.shape else ops.reshape(index, shape=(1,))  # one position
    fits = len(index.shape) == 1 and (input.shape or index.shape == (1,))
    wanted = tuple(index.shape[0] if d == dim else n for d, n in enumerate(input.shape))
    if not fits or source.shape != wanted:
        raise RuntimeError(
            f"[index_add] index of shape {index.shape} and source of shape {source.shape} do not fit the input of shape "
            f"{input.shape} along dimension {dim}. Give one slice of the input's other sizes per position."
        )
    if source.dtype is not input.dtype:
        raise RuntimeError(f"[index_add] source is {source.dtype}, the input {input.dtype}. Convert one with .to().")
    source = source * alpha.cast(source.dtype).expand(source.shape)
    if not input.shape:
        one = (ops.reshape(v, shape=(1,)) for v in (input, index, source))
        return ops.reshape(ops.scatter_add(*one, axis=0), shape=())
    return ops.scatter_add(input, _spread(index, dim, input.shape), source, axis=dim)


@function(fallible=True)
def embedding(input: Tensor_, weight: Tensor_, padding_idx: Static = None):
    """Rows of `weight` [count, features] at the positions `input` (int64, any shape). The row `padding_idx` gets no gradient;
    a negative one counts from the end.

    Raises IndexError for positions outside of 0..count-1 (when a value is read), RuntimeError for such a `padding_idx` and for
    weights of other than two dimensions.
    """
    index = _whole("embedding", input, "input")
    check_floating("embedding", weight, "weight")
    if len(weight.shape) != 2:
        raise RuntimeError(f"[embedding] weight has shape {weight.shape}. Give it two dimensions: rows, features.")
    flat = ops.reshape(index, shape=(math.prod(index.shape),))
    picked = ops.gather(weight, _spread(flat, 0, weight.shape), axis=0)
    if padding_idx is not None:
        row = padding_row("embedding", padding_idx, weight.shape[0])
        is_padding = ops.reshape(flat.eq(row), shape=(flat.shape[0], 1)).expand(picked.shape)
        picked = ops.select(is_padding, ops.stop_gradient(picked), picked)
    return ops.reshape(picked, shape=(*index.shape, weight.shape[1]))


def padding_row(op: str, padding_idx: Any, count: Any) -> int:
    """`padding_idx` counted from the front."""
    if isinstance(padding_idx, bool) or not isinstance(padding_idx, int):
        raise TypeError(f"[{op}] padding_idx is {padding_idx!r}, a {type(padding_idx).__name__}. Pass an int or None.")
    if not -count <= padding_idx < count:
        raise RuntimeError(
            f"[{op}] padding_idx {padding_idx} is out of range for {count} rows. Use {-count} to {count - 1}."
        )
    return padding_idx + count if padding_idx < 0 else padding_idx
