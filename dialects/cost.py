"""How long a program will take, roughly: enough to decide when a recording has grown too long.

In: a graph; extents that depend on symbols count as the values it was recorded at. Out: nanoseconds on one core of an
ordinary machine, from arithmetic and memory traffic. Next: `graph.py`.
"""

from __future__ import annotations

from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.record import Kind
from flambeau.dialects.size import hint

_FLOPS_PER_NS = 100.0
_BYTES_PER_NS = 10.0


def nanoseconds(graph: Graph) -> int:
    """The estimated run time of a graph, views being free. Every region counts once: nobody knows how often it runs."""
    if graph.sizes:
        graph = graph.bind(graph.sizes)
    return int(sum(_node(graph, n) for n in graph.nodes if n.op.kind is not Kind.VIEW))


def _node(graph: Graph, node: Node) -> float:
    if node.op.kind is Kind.CONTROL:
        return sum(nanoseconds(region.graph) for region in node.regions)
    result = graph.avals[node.results[0]]
    traffic = hint(sum(graph.avals[v].nbytes for v in (*node.results, *node.operands))) / _BYTES_PER_NS
    if node.op.kind is not Kind.CONTRACTION:
        return traffic
    return traffic + 2.0 * hint(result.size * graph.avals[node.operands[0]].shape[-1]) / _FLOPS_PER_NS
