"""Which places of a map the results along one axis are made of, known when text is written: taps of a convolution, or of its
gradient by the maps.

In: an `Axis`. Out: a `Pattern`. Results come in units that are alike: of a convolution each is one; of the gradient by the maps as
many as the stride, since these meet different taps. Next: `direct.py`, `strips.py`.
"""

from __future__ import annotations

from typing import NamedTuple

from flambeau.compiler.codegen.convolutions.operands import Axis


class Pattern(NamedTuple):
    """Result `j` of unit `u` is the sum over (tap, offset) in `taps[j]`, in order, of the tap times the map's place
    u * step + offset."""

    step: int
    taps: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def results(self) -> int:
        """Results of a unit."""
        return len(self.taps)

    @property
    def offsets(self) -> list[int]:
        """All offsets, ascending; 0 where there is no tap."""
        return sorted({offset for taps in self.taps for _, offset in taps}) or [0]

    def reached(self, units: int) -> int:
        """Places from the first to the last that neighbouring units are made of."""
        return (units - 1) * self.step + self.offsets[-1] - self.offsets[0] + 1

    @property
    def is_falling(self) -> bool:
        """Whether later taps meet earlier places."""
        return any(taps[0][1] > taps[-1][1] for taps in self.taps if taps)

    def rows(self, units: int) -> dict[int, list[tuple[int, int]]]:
        """Places that `units` neighbouring units are made of, in an order in which every result meets its taps in theirs:
        offset from the first unit's place, and for each the (result, tap) that meet it, results counted through all units."""
        found: dict[int, list[tuple[int, int]]] = {}
        for unit in range(units):
            for j, taps in enumerate(self.taps):
                for tap, offset in taps:
                    found.setdefault(unit * self.step + offset, []).append((unit * self.results + j, tap))
        return dict(sorted(found.items(), reverse=self.is_falling))


def pattern(gives: str, axis: Axis) -> Pattern:
    """That of an axis whose kernel has a known extent, for the tensor that is computed, y or x."""
    stride, padding, dilation = axis.stride, axis.padding, axis.dilation
    taps = range(int(axis.w))
    if gives == "y":
        return Pattern(stride, (tuple((r, r * dilation - padding) for r in taps),))
    distances = [[(r, j + padding - r * dilation) for r in taps] for j in range(stride)]
    return Pattern(1, tuple(tuple((r, n // stride) for r, n in of_j if n % stride == 0) for of_j in distances))
