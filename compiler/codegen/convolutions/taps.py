"""Which places of a map the results along one axis are made of, known when text is written: taps of a convolution, or of its
gradient by the maps.

In: an `Axis`. Out: a `Pattern`. Results come in units that are alike: of a convolution each is one; of the gradient by the maps as
many as the stride, since these meet different taps. Next: `direct.py`, `strips.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import NamedTuple

from flambeau.compiler.codegen.convolutions.operands import Axis
from flambeau.dialects.size import Size

#: Phases whose taps are written out, at most.
MOST_PHASES = 16


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


def taps_of_phases(axes: Sequence[Axis], lanes: int) -> tuple[tuple[int, ...], ...]:
    """Places in the kernel of the taps that each phase meets, in order, of a kernel that two vectors hold, whose places lie apart
    among every tap once; else nothing."""
    extents = [a.w for a in axes if not isinstance(a.w, Size)]
    if len(extents) < len(axes) or prod(extents) > 2 * lanes:
        return ()
    strides = [prod(extents[d + 1 :]) for d in range(len(axes))]
    met = [
        [[r * stride for r, _ in taps] for taps in pattern("x", a).taps]
        for a, stride in zip(axes, strides, strict=True)
    ]
    found = tuple(tuple(sum(of) for of in product(*phase)) for phase in product(*met))
    return found if len(found) <= MOST_PHASES and max(map(len, found)) <= lanes else ()
