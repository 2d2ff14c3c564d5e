"""How long a program will take, roughly: enough to decide when a recording has grown too long.

In: a graph; extents that depend on symbols count as the values it was recorded at. Out: nanoseconds on one core of an
ordinary machine, from arithmetic and memory traffic: each family of ops knows its own (`Family.cost`). Next: `families.py`.
"""

from __future__ import annotations

from flambeau.dialects.graph import Graph


def nanoseconds(graph: Graph) -> int:
    """The estimated run time of a graph, views being free."""
    if graph.sizes:
        graph = graph.bind(graph.sizes)
    return int(sum(node.op.family.cost(graph, node) for node in graph.nodes))
