"""The part of a trace that gradients go through: what is differentiated, whatever else waits in the trace.

In: an `Assembly`, values whose gradients are asked for. Out: a `History`, the graph from which these were computed, so that a
backward costs what it goes through. Links between traces are made into operands here. Next: `expansions.py`, `inline.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flambeau.assembly import Assembly
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.history import graft, stop_gradient


class History(Graph):
    """The nodes of a trace that cotangents of `outputs` could pass, each after those it depends on, with the grafts of `wrt`.

    Values are numbered as in the trace; `extra` nodes make values that are not there. `others` are nodes aside of the gradients'
    way that `producers` knows, too.
    """

    def __init__(self, asm: Assembly, outputs: Iterable[int], wrt: Iterable[int], extra: Sequence[Node] = ()) -> None:
        super().__init__(asm.graph.avals, asm.graph.inputs, [], [], sizes=asm.graph.sizes)
        self.others: dict[int, Node] = {}
        self._joins, self._bridges, self._made = asm.joins, asm.bridges, asm.facts.producers
        self._extra = {v: node for node in extra for v in node.results}
        self._reach(list(outputs), set(wrt))

    def producers(self) -> dict[int, Node]:
        return {**self.others, **super().producers()}

    def producer(self, value: int) -> Node | None:
        """The node of the trace that makes a value; what it reads through a link has the link's history."""
        bridge = self._bridges.get(value)
        if bridge is not None:
            data, there = bridge.operands
            return bridge._replace(operands=(data, self._joins.get(there, there)))
        node = self._extra.get(value) or self._made.get(value)
        if node is None or self._joins.keys().isdisjoint(node.operands):
            return node
        return node._replace(operands=tuple(self._joins.get(v, v) for v in node.operands))

    def meeting(self, value: int) -> int:
        """Where the gradients of a value meet: its history, if that has parted from its data."""
        node = self.producer(value)
        while node is not None and node.op is graft:
            value = node.operands[1]
            node = self.producer(value)
        return value

    def _reach(self, outputs: list[int], wrt: set[int]) -> None:
        done: set[int] = set()
        for start in outputs:
            pending: list[tuple[int, Node | None]] = [(start, None)]
            while pending:
                value, left = pending.pop()
                if left is not None:
                    self.nodes.append(left)
                    continue
                node = None if value in done else self.producer(value)
                if node is None:
                    continue
                done.update(node.results)
                pending.append((value, node))
                pending.extend((v, None) for v in reversed(self._passed(node)))
        for value in wrt:
            chain: list[Node] = []
            while value not in done and (node := self.producer(value)) is not None and node.op is graft:
                chain.append(node)
                done.add(value)
                value = node.operands[1]
            self.nodes += reversed(chain)

    def _passed(self, node: Node) -> Sequence[int]:
        """The operands that a cotangent could go on to."""
        if node.op is stop_gradient:
            return ()
        operands = node.operands[1:] if node.op is graft else node.operands
        return [v for v in operands if self.avals[v].dtype.is_inexact]
