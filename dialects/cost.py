"""How long a program will take, roughly: enough to decide when a recording has grown too long. And how much it computes.

In: a graph; extents that depend on symbols count as the values it was recorded at. Out: nanoseconds on one core of an
ordinary machine, from arithmetic and memory traffic, or floating-point operations: each family of ops knows its own (`Family.cost`,
`Family.flops`). Next: `families.py`.
"""

from __future__ import annotations

from flambeau.dialects.graph import Graph


def nanoseconds(graph: Graph) -> int:
    """The estimated run time of a graph, views being free."""
    if graph.sizes:
        graph = graph.bind(graph.sizes)
    return int(sum(node.op.family.cost(graph, node) for node in graph.nodes))


def flops(graph: Graph) -> int:
    """How many floating-point operations a graph takes, a multiply-add being two. Regions count as often as it is known."""
    if graph.sizes:
        graph = graph.bind(graph.sizes)
    return int(sum(node.op.family.flops(graph, node) for node in graph.nodes))
