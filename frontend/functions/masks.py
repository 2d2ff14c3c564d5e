"""Where elements are, and those that a mask picks: nonzero and its kin, where of one argument, masked_select, masked_scatter.

In: tensors, of any dtype or bools. Out: as many places or elements as there are. How many that is, is read at the call, as in
PyTorch: what was recorded runs, and the rest of the program is compiled for any count. `nonzero_static` and `masked_scatter` read
nothing. Next: `assemble.py`.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_, int64, uint8
from flambeau.function import Number, Sizes, Tensor_, function
from flambeau.functions.common import as_value, broadcast_shapes, flat, ops
from flambeau.functions.positions import same_dtype, spread
from flambeau.out import stored_in
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, points, truth

# ---- places ---------------------------------------------------------------------------------------------------


def _truth(x: Value) -> Value:
    return flat(x if x.dtype is bool_ else x.ne(0))


def _ranks(mask: Value) -> Value:
    """How many elements of a flat mask hold before each one, of those that do."""
    return ops.cumsum(mask.cast(int64), axis=0, reverse=False) - 1


def _held(mask: Value, count: Any, fill: Value) -> Value:
    """The numbers of the first `count` elements of a flat mask that hold; `fill` where there are fewer."""
    (n,) = mask.shape
    if not n:
        return fill.expand((count,))
    ranks = _ranks(mask)
    aside = ranks.like(count)
    at = ops.select(ops.and_(mask, ranks < aside), ranks, aside)
    numbers = ops.iota(shape=(n,), dim=0, dtype=int64, builder=mask.builder)
    made = ops.scatter(fill.expand((count + 1,)), at, numbers, axis=0)
    return ops.slice(made, starts=(0,), sizes=(count,), steps=(1,))


def _coordinates(numbers: Value, shape: tuple[Any, ...]) -> list[Value]:
    """The places of elements, counted row by row, along each dimension."""
    found = []
    for d, n in enumerate(shape):
        step = math.prod(shape[d + 1 :])
        at = numbers if step == 1 else ops.int_div(numbers, numbers.like(step))
        found.append(at if d == 0 else ops.int_rem(at, at.like(n)))
    return found


def _side_by_side(columns: list[Value]) -> Value:
    """Vectors as the columns of a matrix."""
    found = [ops.reshape(c, shape=(*c.shape, 1)) for c in columns]
    return ops.concat(*found, dim=1) if len(found) > 1 else found[0]


@function(name="nonzero")
def _count(input: Tensor_):
    """How many elements are not 0."""
    return ops.sum(_truth(input).cast(int64), axes=(0,))


@function(name="nonzero")
def _numbers(input: Tensor_, count: Sizes):
    mask = _truth(input)
    return _held(mask, count[0], mask.builder.constant(0, int64))


@function(name="nonzero", fallible=True)
def _rows(input: Tensor_, count: Sizes):
    mask = _truth(input)
    numbers = _held(mask, count[0], mask.builder.constant(0, int64))
    return _side_by_side(_coordinates(numbers, input.shape))


@function(name="nonzero", fallible=True)
def _columns(input: Tensor_, count: Sizes):
    mask = _truth(input)
    return tuple(_coordinates(_held(mask, count[0], mask.builder.constant(0, int64)), input.shape))


def count_of(input: Tensor) -> int:
    """How many elements are not 0: runs what was recorded."""
    return _count(input).item()


def numbers_of(mask: Tensor) -> Tensor:
    """The numbers, counted row by row, of the elements that are not 0. Runs what was recorded, to know how many there are."""
    return _numbers(mask, (count_of(mask),))


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(points(), gradient=False),
            call(truth(3, 4), gradient=False),
            call(truth(2, 3, 2), as_tuple=True, gradient=False),
            call(data(), gradient=False),
            call(data(0, 2), gradient=False),
        ]
    ),
)
def nonzero(input: Tensor, *, out: Tensor | None = None, as_tuple: bool = False) -> Tensor | tuple[Tensor, ...]:
    """The places of the elements that are not 0, row by row: int64 [count, dimensions], or with `as_tuple` a vector for each
    dimension, which index. Runs what was recorded, to know how many there are."""
    count = (count_of(input),)
    if as_tuple:
        found = _columns(input if input.ndim else input.reshape(1), count)
        return found if isinstance(found, tuple) else (found,)
    rows = _rows(input, count) if input.ndim else input.new_empty((count[0], 0), dtype=int64)
    return rows if out is None else stored_in("nonzero", out, rows)


@declared(
    free="flambeau",
    method=True,
    samples=calls(lambda: [call(truth(3, 4), gradient=False), call(points(), gradient=False)]),
)
def argwhere(input: Tensor) -> Tensor:
    """The places of the elements that are not 0, row by row: int64 [count, dimensions]. See `nonzero`."""
    return nonzero(input)


@function(
    out=True,
    free="flambeau",
    method=True,
    fallible=True,
    samples=calls(
        lambda: [
            call(truth(3, 4), size=3, gradient=False),
            call(points(), size=20, fill_value=7, gradient=False),
            call(truth(3), size=-1, error=(RuntimeError, "size is -1")),
        ]
    ),
)
def nonzero_static(input: Tensor_, *, size: Sizes, fill_value: Number = -1):
    """The places of the first `size` elements that are not 0, row by row: int64 [size, dimensions]; `fill_value` where there are
    fewer. Reads nothing."""
    if size < 0:
        raise RuntimeError(f"[nonzero_static] size is {size}. Pass at least 0.")
    mask = _truth(input)
    if not input.shape:
        return mask.builder.constant(0, int64, (size, 0))
    missing = mask.builder.constant(-1, int64)
    numbers = _held(mask, size, missing)
    there = numbers >= 0
    fill = as_value(numbers, fill_value).cast(int64).expand(numbers.shape)
    return _side_by_side([ops.select(there, c, fill) for c in _coordinates(numbers, input.shape)])


# ---- elements -------------------------------------------------------------------------------------------------


def _as_mask(op: str, mask: Value) -> Value:
    """A mask; uint8 was one before there were bools."""
    if mask.dtype not in (bool_, uint8):
        raise RuntimeError(f"[{op}] the mask has dtype {mask.dtype}. Pass a bool tensor, such as x > 0.")
    return mask if mask.dtype is bool_ else mask.cast(bool_)


@function(name="masked_select")
def _spread_mask(input: Tensor_, mask: Tensor_):
    return _as_mask("masked_select", mask).expand(broadcast_shapes("masked_select", input.shape, mask.shape))


@function(name="masked_select", fallible=True)
def _picked(input: Tensor_, mask: Tensor_, numbers: Tensor_):
    return ops.gather(flat(input.expand(mask.shape)), numbers, axis=0)


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(points(), truth(16), gradient=False),
            call(data(2, 3), truth(3)),
            call(data(3), truth(2, 1)),
            call(data(2), data(2), error=(RuntimeError, "Pass a bool tensor")),
            call(data(2), truth(3), error=(RuntimeError, "do not broadcast")),
        ]
    ),
)
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements of `input` where `mask` holds, row by row, in a vector; both broadcast. Runs what was recorded, to know how many
    there are.

    Raises RuntimeError for a mask that is none, and shapes that do not broadcast.
    """
    whole = _spread_mask(input, mask)
    return _picked(input, whole, numbers_of(whole))


def _checked_count(op: str, ranks: Value, low: Any, high: Any, text: str) -> Value:
    """How many elements of a mask hold, 0-d, which must lie in low..high: RuntimeError when values are computed."""
    (n,) = ranks.shape
    total = ops.reshape(ops.slice(ranks, starts=(n - 1,), sizes=(1,), steps=(1,)), shape=()) + 1
    return ops.check_range(total, low=low, high=high, op=op, what="mask", text=text, error="RuntimeError")


def taken_in_order(op: str, x: Value, mask: Value, source: Value, low: Any, text: str) -> Value:
    """`x` [before, n, after] with the first, second, ... of the slices of `source` [before, k, after] where the flat `mask` [n]
    holds for the first, second, ... time. It must hold `low` to k times: RuntimeError when values are computed."""
    (n,), k = mask.shape, source.shape[1]
    if not n:
        return x
    ranks = _ranks(mask)
    count = _checked_count(op, ranks, low, k, text)
    if not k:  # nothing holds
        return ops.select(count.eq(0).expand(x.shape), x, x.like(0))
    at = ops.maximum(ops.minimum(ranks, (count - 1).expand(ranks.shape)), ranks.like(0))
    return ops.select(spread(mask, 1, x.shape), ops.gather(source, spread(at, 1, x.shape), axis=1), x)


@function(
    free="flambeau",
    method=True,
    in_place=True,
    samples=calls(
        lambda: [
            call(points(), truth(16), points(), gradient=False),
            call(data(2, 3), truth(3), data(5)),
            call(data(2, 3), truth(2, 1), data(2, 4)),
            call(data(3), truth(3), data(1), error=(RuntimeError, "mask holds more often than source has elements")),
            call(data(2), data(2), data(2), error=(RuntimeError, "Convert it with .bool()")),
        ]
    ),
    fallible=True,
)
def masked_scatter(input: Tensor_, mask: Tensor_, source: Tensor_):
    """`input` with the elements of `source`, in order, where `mask` holds; both broadcast.

    Raises RuntimeError for another dtype of `source`, and, when a value is read, where it has too few elements.
    """
    if mask.dtype is not bool_:
        raise RuntimeError(f"[masked_scatter] mask has dtype {mask.dtype}. Convert it with .bool().")
    shape = broadcast_shapes("masked_scatter", input.shape, mask.shape)
    mask = flat(_as_mask("masked_scatter", mask).expand(shape))
    same_dtype("masked_scatter", input, "source", source)
    lines = lambda x: ops.reshape(x, shape=(1, math.prod(x.shape), 1))  # noqa: E731
    text = "holds more often than source has elements. Give one for each."
    made = taken_in_order("masked_scatter", lines(input.expand(shape)), mask, lines(source), 0, text)
    return ops.reshape(made, shape=shape)
