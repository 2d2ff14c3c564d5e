"""Transposed products: the transpose of a matrix product becomes the product of the transposes, swapped.

In: programs with `permute(matmul(a, b))`, as the gradient of `x @ w.T` has. Out: `matmul(permute(b), permute(a))`, whose
result lies as its reader wants it; code generators read transposed operands for free. Next: `cluster.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from flambeau.compiler.passes import Pass
from flambeau.compiler.passes.rewrite import Copy
from flambeau.compiler.passes.simplify import Simplify
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.record import find


@dataclass(frozen=True)
class TransposeProducts(Pass):
    """Replace a transpose of the last two axes of a matmul that nothing else reads.

    In: a simplified graph. Out: one that has the same values to the bit: each element is the same chain of fma(a, b, sum), whose
    factors commute. It is simplified, too: of what the swap makes, only transposes of transposes nearly always need that.
    """

    name = "transpose-products"

    def __call__(self, graph: Graph) -> Graph:
        graph = graph.with_regions(self)
        uses = Counter(v for n in graph.nodes for v in n.operands) + Counter(graph.outputs)
        products = {n.results[0]: n for n in graph.nodes if n.op.family.is_product}
        swapped: dict[int, Node] = {}
        for node in graph.nodes:
            product = products.get(node.operands[0]) if node.op.name == "permute" else None
            if product and uses[node.operands[0]] == 1 and _swaps_last_two(node.attrs[0]):
                swapped[node.results[0]] = product
        if not swapped:
            return graph
        dropped = {p.results[0] for p in swapped.values()}
        work = _Swap(graph, swapped)
        for node in graph.nodes:
            if node.results[0] in swapped:
                work.swap(node, swapped[node.results[0]])
            elif node.results[0] not in dropped:
                work.keep(node)
        found = work.finish()
        return Simplify()(found) if work.leaves_more else found


def _swaps_last_two(perm: tuple[int, ...]) -> bool:
    rank = len(perm)
    return rank >= 2 and perm == (*range(rank - 2), rank - 1, rank - 2)


class _Swap(Copy):
    """The graph being written. `leaves_more`: some transpose is one of a constant, or moves only unit axes."""

    def __init__(self, source: Graph, swapped: Collection[int]) -> None:
        super().__init__(source)
        self.leaves_more = False
        self._swapped = swapped
        self._producers = source.producers()
        self._made: dict[tuple[int, tuple[int, ...]], int] = {}

    def swap(self, node: Node, product: Node) -> None:
        """Write a product's transpose as a product."""
        perm = node.attrs[0]
        operands = tuple([self._transposed(product, v, perm) for v in reversed(product.operands)])
        aval = self.source.avals[node.results[0]]
        self.bind(node, self.append(product, product.op, operands, product.attrs, [aval]))

    def _transposed(self, at: Node, value: int, perm: tuple[int, ...]) -> int:
        """A value of the source with its axes permuted: each is written once, and what is permuted twice is read from before."""
        made = self._producers.get(value)
        if made is not None and made.op.name == "permute" and made.results[0] not in self._swapped:
            (value,), perm = made.operands, tuple([made.attrs[0][axis] for axis in perm])
        if perm == tuple(range(len(perm))):
            return self.ids[value]
        if (value, perm) not in self._made:
            aval = self.source.avals[value]
            self.leaves_more |= 1 in aval.shape or self._is_constant(value)
            aval = aval._replace(shape=tuple([aval.shape[axis] for axis in perm]))
            (self._made[value, perm],) = self.append(at, find("permute"), (self.ids[value],), (perm,), [aval])
        return self._made[value, perm]

    def _is_constant(self, value: int) -> bool:
        made = self._producers.get(value)
        while made is not None and made.op.family.is_view and len(made.operands) == 1:
            made = self._producers.get(made.operands[0])
        return made is not None and not made.operands
