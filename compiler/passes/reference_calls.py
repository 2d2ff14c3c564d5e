"""Ops without a compiled form become calls of their references, so that the rest of their program is compiled around them.

Next: `compiler/host_calls/reference_kernel.py`, which carries the calls out.
"""

from __future__ import annotations

from dataclasses import dataclass

from flambeau.compiler.passes import Pass
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.record import find


@dataclass(frozen=True)
class ReferenceCalls(Pass):
    """Replace ops by calls of their NumPy references.

    In: any graph. Out: the same values; of the ops that `ops` names, separated by +, none is left. Idempotent.
    """

    name = "reference-calls"
    ops: str = ""

    def __call__(self, graph: Graph) -> Graph:
        named = frozenset(self.ops.split("+")) - {""}
        if not named:
            return graph
        graph = graph.with_regions(self)
        nodes = [_call(node) if node.op.name in named else node for node in graph.nodes]
        return Graph(graph.avals, graph.inputs, nodes, graph.outputs, graph.updates, graph.sizes)


def _call(node: Node) -> Node:
    if node.op.effect or node.op.regions:
        raise ValueError(f"[reference-calls] '{node.op.name}' does more than compute. Leave it out.")
    return node._replace(op=find("reference_call"), attrs=(node.op.name, node.attrs))
