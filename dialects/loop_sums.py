"""Sums over the turns of a loop: the cotangents of what is the same in all of them.

In: what one turn adds to each. Out: which are added up from turn to turn, and of which the factors are stacked, so that one product
behind the loop adds up all turns: where a turn adds a product of matrices (a weight's gradient), or a sum of what is stacked anyway
(a bias's). Next: `loops.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from flambeau.dialects.builder import Value
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.record import find

#: A value of the turn as what it is of all turns: from the stacked values by number.
_Rule = Callable[[Mapping[int, Value]], Value]


class Sums:
    """`carried`: what is added up from turn to turn, for the sums at `places`; `stacked`: the values of a turn that the other ones
    need from all turns, and that are no inputs `through` which the loop goes; `bases`: all values that they need from all turns."""

    def __init__(self, graph: Graph, added: Sequence[Value], through: Sequence[Value], fixed: Sequence[Value]) -> None:
        self.graph, self.producers = graph, graph.producers()
        self.whole = {v.id for v in through}  # there in all turns
        self.same = {v.id for v in fixed}
        for node in graph.nodes:
            if self.same.issuperset(node.operands):
                self.same.update(node.results)
        self.stacked: list[Value] = []
        self.bases: set[int] = set()
        self.added = added
        self.rules: list[_Rule | None] = [self._product(v.id) for v in added]
        self.rules = [r or self._sum(v.id) for r, v in zip(self.rules, added, strict=True)]
        self.places = [k for k, rule in enumerate(self.rules) if rule is None]
        self.carried = [added[k] for k in self.places]

    def finished(self, sums: Sequence[Value], wholes: Mapping[int, Value]) -> list[Value]:
        """The sums over all turns, given those that were carried, and the stacked values by number."""
        left = iter(sums)
        return [next(left) if rule is None else rule(wholes) for rule in self.rules]

    def _node(self, v: int, name: str) -> Node | None:
        node = self.producers.get(v)
        return node if node is not None and node.op.name == name else None

    def _through_views(self, v: int, inner: Callable[[int], _Rule | None]) -> _Rule | None:
        """A view of the sum is a view of what is summed."""
        for name, attribute in (("permute", "perm"), ("reshape", "shape")):
            node = self._node(v, name)
            if node is not None:
                rule, given = self._through_views(node.operands[0], inner), node.attrs[0]
                return None if rule is None else lambda wholes: find(name)(rule(wholes), **{attribute: given})  # noqa: B023
        return inner(v)

    def _product(self, v: int) -> _Rule | None:
        return self._through_views(v, self._factors)

    def _factors(self, v: int) -> _Rule | None:
        """Products of matrices, added up: one product along the folded axis and the turns."""
        node = self._node(v, "matmul")
        if node is None or len(self.graph.avals[v].shape) != 2 or not self.same.isdisjoint(node.operands):
            return None
        first, second = (self._factor(x, folded) for x, folded in zip(node.operands, (1, 0), strict=True))
        return lambda wholes: find("matmul")(first(wholes), second(wholes))

    def _factor(self, v: int, folded: int) -> _Rule:
        """A factor of all turns, whose `folded` axis has the turns, too."""
        turned = self._node(v, "permute")
        base, axis = (v, folded) if turned is None else (turned.operands[0], 1 - folded)
        self._stack(base)

        def rule(wholes: Mapping[int, Value]) -> Value:
            x = wholes[base]
            t, rows, columns = x.shape
            if axis == 1:
                x = find("permute")(x, perm=(1, 0, 2))
            x = find("reshape")(x, shape=(t * rows, columns) if axis == 0 else (rows, t * columns))
            return x if axis == folded else find("permute")(x, perm=(1, 0))

        return rule

    def _stack(self, v: int) -> None:
        self.bases.add(v)
        if v not in self.whole:
            self.whole.add(v)
            self.stacked.append(Value(self.added[0].builder, v, self.graph.avals[v]))

    def _sum(self, v: int) -> _Rule | None:
        return self._through_views(v, self._added)

    def _added(self, v: int) -> _Rule | None:
        """Sums of what is there of all turns."""
        node = self._node(v, "sum")
        base = v if node is None else node.operands[0]
        if base not in self.whole:
            return None
        self.bases.add(base)
        axes = () if node is None else node.attrs[0]

        def rule(wholes: Mapping[int, Value]) -> Value:
            x = wholes[base]
            if axes == (0,):  # rows are rows, whatever turn they are of
                return find("sum")(find("reshape")(x, shape=(x.shape[0] * x.shape[1], *x.shape[2:])), axes=(0,))
            return find("sum")(x, axes=(0, *(a + 1 for a in axes)))

        return rule
