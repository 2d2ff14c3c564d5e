"""What a loop kernel needs to know of a cluster: where every operand comes from, and one loop nest that serves all.

In: the graph of a cluster; its sizes are ints or `Size`s. Out: `Fragment` (views resolved to layouts) and its `NestForm`, or
None where no single nest can compute it. The same rules decide in `passes/cluster.py` what may be fused.
Next: `loops/phases.py`, `nest.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, NamedTuple

from flambeau.compiler import families
from flambeau.compiler.codegen.access import StridedView, chain, dense, merge, suffixes
from flambeau.dialects.graph import Graph, Node

#: Lanes of an inner reduction, a multiple of those of any register.
LANES = 64


class Source(NamedTuple):
    """A value as a view of `root`, which is an input, a leaf source (constant, iota) or a member's result."""

    root: int
    layout: StridedView


class Split(NamedTuple):
    """A reduction's operand as (batch, count, columns), `count` being folded. Inner reductions have one column."""

    inner: bool
    batch: Any
    count: Any  # type: ignore[assignment]  # hides tuple.count
    columns: Any

    @property
    def is_trivial(self) -> bool:
        """Nothing to fold: the result is the operand after one step from the identity."""
        return self.count == 1


class NestForm(NamedTuple):
    """The loop nest of a fragment over `batch * count * columns` elements.

    kind "map": no reductions. "rows": inner reductions; batch rows of count elements. "columns": outer reductions.
    """

    kind: str
    batch: Any
    count: Any  # type: ignore[assignment]  # hides tuple.count
    columns: Any = 1

    @classmethod
    def along(cls, shape: Sequence[Any], axis: int) -> NestForm:
        """The lines along an axis: what lies before it, its elements, what lies beside each of them."""
        return cls("columns", prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :]))

    @property
    def size(self) -> Any:
        return self.batch * self.count * self.columns

    @property
    def cuts(self) -> tuple[Any, ...]:
        """Where the element index must break into loops."""
        if self.kind == "map":
            return ()
        return (self.count,) if self.kind == "rows" else (self.columns, self.columns * self.count)


def is_leaf_source(node: Node) -> bool:
    """Sources so cheap that every reader makes its own."""
    return node.op.name in ("constant", "iota")


def split_axes(shape: Sequence[Any], axes: Sequence[int]) -> Split | None:
    """How a reduction folds; None when the reduced axes do not lie together and must be moved first."""
    runs: list[list] = []  # [is reduced, extent], alternating
    for axis, extent in enumerate(shape):
        if extent == 1:
            continue
        if runs and runs[-1][0] == (axis in axes):
            runs[-1][1] *= extent
        else:
            runs.append([axis in axes, extent])
    pattern = tuple(reduced for reduced, _ in runs)
    extents = [extent for _, extent in runs]
    if not any(pattern):
        return Split(False, prod(extents), 1, 1)
    if pattern in ((True,), (False, True)):
        return Split(True, prod(extents[:-1]), extents[-1], 1)
    if pattern in ((True, False), (False, True, False)):
        return Split(False, prod(extents[:-2]), extents[-2], extents[-1])
    return None


def reduction_split(graph: Graph, node: Node) -> Split | None:
    return split_axes(graph.avals[node.operands[0]].shape, node.attrs[0])


class Fragment:
    """A cluster's graph with every value resolved to a `Source`. `members` are the nodes that compute.

    `is_affine` says that `sources` has every value: views that are not affine are left out.
    """

    def __init__(self, graph: Graph, error_numbers: dict[int, int] | None = None) -> None:
        self.graph = graph
        self.error_numbers = error_numbers if error_numbers is not None else number_fallible(graph)
        self.avals = graph.avals
        self.producers = graph.producers()
        self.sources: dict[int, Source] = {v: Source(v, dense(graph.avals[v].shape)) for v in graph.inputs}
        self.is_affine = True
        self.members = [n for n in graph.nodes if self._resolve(n)]
        self.member_of = {v: n for n in self.members for v in n.results}

    def _resolve(self, node: Node) -> bool:
        """Note where the node's result comes from; true if it has to be computed."""
        layout_of = families.rules(node.op).layout
        if layout_of is not None:
            (result,) = node.results
            base = self.sources.get(node.operands[0])
            layout = layout_of(node, base.layout) if base is not None else None
            if base is not None and layout is not None:
                self.sources[result] = Source(base.root, layout)
            else:
                self.is_affine = False
            return False
        for v in node.results:
            self.sources[v] = Source(v, leaf_layout(node, self.avals[v].shape))
        return not is_leaf_source(node)

    def size(self, value: int) -> Any:
        return self.avals[value].size

    def split(self, node: Node) -> Split | None:
        return reduction_split(self.graph, node)

    def folds(self, node: Node) -> bool:
        """Whether the node is a reduction with something to fold."""
        split = self.split(node) if node.op.family.folds else None
        return split is not None and not split.is_trivial

    def form(self) -> NestForm | None:
        """The nest that computes all outputs, or None."""
        if not self.is_affine or any(families.rules(n.op).has_own_loops for n in self.members):
            return None
        form = self._shape_of_nest()
        if form is None or not all(self._fits(node, form) for node in self.members):
            return None
        if any(self.size(v) not in (form.size, form.batch) for v in self.graph.outputs if v not in self.member_of):
            return None
        return form if nest_extents(form, self.elem_layouts(form), self.row_layouts(form)) is not None else None

    def _shape_of_nest(self) -> NestForm | None:
        splits = []
        for node in self.members:
            if node.op.family.folds:
                split = self.split(node)
                if split is None or node.op.lower is None:
                    return None
                if not split.is_trivial:
                    splits.append(split)
        if not splits:
            sizes = {self.size(v) for v in self.graph.outputs}
            return NestForm("map", 1, sizes.pop()) if len(sizes) == 1 else None
        if len(set(splits)) > 1:
            return None
        return form_of_split(splits[0])

    def is_row_level(self, value: int, form: NestForm) -> bool:
        """Whether a member's result has one element per row."""
        return form.kind == "rows" and self.size(value) == form.batch

    def _fits(self, node: Node, form: NestForm) -> bool:
        result = node.results[0]
        if self.folds(node):
            return self._reads(node.operands[0], form, False)
        row_level = self.is_row_level(result, form)
        if self.size(result) != form.size and not row_level:
            return False
        if node.op.family.reads_table:
            return self._gather_fits(node, form, row_level)
        return all(self._reads(v, form, row_level) for v in node.operands)

    def _gather_fits(self, node: Node, form: NestForm, row_level: bool) -> bool:
        operand, index = node.operands
        root = self.sources[operand].root
        if not self._reads(index, form, row_level) or breaks_rows(self.gather_layout(node), form):
            return False
        if root not in self.member_of:
            return True
        return row_level and self.picks_from_row(node, form)

    def reads_memory(self, node: Node) -> bool:
        """Whether all operands are inputs as they lie in memory, one element after the other."""
        sources = [self.sources[v] for v in node.operands]
        return all(s.layout.is_identity and s.root in self.graph.inputs for s in sources)

    def picks_from_row(self, node: Node, form: NestForm) -> bool:
        """Whether a gather takes one element of each row of a member of the nest."""
        operand, _ = node.operands
        shape, axis = self.avals[operand].shape, node.attrs[0]
        return (
            self.size(operand) == form.size
            and self.sources[operand].layout.is_identity
            and shape[axis] == form.count
            and prod(shape[axis + 1 :]) == 1
        )

    def _reads(self, value: int, form: NestForm, row_level: bool) -> bool:
        """Whether the nest can read `value` element by element, or row by row."""
        root, layout = self.sources[value]
        if any(self.sources[start].root in self.member_of for start, _, _ in layout.dynamic):
            return False
        if root not in self.member_of:
            return True
        if self.is_row_level(root, form):
            return layout.is_identity if row_level else is_row_broadcast(layout, form)
        if self.folds(self.member_of[root]):
            return False  # a column result inside its own nest
        return not row_level and layout.is_identity and self.size(root) == form.size

    def leaf_values(self) -> list[int]:
        """Every value that some member, or an output, reads."""
        seen = dict.fromkeys(v for node in self.members for v in read_operands(node))
        seen.update(dict.fromkeys(v for v in self.graph.outputs if v not in self.member_of))
        return list(seen)

    def elem_layouts(self, form: NestForm) -> list[StridedView]:
        """The layouts that the innermost loops walk."""
        return [x for x in self._walked() if x.size == form.size]

    def row_layouts(self, form: NestForm) -> list[StridedView]:
        if form.kind != "rows":
            return []
        return [x for x in self._walked() if x.size == form.batch and x.size != form.size]

    def _walked(self) -> list[StridedView]:
        layouts = [self.sources[v].layout for v in self.leaf_values() if self.sources[v].root not in self.member_of]
        gathers = (n for n in self.members if n.op.family.reads_table)
        return layouts + [
            self.gather_layout(n) for n in gathers if self.sources[n.operands[0]].root not in self.member_of
        ]

    def gather_layout(self, node: Node) -> StridedView:
        """Where a gather reads, without the contribution of the index."""
        layout, axis = self.sources[node.operands[0]].layout, node.attrs[0]
        strides = tuple(0 if a == axis else s for a, s in enumerate(layout.strides))
        return layout._replace(shape=self.avals[node.results[0]].shape, strides=strides)


def number_fallible(graph: Graph) -> dict[int, int]:
    """The error number of every fallible node's result: its place among the fallible nodes."""
    fallible = [n for n in graph.nodes if n.op.fallible]
    return {n.results[0]: k for k, n in enumerate(fallible)}


def leaf_layout(node: Node, shape: tuple[Any, ...]) -> StridedView:
    """Of an iota: its coordinate as a layout. Of others: dense."""
    if node.op.name != "iota":
        return dense(shape)
    return StridedView(shape, tuple(int(axis == node.attrs[1]) for axis in range(len(shape))))


def read_operands(node: Node) -> tuple[int, ...]:
    """The operands that a node reads element by element (a gather's table is not)."""
    return node.operands[1:] if node.op.family.reads_table else node.operands


def over_result(graph: Graph, node: Node) -> NestForm:
    """The nest of a node over the elements of its result."""
    return NestForm("map", 1, graph.avals[node.results[0]].size)


def form_of_split(split: Split) -> NestForm:
    return NestForm("rows" if split.inner else "columns", split.batch, split.count, split.columns)


def is_row_broadcast(layout: StridedView, form: NestForm) -> bool:
    """Whether `layout`, of as many elements as the nest, repeats one dense value per row."""
    if layout.offset or layout.dynamic or layout.size != form.size:
        return False
    if form.size == 0:
        return True
    rows: list[tuple[Any, Any]] = [(form.batch, 1)] if form.batch > 1 else []
    return merge(layout) == [*rows, (form.count, 0)] if form.batch > 1 else layout.is_uniform


def nest_cuts(layouts: Iterable[StridedView]) -> set[Any]:
    """Where layouts of one size need the element index to break."""
    return {cut for layout in layouts for cut in suffixes([e for e, _ in merge(layout)])}


def extents_of(form: NestForm, cuts: set[Any]) -> tuple[Any, ...] | None:
    """Loop extents for a form, outermost first; None if the cuts clash or fall inside a fold where it cannot be broken.

    The rows that an outer reduction folds are loops of their own. The columns that an inner one folds stay one loop:
    what breaks inside of it is read by quotients of the column, and every register must lie between two breaks.
    """
    if form.size == 0:
        return (form.batch, form.count) if form.kind == "rows" else (form.batch, form.count, form.columns)
    if form.kind == "map":
        return chain(cuts, form.size)
    if form.kind == "columns":
        return chain({*cuts, *form.cuts}, form.size) if all(cut % form.columns == 0 for cut in cuts) else None
    inside = {cut for cut in cuts if cut % form.count != 0}
    if any(cut % LANES != 0 or form.count % cut != 0 for cut in inside):
        return None
    return chain({*(cuts - inside), *form.cuts}, form.size)


def breaks_rows(layout: StridedView, form: NestForm) -> bool:
    """Whether a layout of the nest's size breaks inside the columns that an inner reduction folds."""
    if form.kind != "rows" or layout.size != form.size or form.size == 0:
        return False
    return any(cut % form.count != 0 for cut in nest_cuts([layout]))


def nest_extents(form: NestForm, elem: list[StridedView], row: list[StridedView]) -> tuple[Any, ...] | None:
    """The loop extents that make every layout affine."""
    if form.size == 0:
        return extents_of(form, set())
    cuts = nest_cuts(elem) | {cut * form.count for cut in nest_cuts(row)}
    return extents_of(form, cuts)
