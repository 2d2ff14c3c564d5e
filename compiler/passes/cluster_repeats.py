"""Repeats: a group computes again what it would read, where that takes less than writing and reading it.

In: the groups of a program. Out: the same groups, some of which hold cheap elementwise ops of others, too, and read what these are
made of: what they read anyway, or one value in the place of several. What gradients read of a forward pass is mostly of this sort
(x * x and 0.5 * x beside x). What nobody reads any more is not stored. Next: `cluster_producers.py`, which moves ops.
"""

from __future__ import annotations

from dataclasses import replace

from flambeau.compiler import families
from flambeau.compiler.codegen.nest_rules import is_map
from flambeau.compiler.passes.cluster_groups import Clustering, OpenGroup

#: What reading an element is worth, in additions.
READ = 5


class Repeats:
    """Repeats ops. `groups` and `group_of` are those of the clustering; `groups` is changed in place."""

    def __init__(
        self, program: Clustering, groups: dict[int, OpenGroup], group_of: dict[int, int], max_ops: int
    ) -> None:
        self.program, self.groups, self.group_of, self.max_ops = program, groups, group_of, max_ops
        self.nodes, self.avals = program.graph.nodes, program.avals
        #: Value -> additions that an element of it takes; more than `READ` if it is not cheap.
        self._work: dict[int, int] = {}
        self.readers: dict[int, set[int]] = {v: {-1} for v in program.graph.outputs}  # -1: the program's end
        for number, group in groups.items():
            for value in self._others(group):
                self.readers.setdefault(value, set()).add(number)

    def run(self) -> set[int]:
        """Repeat what pays; returns the numbers of groups that nothing is left of."""
        found = False
        for number, group in list(self.groups.items()):
            if group.form is None and group.product is None:
                continue
            while self._improve(number):
                found = True
        return self._drop_unread() if found else set()

    def _improve(self, number: int) -> bool:
        """Have a group read less, if it can."""
        group = self.groups[number]
        saves = {v: 1 + (len(self.readers[v]) == 1) for v in self._others(group) if self._work_of(v) <= READ}
        if not saves:
            return False
        needs = {v: [r for r in self.program.read_by(self.program.index_of[v]) if r not in group.reads] for v in saves}
        hard = {v: {r for r in roots if self._work_of(r) > READ} for v, roots in needs.items()}  # these have to be read
        beside = dict.fromkeys(r for roots in needs.values() for r in roots)
        in_vain: dict[int, set[int]] = {}  # what nothing gives without more -> what was met on the way
        for more in ((), *((r,) for r in beside if r in self.program.index_of)):
            least = sum(1 + (r not in self.readers) for r in more)
            able = [
                v for v in saves if hard[v].issubset(more) and (v not in in_vain or not in_vain[v].isdisjoint(more))
            ]
            if sum([saves[v] for v in able]) <= least:
                continue
            met: dict[int, set[int]] = {v: set() for v in able}
            cones = {v: cone for v in able if (cone := self._cone(group, v, more, met[v]))}
            if not more:
                in_vain = {v: met[v] for v in able if v not in cones}
            if sum(saves[v] for v in cones) <= least:
                continue
            joined = self._joined(group, set().union(*cones.values()))
            if joined is not None:
                self._replace(number, joined)
                return True
        return False

    def _others(self, group: OpenGroup) -> list[int]:
        """What a group reads of other groups."""
        return [v for v in group.reads if self.group_of.get(v, group.number) != group.number]

    def _work_of(self, value: int) -> int:
        """What an element of a value takes, in additions; more than anything is worth where it has to be computed where it is."""
        found = self._work.get(value)
        if found is None:
            index = self.program.index_of.get(value)
            node = None if index is None else self.nodes[index]
            found = self._work[value] = node.op.weight if node is not None and is_map(node) else READ + 1
        return found

    def _replace(self, number: int, joined: OpenGroup) -> None:
        before, after = self._others(self.groups[number]), self._others(joined)
        for value in before:
            self.readers[value].discard(number)
            if not self.readers[value]:
                del self.readers[value]
        for value in after:
            self.readers.setdefault(value, set()).add(number)
        joined.after = joined.after | {self.group_of[v] for v in after}
        self.groups[number] = joined

    def _cone(self, group: OpenGroup, value: int, more: tuple[int, ...], met: set[int]) -> set[int]:
        """The ops that give a value of what else the group reads, and `more`; none where that is more work than reading it. `met`
        gets the values that they read for that."""
        cone, pending, budget, size = set[int](), [value], READ, self.avals[value].size
        while pending:
            at = pending.pop()
            work = self._work_of(at)
            if work > READ:
                return set()
            index = self.program.index_of[at]
            if index in cone:
                continue
            budget -= work
            if budget < 0 or (at != value and self.avals[at].size != size):
                return set()
            cone.add(index)
            more_of = [r for r in self.program.read_by(index) if r == value or (r not in group.reads and r not in more)]
            met.update(more_of)
            pending += more_of
        return cone

    def _joined(self, group: OpenGroup, cone: set[int]) -> OpenGroup | None:
        """The group with the cone, or None where no one kernel computes that."""
        nodes = sorted({*group.nodes, *cone})
        if len(nodes) > self.max_ops:
            return None
        union = self._with_product(group, nodes, cone) if group.product is not None else self._nest(group, cone)
        if union is None:
            return None
        again = {v for i in nodes for v in self.nodes[i].results} - {*group.values}
        reads = dict.fromkeys(r for i in nodes for r in self.program.read_by(i) if r not in again)
        return replace(union, nodes=nodes, values=group.values, reads=reads, number=group.number, after=group.after)

    def _nest(self, group: OpenGroup, cone: set[int]) -> OpenGroup | None:
        found: OpenGroup | None = group
        for i in sorted(cone, reverse=True):
            found = found and self.program.joined(found, self.program.group(i))
        return found if found is not None and found.form == group.form else None

    def _with_product(self, group: OpenGroup, nodes: list[int], cone: set[int]) -> OpenGroup | None:
        """A group with a product: what reads the cone has to be computed where the product's result is, and so has the cone."""
        assert group.product is not None
        again = {v for i in cone for v in self.nodes[i].results}
        members = {v for i in nodes for v in self.nodes[i].results}
        joins = families.rules(self.program.producers[group.product].op).epilogue
        readers = [i for i in nodes if i in cone or not again.isdisjoint(self.program.read_by(i))]
        if joins is None or not all(joins(self.program, self.nodes[i], group.product, members) for i in readers):
            return None
        return group

    def _drop_unread(self) -> set[int]:
        """Leave out what a group computed only for groups that compute it themselves now."""
        emptied = set[int]()
        for number in sorted(self.groups, key=lambda n: -self.groups[n].last):
            group, nodes = self.groups[number], list[int]()
            live = {v for v in group.values if v in self.readers}
            for i in reversed(group.nodes):
                node = self.nodes[i]
                if i in self.program.counting_unread or not live.isdisjoint(node.results):
                    nodes.append(i)
                    live.update(self.program.read_by(i))
            if len(nodes) == len(group.nodes):
                continue
            made = {v for i in nodes for v in self.nodes[i].results}
            reads = dict.fromkeys(
                r for i in reversed(nodes) for r in self.program.read_by(i) if r not in made or r in group.values
            )
            values = [v for v in group.values if v in made]
            self._replace(number, replace(group, nodes=nodes[::-1], values=values, reads=reads))
            if not nodes:
                emptied.add(number)
        return emptied
