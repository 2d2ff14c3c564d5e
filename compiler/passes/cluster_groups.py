"""Groups of nodes under construction, and the rules by which two of them may become one loop nest or one product.

In: the program. Out: `OpenGroup`s, and fragments of them with canonical numbers. A group is summed up by the form of its
nest and by the cuts its accesses make in it, so that joining two is cheap. Next: `cluster.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flambeau.compiler import families
from flambeau.compiler.codegen.iteration_space import NestForm, extents_of, join_forms, nest_cuts
from flambeau.compiler.passes.cluster_values import Values
from flambeau.dialects.graph import Graph, Node

_T = TypeVar("_T")

#: Longest row whose elements are computed from a reduction of that row in the same kernel: they must stay in cache.
LONGEST_ROW = 1 << 16
#: Outputs that a product's epilogue may store.
MOST_EPILOGUE_OUTPUTS = 4


@dataclass
class OpenGroup:
    """Nodes that become one cluster. `form` None: it stands alone. `after`: groups that must run before it."""

    nodes: list[int]
    values: list[int]
    reads: dict[int, None]  # roots that its nodes read, its own values included
    form: NestForm | None = None
    product: int | None = None  # of a head that elementwise ops may join: its result
    cuts: frozenset[Any] = frozenset()
    number: int = -1
    after: set[int] = field(default_factory=set)
    outputs: list[int] = field(default_factory=list)

    @property
    def first(self) -> int:
        return self.nodes[0]

    @property
    def last(self) -> int:
        return self.nodes[-1]

    @property
    def is_scalar(self) -> bool:
        return self.form is not None and self.form.size == 1


class Clustering(Values):
    """The program's values, and the rules by which its nodes form groups."""

    # ---- new groups ------------------------------------------------------------------------------------------

    def copy_group(self, value: int) -> OpenGroup:
        """The group that stores a view, constant or iota."""
        node = self.producers[value]
        operands = node.operands if node.op.family.is_view else ()
        reads = dict.fromkeys(r for v in operands for r in self.roots(v))
        return OpenGroup([self.index_of[value]], [value], reads)

    def group(self, index: int) -> OpenGroup:
        """A group of one node."""
        node = self.graph.nodes[index]
        group = OpenGroup([index], list(node.results), dict.fromkeys(self.read_by(index)))
        if families.rules(node.op).epilogue is not None:
            group.product = node.results[0]
            return group
        group.form, group.cuts = self._asked(index, "nest", (), self._nest, node)
        return group

    def _nest(self, node: Node) -> tuple[NestForm | None, frozenset[Any]]:
        """The nest of a node by itself, and the cuts that its accesses make."""
        form = self.form_of(node)
        return form, frozenset() if form is None else frozenset(nest_cuts(self.external_layouts(node, set())))

    def _asked(self, index: int, question: str, about: Hashable, work: Callable[..., _T], *arguments: Any) -> _T:
        """`work(*arguments)`, which depends on the node's form and on `about`: asked once."""
        form, _ = self.form_and_roots(index)
        return work(*arguments) if form is None else self.memo.answer((question, form, about), work, *arguments)

    def _asked_within(
        self, index: int, question: str, about: Hashable, members: set[int], work: Callable[..., _T], *arguments: Any
    ) -> _T:
        """`work(*arguments, members)`, which depends on which operands are members, too."""
        form, roots = self.form_and_roots(index)
        if form is None:
            return work(*arguments, members)
        within = tuple([root in members for root in roots])
        return self.memo.answer((question, form, within, about), work, *arguments, members)

    def whole_reads(self, group: OpenGroup) -> list[int]:
        """Values that a nest reads element by element: another reader of them is worth joining."""
        if group.form is None:
            return []
        size = group.form.size
        return [v for v in group.reads if self.avals[v].size == size > 1]

    def device(self, group: OpenGroup) -> str:
        """Where the group's results lie. It computes there, unless it is a transfer, which stands alone."""
        return self.graph.device(self.graph.nodes[group.nodes[0]])

    # ---- joining ---------------------------------------------------------------------------------------------

    def joined(self, one: OpenGroup, two: OpenGroup) -> OpenGroup | None:
        """The union of two groups, or None where no single kernel computes it."""
        if not self._is_on_one_device and self.device(one) != self.device(two):
            return None
        if one.product is not None or two.product is not None:
            return self._joined_product(one, two)
        if one.form is None or two.form is None:
            return None
        form = join_forms(one.form, two.form)
        if form is None:
            return None
        members = {*one.values, *two.values}
        large, small = (one, two) if len(one.nodes) >= len(two.nodes) else (two, one)
        nodes, known = small.nodes, large.cuts
        if form != large.form or not large.reads.keys().isdisjoint(small.values):
            nodes, known = one.nodes + two.nodes, frozenset()
        cuts = known
        for i in nodes:
            more = self._asked_within(i, "cuts", form, members, self.cuts, self.graph.nodes[i], form)
            if more is None:
                return None
            if more:
                cuts = cuts | more
        if self.memo.answer(("extents", form, cuts), extents_of, form, cuts) is None:
            return None
        return self._union(one, two, form=form, cuts=cuts)

    def without_epilogue(self, group: OpenGroup) -> tuple[OpenGroup, OpenGroup]:
        """A product that has an epilogue by itself, and the epilogue as a nest."""
        (index,) = (i for i in group.nodes if group.product in self.graph.nodes[i].results)
        epilogue, *rest = (self.group(i) for i in group.nodes if i != index)
        for one in rest:
            epilogue = self._union(epilogue, one, form=one.form, cuts=epilogue.cuts | one.cuts)
        return self.group(index), epilogue

    def _union(
        self,
        one: OpenGroup,
        two: OpenGroup,
        form: NestForm | None = None,
        cuts: frozenset[Any] = frozenset(),
        product: int | None = None,
    ) -> OpenGroup:
        nodes = sorted([*one.nodes, *two.nodes])
        values = [v for i in nodes for v in self.graph.nodes[i].results]
        return OpenGroup(nodes, values, {**one.reads, **two.reads}, form, product, cuts)

    def walks_again(self, form: NestForm) -> bool:
        """Rows must stay in cache for that."""
        return bool(form.count <= LONGEST_ROW)

    def _joined_product(self, one: OpenGroup, two: OpenGroup) -> OpenGroup | None:
        """A product and elementwise ops on its result."""
        product = one.product if one.product is not None else two.product
        if product is None or None not in (one.product, two.product):
            return None
        members = {*one.values, *two.values}
        nodes = sorted([*one.nodes, *two.nodes])
        joins, dependent = families.rules(self.producers[product].op).epilogue, {product}
        form, _ = self.form_and_roots(self.index_of[product])
        head = (product,) if form is None else form
        for i in nodes:
            node = self.graph.nodes[i]
            if product in node.results:
                continue
            if joins is None or not self._asked_within(i, "epilogue", head, members, joins, self, node, product):
                return None
            if not any(self.source(v).root in dependent for v in node.operands):
                return None
            dependent.update(node.results)
        if len(nodes) - 1 > MOST_EPILOGUE_OUTPUTS * 8:
            return None
        return self._union(one, two, product=product)

    # ---- fragments -------------------------------------------------------------------------------------------

    def find_outputs(self, groups: Iterable[OpenGroup], group_of: dict[int, int]) -> None:
        """What every group must store: what others read, what the program returns, what may fail."""
        groups = list(groups)
        wanted = {r for v in self.graph.outputs for r in ([v] if v in group_of else [])}
        for group in groups:
            wanted.update(r for r in group.reads if group_of.get(r, group.number) != group.number)
        for group in groups:
            if not self.counting_unread.isdisjoint(group.nodes):
                wanted.update(self._unread_failures(group, wanted))
            group.outputs = [v for v in group.values if v in wanted]

    def _unread_failures(self, group: OpenGroup, wanted: set[int]) -> list[int]:
        """Results of nodes that no output of the group depends on: they are computed for their errors or effects."""
        live: set[int] = set()
        found: list[int] = []
        for i in reversed(group.nodes):
            node = self.graph.nodes[i]
            if live.isdisjoint(node.results) and wanted.isdisjoint(node.results):
                if i not in self.counting_unread:
                    continue
                found += node.results
            live.update(self.read_by(i))
        return found

    def fragment(self, group: OpenGroup) -> tuple[Graph, tuple[int, ...], tuple[int, ...]]:
        """The group's nodes and the views they read through, numbered canonically; its operands and results."""
        indices = set(group.nodes)
        pending = [v for i in group.nodes for v in self.graph.nodes[i].operands]
        while pending:
            value = pending.pop()
            index = self.index_of.get(value)
            if index is None or index in indices or self._has_memory(value):
                continue
            indices.add(index)
            pending += self.graph.nodes[index].operands
        nodes = [self.graph.nodes[i] for i in sorted(indices)]
        made = [v for n in nodes for v in n.results]
        inside = set(made)
        operands = tuple(dict.fromkeys([v for n in nodes for v in n.operands if v not in inside]))
        values = [*operands, *made]
        names = dict(zip(values, range(len(values))))
        fragment = Graph(
            avals=[self.avals[v] for v in values],
            inputs=list(range(len(operands))),
            nodes=[n.renamed(names) for n in nodes],
            outputs=[names[v] for v in group.outputs],
        )
        return fragment, operands, tuple(group.outputs)

    def form_of_fragment(self, fragment: Graph, operands: Sequence[int]) -> int:
        """A number that fragments share which are equal but for their lines."""
        nodes = tuple([(self._operation(n), n.operands) for n in fragment.nodes])
        return self.memo.number(("fragment", len(operands), tuple(fragment.avals), nodes, tuple(fragment.outputs)))

    def _has_memory(self, value: int) -> bool:
        """Whether readers of `value` find it stored."""
        return value in self.stored or self.is_computed(self.producers[value])
