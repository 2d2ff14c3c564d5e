"""Offsets in a plan's arena: a best-fit allocator that runs at compile time, in step order.

In: sizes as they come to life and die. Out: offsets, and the size of the whole. Next: `plan.py`.
"""

from __future__ import annotations

from bisect import bisect_left, insort

ALIGN = 64


def aligned(size: int) -> int:
    """`size` rounded up to whole cache lines; an empty block still has a place of its own."""
    return max(ALIGN, -(-size // ALIGN) * ALIGN)


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
