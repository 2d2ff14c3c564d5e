"""From a cluster to a `Group`: one function per kind of op says what structured ops a node is.

In: the graph of a cluster; questions about sizes are asked inside the scope at hand. Out: an immutable group in which a record,
a tape node or a view no longer appears. Next: `cluster.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from flambeau.compiler.codegen.expand import expand_positions
from flambeau.compiler.groups import slices
from flambeau.compiler.groups.builder import assemble, folds, points, views
from flambeau.compiler.groups.builder.cluster import ClusterBuilder
from flambeau.compiler.groups.form import Group
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.record import Kind

_FAMILIES: dict[Kind, Callable[[ClusterBuilder, Node], None]] = {
    Kind.ELEMENTWISE: points.elementwise,
    Kind.SOURCE: points.source,
    Kind.GATHER: points.gather,
    Kind.VIEW: views.view,
    Kind.REDUCTION: folds.reduction,
    Kind.CONTRACTION: folds.contraction,
    Kind.ASSEMBLE: assemble.assemble,
    Kind.SCATTER: assemble.scatter,
}


def from_cluster(graph: Graph) -> Group:
    """The group of a cluster's graph."""
    b = ClusterBuilder(expand_positions(graph))
    for node in b.graph.nodes:
        if 0 in b.aval(node).shape and not may_fail(b.graph, node):
            for value in node.results:
                b.define(value, _empty(b, node, value))
        else:
            _FAMILIES[node.op.kind](b, node)
    return b.build()


def _empty(b: ClusterBuilder, node: Node, value: int) -> int:
    """A tensor without elements; a view of such a one is that one in another shape."""
    source = node.operands[0] if node.op.kind is Kind.VIEW else None
    if source is not None and 0 in b.avals[source].shape:
        return slices.reshape(b.out, b.whole(source), b.avals[value].shape)
    return b.out.call("tensor.empty", (), (b.avals[value],))[0]


def may_fail(graph: Graph, node: Node) -> bool:
    """Whether a node without elements may still raise: a scatter into nothing."""
    return node.op.kind is Kind.SCATTER and 0 not in graph.avals[node.operands[1]].shape
