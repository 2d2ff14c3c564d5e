"""Patches of maps whose rows are as long as the rows of places that meet them: vectors run across the ends of rows.

In, out: as in `patches.py`. There, a vector holds places of one row; here, of one image: where a row of places is as long as a row
of the map, neighbours in the one are neighbours in the other, so that a map of 4x4 or 7x7 fills vectors, too. Which places of a
vector meet a tap within the map is one mask, found once and used for several channels: lines that share a tap are copied one after
the other. Next: `blocks.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from flambeau.compiler.codegen.convolutions.patches import Patches, advanced, coordinates
from flambeau.compiler.codegen.emitter import Val


class JoinedPatches(Patches):
    """Copies from maps with two and more axes, whose last two have steps of 1; the last one has as many places as the map has.

    What vectors are compared with is read of the entries of runs: made of dims it would be known before all loops, and keep
    registers that tiles need."""

    @staticmethod
    def run_words(rank: int) -> int:
        """As of `Patches`; then how wide rows are, and of the map's last two axes extents, and where the first tap is."""
        return Patches.run_words(rank) + 5

    def note_runs(self, first: Val, count: Val) -> Val:
        """Note the runs of `count` places from `first` on, an image's (of the last two axes) each; how many these are. Of the last
        two axes the numbers of places are noted, of others what they meet."""
        b, g, zero = self.b, self.geometry, self.b.const(0, "i64")

        def more(done: Val, runs: Val, *at: Val) -> Val:
            return b.cmp("lt", done, count)

        def note(done: Val, runs: Val, *at: Val) -> list[Val]:
            rows = b.sub(g.pixels[-2], at[-2])
            length = b.minimum(b.sub(count, done), b.sub(b.mul(rows, g.pixels[-1]), at[-1]))
            found = [b.add(b.mul(q, s), base) for q, s, base in zip(at[1:], g.steps, g.bases, strict=True)]
            distance = b.mul(at[0], g.image)
            for x, stride in zip(found, g.strides, strict=True):
                distance = b.add(distance, b.mul(x, stride))
            words = [done, length, distance, *found[:-2], *at[-2:], g.pixels[-1], *g.sizes[-2:], *g.bases[-2:]]
            self._put(self.runs, b.mul(runs, self.run_words(g.rank)), words)
            return [b.add(done, length), b.add(runs, 1), *advanced(b, at[:-1], g.pixels[:-1], rows), zero]

        return b.while_([zero, zero, *coordinates(b, first, g.pixels)], more, note)[1]

    def fill(self, first: Val, count: Val, runs: Val, target: Val, pitch: int) -> None:
        """As of `Patches`. A vector's rows and columns are counted up: a column that goes beyond its row's end begins the next."""
        b, g, lanes = self.b, self.geometry, self.lanes
        with b.loop(0, runs) as rs:
            begin, length, start, *at = self._get(self.runs, rs.index, self.run_words(g.rank))
            *outer, row, column, width = at[:-4]
            wide, *ends = (b.splat(b.truncate(x, "i32"), lanes) for x in (width, *at[-4:]))

            def beyond(most: Val, rows: Val, columns: Val, width: Val = width) -> Val:
                return b.cmp("ge", most, width)

            def wrap(most: Val, rows: Val, columns: Val, width: Val = width, wide: Val = wide) -> list[Val]:
                over = b.cmp("ge", columns, wide)
                return [
                    b.sub(most, width),
                    b.select(over, b.add(rows, 1), rows),
                    b.select(over, b.sub(columns, wide), columns),
                ]

            first_place = [b.splat(b.truncate(x, "i32"), lanes) for x in (row, column)]
            state = [b.add(column, lanes - 1), first_place[0], b.add(first_place[1], b.iota(lanes, "i32"))]
            with b.loop(0, length, lanes, carried=state) as vs:
                _, rows, columns = b.while_(vs.args, beyond, wrap)
                source = b.place(self.source, b.add(start, vs.index), self.element)
                near = [b.add(rows, ends[2]), b.add(columns, ends[3])]
                to = b.address(target, b.add(begin, vs.index), self.element)
                self._copy(first, count, source, [*outer, *near], [*g.sizes[:-2], *ends[:2]], to, pitch)
                vs.carry([b.add(width, lanes - 1), rows, b.add(columns, lanes)])

    def _copy(
        self,
        first: Val,
        count: Val,
        source: Val,
        near: Sequence[Val],
        sizes: Sequence[Val],
        target: Val,
        pitch: int,
    ) -> None:
        """A vector of all lines, tap by tap. It meets the first tap at `near`: along the last two axes these are vectors of
        coordinates, and so are extents."""
        b = self.b

        def masks_of(shifts: Sequence[Val]) -> list[Val]:
            mask = b.const(True, "i1", self.lanes)
            for x, shift, n in zip(near, shifts, sizes, strict=True):
                shift = shift if x.type == shift.type else b.truncate(shift, x.type)
                mask = b.and_(mask, self._is_inside(b.add(x, shift), n))
            return [mask]

        self._copy_by_taps(first, count, source, masks_of, target, pitch)
