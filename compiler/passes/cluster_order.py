"""In what order clustering goes through a program: an op comes where it ends the life of what it reads.

In: a program. Out: its nodes in another order, in which operands come first, too. What an optimizer does to a parameter is recorded
behind all gradients, and what a gradient makes of the forward pass alone far behind that, so in a deep net these distances
depend on the number of layers, and with them what is one kernel. Two sorts of elementwise ops are moved to what they wait for:
*ends* of the program, which only ends read, such as updates, and those that are the last to read a value of their
result's size, which then takes its place. Memory is needed no longer so, and every layer's ops lie as those of the others.
Next: `cluster.py`.
"""

from __future__ import annotations

from flambeau.compiler.codegen.nest_rules import is_leaf_source
from flambeau.dialects.graph import Graph, Node


def in_order(graph: Graph) -> list[Node]:
    """The nodes where they belong."""
    places = _Order(graph).found()
    if all(place == i for i, place in enumerate(places)):
        return graph.nodes
    return [graph.nodes[i] for i in sorted(range(len(places)), key=lambda i: (places[i], i))]


#: What a node is here. What is free comes where it is first read: views of one operand, constants, iotas.
_HEAVY, _POINTWISE, _FREE = range(3)


class _Order:
    """Finds the node behind which each node comes: itself if it is not moved."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.nodes = graph, graph.nodes
        known: dict[tuple[int, int, int], int] = {}  # by op, and numbers of operands and results
        self.kinds: list[int] = []
        for node in graph.nodes:
            form = id(node.op), len(node.operands), len(node.results)
            kind = known.get(form)
            self.kinds.append(known.setdefault(form, _kind(node)) if kind is None else kind)
        self.roots: dict[int, int] = {}  # of what is a view
        self.reads: list[list[int]] = []  # the roots that each node reads
        self.last: dict[int, tuple[int, ...]] = {}  # root -> its last two readers, views left out
        for i, (node, kind) in enumerate(zip(graph.nodes, self.kinds)):
            roots = [self.roots.get(v, v) for v in node.operands]
            self.reads.append(roots)
            if kind == _FREE and roots:
                self.roots[node.results[0]] = roots[0]
                continue
            for root in dict.fromkeys(roots):
                before = self.last.get(root)
                self.last[root] = (i,) if before is None else (before[-1], i)
        self.handed_out = {self.roots.get(v, v) for v in graph.outputs}
        self.made: dict[int, int] = {}  # root -> place of the node that makes it
        self.places = list(range(len(graph.nodes)))

    def found(self) -> list[int]:
        """The places of all nodes."""
        ends, places = self._ends(), self.places
        free = self._free(ends)
        #: Nothing is overwritten before what may fail.
        fixed = max((i for i, n in enumerate(self.nodes) if n.counts_unread), default=-1)
        made = self.made
        for i, node in enumerate(self.nodes):
            if self.kinds[i] == _FREE:
                continue
            if ends[i]:
                waits = max([made.get(r, free.get(r, -1)) for r in self.reads[i]], default=-1)
                places[i] = -1 if waits < 0 else min(max(waits, fixed), i)
            elif self.kinds[i] == _POINTWISE:
                places[i] = self._where_it_replaces(i)
            for v in node.results:
                made[v] = places[i]
        self._settle()
        return places

    def _settle(self) -> None:
        """Place what is free, and what waits for nothing, where it is first read. Of these, numbers come first: they gather."""
        first, places = dict[int, int](), self.places
        for i in range(len(self.nodes) - 1, -1, -1):
            node, place = self.nodes[i], places[i]
            if (place < 0 and not self._is_number(i)) or self.kinds[i] == _FREE:
                read = [first[v] for v in node.results if v in first]
                place = places[i] = min([*read, i] if place >= 0 else read, default=i)
            for v in node.operands:
                if first.get(v, place) >= place:
                    first[v] = place

    def _is_number(self, i: int) -> bool:
        return self.kinds[i] == _POINTWISE and not self.graph.avals[self.nodes[i].results[0]].shape

    def _ends(self) -> list[bool]:
        """Which nodes are elementwise ops, or free, and read by such nodes only."""
        found, read = [False] * len(self.nodes), set[int]()  # by others
        for i in range(len(self.nodes) - 1, -1, -1):
            found[i] = self.kinds[i] != _HEAVY and read.isdisjoint(self.nodes[i].results)
            if not found[i]:
                read.update(self.nodes[i].operands)
        return found

    def _free(self, ends: list[bool]) -> dict[int, int]:
        """Of inputs with several elements, the last node that is no end and reads them: an end may be stored there."""
        last = dict.fromkeys(self.graph.inputs, -1)
        for i, roots in enumerate(self.reads):
            if not ends[i] and self.kinds[i] != _FREE:
                last.update((r, i) for r in roots if r in last)
        return {v: i for v, i in last.items() if i >= 0 and self.graph.avals[v].size != 1}

    def _where_it_replaces(self, i: int) -> int:
        """The place behind which all is there that an op reads, and the only reader left of a value of its result's size."""
        made, avals, result = self.made, self.graph.avals, self.nodes[i].results[0]
        waits = max([made.get(r, -1) for r in self.reads[i]], default=-1)
        if waits < 0:
            return i if avals[result].shape else -1
        found = [
            max(waits, before)
            for root in self.reads[i]
            if (by := self.last[root])[-1] == i
            and (before := self.places[by[0]] if len(by) > 1 else -1) < i
            and root in made
            and root not in self.handed_out
            and avals[root].shape == avals[result].shape
            and avals[root].dtype.itemsize >= avals[result].dtype.itemsize
        ]
        return min([*found, i])


def _kind(node: Node) -> int:
    op = node.op
    if op.regions or op.fallible or op.effect or op.moves_to or len(node.results) > 1:
        return _HEAVY
    if op.family.is_pointwise:
        return _POINTWISE
    return _FREE if is_leaf_source(node) or (op.family.is_view and len(node.operands) == 1) else _HEAVY
