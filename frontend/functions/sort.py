"""Sorted tensors and the first of them: sort, argsort, msort, topk, kthvalue.

In: a tensor and a dim. Out: values, and where they were. Positions are the records': equal elements keep their order, NaN counts as
the greatest. Values are gathered there, and their gradient goes there. Next: `order_statistics.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau import return_types
from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.function import Static, Tensor_, function
from flambeau.functions.common import canonical_dim, ops, part
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, points

#: So many times the first k there are at least where looking for them pays; else all are sorted.
_MANY = 4


def places(op: str, x: Value, dim: Any, descending: bool) -> tuple[Value, Value, int]:
    """The operand, a 0-d one with an axis; the positions that sort it; the axis."""
    axis = canonical_dim(op, dim, len(x.shape))
    x = x if x.shape else ops.reshape(x, shape=(1,))
    return x, ops.argsort(x, axis=axis, descending=descending), axis


def check_not_empty(op: str, x: Value, axis: int) -> None:
    """Raise IndexError for an axis without elements, of which there is none to choose."""
    if x.shape and x.shape[axis] == 0:
        raise IndexError(f"[{op}] dimension {axis} of shape {x.shape} is empty. Check the shape first.")


def first(x: Value, axis: int, k: int, largest: bool) -> Value:
    """The positions of the k first along an axis, from the greatest down or from the least up."""
    if x.shape[axis] >= _MANY * k:
        return ops.topk(x, axis=axis, k=k, largest=largest)
    return part(ops.argsort(x, axis=axis, descending=largest), axis, 0, k)


def reduced_to(x: Value, input: Value, axis: int, keepdim: bool) -> Value:
    """One element along `axis`, as a reduction of `input` would have it."""
    if not input.shape or not keepdim:
        return ops.reshape(x, shape=tuple(n for d, n in enumerate(x.shape) if d != axis))
    return x


_SAMPLES = calls(
    lambda: [
        call(data(7)),
        call(data(3, 4), 0),
        call(data(2, 3, 4), dim=-2, descending=True),
        call(points(), gradient=False),
        call(points(), descending=True, gradient=False),
        call(data()),
        call(data(0, 2), 0, gradient=False),
        call(data(2, 3), 2, error=(IndexError, "dim 2 is out of range")),
    ]
)
_STABLE = calls(lambda: [call(data(5), stable=True)])


@function(name="sort", fallible=True)
def _sort(input: Tensor_, dim: Static, descending: Static):
    x, at, axis = places("sort", input, dim, bool(descending))
    found = ops.gather(x, at, axis=axis)
    return (found, at) if input.shape else (ops.reshape(found, shape=()), ops.reshape(at, shape=()))


@declared(free="flambeau", method=True, samples=_SAMPLES + _STABLE, recalled="operand")
def sort(input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool | None = False) -> Any:
    """(values, indices): the elements along `dim` sorted, and where they were (int64). Equal elements always keep their order,
    whatever `stable` says; NaN counts as largest. The gradient goes to those places. Raises IndexError for a dim that does not
    exist."""
    return return_types.sort(*_sort(input, dim, descending))


@function(free="flambeau", method=True, samples=_SAMPLES + _STABLE)
def argsort(input: Tensor_, dim: Static = -1, descending: Static = False, *, stable: Static = False):
    """The positions (int64) that sort the elements along `dim`. Equal elements always keep their order; NaN counts as largest.
    Raises IndexError for a dim that does not exist."""
    _, at, _ = places("argsort", input, dim, bool(descending))
    return at if input.shape else ops.reshape(at, shape=())


@function(
    free="flambeau",
    method=True,
    samples=calls(lambda: [call(data(5)), call(data(4, 3)), call(points(), gradient=False), call(data(0, 2))]),
    fallible=True,
)
def msort(input: Tensor_):
    """The elements sorted along the first dimension; NaN counts as largest."""
    if not input.shape:
        return ops.reshape(input, shape=())
    return ops.gather(input, ops.argsort(input, axis=0, descending=False), axis=0)


def _check_k(op: str, k: Any, count: Any, least: int, dim: int) -> None:
    if isinstance(k, bool) or not isinstance(k, int):
        raise TypeError(f"[{op}] k is {k!r}, a {type(k).__name__}. Pass an int.")
    if k < least or k > count:
        raise RuntimeError(
            f"[{op}] k is {k}, and dimension {dim} has {count} elements. Give an int from {least} to {count}."
        )


@function(name="topk", fallible=True)
def _topk(input: Tensor_, k: Static, dim: Static, largest: Static):
    axis = canonical_dim("topk", dim, len(input.shape))
    x = input if input.shape else ops.reshape(input, shape=(1,))
    _check_k("topk", k, x.shape[axis], 0, axis)
    at = first(x, axis, k, bool(largest))
    found = ops.gather(x, at, axis=axis)
    if input.shape or not k:
        return found, at
    return ops.reshape(found, shape=()), ops.reshape(at, shape=())


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(40), 3),
            call(data(3, 4), 2, 0),
            call(data(2, 30, 4), k=5, dim=-2, largest=False),
            call(points(), 4, gradient=False),
            call(points(), 3, largest=False, gradient=False),
            call(data(), 1),
            call(data(0, 2), 2, gradient=False),
            call(data(2, 3), 0, gradient=False),
            call(data(2, 3), 4, error=(RuntimeError, "[topk] k is 4, and dimension 1 has 3 elements")),
            call(data(2, 3), 1, 2, error=(IndexError, "dim 2 is out of range")),
        ]
    ),
    recalled="operand",
)
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """(values, indices): the k largest elements along `dim`, or the smallest, and where they are (int64). They are always sorted;
    of equal ones those that come first are taken, and come first. NaN counts as largest. The gradient goes to those places.

    Raises RuntimeError for k larger than the dim, IndexError for a dim that does not exist.
    """
    return return_types.topk(*_topk(input, k, dim, largest))


@function(name="kthvalue", fallible=True)
def _kthvalue(input: Tensor_, k: Static, dim: Static, keepdim: Static):
    axis = canonical_dim("kthvalue", dim, len(input.shape))
    x = input if input.shape else ops.reshape(input, shape=(1,))
    check_not_empty("kthvalue", input, axis)
    _check_k("kthvalue", k, x.shape[axis], 1, axis)
    at = part(first(x, axis, k, False), axis, k - 1, 1)
    return tuple(reduced_to(v, input, axis, keepdim) for v in (ops.gather(x, at, axis=axis), at))


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(40), 3),
            call(data(3, 4), 2, 0, True),
            call(data(2, 3, 4), k=3, dim=-2),
            call(points(), 6, gradient=False),
            call(data(), 1),
            call(data(2, 3), 4, error=(RuntimeError, "[kthvalue] k is 4, and dimension 1 has 3 elements")),
            call(data(2, 3), 0, error=(RuntimeError, "[kthvalue] k is 0")),
            call(data(2, 0), 1, error=(IndexError, "[kthvalue] dimension 1 of shape (2, 0) is empty")),
        ]
    ),
    recalled="operand",
)
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """(values, indices): the k-th smallest element along `dim`, counted from 1, and where it is among the sorted ones, of which
    equal ones keep their order. NaN counts as largest. The gradient goes to that place.

    Raises RuntimeError for a k that there is not, IndexError for a dim that is empty or does not exist.
    """
    return return_types.kthvalue(*_kthvalue(input, k, dim, keepdim))
