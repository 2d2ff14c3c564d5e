"""Sizes that are given once or once for each dimension: `_pair(3) == (3, 3)`.

In: a number or several. Out: a tuple. Next: `../convolution.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any


def _ntuple(n: int, name: str = "parse") -> Callable[[Any], tuple[Any, ...]]:
    """A function that gives a tuple of what it is given, of n times the same where that is one thing."""

    def parse(x: Any) -> tuple[Any, ...]:
        return tuple(x) if isinstance(x, Iterable) else tuple(repeat(x, n))

    parse.__name__ = name
    return parse


_single = _ntuple(1, "_single")
_pair = _ntuple(2, "_pair")
_triple = _ntuple(3, "_triple")
_quadruple = _ntuple(4, "_quadruple")


def _reverse_repeat_tuple(t: tuple[Any, ...], n: int) -> tuple[Any, ...]:
    """The elements from the last to the first, each n times: padding as `functional.pad` takes it."""
    return tuple(x for x in reversed(t) for _ in range(n))


def _list_with_default(out_size: list[int] | tuple[Any, ...] | int, defaults: list[int]) -> Any:
    """Sizes, with the last ones of `defaults` where they are None."""
    if isinstance(out_size, int):
        return out_size
    if len(defaults) <= len(out_size):
        raise ValueError(f"[adaptive] {len(out_size)} sizes were given for {len(defaults)} dimensions. Give fewer.")
    return [d if v is None else v for v, d in zip(out_size, defaults[-len(out_size) :])]
