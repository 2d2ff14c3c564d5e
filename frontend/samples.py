"""Samples of calls for the generated tests, as the declarations of public functions hold them.

In: shapes and bounds. Out: `Samples`, made when a test asks for them. As on records, float64 arrays stand for data and are cast to
each dtype in turn; other arrays are passed as they are; all arrays become tensors. Next: `tests/test_functions.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from flambeau.dialects.record import Sample


@dataclass(frozen=True)
class Samples:
    """Calls, made when asked for. `a + b` are those of both."""

    make: Callable[[], list[Sample]]

    def __call__(self) -> list[Sample]:
        return self.make()

    def __add__(self, other: Samples) -> Samples:
        return Samples(lambda: self() + other())


def calls(make: Callable[[], list[Sample]]) -> Samples:
    """Calls one by one: `calls(lambda: [call(data(2, 3), dim=1)])`."""
    return Samples(make)


def call(
    *operands: Any, error: tuple[type[Exception], str] | None = None, gradient: bool = True, **attrs: Any
) -> Sample:
    """One call. `error`: it must be refused so. `gradient=False`: finite differences make no sense there."""
    return Sample(operands, attrs, error, gradient)


def data(*shape: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    """Numbers between `low` and `high` in no order, at least a hundredth of that apart from whole ones and from each other
    as far as that goes: kinks are out of the reach of finite differences. The same ones each time."""
    count = int(np.prod(shape))
    places = (np.arange(count) * 0.6180339887498949 + 0.137 * (1 + len(shape))) % 1.0
    x = low + (high - low) * places
    near = np.abs(x - np.rint(x)) < 0.02
    return np.where(near & (high - low > 0.2), x + 0.05, x).clip(low, high).reshape(shape)


def points() -> np.ndarray:
    """Numbers at which functions are special."""
    return np.array([0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.0, 3.0, 1e-3, -20.0, 90.0, np.inf, -np.inf, np.nan])


def index(high: int, *shape: int) -> np.ndarray:
    """int64 numbers from 0 to high - 1."""
    return ((np.arange(int(np.prod(shape))) * 7 + 1) % max(high, 1)).reshape(shape).astype(np.int64)


def truth(*shape: int) -> np.ndarray:
    """Some true, some false."""
    return (np.arange(int(np.prod(shape))) % 3 != 0).reshape(shape)


def unary(low: float = -2.0, high: float = 2.0, **attrs: Any) -> Samples:
    """Calls with one tensor: special numbers, and shapes of every rank, empty ones too."""
    return calls(
        lambda: [
            call(points(), gradient=False, **attrs),
            call(data(low=low, high=high), **attrs),
            call(data(3, 7, low=low, high=high), **attrs),
            call(data(2, 1, 3, low=low, high=high), gradient=False, **attrs),
            call(data(0, 2), gradient=False, **attrs),
        ]
    )


def binary(low: float = -2.0, high: float = 2.0, number: Any = 2) -> Samples:
    """Calls with two tensors that broadcast, or with a tensor and a number (None: there are none); and a refused one."""
    x, y = {"low": low, "high": high}, {"low": low * 0.9 + high * 0.1, "high": high}
    return calls(
        lambda: [
            call(np.repeat(points(), 4), np.tile(np.roll(points(), 3)[::4], 16), gradient=False),
            call(data(4, 5, **x), data(4, 5, **y)),
            call(data(3, 1, 5, **x), data(4, 1, **y)),
            call(data(2, 3, **x), data(**y)),
            call(data(0, 3), data(1, 3), gradient=False),
            *([] if number is None else [call(data(2, 3, **x), number)]),
            call(data(2), data(3), error=(RuntimeError, "do not broadcast")),
        ]
    )


def folds(
    low: float = -2.0, high: float = 2.0, several: bool = True, empty: bool = True, one: bool = True, **kept: Any
) -> Samples:
    """Calls of a reduction: of everything, of `one` element, along one dimension or `several`, of special numbers, of nothing
    (`empty`), and with the arguments `kept`."""
    x = {"low": low, "high": high}
    return calls(
        lambda: [
            call(points(), gradient=False),
            call(data(3, 4, **x)),
            *([call(data(**x))] if one else []),
            call(data(3, 4, **x), dim=0, **kept),
            call(data(2, 3, 5, **x), dim=-1),
            *([call(data(2, 3, 5, **x), dim=(0, 2))] if several else []),
            *([call(data(0, 3), gradient=False), call(data(2, 0), dim=1, gradient=False)] if empty else []),
            call(data(2, 3), dim=2, error=(IndexError, "dim 2 is out of range")),
        ]
    )


def losses(low: float = -2.0, high: float = 2.0, **attrs: Any) -> Samples:
    """Calls of a loss of two tensors of one shape, with each reduction; inputs and targets from `low` to `high`."""
    x, y = {"low": low, "high": high}, {"low": low * 0.9 + high * 0.1, "high": high}
    return calls(
        lambda: [
            call(data(3, 4, **x), data(3, 4, **y), **attrs),
            *(call(data(2, 3, **x), data(2, 3, **y), reduction=r, **attrs) for r in ("none", "sum")),
            call(data(2), data(2), reduction="most", error=(ValueError, "reduction"), **attrs),
        ]
    )
