"""The elements of a map that a convolution multiplies, brought side by side: lines of taps along runs of places.

In: a `Geometry`, and which lines (channel, tap) and which places (image, pixel) are wanted. Out: text that first notes in two
tables in scratch what lines and places have to do with memory, then copies: for every line, run after run. A run is adjacent places
of the last axis; where these are adjacent in the map, too, whole vectors are copied, whose overhang the next run overwrites.
Places outside of the map are zeros; nothing outside of it is read. Next: `conv_tile.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flambeau.compiler.codegen.emitter import Emitter, Val

#: A coordinate that no place of a map has, also not after a run's length.
_OUTSIDE = -(1 << 30)


class Geometry(NamedTuple):
    """Where elements lie: tap t and place q meet at step * q + base + shift * t along each axis. `sizes` and `strides` are of the
    map, in elements; `channel` and `image` are the distances between these."""

    sizes: Sequence[Val]
    strides: Sequence[Val]
    channel: Val
    image: Val
    steps: Sequence[Val]
    bases: Sequence[Val]
    shifts: Sequence[Val]
    taps: Sequence[Val]
    pixels: Sequence[Val]

    @property
    def rank(self) -> int:
        return len(self.sizes)


def counted(
    b: Emitter, first: Val, count: Val, extents: Sequence[Val], visit: Callable[[Val, Val, Sequence[Val]], None]
) -> None:
    """`visit(k, outer, coordinates)` for the k-th of `count` places from `first` on, in a row-major space whose outermost axis has
    any extent: coordinates are counted up, not divided."""
    start = coordinates(b, first, extents)
    with b.loop(0, count, carried=start) as ks:
        visit(ks.index, ks.args[0], ks.args[1:])
        ks.carry(advanced(b, ks.args, extents))


def coordinates(b: Emitter, place: Val, extents: Sequence[Val]) -> list[Val]:
    """The coordinates of a place in a row-major space, the outermost first; `extents` are those of the others."""
    found: list[Val] = []
    for extent in reversed(extents):
        extent = b.maximum(extent, 1)
        found.append(b.rem_unsigned(place, extent))
        place = b.div_unsigned(place, extent)
    return [place, *reversed(found)]


def advanced(b: Emitter, at: Sequence[Val], extents: Sequence[Val], by: Val | int = 1) -> list[Val]:
    """Coordinates `by` further on along the last axis, which does not go beyond its end by more than that."""
    found: list[Val] = []
    step = b.const(by, "i64") if isinstance(by, int) else by
    for x, extent in zip(reversed(at[1:]), reversed(extents), strict=True):
        x = b.add(x, step)
        over = b.cmp("ge", x, extent)
        found.append(b.select(over, b.const(0, "i64"), x))
        step = b.select(over, b.const(1, "i64"), b.const(0, "i64"))
    return [b.add(at[0], step), *reversed(found)]


@dataclass(frozen=True)
class Patches:
    """Copies from the map at `source`. `unit`: the step along the last axis is 1. `lines` and `runs` are the tables in scratch."""

    b: Emitter
    element: str
    lanes: int
    unit: bool
    geometry: Geometry
    source: Val
    lines: Val
    runs: Val

    @staticmethod
    def line_words(rank: int) -> int:
        """Words of a line's entry: its distance, then what its tap adds to coordinates."""
        return 1 + rank

    @staticmethod
    def run_words(rank: int) -> int:
        """Words of a run's entry: where it begins, its length, its distance, then the coordinates of its first place."""
        return 3 + rank

    def note_lines(self, first: Val, count: Val) -> None:
        """Note lines `first` to `first + count`."""
        b, g = self.b, self.geometry

        def note(k: Val, channel: Val, taps: Sequence[Val]) -> None:
            moved = [b.mul(t, shift) for t, shift in zip(taps, g.shifts, strict=True)]
            distance = b.mul(channel, g.channel)
            for shift, stride in zip(moved, g.strides, strict=True):
                distance = b.add(distance, b.mul(shift, stride))
            self._put(self.lines, b.mul(k, self.line_words(g.rank)), [distance, *moved])

        counted(b, first, count, g.taps, note)

    def note_runs(self, first: Val, count: Val) -> Val:
        """Note the runs of `count` places from `first` on; how many these are."""
        b, g, zero = self.b, self.geometry, self.b.const(0, "i64")

        def more(done: Val, runs: Val, *at: Val) -> Val:
            return b.cmp("lt", done, count)

        def note(done: Val, runs: Val, *at: Val) -> list[Val]:
            length = b.minimum(b.sub(count, done), b.sub(g.pixels[-1], at[-1]))
            found = [b.add(b.mul(q, s), base) for q, s, base in zip(at[1:], g.steps, g.bases, strict=True)]
            distance = b.mul(at[0], g.image)
            for x, stride in zip(found, g.strides, strict=True):
                distance = b.add(distance, b.mul(x, stride))
            self._put(self.runs, b.mul(runs, self.run_words(g.rank)), [done, length, distance, *found])
            return [b.add(done, length), b.add(runs, 1), *advanced(b, at, g.pixels, length)]

        return b.while_([zero, zero, *coordinates(b, first, g.pixels)], more, note)[1]

    def _put(self, table: Val, at: Val, words: Sequence[Val]) -> None:
        for k, word in enumerate(words):
            self.b.store(word, table, self.b.add(at, k))

    def _get(self, table: Val, at: Val, count: int) -> list[Val]:
        start = self.b.mul(at, count)
        return [self.b.load(table, self.b.add(start, k), "i64") for k in range(count)]

    def fill(self, first: Val, count: Val, runs: Val, target: Val, pitch: Val | int) -> None:
        """Copy the noted lines `first` to `first + count`, `pitch` apart, along all noted runs. A vector is overwritten behind
        the last line's end."""
        b, g = self.b, self.geometry
        rank = g.rank
        with b.loop(0, count) as ks:
            distance, *shifts = self._get(self.lines, b.add(first, ks.index), self.line_words(rank))
            line = b.place(self.source, distance, self.element)
            row = b.address(target, b.mul(ks.index, pitch), self.element)
            with b.loop(0, runs) as rs:
                begin, length, start, *at = self._get(self.runs, rs.index, self.run_words(rank))
                at = [b.add(x, shift) for x, shift in zip(at, shifts, strict=True)]
                last = at[-1]
                for x, size in zip(at[:-1], g.sizes[:-1], strict=True):
                    inside = b.and_(b.cmp("ge", x, 0), b.cmp("lt", x, size))
                    last = b.select(inside, last, b.const(_OUTSIDE, "i64"))
                self._run(b.place(line, start, self.element), last, length, b.address(row, begin, self.element))

    def _run(self, source: Val, first: Val, length: Val, target: Val) -> None:
        """Copy a run whose first place is at coordinate `first` of the last axis."""
        b, lanes = self.b, self.lanes
        size = b.splat(b.truncate(self.geometry.sizes[-1], "i32"), lanes)
        step = self.geometry.steps[-1]
        apart = b.iota(lanes, "i32") if self.unit else b.mul(b.iota(lanes, "i32"), b.truncate(step, "i32"))
        with b.loop(0, length, lanes) as vs:
            ahead = vs.index if self.unit else b.mul(vs.index, step)
            at = b.add(b.splat(b.truncate(b.add(first, ahead), "i32"), lanes), apart)
            inside = b.and_(b.cmp("ge", at, 0), b.cmp("lt", at, size))
            place = b.place(source, ahead, self.element)
            if self.unit:
                x = b.load(place, 0, self.element, lanes, inside)
            else:
                x = b.gather(place, b.mul(b.iota(lanes), step), self.element, inside)
            b.store(x, target, vs.index)
