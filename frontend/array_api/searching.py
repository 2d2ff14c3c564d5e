"""The standard's functions that search, sort, and take by positions, and those of sets.

In: arrays. Out: arrays, named tuples of them. Next: `linalg.py`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from flambeau.array_api.operands import axes_of, common, fb
from flambeau.runtime.recorder import Tensor


class unique_all_result(NamedTuple):
    """What `unique_all` gives."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class unique_counts_result(NamedTuple):
    """What `unique_counts` gives."""

    values: Tensor
    counts: Tensor


class unique_inverse_result(NamedTuple):
    """What `unique_inverse` gives."""

    values: Tensor
    inverse_indices: Tensor


def argmax(x: Tensor, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The position of the first largest element along an axis, or in a row of all."""
    return _extreme(fb.argmax, x, axis, keepdims)


def argmin(x: Tensor, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The position of the first smallest element along an axis, or in a row of all."""
    return _extreme(fb.argmin, x, axis, keepdims)


def _extreme(call: Any, x: Tensor, axis: int | None, keepdims: bool) -> Tensor:
    if axis is not None:
        return call(x, axis, keepdims)
    return fb.reshape(call(x), (1,) * x.ndim) if keepdims else call(x)


def nonzero(x: Tensor, /) -> tuple[Tensor, ...]:
    """The places of the elements that are not 0, as one vector per axis. Raises ValueError for an array without axes."""
    if x.ndim == 0:
        raise ValueError("[nonzero] the array has no dimensions. Pass one with at least one.")
    return tuple(fb.nonzero(x, as_tuple=True))


def where(condition: Tensor, x1: Any, x2: Any, /) -> Tensor:
    """The elements of x1 where the condition holds, else those of x2, in their common dtype."""
    return fb.where(condition, *common(x1, x2))


def searchsorted(x1: Tensor, x2: Tensor, /, *, side: str = "left", sorter: Tensor | None = None) -> Tensor:
    """Where the elements of x2 belong into the sorted vector x1 (sorted by `sorter`, if given): before equal ones, or with "right"
    after them."""
    x1, x2 = common(x1, x2)
    return fb.searchsorted(x1, x2, side=side, sorter=sorter)


def sort(x: Tensor, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The elements in order along an axis."""
    return fb.sort(x, axis, descending, stable=stable)[0]


def argsort(x: Tensor, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The positions that put the elements in order along an axis."""
    return fb.argsort(x, axis, descending, stable=stable)


def take(x: Tensor, indices: Tensor, /, *, axis: int | None = None) -> Tensor:
    """The slices at these positions along an axis; a vector needs no axis. Positions below 0 count from the end."""
    if axis is None:
        if x.ndim != 1:
            raise ValueError(f"[take] an array of {x.ndim} dimensions is taken from along an axis. Name it.")
        axis = 0
    (place,) = axes_of(axis, x)
    return x[(*(slice(None),) * place, indices)]


def take_along_axis(x: Tensor, indices: Tensor, /, *, axis: int = -1) -> Tensor:
    """At each place the element at a position along the axis that `indices` tells."""
    indices = indices.to(fb.int64)
    return fb.take_along_dim(x, fb.where(indices < 0, indices + x.shape[axis], indices), axis)


def _unique(x: Tensor) -> unique_all_result:
    """Different elements in order, each NaN by itself; where the first of each stands, where each went, and how many there are."""
    flat = x.flatten()
    order = fb.argsort(flat, stable=True)
    in_order = flat[order]
    is_new = fb.cat([fb.ones(min(1, flat.shape[0]), dtype=fb.bool), in_order[1:] != in_order[:-1]])
    group = fb.cumsum(is_new, 0) - 1
    inverse = fb.zeros_like(group).scatter(0, order, group)
    firsts = fb.nonzero(is_new).flatten()
    ends = fb.cat([firsts[1:], fb.full((min(1, flat.shape[0]),), flat.shape[0])])
    return unique_all_result(in_order[firsts], order[firsts], inverse.reshape(x.shape), ends - firsts)


def unique_all(x: Tensor, /) -> unique_all_result:
    """The different elements in order, where the first of each stands, where each element went, and how many there are of each.
    No NaN equals another."""
    return _unique(x)


def unique_counts(x: Tensor, /) -> unique_counts_result:
    """The different elements in order, and how many there are of each."""
    found = _unique(x)
    return unique_counts_result(found.values, found.counts)


def unique_inverse(x: Tensor, /) -> unique_inverse_result:
    """The different elements in order, and where each element went among them."""
    found = _unique(x)
    return unique_inverse_result(found.values, found.inverse_indices)


def unique_values(x: Tensor, /) -> Tensor:
    """The different elements in order."""
    return _unique(x).values


def isin(x1: Any, x2: Any, /, *, invert: bool = False) -> Tensor:
    """Whether each element of x1 is one of x2; with `invert`, whether it is none."""
    return fb.isin(*common(x1, x2), invert=invert)
