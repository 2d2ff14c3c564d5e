"""Which ops are compiled together: a program becomes clusters, each one or a few kernels.

In: a program after simplify and cse. Out: clusters in an order that respects their operands. What one loop nest
may compute is said in `codegen/nest_rules.py`; here it is asked step by step, of nodes put in order (`cluster_order.py`), looking
only at the groups that produce an op's operands and read them last, so that equal layers give equal clusters in time linear in the
program; what repeats itself is asked for the first repeats and copied (`cluster_copies.py`).
Next: `cluster_groups.py` (what a group is), `codegen/loops/cut.py`, `codegen/products/cut.py`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from flambeau.compiler import families, memo
from flambeau.compiler.kernel import Cluster
from flambeau.compiler.options import Options
from flambeau.compiler.passes import Pass
from flambeau.compiler.passes.cluster_blocks import BLOCKS, blocked
from flambeau.compiler.passes.cluster_copies import Copies, clean_cut, runs, within
from flambeau.compiler.passes.cluster_groups import Clustering, OpenGroup
from flambeau.compiler.passes.cluster_order import in_order
from flambeau.compiler.passes.cluster_producers import Producers
from flambeau.compiler.passes.cluster_prologues import widened_factors
from flambeau.compiler.passes.cluster_repeats import Repeats
from flambeau.dialects.graph import Graph
from flambeau.dialects.tape.transfer import crosses


@dataclass(frozen=True)
class ClusterKernels(Pass):
    """Group a program's ops into clusters.

    In: any graph. Out: clusters in which every op is computed once (views, constants and iotas by every reader, and cheap
    ops also by readers that read what these are made of, or that are their old nest), in an order in which operands come first.
    `fuse=False` puts every op into a cluster of its own, `blocks=True` joins those that share their rows (`cluster_blocks.py`).
    """

    name = "cluster"
    fuse: bool = True
    max_ops: int = 200
    blocks: bool = False

    def __call__(self, graph: Graph) -> list[Cluster]:
        graph = replace(graph, nodes=in_order(graph)) if self.fuse else graph
        fast = _Clustering(graph, self.fuse, self.max_ops).run()
        found = fast if fast is not None else _Clustering(graph, self.fuse, self.max_ops, careful=True).clusters()
        return blocked(graph, found) if self.blocks else found


def cluster(graph: Graph, options: Options) -> list[Cluster]:
    """The clusters of a program under `options`."""
    return ClusterKernels(options.fuse, options.max_cluster_ops)(graph)


#: Groups looked at before a fusion is refused for fear of a cycle, and nodes from the first of a group to its last: so what repeats
#: itself is cut at the same place every time, which the search alone would not do. Numbers gather from further apart.
SEARCH = 128
WINDOW = 512
#: Ops of 0-d values that gather though nothing relates them: more would make another kernel for every number of layers.
SCALARS = 32


@dataclass
class _Clustering:
    graph: Graph
    fuse: bool
    max_ops: int
    careful: bool = False  # look for cycles everywhere: the short search can miss one through groups that interleave
    groups: dict[int, OpenGroup] = field(default_factory=dict)
    entered: int = 0
    group_of: dict[int, int] = field(default_factory=dict)  # value -> number of the group that stores it
    readers: dict[int, int] = field(default_factory=dict)  # value -> number of the last group that read all of it
    absorbed_by: dict[int, int] = field(default_factory=dict)
    scalars: int | None = None  # the last group of 0-d values: these gather in few kernels, related or not

    def clusters(self) -> list[Cluster]:
        """As `run`; raises RuntimeError instead of losing groups that wait for each other."""
        found = self.run()
        if found is None:
            raise RuntimeError("[cluster] groups wait for each other. Report this as a bug.")
        return found

    def run(self) -> list[Cluster] | None:
        """The clusters, or None if groups were joined that wait for each other."""
        self.program = Clustering(self.graph, self.fuse)
        self.waiting = widened_factors(self.graph) if self.fuse else set()
        self._form_groups()
        for value in dict.fromkeys(self.graph.outputs):
            if value in self.program.producers and value not in self.group_of:
                self._enter(self.program.copy_group(value))
        self._repair_products()
        if self.fuse:
            self._hand_numbers_over()
            self._leave_out(Producers(self.program, self.groups, self.group_of, self.max_ops).run())
            self._leave_out(Repeats(self.program, self.groups, self.group_of, self.max_ops).run())
        ordered = self._ordered()
        return [self._cluster(g) for g in ordered if g.outputs] if len(ordered) == len(self.groups) else None

    # ---- groups ----------------------------------------------------------------------------------------------

    def _form_groups(self) -> None:
        """Go through the nodes; of what repeats itself until two repeats have groups of their own, which are then copied."""
        size, at = len(self.graph.nodes), 0
        forms = [self.program.form_and_roots(i)[0] for i in range(size)] if self.fuse and memo.keeps() else []
        for begin, period, end in runs(forms):
            while end - begin > 2 * period:
                self._go_through(at, at := begin + 2 * period)
                cut = clean_cut(begin, period, self.groups.values())
                begin += period
                if cut is None:
                    continue
                self._go_through(at, at := cut + 2 * period)
                last = within(self.groups.values(), at - period)
                if last is not None:  # none of the second repeat's nodes joined a group of the first
                    at = self._copy(Copies(self.program, at - period, period, last, self.waiting), end)
                    break
        self._go_through(at, size)

    def _copy(self, copies: Copies, end: int) -> int:
        """Copy the groups of a repeat for those behind it until `end`; returns the node behind the last copy."""
        at, period = copies.begin + copies.period, copies.period
        while at + period <= end and (groups := copies.at(at)) is not None:
            for group in groups:
                self._enter(group)
            for group in groups:  # one may read what a later one makes
                group.after = self._makers_of(group)
                self.readers.update(dict.fromkeys(self.program.whole_reads(group), group.number))
            at += period
        return at

    def _go_through(self, begin: int, end: int) -> None:
        for index in range(begin, end):
            node = self.graph.nodes[index]
            if self.program.is_computed(node):
                self._add(index)
            elif node.results[0] in self.program.stored:
                self._enter(self.program.copy_group(node.results[0]))

    def _enter(self, group: OpenGroup) -> None:
        group.number = self.entered
        self.entered += 1
        self.groups[group.number] = group
        for value in group.values:
            self.group_of[value] = group.number
        group.after = self._makers_of(group)

    def _makers_of(self, group: OpenGroup) -> set[int]:
        return {self.group_of[v] for v in group.reads if v in self.group_of} - {group.number}

    def _add(self, index: int) -> None:
        """A new node: a group of its own, then joined to the groups of its operands where that is allowed."""
        group = self.program.group(index)
        self._enter(group)
        if not self.fuse or index in self.waiting:
            return
        here = group.number
        neighbours = self._makers(group) + [self.readers.get(v) for v in group.reads]
        if (
            group.is_scalar
            and self.scalars is not None
            and len(self.groups[self._current(self.scalars)].nodes) < SCALARS
        ):
            neighbours.append(self.scalars)
        for found in dict.fromkeys(neighbours):
            there = None if found is None else self._current(found)
            if there is not None and there != here:
                here = self._try_join(there, here)
        for value in self.program.whole_reads(group):
            self.readers[value] = here
        if group.is_scalar and self.groups[here].is_scalar:
            self.scalars = here

    def _makers(self, group: OpenGroup) -> list[int | None]:
        """The groups of what a group reads. Of several products the last one comes first: a sum of many products is then added up
        product by product, each of which takes one sum, instead of by a few that wait for some of the others."""
        made = [self.group_of.get(v) for v in group.reads]
        if len(made) < 2:
            return made
        found = {self._current(n) for n in made if n is not None}
        if len(found) > 1 and sum(self.groups[n].product is not None for n in found) > 1:
            made.sort(key=lambda n: -1 if n is None else self.groups[self._current(n)].first, reverse=True)
        return made

    def _current(self, number: int) -> int:
        """The group that a group has become part of."""
        while number in self.absorbed_by:
            number = self.absorbed_by[number]
        return number

    def _before(self, number: int) -> set[int]:
        """The groups that must run before a group."""
        group = self.groups[number]
        if number in group.after or not self.absorbed_by.keys().isdisjoint(group.after):
            group.after = {self._current(n) for n in group.after} - {number}
        return group.after

    def _try_join(self, there: int, here: int) -> int:
        """Join two groups if one kernel may compute both; returns the number of the group that `here` is now in."""
        one, two = self.groups[there], self.groups[here]
        start = one.last if one.is_scalar and two.is_scalar else min(one.first, two.first)
        if len(one.nodes) + len(two.nodes) > self.max_ops or max(one.last, two.last) - start > max(
            WINDOW, self.max_ops
        ):
            return here
        union = self.program.joined(one, two)
        return here if union is None or self._would_cycle(there, here) else self._join(there, here, union)

    def _would_cycle(self, one: int, two: int) -> bool:
        """Whether some third group lies between the two (or the search for one became too long)."""
        ends = {one, two}
        pending = [g for end in ends for g in self._before(end) if g not in ends]
        first = min(self.groups[one].first, self.groups[two].first)
        seen = set(pending)
        while pending:
            number = pending.pop()
            if self.groups[number].last < first and not self.careful:
                continue
            before = self._before(number)
            if len(seen) > SEARCH or not ends.isdisjoint(before):
                return True
            fresh = before - seen
            seen |= fresh
            pending += fresh
        return False

    def _join(self, one: int, two: int, union: OpenGroup) -> int:
        """Replace two groups by their union; returns its number."""
        kept, gone = (one, two) if len(self.groups[one].nodes) >= len(self.groups[two].nodes) else (two, one)
        absorbed = self.groups.pop(gone)
        union.number, union.after = kept, self.groups[kept].after | absorbed.after
        self.groups[kept] = union
        self.absorbed_by[gone] = kept
        for value in absorbed.values:
            self.group_of[value] = kept
        return kept

    # ---- second thoughts -------------------------------------------------------------------------------------

    def _repair_products(self) -> None:
        """Move an epilogue into the nest that reads several of its results: then only the product itself crosses.

        An optimizer's update is the usual case: its first steps depend on the gradient, which is a product, its later
        ones also on other things.
        """
        products = [n for n, g in self.groups.items() if g.product is not None and len(g.nodes) > 1]
        made_by = {v: n for n in products for v in self.groups[n].values}
        readers: dict[int, dict[int, int]] = {n: {} for n in products}
        for number, group in self.groups.items():
            for producer in (made_by[v] for v in group.reads if v in made_by):
                readers[producer][number] = readers[producer].get(number, 0) + 1
        for number in products:
            for reader, count in readers[number].items():
                here = self._current(reader)
                if (
                    count > 1
                    and self.groups[here].form is not None
                    and self._move_epilogue(number, here, readers[number])
                ):
                    break

    def _move_epilogue(self, number: int, reader: int, readers: Iterable[int]) -> bool:
        """Give the epilogue of a product to a group that reads it, if one nest computes both and no cycle arises."""
        whole = self.groups[number]
        product, epilogue = self.program.without_epilogue(whole)
        union = self.program.joined(epilogue, self.groups[reader])
        if union is None:
            return False
        self.groups[number] = product
        product.number, product.after = number, whole.after
        self._enter(epilogue)
        epilogue.after |= whole.after
        dependent = [self.groups[n] for n in {self._current(other) for other in readers} - {number}]
        for group in dependent:  # on the epilogue now, not on the product alone
            group.after.add(epilogue.number)
        if (
            self._would_cycle(epilogue.number, reader)
            or len(epilogue.nodes) + len(self.groups[reader].nodes) > self.max_ops
        ):
            del self.groups[epilogue.number]
            self.groups[number] = whole
            self.group_of.update(dict.fromkeys(whole.values, number))
            for group in dependent:
                group.after.discard(epilogue.number)
            return False
        self._join(epilogue.number, reader, union)
        return True

    def _hand_numbers_over(self) -> None:
        """Have numbers computed by the group that reads them, if it is the only one: numbers come before all others, so that what
        reads them alone may not have been there when they gathered."""
        numbers = [n for n, g in self.groups.items() if g.is_scalar]
        if not numbers:
            return
        readers: dict[int, set[int]] = {n: set() for n in numbers}
        for number, group in self.groups.items():
            for value in group.reads:
                maker = self.group_of.get(value, number)
                if maker != number and maker in readers:
                    readers[maker].add(number)
        handed_out = {self.group_of.get(v) for v in self.graph.outputs}
        for number in numbers:
            found = {self._current(n) for n in readers[number]}
            if len(found) == 1 and number in self.groups and number not in handed_out:
                self._try_join(number, found.pop())

    def _leave_out(self, emptied: set[int]) -> None:
        """Forget groups that nothing is left of."""
        for number in emptied:
            del self.groups[number]
        for group in self.groups.values():
            group.after = {self._current(n) for n in group.after} - emptied

    # ---- the result ------------------------------------------------------------------------------------------

    def _ordered(self) -> list[OpenGroup]:
        """Groups with operands first, otherwise by their first node."""
        self.program.find_outputs(self.groups.values(), self.group_of)
        waiting = {n: len(self._before(n)) for n in self.groups}
        readers: dict[int, list[int]] = {}
        for number in self.groups:
            for before in self._before(number):
                readers.setdefault(before, []).append(number)
        ready = [(self.groups[n].first, n) for n, count in waiting.items() if not count]
        heapq.heapify(ready)
        ordered = []
        while ready:
            _, number = heapq.heappop(ready)
            ordered.append(self.groups[number])
            for reader in readers.get(number, ()):
                waiting[reader] -= 1
                if not waiting[reader]:
                    heapq.heappush(ready, (self.groups[reader].first, reader))
        return ordered

    def _cluster(self, group: OpenGroup) -> Cluster:
        graph, operands, results = self.program.fragment(group)
        form = self.program.form_of_fragment(graph, operands)
        return Cluster(kind_of(graph), graph, operands, results, form=form)


#: The kind of clusters that are nests of loops, joined by their iteration spaces alone.
LOOPS = "loops"


def kind_of(graph: Graph) -> str:
    """What makes kernels of a fragment: the family of its head, an op with loops of its own, or the machine's nests. One with
    several products is computed by blocks of rows."""
    computed = [n for n in graph.nodes if not n.op.family.is_view or crosses(graph, n)]
    heads = [n.op.family.name for n in computed if families.rules(n.op).is_head]
    return BLOCKS if heads.count("contraction") > 1 else min(heads, default=LOOPS)
