"""Sorting of entries in memory: a key's 32 bits and a position in one i64, in the order of keys, equal ones as they came.

In: room for the entries twice and for a table of counts; what the key of a position is. Out: text that fills the entries and
sorts them, by insertion where there are few, else digit after digit, from the last one on. Digits in which all entries agree
are passed over. Keys of 64 bits are sorted by their distance from the least one: by its lower 32 bits, then, where there are
any, by the upper ones. Next: `sort.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flambeau.compiler.codegen.emitter import Emitter, Val

#: Bits of a position, and of the part of a key that stands above it.
HALF = 32
_LANES = 8


def digits(bits: int) -> int:
    """How many digits of so many bits 32 bits are."""
    return -(-HALF // bits)


def digit(b: Emitter, entry: Val, shift: Val | int, bits: int) -> Val:
    """A digit of an entry's key."""
    return b.and_(b.shru(entry, shift), (1 << bits) - 1)


def position(b: Emitter, entry: Val) -> Val:
    """The position in an entry."""
    return b.and_(entry, (1 << HALF) - 1)


def packed(b: Emitter, part: Val, at: Val) -> Val:
    """An entry of 32 bits of a key, as an i64 whose upper half does not matter, and a position."""
    return b.or_(b.shl(part, HALF), at)


def counted_up(b: Emitter, table: Val, place: Val) -> None:
    """Add 1 to a count."""
    b.store(b.add(b.load(table, place, "i32"), 1), table, place)


def cleared(b: Emitter, table: Val, size: int) -> None:
    """Make counts 0."""
    lanes = _LANES if size % _LANES == 0 else 1
    with b.loop(0, size, lanes) as at:
        b.store(b.const(0, "i32", lanes), table, at.index)


def summed(b: Emitter, table: Val, start: Val, size: int) -> None:
    """Put the sums of the counts before each in their places."""
    with b.loop(0, size, carried=[b.const(0, "i32")]) as at:
        place = b.add(start, at.index)
        found = b.load(table, place, "i32")
        b.store(at.args[0], table, place)
        at.carry([b.add(at.args[0], found)])


def taken(b: Emitter, table: Val, place: Val) -> Val:
    """Where the next entry of a digit goes."""
    to = b.load(table, place, "i32")
    b.store(b.add(to, 1), table, place)
    return b.extend_unsigned(to, "i64")


def unsigned_part(b: Emitter, key: Val) -> Val:
    """The 32 bits of a key of 32, as an i64 that is not negative and in the order of keys."""
    return b.extend_unsigned(b.xor(key, -(1 << 31)), "i64")


@dataclass(frozen=True)
class Entries:
    """Entries of a thread in `memory`: two sides of `room` each from the second i64 on, and a table behind them.

    `key` gives the key (i32 or i64) of a position; `bits` are those of a digit, 0 for insertion.
    """

    b: Emitter
    memory: Val
    room: Val
    key: Callable[[Val], Val]
    wide: bool
    bits: int

    @staticmethod
    def size(room, bits: int):  # type: ignore[no-untyped-def]
        """Bytes of memory."""
        return 8 + 16 * room + (4 * digits(bits) * (1 << bits) if bits else 0)

    @property
    def sides(self) -> Val:
        return self.b.address(self.memory, 1, "i64")

    def at(self, place: Val) -> Val:
        """The entry in a place, counted from the first side's beginning."""
        return self.b.load(self.sides, place, "i64")

    def put(self, entry: Val, place: Val) -> None:
        self.b.store(entry, self.sides, place)

    def sort(self, count: Val, positions: Callable[[Val], Val]) -> Val:
        """Sort `count` entries, made of `positions`; gives the place where the sorted ones begin."""
        b = self.b
        zero = b.const(0, "i64")
        if not self.wide:
            self._fill(count, zero, lambda k: packed(b, unsigned_part(b, self.key(k)), k), positions)
            return self._sorted(count, zero)
        least, rounds = self._least(count, positions)
        self._fill(count, zero, lambda k: packed(b, b.sub(self.key(k), least), k), positions)
        side = self._sorted(count, zero)
        with b.loop(1, rounds, carried=[side]) as again:
            (start,) = again.args
            upper = lambda k: packed(b, b.shru(b.sub(self.key(k), least), HALF), k)  # noqa: E731
            self._fill(count, start, upper, lambda place: position(b, self.at(b.add(start, place))))
            again.carry([self._sorted(count, start)])
        return again.results[0]

    def _least(self, count: Val, positions: Callable[[Val], Val]) -> tuple[Val, Val]:
        """The least key, and in how many parts of 32 bits keys differ."""
        b = self.b
        first = self.key(positions(b.const(0, "i64")))
        with b.loop(1, count, carried=[first, first]) as at:
            low, high = at.args
            key = self.key(positions(at.index))
            at.carry([b.minimum(low, key), b.maximum(high, key)])
        low, high = at.results
        apart = b.cmp("ne", b.shru(b.sub(high, low), HALF), 0)
        return low, b.select(apart, b.const(2, "i64"), b.const(1, "i64"))

    def _fill(self, count: Val, start: Val, entry: Callable[[Val], Val], positions: Callable[[Val], Val]) -> None:
        with self.b.loop(0, count) as at:
            self.put(entry(positions(at.index)), self.b.add(start, at.index))

    def _sorted(self, count: Val, start: Val) -> Val:
        return self._by_digits(count, start) if self.bits else self._by_insertion(count, start)

    # ---- few ---------------------------------------------------------------------------------------------------

    def _by_insertion(self, count: Val, start: Val) -> Val:
        """Each goes before those that are greater. In front of all is one that is not, so nobody asks where they begin."""
        b = self.b
        self.put(b.const(0, "i64"), b.sub(start, 1))
        with b.loop(1, count) as at:
            entry = self.at(b.add(start, at.index))
            key = b.shru(entry, HALF)

            def before(place: Val) -> Val:
                return self.at(b.sub(place, 1))

            def moved(place: Val) -> list[Val]:
                self.put(before(place), place)
                return [b.sub(place, 1)]

            is_less = lambda place: b.cmp("lt", key, b.shru(before(place), HALF))  # noqa: E731
            (place,) = b.while_([b.add(start, at.index)], is_less, moved)
            self.put(entry, place)
        return start

    # ---- many --------------------------------------------------------------------------------------------------

    def _by_digits(self, count: Val, start: Val) -> Val:
        b, passes, size = self.b, digits(self.bits), 1 << self.bits
        table = b.address(self.sides, b.mul(self.room, 2), "i64")
        cleared(b, table, passes * size)
        with b.loop(0, count) as at:
            entry = self.at(b.add(start, at.index))
            for k in range(passes):
                counted_up(b, table, b.add(digit(b, entry, HALF + k * self.bits, self.bits), k * size))
        with b.loop(0, passes, carried=[start]) as turn:
            (source,) = turn.args
            shift, row = b.add(b.mul(turn.index, self.bits), HALF), b.mul(turn.index, size)
            first = b.load(table, b.add(row, digit(b, self.at(source), shift, self.bits)), "i32")
            agree = b.cmp("eq", b.extend_unsigned(first, "i64"), count)
            turn.carry(b.if_else(agree, lambda: [source], lambda: [self._distribute(count, source, table, shift, row)]))
        return turn.results[0]

    def _distribute(self, count: Val, source: Val, table: Val, shift: Val, row: Val) -> Val:
        """Move entries to the other side, by a digit."""
        b = self.b
        summed(b, table, row, 1 << self.bits)
        other = b.sub(self.room, source)
        with b.loop(0, count) as at:
            entry = self.at(b.add(source, at.index))
            self.put(entry, b.add(other, taken(b, table, b.add(row, digit(b, entry, shift, self.bits)))))
        return other
