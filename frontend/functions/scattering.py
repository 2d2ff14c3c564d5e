"""Writing at positions given by a tensor: scatter and scatter_reduce, index_add, index_copy, index_fill, index_reduce, put.

In: data and int64 positions. Out: new tensors. Equal positions are met in the order of the index, row by row: what is stored last
stays, what is added up is added in that order. Positions are checked when the values are computed. Next: `masks.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_, int64
from flambeau.function import Operand, Static, Tensor_, function
from flambeau.functions.common import canonical_dim, fitted, flat, ops
from flambeau.functions.gathering import check_fit, corner
from flambeau.functions.positions import (
    ADD,
    LARGEST,
    MULTIPLY,
    SMALLEST,
    STORE,
    combine,
    from_front,
    same_dtype,
    spread,
    vector_along,
    whole,
)
from flambeau.samples import call, calls, data, index

#: (x, index, updates, axis) -> x with the updates.
_Act = Callable[[Value, Value, Value, int], Value]


def _stored(x: Value, index: Value, updates: Value, axis: int) -> Value:
    return combine(STORE, x, index, updates, axis)


def _added(x: Value, index: Value, updates: Value, axis: int) -> Value:
    return combine(ADD, x, index, updates, axis)


# ---- an index as large as what is written ---------------------------------------------------------------------


def _scattered(op: str, input: Value, dim: Any, index: Value, src: Value, act: _Act) -> Value:
    """`act` on the part of `input` that `index` covers, with the part of `src` that it covers; `src` may be a number."""
    index = whole(op, index)
    dim = canonical_dim(op, dim, len(input.shape))
    if 0 in index.shape:
        return input
    check_fit(op, input, index, dim)
    if src.weak:
        src = fitted(op, "src", src, input.dtype).cast(input.dtype).expand(index.shape)
    check_fit(op, src, index, -1)
    same_dtype(op, input, "src", src)
    if not input.shape:
        return ops.reshape(act(flat(input), flat(index), flat(src), 0), shape=())
    sizes = tuple(input.shape[d] if d == dim else n for d, n in enumerate(index.shape))
    made = act(corner(input, sizes), index, corner(src, index.shape), dim)
    if sizes == input.shape:
        return made
    zeros = [input.builder.constant(0, int64)] * len(sizes)
    return ops.update_slice(input, made, *zeros, steps=(1,) * len(sizes))


_WAYS = {None: STORE, "add": ADD, "multiply": MULTIPLY}


@function(
    out=True,
    free="flambeau",
    method=True,
    in_place=True,
    samples=calls(
        lambda: [
            call(data(4, 3), 0, index(4, 2, 3), data(2, 3)),
            call(data(4, 3), 1, index(3, 4, 2), data(4, 5)),
            call(data(4, 3), 0, index(4, 1, 2), 1.5),
            call(data(4, 3), 0, index(4, 5, 3) // 2, data(5, 3), gradient=False),
            call(data(4, 3), 0, index(4, 5, 3), data(5, 3), reduce="multiply"),
            call(data(4, 3), 0, index(4, 5), data(5), error=(RuntimeError, "differ in dimensions")),
            call(data(4, 3), 0, index(4, 2, 3), 1, reduce="mean", error=(RuntimeError, "Use 'add' or 'multiply'")),
        ]
    ),
    fallible=True,
)
def scatter(input: Tensor_, dim: Static, index: Tensor_, src: Operand, *, reduce: Static = None):
    """`input` with `src[i, j]`, or the number `src`, at `[index[i, j], j]` for `dim` 0, and so on. Of equal positions the last
    one stays. `reduce`: "add" or "multiply" combines with what is there. Every element of `src` gets the gradient of its place.

    Raises RuntimeError for shapes or dtypes that do not fit, IndexError for positions outside (when a value is read).
    """
    if reduce not in _WAYS:
        raise RuntimeError(f"[scatter] reduce is {reduce!r}. Use 'add' or 'multiply', or scatter_reduce.")
    way = _WAYS[reduce]
    return _scattered("scatter", input, dim, index, src, lambda x, at, new, axis: combine(way, x, at, new, axis))


@function(
    out=True,
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
    return _scattered("scatter_add", input, dim, index, src, _added)


# ---- reductions -----------------------------------------------------------------------------------------------

_REDUCTIONS = {"sum": ADD, "prod": MULTIPLY, "amax": LARGEST, "amin": SMALLEST, "max": LARGEST, "min": SMALLEST}


def _neutral(way: str, x: Value) -> Any:
    """What changes nothing of what it is combined with."""
    if way == ADD:
        return False if x.dtype is bool_ else 0
    if way == MULTIPLY:
        return True if x.dtype is bool_ else 1
    return x.dtype.least if way == LARGEST else x.dtype.greatest


def _reducing(op: str, reduce: Any, include_self: Any, names: tuple[str, ...]) -> _Act:
    """What a scatter that reduces does."""
    if reduce not in names:
        raise RuntimeError(f"[{op}] reduce is {reduce!r}. Use {', '.join(map(repr, names))}.")
    way = ADD if reduce == "mean" else _REDUCTIONS[reduce]

    def act(x: Value, index: Value, updates: Value, axis: int) -> Value:
        start = x if include_self else combine(STORE, x, index, updates.like(_neutral(way, x)), axis)
        total = combine(way, start, index, updates, axis)
        return _divided(x, total, index, updates, axis) if reduce == "mean" else total

    def _divided(x: Value, total: Value, index: Value, updates: Value, axis: int) -> Value:
        count = combine(ADD, x.like(1 if include_self else 0), index, updates.like(1), axis)
        count = count if include_self else ops.select(count.eq(0), count.like(1), count)
        return total / count if x.dtype.is_floating_point else ops.int_div(total, count)

    return act


@function(
    out=True,
    free="flambeau",
    method=True,
    in_place=True,
    samples=calls(
        lambda: [
            *(
                call(data(4, 3), 0, index(4, 5, 3), data(5, 3), r, include_self=kept)
                for r in ("sum", "prod", "mean", "amax", "amin")
                for kept in (True, False)
            ),
            call(data(4, 3), 1, index(3, 2, 2), data(3, 5), "amax"),
            call(data(4, 3), 0, index(4, 2, 3), data(2, 3), "most", error=(RuntimeError, "reduce is 'most'")),
        ]
    ),
    fallible=True,
)
def scatter_reduce(
    input: Tensor_, dim: Static, index: Tensor_, src: Tensor_, reduce: Static, *, include_self: Static = True
):
    """`input` with `src[i, j]` folded in at `[index[i, j], j]` for `dim` 0, and so on, in order: "sum", "prod", "mean", "amax" or
    "amin" of what is there and all that comes to it, or without `include_self` of what comes to it alone. The gradient of an
    extreme goes to all that are it in equal parts.

    Raises RuntimeError for shapes or dtypes that do not fit, IndexError for positions outside (when a value is read).
    """
    names = ("sum", "prod", "mean", "amax", "amin", "max", "min")
    return _scattered(
        "scatter_reduce", input, dim, index, src, _reducing("scatter_reduce", reduce, include_self, names)
    )


# ---- slices at a vector of positions --------------------------------------------------------------------------


def _at_slices(
    op: str, input: Value, dim: Any, index: Value, source: Value, act: _Act, error: type = RuntimeError
) -> Value:
    """`act` on slices of `input` at a vector of positions along `dim`, with those of `source`."""
    dim, vector = vector_along(op, input, dim, index)
    wanted = tuple(vector.shape[0] if d == dim else n for d, n in enumerate(input.shape))
    fits = source.shape == wanted if input.shape else vector.shape == (1,) and math.prod(source.shape) == 1
    if not fits:
        raise error(
            f"[{op}] index of shape {index.shape} and source of shape {source.shape} do not fit the input of shape "
            f"{input.shape} along dimension {dim}. Give one slice of the input's other sizes per position."
        )
    same_dtype(op, input, "source", source)
    if not input.shape:
        return ops.reshape(act(flat(input), vector, flat(source), 0), shape=())
    return act(input, spread(vector, dim, input.shape), source, dim)


@function(
    out=True,
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

    def act(x: Value, at: Value, new: Value, axis: int) -> Value:
        scale = alpha.cast(new.dtype).expand(new.shape)
        return _added(x, at, ops.and_(new, scale) if new.dtype is bool_ else new * scale, axis)

    return _at_slices("index_add", input, dim, index, source, act)


@function(
    out=True,
    free="flambeau",
    method=True,
    in_place=True,
    samples=calls(
        lambda: [
            call(data(4, 3), 0, index(4, 2), data(2, 3)),
            call(data(4, 3), 1, index(3, 2), data(4, 2)),
            call(data(4, 3), 0, index(4, 5), data(5, 3), gradient=False),
            call(data(4, 3), 0, index(4, 5), data(4, 3), error=(IndexError, "do not fit the input")),
        ]
    ),
    fallible=True,
)
def index_copy(input: Tensor_, dim: Static, index: Tensor_, source: Tensor_):
    """`input` with the slices of `source` at positions `index` along `dim`; of equal positions the last one stays.

    Raises RuntimeError for dtypes and IndexError for shapes that do not fit, IndexError for positions outside (when a value is
    read).
    """
    return _at_slices("index_copy", input, dim, index, source, _stored, IndexError)


@function(
    method=True,
    in_place=True,
    free="flambeau",
    samples=calls(
        lambda: [
            call(data(4, 3), 0, index(4, 2), 2),
            call(data(4, 3), 1, index(3, 2) - 3, data()),
            call(data(4, 3), 0, index(4, 2), data(1), error=(RuntimeError, "Pass a number or a 0-d tensor")),
        ]
    ),
    fallible=True,
)
def index_fill(input: Tensor_, dim: Static, index: Tensor_, value: Operand):
    """`input` with `value`, a number or a 0-d tensor, in the slices at positions `index` along `dim`. Negative positions count from
    the end.

    Raises IndexError for positions outside (when a value is read).
    """
    if value.shape:
        raise RuntimeError(f"[index_fill] value has shape {value.shape}. Pass a number or a 0-d tensor.")
    dim, vector = vector_along("index_fill", input, dim, index, IndexError)
    shape = input.shape or (1,)
    vector = from_front("index_fill", vector, shape[dim])
    at = spread(vector, dim, shape)
    value = fitted("index_fill", "value", value, input.dtype)
    made = _stored(ops.reshape(input, shape=shape), at, value.cast(input.dtype).expand(at.shape), dim)
    return ops.reshape(made, shape=input.shape)


@function(
    out=True,
    free="flambeau",
    method=True,
    in_place=True,
    samples=calls(
        lambda: [
            *(call(data(4, 3), 0, index(4, 5), data(5, 3), r) for r in ("prod", "mean", "amax", "amin")),
            call(data(4, 3), 1, index(3, 2), data(4, 2), "mean", include_self=False),
            call(data(4, 3), 0, index(4, 5), data(5, 3), "sum", error=(RuntimeError, "reduce is 'sum'")),
        ]
    ),
    fallible=True,
)
def index_reduce(
    input: Tensor_, dim: Static, index: Tensor_, source: Tensor_, reduce: Static, *, include_self: Static = True
):
    """`input` with the slices of `source` folded in at positions `index` along `dim`, in order: "prod", "mean", "amax" or "amin".
    See `scatter_reduce`.

    Raises RuntimeError for shapes or dtypes that do not fit, IndexError for positions outside (when a value is read).
    """
    act = _reducing("index_reduce", reduce, include_self, ("prod", "mean", "amax", "amin"))
    return _at_slices("index_reduce", input, dim, index, source, act)


# ---- elements by their number ---------------------------------------------------------------------------------


@function(
    free="flambeau",
    method=True,
    in_place=True,
    samples=calls(
        lambda: [
            call(data(4, 3), index(12, 2, 2), data(2, 2)),
            call(data(4, 3), index(12, 3) - 12, data(3), True),
            call(data(4, 3), index(4, 30), data(30), accumulate=True),
            call(data(4, 3), index(12, 2), data(3), error=(IndexError, "Give one for each")),
        ]
    ),
    fallible=True,
)
def put(input: Tensor_, index: Tensor_, source: Tensor_, accumulate: Static = False):
    """`input` with the elements of `source` at positions `index`, counted row by row; negative ones count from the end.
    `accumulate` adds them to what is there, in order; otherwise the last one of equal positions stays.

    Raises RuntimeError for dtypes and IndexError for sizes that do not fit, and for positions outside (when a value is read).
    """
    if math.prod(index.shape) != math.prod(source.shape):
        raise IndexError(
            f"[put] {math.prod(index.shape)} positions and {math.prod(source.shape)} elements. Give one for each."
        )
    same_dtype("put", input, "source", source)
    places = from_front("put", flat(whole("put", index)), math.prod(input.shape))
    return ops.reshape(combine(ADD if accumulate else STORE, flat(input), places, flat(source), 0), shape=input.shape)
