"""Tensors side by side: atleast_1d and its kin, hstack, vstack, dstack, column_stack, block_diag, cartesian_prod, combinations.

In: tensors. Out: new tensors; `atleast_*` give views. All end in `assemble.joined` and `assemble.stacked`. Next: `cutting.py`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from flambeau import host
from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import int64
from flambeau.function import Tensors, function
from flambeau.functions.assemble import joined, stacked
from flambeau.functions.common import ops
from flambeau.functions.expansion import _tensors
from flambeau.functions.gathering import index_select
from flambeau.functions.shape import reshape, unsqueeze
from flambeau.promotion import result_dtype
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data

# ---- at least so many dimensions --------------------------------------------------------------------------


def _each(op: str, tensors: tuple[Any, ...], change: Callable[[Tensor], Tensor]) -> Any:
    """One tensor changed, or a tuple of several."""
    changed = tuple(map(change, _tensors(op, tensors)))
    return changed[0] if len(tensors) == 1 and isinstance(tensors[0], Tensor) else changed


_AT_LEAST = calls(
    lambda: [call(data()), call(data(3)), call(data(2, 3)), call([data(), data(2)]), call(data(), data(2))]
)


@declared(free="flambeau", samples=_AT_LEAST, recalled="operand")
def atleast_1d(*tensors: Any) -> Any:
    """A view with at least one dimension; of several tensors (or a sequence) a tuple of views."""
    return _each("atleast_1d", tensors, lambda t: t if t.ndim else unsqueeze(t, 0))


@declared(free="flambeau", samples=_AT_LEAST, recalled="operand")
def atleast_2d(*tensors: Any) -> Any:
    """A view with at least two dimensions, of which new ones go in front; of several tensors (or a sequence) a tuple of views."""
    return _each("atleast_2d", tensors, lambda t: t if t.ndim > 1 else reshape(t, (1, t.numel())))


@declared(free="flambeau", samples=_AT_LEAST, recalled="operand")
def atleast_3d(*tensors: Any) -> Any:
    """A view with at least three dimensions: [n] becomes [1, n, 1], [m, n] becomes [m, n, 1]; of several tensors (or a sequence)
    a tuple of views."""

    def change(t: Tensor) -> Tensor:
        if t.ndim > 2:
            return t
        return unsqueeze(t, -1) if t.ndim == 2 else reshape(t, (1, t.numel(), 1))

    return _each("atleast_3d", tensors, change)


# ---- stacks -----------------------------------------------------------------------------------------------


def _raised(x: Value, rank: int) -> Value:
    """With at least `rank` dimensions, as `atleast_*` give them."""
    shape = x.shape
    if len(shape) >= rank:
        return x
    if rank == 3 and len(shape) == 2:
        return ops.reshape(x, shape=(*shape, 1))
    flat = shape or (1,)
    return ops.reshape(x, shape={1: flat, 2: (1, *flat), 3: (1, *flat, 1)}[rank])


@function(
    free="flambeau",
    samples=calls(
        lambda: [
            call([data(2), data(3)]),
            call([data(2, 1), data(2, 3)]),
            call([data(), data(2)]),
            call([data(2, 1), data(3, 3)], error=(RuntimeError, "[hstack] shapes (2, 1) and (3, 3) differ")),
        ]
    ),
)
def hstack(tensors: Tensors):
    """The tensors side by side: along the first dimension of vectors, else along the second. Dtype: the promoted one."""
    raised = [_raised(x, 1) for x in tensors]
    return joined("hstack", raised, 0 if not raised or len(raised[0].shape) == 1 else 1)


@function(
    free="flambeau",
    aliases="row_stack",
    samples=calls(
        lambda: [
            call([data(3), data(2, 3)]),
            call([data(), data()]),
            call([data(2), data(3)], error=(RuntimeError, "[vstack] shapes (1, 2) and (1, 3) differ")),
        ]
    ),
)
def vstack(tensors: Tensors):
    """The tensors one below the other: along the first dimension, vectors as rows. Dtype: the promoted one."""
    return joined("vstack", [_raised(x, 2) for x in tensors], 0)


@function(
    free="flambeau",
    samples=calls(
        lambda: [
            call([data(3), data(3)]),
            call([data(2, 3), data(2, 3, 2)]),
            call([data(2), data(3)], error=(RuntimeError, "[dstack] shapes (1, 2, 1) and (1, 3, 1) differ")),
        ]
    ),
)
def dstack(tensors: Tensors):
    """The tensors along the third dimension: [n] as [1, n, 1], [m, n] as [m, n, 1]. Dtype: the promoted one."""
    return joined("dstack", [_raised(x, 3) for x in tensors], 2)


@function(
    free="flambeau",
    samples=calls(
        lambda: [
            call([data(3), data(3, 2)]),
            call([data(), data()]),
            call([data(2), data(3)], error=(RuntimeError, "[column_stack] shapes (2, 1) and (3, 1) differ")),
        ]
    ),
)
def column_stack(tensors: Tensors):
    """The tensors along the second dimension, vectors as columns. Dtype: the promoted one."""
    columns = [ops.reshape(x, shape=(*(x.shape or (1,)), 1)) if len(x.shape) < 2 else x for x in tensors]
    return joined("column_stack", columns, 1)


@function(name="block_diag")
def _block_diag(tensors: Tensors):
    dtype = result_dtype(tensors)
    blocks = [ops.reshape(x.cast(dtype), shape=(1, 1, *x.shape)[-2:]) for x in tensors]
    width, at, rows = sum(x.shape[1] for x in blocks), 0, []
    for x in blocks:
        rows.append(ops.pad(x, x.builder.constant(0, dtype), low=(0, at), high=(0, width - at - x.shape[1])))
        at += x.shape[1]
    return ops.concat(*rows, dim=0)


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call(data(2, 3), data(), data(2)),
            call(data(2, 2, 2), error=(RuntimeError, "Pass matrices, vectors and 0-d tensors")),
        ]
    ),
)
def block_diag(*tensors: Any) -> Tensor:
    """The matrices (vectors are rows, 0-d tensors single elements) along the diagonal of a larger one, zeros elsewhere.

    Raises RuntimeError for tensors of more dimensions.
    """
    given = _tensors("block_diag", tensors)
    for t in given:
        if t.ndim > 2:
            raise RuntimeError(f"[block_diag] a tensor has shape {t.shape}. Pass matrices, vectors and 0-d tensors.")
    return _block_diag(given) if given else host.copied(np.zeros((1, 0), np.float32))


# ---- products of sets -------------------------------------------------------------------------------------


@function(name="cartesian_prod")
def _cartesian(tensors: Tensors):
    shape, rank = tuple(x.shape[0] for x in tensors), len(tensors)
    grid = [
        ops.reshape(x, shape=(1,) * i + x.shape + (1,) * (rank - 1 - i)).expand(shape) for i, x in enumerate(tensors)
    ]
    table = stacked("cartesian_prod", grid, rank)
    return ops.reshape(table, shape=(math.prod(shape), rank))


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call(data(2), data(3)),
            call(data(3)),
            call(data(2, 2), error=(RuntimeError, "Pass vectors of one dtype")),
        ]
    ),
)
def cartesian_prod(*tensors: Any) -> Tensor:
    """All combinations of an element of each vector, [n1 * n2 * ..., k], the last one varying fastest; one vector as it is.

    Raises RuntimeError for other than vectors and for dtypes that differ.
    """
    given = _tensors("cartesian_prod", tensors)
    if not given:
        raise RuntimeError("[cartesian_prod] there are no tensors. Pass at least one.")
    for t in given:
        if t.ndim != 1 or t.dtype is not given[0].dtype:
            raise RuntimeError(
                f"[cartesian_prod] a tensor is {t.dtype.name} of shape {t.shape}. Pass vectors of one dtype, here "
                f"{given[0].dtype.name}."
            )
    return given[0] if len(given) == 1 else _cartesian(given)


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call(data(4)),
            call(data(3), 2, True),
            call(data(2), 3, gradient=False),
            call(data(2, 2), error=(RuntimeError, "Pass a vector")),
        ]
    ),
)
def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All choices of `r` elements of a vector in their order, [count, r]; `with_replacement`: an element may be chosen again.

    Raises RuntimeError for other than vectors and for negative `r`.
    """
    if input.ndim != 1:
        raise RuntimeError(f"[combinations] the tensor has shape {input.shape}. Pass a vector.")
    if r < 0:
        raise RuntimeError(f"[combinations] r is {r}. Use at least 0.")
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    places = list(choose(range(int(input.shape[0])), r)) if r else []
    table = np.array(places, np.int64).reshape(len(places), r)
    flat = index_select(input, 0, host.copied(table.reshape(-1), int64, there=input._place))
    return reshape(flat, table.shape if r else (0,))
