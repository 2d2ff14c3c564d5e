"""The elements of a map that a convolution multiplies, brought side by side: lines of taps along runs of places.

In: a `Geometry`, and which lines (channel, tap) and which places (image, pixel) are wanted. Out: text that first notes in two
tables in scratch what lines and places have to do with memory, then copies: for every line, run after run. A run is adjacent places
of the last axis; where these are adjacent in the map, too, whole vectors are copied, whose overhang the next run overwrites.
Places outside of the map are zeros; nothing outside of it is read. Next: `blocks.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flambeau.compiler.codegen.emitter import Emitter, Val

#: A coordinate that no place of a map has, also not after a run's length.
_OUTSIDE = -(1 << 30)
#: Lines that are copied per round.
_UNROLLED = 4
#: Channels that are copied for one tap after the other: what a tap reads of them stays near until the next one does.
_CHANNELS = 8


class Geometry(NamedTuple):
    """Where elements lie: tap t and place q meet at step * q + base + shift * t along each axis. `sizes` and `strides` are of the
    map, in elements; `channel` and `image` are the distances between
    these, of which `images` counts some."""

    sizes: Sequence[Val]
    strides: Sequence[Val]
    channel: Val
    image: Val
    images: Val
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
    """Copies from the map at `source`. `step` is that along the last axis, 1 or 2; 0: any. `lines` and `runs` are the tables in
    scratch. So many elements `ahead` of what is copied are asked for: what follows on short lines, caches do not foresee.
    `by_taps`: masks are made once per tap and serve several channels, as is worth it where making them takes long."""

    b: Emitter
    element: str
    lanes: int
    step: int
    geometry: Geometry
    source: Val
    lines: Val
    runs: Val
    ahead: int
    by_taps: bool

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

    def fill(self, first: Val, count: Val, runs: Val, target: Val, pitch: int) -> None:
        """Copy the noted lines `first` to `first + count`, `pitch` apart, along all noted runs: vector by vector of these, and of
        each all lines. Elements behind a run's end are overwritten, up to a vector: there is room for it behind every line."""
        b, g, lanes = self.b, self.geometry, self.lanes
        low, high, reach = self._reaches()
        with b.loop(0, runs) as rs:
            begin, length, start, *at = self._get(self.runs, rs.index, self.run_words(g.rank))
            inside = [b.cmp("ge", b.add(x, a), 0) for x, a in zip(at[:-1], low[:-1], strict=True)]
            inside += [b.cmp("lt", b.add(x, a), n) for x, a, n in zip(at[:-1], high[:-1], g.sizes[:-1], strict=True)]
            with b.loop(0, length, lanes) as vs:
                ahead = vs.index if self.step == 1 else b.mul(vs.index, g.steps[-1])
                x, to, place = b.add(at[-1], ahead), b.add(begin, vs.index), b.add(start, ahead)
                last = b.mul(b.sub(b.minimum(b.sub(length, vs.index), lanes), 1), g.steps[-1])
                conditions = [
                    *inside,
                    b.cmp("ge", b.add(x, low[-1]), 0),
                    b.cmp("lt", b.add(b.add(x, last), high[-1]), g.sizes[-1]),
                    b.cmp("le", b.add(place, reach), self._end()),
                ]
                whole = conditions[0]
                for condition in conditions[1:]:
                    whole = b.and_(whole, condition)
                source, row = b.place(self.source, place, self.element), b.address(target, to, self.element)
                near, rows_are_inside = [*at[:-1], x], b.const(True, "i1")
                for condition in inside:
                    rows_are_inside = b.and_(rows_are_inside, condition)
                b.if_else(
                    whole,
                    lambda: self._copy_whole(first, count, source, row, pitch),
                    lambda: b.if_else(
                        rows_are_inside,
                        lambda: self._copy_columns(first, count, source, x, row, pitch),
                        lambda: self._copy_partly(first, count, source, near, row, pitch),
                    ),
                )

    def _reaches(self) -> tuple[list[Val], list[Val], Val]:
        """What taps add to coordinates along each axis, at least and at most; how far from the place of a run's vector elements are
        read, but for channels and images."""
        b, g = self.b, self.geometry
        most = [b.mul(b.sub(t, 1), shift) for t, shift in zip(g.taps, g.shifts, strict=True)]
        low, high = [b.minimum(x, 0) for x in most], [b.maximum(x, 0) for x in most]
        reach = b.const(self.lanes * max(self.step, 1), "i64")
        if not self.step:
            reach = b.mul(reach, g.steps[-1])
        for x, stride in zip(high, g.strides, strict=True):
            reach = b.add(reach, b.mul(x, stride))
        return low, high, reach

    def _end(self) -> Val:
        """Where the first channel of the last image ends: behind it lie the others."""
        g = self.geometry
        return self.b.add(self.b.mul(self.b.sub(g.images, 1), g.image), g.channel)

    def _copy_whole(self, first: Val, count: Val, source: Val, target: Val, pitch: int) -> list[Val]:
        """A vector of all lines, which are inside of the map."""
        b, lanes, words = self.b, self.lanes, self.line_words(self.geometry.rank)

        def copy(k: Val) -> None:
            distance = b.load(self.lines, b.mul(b.add(first, k), words), "i64")
            line = b.place(source, distance, self.element)
            b.prefetch(line, b.const(self.ahead, "i64"), self.element)
            if self.step == 1:
                x = b.load(line, 0, self.element, lanes)
            elif self.step == 2:
                near, far = (b.load(line, at, self.element, lanes) for at in (0, lanes))
                x = b.shuffle(near, far, range(0, 2 * lanes, 2))
            else:
                x = b.gather(line, b.mul(b.iota(lanes), self.geometry.steps[-1]), self.element)
            b.store(x, target, b.mul(k, pitch))

        self._each(count, copy)
        return []

    def _each(self, count: Val, copy: Callable[[Val], None]) -> None:
        """`copy(k)` for each of so many lines, a few per round."""
        b = self.b
        most = b.and_(count, -_UNROLLED)
        with b.loop(0, most, _UNROLLED) as ks:
            for k in range(_UNROLLED):
                copy(b.add(ks.index, k))
        with b.loop(most, count) as ks:
            copy(ks.index)

    def _copy_columns(self, first: Val, count: Val, source: Val, at: Val, target: Val, pitch: int) -> list[Val]:
        """A vector of all lines, of which some elements are outside along the last axis alone, where its first place is `at`."""
        b, words = self.b, self.line_words(self.geometry.rank)
        places = self._places(b.truncate(at, "i32"))
        if self.by_taps and self.step:
            near = lambda shifts: self._masks([b.add(x, b.truncate(shifts[-1], "i32")) for x in places])  # noqa: E731
            self._copy_by_taps(first, count, source, near, target, pitch)
            return []

        def copy(k: Val) -> None:
            word = b.mul(b.add(first, k), words)
            shift = b.truncate(b.load(self.lines, b.add(word, words - 1), "i64"), "i32")
            line = b.place(source, b.load(self.lines, word, "i64"), self.element)
            b.prefetch(line, b.const(self.ahead, "i64"), self.element)
            b.store(self._read_partly(line, [b.add(x, shift) for x in places]), target, b.mul(k, pitch))

        self._each(count, copy)
        return []

    def _copy_partly(
        self,
        first: Val,
        count: Val,
        source: Val,
        at: Sequence[Val],
        target: Val,
        pitch: int,
    ) -> list[Val]:
        """A vector of all lines, of which some elements are outside of the map. `at`: the coordinates of its first place."""
        b, g = self.b, self.geometry
        if self.by_taps and self.step:
            near = lambda shifts: self._masks(self._places(b.truncate(self._last(at, shifts), "i32")))  # noqa: E731
            self._copy_by_taps(first, count, source, near, target, pitch)
            return []
        with b.loop(0, count) as ks:
            distance, *shifts = self._get(self.lines, b.add(first, ks.index), self.line_words(g.rank))
            last = self._last(at, shifts)
            line, to = b.place(source, distance, self.element), b.mul(ks.index, pitch)
            b.store(self._read_partly(line, self._places(b.truncate(last, "i32"))), target, to)
        return []

    def _copy_by_taps(
        self,
        first: Val,
        count: Val,
        source: Val,
        masks_of: Callable[[Sequence[Val]], list[Val]],
        target: Val,
        pitch: int,
    ) -> None:
        """A vector of all lines, tap by tap, each under the masks that are made of its shifts."""
        b, g = self.b, self.geometry
        taps = b.const(1, "i64")
        for extent in g.taps:
            taps = b.mul(taps, extent)
        taps = b.maximum(taps, 1)
        with b.loop(0, count, b.mul(taps, _CHANNELS)) as cs:
            end = b.minimum(b.add(cs.index, b.mul(taps, _CHANNELS)), count)
            with b.loop(cs.index, b.minimum(b.add(cs.index, taps), end)) as ts:
                distance, *shifts = self._get(self.lines, b.add(first, ts.index), self.line_words(g.rank))
                masks = masks_of(shifts)
                line, lines = b.place(source, distance, self.element), (ts.index, end, taps)
                self._copy_channels(line, masks, lines, target, pitch)

    def _copy_channels(self, line: Val, masks: list[Val], lines: tuple[Val, Val, Val], target: Val, pitch: int) -> None:
        """The vectors of one tap, which every so manieth line is of."""
        b, g = self.b, self.geometry
        with b.loop(*lines, carried=[b.const(0, "i64")]) as ks:
            at = b.place(line, ks.args[0], self.element)
            b.prefetch(at, b.const(self.ahead, "i64"), self.element)
            b.store(self._read_under(at, masks), target, b.mul(ks.index, pitch))
            ks.carry([b.add(ks.args[0], g.channel)])

    def _last(self, at: Sequence[Val], shifts: Sequence[Val]) -> Val:
        """Where a tap meets the last axis; nowhere, if outside along another one."""
        b = self.b
        *outer, last = (b.add(x, shift) for x, shift in zip(at, shifts, strict=True))
        for x, n in zip(outer, self.geometry.sizes[:-1], strict=True):
            last = b.select(self._is_inside(x, n), last, b.const(_OUTSIDE, "i64"))
        return last

    def _is_inside(self, x: Val, size: Val) -> Val:
        """Whether coordinates are not negative and less than the extent: one comparison of numbers without a sign."""
        return self.b.op("arith.cmpi", [x, size], "i1", x.lanes, "ult")

    def _places(self, first: Val) -> list[Val]:
        """Coordinates (i32) along the last axis of what a vector is read of, from `first` on; every second one: two vectors."""
        b, lanes, step = self.b, self.lanes, self.geometry.steps[-1]
        at = b.splat(first, lanes)
        if not self.step:
            return [b.add(at, b.mul(b.iota(lanes, "i32"), b.truncate(step, "i32")))]
        starts = range(0, self.step * lanes, lanes)
        return [b.add(at, b.const_vector(range(start, start + lanes), "i32")) for start in starts]

    def _read_partly(self, line: Val, places: list[Val]) -> Val:
        """A vector whose elements are at these coordinates of the last axis, zeros outside of the map."""
        b, lanes, masks = self.b, self.lanes, self._masks(places)
        if not self.step:
            return b.gather(line, b.mul(b.iota(lanes), self.geometry.steps[-1]), self.element, masks[0])
        return self._read_under(line, masks)

    def _masks(self, places: list[Val]) -> list[Val]:
        """Which of these coordinates are inside of the last axis."""
        size = self.b.splat(self.b.truncate(self.geometry.sizes[-1], "i32"), self.lanes)
        return [self._is_inside(at, size) for at in places]

    def _read_under(self, line: Val, masks: list[Val]) -> Val:
        """A vector of neighbours, or of every second one, of which some are outside."""
        b, lanes = self.b, self.lanes
        parts = [b.load(line, 0, self.element, lanes, masks[0])]
        parts += [self._load_after(line, k * lanes, mask) for k, mask in enumerate(masks) if k]
        return parts[0] if len(parts) == 1 else b.shuffle(parts[0], parts[1], range(0, 2 * lanes, 2))

    def _load_after(self, line: Val, start: int, mask: Val) -> Val:
        b = self.b
        return b.load(b.place(line, b.const(start, "i64"), self.element), 0, self.element, self.lanes, mask)
