"""The order of work inside a row: which pass over the columns computes what, and what is kept between passes.

In: a `Fragment` and its `NestForm`. Out: `Stages`. A reduction of elements of stage t is known from stage t + 1 on; an
element needed in a later stage is recomputed when that is cheap and kept in memory when it is not. Next: `nest.py`.
"""

from __future__ import annotations

from flambeau.compiler.codegen.fragment import Fragment
from flambeau.compiler.codegen.iteration_space import NestForm
from flambeau.compiler.codegen.nest_rules import is_leaf_source
from flambeau.dialects.graph import Node
from flambeau.dialects.record import HEAVY as HEAVY  # families of other packages know it from here

#: More work than any element takes: nothing is kept.
ALWAYS = 1 << 62


class Stages:
    """`stage_of[v]` for every member's result and every row value; `kept` are the elements stored between stages: those that would
    take more work than `recompute` to compute again. `stores` says what a stage stores: what it is the first to compute, or
    everything `at_last`."""

    def __init__(self, fragment: Fragment, form: NestForm, recompute: int, at_last: bool = False) -> None:
        self.fragment, self.form, self.recompute, self.at_last = fragment, form, recompute, at_last
        self.stage_of: dict[int, int] = {}
        for node in fragment.members:
            self.stage_of.update(dict.fromkeys(node.results, self._stage(node)))
        self.last = max([0, *self.stage_of.values()])
        self.kept: list[int] = []
        self.read_back: set[int] = set()  # outputs that a later stage reads from their buffers
        self.reductions = [[n for n in fragment.members if self._folds_at(n, t)] for t in range(self.last + 1)]
        self.stores = [self._outputs_at(t) for t in range(self.last + 1)]
        self._choose_kept()

    def value_stage(self, value: int) -> int:
        """The stage from which any value of the graph can be read."""
        return self.stage_of.get(self.fragment.sources[value].root, 0)

    def _stage(self, node: Node) -> int:
        first = max([0, *map(self.value_stage, node.operands)])
        return first + 1 if self.fragment.folds(node) else first

    def _folds_at(self, node: Node, stage: int) -> bool:
        return self.fragment.folds(node) and self.stage_of[node.results[0]] == stage + 1

    def _is_element(self, value: int) -> bool:
        """Whether a member's result has an element per column."""
        return not (self.fragment.folds(self.fragment.member_of[value]) or self.fragment.is_row_level(value, self.form))

    def element_work(self) -> int:
        """The work of one element in all stages: what a loop's body does, without the scalars of a row and the folds."""
        return sum(
            n.op.weight for n in self.fragment.members if self._is_element(n.results[0]) and not is_leaf_source(n)
        )

    def row_outputs(self) -> list[int]:
        return [v for v in self.fragment.graph.outputs if v in self.stage_of and not self._is_element(v)]

    def _outputs_at(self, stage: int) -> list[int]:
        rows = set(self.row_outputs())
        elements = [v for v in self.fragment.graph.outputs if v not in rows]
        if self.at_last:
            return elements if stage == self.last else []
        return [v for v in elements if self.value_stage(v) == stage]

    def loops(self) -> list[int]:
        """The stages that pass over the columns at all."""
        return [t for t in range(self.last + 1) if self.reductions[t] or self.stores[t]]

    def _choose_kept(self) -> None:
        """From the last stage back: what a stage reads of earlier ones and cannot cheaply recompute is kept."""
        for stage in range(self.last, -1, -1):
            wanted = [n.operands[0] for n in self.reductions[stage]] + self.stores[stage]
            wanted += [v for n in self._row_picks(stage) for v in n.operands[:1]]
            self._keep_for(stage, [self.fragment.sources[v].root for v in wanted])

    def _row_picks(self, stage: int) -> list[Node]:
        """Gathers that take one computed element per row."""
        return [
            n
            for n in self.fragment.members
            if n.op.family.reads_table
            and self.fragment.sources[n.operands[0]].root in self.stage_of
            and self.stage_of[n.results[0]] == stage
        ]

    def _keep_for(self, stage: int, pending: list[int]) -> None:
        """Decide for all elements below `pending` which earlier ones this stage reads from memory."""
        seen: set[int] = set()
        while pending:
            root = pending.pop(0)
            if root in seen or root not in self.stage_of or not self._is_element(root):
                continue
            seen.add(root)
            at = self.stage_of[root]
            if at < stage and root in self.stores[at]:
                self.read_back.add(root)
                continue
            if at < stage and self._cost(root, at) > self.recompute:
                self.kept.append(root)
                self.stores[at].append(root)
                continue
            pending += [self.fragment.sources[v].root for v in self.fragment.member_of[root].operands]

    def _cost(self, root: int, stage: int) -> int:
        """The work of computing an element of `stage` again from what is in memory; once it is too much, just that."""
        pending, seen, cost = [root], set(), 0
        while pending and cost <= self.recompute:
            value = pending.pop()
            if value in seen or value not in self.stage_of or not self._is_element(value):
                continue
            seen.add(value)
            if self.stage_of[value] < stage and value in self.stores[self.stage_of[value]]:
                cost += 1
                continue
            cost += self.fragment.member_of[value].op.weight
            pending += [self.fragment.sources[v].root for v in self.fragment.member_of[value].operands]
        return cost


def work(fragment: Fragment) -> int:
    """The work of one element of the whole fragment."""
    return sum(n.op.weight for n in fragment.members if not is_leaf_source(n)) or 1
