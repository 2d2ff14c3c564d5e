"""Canonical NaNs: what a program computes and hands out holds one NaN only, whatever machine, compiler or tier made it.

The rule is in docs/architecture.md, "One semantics"; where it needs an op says `dialects/tape/nan.py`. Next: `cluster.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from flambeau.compiler.passes import Pass
from flambeau.compiler.passes.rewrite import Copy
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.record import Nans
from flambeau.dialects.tape.elementwise import add
from flambeau.dialects.tape.nan import canonical_nan, canonical_nan_of_root, seen


@dataclass(frozen=True)
class CanonicalNans(Pass):
    """Put `canonical_nan` behind the computed values that leave the program.

    In: any graph. Out: the same values; all readers read what is handed out, so that nothing is stored twice. Where such a value
    adds up several products, so do the sums before it, as they would if the program were cut there: the kernel of a product
    that is added does not depend on where gradients that are added up are handed out. Idempotent.
    """

    name = "canonical-nans"

    def __call__(self, graph: Graph) -> Graph:
        graph = graph.with_regions(self)
        values = seen(graph)
        if not values:
            return graph
        values |= _sums_before(graph, values)
        copy, roots = Copy(graph), _roots(graph)
        for node in graph.nodes:
            results = copy.keep(node)
            for v, result in zip(node.results, results, strict=True):
                if v in values:
                    (copy.ids[v],) = copy.append(
                        node, canonical_nan_of_root if v in roots else canonical_nan, (result,), (), [graph.avals[v]]
                    )
        return copy.finish()


def _sums_before(graph: Graph, values: frozenset[int]) -> set[int]:
    """The sums of a product and something else that only such a sum reads, up to one of some values."""
    producers, pending, found = graph.producers(), list(values), set[int]()
    readers = Counter(v for node in graph.nodes for v in node.operands)
    while pending:
        node = producers[pending.pop()]
        for v in node.operands if node.op is add else ():
            before = producers.get(v)
            if before is not None and before.op is add and readers[v] == 1 and _adds_product(before, producers):
                found.add(v)
                pending.append(v)
    return found


def _adds_product(node: Node, producers: Mapping[int, Node]) -> bool:
    for v in node.operands:
        made = producers.get(v)
        while made is not None and made.op.family.is_view:
            made = producers.get(made.operands[0])
        if made is not None and made.op.family.sums_products:
            return True
    return False


def _roots(graph: Graph) -> set[int]:
    """The values that are roots, or choices of one: LLVM may find that a choice is the root."""
    found: set[int] = set()
    for node in graph.nodes:
        if node.op.nans is Nans.OF_ROOT or (node.op.hands_on and not found.isdisjoint(node.operands)):
            found.update(node.results)
    return found
