"""Elements that are there once: unique, unique_consecutive.

In: a tensor. Out: its different elements, as many as there are: how many is read where the function is called, as in PyTorch,
so that the program is cut there; their number is a size like any other for what follows. Next: `search.py`.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import int64
from flambeau.function import Sizes, Static, Tensor_, function
from flambeau.functions.common import canonical_dim, moved, ops, part
from flambeau.functions.order_statistics import starts_of_runs
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, index, points


def _groups(begins: Value) -> tuple[Value, Value, Value]:
    """Of elements of which some begin a group: the number of each one's group, where each group begins, how many there are."""
    (n,) = begins.shape
    group = ops.cumsum(begins.cast(int64), axis=0, reverse=False) - 1
    here = ops.iota(shape=(n,), dim=0, dtype=int64, builder=begins.builder)
    starts = ops.scatter_add(here.like(0), group, ops.select(begins, here, here.like(0)), axis=0)
    return group, starts, ops.reshape(part(group, 0, n - 1, 1) + 1, shape=())


def _order_of_rows(x: Value) -> Value:
    """The positions that sort rows, by their first element, then the next ones: sorted by the last one first."""
    n, width = x.shape
    at = ops.iota(shape=(n,), dim=0, dtype=int64, builder=x.builder)
    for k in reversed(range(int(width))):
        column = ops.reshape(part(x, 1, k, 1), shape=(n,))
        at = ops.gather(at, ops.argsort(ops.gather(column, at, axis=0), axis=0, descending=False), axis=0)
    return at


def _rows(x: Value, at: Value) -> Value:
    """Rows of a matrix, or elements of a vector, at positions."""
    if len(x.shape) == 1:
        return ops.gather(x, at, axis=0)
    shape = (at.shape[0], x.shape[1])
    return ops.gather(x, ops.reshape(at, shape=(at.shape[0], 1)).expand(shape), axis=0)


@function(name="unique", fallible=True)
def _grouped(input: Tensor_, ordered: Static):
    """Of a vector, or the rows of a matrix: the position of each in their order, then `_groups` of them."""
    x = ops.stop_gradient(input)
    n = x.shape[0]
    if not ordered:
        at = ops.iota(shape=(n,), dim=0, dtype=int64, builder=x.builder)
    elif len(x.shape) == 1:
        at = ops.argsort(x, axis=0, descending=False)
    else:
        at = _order_of_rows(x)
    begins = starts_of_runs(_rows(x, at) if ordered else x, 0)
    return at, *_groups(ops.any(begins, axes=(1,)) if len(x.shape) == 2 else begins)


@function(name="unique", fallible=True)
def _values(input: Tensor_, at: Tensor_, starts: Tensor_, count: Sizes):
    return ops.stop_gradient(_rows(input, ops.gather(at, part(starts, 0, 0, count), axis=0)))


@function(name="unique", fallible=True)
def _inverse(at: Tensor_, group: Tensor_, shape: Sizes):
    return ops.reshape(ops.scatter_add(at.like(0), at, group, axis=0), shape=shape)


@function(name="unique")
def _counts(starts: Tensor_, count: Sizes):
    end = starts.builder.constant(starts.shape[0], int64, (1,))
    return ops.concat(part(starts, 0, 1, count - 1), end, dim=0) - part(starts, 0, 0, count)


@function(name="unique")
def _lined_up(input: Tensor_, dim: Static):
    """The slices along a dim as rows."""
    x = ops.permute(input, perm=moved(len(input.shape), dim, 0))
    return ops.reshape(x, shape=(x.shape[0], math.prod(x.shape[1:])))


@function(name="unique")
def _put_back(input: Tensor_, dim: Static, rest: Sizes):
    """Rows as slices along a dim of tensors whose other sizes are `rest`."""
    x = ops.reshape(input, shape=(input.shape[0], *rest))
    return ops.permute(x, perm=moved(len(x.shape), 0, dim))


def _found(op: str, input: Tensor, dim: int | None, ordered: bool, inverse: bool, counts: bool) -> Any:
    """What both functions return."""
    if dim is None:
        return _of_elements(input, ordered, inverse, counts)
    axis = canonical_dim(op, dim, input.ndim)
    if input.ndim == 0:
        return _of_elements(input.reshape(1), ordered, inverse, counts)
    shape = tuple(input.shape)
    rest = shape[:axis] + shape[axis + 1 :]
    if 0 in rest and shape[axis]:
        raise RuntimeError(
            f"[{op}] the slices along dimension {axis} of shape {shape} are empty. Check the shape first."
        )
    if 0 in shape:
        none = input.new_empty((0,), dtype=int64)
        return _chosen(input, none, none, inverse, counts)
    values, where, many = _kinds(_lined_up(input, axis), (shape[axis],), ordered, inverse, counts)
    return _chosen(_put_back(values, axis, rest), where, many, inverse, counts)


def _of_elements(input: Tensor, ordered: bool, inverse: bool, counts: bool) -> Any:
    if input.numel() == 0:
        none = input.new_empty((0,), dtype=int64)
        return _chosen(input.reshape(0).detach(), none.reshape(input.shape), none, inverse, counts)
    return _chosen(*_kinds(input.reshape(-1), tuple(input.shape), ordered, inverse, counts), inverse, counts)


def _kinds(x: Tensor, shape: tuple[int, ...], ordered: bool, inverse: bool, counts: bool) -> tuple[Any, Any, Any]:
    """The different rows of `x`; which one each is, as `shape`; how often each is there. Looks at how many there are."""
    at, group, starts, count = _grouped(x, ordered)
    found = int(count.item())
    where = _inverse(at, group, shape) if inverse else None
    return _values(x, at, starts, found), where, _counts(starts, found) if counts else None


def _chosen(values: Tensor, where: Tensor | None, many: Tensor | None, inverse: bool, counts: bool) -> Any:
    found = (values, *([where] if inverse else []), *([many] if counts else []))
    return found if len(found) > 1 else values


_REPEATED = index(5, 4, 6)


def _samples() -> Any:
    return calls(
        lambda: [
            call(_REPEATED, gradient=False),
            call(_REPEATED, return_inverse=True, return_counts=True, gradient=False),
            call(_REPEATED % 2, dim=0, return_inverse=True, gradient=False),
            call(_REPEATED % 2, return_counts=True, dim=-1, gradient=False),
            call(points(), return_counts=True, gradient=False),
            call(data(3), gradient=False),
            call(data(), gradient=False),
            call(data(0), gradient=False),
            call(data(0, 3), return_inverse=True, gradient=False),
            call(data(2, 3), dim=2, error=(IndexError, "dim 2 is out of range")),
            call(data(2, 0), dim=0, error=(RuntimeError, "are empty")),
        ]
    )


@declared(free="flambeau", method=True, samples=_samples())
def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The different elements of `input`, sorted; or its different slices along `dim`, sorted by their elements in order. With
    `return_inverse` also which of them each element (or slice) is, with `return_counts` how often each is there (int64). They are
    always sorted, whatever `sorted` says. No NaN equals another one. How many there are is read at once.

    Raises IndexError for a dim that does not exist, RuntimeError where slices are empty.
    """
    return _found("unique", input, dim, True, return_inverse, return_counts)


@declared(free="flambeau", method=True, samples=_samples())
def unique_consecutive(
    input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The elements of `input` (or slices along `dim`) without those that equal the one before them. With `return_inverse` also in
    which of them each went, with `return_counts` how many went into each (int64). How many there are is read at once.

    Raises IndexError for a dim that does not exist, RuntimeError where slices are empty.
    """
    return _found("unique_consecutive", input, dim, False, return_inverse, return_counts)
