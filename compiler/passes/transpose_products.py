"""Transposed products: the transpose of a matrix product becomes the product of the transposes, swapped.

In: programs with `permute(matmul(a, b))`, as the gradient of `x @ w.T` has. Out: `matmul(permute(b), permute(a))`, whose
result lies as its reader wants it; code generators read transposed operands for free. Next: `cluster.py`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from flambeau.compiler.passes import Pass
from flambeau.compiler.passes.rewrite import Copy
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.record import find


@dataclass(frozen=True)
class TransposeProducts(Pass):
    """Replace a transpose of the last two axes of a matmul that nothing else reads.

    In: any graph. Out: the same values to the bit: each element is the same chain of fma(a, b, sum), whose factors commute.
    """

    name = "transpose-products"

    def __call__(self, graph: Graph) -> Graph:
        graph = graph.with_regions(self)
        uses = Counter(v for n in graph.nodes for v in n.operands) + Counter(graph.outputs)
        products = {n.results[0]: n for n in graph.nodes if n.op.name == "matmul"}
        swapped: dict[int, Node] = {}
        for node in graph.nodes:
            product = products.get(node.operands[0]) if node.op.name == "permute" else None
            if product and uses[node.operands[0]] == 1 and _swaps_last_two(node.attrs[0]):
                swapped[node.results[0]] = product
        if not swapped:
            return graph
        dropped = {p.results[0] for p in swapped.values()}
        copy = Copy(graph)
        for node in graph.nodes:
            if node.results[0] in swapped:
                _swap(copy, node, swapped[node.results[0]])
            elif node.results[0] not in dropped:
                copy.keep(node)
        return copy.finish()


def _swaps_last_two(perm: tuple[int, ...]) -> bool:
    rank = len(perm)
    return rank >= 2 and perm == (*range(rank - 2), rank - 1, rank - 2)


def _swap(copy: Copy, node: Node, product: Node) -> None:
    permute, matmul = find("permute"), find("matmul")
    graph = copy.graph
    transposed: list[int] = []
    for v in reversed(product.operands):
        operand = graph.avals[copy.ids[v]]
        *batch, rows, columns = operand.shape
        aval = operand._replace(shape=(*batch, columns, rows))
        transposed += copy.append(product, permute, (copy.ids[v],), node.attrs, [aval])
    aval = copy.source.avals[node.results[0]]
    copy.bind(node, copy.append(product, matmul, tuple(transposed), product.attrs, [aval]))
