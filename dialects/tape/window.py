"""Windows over the last axes: what pooling and its gradients are made of.

Window `o` along an axis holds the elements at `o * step - low + k * dilation` for k below `size`, as far as they exist; an
*adaptive* one, of n elements cut into m windows that may overlap, those from floor(o n / m) to ceil((o + 1) n / m). Windows of
several axes are products of these. Everything goes one element after the other, row-major over the window, or over the windows that
hold an element (`pool_spread`); sums start from +0. Next: `plane.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import NUMERIC, from_numpy, int64
from flambeau.dialects.record import Kind, NoGradient, OpRecord, Sample
from flambeau.dialects.size import Int
from flambeau.dialects.tape.common import (
    check_dtype,
    one_nan,
    ops,
    quiet,
    random,
    rounded_once,
)

WINDOW = ("shape", "size", "step", "low", "dilation")


class Taps(NamedTuple):
    """Along one axis, where the elements of every window lie: [windows, taps], and which of them exist."""

    places: np.ndarray
    exist: np.ndarray


def _strided(extent: int, count: int, size: int, step: int, low: int, dilation: int) -> Taps:
    places = np.arange(count)[:, None] * step - low + np.arange(size) * dilation
    return Taps(places, (places >= 0) & (places < extent))


def _adaptive(extent: int, count: int) -> Taps:
    first = np.arange(count) * extent // max(count, 1)
    stop = -(-(np.arange(count) + 1) * extent // max(count, 1))
    places = first[:, None] + np.arange(int((stop - first).max(initial=0)))
    return Taps(places, places < stop[:, None])


def _taps(x: np.ndarray, shape: Sequence[int], *window: Sequence[int]) -> list[Taps]:
    """Of every windowed axis; adaptive where nothing else is said of the windows."""
    extents = x.shape[x.ndim - len(shape) :]
    make: Callable[..., Taps] = _strided if window else _adaptive
    return [make(*numbers) for numbers in zip(extents, shape, *window, strict=True)]


def _elements(x: np.ndarray, taps: list[Taps]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Tap after tap: the elements of all windows there, which of them exist, and their row-major places."""
    extents = x.shape[x.ndim - len(taps) :]
    for ks in product(*(range(t.places.shape[1]) for t in taps)):
        exist, number = np.ones((1,) * len(taps), bool), np.zeros((1,) * len(taps), np.int64)
        index = []
        for axis, (k, t, n) in enumerate(zip(ks, taps, extents, strict=True)):
            turned = (-1,) + (1,) * (len(taps) - 1 - axis)
            exist = exist & t.exist[:, k].reshape(turned)
            number = number * n + t.places[:, k].reshape(turned)
            index.append(np.clip(t.places[:, k], 0, n - 1))
        yield x[(..., *np.ix_(*index))], exist, number


@quiet
@rounded_once
def _sum(x: np.ndarray, shape: Sequence[int], *window: Sequence[int]) -> np.ndarray:
    total = np.zeros((*x.shape[: x.ndim - len(shape)], *shape), x.dtype)
    for element, exist, _ in _elements(x, _taps(x, shape, *window)) if x.size else ():
        total = np.where(exist, total + element, total)
    return one_nan(total)


def _extreme(x: np.ndarray, shape: Sequence[int], *window: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The first largest elements, or the last NaN of a window that has one, and their places; -1 where a window is empty."""
    result = (*x.shape[: x.ndim - len(shape)], *shape)
    best = np.full(result, from_numpy(x.dtype).least, x.dtype)
    at = np.full(result, -1, np.int64)
    for element, exist, number in _elements(x, _taps(x, shape, *window)) if x.size else ():
        take = exist & ((at < 0) | (element > best) | (element != element))
        best, at = np.where(take, element, best), np.where(take, number, at)
    return best, at


@quiet
@rounded_once
def _max(x: np.ndarray, shape: Sequence[int], *window: Sequence[int]) -> np.ndarray:
    return one_nan(_extreme(x, shape, *window)[0])


@quiet
@rounded_once
def _argmax(x: np.ndarray, shape: Sequence[int], *window: Sequence[int]) -> np.ndarray:
    return _extreme(x, shape, *window)[1]


@quiet
@rounded_once
def _spread(x: np.ndarray, shape: Sequence[int], *window: Sequence[int]) -> np.ndarray:
    """Windows in row-major order, so that an element sums them in that order."""
    total = np.zeros((*x.shape[: x.ndim - len(shape)], *shape), x.dtype)
    taps = _taps(total, x.shape[x.ndim - len(shape) :], *window)
    for o in np.ndindex(x.shape[x.ndim - len(shape) :]):
        held = [t.places[k][t.exist[k]] for k, t in zip(o, taps, strict=True)]
        total[(..., *np.ix_(*held))] += x[(..., *o)].reshape(x.shape[: x.ndim - len(shape)] + (1,) * len(shape))
    return one_nan(total)


# ---- checks -------------------------------------------------------------------------------------------------------


def _check_window(op: str, shape: Any, *window: Any) -> None:
    for name, numbers, least in zip(WINDOW, (shape, *window), (0, 1, 1, 0, 1)):
        if not isinstance(numbers, tuple) or len(numbers) != len(shape):
            raise RuntimeError(
                f"[{op}] `{name}` is {numbers}, for {len(shape)} windowed axes. Give one number per axis."
            )
        if wrong := [n for n in numbers if n < least]:
            raise RuntimeError(f"[{op}] `{name}` has {wrong[0]}. Give numbers of at least {least}.")


def _batch(op: str, x: Aval, shape: Any) -> tuple[Int, ...]:
    """The axes of an operand before the windowed ones."""
    if not isinstance(shape, tuple) or not 1 <= len(shape) <= x.rank:
        raise RuntimeError(f"[{op}] `shape` is {shape} for an operand of rank {x.rank}. Give extents of its last axes.")
    return x.shape[: x.rank - len(shape)]


def _windowed(name: str, reference: Any, vjp: Any, doc: str, is_adaptive: bool, position: bool = False) -> OpRecord:
    def infer(x: Aval, shape: tuple[Int, ...], *window: tuple[int, ...]) -> Aval:
        check_dtype(name, x, NUMERIC)
        batch = _batch(name, x, shape)
        _check_window(name, shape, *window)
        return Aval((*batch, *shape), int64 if position else x.dtype)

    return OpRecord(
        name=name,
        kind=Kind.WINDOW,
        attrs=("shape",) if is_adaptive else WINDOW,
        fixed=() if is_adaptive else WINDOW[1:],
        infer=infer,
        reference=reference,
        vjp=vjp,
        lower=None,
        dtypes=NUMERIC,
        keep=True,
        samples=lambda: _adaptive_samples(name) if is_adaptive else _window_samples(name),
        doc=doc,
    )


#: (shape of the operand, then the attributes): overlapping, padded, dilated, beyond the end, of one axis to three.
_WINDOWS: tuple[tuple[tuple[int, ...], ...], ...] = (
    ((3, 11), (4,), (3,), (2,), (0,), (2,)),
    ((7,), (4,), (3,), (2,), (1,), (1,)),
    ((2, 5, 70), (3, 35), (3, 3), (2, 2), (1, 1), (1, 1)),
    ((2, 5, 37), (5, 37), (3, 2), (1, 1), (1, 1), (1, 2)),
    ((3, 4, 5), (2, 2, 3), (2, 2, 2), (2, 3, 2), (0, 1, 0), (1, 2, 1)),
    ((0, 4), (2,), (2,), (2,), (0,), (1,)),
    ((2, 0), (1,), (2,), (2,), (1,), (1,)),
)


def _window_samples(name: str) -> list[Sample]:
    transposed = name == "pool_spread"

    def sample(extents: tuple[int, ...], *window: tuple[int, ...], x: Any = None, gradient: bool = True) -> Sample:
        n = len(window[0])
        batch, plane, shape = extents[: len(extents) - n], extents[len(extents) - n :], window[0]
        if transposed:
            plane, shape = shape, plane
        x = random((*batch, *plane)) if x is None else x
        return Sample((x,), dict(zip(WINDOW, (shape, *window[1:]), strict=True)), gradient=gradient and 0 < x.size < 40)

    nans = np.array([1.0, np.nan, 3.0, np.nan, 2.0, -np.inf, -np.inf, 0.0, -0.0, -0.0, 0.0, np.inf, np.inf])
    matrix = np.zeros((2, 6))
    wrong = {
        "`size` has 0. Give numbers of at least 1.": ((2,), (0,), (1,), (0,), (1,)),
        "`step` has 0. Give numbers of at least 1.": ((2,), (2,), (0,), (0,), (1,)),
        "`size` is (2, 2), for 1 windowed axes.": ((2,), (2, 2), (1,), (0,), (1,)),
        "`shape` is (2, 2, 2) for an operand": ((2,) * 3, (2,) * 3, (1,) * 3, (0,) * 3, (1,) * 3),
    }
    special = [] if transposed else [sample((13,), (12,), (2,), (1,), (0,), (1,), x=nans, gradient=False)]
    bad = [
        Sample((matrix,), dict(zip(WINDOW, window, strict=True)), error=(RuntimeError, f"[{name}] {text}"))
        for text, window in wrong.items()
    ]
    return [*(sample(*w) for w in _WINDOWS), *special, *bad]


def _adaptive_samples(name: str) -> list[Sample]:
    shapes = (
        ((3, 7), (3,)),
        ((2, 5, 6), (2, 6)),
        ((4, 3), (7, 1)),
        ((2, 3, 4), (1, 2, 3)),
        ((0, 4), (3,)),
        ((4,), (0,)),
    )
    text = f"[{name}] `shape` is () for an operand of rank 2. Give extents of its last axes."
    return [
        *(Sample((random(x),), {"shape": shape}, gradient=0 < prod(x) < 40 and 0 not in shape) for x, shape in shapes),
        Sample((np.zeros((2, 3)),), {"shape": ()}, error=(RuntimeError, text)),
    ]


# ---- folds over windows ---------------------------------------------------------------------------------------------


def _extents(x: Any, shape: Sequence[Int]) -> tuple[Int, ...]:
    return x.shape[len(x.shape) - len(shape) :]


def _named(window: Sequence[Any]) -> dict[str, Any]:
    """The attributes of windows; adaptive ones have none."""
    return dict(zip(WINDOW[1:], window, strict=True)) if window else {}


def _vjp_max(ct, r, x, shape, *window):
    """PyTorch's rule: all of the gradient goes to the element that was taken."""
    find = ops.pool_argmax if window else ops.adaptive_argmax
    at = find(x, shape=shape, **_named(window))
    return (ops.put(ct, at, shape=_extents(x, shape), add=True),)


def _transposed(name: str) -> Callable[..., tuple[Any, ...]]:
    """The vjp of a sum whose transpose is the op of that name, of the same windows."""
    return lambda ct, r, x, shape, *window: (getattr(ops, name)(ct, shape=_extents(x, shape), **_named(window)),)


_POSITION = NoGradient("its result is a position")

pool_max = _windowed(
    "pool_max",
    _max,
    _vjp_max,
    "The first largest element of every window; NaN if there is one; the least of nothing.",
    False,
)
pool_argmax = _windowed(
    "pool_argmax",
    _argmax,
    _POSITION,
    "The row-major place of the first largest element of every window, of the last NaN if there is one; -1 of nothing.",
    False,
    True,
)
pool_sum = _windowed(
    "pool_sum",
    _sum,
    _transposed("pool_spread"),
    "The sum of every window, element after element.",
    False,
)
pool_spread = _windowed(
    "pool_spread",
    _spread,
    _transposed("pool_sum"),
    "The sum, for every element of a plane of extents `shape`, of the windows that hold it: `pool_sum` transposed.",
    False,
)
adaptive_max = _windowed("adaptive_max", _max, _vjp_max, "`pool_max` of adaptive windows.", True)
adaptive_argmax = _windowed("adaptive_argmax", _argmax, _POSITION, "`pool_argmax` of adaptive windows.", True, True)
adaptive_sum = _windowed(
    "adaptive_sum",
    _sum,
    _transposed("adaptive_sum"),
    "`pool_sum` of adaptive windows. Transposed it is itself: element p is in window o where window p of the result holds o.",
    True,
)
