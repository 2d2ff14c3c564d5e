"""Settled sizes: afterwards every extent is 0, 1 or at least 2, whatever the values of the program's symbols.

In: a graph, in the scope of its sizes. Out: the same graph, with symbols bound where an extent made of them is 0 or 1 at
hand. Whether an axis is empty or a unit decides what a program means (in which order a reduction adds, for example), so it
must be known; everything later compares sizes by form. Next: `passes/simplify.py`.
"""

from __future__ import annotations

from dataclasses import replace

from flambeau.dialects import size
from flambeau.dialects.graph import Graph
from flambeau.dialects.size import Size


def settle(graph: Graph) -> Graph:
    """The same program for all sizes that the scope's guards allow."""
    asked = size.current()
    while graph.sizes and asked and (small := _small_extent(graph)) is not None:
        values: list[size.Int] = [size.symbol(i) for i in range(len(graph.sizes))]
        for i in size.symbols(small):
            asked.pin(i)
            values[i] = graph.sizes[i]
        graph = replace(graph.bind(values), sizes=graph.sizes)
    return graph


def _small_extent(graph: Graph) -> Size | None:
    """An extent that is less than 2 at hand."""
    extents = dict.fromkeys(n for aval in graph.avals for n in aval.shape if isinstance(n, Size))
    return next((n for n in extents if n < 2), None)
