"""What one loop nest may compute: said here once, asked while clusters form and again when one becomes kernels.

In: a graph whose values are resolved to views of roots. Out: whether a nest of some form computes a node beside others, and
where its accesses break the loops. Clustering asks of each node that joins an open group (`passes/cluster_groups.py`), a code
generator of all nodes of a fragment (`fragment.py`), so what clustering joins the generator follows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

from flambeau.compiler import families
from flambeau.compiler.codegen.access import StridedView, dense
from flambeau.compiler.codegen.iteration_space import (
    NestForm,
    Split,
    breaks_rows,
    form_of_split,
    is_row_broadcast,
    nest_cuts,
    reduction_split,
)
from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Graph, Node


class Source(NamedTuple):
    """A value as a view of `root`, which is an input, a leaf source (constant, iota) or a member's result."""

    root: int
    layout: StridedView


class NestRules:
    """A graph whose values are read as views of roots. `members` are the values that a nest computes, among them those asked about.

    `sources` says where every value is read that `resolve` was asked about. A subclass may know of others that lie in memory
    (`stored`) and of views that readers do not look through (`is_looked_through`).
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.avals: Sequence[Aval] = graph.avals
        self.producers: Mapping[int, Node] = graph.producers()
        self.sources: dict[int, Source] = {v: Source(v, dense(graph.avals[v].shape)) for v in graph.inputs}
        self.stored: set[int] = set()  # views, constants and iotas that readers find in memory
        self._roots: dict[int, list[int]] = {}

    # ---- where values are read -------------------------------------------------------------------------------

    def resolve(self, node: Node) -> bool:
        """Note where the results of a node are read: that of a view where its operand is. False, and nothing noted, of a view that
        is not affine there, or whose operand is read nowhere."""
        if not self.is_looked_through(node):
            for v in node.results:
                self.sources[v] = Source(v, leaf_layout(node, self.avals[v].shape))
            return True
        layout_of = families.rules(node.op).layout
        if layout_of is None or node.operands[0] not in self.sources:
            return False
        root, below = self.source(node.operands[0])
        layout = layout_of(node, below)
        if layout is not None:
            self.sources[node.results[0]] = Source(root, layout)
        return layout is not None

    def is_looked_through(self, node: Node) -> bool:
        """Whether who reads a node's result reads what it is a view of."""
        return node.op.family.is_view

    def is_computed(self, node: Node) -> bool:
        """Whether somebody has to compute a node, or to move it to another device."""
        return not (self.is_looked_through(node) or is_leaf_source(node))

    def source(self, value: int) -> Source:
        """What to read for a value: itself if it is stored."""
        if value in self.stored:
            return Source(value, dense(self.avals[value].shape))
        return self.sources[value]

    def is_free(self, value: int) -> bool:
        """Whether every reader makes the value itself: a constant or iota without memory."""
        node = self.producers.get(value)
        return node is not None and is_leaf_source(node) and value not in self.stored

    def walks_again(self, form: NestForm) -> bool:
        """Whether the elements of a row may be computed from a fold of it, which takes another pass over the row."""
        return True

    # ---- values ----------------------------------------------------------------------------------------------

    def size(self, value: int) -> Any:
        return self.avals[value].size

    def roots(self, value: int) -> list[int]:
        """The stored values that reading `value` reads."""
        found = self._roots.get(value)
        if found is None:
            found = self._roots[value] = self._find_roots(value)
        return found

    def _find_roots(self, value: int) -> list[int]:
        root, layout = self.source(value)
        found = [] if self.is_free(root) else [root]
        return found + [r for start, _, _ in layout.dynamic for r in self.roots(start)]

    def fold_of(self, node: Node) -> Split | None:
        """How a reduction with something to fold does it; None for other nodes."""
        split = reduction_split(self.graph, node) if node.op.family.folds else None
        return None if split is None or split.is_trivial else split

    def is_row_level(self, value: int, form: NestForm) -> bool:
        """Whether a member's result has one element per row."""
        return form.kind == "rows" and self.size(value) == form.batch

    def table_layout(self, node: Node) -> StridedView:
        """Where a gather reads, without the contribution of the index."""
        layout, axis = self.source(node.operands[0]).layout, node.attrs[0]
        strides = tuple(0 if a == axis else s for a, s in enumerate(layout.strides))
        return layout._replace(shape=self.avals[node.results[0]].shape, strides=strides)

    # ---- what fits -------------------------------------------------------------------------------------------

    def fits(self, node: Node, form: NestForm, members: Collection[int]) -> bool:
        """Whether the nest `form` computes a member."""
        result = node.results[0]  # an op whose results differ in shape has no nest of this kind
        split = self.fold_of(node)
        if split is not None:
            return form_of_split(split) == form and self._reads(node.operands[0], form, False, members)
        row_level = self.is_row_level(result, form)
        if self.size(result) != form.size and not row_level:
            return False
        if node.op.family.reads_table and breaks_rows(self.table_layout(node), form):
            return False
        if node.op.family.reads_table and self.source(node.operands[0]).root in members:
            return row_level and self._picks_from_row(node, form) and self._reads(node.operands[1], form, True, members)
        return all(self._reads(v, form, row_level, members) for v in read_operands(node))

    def _picks_from_row(self, node: Node, form: NestForm) -> bool:
        """Whether a gather takes one element of each row of a member of the nest."""
        operand, _ = node.operands
        shape, axis = self.avals[operand].shape, node.attrs[0]
        fits = shape[axis] == form.count and prod(shape[axis + 1 :]) == 1 and self.size(operand) == form.size
        return fits and self.source(operand).layout.is_identity

    def _reads(self, value: int, form: NestForm, row_level: bool, members: Collection[int]) -> bool:
        """Whether the nest can read `value` element by element, or row by row."""
        root, layout = self.source(value)
        if any(r in members for start, _, _ in layout.dynamic for r in self.roots(start)):
            return False
        if root not in members:
            return True
        if self.is_row_level(root, form):
            if row_level:
                return layout.is_identity
            return self.walks_again(form) and is_row_broadcast(layout, form)
        if self.fold_of(self.producers[root]) is not None:
            return False  # a column result inside its own nest
        return not row_level and layout.is_identity and self.size(root) == form.size

    # ---- where accesses break the loops ----------------------------------------------------------------------

    def external_layouts(self, node: Node, members: Collection[int]) -> list[StridedView]:
        """The layouts that a node walks of values outside its nest."""
        sources = [self.source(v) for v in read_operands(node)]
        layouts = [s.layout for s in sources if s.root not in members]
        if node.op.family.reads_table and self.source(node.operands[0]).root not in members:
            layouts.append(self.table_layout(node))
        return [x for x in layouts if x.size != 1]

    def cuts(self, node: Node, form: NestForm, members: Collection[int]) -> frozenset[Any] | None:
        """The cuts that a member's accesses of what is outside make in its nest; None where that cannot compute it."""
        return cuts_of(self.external_layouts(node, members), form) if self.fits(node, form, members) else None


def cuts_of(layouts: Iterable[StridedView], form: NestForm) -> frozenset[Any]:
    """The cuts that layouts of a nest's elements, or of its rows, make in it."""
    cuts = frozenset[Any]()
    for layout in layouts:
        scale = form.count if layout.size == form.batch and form.kind == "rows" and layout.size != form.size else 1
        cuts |= {cut * scale for cut in nest_cuts([layout])}
    return cuts


def is_map(node: Node) -> bool:
    """Whether a node gives one value, element by element, and cannot fail: it may be computed anywhere, any number of times."""
    return node.op.family.is_pointwise and not node.op.fallible and len(node.results) == 1


def is_leaf_source(node: Node) -> bool:
    """Sources so cheap that every reader makes its own."""
    return node.op.name in ("constant", "iota")


def leaf_layout(node: Node, shape: tuple[Any, ...]) -> StridedView:
    """Of an iota: its coordinate as a layout. Of others: dense."""
    if node.op.name != "iota":
        return dense(shape)
    return StridedView(shape, tuple(int(axis == node.attrs[1]) for axis in range(len(shape))))


def read_operands(node: Node) -> tuple[int, ...]:
    """The operands that a node reads element by element (a gather's table is not)."""
    return node.operands[1:] if node.op.family.reads_table else node.operands
