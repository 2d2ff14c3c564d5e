"""Canonical NaNs: what a program computes and hands out holds one NaN only, whatever machine, compiler or tier made it.

The rule is in docs/architecture.md, "One semantics"; where it needs an op says `dialects/tape/nan.py`. Next: `cluster.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from flambeau.compiler.passes import Pass
from flambeau.compiler.passes.rewrite import Copy
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import Nans
from flambeau.dialects.tape.nan import canonical_nan, canonical_nan_of_root, seen


@dataclass(frozen=True)
class CanonicalNans(Pass):
    """Put `canonical_nan` behind the computed values that leave the program.

    In: any graph. Out: the same values; all readers read what is handed out, so that nothing is stored twice. Idempotent.
    """

    name = "canonical-nans"

    def __call__(self, graph: Graph) -> Graph:
        graph = graph.with_regions(self)
        values = seen(graph)
        if not values:
            return graph
        copy, roots = Copy(graph), _roots(graph)
        for node in graph.nodes:
            results = copy.keep(node)
            for v, result in zip(node.results, results, strict=True):
                if v in values:
                    (copy.ids[v],) = copy.append(
                        node, canonical_nan_of_root if v in roots else canonical_nan, (result,), (), [graph.avals[v]]
                    )
        return copy.finish()


def _roots(graph: Graph) -> set[int]:
    """The values that are roots, or choices of one: LLVM may find that a choice is the root."""
    found: set[int] = set()
    for node in graph.nodes:
        if node.op.nans is Nans.OF_ROOT or (node.op.hands_on and not found.isdisjoint(node.operands)):
            found.update(node.results)
    return found
