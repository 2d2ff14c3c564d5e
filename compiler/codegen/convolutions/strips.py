"""Strips of maps turned into scratch: place by place, a vector of channels.

In: a `StripsSpec`; where maps lie. Out: text that notes where the maps of a vector's channels begin, and that turns runs of places
of them, whole squares through registers; what lies outside of a map becomes zeros. Next: `turned.py`, `channels.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from flambeau.compiler.codegen.convolutions.taps import Pattern
from flambeau.compiler.codegen.emitter import Val
from flambeau.compiler.codegen.products.kernel import Epilogue, KernelEmitter
from flambeau.compiler.codegen.products.pack import transposed
from flambeau.compiler.codegen.values import storage_bytes


@dataclass(frozen=True)
class StripsSpec:
    """What text of strips depends on: how units of results meet rows and columns of the map that is turned; `high` and `wide` are
    the units of a strip, at most. Buffers: as of `tile.ConvSpec`."""

    element: str
    lanes: int
    high: int
    wide: int
    epilogue: Epilogue
    accumulator: int | None
    rows: Pattern
    columns: Pattern

    sums = 2  # the buffer of the results: after A and B

    @property
    def kernel(self) -> tuple[int, int]:
        """Rows and columns of the kernel."""
        rows, columns = (1 + max((t for of in p.taps for t, _ in of), default=0) for p in (self.rows, self.columns))
        return rows, columns

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def pitch(self) -> int:
        """Vectors from row to row of a strip: whole squares are turned."""
        return -(-self.columns.reached(self.wide) // self.lanes) * self.lanes

    def sizes(self) -> dict[str, int]:
        """Vectors in each part of scratch."""
        return {"x": self.rows.reached(self.high) * self.pitch}

    def regions(self) -> dict[str, int]:
        """Where the parts of scratch begin, in bytes, and where the last one ends."""
        sizes = {name: count * self.lanes * storage_bytes(self.element) for name, count in self.sizes().items()}
        found, at = {}, 0
        for name, size in {"lines": 4 * 8 * self.lanes, **sizes}.items():
            found[name] = at
            at += -(-size // 64) * 64
        return {**found, "end": at}

    @property
    def scratch(self) -> int:
        """Bytes of scratch."""
        return self.regions()["end"]


@dataclass(frozen=True)
class Strip:
    """Units of results: `rows` by `columns` from (row, column) on."""

    row: Val
    column: Val
    rows: Val
    columns: Val


class Strips(KernelEmitter):
    """A kernel whose vectors hold channels of results."""

    spec: StripsSpec

    def __init__(self, spec: StripsSpec) -> None:
        super().__init__()
        self.spec, self.regions = spec, spec.regions()

    def region(self, name: str, vector: Val | int = 0) -> Val:
        """Where a vector of a part of scratch lies."""
        b = self.b
        start = b.address(b.scratch, self.regions[name], "i8")
        at = vector * self.spec.lanes if isinstance(vector, int) else b.mul(vector, self.spec.lanes)
        return b.address(start, at, self.spec.element)

    def note_lines(self, first: Val, lines: Callable[[Val, Val], list[Val]]) -> None:
        """Note numbers of each lane's channel, `lines(channel, group)`; lanes beyond the last channel repeat that."""
        b, spec, d = self.b, self.spec, self.dim
        table = self.region("lines")
        with b.loop(0, spec.lanes) as lanes:
            channel = b.minimum(b.add(first, lanes.index), b.sub(d("outputs"), 1))
            for k, number in enumerate(lines(channel, b.div_unsigned(channel, d("m")))):
                b.store(number, table, b.add(lanes.index, k * spec.lanes))

    def line(self, number: int, lane: int) -> Val:
        """A number that was noted of a lane."""
        return self.b.load(self.region("lines"), number * self.spec.lanes + lane, "i64")

    def turn_rows(self, source: Val, line: int, strip: Strip) -> None:
        """The places of a map that a strip meets, in zeros."""
        b, spec, d = self.b, self.spec, self.dim
        rows, columns = spec.rows, spec.columns
        height = b.add(b.mul(b.sub(strip.rows, 1), rows.step), rows.reached(1))
        width = b.add(b.mul(b.sub(strip.columns, 1), columns.step), columns.reached(1))
        top = b.add(b.mul(strip.row, rows.step), rows.offsets[0])
        left = b.add(b.mul(strip.column, columns.step), columns.offsets[0])
        most = columns.reached(spec.wide)
        with b.loop(0, height) as hs:
            row, target = b.add(top, hs.index), self.region("x", b.mul(hs.index, spec.pitch))

            def turn(row: Val = row, target: Val = target) -> list[Val]:
                start = b.place(source, b.mul(row, d("size1")), spec.element)
                self.turn(start, line, width, left, d("size1"), target, most)
                return []

            def fill(target: Val = target) -> list[Val]:
                with b.loop(0, width) as ws:
                    b.store(b.const(0, spec.element, spec.lanes), target, b.mul(ws.index, spec.lanes))
                return []

            b.if_else(b.op("arith.cmpi", [row, d("size0")], "i1", 1, "ult"), turn, fill)

    def turn(
        self, source: Val, line: int, count: Val, first: Val, size: Val, target: Val, most: int | None = None
    ) -> None:
        """Turn `count` (at most `most`) places from `first` on, of `size` that exist, of all lanes' channels: square by square."""
        b, spec, lanes = self.b, self.spec, self.spec.lanes
        used = lanes if most is None else min(lanes, most)
        with b.loop(0, count, lanes) as cs:
            place = b.add(first, cs.index)
            starts = [b.place(source, b.add(self.line(line, lane), place), spec.element) for lane in range(lanes)]

            def loads(mask: Val | None, starts: list[Val] = starts) -> list[Val]:
                return [b.load(start, 0, spec.element, lanes, mask) for start in starts]

            def partly(place: Val = place, loads: Callable[[Val | None], list[Val]] = loads) -> list[Val]:
                at = b.add(b.splat(b.truncate(place, "i32"), lanes), b.iota(lanes, "i32"))
                extent = b.splat(b.truncate(size, "i32"), lanes)
                return loads(b.op("arith.cmpi", [at, extent], "i1", lanes, "ult"))

            inside = b.and_(b.cmp("ge", place, 0), b.cmp("le", b.add(place, lanes), size))
            square = b.if_else(inside, partial(loads, None), partly)
            at = b.address(target, b.mul(cs.index, lanes), spec.element)
            for k, vector in enumerate(transposed(b, square)[:used]):
                b.store(vector, at, k * lanes)
