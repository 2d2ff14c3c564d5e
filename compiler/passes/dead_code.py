"""Dead code: what neither an output nor an error depends on is dropped. Next: `cluster.py`."""

from __future__ import annotations

from dataclasses import dataclass

from flambeau.compiler.passes import Pass
from flambeau.compiler.passes.rewrite import Copy
from flambeau.dialects.graph import Graph
from flambeau.dialects.loops import narrowed


@dataclass(frozen=True)
class DeadCode(Pass):
    """Drop nodes whose results no output depends on.

    In: any graph. Out: the same outputs from fewer nodes; inputs all stay. Fallible nodes and those with effects stay with all they
    read: dropping one would lose the error that running op by op raises, or what it does. Of loops only what is read is left.
    """

    name = "dead-code"

    def __call__(self, graph: Graph) -> Graph:
        graph = narrowed(graph).with_regions(self)
        copy = Copy(graph)
        for node in graph.live_nodes():
            copy.keep(node)
        return copy.finish()
