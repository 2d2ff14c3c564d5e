"""The loops of a nest, and how layouts run along them. Nothing here emits code.

In: a `Fragment`, its `NestForm`, and where its outputs lie. Out: `Space`: the extents of the row loops and of the columns, and the
strides of a layout over them. Next: `units.py`, the nests of a cluster; `nest.py`, which emits one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from flambeau.compiler.codegen.access import StridedView, chain, merge, spread, suffixes
from flambeau.compiler.codegen.fragment import Fragment
from flambeau.compiler.codegen.iteration_space import NestForm, breaks_rows, nest_cuts


class ColumnLoop(NamedTuple):
    """A loop that is part of a row's columns: column c is its iteration `c // below % extent`."""

    below: Any
    extent: Any
    stride: Any


class Space:
    """`extents` are those of the row loops, outermost first; `cols` is that of the innermost loop."""

    def __init__(
        self,
        fragment: Fragment,
        form: NestForm,
        placed: Sequence[StridedView] = (),
        extents: tuple[Any, ...] | None = None,
    ) -> None:
        self.fragment, self.form = fragment, form
        if extents is None:
            extents = fragment.extents(form, *placed) or (1,)
        self.extents, self.cols = extents[:-1], extents[-1]

    def walk(self, layout: StridedView) -> tuple[tuple[Any, ...], Any]:
        """The strides of a layout over the row loops, and over the columns."""
        if layout.size == 0 or layout.size == 1:
            return (0,) * len(self.extents), 0
        if layout.size == self.form.size:
            strides = spread(merge(layout), self._loops(layout))
            return strides[: len(self.extents)], strides[-1]
        return spread(merge(layout), self.extents), 0

    def _loops(self, layout: StridedView) -> tuple[Any, ...]:
        """The extents of the row loops and of the loops into which a layout breaks the columns."""
        own = (*self.extents, self.cols)
        if not breaks_rows(layout, self.form):
            return own
        return chain({*suffixes(own), *nest_cuts([layout])}, self.form.size) or own

    def inside(self, layout: StridedView) -> tuple[ColumnLoop, ...]:
        """The loops into which a layout breaks the columns, outermost first; none if it does not."""
        if not breaks_rows(layout, self.form):
            return ()
        loops = self._loops(layout)
        strides, extents = (x[len(self.extents) :] for x in (spread(merge(layout), loops), loops))
        below = [*suffixes(extents)[::-1], 1]
        return tuple(ColumnLoop(*parts) for parts in zip(below, extents, strides, strict=True))

    def crossing(self) -> list[tuple[int, StridedView]]:
        """The inputs that are read with a stride along the columns."""
        fragment = self.fragment
        sources = dict.fromkeys(fragment.sources[v] for v in fragment.leaf_values())
        stored = [s for s in sources if s.root not in fragment.producers and s.layout.size == self.form.size]
        return [(s.root, s.layout) for s in stored if self.walk(s.layout)[1] not in (0, 1)]

    def crossing_loop(self) -> int | None:
        """The row loop that the first input which runs across the columns runs along."""
        for _, layout in self.crossing():
            rows, _ = self.walk(layout)
            if 1 in rows:
                return rows.index(1)
        return None
