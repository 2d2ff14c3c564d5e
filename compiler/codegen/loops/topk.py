"""The first of sorted lines, on CPUs, without sorting what is certainly behind them.

In: the nest of a topk and a schedule. Out: its calls. An item goes along a line, or a block of one, and keeps what comes before
the last of the first k so far; when it has no room for more, it sorts what it has and keeps k. Of blocks the first k each are
then sorted. Next: `search.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flambeau.compiler.codegen.emitter import Emitter, Val
from flambeau.compiler.codegen.loops.sort_entries import Entries, position
from flambeau.compiler.codegen.loops.sort_keys import key_bits, sort_key
from flambeau.compiler.codegen.loops.sort_lines import Lines
from flambeau.compiler.codegen.units import LoopNest, Parts
from flambeau.compiler.kernel import KernelCall, Operand
from flambeau.compiler.schedules.kinds import TopK
from flambeau.dialects.dtypes import DType
from flambeau.dialects.size import Int, ceil_div, maximum


def lower(nest: LoopNest, schedule: TopK) -> Parts:
    """The calls of a topk."""
    return _TopK(nest, schedule).parts()


class _TopK:
    """The kernels of one topk. Their dims are the elements of a line, lines beside each other, and blocks of a line."""

    def __init__(self, nest: LoopNest, schedule: TopK) -> None:
        assert nest.node is not None
        (operand,) = nest.node.operands
        _, self.k, largest = nest.node.attrs
        self.form, self.label, self.schedule, self.descending = nest.form, nest.label, schedule, bool(largest)
        self.dtype: DType = nest.fragment.avals[operand].dtype
        self.source = Operand("value", nest.fragment.sources[operand].root)
        self.result = Operand("value", nest.node.results[0])
        self.is_unit = not bool(self.form.columns > 1)
        self.lanes = schedule.lanes if self.is_unit else 1
        self.room = self.k + max(schedule.room, self.lanes)
        self.lines: Int = self.form.batch * self.form.columns
        self.blocks: Int = ceil_div(self.form.count, schedule.block) if schedule.block else 1
        self.each = min(self.k, schedule.block)  # the first ones of a block that is not the last

    def parts(self) -> Parts:
        if not self.schedule.block:
            return Parts([self._lines_call()])
        return Parts([self._blocks_call(), self._compared()], [self.lines * self.blocks * (self.each * 8)])

    # ---- calls -------------------------------------------------------------------------------------------------

    def _lines_call(self) -> KernelCall:
        b = Emitter()
        lines = self._lines(b)
        with b.loop(b.lo, b.hi) as line:
            start = lines.start(line.index)
            entries = self._entries(b, lines, start, b.const(self.room, "i64"))
            found = _Selection(self, b, lines, entries, start).run(b.const(0, "i64"), b.dim(0))
            self._write(b, lines, line.index, entries, found)
        return self._call(b, self.label, (self.source, self.result), self.lines, self.form.count, self.room)

    def _blocks_call(self) -> KernelCall:
        """The first ones of every block."""
        b = Emitter()
        lines, block = self._lines(b), self.schedule.block
        with b.loop(b.lo, b.hi) as item:
            line, first = b.div_unsigned(item.index, b.dim(2)), b.mul(b.rem_unsigned(item.index, b.dim(2)), block)
            start, end = lines.start(line), b.minimum(b.add(first, block), b.dim(0))
            entries = self._entries(b, lines, start, b.const(self.room, "i64"))
            found = _Selection(self, b, lines, entries, start).run(first, end)
            own = b.mul(item.index, self.each)
            with b.loop(0, b.minimum(b.sub(end, first), self.each)) as at:
                b.store(position(b, entries.at(b.add(found, at.index))), b.buffer(1), b.add(own, at.index))
        operands = (self.source, Operand("temp", 0))
        return self._call(b, f"blocks of {self.label}", operands, self.lines * self.blocks, block, self.room)

    def _compared(self) -> KernelCall:
        """The first ones of those of all blocks, which come in the order of the line where they are equal."""
        b = Emitter()
        lines = self._lines(b)
        length, blocks = self.schedule.block, b.dim(2)
        with b.loop(b.lo, b.hi) as line:
            start, own = lines.start(line.index), b.mul(line.index, b.mul(blocks, self.each))
            before = b.sub(blocks, 1)
            left = b.minimum(b.sub(b.dim(0), b.mul(before, length)), self.each)
            entries = self._entries(b, lines, start, b.mul(blocks, self.each))
            kept = lambda at: b.load(b.buffer(1), b.add(own, at), "i64")  # noqa: E731
            found = entries.sort(b.add(b.mul(before, self.each), left), kept)
            self._write(b, lines, line.index, entries, found, 2)
        operands = (self.source, Operand("temp", 0), self.result)
        room = self.blocks * self.each
        return self._call(b, f"first of blocks of {self.label}", operands, self.lines, room, room)

    def _call(
        self, b: Emitter, label: str, operands: tuple[Operand, ...], n: Int, elements: Int, room: Int
    ) -> KernelCall:
        """A call whose last operand is written, with items of so many elements and room for so many entries."""
        return KernelCall(
            b.source(label),
            operands,
            dims=(self.form.count, self.form.columns, self.blocks),
            n=n,
            grain=maximum(1, self.schedule.grain // elements),
            writes=(len(operands) - 1,),
            scratch=Entries.size(room, self.schedule.bits),
        )

    # ---- what they are made of ---------------------------------------------------------------------------------

    def _lines(self, b: Emitter) -> Lines:
        return Lines(b, b.buffer(0), self.dtype, b.dim(0), None if self.is_unit else b.dim(1), self.descending)

    def _entries(self, b: Emitter, lines: Lines, start: Val, room: Val) -> Entries:
        wide = key_bits(self.dtype) > 32
        return Entries(b, b.scratch, room, lambda k: lines.key(start, k), wide, self.schedule.bits)

    def _write(self, b: Emitter, lines: Lines, line: Val, entries: Entries, found: Val, result: int = 1) -> None:
        """The first ones, as they are sorted from `found` on."""
        start = lines.start(line, b.const(self.k, "i64"))
        with b.loop(0, self.k) as at:
            b.store(position(b, entries.at(b.add(found, at.index))), b.buffer(result), lines.place(start, at.index))


@dataclass(frozen=True)
class _Selection:
    """What one item does: positions that may be among the first are kept in the entries, after those that are so far."""

    of: _TopK
    b: Emitter
    lines: Lines
    entries: Entries
    start: Val

    def run(self, first: Val, end: Val) -> Val:
        """Where the first ones of a part of a line begin among the entries, sorted."""
        b, zero = self.b, self.b.const(0, "i64")
        bound = b.const(0, f"i{key_bits(self.of.dtype)}")

        def step(at: Val, kept: Val, bound: Val, _: Val) -> list[Val]:
            fresh = b.cmp("eq", kept, 0)
            at, kept = b.if_else(fresh, lambda: self._filled(at, end), lambda: self._scanned(at, end, kept, bound))
            more = b.or_(fresh, b.cmp("gt", kept, self.of.k))
            place, bound = b.if_else(more, lambda: self._sorted(kept, end, at), lambda: [zero, bound])
            return [at, b.minimum(kept, self.of.k), bound, place]

        return b.while_([first, zero, bound, zero], lambda at, *_: b.cmp("lt", at, end), step)[3]

    def _filled(self, at: Val, end: Val) -> list[Val]:
        """The first elements, as many as there is room for."""
        b = self.b
        count = b.minimum(b.sub(end, at), self.of.room)
        with b.loop(0, count) as k:
            self.entries.put(b.add(at, k.index), k.index)
        return [b.add(at, count), count]

    def _sorted(self, kept: Val, end: Val, at: Val) -> list[Val]:
        """Sort what is kept. If there is more to see, the first ones go in front. Gives their place, and the last one's key."""
        b = self.b
        found = self.entries.sort(kept, lambda k: position(b, self.entries.at(k)))
        last = b.minimum(b.sub(kept, 1), self.of.k - 1)
        bound = self.lines.key(self.start, position(b, self.entries.at(b.add(found, last))))

        def in_front() -> list[Val]:
            with b.loop(0, b.minimum(kept, self.of.k)) as k:
                self.entries.put(self.entries.at(b.add(found, k.index)), k.index)
            return [b.const(0, "i64")]

        return [*b.if_else(b.cmp("lt", at, end), in_front, lambda: [found]), bound]

    def _scanned(self, at: Val, end: Val, kept: Val, bound: Val) -> list[Val]:
        """Go on until there is no room for what a vector may add; what fills no vector, one by one."""
        b, lanes, room = self.b, self.of.lanes, self.of.room
        if lanes > 1:

            def fits(at: Val, kept: Val) -> Val:
                return b.and_(b.cmp("le", b.add(at, lanes), end), b.cmp("le", b.add(kept, lanes), room))

            at, kept = b.while_([at, kept], fits, self._step(bound, lanes))

        def is_left(at: Val, kept: Val) -> Val:
            near = b.and_(b.cmp("lt", at, end), b.cmp("lt", kept, room))
            return b.and_(near, b.cmp("gt", b.add(at, lanes), end)) if lanes > 1 else near

        return b.while_([at, kept], is_left, self._step(bound, 1))

    def _step(self, bound: Val, lanes: int) -> Callable[[Val, Val], list[Val]]:
        b, of = self.b, self.of

        def step(at: Val, kept: Val) -> list[Val]:
            x = b.load(self.lines.source, self.lines.place(self.start, at), of.dtype.mlir, lanes)
            hits = b.cmp("lt", sort_key(b, x, of.descending), b.splat(bound, lanes))
            (kept,) = b.if_else(b.any(hits), lambda: [self._added(at, kept, bound, lanes)], lambda: [kept])
            return [b.add(at, lanes), kept]

        return step

    def _added(self, at: Val, kept: Val, bound: Val, lanes: int) -> Val:
        """Keep those of a vector's elements that come before the last one."""
        b = self.b
        with b.loop(0, lanes, carried=[kept]) as lane:
            place = b.add(at, lane.index)
            self.entries.put(place, lane.args[0])
            is_before = b.cmp("lt", self.lines.key(self.start, place), bound)
            lane.carry([b.add(lane.args[0], b.extend_unsigned(is_before, "i64"))])
        return lane.results[0]
