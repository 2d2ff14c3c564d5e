"""The pass `drop-negations`: signs that do not matter are not computed.

Found through the entry point group `flambeau.passes`; it runs in every compilation, after the stage `simplify`.
"""

from __future__ import annotations

from dataclasses import dataclass

from flambeau.compiler.passes import Pass
from flambeau.compiler.passes.rewrite import Copy
from flambeau.dialects.graph import Graph, Node


@dataclass(frozen=True)
class DropNegations(Pass):
    """Rewrite (-x) * (-y) to x * y, and likewise the product inside `fma`.

    In: any graph. Out: the same bits from fewer ops; negations that nobody reads any more are left to dead-code.
    """

    name = "drop-negations"
    after = "simplify"

    def __call__(self, graph: Graph) -> Graph:
        negated = {n.results[0]: n.operands[0] for n in graph.nodes if n.op.name == "neg"}
        copy = Copy(graph)
        for node in graph.nodes:
            copy.keep(_without_signs(node, negated))
        return copy.finish()


def _without_signs(node: Node, negated: dict[int, int]) -> Node:
    if node.op.name not in ("mul", "fma"):
        return node
    x, y, *rest = node.operands
    if x not in negated or y not in negated:
        return node
    return node._replace(operands=(negated[x], negated[y], *rest))
