"""Broadcasts of computed values: small elementwise ops whose result is stretched for a reduction move behind the stretch.

In: programs with `sum(x * broadcast(exp(v)))`, say. Out: `sum(x * exp(broadcast(v)))`: the op then has the size of the
reduction's operand, and one nest computes all of it. Next: `cluster.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from flambeau.compiler import families
from flambeau.compiler.codegen.nest_rules import is_map
from flambeau.compiler.passes import Pass
from flambeau.compiler.passes.rewrite import Copy
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.record import OpRecord
from flambeau.dialects.size import hint

#: Ops that move together, and ops between the stretched value and its reduction.
MOST_OPS, FAR = 4, 8
#: Work, in additions, that writing and reading a small element is worth; and that a kernel less is worth.
SAVED, KERNEL = 10.0, 16_384
#: Work per element of the reduction's operand that nobody notices, and additions in one vector.
UNNOTICED, VECTOR = 0.25, 16


class _Move(NamedTuple):
    """`ops`, operands first, compute what `views` stretch; the ops read `leaves`."""

    ops: tuple[Node, ...]
    views: tuple[Node, ...]
    leaves: tuple[int, ...]


@dataclass(frozen=True)
class PushBroadcasts(Pass):
    """Move elementwise ops that one stretch reads behind it where a reduction reads that and it pays.

    In: any graph. Out: the same values to the bit: an elementwise op computes each element by itself. It pays where an
    element is computed a few times only, or by few rows, or where all is so small that a kernel less weighs more.
    """

    name = "push-broadcasts"

    def __call__(self, graph: Graph) -> Graph:
        graph = graph.with_regions(self)
        search = _Search(graph)
        moves = {m.views[-1].results[0]: m for m in search.moves()}
        if not moves:
            return graph
        gone = {v for m in moves.values() for n in (*m.ops, *m.views) for v in n.results}
        copy = Copy(graph)
        for node in graph.nodes:
            if node.results[0] in moves:
                _apply(copy, moves[node.results[0]])
            elif node.results[0] not in gone:
                copy.keep(node)
        return copy.finish()


class _Search:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.avals, self.producers = graph, graph.avals, graph.producers()
        self.readers: dict[int, list[Node]] = {}
        for node in graph.nodes:
            for v in node.operands:
                self.readers.setdefault(v, []).append(node)
        self.returned = set(graph.outputs)

    def moves(self) -> Iterator[_Move]:
        """What pays, each op in one move at most: from the last op of a chain back."""
        taken: set[int] = set()
        for node in reversed(self.graph.nodes):
            if not self._is_small_op(node) or node.results[0] in taken:
                continue
            views = self._views(node)
            if views and self._reaches_reduction(views[-1]):
                move = self._move(node, views)
                if self._pays(move):
                    taken.update(v for n in move.ops for v in n.results)
                    yield move

    def _only_reader(self, value: int) -> Node | None:
        readers = self.readers.get(value, ())
        return readers[0] if len(readers) == 1 and value not in self.returned else None

    def _is_small_op(self, node: Node) -> bool:
        if not is_map(node):
            return False
        return hint(self.avals[node.results[0]].size) > 1

    def _views(self, node: Node) -> tuple[Node, ...]:
        """The reshapes and broadcasts that alone read the node's result, up to one that makes it larger."""
        views: list[Node] = []
        reader = self._only_reader(node.results[0])
        while reader is not None and reader.op.name in ("reshape", "broadcast"):
            views.append(reader)
            reader = self._only_reader(reader.results[0])
        while views and views[-1].op.name != "broadcast":
            views.pop()
        return tuple(views)

    def _reaches_reduction(self, stretched: Node) -> bool:
        """Whether ops of its size, none of them on the result of a product, lead from a value to a reduction alone."""
        value, size = stretched.results[0], self.avals[stretched.results[0]].size
        for _ in range(FAR):
            reader = self._only_reader(value)
            if reader is None or len(reader.results) > 1 or any(self._is_product(v) for v in reader.operands):
                return False
            if reader.op.family.folds:
                return True
            (value,) = reader.results
            if not reader.op.family.is_pointwise or reader.op.fallible or self.avals[value].size != size:
                return False
        return False

    def _maker(self, value: int) -> OpRecord | None:
        """The op that a value is a view of."""
        node = self.producers.get(value)
        while node is not None and node.op.family.is_view:
            node = self.producers.get(node.operands[0])
        return None if node is None else node.op

    def _is_product(self, value: int) -> bool:
        """Whether a value comes from an op that elementwise ops on its result join."""
        op = self._maker(value)
        return op is not None and families.rules(op).epilogue is not None

    def _is_folded(self, value: int) -> bool:
        op = self._maker(value)
        return op is not None and op.family.folds

    def _move(self, last: Node, views: tuple[Node, ...]) -> _Move:
        """`last` and ops that only compute its operands."""
        ops, pending = [last], list(last.operands)
        while pending and len(ops) < MOST_OPS:
            node = self.producers.get(pending.pop())
            if node is None or not self._is_small_op(node):
                continue
            reader = self._only_reader(node.results[0])
            if any(reader is n for n in ops):
                ops.append(node)
                pending += node.operands
        ops.sort(key=lambda n: n.results[0])
        made = {v for n in ops for v in n.results}
        leaves = dict.fromkeys(v for n in ops for v in n.operands if v not in made)
        return _Move(tuple(ops), views, tuple(leaves))

    def _pays(self, move: _Move) -> bool:
        """Results of reductions are left alone: their nests compute what follows row by row."""
        if any(self._is_folded(v) or self._is_product(v) for v in move.leaves):
            return False
        small, large = (hint(self.avals[n.results[0]].size) for n in (move.ops[-1], move.views[-1]))
        if large <= small:
            return False
        work, times, more = sum(n.op.weight for n in move.ops), large / small, len(move.leaves) - 1
        few_times = (times - 1) * work + times * more <= SAVED
        once_per_row = VECTOR * work <= UNNOTICED * self._run(move)
        return few_times or once_per_row or large * (work + more) <= KERNEL

    def _run(self, move: _Move) -> int:
        """How many adjacent elements of the stretched value are one element."""
        before, after = (self.avals[v].shape for v in (move.views[-1].operands[0], move.views[-1].results[0]))
        run = 1
        for old, new in zip(reversed(before), reversed(after), strict=True):
            if hint(old) != 1:
                break
            run *= hint(new)
        return run


def _apply(copy: Copy, move: _Move) -> None:
    """Write the ops on stretched operands."""
    avals, local = copy.source.avals, {}
    for leaf in move.leaves:
        value = copy.ids[leaf]
        for view in move.views:
            aval = avals[leaf]._replace(shape=avals[view.results[0]].shape)
            (value,) = copy.append(view, view.op, (value,), view.attrs, [aval])
        local[leaf] = value
    shape = avals[move.views[-1].results[0]].shape
    for node in move.ops:
        aval = avals[node.results[0]]._replace(shape=shape)
        (local[node.results[0]],) = copy.append(
            node, node.op, tuple(local[v] for v in node.operands), node.attrs, [aval]
        )
    copy.bind(move.views[-1], (local[move.ops[-1].results[0]],))
