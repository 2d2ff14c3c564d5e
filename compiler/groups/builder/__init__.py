"""From a cluster to a `Group`: the family of an op (`compiler/families`) says what structured ops a node is.

In: the graph of a cluster; questions about sizes are asked inside the scope at hand. Out: an immutable group in which a record,
a tape node or a view no longer appears. Next: `cluster.py`.
"""

from __future__ import annotations

from flambeau.compiler import families
from flambeau.compiler.codegen.expand import expand_positions
from flambeau.compiler.groups import slices
from flambeau.compiler.groups.builder.cluster import ClusterBuilder
from flambeau.compiler.groups.form import Group
from flambeau.dialects.graph import Graph, Node


def from_cluster(graph: Graph) -> Group:
    """The group of a cluster's graph."""
    b = ClusterBuilder(expand_positions(graph))
    for node in b.graph.nodes:
        if 0 in b.aval(node).shape and not may_fail(b.graph, node):
            for value in node.results:
                b.define(value, _empty(b, node, value))
        else:
            _structure(b, node)
    return b.build()


def _empty(b: ClusterBuilder, node: Node, value: int) -> int:
    """A tensor without elements; a view of such a one is that one in another shape."""
    source = node.operands[0] if node.op.family.is_view else None
    if source is not None and 0 in b.avals[source].shape:
        return slices.reshape(b.out, b.whole(source), b.avals[value].shape)
    return b.out.call("tensor.empty", (), (b.avals[value],))[0]


def _structure(b: ClusterBuilder, node: Node) -> None:
    structure = families.rules(node.op).structure
    if structure is None:
        raise ValueError(f"[group] {node.op.name} becomes steps of the plan. Leave it out of fusion groups.")
    structure(b, node)


def may_fail(graph: Graph, node: Node) -> bool:
    """Whether a node without elements may still raise: a scatter into nothing."""
    return families.rules(node.op).fails_empty(graph, node)
