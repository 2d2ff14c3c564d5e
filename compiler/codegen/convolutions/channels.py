"""The kernel of gradients of convolutions by the kernel, where groups have few channels: vectors hold output channels.

In: `ChannelsSpec`. Out: kernel text. Sums go along (image, place) in blocks of 256, so that neither may be the lanes of vectors. An
item is a vector of output channels. Strips of both maps are turned into scratch, place by place a vector, zeros around the map
included; then a few rows of the kernel at a time have their sums in registers while places go by. Next: `direct.py`, for the
other two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from flambeau.compiler.codegen.convolutions.strips import Strip, Strips, StripsSpec
from flambeau.compiler.codegen.emitter import Val
from flambeau.compiler.codegen.products.chains import K_BLOCK
from flambeau.compiler.kernel import KernelSource
from flambeau.dialects.size import Size

#: Numbers that are noted of each lane's channel: where its maps begin.
_Y, _X = range(2)


@dataclass(frozen=True)
class ChannelsSpec(StripsSpec):
    """What text depends on: `tap_rows` and `unroll` as of the schedule. `channels` are those of x in a group."""

    tap_rows: int
    unroll: int
    channels: int

    def sizes(self) -> dict[str, int]:
        sums = self.channels * self.taps
        return super().sizes() | {"chains": sums, "totals": sums, "y": self.high * self.wide + self.lanes}


def channels_kernel(spec: ChannelsSpec, label: str) -> tuple[KernelSource, tuple[str | Size, ...]]:
    """The kernel, and the names of its dims."""
    return _ChannelsWriter(spec).write(label)


class _ChannelsWriter(Strips):
    spec: ChannelsSpec

    def write(self, label: str) -> tuple[KernelSource, tuple[str | Size, ...]]:
        b = self.b
        with b.loop(b.lo, b.hi) as items:
            self._item(b.mul(items.index, self.spec.lanes))
        return self.finish(label)

    # ---- loops ---------------------------------------------------------------------------------------------

    def _item(self, first: Val) -> None:
        b, spec, d = self.b, self.spec, self.dim
        self.note_lines(first, lambda channel, group: [b.mul(channel, d("a.row")), b.mul(group, d("b.group"))])
        with b.loop(0, spec.channels * spec.taps) as ts:
            b.store(b.const(0, spec.element, spec.lanes), self.region("chains", ts.index), 0)
        zero, one = b.const(0, "i64"), b.const(1, "i64")
        whole = b.cmp("le", d("width"), spec.wide)
        high = b.select(whole, b.const(spec.high, "i64"), one)
        with b.loop(0, d("images"), carried=[zero, one]) as images:
            with b.loop(0, d("height"), high, images.args) as rows:
                with b.loop(0, d("width"), spec.wide, rows.args) as columns:
                    count = b.minimum(b.sub(d("height"), rows.index), high)
                    across = b.minimum(b.sub(d("width"), columns.index), spec.wide)
                    strip = Strip(rows.index, columns.index, count, across)
                    columns.carry(self._strip(images.index, strip, *columns.args))
                rows.carry(columns.results)
            images.carry(rows.results)
        done, fresh = images.results
        with b.if_(b.or_(b.cmp("gt", done, 0), b.cmp("eq", fresh, 1))), b.loop(0, spec.channels) as cs:
            self._end_block(cs.index, fresh)
        self._store(first)

    def _strip(self, image: Val, strip: Strip, done: Val, fresh: Val) -> list[Val]:
        """All taps of all channels, along a strip of places; `done` of a block are behind, and it is the first one if `fresh`."""
        b, spec, d = self.b, self.spec, self.dim
        place = b.add(b.mul(image, d("a.image")), b.add(b.mul(strip.row, d("width")), strip.column))
        count = b.mul(strip.rows, strip.columns)
        self.turn(b.address(b.buffer(0), place, spec.element), _Y, count, b.const(0, "i64"), count, self.region("y"))
        with b.loop(0, spec.channels, carried=[done, fresh]) as cs:
            place = b.add(b.mul(image, d("image")), b.mul(cs.index, d("channel")))
            self.turn_rows(b.address(b.buffer(1), place, spec.element), _X, strip)
            with b.loop(0, strip.rows, carried=[done, fresh]) as rows:
                rows.carry(self._row(cs.index, rows.index, strip, *rows.args))
            cs.carry(rows.results)
        return cs.results

    def _row(self, channel: Val, row: Val, strip: Strip, done: Val, fresh: Val) -> list[Val]:
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
            chain, total = self.region("chains", at), self.region("totals", at)
            x = b.load(chain, 0, spec.element, spec.lanes)
            before = partial(b.load, total, 0, spec.element, spec.lanes)
            (found,) = b.if_else(b.cmp("eq", fresh, 1), partial(list, [x]), partial(self._added, before, x))
            b.store(found, total, 0)
            b.store(b.const(0, spec.element, spec.lanes), chain, 0)

    def _added(self, before: Callable[[], Val], x: Val) -> list[Val]:
        return [self.b.add(before(), x)]

    # ---- sums ----------------------------------------------------------------------------------------------

    def _chains(self, channel: Val, row: Val, strip: Strip, first: Val, count: Val) -> None:
        """`count` places of a row of a strip, a few rows of the kernel at a time."""
        b, spec = self.b, self.spec
        unroll, (down, across) = spec.unroll, spec.kernel
        end = b.add(first, count)
        whole = b.sub(end, b.rem_unsigned(count, unroll)) if unroll > 1 else first
        for r in range(0, down, spec.tap_rows):
            taps = range(r, min(r + spec.tap_rows, down))
            near = b.add(b.mul(channel, spec.taps), r * across)
            kept = [self.region("chains", b.add(near, k)) for k in range(len(taps) * across)]
            sums = [b.load(at, 0, spec.element, spec.lanes) for at in kept]
            if unroll > 1:
                sums = self._places(row, strip, first, whole, unroll, taps, sums)
            sums = self._places(row, strip, whole, end, 1, taps, sums)
            for x, at in zip(sums, kept, strict=True):
                b.store(x, at, 0)

    def _places(
        self, row: Val, strip: Strip, first: Val, end: Val, count: int, taps: range, sums: list[Val]
    ) -> list[Val]:
        """Extends sums along places of a row, `count` per round: neighbours share what they read of x."""
        b, spec = self.b, self.spec
        rows, columns, lanes = spec.rows, spec.columns, spec.lanes
        (down,), (right,) = rows.taps, columns.taps
        with b.loop(first, end, count, sums) as places:
            found = list(places.args)
            y = self.region("y", b.add(b.mul(row, strip.columns), places.index))
            at = b.add(b.mul(row, rows.step * spec.pitch), b.mul(places.index, columns.step))
            x, read = self.region("x", at), dict[int, Val]()
            for k in range(count):
                of_y = b.load(y, k * lanes, spec.element, lanes)
                for tap in range(len(taps) * len(right)):
                    r, s = taps[tap // len(right)], tap % len(right)
                    far = (down[r][1] - down[0][1]) * spec.pitch, right[s][1] - right[0][1]
                    near = far[0] + k * columns.step + far[1]
                    if near not in read:
                        read[near] = b.load(x, near * lanes, spec.element, lanes)
                    found[tap] = self.multiply_add(of_y, read[near], found[tap])
            places.carry(found)
        return places.results

    # ---- results -------------------------------------------------------------------------------------------

    def _store(self, first: Val) -> None:
        """The kernels of the item's channels, one after the other."""
        b, spec, d = self.b, self.spec, self.dim
        with (
            b.loop(0, b.minimum(b.sub(d("outputs"), first), spec.lanes)) as lanes,
            b.loop(0, spec.channels * spec.taps) as columns,
        ):
            channel = b.add(first, lanes.index)
            x = b.load(self.region("totals", columns.index), lanes.index, spec.element)
            index = b.add(b.mul(channel, d("pitch")), columns.index)
            group, row = b.div_unsigned(channel, d("m")), b.rem_unsigned(channel, d("m"))

            def load(k: int) -> Val:
                leaf, buffer = spec.epilogue.leaves[k], b.buffer(spec.sums + 1 + k)
                start = b.add(b.mul(group, d(f"leaf{k}.group")), b.mul(row, d(f"leaf{k}.row")))
                return self.load_leaf(leaf, buffer, start, columns.index, f"leaf{k}", 1, None)

            write = lambda y, buffer: b.store(y, buffer, index)  # noqa: E731
            self.store_results(spec.epilogue, spec.accumulator, spec.sums, x, write, load)
