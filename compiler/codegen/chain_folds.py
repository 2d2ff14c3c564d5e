"""Chains of an outer fold, in the order that docs/architecture.md fixes: the rows of a chain, one after the other.

In: columns of which somebody, a thread of a CPU or one of a GPU, carries the totals from row to row. Out: text. What chains give is
combined in pairs (`reduce.py`). Next: `loops/columns.py`, where a register is a few columns; `gpu/columns.py`, where it is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flambeau.compiler.codegen.lane_folds import Elements, Span
from flambeau.compiler.codegen.values import Val


def fold_chain(
    elements: Elements, folds: Sequence[Any], rows: Span, start: Sequence[Val], places: Callable[[Val], Sequence[Any]]
) -> list[Val]:
    """The totals of every fold at every place, fold by fold. `start` is what they begin with, `places(row)` are those of a row."""
    with elements.b.loop(*rows, carried=start) as loop:
        totals = list(loop.args)
        width = len(totals) // len(folds)
        for k, place in enumerate(places(loop.index)):
            for at, fold in zip(range(k, len(totals), width), folds, strict=True):
                totals[at] = elements.combine(fold, totals[at], elements.element(place, fold))
            elements.store(place)
        loop.carry(totals)
    return loop.results
