"""Iteration spaces: the forms that a loop nest can have, and the loops that make several accesses affine.

In: shapes, axes, layouts; numbers are ints or `Size`s. Out: `NestForm`, how a reduction splits its operand, and the extents of
a form's loops. Nothing here knows of groups or kernels. Next: `nest_rules.py`, what one nest may compute.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from math import prod
from typing import Any, NamedTuple

from flambeau.compiler.codegen.access import StridedView, chain, merge, suffixes
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.orders import LANES


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


def over_result(graph: Graph, node: Node) -> NestForm:
    """The nest of a node over the elements of its result."""
    return NestForm("map", 1, graph.avals[node.results[0]].size)


def form_of_split(split: Split) -> NestForm:
    return NestForm("rows" if split.inner else "columns", split.batch, split.count, split.columns)


def join_forms(one: NestForm, two: NestForm) -> NestForm | None:
    """The form of a nest that computes what two forms compute."""
    if one == two:
        return one
    if one.kind != "map":
        one, two = two, one
    if one.kind != "map" or two.kind == "map":
        return None
    if one.size == two.size or (two.kind == "rows" and one.size == two.batch):
        return two
    return None


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


def extents_of(form: NestForm, cuts: Set[Any]) -> tuple[Any, ...] | None:
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
