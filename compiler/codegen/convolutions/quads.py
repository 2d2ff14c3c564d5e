"""The kernel of convolutions of 8-bit integers, whose sums are int32 and have no order.

In: `QuadSpec`. Out: kernel text. An item is a band of rows of an image and a group. The part of the map that it meets is packed
into scratch first: four channels side by side, rows and columns by phases of the stride, zeros around it. A tap then finds what
it meets of neighbouring places side by side: vectors run over places, from row to row through the margin, whose results are
dropped. Weights are read where they lie, four channels at a time. A map of int8 is moved by 128, as in `products/dots.py`; machines
without an instruction for it multiply one byte after the other. Next: `cut.py`; `schedules/quads.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from flambeau.compiler.codegen.emitter import Val
from flambeau.compiler.codegen.products.dots import QUAD
from flambeau.compiler.codegen.products.kernel import Epilogue, KernelEmitter
from flambeau.compiler.kernel import KernelSource
from flambeau.compiler.schedules.kinds import Quads
from flambeau.dialects.size import Size

#: Four times 128.
_MOVED = 0x80808080 - (1 << 32)
#: Words that are noted of a tap.
_WORDS = 2


@dataclass(frozen=True)
class QuadSpec:
    """What text depends on: `signed` maps, the channels beyond whole quads, whether columns have a stride. Buffers: weights, the
    map, the epilogue's leaves, its outputs."""

    schedule: Quads
    epilogue: Epilogue
    dots: bool
    signed: bool
    rest: int
    strided: bool

    @property
    def width(self) -> int:
        """Places of a tile."""
        return self.schedule.lanes * self.schedule.vectors


def quad_kernel(spec: QuadSpec, label: str) -> tuple[KernelSource, tuple[str | Size, ...]]:
    """The kernel, and the names of its dims."""
    return _QuadWriter(spec).write(label)


class _QuadWriter(KernelEmitter):
    def __init__(self, spec: QuadSpec) -> None:
        super().__init__()
        self.spec = spec

    def write(self, label: str) -> tuple[KernelSource, tuple[str | Size, ...]]:
        b, d = self.b, self.dim
        with b.loop(b.lo, b.hi) as items:
            self.image, self.group, band = self.split(items.index, ["groups", "bands"])
            self.first = b.mul(band, d("band"))
            self.height = b.minimum(d("band"), b.sub(d("height"), self.first))
            place = b.add(b.mul(self.image, d("image")), b.mul(self.group, d("b.group")))
            self.map = b.address(b.buffer(1), place, "i8")
            self.weights = b.address(b.buffer(0), b.mul(self.group, d("a.group")), "i8")
            self.packed = b.address(b.scratch, b.mul(b.mul(d("taps0"), d("taps1")), _WORDS), "i64")
            self.sums = b.address(self.packed, d("packed"), "i32")
            self._note_taps()
            self._pack()
            with b.loop(0, d("m"), self.spec.schedule.rows) as ms:
                self._channels(ms.index)
        return self.finish(label)

    def _note_taps(self) -> None:
        """Where every tap's weights lie, and where in the packed map the first place of a band finds what it meets."""
        b, d = self.b, self.dim
        with b.loop(0, d("taps0")) as ys, b.loop(0, d("taps1")) as xs:
            y, x = b.mul(ys.index, d("dilation0")), b.mul(xs.index, d("dilation1"))
            plane = b.add(b.mul(b.rem_unsigned(y, d("stride0")), d("stride1")), b.rem_unsigned(x, d("stride1")))
            row = b.mul(b.div_unsigned(y, d("stride0")), d("pitch"))
            met = b.add(b.add(b.mul(plane, d("plane")), row), b.div_unsigned(x, d("stride1")))
            at = b.mul(b.add(b.mul(ys.index, d("taps1")), xs.index), _WORDS)
            b.store(b.add(b.mul(ys.index, d("a.tap0")), b.mul(xs.index, d("a.tap1"))), b.scratch, at)
            b.store(met, b.scratch, b.add(at, 1))

    # ---- the map -------------------------------------------------------------------------------------------

    def _pack(self) -> None:
        """Quads of channels, one after the other."""
        b, d = self.b, self.dim
        with b.loop(0, d("quads")) as quads:
            self._pack_quad(quads.index, QUAD)
        if self.spec.rest:
            self._pack_quad(d("quads"), self.spec.rest)

    def _pack_quad(self, quad: Val, channels: int) -> None:
        """The rows that a band meets of some channels, by phases."""
        b, d = self.b, self.dim
        first = b.mul(quad, QUAD)
        lines = [b.address(self.map, b.mul(b.add(first, c), d("channel")), "i8") for c in range(channels)]
        with b.loop(0, d("stride0")) as above, b.loop(0, d("rows")) as rs:
            y = b.add(b.mul(b.add(self.first, rs.index), d("stride0")), b.sub(above.index, d("padding0")))
            inside = b.and_(b.cmp("ge", y, 0), b.cmp("lt", y, d("size0")))
            start = b.mul(b.select(inside, y, 0), d("size1"))
            with b.loop(0, d("stride1")) as left:
                plane = b.add(b.mul(b.add(b.mul(quad, d("stride0")), above.index), d("stride1")), left.index)
                target = b.add(b.mul(plane, d("plane")), b.mul(rs.index, d("pitch")))
                self._pack_row(lines, start, inside, left.index, b.address(self.packed, target, "i32"))

    def _pack_row(self, lines: list[Val], start: Val, inside: Val, phase: Val, target: Val) -> None:
        b, d, lanes = self.b, self.dim, self.spec.schedule.lanes
        with b.loop(0, d("pitch"), lanes) as vs:
            column = b.sub(b.add(b.mul(vs.index, d("stride1")), phase), d("padding1"))
            places = b.add(b.mul(b.iota(lanes), d("stride1")), column)
            valid = b.and_(b.cmp("ge", places, 0), b.cmp("lt", places, d("size1")))
            valid = b.and_(valid, b.splat(inside, lanes))
            total = None
            for c, line in enumerate(lines):
                if self.spec.strided:
                    x = b.gather(line, b.add(places, start), "ui8", valid)
                else:
                    x = b.load(b.place(line, b.add(start, column), "ui8"), 0, "ui8", lanes, valid)
                wide = b.shl(b.extend_unsigned(x, "i32"), 8 * c) if c else b.extend_unsigned(x, "i32")
                total = wide if total is None else b.or_(total, wide)
            assert total is not None
            if self.spec.signed:
                total = b.xor(total, _MOVED)
            b.store(total, target, vs.index, b.tail_mask(b.sub(d("pitch"), vs.index), lanes))

    # ---- sums ----------------------------------------------------------------------------------------------

    def _channels(self, m: Val) -> None:
        """A few output channels over the whole band, then their epilogue."""
        b, spec, d = self.b, self.spec, self.dim
        last = b.sub(d("m"), 1)
        rows = [
            b.address(self.weights, b.mul(b.minimum(b.add(m, i), last), d("a.row")), "i8")
            for i in range(spec.schedule.rows)
        ]
        with b.loop(0, b.mul(self.height, d("pitch")), spec.width) as qs:
            sums = self._tile(rows, b.address(self.packed, qs.index, "i32"))
            for i in range(len(rows)):
                for v in range(spec.schedule.vectors):
                    at = b.add(b.mul(d("places"), i), b.add(qs.index, v * spec.schedule.lanes))
                    b.store(sums[i * spec.schedule.vectors + v], self.sums, at)
        flat = b.cmp("eq", d("pitch"), d("width"))  # no margin: a band is one row
        height = b.select(flat, 1, self.height)
        width = b.select(flat, b.mul(self.height, d("width")), d("width"))
        with b.loop(0, b.minimum(b.sub(d("m"), m), spec.schedule.rows)) as rs, b.loop(0, height) as hs:
            self._finish_row(rs.index, b.add(m, rs.index), hs.index, width)

    def _tile(self, rows: list[Val], packed: Val) -> list[Val]:
        """The sums of neighbouring places, row by row."""
        b, spec, d = self.b, self.spec, self.dim
        count = len(rows) * spec.schedule.vectors
        zero = b.const(0, "i32", spec.schedule.lanes)
        with b.loop(0, b.mul(d("taps0"), d("taps1")), 1, [zero] * (count + spec.signed * len(rows))) as taps:
            word = b.mul(taps.index, _WORDS)
            weight, here = (b.load(b.scratch, b.add(word, k), "i64") for k in range(_WORDS))
            with b.loop(0, d("quads"), 1, taps.args) as quads:
                at = b.add(weight, b.mul(quads.index, QUAD))
                source = b.add(here, b.mul(quads.index, d("quad")))
                quads.carry(self._step(rows, at, packed, source, quads.args, QUAD))
            found = quads.results
            if spec.rest:
                at, source = b.add(weight, b.mul(d("quads"), QUAD)), b.add(here, b.mul(d("quads"), d("quad")))
                found = self._step(rows, at, packed, source, found, spec.rest)
            taps.carry(found)
        sums, extra = taps.results[:count], taps.results[count:]
        return [b.sub(x, extra[n // spec.schedule.vectors]) for n, x in enumerate(sums)] if extra else sums

    def _step(self, rows: list[Val], at: Val, packed: Val, source: Val, sums: list[Val], channels: int) -> list[Val]:
        """Four channels of a tap into every sum."""
        b, spec, lanes = self.b, self.spec, self.spec.schedule.lanes
        ys = [b.load(packed, b.add(source, v * lanes), "i32", lanes) for v in range(spec.schedule.vectors)]
        ws = [self._quad(row, at, channels) for row in rows]
        count = len(rows) * len(ys)
        found = []
        if not spec.dots:
            parts = [[self._byte(y, c) for c in range(channels)] for y in ys]
        for i, w in enumerate(ws):
            for v, y in enumerate(ys):
                total = sums[i * len(ys) + v]
                if spec.dots:
                    total = b.dot4(b.regrouped(y, "ui8"), b.regrouped(b.splat(w, lanes), "i8"), total)
                else:
                    for c in range(channels):
                        total = b.add(b.mul(parts[v][c], b.splat(self._weight(w, c), lanes)), total)
                found.append(total)
        if spec.signed:
            found += [self._times_128(w, total, channels) for w, total in zip(ws, sums[count:], strict=True)]
        return found

    def _times_128(self, w: Val, total: Val, channels: int) -> Val:
        """What moving the map adds."""
        b, lanes = self.b, self.spec.schedule.lanes
        if self.spec.dots:
            return b.dot4(b.const(128, "ui8", QUAD * lanes), b.regrouped(b.splat(w, lanes), "i8"), total)
        for c in range(channels):
            total = b.add(total, b.splat(b.mul(self._weight(w, c), 128), lanes))
        return total

    def _quad(self, row: Val, at: Val, channels: int) -> Val:
        """The weights of four channels, those that there are, as the bytes of a number."""
        b = self.b
        if channels == QUAD:
            return b.regrouped(b.load(row, at, "i8", QUAD), "i32")
        total = b.extend_unsigned(b.load(row, at, "ui8"), "i32")
        for c in range(1, channels):
            total = b.or_(total, b.shl(b.extend_unsigned(b.load(row, b.add(at, c), "ui8"), "i32"), 8 * c))
        return total

    def _byte(self, y: Val, c: int) -> Val:
        """Byte `c` of every number, unsigned."""
        return self.b.and_(self.b.shru(y, 8 * c), 255)

    def _weight(self, w: Val, c: int) -> Val:
        """Byte `c` of a number, with its sign."""
        return self.b.shr(self.b.shl(w, 24 - 8 * c), 24)

    # ---- from scratch to memory ----------------------------------------------------------------------------

    def _finish_row(self, i: Val, row: Val, y: Val, width: Val) -> None:
        """One row of one output channel, of that width."""
        b, spec, d, lanes = self.b, self.spec, self.dim, self.spec.schedule.lanes
        start = b.add(b.mul(d("places"), i), b.mul(y, d("pitch")))
        channel = b.add(b.mul(b.add(b.mul(self.image, d("groups")), self.group), d("m")), row)
        line = b.mul(b.add(self.first, y), d("width"))
        with b.loop(0, width, lanes) as vs:
            mask = b.tail_mask(b.sub(width, vs.index), lanes)
            pixel = b.add(line, vs.index)
            total = b.load(self.sums, b.add(start, vs.index), "i32", lanes, mask)

            def load(k: int) -> Val:
                name, leaf = f"leaf{k}", spec.epilogue.leaves[k]
                at = b.add(b.mul(self.group, d(f"{name}.group")), b.mul(row, d(f"{name}.row")))
                at = b.add(at, b.mul(self.image, d(f"{name}.image")))
                return self.load_leaf(leaf, b.buffer(2 + k), at, pixel, name, lanes, mask)

            index = b.add(b.mul(channel, b.mul(d("height"), d("width"))), pixel)
            for k, x in enumerate(spec.epilogue.apply(b, total, load)):
                b.store(x, b.buffer(2 + len(spec.epilogue.leaves) + k), index, mask)
