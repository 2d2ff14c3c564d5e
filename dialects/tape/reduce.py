"""Reductions: fold the axes named by attribute `axes`, which the result drops.

In: one operand; `axes` a sorted tuple. The order of the fold is fixed by shape and axes: see `reduction_order.py`. A
fold always starts from the identity, so a sum over unit axes, or over none, is 0.0 + x. Folds run in the dtype that the
operand's accumulates in (`DType.accumulation`), and the result is rounded once. Next: `view.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import ARITHMETIC, NUMERIC, DType, bool_, from_numpy, int64
from flambeau.dialects.parts import Pair
from flambeau.dialects.record import Kind, Monoid, NoGradient, OpRecord, Sample
from flambeau.dialects.tape import complex_formulas as formulas
from flambeau.dialects.tape.common import (
    check_axis,
    check_dtype,
    one_nan,
    ops,
    quiet,
    random,
    reduce_axes,
    rounded_once,
)
from flambeau.dialects.tape.elementwise import maximum, minimum
from flambeau.dialects.tape.reduction_order import fold


def _check_axes(op: str, x: Aval, axes: tuple[int, ...]) -> None:
    for axis in axes:
        check_axis(op, axis, x.rank)
    if list(axes) != sorted(set(axes)):
        raise RuntimeError(f"[{op}] axes {axes} are not sorted and distinct. Name each axis once, in order.")


def _check_not_empty(op: str, x: Aval, axes: tuple[int, ...]) -> None:
    if math.prod(reduce_axes(x.shape, axes)) == 0:
        return
    for axis in axes:
        if x.shape[axis] == 0:
            raise IndexError(
                f"[{op}] axis {axis} of shape {x.shape} has no elements, and {op} of nothing has no value. "
                "Reduce a non-empty axis."
            )


def restore(value, shape: tuple[int, ...], axes: tuple[int, ...]):
    """A reduction's result stretched back over the reduced axes."""
    unit = tuple(1 if axis in axes else n for axis, n in enumerate(shape))
    value = value if unit == value.shape else ops.reshape(value, shape=unit)
    return value if shape == unit else ops.broadcast(value, shape=shape)


def _reduction(
    name: str,
    monoid: Monoid,
    combine: Callable[..., np.ndarray],
    vjp,
    doc: str,
    dtypes: Sequence[DType] = NUMERIC,
    empty: bool = True,
    parts: Callable[..., Any] | None = None,
) -> OpRecord:
    def infer(x: Aval, axes: tuple[int, ...]) -> Aval:
        check_dtype(name, x, dtypes)
        _check_axes(name, x, axes)
        if not empty:
            _check_not_empty(name, x, axes)
        return Aval(reduce_axes(x.shape, axes), x.dtype)

    @quiet
    @rounded_once
    def reference(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        return one_nan(fold(x, axes, combine, monoid.identity(from_numpy(x.dtype))))

    return OpRecord(
        name=name,
        kind=Kind.REDUCTION,
        attrs=("axes",),
        infer=infer,
        reference=reference,
        vjp=vjp,
        lower=monoid,
        dtypes=dtypes,
        keep=True,
        parts=parts,
        samples=lambda: _samples(name, empty, dtypes[0]),
        doc=doc,
    )


_SHAPES = (
    *(((), ()), ((1,), (0,)), ((7,), (0,)), ((7,), ()), ((67,), (0,)), ((4099,), (0,)), ((12289,), (0,))),
    *(((3, 5), (0,)), ((3, 5), (1,)), ((3, 5), (0, 1)), ((5, 1), (0,)), ((5, 1), (1,)), ((1, 1), (0, 1))),
    *(((131, 3), (0,)), ((4, 131), (1,)), ((4, 5, 6), (0, 2)), ((4, 5, 6), (0, 1)), ((4, 5, 6), (1,))),
    *(((2, 4099, 3), (1,)), ((3, 70, 65), (1, 2)), ((65, 2, 70), (0, 2)), ((3, 0), (0,)), ((70, 1, 3, 1), (0, 1, 3))),
)
_EMPTY_SHAPES = (((0,), (0,)), ((3, 0), (1,)), ((0, 3), (0, 1)), ((0, 3), (0,)))


def _samples(name: str, empty: bool, dtype: DType) -> list[Sample]:
    matrix = np.zeros((2, 3), dtype.numpy)
    shapes = _SHAPES + (_EMPTY_SHAPES if empty else ())
    good = [
        Sample((random(shape, 0.5, 1.5),), {"axes": axes}, gradient=math.prod(shape) < 40) for shape, axes in shapes
    ]
    signed = [Sample((random((5, 67)),), {"axes": (axis,)}, gradient=False) for axis in range(2)]
    special = [
        Sample((np.array(values),), {"axes": (0,)}, gradient=False)
        for values in (
            [-0.0],
            [-0.0, -0.0],
            [0.0, -0.0, 0.0],
            [1.0, np.nan, 2.0],
            [np.inf, -np.inf],
            [1e308, 1e308, 3.0],
        )
    ]
    ties = [Sample((np.array([[2.0, 1.0, 2.0], [0.0, 0.0, 5.0]]),), {"axes": (1,)}, gradient=False)]
    bad = [
        Sample((matrix,), {"axes": (2,)}, error=(IndexError, f"[{name}] axis 2 is out of range for an operand of")),
        Sample((matrix,), {"axes": (-1,)}, error=(IndexError, f"[{name}] axis -1 is out of range for an operand")),
        Sample((matrix,), {"axes": (1, 0)}, error=(RuntimeError, f"[{name}] axes (1, 0) are not sorted and")),
        Sample((matrix,), {"axes": (1, 1)}, error=(RuntimeError, f"[{name}] axes (1, 1) are not sorted and")),
    ]
    if not empty:
        text = f"[{name}] axis 1 of shape (3, 0) has no elements"
        bad.append(Sample((np.zeros((3, 0)),), {"axes": (1,)}, error=(IndexError, text)))
    return good + signed + special + ties + bad


def _vjp_extreme(ct, r, x, axes):
    """PyTorch's rule: elements equal to the extreme share its gradient evenly, the NaNs if it is one."""
    ties = x.eq(restore(r, x.shape, axes))
    if x.dtype.is_floating_point:
        ties = ops.or_(ties, x.ne(x))
    ties = ties.cast(x.dtype)
    share = ct / ops.sum(ties, axes=axes)
    return (restore(share, x.shape, axes) * ties,)


def _vjp_prod(ct, r, x, axes):
    """Each element gets the product of the others, by a tree of partial products.

    No division: right beside any number of zeros, and so is the derivative of this formula. The tree depends on the number
    of elements: a size that is not known is taken to be the one at hand.
    """
    kept = tuple(axis for axis in range(len(x.shape)) if axis not in axes)
    order = kept + axes
    count = int(math.prod(x.shape[axis] for axis in axes))
    if count == 0:
        return (x.like(0),)
    flat = ops.permute(x.conj(), perm=order)
    moved, flat_shape = flat.shape, (*ct.shape, count)
    others = _product_of_others(ops.reshape(flat, shape=flat_shape), restore(ct, (*ct.shape, count), (len(kept),)))
    inverse = tuple(order.index(axis) for axis in range(len(order)))
    return (ops.permute(ops.reshape(others, shape=moved), perm=inverse),)


def _product_of_others(x, scale):
    """`scale` (constant along the last axis) times the product of all other elements along the last axis of x."""
    levels = []
    while x.shape[-1] > 1:
        half = (x.shape[-1] + 1) // 2
        left, right = _part(x, 0, half), _part(x, half, x.shape[-1])
        if right.shape[-1] < half:
            right = ops.concat(right, right.builder.constant(1, x.dtype, (*x.shape[:-1], 1)), dim=len(x.shape) - 1)
        levels.append((left, right, x.shape[-1]))
        x = left * right
    others = _part(scale, 0, 1)
    for left, right, count in reversed(levels):
        both = ops.concat(others * right, others * left, dim=len(left.shape) - 1)
        others = _part(both, 0, count)
    return others


def _part(x, start: int, stop: int):
    if (start, stop) == (0, x.shape[-1]):
        return x
    lead = len(x.shape) - 1
    sizes = (*x.shape[:-1], stop - start)
    return ops.slice(x, starts=(0,) * lead + (start,), sizes=sizes, steps=(1,) * (lead + 1))


sum_ = _reduction(
    "sum",
    Monoid(lambda dtype: dtype.number(0), lambda b, x, y: b.add(x, y)),
    np.add,
    lambda ct, r, x, axes: (restore(ct, x.shape, axes),),
    "The sum; 0 of nothing. Integers wrap.",
    ARITHMETIC,
    parts=lambda x, axes: Pair(ops.sum(x.re, axes=axes), ops.sum(x.im, axes=axes)),
)

prod = _reduction(
    "prod",
    Monoid(lambda dtype: dtype.number(1), lambda b, x, y: b.mul(x, y)),
    np.multiply,
    _vjp_prod,
    "The product; 1 of nothing. Integers wrap. The gradient is right beside zeros. Complex numbers are multiplied by halves.",
    ARITHMETIC,
    parts=formulas.product_along,
)

max_ = _reduction(
    "max",
    Monoid(lambda dtype: dtype.least, lambda b, x, y: b.maximum(x, y)),
    maximum.reference,
    _vjp_extreme,
    "The largest element; NaN if there is one; +0 is larger than -0. Ties share the gradient evenly.",
    empty=False,
)

min_ = _reduction(
    "min",
    Monoid(lambda dtype: dtype.greatest, lambda b, x, y: b.minimum(x, y)),
    minimum.reference,
    _vjp_extreme,
    "The smallest element; NaN if there is one; -0 is smaller than +0. Ties share the gradient evenly.",
    empty=False,
)

_TRUTH = NoGradient("its result is a truth value")

any_ = _reduction(
    "any",
    Monoid(lambda dtype: False, lambda b, x, y: b.or_(x, y)),
    np.logical_or,
    _TRUTH,
    "Whether one element is true; false of nothing.",
    (bool_,),
)

all_ = _reduction(
    "all",
    Monoid(lambda dtype: True, lambda b, x, y: b.and_(x, y)),
    np.logical_and,
    _TRUTH,
    "Whether every element is true; true of nothing.",
    (bool_,),
)


def _position(name: str, pick: Callable[..., np.ndarray], doc: str) -> OpRecord:
    """argmax and argmin: `axes` is one axis, or all of them for the row-major position."""

    def infer(x: Aval, axes: tuple[int, ...]) -> Aval:
        check_dtype(name, x, NUMERIC)
        _check_axes(name, x, axes)
        if len(axes) != 1 and len(axes) != x.rank:
            raise RuntimeError(
                f"[{name}] axes {axes} of a rank {x.rank} operand. Give exactly one axis, or all of them."
            )
        _check_not_empty(name, x, axes)
        return Aval(reduce_axes(x.shape, axes), int64)

    @rounded_once
    def reference(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        if len(axes) == x.ndim:
            return np.asarray(pick(x))
        if x.size == 0:
            return np.zeros(reduce_axes(x.shape, axes), np.int64)
        return pick(x, axis=axes[0])

    def samples() -> list[Sample]:
        good = [s for s in _samples(name, False, int64) if s.error or len(s.attrs["axes"]) in (1, s.operands[0].ndim)]
        nans = np.array([[1.0, np.nan, np.nan], [np.inf, 2.0, np.inf], [0.0, -0.0, 0.0]])
        extra = [Sample((nans,), {"axes": axes}, gradient=False) for axes in ((0,), (1,), (0, 1))]
        text = f"[{name}] axes (0, 1) of a rank 3 operand. Give exactly one axis"
        return [*good, *extra, Sample((np.zeros((2, 2, 2)),), {"axes": (0, 1)}, error=(RuntimeError, text))]

    return OpRecord(
        name=name,
        kind=Kind.REDUCTION,
        attrs=("axes",),
        infer=infer,
        reference=reference,
        vjp=NoGradient("its result is a position"),
        lower=None,
        dtypes=NUMERIC,
        keep=True,
        samples=samples,
        doc=doc,
    )


argmax = _position("argmax", np.argmax, "The position of the first largest element; of the first NaN if there is one.")
argmin = _position("argmin", np.argmin, "The position of the first smallest element; of the first NaN if there is one.")
