"""The kernel of convolutions whose groups have one channel, and of their gradients by the maps, with channels in the lanes.

In: `TurnedSpec`. Out: kernel text. An item is a vector of channels of some images. Strips of the map are turned into scratch, place
by place a vector, zeros around it included; a few neighbouring results at a time are summed there, and squares of results are
turned back: no lane is idle, and nothing is read across cache lines. Next: `direct.py`, for the same with neighbours in the
lanes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from flambeau.compiler.codegen.convolutions.strips import Strip, Strips, StripsSpec
from flambeau.compiler.codegen.emitter import Val
from flambeau.compiler.codegen.products.pack import transposed
from flambeau.compiler.kernel import KernelSource
from flambeau.dialects.size import Size

#: Numbers that are noted of each lane's channel: where its map and its kernel begin, its group, its place there.
_MAP, _KERNEL, _GROUP, _ROW = range(4)


@dataclass(frozen=True)
class TurnedSpec(StripsSpec):
    """What text depends on. `unroll` units of a row are summed at once."""

    unroll: int

    def sizes(self) -> dict[str, int]:
        results = self.high * self.rows.results * self.wide * self.columns.results
        return super().sizes() | {"kernel": self.taps + self.lanes, "y": results + self.lanes}


def turned_kernel(spec: TurnedSpec, label: str) -> tuple[KernelSource, tuple[str | Size, ...]]:
    """The kernel, and the names of its dims."""
    return _TurnedWriter(spec).write(label)


class _TurnedWriter(Strips):
    spec: TurnedSpec
    image: Val

    def write(self, label: str) -> tuple[KernelSource, tuple[str | Size, ...]]:
        b = self.b
        with b.loop(b.lo, b.hi) as items:
            block, vector = self.split(items.index, ["vectors"])
            self._item(b.mul(vector, self.spec.lanes), block)
        return self.finish(label)

    def _item(self, first: Val, block: Val) -> None:
        b, spec, d = self.b, self.spec, self.dim

        def lines(channel: Val, group: Val) -> list[Val]:
            row = b.sub(channel, b.mul(group, d("m")))
            return [b.mul(group, d("b.group")), b.mul(channel, spec.taps), group, row]

        self.note_lines(first, lines)
        taps = b.const(spec.taps, "i64")
        self.turn(b.buffer(0), _KERNEL, taps, b.const(0, "i64"), taps, self.region("kernel"))
        begin = b.mul(block, d("band"))
        with b.loop(begin, b.minimum(b.add(begin, d("band")), d("images"))) as images:
            self.image = images.index
            self._image(first, b.address(b.buffer(1), b.mul(self.image, d("image")), spec.element))

    def _image(self, first: Val, source: Val) -> None:
        """Strip by strip."""
        b, spec, d = self.b, self.spec, self.dim
        at_once = b.select(b.cmp("le", d("units1"), spec.wide), b.const(spec.high, "i64"), b.const(1, "i64"))
        with b.loop(0, d("units0"), at_once) as rows, b.loop(0, d("units1"), spec.wide) as columns:
            count = b.minimum(b.sub(d("units0"), rows.index), at_once)
            across = b.minimum(b.sub(d("units1"), columns.index), spec.wide)
            strip = Strip(rows.index, columns.index, count, across)
            self.turn_rows(source, _MAP, strip)
            with b.loop(0, count) as ts:
                whole = b.sub(across, b.rem_unsigned(across, spec.unroll)) if spec.unroll > 1 else b.const(0, "i64")
                if spec.unroll > 1:
                    with b.loop(0, whole, spec.unroll) as us:
                        self._sums(ts.index, us.index, across, spec.unroll)
                with b.loop(whole, across) as us:
                    self._sums(ts.index, us.index, across, 1)
            self._store(first, strip)

    # ---- sums ----------------------------------------------------------------------------------------------

    def _sums(self, row: Val, column: Val, across: Val, count: int) -> None:
        """All results of `count` units of a row of a strip, which is `across` units wide."""
        b, spec = self.b, self.spec
        rows, columns = spec.rows, spec.columns
        at = b.add(b.mul(row, rows.step * spec.pitch), b.mul(column, columns.step))
        x = self.region("x", at)
        pitch = b.mul(across, columns.results)
        for i, down in enumerate(rows.taps):
            line = b.mul(b.add(b.mul(row, rows.results), i), pitch)
            y = self.region("y", b.add(line, b.mul(column, columns.results)))
            for j, right in enumerate(columns.taps):
                sums = self._chains(x, down, right, count)
                for k, found in enumerate(sums):
                    b.store(found, y, (k * columns.results + j) * spec.lanes)

    def _chains(
        self, x: Val, down: tuple[tuple[int, int], ...], right: tuple[tuple[int, int], ...], count: int
    ) -> list[Val]:
        """The sums of `count` units' results that meet these taps of rows and columns."""
        b, spec, lanes = self.b, self.spec, self.spec.lanes
        zeros = [b.const(0, spec.element, lanes)] * count
        if not down or not right:
            return zeros
        # taps and offsets are arithmetic sequences
        hop, apart = (down[1][k] - down[0][k] for k in (0, 1)) if len(down) > 1 else (0, 0)
        low = spec.rows.offsets[0], spec.columns.offsets[0]
        with b.loop(0, len(down), carried=zeros) as rs:
            found, read = list(rs.args), dict[int, Val]()
            tap = b.add(b.mul(rs.index, hop * spec.kernel[1]), down[0][0] * spec.kernel[1])
            kernel = self.region("kernel", tap)
            from_row = b.add(b.mul(rs.index, apart * spec.pitch), (down[0][1] - low[0]) * spec.pitch)
            line = b.address(x, b.mul(from_row, lanes), spec.element)
            for s, offset in right:
                weight = b.load(kernel, s * lanes, spec.element, lanes)
                for k in range(count):
                    near = k * spec.columns.step + offset - low[1]
                    if near not in read:
                        read[near] = b.load(line, near * lanes, spec.element, lanes)
                    found[k] = self.multiply_add(weight, read[near], found[k])
            rs.carry(found)
        return rs.results

    # ---- results -------------------------------------------------------------------------------------------

    def _store(self, first: Val, strip: Strip) -> None:
        """Turn a strip of results back: as one run where its rows lie one after the other, else row by row."""
        b, spec, d = self.b, self.spec, self.dim
        rows, columns = spec.rows.results, spec.columns.results
        pitch = b.mul(strip.columns, columns)
        top, left = b.mul(strip.row, rows), b.mul(strip.column, columns)
        height = b.minimum(b.sub(d("height"), top), b.mul(strip.rows, rows))
        width = b.minimum(b.sub(d("width"), left), pitch)
        joined = b.cmp("eq", pitch, d("width"))
        runs = b.select(joined, b.const(1, "i64"), height)
        length = b.select(joined, b.mul(height, width), width)
        with b.loop(0, runs) as rs:
            pixel = b.add(b.mul(b.add(top, rs.index), d("width")), left)
            self._turn_back(first, self.region("y", b.mul(rs.index, pitch)), pixel, length)

    def _turn_back(self, first: Val, source: Val, pixel: Val, count: Val) -> None:
        """Results of a run of places to their maps, from `pixel` on."""
        b, spec, lanes, d = self.b, self.spec, self.spec.lanes, self.dim
        all_channels = b.cmp("le", b.add(first, lanes), d("outputs"))
        with b.loop(0, count, lanes) as cs:
            start, left = b.address(source, b.mul(cs.index, lanes), spec.element), b.sub(count, cs.index)
            lines = transposed(b, [b.load(start, k * lanes, spec.element, lanes) for k in range(lanes)])
            at, whole = b.add(pixel, cs.index), b.and_(all_channels, b.cmp("ge", left, lanes))
            b.if_else(whole, partial(self._write, first, lines, at, None), partial(self._write, first, lines, at, left))

    def _write(self, first: Val, lines: list[Val], pixel: Val, left: Val | None) -> list[Val]:
        """Vectors of neighbours, one for each channel: all of them, or those of `left` places and of channels that exist."""
        b, spec, d = self.b, self.spec, self.dim
        plane = b.add(b.mul(self.image, d("outputs")), first)
        if left is None:
            for lane, x in enumerate(lines):
                self._finish(lane, x, b.add(plane, lane), pixel, None)
            return []
        mask = b.tail_mask(left, spec.lanes)
        for lane, x in enumerate(lines):
            with b.if_(b.cmp("lt", b.add(first, lane), d("outputs"))):
                self._finish(lane, x, b.add(plane, lane), pixel, mask)
        return []

    def _finish(self, lane: int, x: Val, plane: Val, pixel: Val, mask: Val | None) -> None:
        """The epilogue of a vector of neighbours, and its stores."""
        b, spec, d = self.b, self.spec, self.dim
        index = b.add(b.mul(plane, d("pitch")), pixel)

        def load(k: int) -> Val:
            leaf, buffer = spec.epilogue.leaves[k], b.buffer(spec.sums + 1 + k)
            start = b.mul(self.image, d(f"leaf{k}.image"))
            for name, number in (("group", _GROUP), ("row", _ROW)):
                start = b.add(start, b.mul(self.line(number, lane), d(f"leaf{k}.{name}")))
            return self.load_leaf(leaf, buffer, start, pixel, f"leaf{k}", spec.lanes, mask)

        write = lambda y, buffer: b.store(y, buffer, index, mask)  # noqa: E731
        self.store_results(spec.epilogue, spec.accumulator, spec.sums, x, write, load)
