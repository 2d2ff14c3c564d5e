"""Producers: elementwise ops that only one product or concat reads move there and are computed where they are read.

In: the groups of a program. Out: the same groups, some of whose nodes went from nests to products and concats. A move must
pay: what is not written and read again outweighs what is read or computed more often.
Next: `cluster_prologues.py`, `cluster_parts.py` (when it pays), `codegen/products/prologue.py`, `codegen/loops/assemble.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from flambeau.compiler import families
from flambeau.compiler.codegen.nest_rules import is_map
from flambeau.compiler.passes.cluster_groups import Clustering, OpenGroup
from flambeau.compiler.schedules.loops import RECOMPUTE
from flambeau.dialects.graph import Node
from flambeau.dialects.size import Int, hint

#: Ops that compute one operand, and what they may read.
MOST_OPS, MOST_LEAVES = 16, 8


@dataclass
class _Cone:
    """The ops that compute an operand: `moved` ones nobody else reads, `repeated` ones their nest computes too."""

    moved: set[int] = field(default_factory=set)
    repeated: set[int] = field(default_factory=set)
    reads: dict[int, None] = field(default_factory=dict)

    @property
    def nodes(self) -> set[int]:
        return self.moved | self.repeated


class Move(NamedTuple):
    """A possible move of the ops that compute operand `position` of node `reader`, which has `bytes`.

    `joined` is the reader's group after it. `saved` is the traffic that it saves, as a part of writing and reading the
    operand once. `work` is that of computing an element, `again` that of ops which their old nest computes too.
    """

    joined: OpenGroup
    reader: Node
    position: int
    bytes: int
    saved: float
    work: int
    again: int


class Producers:
    """Moves producers. `groups` and `group_of` are those of the clustering, which are changed in place."""

    def __init__(
        self, program: Clustering, groups: dict[int, OpenGroup], group_of: dict[int, int], max_ops: int
    ) -> None:
        self.program, self.groups, self.group_of, self.max_ops = program, groups, group_of, max_ops
        self.graph, self.avals = program.graph, program.avals
        self.readers: dict[int, list[int]] = {}  # stored value -> nodes that read it; -1 stands for the program's end
        for i in sorted(i for g in groups.values() for i in g.nodes):
            for root in self.program.read_by(i):
                self.readers.setdefault(root, []).append(i)
        for value in self.graph.outputs:
            self.readers.setdefault(value, []).append(-1)

    def run(self) -> set[int]:
        """Move what pays; returns the numbers of groups that nothing is left of."""
        emptied: set[int] = set()
        for number in list(self.groups):
            reader, pays = self._reader(self.groups[number])
            if pays is None:
                continue
            for position in range(len(self.graph.nodes[reader].operands)):
                home = self._move(number, reader, position, pays)
                if home is not None and not self.groups[home].nodes:
                    emptied.add(home)
        return emptied

    def _reader(self, group: OpenGroup) -> tuple[int, _Rule | None]:
        """The node of a group that may take in producers, and the rule that says when."""
        if group.product is not None:
            reader = self.program.index_of[group.product]
        elif len(group.nodes) == 1:
            reader = group.nodes[0]
        else:
            return -1, None
        node = self.graph.nodes[reader]
        return reader, families.rules(node.op).producers(node)

    def _move(self, number: int, index: int, position: int, pays: _Rule) -> int | None:
        """Move the ops that compute one operand of a node into its group; returns the number of their old group."""
        reader = self.graph.nodes[index]
        operand = reader.operands[position]
        root = self.program.source(operand).root
        home = self.group_of.get(root)
        if home is None or self.groups[home].form is None or self.readers[root] != [index]:
            return None
        if self.avals[root].size != self.avals[operand].size:
            return None
        cone = self._cone(root, index, self.groups[home])
        joined = self._joined(self.groups[number], cone)
        if joined is None:
            return None
        size = self._bytes(root)
        saved = 1 - self._traffic(cone, self.groups[home]) / max(2 * size, 1)
        work, again = (sum(self.graph.nodes[i].op.weight for i in nodes) for nodes in (cone.nodes, cone.repeated))
        if saved <= 0 or not pays(self.program, Move(joined, reader, position, size, saved, work, again)):
            return None
        rest = self._without(self.groups[home], cone.moved)
        self.groups[number], self.groups[home] = joined, rest
        self.group_of.update((v, number) for i in cone.moved for v in self.graph.nodes[i].results)
        for value in (r for i in cone.repeated for r in self.program.read_by(i)):
            self.readers[value].append(index)
        joined.after = {self.group_of[v] for v in joined.reads if v in self.group_of} - {number}
        return home

    # ---- what could move -------------------------------------------------------------------------------------

    def _cone(self, root: int, reader: int, home: OpenGroup) -> _Cone:
        """From `root` back, the ops of its nest that its reader could compute."""
        cone, wanted, budget = _Cone(), {root}, RECOMPUTE
        size, members = self.avals[root].size, set(home.nodes)
        for i in reversed(home.nodes):
            node = self.graph.nodes[i]
            (value, *_) = node.results
            if value not in wanted:
                continue
            others = [r for r in self.readers.get(value, ()) if r not in cone.moved and r != reader]
            if not self._is_movable(node, size) or len(cone.nodes) >= MOST_OPS:
                cone.reads[value] = None
            elif not others:
                cone.moved.add(i)
                wanted.update(self.program.read_by(i))
            elif members.issuperset(others) and node.op.weight <= budget:
                budget -= node.op.weight
                cone.repeated.add(i)
                wanted.update(self.program.read_by(i))
            else:
                cone.reads[value] = None
        made = {v for i in cone.nodes for v in self.graph.nodes[i].results}
        cone.reads.update(
            dict.fromkeys(r for i in sorted(cone.nodes) for r in self.program.read_by(i) if r not in made)
        )
        return cone

    def _is_movable(self, node: Node, size: Int) -> bool:
        if not is_map(node):
            return False
        return self.avals[node.results[0]].size == size

    def _joined(self, whole: OpenGroup, cone: _Cone) -> OpenGroup | None:
        """The reader's group with the cone; None where that is too much for one cluster."""
        if not cone.moved or len(cone.reads) > MOST_LEAVES or len(whole.nodes) + len(cone.nodes) > self.max_ops:
            return None
        nodes = sorted({*whole.nodes, *cone.nodes})
        moved = [v for i in cone.moved for v in self.graph.nodes[i].results]
        made = {v for i in nodes for v in self.graph.nodes[i].results}
        reads = dict.fromkeys(r for i in nodes for r in self.program.read_by(i) if r not in made)
        return replace(whole, nodes=nodes, values=sorted([*whole.values, *moved]), reads=reads)

    def _without(self, home: OpenGroup, moved: set[int]) -> OpenGroup:
        nodes = [i for i in home.nodes if i not in moved]
        gone = {v for i in moved for v in self.graph.nodes[i].results}
        reads = dict.fromkeys(r for i in nodes for r in self.program.read_by(i))
        return replace(home, nodes=nodes, values=[v for v in home.values if v not in gone], reads=reads)

    def _traffic(self, cone: _Cone, home: OpenGroup) -> int:
        """Bytes that are read and written only because the reader computes its operand."""
        rest = [i for i in home.nodes if i not in cone.moved]
        still_read = {r for i in rest for r in self.program.read_by(i)}
        total = 0
        for value in cone.reads:
            size, members = self._bytes(value), {*home.nodes}
            if value not in home.values:
                total += size if value in still_read else 0
            elif members.issuperset(self.readers[value]):
                total += 2 * size  # its nest had no need to store it
            else:
                total += size
        return total

    def _bytes(self, value: int) -> int:
        """Of the sizes at hand, where sizes are known at run time only: they decide what is fast, never what is right."""
        return hint(self.avals[value].nbytes)


_Rule = Callable[[Clustering, Move], bool]
