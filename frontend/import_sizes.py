"""What imported traces say of a trace's symbols: a value that is given to one has the sizes that it expects.

In: the export of a trace. Out: sizes that are 0. The trace is not assembled for it, and no gradient made: only sizes are looked at.
Next: `sizing.py`, which solves them; `Assembly.zeros` finds the same along with the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flambeau.dialects.size import Int, Size, substitute

Shape = Sequence[Int]


def imported_zeros(export: Sequence[tuple]) -> list[Size]:
    """The differences between sizes of what imported traces were given and what they expect."""
    found = _Shapes()
    found.entries(export, 0, {}, ())
    return found.zeros


class _Shapes:
    """`of`: the shapes of slots, where they are known; those of imported traces have the numbers that the trace gives them."""

    def __init__(self) -> None:
        self.of: dict[int, Shape] = {}
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
                data = self.of.get(base + entry[2]) if entry[2] is not None else None
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
            outer = self.of.get(provided[slot]) if slot in provided else None
            if outer is not None:
                self._same(shape, outer)
            self.of[base + slot] = shape if outer is None else outer

    def _same(self, inner: Shape, outer: Shape) -> None:
        for a, b in zip(inner, outer, strict=True):
            if not (type(a) is int and type(b) is int) and isinstance(zero := a - b, Size):
                self.zeros.append(zero)

    def _segment(self, entry: tuple[Any, ...], base: int, provided: Mapping[int, int], sizes: Sequence[Int]) -> None:
        _, at, inner, _, given, own = entry
        kept = {slot - at: now for slot, now in provided.items() if slot >= at}
        own = substitute(tuple(own), sizes) if own and sizes else own
        self.entries(inner, base + at, {slot: base + now for slot, now in given.items()} | kept, own)
