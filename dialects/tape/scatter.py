"""Scatters: elements stored at, or combined with what is at, an index along one axis, one after the other.

In: a tensor, an int64 index that agrees with it in all other dimensions, and updates of the index's shape. Out: the tensor with
the updates; equal indices are met in the updates' row-major order, so that of what is stored the last one stays. All fail at run
time where an index is out of range. Next: `nan.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flambeau.dialects import families
from flambeau.dialects.aval import Aval
from flambeau.dialects.domain import Domain, failing
from flambeau.dialects.dtypes import ARITHMETIC, NUMERIC, SUPPORTED, DType
from flambeau.dialects.record import Kind, OpRecord, Sample
from flambeau.dialects.tape.common import (
    check_dtype,
    is_extreme,
    is_zero,
    one_nan,
    ops,
    quiet,
    random,
    rounded_once,
    zeros_signed,
)
from flambeau.dialects.tape.indexing import check_index_of, gather_samples, require_in_range, within
from flambeau.dialects.tape.nan import canonical

#: (result, places, updates): combines, one after the other, what is at the places of the result with the updates.
_Store = Callable[[np.ndarray, tuple[np.ndarray, ...], np.ndarray], None]


def _scatter(
    name: str,
    kind: str,
    store: _Store,
    lower: Callable[..., Any],
    vjp: Callable[..., Any],
    doc: str,
    numbers: Sequence[DType] = NUMERIC,
) -> OpRecord:
    """A scatter; `lower(b, old, new)` is what an element becomes, but for its NaN."""
    moves = families.find(kind).moves
    dtypes = SUPPORTED if moves else numbers

    def infer(x: Aval, index: Aval, updates: Aval, axis: int) -> Aval:
        check_dtype(name, x, dtypes)
        check_index_of(name, x, index, axis)
        if updates != Aval(index.shape, x.dtype):
            raise RuntimeError(
                f"[{name}] updates are {updates.dtype.name} of shape {updates.shape}. "
                f"Pass {x.dtype.name} of the index's shape {index.shape}."
            )
        return x

    def reference(x: np.ndarray, index: np.ndarray, updates: np.ndarray, axis: int) -> np.ndarray:
        require_in_range(name, x, index, axis)
        result = x.copy()
        where = list(np.ogrid[tuple(slice(n) for n in index.shape)])
        where[axis] = index
        store(result, tuple(where), updates)
        if not moves:
            result[tuple(where)] = one_nan(result[tuple(where)])
        return result

    def domain(x: Aval, index: Aval, updates: Aval, axis: int) -> Domain:
        return within(name, x, axis)

    return OpRecord(
        name=name,
        kind=kind,
        attrs=("axis",),
        infer=infer,
        reference=reference if moves else quiet(rounded_once(reference)),
        vjp=vjp,
        lower=lower if moves else _canonical(lower),
        dtypes=dtypes,
        fallible=True,
        failure=failing(domain, 3),
        domain=domain,
        samples=lambda: _samples(name, duplicates=not moves),
        doc=doc,
    )


def _canonical(lower: Callable[..., Any]) -> Callable[..., Any]:
    """What is combined has the canonical NaN; made so where it is stored, nobody has to go through all elements for the few."""
    return lambda b, old, new: canonical(b, lower(b, old, new))


def _samples(name: str, duplicates: bool) -> list[Sample]:
    """`duplicates`: gradients are those of the values where indices are equal, too."""
    x, index = random((4, 3)), np.zeros((2, 3), np.int64)
    text = f"[{name}] updates are float64 of shape (1, 3). Pass float64 of the index's shape (2, 3)."
    far = np.array([[0, 1, 2], [0, 1, 4]])

    def differentiable(sample: Sample) -> bool:
        """Finite differences know nothing of two updates of one element, of which the first is lost."""
        at, axis = sample.operands[1], sample.attrs["axis"]
        apart = np.sort(at, axis)
        return sample.gradient and (duplicates or bool((np.diff(apart, axis=axis) != 0).all()))

    return [
        *(
            Sample(
                (*s.operands, random(s.operands[1].shape, seed=2)),
                s.attrs,
                gradient=differentiable(s),
            )
            for s in gather_samples()
            if s.error is None
        ),
        Sample((x, np.array([[3, 0, 1], [1, 2, 0]]), random((2, 3), seed=2)), {"axis": 0}),
        Sample((np.zeros(3), np.zeros(100, np.int64), random((100,))), {"axis": 0}, gradient=False),
        Sample((x, index, random((1, 3))), {"axis": 0}, error=(RuntimeError, text)),
        Sample(
            (x, far, random((2, 3))),
            {"axis": 0},
            error=(IndexError, f"[{name}] index[1, 2] is out of range for axis"),
        ),
        Sample((x, index > 0, random((2, 3))), {"axis": 0}, error=(RuntimeError, f"[{name}] the index has dtype bool")),
    ]


def _set(result: np.ndarray, where: tuple[np.ndarray, ...], updates: np.ndarray) -> None:
    """NumPy leaves open which of several stays: here each place is told its last update."""
    shape = np.broadcast_shapes(*(w.shape for w in where))
    at = np.ravel_multi_index([np.broadcast_to(w, shape).ravel() for w in where], result.shape)
    last, first_from_the_end = np.unique(at[::-1], return_index=True)
    result.reshape(-1)[last] = updates.reshape(-1)[::-1][first_from_the_end]


def _extremes(ufunc: np.ufunc, negative: bool) -> _Store:
    """Extremes. NumPy leaves open which of +0 and -0 it takes: here a zero of sign `negative` wins."""

    def store(result: np.ndarray, where: tuple[np.ndarray, ...], updates: np.ndarray) -> None:
        if result.dtype.kind != "f":
            ufunc.at(result, where, updates)
            return
        met = is_zero(result, negative)
        np.logical_or.at(met, where, is_zero(updates, negative))
        ufunc.at(result, where, updates)
        result[...] = zeros_signed(result, met == negative)

    return store


# ---- gradients --------------------------------------------------------------------------------------------------


def _vjp_set(ct, r, x, index, updates, axis):
    """PyTorch's rule: every update gets the gradient of its place, also one that another has replaced."""
    return ops.scatter(ct, index, updates.like(0), axis=axis), None, ops.gather(ct, index, axis=axis)


def _vjp_mul(ct, r, x, index, updates, axis):
    """By the products of the others. A factor of 0 alone at its place gets the product of what else is there; two and more of them
    get 0, and so do their second derivatives."""
    of_x = ct * ops.scatter_mul(x.like(1), index, updates, axis=axis)
    is_zero = updates.eq(0)
    zeros = ops.scatter_add(x.like(0), index, is_zero.cast(x.dtype), axis=axis)
    alone = ops.and_(is_zero, ops.gather(zeros, index, axis=axis).eq(1))
    without = ops.scatter_mul(x, index, ops.select(alone, updates.like(1), updates), axis=axis)
    divided = ops.gather(ct * r, index, axis=axis) / ops.select(is_zero, updates.like(1), updates)
    return of_x, None, ops.select(alone, ops.gather(ct * without, index, axis=axis), divided)


def _vjp_extreme(ct, r, x, index, updates, axis):
    """Equal parts for all that are the extreme of a place."""
    here = is_extreme(x, r)
    there = is_extreme(updates, ops.gather(r, index, axis=axis))
    count = ops.scatter_add(here.cast(x.dtype), index, there.cast(x.dtype), axis=axis)
    part = ct / count
    return (
        ops.select(here, part, part.like(0)),
        None,
        ops.select(there, ops.gather(part, index, axis=axis), updates.like(0)),
    )


# ---- records ----------------------------------------------------------------------------------------------------

scatter = _scatter(
    "scatter",
    Kind.PUT,
    _set,
    lambda b, old, new: new,
    _vjp_set,
    "x with updates stored at index[i, j, ...] along `axis`; of equal indices the last one in row-major order stays.",
)
scatter_add = _scatter(
    "scatter_add",
    Kind.SCATTER,
    np.add.at,
    lambda b, old, new: b.add(old, new),
    lambda ct, r, x, index, updates, axis: (ct, None, ops.gather(ct, index, axis=axis)),
    "x plus updates at index[i, j, ...] along `axis`; equal indices add up in the updates' row-major order.",
    ARITHMETIC,
)
scatter_mul = _scatter(
    "scatter_mul",
    Kind.SCATTER,
    np.multiply.at,
    lambda b, old, new: b.mul(old, new),
    _vjp_mul,
    "x times updates at index[i, j, ...] along `axis`; equal indices multiply in the updates' row-major order.",
)
scatter_max = _scatter(
    "scatter_max",
    Kind.SCATTER,
    _extremes(np.maximum, negative=False),
    lambda b, old, new: b.maximum(old, new),
    _vjp_extreme,
    "The larger one of x and the updates at index[i, j, ...] along `axis`; NaN wins, +0 is larger than -0.",
)
scatter_min = _scatter(
    "scatter_min",
    Kind.SCATTER,
    _extremes(np.minimum, negative=True),
    lambda b, old, new: b.minimum(old, new),
    _vjp_extreme,
    "The smaller one of x and the updates at index[i, j, ...] along `axis`; NaN wins, -0 is smaller than +0.",
)
