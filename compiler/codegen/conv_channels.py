"""The kernel of gradients of convolutions by the kernel, where groups have few channels: vectors hold output channels.

In: `ChannelsSpec`. Out: kernel text. Sums go along (image, place) in blocks of 256, so that neither may be the lanes of vectors. An
item is a vector of output channels. Strips of both maps are turned into scratch, place by place a vector, zeros around the map
included; then a few rows of the kernel at a time have their sums in registers while places go by. Next: `conv_direct.py`, for the
other two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from flambeau.compiler.codegen.emitter import Val
from flambeau.compiler.codegen.gemm_chains import K_BLOCK
from flambeau.compiler.codegen.gemm_kernel import Epilogue, Kernel
from flambeau.compiler.codegen.gemm_pack import transposed
from flambeau.compiler.codegen.values import storage_bytes
from flambeau.compiler.kernel import KernelSource
from flambeau.compiler.schedules.kinds import DirectWeight
from flambeau.dialects.size import Size


@dataclass(frozen=True)
class Extent:
    """An axis: taps of the kernel, and how places and taps meet."""

    taps: int
    stride: int
    padding: int
    dilation: int

    def reached(self, places: int) -> int:
        """Places of x that neighbouring places of y meet."""
        return (places - 1) * self.stride + (self.taps - 1) * self.dilation + 1


@dataclass(frozen=True)
class ChannelsSpec:
    """What text depends on. `channels` are those of x in a group. Buffers: as of `conv_tile.ConvSpec`."""

    element: str
    schedule: DirectWeight
    epilogue: Epilogue
    accumulator: int | None
    rows: Extent
    columns: Extent
    channels: int

    sums = 2  # the buffer of the results: after A and B

    @property
    def lanes(self) -> int:
        return self.schedule.lanes

    @property
    def taps(self) -> int:
        return self.rows.taps * self.columns.taps

    @property
    def pitch(self) -> int:
        """Vectors from row to row of a strip of x: whole squares are turned."""
        return -(-self.columns.reached(self.schedule.columns) // self.lanes) * self.lanes

    def regions(self) -> dict[str, int]:
        """Where the parts of scratch begin, in bytes, and where the last one ends."""
        schedule, vector = self.schedule, self.lanes * storage_bytes(self.element)
        sizes = {
            "lines": 2 * 8 * self.lanes,
            "chains": self.channels * self.taps * vector,
            "totals": self.channels * self.taps * vector,
            "y": (schedule.rows * schedule.columns + self.lanes) * vector,
            "x": self.rows.reached(schedule.rows) * self.pitch * vector,
        }
        found, at = {}, 0
        for name, size in sizes.items():
            found[name] = at
            at += -(-size // 64) * 64
        return {**found, "end": at}

    @property
    def scratch(self) -> int:
        return self.regions()["end"]


def channels_kernel(spec: ChannelsSpec, label: str) -> tuple[KernelSource, tuple[str | Size, ...]]:
    """The kernel, and the names of its dims."""
    return _Writer(spec).write(label)


@dataclass(frozen=True)
class _Strip:
    """Places of y that are turned at once: `rows` by `columns` from (row, column) on."""

    row: Val
    column: Val
    rows: Val
    columns: Val


class _Writer(Kernel):
    def __init__(self, spec: ChannelsSpec) -> None:
        super().__init__()
        self.spec, self.regions = spec, spec.regions()

    def write(self, label: str) -> tuple[KernelSource, tuple[str | Size, ...]]:
        b = self.b
        with b.loop(b.lo, b.hi) as items:
            self._item(b.mul(items.index, self.spec.lanes))
        return self.finish(label)

    def _region(self, name: str, vector: Val | int = 0) -> Val:
        """Where a vector of a part of scratch lies."""
        b = self.b
        start = b.address(b.scratch, self.regions[name], "i8")
        at = vector * self.spec.lanes if isinstance(vector, int) else b.mul(vector, self.spec.lanes)
        return b.address(start, at, self.spec.element)

    # ---- loops ---------------------------------------------------------------------------------------------

    def _item(self, first: Val) -> None:
        b, spec, d = self.b, self.spec, self.dim
        self._note_lines(first)
        with b.loop(0, spec.channels * spec.taps) as ts:
            b.store(b.const(0, spec.element, spec.lanes), self._region("chains", ts.index), 0)
        zero, one = b.const(0, "i64"), b.const(1, "i64")
        whole = b.cmp("le", d("width"), spec.schedule.columns)
        high = b.select(whole, b.const(spec.schedule.rows, "i64"), one)
        with b.loop(0, d("images"), carried=[zero, one]) as images:
            with b.loop(0, d("height"), high, images.args) as rows:
                with b.loop(0, d("width"), spec.schedule.columns, rows.args) as columns:
                    count = b.minimum(b.sub(d("height"), rows.index), high)
                    across = b.minimum(b.sub(d("width"), columns.index), spec.schedule.columns)
                    strip = _Strip(rows.index, columns.index, count, across)
                    columns.carry(self._strip(images.index, strip, *columns.args))
                rows.carry(columns.results)
            images.carry(rows.results)
        done, fresh = images.results
        with b.if_(b.or_(b.cmp("gt", done, 0), b.cmp("eq", fresh, 1))), b.loop(0, spec.channels) as cs:
            self._end_block(cs.index, fresh)
        self._store(first)

    def _note_lines(self, first: Val) -> None:
        """Where the maps of each lane's channels begin, of y and of x; lanes beyond the last channel repeat that."""
        b, spec, d = self.b, self.spec, self.dim
        table = self._region("lines")
        with b.loop(0, spec.lanes) as lanes:
            channel = b.minimum(b.add(first, lanes.index), b.sub(d("outputs"), 1))
            b.store(b.mul(channel, d("a.row")), table, lanes.index)
            group = b.div_unsigned(channel, d("m"))
            b.store(b.mul(group, d("b.group")), table, b.add(lanes.index, spec.lanes))

    def _strip(self, image: Val, strip: _Strip, done: Val, fresh: Val) -> list[Val]:
        """All taps of all channels, along a strip of places; `done` of a block are behind, and it is the first one if `fresh`."""
        b, spec, d = self.b, self.spec, self.dim
        place = b.add(b.mul(image, d("a.image")), b.add(b.mul(strip.row, d("width")), strip.column))
        count = b.mul(strip.rows, strip.columns)
        self._turn(b.address(b.buffer(0), place, spec.element), 0, count, b.const(0, "i64"), count, self._region("y"))
        with b.loop(0, spec.channels, carried=[done, fresh]) as cs:
            place = b.add(b.mul(image, d("image")), b.mul(cs.index, d("channel")))
            self._turn_rows(b.address(b.buffer(1), place, spec.element), strip)
            with b.loop(0, strip.rows, carried=[done, fresh]) as rows:
                rows.carry(self._row(cs.index, rows.index, strip, *rows.args))
            cs.carry(rows.results)
        return cs.results

    def _row(self, channel: Val, row: Val, strip: _Strip, done: Val, fresh: Val) -> list[Val]:
        """One row of a strip, up to each end of a block."""
        b = self.b

        def more(at: Val, done: Val, fresh: Val) -> Val:
            return b.cmp("lt", at, strip.columns)

        def advance(at: Val, done: Val, fresh: Val) -> list[Val]:
            count = b.minimum(b.sub(strip.columns, at), b.sub(K_BLOCK, done))
            self._chains(channel, row, strip, at, count)
            done = b.add(done, count)
            full = b.cmp("eq", done, K_BLOCK)
            with b.if_(full):
                self._end_block(channel, fresh)
            zero = b.const(0, "i64")
            return [b.add(at, count), b.select(full, zero, done), b.select(full, zero, fresh)]

        return b.while_([b.const(0, "i64"), done, fresh], more, advance)[1:]

    def _end_block(self, channel: Val, fresh: Val) -> None:
        """Add a block's sums to those before it, in order; the next one begins."""
        b, spec = self.b, self.spec
        with b.loop(0, spec.taps) as ts:
            at = b.add(b.mul(channel, spec.taps), ts.index)
            chain, total = self._region("chains", at), self._region("totals", at)
            x = b.load(chain, 0, spec.element, spec.lanes)
            before = partial(b.load, total, 0, spec.element, spec.lanes)
            (found,) = b.if_else(b.cmp("eq", fresh, 1), partial(list, [x]), partial(self._added, before, x))
            b.store(found, total, 0)
            b.store(b.const(0, spec.element, spec.lanes), chain, 0)

    def _added(self, before: Callable[[], Val], x: Val) -> list[Val]:
        return [self.b.add(before(), x)]

    # ---- sums ----------------------------------------------------------------------------------------------

    def _chains(self, channel: Val, row: Val, strip: _Strip, first: Val, count: Val) -> None:
        """`count` places of a row of a strip, a few rows of the kernel at a time."""
        b, spec = self.b, self.spec
        unroll, rows, columns = spec.schedule.unroll, spec.rows, spec.columns
        end = b.add(first, count)
        whole = b.sub(end, b.rem_unsigned(count, unroll)) if unroll > 1 else first
        for r in range(0, rows.taps, spec.schedule.tap_rows):
            taps = range(r, min(r + spec.schedule.tap_rows, rows.taps))
            near = b.add(b.mul(channel, spec.taps), r * columns.taps)
            kept = [self._region("chains", b.add(near, k)) for k in range(len(taps) * columns.taps)]
            sums = [b.load(at, 0, spec.element, spec.lanes) for at in kept]
            if unroll > 1:
                sums = self._places(row, strip, first, whole, unroll, taps, sums)
            sums = self._places(row, strip, whole, end, 1, taps, sums)
            for x, at in zip(sums, kept, strict=True):
                b.store(x, at, 0)

    def _places(
        self, row: Val, strip: _Strip, first: Val, end: Val, count: int, taps: range, sums: list[Val]
    ) -> list[Val]:
        """Extends sums along places of a row, `count` per round: neighbours share what they read of x."""
        b, spec = self.b, self.spec
        rows, columns, lanes = spec.rows, spec.columns, spec.lanes
        with b.loop(first, end, count, sums) as places:
            found = list(places.args)
            y = self._region("y", b.add(b.mul(row, strip.columns), places.index))
            at = b.add(b.mul(row, rows.stride * spec.pitch), b.mul(places.index, columns.stride))
            x, read = self._region("x", at), dict[int, Val]()
            for k in range(count):
                of_y = b.load(y, k * lanes, spec.element, lanes)
                for tap in range(len(taps) * columns.taps):
                    r, s = taps[tap // columns.taps], tap % columns.taps
                    near = r * rows.dilation * spec.pitch + k * columns.stride + s * columns.dilation
                    if near not in read:
                        read[near] = b.load(x, near * lanes, spec.element, lanes)
                    found[tap] = self.multiply_add(of_y, read[near], found[tap])
            places.carry(found)
        return places.results

    # ---- maps ----------------------------------------------------------------------------------------------

    def _turn_rows(self, source: Val, strip: _Strip) -> None:
        """The places of x that a strip meets, in zeros."""
        b, spec, d = self.b, self.spec, self.dim
        rows, columns = spec.rows, spec.columns
        height = b.add(b.mul(b.sub(strip.rows, 1), rows.stride), (rows.taps - 1) * rows.dilation + 1)
        width = b.add(b.mul(b.sub(strip.columns, 1), columns.stride), (columns.taps - 1) * columns.dilation + 1)
        top = b.sub(b.mul(strip.row, rows.stride), rows.padding)
        left = b.sub(b.mul(strip.column, columns.stride), columns.padding)
        with b.loop(0, height) as hs:
            row, target = b.add(top, hs.index), self._region("x", b.mul(hs.index, spec.pitch))

            def turn(row: Val = row, target: Val = target) -> list[Val]:
                line = b.place(source, b.mul(row, d("size1")), spec.element)
                self._turn(line, 1, width, left, d("size1"), target, columns.reached(spec.schedule.columns))
                return []

            def fill(target: Val = target) -> list[Val]:
                with b.loop(0, width) as ws:
                    b.store(b.const(0, spec.element, spec.lanes), target, b.mul(ws.index, spec.lanes))
                return []

            b.if_else(b.op("arith.cmpi", [row, d("size0")], "i1", 1, "ult"), turn, fill)

    def _turn(
        self, source: Val, map: int, count: Val, first: Val, size: Val, target: Val, most: int | None = None
    ) -> None:
        """Turn `count` (at most `most`) places from `first` on, of `size` that exist, of all lanes' channels: square by square."""
        b, spec, lanes = self.b, self.spec, self.spec.lanes
        table = self._region("lines")
        used = lanes if most is None else min(lanes, most)
        with b.loop(0, count, lanes) as cs:
            place = b.add(first, cs.index)
            lines = [b.add(b.load(table, map * lanes + lane, "i64"), place) for lane in range(lanes)]
            starts = [b.place(source, line, spec.element) for line in lines]

            def loads(mask: Val | None, starts: list[Val] = starts) -> list[Val]:
                return [b.load(start, 0, spec.element, lanes, mask) for start in starts]

            def partly(place: Val = place, loads: Callable[[Val | None], list[Val]] = loads) -> list[Val]:
                at = b.add(b.splat(b.truncate(place, "i32"), lanes), b.iota(lanes, "i32"))
                extent = b.splat(b.truncate(size, "i32"), lanes)
                return loads(b.op("arith.cmpi", [at, extent], "i1", lanes, "ult"))

            inside = b.and_(b.cmp("ge", place, 0), b.cmp("le", b.add(place, lanes), size))
            square = b.if_else(inside, partial(loads, None), partly)
            at = b.address(target, b.mul(cs.index, lanes), spec.element)
            for k, line in enumerate(transposed(b, square)[:used]):
                b.store(line, at, k * lanes)

    # ---- results -------------------------------------------------------------------------------------------

    def _store(self, first: Val) -> None:
        """The kernels of the item's channels, one after the other."""
        b, spec, d = self.b, self.spec, self.dim
        with (
            b.loop(0, b.minimum(b.sub(d("outputs"), first), spec.lanes)) as lanes,
            b.loop(0, spec.channels * spec.taps) as columns,
        ):
            channel = b.add(first, lanes.index)
            x = b.load(self._region("totals", columns.index), lanes.index, spec.element)
            index = b.add(b.mul(channel, d("pitch")), columns.index)
            group, row = b.div_unsigned(channel, d("m")), b.rem_unsigned(channel, d("m"))

            def load(k: int) -> Val:
                leaf, buffer = spec.epilogue.leaves[k], b.buffer(spec.sums + 1 + k)
                start = b.add(b.mul(group, d(f"leaf{k}.group")), b.mul(row, d(f"leaf{k}.row")))
                return self.load_leaf(leaf, buffer, start, columns.index, f"leaf{k}", 1, None)

            write = lambda y, buffer: b.store(y, buffer, index)  # noqa: E731
            self.store_results(spec.epilogue, spec.accumulator, spec.sums, x, write, load)
