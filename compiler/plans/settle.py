"""Settled sizes: sizes that must be equal have one form, and every extent is 0, 1 or at least 2, whatever the values of the
program's symbols.

In: a graph, in the scope of its sizes. Out: the same graph for all sizes that the scope's guards allow, with fewer symbols
where ops demand that sizes be equal, and with symbols bound where an extent made of them is 0 or 1 at hand: whether an axis
is empty or a unit decides what a program means (in which order a reduction adds, for example). Everything later compares
sizes by form. Next: `passes/simplify.py`.
"""

from __future__ import annotations

from dataclasses import replace

from flambeau.dialects import size, size_guards, size_scopes
from flambeau.dialects.graph import Graph
from flambeau.dialects.size import Int, Size, symbol
from flambeau.dialects.size_equations import solve
from flambeau.dialects.size_guards import Scope


def settle(graph: Graph) -> Graph:
    """The program in fewer symbols; what that takes for granted is noted in the current scope."""
    asked = size_scopes.current()
    if not graph.sizes or asked is None:
        return graph
    while (known := _equality(graph, asked) or _small_extent(graph, asked)) is not None:
        values = [known.get(i, symbol(i)) for i in range(len(graph.sizes))]
        graph = replace(graph.bind(values), sizes=graph.sizes)
    return graph


def _equality(graph: Graph, asked: Scope) -> dict[int, Int] | None:
    """What a symbol must be, or all symbols of a size, for some op to accept its operands."""
    equal = None
    with size_guards.scope(graph.sizes) as demanded:
        for inner, node in graph.walk():
            node.op.infer_results([inner.avals[v] for v in node.operands], node.attrs, inner.device(node))
            equal = next((g.size for g in demanded.guards if g.relation == "=="), None)
            if equal is not None:
                break
    for guard in demanded.guards:
        asked.require(guard)
    if equal is None:
        return None
    solution = solve(equal)
    return dict([solution]) if solution else _bound(equal, asked)


def _small_extent(graph: Graph, asked: Scope) -> dict[int, Int] | None:
    """The symbols of an extent that is less than 2 at hand."""
    avals = [*graph.avals, *(inner.avals[v] for inner, n in graph.walk() for v in n.results)]
    extents = dict.fromkeys(n for aval in avals for n in aval.shape if isinstance(n, Size))
    small = next((n for n in extents if n < 2), None)
    return None if small is None else _bound(small, asked)


def _bound(made: Size, asked: Scope) -> dict[int, Int]:
    """The values at hand of a size's symbols, for which alone the program is from now on."""
    found = sorted(size.symbols(made))
    asked.pin(*found)
    return {i: asked.hints[i] for i in found}
