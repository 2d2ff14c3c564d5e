"""Offsets in a plan's arena: a best-fit allocator that runs at compile time, in step order.

In: sizes as they come to life and die. Out: offsets, and the size of the whole. Blocks whose size depends on symbols lie
behind all others; there a hole is used for a block that fits it for all values of the symbols. Next: `plan.py`.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from flambeau.dialects.size import Int, Size, at_most, hint, same

ALIGN = 64


def aligned(size: int) -> int:
    """`size` rounded up to whole cache lines; an empty block still has a place of its own."""
    return max(ALIGN, -(-size // ALIGN) * ALIGN)


class Arenas:
    """An arena for blocks of known size and, behind it, one for those whose size depends on symbols."""

    def __init__(self) -> None:
        self.known, self.symbolic = Arena(), SymbolicArena()

    def take(self, size: Int) -> Int:
        """A place for `size` bytes; `offset` says where that is."""
        return self.symbolic.take(size) if isinstance(size, Size) else self.known.take(size)

    def give(self, place: Int, size: Int) -> None:
        """The block of `size` bytes at `place` is free again."""
        if isinstance(size, Size):
            self.symbolic.give(place, size)
        elif not isinstance(place, Size):
            self.known.give(place, size)

    def offset(self, place: Int, size: Int) -> Int:
        """Where the block of `size` bytes at `place` lies, once all have been placed."""
        return self.known.size + place if isinstance(size, Size) else place

    @property
    def size(self) -> Int:
        return self.known.size + self.symbolic.size


class SymbolicArena:
    """Like `Arena`, for sizes in symbols: of the holes that are certainly large enough, the one that is tightest for the
    values at hand. Nothing is asked about sizes, so places never narrow what a plan serves. A block may turn out empty,
    and then shares its place: nobody touches it."""

    def __init__(self) -> None:
        self.size: Int = 0
        self._holes: dict[Int, Int] = {}  # offset -> size

    def take(self, size: Size) -> Int:
        """A place for `size` bytes, aligned to 64."""
        whole = _rounded(size)
        fitting = [offset for offset, hole in self._holes.items() if at_most(whole, hole)]
        if fitting:
            offset = min(fitting, key=lambda o: hint(self._holes[o]))
            rest = self._holes.pop(offset) - whole
            if not same(rest, 0):
                self._holes[offset + whole] = rest
            return offset
        offset = self._growing(whole)
        self.size = offset + whole
        return offset

    def give(self, offset: Int, size: Size) -> None:
        """The block of `size` bytes at `offset` is free again; neighbouring holes merge."""
        whole: Int = _rounded(size)
        whole = whole + self._holes.pop(offset + whole, 0)
        before = next((o for o, hole in self._holes.items() if same(o + hole, offset)), None)
        if before is None:
            self._holes[offset] = whole
        else:
            self._holes[before] = self._holes[before] + whole

    def _growing(self, size: Int) -> Int:
        """The start of the hole at the end, which is taken to become part of a larger block; else the end."""
        for offset, hole in self._holes.items():
            if same(offset + hole, self.size) and at_most(hole, size):
                del self._holes[offset]
                return offset
        return self.size


def _rounded(size: Size) -> Int:
    return (size + (ALIGN - 1)) // ALIGN * ALIGN


class Arena:
    """Blocks are taken from the tightest hole that holds them, else from the end; neighbouring holes merge."""

    def __init__(self) -> None:
        self.size = 0
        self._holes: list[tuple[int, int]] = []  # (size, offset), sorted
        self._starts: dict[int, int] = {}  # offset -> size of the hole that starts there
        self._ends: dict[int, int] = {}  # offset -> size of the hole that ends there

    def take(self, size: int) -> int:
        """A place for `size` bytes, aligned to 64."""
        size = aligned(size)
        at = bisect_left(self._holes, (size, 0))
        if at < len(self._holes):
            hole, offset = self._holes[at]
            self._remove(hole, offset)
            if hole > size:
                self._insert(hole - size, offset + size)
            return offset
        tail = self._ends.get(self.size, 0)  # a hole at the end grows
        if tail:
            self._remove(tail, self.size - tail)
        offset = self.size - tail
        self.size = offset + size
        return offset

    def give(self, offset: int, size: int) -> None:
        """The block of `size` bytes at `offset` is free again."""
        size = aligned(size)
        before = self._ends.get(offset, 0)
        if before:
            self._remove(before, offset - before)
        after = self._starts.get(offset + size, 0)
        if after:
            self._remove(after, offset + size)
        self._insert(before + size + after, offset - before)

    def _insert(self, size: int, offset: int) -> None:
        insort(self._holes, (size, offset))
        self._starts[offset] = size
        self._ends[offset + size] = size

    def _remove(self, size: int, offset: int) -> None:
        del self._holes[bisect_left(self._holes, (size, offset))]
        del self._starts[offset]
        del self._ends[offset + size]
