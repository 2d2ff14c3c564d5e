"""Elementwise ops: a nest over the elements of their results, whose loops are all parallel. They join any nest of their size, go
into products and concats (`passes/cluster_producers.py`) and follow them there.

In: a node, its record's lowering. Out: a linalg.generic; constants are numbers that bodies capture. Next: `source.py`.
"""

from __future__ import annotations

from flambeau.compiler.codegen.iteration_space import over_result
from flambeau.compiler.families.rules import Rules
from flambeau.compiler.groups import bodies
from flambeau.compiler.groups.builder.cluster import ClusterBuilder
from flambeau.dialects.graph import Node


def structure(b: ClusterBuilder, node: Node) -> None:
    types = tuple(b.avals[v].dtype.mlir for v in node.operands)
    avals = [b.avals[v] for v in node.results]
    code = b.codes.get(node.results[0]) if node.op.fails is not None else None
    body = bodies.elementwise(node.op, node.attrs, types, tuple(a.dtype.mlir for a in avals), code)
    numbers = b.all_points(avals, body, node.operands, name=node.op.name, loc=node.loc)
    for value, number in zip(node.results, numbers, strict=True):
        b.define(value, number)


RULES = Rules("elementwise", structure, nest=over_result)
