"""Sorting of long lines by blocks of them: for every digit the blocks' counts, their sums, and the blocks' entries moved.

In: the nest of a sort. Out: its calls. Entries, counts and what is known of a line lie in buffers of the plan, and blocks are items
of parallel loops; where an entry goes depends on the counts alone, so on no thread. Next: `sort_entries.py`, what a digit is.
"""

from __future__ import annotations

from flambeau.compiler.codegen.emitter import Emitter, Val
from flambeau.compiler.codegen.loops.sort_entries import (
    HALF,
    cleared,
    counted_up,
    digit,
    digits,
    packed,
    position,
    taken,
    unsigned_part,
)
from flambeau.compiler.codegen.loops.sort_lines import Lines
from flambeau.compiler.codegen.units import LoopNest, Parts
from flambeau.compiler.kernel import KernelCall, Operand
from flambeau.compiler.schedules.kinds import Sort
from flambeau.dialects.dtypes import DType
from flambeau.dialects.size import Int, ceil_div, maximum

#: Buffers: entries (two sides), counts (block by block), words (of a line).
_ENTRIES, _COUNTS, _WORDS = (Operand("temp", k) for k in range(3))
#: Words of a line: the least key, whether others differ from it in more than 32 bits, then the side before every digit.
_LEAST, _APART, _SIDES = range(3)


class Blocks:
    """The calls of one sort. Their dims are the elements of a line, lines beside each other, blocks of a line, all elements,
    then what differs: a digit's number and its shift in an entry."""

    def __init__(
        self,
        nest: LoopNest,
        schedule: Sort,
        dtype: DType,
        operands: tuple[Operand, Operand],
        is_unit: bool,
        descending: bool,
    ) -> None:
        self.form, self.label, self.schedule, self.dtype = nest.form, nest.label, schedule, dtype
        self.source, self.result = operands
        self.is_unit, self.descending = is_unit, descending
        self.wide = dtype.bits == 64
        self.bits, self.size, self.passes = schedule.bits, 1 << schedule.bits, digits(schedule.bits)
        self.turns = self.passes * (2 if self.wide else 1)
        self.words = _SIDES + self.turns + 1
        self.lines: Int = self.form.batch * self.form.columns
        self.blocks: Int = ceil_div(self.form.count, schedule.block)
        self.total: Int = self.lines * self.form.count

    def parts(self) -> Parts:
        calls = [self._ranges(), self._least()] if self.wide else []
        for turn in range(self.turns):
            calls += [self._counted(turn), self._summed(turn), self._moved(turn)]
        temps: list[Int] = [self.total * 16, self.lines * self.blocks * (self.size * 4), self.lines * (self.words * 8)]
        return Parts(calls, temps)

    # ---- calls -------------------------------------------------------------------------------------------------

    def _call(
        self,
        b: Emitter,
        what: str,
        operands: tuple[Operand, ...],
        writes: tuple[int, ...],
        turn: int,
        per_line: bool = False,
    ) -> KernelCall:
        """A call over blocks, or over lines."""
        shift = HALF + turn % self.passes * self.bits
        items = self.lines if per_line else self.lines * self.blocks
        return KernelCall(
            b.source(f"{what} of {self.label}"),
            operands,
            dims=(self.form.count, self.form.columns, self.blocks, self.total, turn, shift),
            n=items,
            grain=1 if per_line else maximum(1, self.schedule.grain // self.schedule.block),
            writes=writes,
        )

    def _ranges(self) -> KernelCall:
        """The least and the greatest key of every block, where its counts will be."""
        b = Emitter()
        lines = self._lines(b, b.buffer(0))
        ranges = b.buffer(1)
        with b.loop(b.lo, b.hi) as item:
            line, _, first, end = self._block(b, item.index)
            start = lines.start(line)
            key = lines.key(start, first)
            with b.loop(b.add(first, 1), end, carried=[key, key]) as k:
                found = lines.key(start, k.index)
                k.carry([b.minimum(k.args[0], found), b.maximum(k.args[1], found)])
            at = b.mul(item.index, 2)
            b.store(k.results[0], ranges, at)
            b.store(k.results[1], ranges, b.add(at, 1))
        return self._call(b, "ranges", (self.source, _ENTRIES), (1,), 0)

    def _least(self) -> KernelCall:
        b = Emitter()
        ranges, words = b.buffer(0), b.buffer(1)
        with b.loop(b.lo, b.hi) as line:
            first = b.mul(line.index, b.dim(2))
            least = lambda block: b.load(ranges, b.mul(b.add(first, block), 2), "i64")  # noqa: E731
            most = lambda block: b.load(ranges, b.add(b.mul(b.add(first, block), 2), 1), "i64")  # noqa: E731
            zero = b.const(0, "i64")
            with b.loop(1, b.dim(2), carried=[least(zero), most(zero)]) as block:
                low, high = block.args
                block.carry([b.minimum(low, least(block.index)), b.maximum(high, most(block.index))])
            low, high = block.results
            self._say(b, words, line.index, _LEAST, low)
            apart = b.cmp("ne", b.shru(b.sub(high, low), HALF), 0)
            self._say(b, words, line.index, _APART, b.extend_unsigned(apart, "i64"))
        return self._call(b, "sums of ranges", (_ENTRIES, _WORDS), (1,), 0, per_line=True)

    def _counted(self, turn: int) -> KernelCall:
        """The counts of a digit in every block; before the first digit of 32 bits, entries are made."""
        b = Emitter()
        entries, counts = b.buffer(1), b.buffer(2)
        words = b.buffer(3) if turn or self.wide else counts  # nothing has been said of lines yet
        lines = self._lines(b, b.buffer(0))
        first_turn, begins = turn == 0, turn % self.passes == 0
        with b.loop(b.lo, b.hi) as item:
            line, _, first, end = self._block(b, item.index)

            def count(line: Val = line, first: Val = first, end: Val = end, number: Val = item.index) -> None:
                own = b.address(counts, b.mul(number, self.size), "i32")
                cleared(b, own, self.size)
                base = b.mul(line, b.dim(0)) if first_turn else self._side(b, words, line, b.dim(4))
                start = lines.start(line)
                with b.loop(first, end) as k:
                    place = b.add(base, k.index)
                    if begins:
                        at = k.index if first_turn else position(b, b.load(entries, place, "i64"))
                        entry = packed(b, self._part(b, lines.key(start, at), words, line, turn), at)
                        b.store(entry, entries, place)
                    else:
                        entry = b.load(entries, place, "i64")
                    counted_up(b, own, digit(b, entry, b.dim(5), self.bits))

            if turn < self.passes:
                count()
            else:
                with b.if_(self._apart(b, words, line)):
                    count()
        operands = (self.source, _ENTRIES, _COUNTS, *([_WORDS] if turn or self.wide else []))
        return self._call(b, "counts", operands, (1, 2) if begins else (2,), turn)

    def _summed(self, turn: int) -> KernelCall:
        """Where every block's entries of a digit go; and the side on which all are then."""
        b = Emitter()
        counts, words = b.buffer(0), b.buffer(1)
        with b.loop(b.lo, b.hi) as line:
            side = b.const(0, "i64") if turn == 0 else self._said(b, words, line.index, b.add(b.dim(4), _SIDES))
            if turn == 0:
                self._say(b, words, line.index, _SIDES, side)

            def total(line: Val = line.index) -> list[Val]:
                return [self._sum(b, counts, line)]

            agree = (
                total()[0]
                if turn < self.passes
                else b.if_else(self._apart(b, words, line.index), total, lambda: [b.const(True, "i1")])[0]
            )
            after = b.select(agree, side, b.xor(side, 1))
            self._say(b, words, line.index, b.add(b.dim(4), _SIDES + 1), after)
        return self._call(b, "sums", (_COUNTS, _WORDS), (0, 1), turn, per_line=True)

    def _sum(self, b: Emitter, counts: Val, line: Val) -> Val:
        """Sum counts, digit by digit and in a digit block by block; whether all entries have one digit."""
        blocks, start = b.dim(2), b.mul(b.mul(line, b.dim(2)), self.size)
        with b.loop(0, self.size, carried=[b.const(0, "i32"), b.const(False, "i1")]) as number:
            before, agree = number.args
            with b.loop(0, blocks, carried=[before]) as block:
                at = b.add(b.add(start, b.mul(block.index, self.size)), number.index)
                found = b.load(counts, at, "i32")
                b.store(block.args[0], counts, at)
                block.carry([b.add(block.args[0], found)])
            own = b.extend_unsigned(b.sub(block.results[0], before), "i64")
            number.carry([block.results[0], b.or_(agree, b.cmp("eq", own, b.dim(0)))])
        return number.results[1]

    def _moved(self, turn: int) -> KernelCall:
        """Every block's entries moved to where those of their digit go; at last, positions to the result."""
        b = Emitter()
        is_last = turn == self.turns - 1
        entries, counts, words = b.buffer(0), b.buffer(1), b.buffer(2)
        lines = self._lines(b, entries)
        with b.loop(b.lo, b.hi) as item:
            line, _, first, end = self._block(b, item.index)
            base = self._side(b, words, line, b.dim(4))
            own = b.address(counts, b.mul(item.index, self.size), "i32")
            target = lines.start(line) if is_last else self._side(b, words, line, b.add(b.dim(4), 1))

            def move(place: Val, entry: Val, target: Val = target) -> None:
                if is_last:
                    b.store(position(b, entry), b.buffer(3), lines.place(target, place))
                else:
                    b.store(entry, entries, b.add(target, place))

            def distribute(
                own: Val = own, base: Val = base, first: Val = first, end: Val = end, move=move
            ) -> list[Val]:  # type: ignore[no-untyped-def]
                with b.loop(first, end) as k:
                    entry = b.load(entries, b.add(base, k.index), "i64")
                    move(taken(b, own, digit(b, entry, b.dim(5), self.bits)), entry)
                return []

            def keep(base: Val = base, first: Val = first, end: Val = end, move=move) -> list[Val]:  # type: ignore[no-untyped-def]
                with b.loop(first, end) as k:
                    move(k.index, b.load(entries, b.add(base, k.index), "i64"))
                return []

            if not is_last:
                with b.if_(b.cmp("ne", base, target)):
                    distribute()
            elif self.wide:
                b.if_else(self._apart(b, words, line), distribute, keep)
            else:
                distribute()
        operands = (_ENTRIES, _COUNTS, _WORDS, *([self.result] if is_last else []))
        return self._call(b, "entries", operands, (1, 3) if is_last else (0, 1), turn)

    # ---- what is read --------------------------------------------------------------------------------------------

    def _lines(self, b: Emitter, source: Val) -> Lines:
        return Lines(b, source, self.dtype, b.dim(0), None if self.is_unit else b.dim(1), self.descending)

    def _block(self, b: Emitter, item: Val) -> tuple[Val, Val, Val, Val]:
        """Line, block, and the first and last place of an item."""
        line, block = b.div_unsigned(item, b.dim(2)), b.rem_unsigned(item, b.dim(2))
        first = b.mul(block, self.schedule.block)
        return line, block, first, b.minimum(b.add(first, self.schedule.block), b.dim(0))

    def _part(self, b: Emitter, key: Val, words: Val, line: Val, turn: int) -> Val:
        """The part of a key that entries have from a turn on."""
        if not self.wide:
            return unsigned_part(b, key)
        apart = b.sub(key, self._said(b, words, line, _LEAST))
        return apart if turn == 0 else b.shru(apart, HALF)

    def _said(self, b: Emitter, words: Val, line: Val, word: Val | int) -> Val:
        return b.load(words, b.add(b.mul(line, self.words), word), "i64")

    def _say(self, b: Emitter, words: Val, line: Val, word: Val | int, x: Val) -> None:
        b.store(x, words, b.add(b.mul(line, self.words), word))

    def _apart(self, b: Emitter, words: Val, line: Val) -> Val:
        return b.cmp("ne", self._said(b, words, line, _APART), 0)

    def _side(self, b: Emitter, words: Val, line: Val, turn: Val) -> Val:
        """Where a line's entries are before a turn."""
        side = self._said(b, words, line, b.add(turn, _SIDES))
        return b.add(b.mul(side, b.dim(3)), b.mul(line, b.dim(0)))
