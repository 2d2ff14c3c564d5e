"""Scans: a result for every place along an axis, made of the elements up to there; running sums, products and extremes, and
the recurrence that all their gradients are.

In: operands of one type, the axis, and whether to go from its last element on. Out: a result of that type. The order is fixed
(`orders.SCAN_ORDERS`): scans of one operand go by prefixes of blocks, which are independent of each other; a recurrence goes
one element after the other. Next: `source.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import ARITHMETIC, FLOATING, NUMERIC, DType, int64
from flambeau.dialects.orders import SCAN_BLOCK
from flambeau.dialects.record import Kind, OpRecord, Sample
from flambeau.dialects.tape.common import (
    LINES,
    check_axis,
    check_dtype,
    check_same,
    is_extreme,
    is_zero,
    one_nan,
    ops,
    quiet,
    random,
    rounded_once,
    zeros_signed,
)

#: (array with the axis last) -> the scan along it, one element after the other.
_Accumulate = Callable[[np.ndarray], np.ndarray]


def _along_last(scan: Callable[..., np.ndarray], arrays: Sequence[np.ndarray], axis: int, reverse: bool) -> np.ndarray:
    """`scan` of arrays whose axis is the last one, from its first element on."""
    turned = [np.moveaxis(np.flip(x, axis) if reverse else x, axis, -1) for x in arrays]
    found = np.moveaxis(scan(*turned), -1, axis)
    return np.ascontiguousarray(np.flip(found, axis) if reverse else found)


def _by_prefixes(x: np.ndarray, accumulate: _Accumulate) -> np.ndarray:
    """The order `prefixes`. Two elements are combined as a scan of the two."""
    combine = lambda a, b: accumulate(np.stack(np.broadcast_arrays(a, b), -1))[..., 1]  # noqa: E731
    found, before = np.empty_like(x), None
    for start in range(0, x.shape[-1], SCAN_BLOCK):
        block = accumulate(x[..., start : start + SCAN_BLOCK])
        last = block[..., -1:]
        found[..., start : start + SCAN_BLOCK] = block if before is None else combine(before, block)
        before = last if before is None else combine(before, last)
    return found


def shifted(x: Any, axis: int, reverse: bool, fill: int) -> Any:
    """The element before, in the order of a scan, in place of each one; `fill` in place of the first."""
    if 0 in x.shape:
        return x
    n = x.shape[axis]
    start = x.builder.constant(fill, x.dtype, tuple(1 if k == axis else m for k, m in enumerate(x.shape)))
    starts = tuple(int(reverse and k == axis) for k in range(len(x.shape)))
    sizes = tuple(n - 1 if k == axis else m for k, m in enumerate(x.shape))
    rest = ops.slice(x, starts=starts, sizes=sizes, steps=(1,) * len(x.shape))
    return ops.concat(*((rest, start) if reverse else (start, rest)), dim=axis)


def _reached(ct, factor, axis, reverse):
    """What reaches each element of a recurrence: a recurrence from the other end, since what one adds to the next ones goes through
    theirs."""
    return ops.recurrence(shifted(factor, axis, not reverse, 0), ct, axis=axis, reverse=not reverse)


def _vjp_recurrence(ct, r, factor, x, axis, reverse):
    reached = _reached(ct, factor, axis, reverse)
    return reached * shifted(r, axis, reverse, 0), reached


def _vjp_cumprod(ct, r, x, axis, reverse):
    """Without a division, so that it is right beside zeros, and so are its own derivatives."""
    return (_reached(ct, x, axis, reverse) * shifted(r, axis, reverse, 1),)


def positions(x: Any, r: Any, axis: int, reverse: bool) -> Any:
    """Where the running extreme `r` of `x` was met last: among equal elements the last one, among NaNs the last NaN."""
    here = is_extreme(x, r)
    at = ops.iota(shape=x.shape, dim=axis, dtype=int64, builder=x.builder)
    if reverse:
        return ops.cummin(ops.select(here, at, at.like(x.shape[axis])), axis=axis, reverse=True)
    return ops.cummax(ops.select(here, at, at.like(0)), axis=axis, reverse=False)


def _vjp_extreme(ct, r, x, axis, reverse):
    """PyTorch's rule: the gradient of an extreme goes to the place where it was met last."""
    if 0 in x.shape:
        return (ct,)
    return (ops.scatter_add(x.like(0), positions(x, r, axis, reverse), ct, axis=axis),)


def _scan(
    name: str,
    accumulate: _Accumulate,
    lower: Callable[..., Any],
    vjp: Callable[..., Any],
    doc: str,
    dtypes: Sequence[DType] = NUMERIC,
) -> OpRecord:
    """A scan of one operand, whose step is associative but for rounding."""

    def infer(x: Aval, axis: int, reverse: bool) -> Aval:
        check_dtype(name, x, dtypes)
        check_axis(name, axis, x.rank)
        return x

    @quiet
    @rounded_once
    def reference(x: np.ndarray, axis: int, reverse: bool) -> np.ndarray:
        return one_nan(_along_last(lambda a: _by_prefixes(a, accumulate), [x], axis, reverse))

    return OpRecord(
        name=name,
        kind=Kind.SCAN,
        attrs=("axis", "reverse"),
        infer=infer,
        reference=reference,
        vjp=vjp,
        lower=lower,
        dtypes=dtypes,
        keep=True,
        samples=lambda: _samples(name, 1),
        doc=doc,
    )


def _samples(name: str, operands: int) -> list[Sample]:
    long = (((2500,), 0), ((2, 1025, 2), 1), ((1030, 9), 0), ((9, 1024), 1), ((3, 2049), 1))

    def data(shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        return tuple(random(shape, 0.5, 1.5, seed=k) for k in range(operands))

    matrix = (np.zeros((2, 3)),) * operands
    numbers = np.array(
        [[1.0, np.nan, 2.0, -1.0], [np.inf, -np.inf, 1.0, 0.0], [-0.0, 0.0, -0.0, 1.0], [2.0, 0.0, 3.0, 0.0]]
    )
    return [
        *(
            Sample(data(shape), {"axis": axis, "reverse": back}, gradient=0 < math.prod(shape) < 30)
            for shape, axis in LINES
            for back in (False, True)
        ),
        *(
            Sample(data(shape), {"axis": axis, "reverse": k % 2 == 1}, gradient=False)
            for k, (shape, axis) in enumerate(long)
        ),
        *(Sample((numbers,) * operands, {"axis": 1, "reverse": back}, gradient=False) for back in (False, True)),
        Sample(matrix, {"axis": 2, "reverse": False}, error=(IndexError, f"[{name}] axis 2 is out of range")),
        Sample(matrix, {"axis": -1, "reverse": False}, error=(IndexError, f"[{name}] axis -1 is out of range")),
    ]


def _accumulated(ufunc: np.ufunc) -> _Accumulate:
    return lambda x: ufunc.accumulate(x, -1, dtype=x.dtype)


def _extremes(ufunc: np.ufunc, negative: bool) -> _Accumulate:
    """Running extremes. NumPy leaves open which of +0 and -0 it takes: here a zero of sign `negative` wins."""

    def accumulate(x: np.ndarray) -> np.ndarray:
        found = ufunc.accumulate(x, -1)
        if x.dtype.kind != "f":
            return found
        met = np.logical_or.accumulate(is_zero(x, negative), -1)
        return zeros_signed(found, met == negative)

    return accumulate


cumsum = _scan(
    "cumsum",
    _accumulated(np.add),
    lambda b, so_far, x: b.add(so_far, x),
    lambda ct, r, x, axis, reverse: (ops.cumsum(ct, axis=axis, reverse=not reverse),),
    "The sums of the elements up to each place along an axis. Integers wrap.",
    ARITHMETIC,
)
cumprod = _scan(
    "cumprod",
    _accumulated(np.multiply),
    lambda b, so_far, x: b.mul(so_far, x),
    _vjp_cumprod,
    "The products of the elements up to each place along an axis. Integers wrap. The gradient is right beside zeros.",
)
cummax = _scan(
    "cummax",
    _extremes(np.maximum, negative=False),
    lambda b, so_far, x: b.maximum(so_far, x),
    _vjp_extreme,
    "The largest element up to each place along an axis; NaN from the first one on; +0 is larger than -0.",
)
cummin = _scan(
    "cummin",
    _extremes(np.minimum, negative=True),
    lambda b, so_far, x: b.minimum(so_far, x),
    _vjp_extreme,
    "The smallest element up to each place along an axis; NaN from the first one on; -0 is smaller than +0.",
)


def _infer_recurrence(factor: Aval, x: Aval, axis: int, reverse: bool) -> Aval:
    check_same("recurrence", (factor, x))
    check_dtype("recurrence", x, FLOATING)
    check_axis("recurrence", axis, x.rank)
    return x


def _recur(factor: np.ndarray, x: np.ndarray) -> np.ndarray:
    found = x.copy()
    for k in range(1, x.shape[-1]):
        found[..., k] += factor[..., k] * found[..., k - 1]
    return found


@quiet
@rounded_once
def _recurrence(factor: np.ndarray, x: np.ndarray, axis: int, reverse: bool) -> np.ndarray:
    return one_nan(_along_last(_recur, [factor, x], axis, reverse))


recurrence = OpRecord(
    name="recurrence",
    kind=Kind.SCAN,
    attrs=("axis", "reverse"),
    infer=_infer_recurrence,
    reference=_recurrence,
    vjp=_vjp_recurrence,
    lower=lambda b, so_far, factor, x: b.add(b.mul(factor, so_far), x),
    dtypes=FLOATING,
    keep=True,
    samples=lambda: _samples("recurrence", 2),
    doc="r[i] = factor[i] * r[i - 1] + x[i] along an axis, rounded twice; r[0] = x[0].",
)
