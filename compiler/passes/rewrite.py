"""What the rewriting passes share: copying a graph node by node under a renaming, with canonical numbers.

In: a graph and a pass's decision per node. Out: a new graph whose values are numbered inputs first, then results in
node order. Next: `cse.py` for the smallest user.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.identity import attrs_key
from flambeau.dialects.record import OpRecord


class Copy:
    """A graph being rebuilt from `source`. `ids` maps the source's values to the new graph's."""

    def __init__(self, source: Graph) -> None:
        self.source = source
        self.graph = Graph(sizes=source.sizes)
        self.ids = {v: self.graph.add_input(source.avals[v]) for v in source.inputs}
        self._attributes: dict[int, bytes] = {}  # by identity: equal layers were expanded from one fragment

    def attrs_key(self, node: Node) -> bytes:
        """What the attributes of a node of the source are told by."""
        if not node.attrs:
            return b""
        found = self._attributes.get(id(node.attrs))
        if found is None:
            found = self._attributes[id(node.attrs)] = attrs_key(node.attrs)
        return found

    def operands(self, node: Node) -> tuple[int, ...]:
        """The new numbers of a source node's operands."""
        ids = self.ids
        return tuple([ids[v] for v in node.operands])

    def append(
        self, node: Node, op: OpRecord, operands: tuple[int, ...], attrs: tuple[Hashable, ...], avals: list[Aval]
    ) -> tuple[int, ...]:
        """Add a node at `node`'s location whose results have the given types; returns the results."""
        first = len(self.graph.avals)
        self.graph.avals += avals
        results = (first,) if len(avals) == 1 else tuple(range(first, first + len(avals)))
        self.graph.nodes.append(Node(op, operands, attrs, results, node.loc))
        return results

    def keep(self, node: Node) -> tuple[int, ...]:
        """Add `node` unchanged, on the new numbers."""
        if len(node.results) == 1:  # nearly always: without the calls
            ids, graph, result = self.ids, self.graph, node.results[0]
            new = ids[result] = len(graph.avals)
            graph.avals.append(self.source.avals[result])
            operands = tuple([ids[v] for v in node.operands])
            is_same = new == result and operands == node.operands
            graph.nodes.append(node if is_same else Node(node.op, operands, node.attrs, (new,), node.loc))
            return (new,)
        avals = [self.source.avals[v] for v in node.results]
        results = self.append(node, node.op, self.operands(node), node.attrs, avals)
        self.bind(node, results)
        return results

    def bind(self, node: Node, values: tuple[int, ...]) -> None:
        """Let `values` of the new graph stand for the node's results."""
        if len(values) == 1:  # nearly always
            self.ids[node.results[0]] = values[0]
        else:
            self.ids.update(zip(node.results, values))

    def finish(self) -> Graph:
        """The new graph, with the source's outputs and updates."""
        self.graph.outputs = [self.ids[v] for v in self.source.outputs]
        self.graph.updates = dict(self.source.updates)
        return self.graph


def renumber(graph: Graph) -> Graph:
    """The same program with canonical numbers."""
    copy = Copy(graph)
    for node in graph.nodes:
        copy.keep(node)
    return copy.finish()


def without_locations(graph: Graph) -> Graph:
    """The same program with no locations: what kernels and cache keys see."""
    return replace(graph, nodes=[n._replace(loc=None) for n in graph.nodes])
