"""A failing program made small: as few outputs and ops as still fail.

In: a graph, all its values, and a question. Out: a graph of which the answer is still yes. Results of ops that are left out become
inputs, with the values that they had, so that what is left computes on the same numbers. The search is that of Zeller and
Hildebrandt, "Simplifying and isolating failure-inducing input" (2002): parts are left out, halves first. Next:
`flambeau.verify`, which shows such a program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

from flambeau.dialects.graph import Graph, Node

#: Whether a graph fails on these inputs. What it raises counts as no.
Fails = Callable[[Graph, list[Any]], bool]


def reduced(graph: Graph, values: Mapping[int, Any], fails: Fails, seconds: float = 20.0) -> tuple[Graph, list[Any]]:
    """A part of `graph`, which has no symbols, that still fails, and its inputs; after so many `seconds` the smallest so far."""
    until = monotonic() + seconds

    def holds(nodes: Sequence[Node], outputs: Sequence[int]) -> Graph | None:
        made = part(graph, nodes, outputs)
        if made is None or monotonic() > until:
            return None
        try:
            return made if fails(made, [values[v] for v in made.inputs]) else None
        except Exception:
            return None

    best = part(graph, graph.nodes, graph.outputs) or graph
    for v in dict.fromkeys(graph.outputs):
        if (made := holds(graph.nodes, [v])) is not None:
            best = made
            break
    size = max(1, len(best.nodes) // 2)
    while True:
        at = 0
        while at < len(best.nodes):
            kept = best.nodes[:at] + best.nodes[at + size :]
            made = holds(kept, best.outputs)
            if made is None:
                at += size
            else:
                best = made
        if size == 1:
            return best, [values[v] for v in best.inputs]
        size //= 2


def part(graph: Graph, nodes: Sequence[Node], outputs: Sequence[int]) -> Graph | None:
    """The program of these nodes and those of the outputs that they compute, without nodes that nobody needs; None if there is no
    output left."""
    made = {v for node in nodes for v in node.results}
    wanted = [v for v in outputs if v in made]
    if not wanted:
        return None
    needed, kept = set(wanted), []
    for node in reversed(nodes):
        if needed.intersection(node.results):
            kept.append(node)
            needed.update(node.operands)
    kept.reverse()
    made = {v for node in kept for v in node.results}
    read = dict.fromkeys(v for node in kept for v in node.operands if v not in made)
    return Graph(graph.avals, list(read), kept, wanted)
