"""Common subexpressions: equal ops on equal operands become one. Next: `dead_code.py`."""

from __future__ import annotations

from dataclasses import dataclass

from flambeau.compiler.passes import Pass
from flambeau.compiler.passes.rewrite import Copy
from flambeau.dialects.graph import Graph

#: Ops whose operands may change places without changing a bit (payloads of NaNs aside).
COMMUTATIVE = frozenset({"add", "mul", "eq", "ne", "and_", "or_", "xor"})


@dataclass(frozen=True)
class CommonSubexpressions(Pass):
    """Replace a node by an earlier one with the same op, operands and attributes.

    In: any graph. Out: a graph in which no two nodes are equal. Attributes are compared to the bit, and the earlier
    node keeps its location, so the first line that fails is the one named.
    """

    name = "cse"

    def __call__(self, graph: Graph) -> Graph:
        graph = graph.with_regions(self)
        copy = Copy(graph)
        seen: dict[tuple, tuple[int, ...]] = {}
        for node in graph.nodes:
            operands = copy.operands(node)
            if node.op.name in COMMUTATIVE:
                operands = tuple(sorted(operands))
            key = (node.op.name, operands, copy.attrs_key(node), graph.device(node))
            if key in seen and not node.has_effect:
                copy.bind(node, seen[key])
            else:
                seen[key] = copy.keep(node)
        return copy.finish()
