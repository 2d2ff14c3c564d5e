"""What imported traces say of a trace's symbols: a value that is given to one has the sizes that it expects.

In: the export of a trace. Out: sizes that are 0. The trace is not assembled for it, and no gradient made: only sizes are looked at.
Next: `sizing.py`, which solves them; `Assembly.zeros` finds the same along with the graph.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from flambeau.dialects.size import Int, Size, substitute
from flambeau.imported_calls import Imported, imported

Shape = Sequence[Int]


def imported_zeros(export: Sequence[tuple]) -> list[Size]:
    """The differences between sizes of what imported traces were given and what they expect."""
    found = _Shapes()
    found.entries(export, 0, {}, ())
    return found.zeros


class _Shapes:
    """`of`: the shapes of slots, where they are known; those of imported traces have the numbers that the trace gives them.
    `whole` are traces without sizes that change, each with where its slots begin: of these no slot is looked at by itself."""

    def __init__(self) -> None:
        self.of: dict[int, Shape] = {}
        self.whole: list[tuple[int, Imported]] = []
        self.zeros: list[Size] = []

    def entries(self, export: Sequence[tuple], base: int, provided: Mapping[int, int], sizes: Sequence[Int]) -> None:
        """Those of a trace whose slots begin at `base`, with `provided` slots for some of its own and `sizes` for its symbols."""
        for entry in export:
            kind = entry[0]
            if kind == "call":
                graph = entry[1].graph
                shapes = [graph.avals[v].shape for v in graph.outputs]
                self._results(entry[3], shapes, base, provided, sizes)
            elif kind == "input":
                self._results(entry[1:2], entry[2:3], base, provided, sizes)
            elif kind in ("leaf", "graft"):
                data = self._shape(base + entry[2]) if entry[2] is not None else None
                if data is not None:
                    self.of[base + entry[1]] = data
            elif kind in ("backward", "grad"):
                there = [slot for slot in entry[3] if slot is not None]
                self._results(there, [aval.shape for aval in entry[1].types], base, provided, sizes)
            elif kind == "segment":
                self._segment(entry, base, provided, sizes)

    def _results(
        self,
        slots: Sequence[int],
        shapes: Sequence[Shape],
        base: int,
        provided: Mapping[int, int],
        sizes: Sequence[Int],
    ) -> None:
        for slot, shape in zip(slots, shapes, strict=True):
            shape = substitute(tuple(shape), sizes) if sizes else shape
            outer = self._shape(provided[slot]) if slot in provided else None
            if outer is not None:
                self._same(shape, outer)
            self.of[base + slot] = shape if outer is None else outer

    def _shape(self, slot: int) -> Shape | None:
        found = self.of.get(slot)
        k = 0 if found is not None else bisect_right(self.whole, slot, key=itemgetter(0))
        return self.whole[k - 1][1].shapes.get(slot - self.whole[k - 1][0]) if k else found

    def _same(self, inner: Shape, outer: Shape) -> None:
        for a, b in zip(inner, outer, strict=True):
            if not (type(a) is int and type(b) is int) and isinstance(zero := a - b, Size):
                self.zeros.append(zero)

    def _segment(self, entry: tuple[Any, ...], base: int, provided: Mapping[int, int], sizes: Sequence[Int]) -> None:
        _, at, inner, state, given, own = entry
        if not (own or base or provided) and (trace := imported(state, inner)) is not None:
            self.whole.append((at, trace))
            for slot, now in given.items():
                outer, shape = self._shape(now), trace.shapes.get(slot)
                if outer is not None and shape is not None:
                    self._same(shape, outer)
                    self.of[at + slot] = outer
            return
        kept = {slot - at: now for slot, now in provided.items() if slot >= at}
        own = substitute(tuple(own), sizes) if own and sizes else own
        self.entries(inner, base + at, {slot: base + now for slot, now in given.items()} | kept, own)
