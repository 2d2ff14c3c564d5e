"""Folding in the order that docs/architecture.md fixes: 64 lanes, chunks of 4096, pairs.

In: the registers of a chunk, or partial results in memory. Out: text that folds them. Next: `loops_rows.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flambeau.compiler.codegen.emitter import Emitter, Val
from flambeau.dialects.dtypes import DType
from flambeau.dialects.graph import Node
from flambeau.dialects.record import Monoid

LANES = 64
CHUNK = 4096
CHAIN = 64


@dataclass(frozen=True)
class Fold:
    """One reduction being emitted: its node, monoid and element type."""

    node: Node
    dtype: DType

    @property
    def monoid(self) -> Monoid:
        return self.node.op.lower

    def identity(self, b: Emitter, lanes: int = 1) -> Val:
        return b.const(self.monoid.identity(self.dtype), self.dtype.mlir, lanes)

    def combine(self, b: Emitter, x: Val, y: Val) -> Val:
        return self.monoid.combine(b, x, y)

    def accumulators(self, b: Emitter, lanes: int) -> list[Val]:
        """The 64 lanes in registers of `lanes`, holding the identity."""
        return [self.identity(b, lanes)] * (LANES // lanes)

    def fold_lanes(self, b: Emitter, registers: list[Val]) -> Val:
        """Halve the lanes pairwise, lane j with lane j + half, down to a scalar."""
        while len(registers) > 1:
            half = len(registers) // 2
            registers = [self.combine(b, x, y) for x, y in zip(registers[:half], registers[half:], strict=True)]
        (x,) = registers
        while x.lanes > 1:
            half = x.lanes // 2
            x = self.combine(b, b.slice_lanes(x, 0, half), b.slice_lanes(x, half, half))
        return x

    def fold_few(self, b: Emitter, registers: list[Val], count: int) -> Val:
        """`fold_lanes` of `count` elements in fewer registers than 64 lanes fill.

        The lanes left out hold the identity, which changes no lane that started from it.
        """
        slots: list[Val | None] = [*registers, *[None] * (LANES // registers[0].lanes - len(registers))]
        while len(slots) > 1:
            half = len(slots) // 2
            slots = [x if y is None else self.combine(b, x, y) for x, y in zip(slots[:half], slots[half:], strict=True)]
        x = slots[0]
        while x.lanes > 1:
            half = x.lanes // 2
            low = b.slice_lanes(x, 0, half)
            x = self.combine(b, low, b.slice_lanes(x, half, half)) if count > half else low
        return x

    def fold_pairs(self, b: Emitter, pointer: Val, count: Val, levels: Val) -> Val:
        """Combine `count` partial results at `pointer` pairwise, in place; `levels` is ceil(log2(count))."""

        def combine(left: Val, right: Val, into: Val) -> None:
            x = self.combine(b, b.load(pointer, left, self.dtype.mlir), b.load(pointer, right, self.dtype.mlir))
            b.store(x, pointer, into)

        def carry(last: Val, into: Val) -> None:
            b.store(b.load(pointer, last, self.dtype.mlir), pointer, into)

        walk_pairs(b, count, levels, combine, carry)
        return b.load(pointer, 0, self.dtype.mlir)


def walk_pairs(
    b: Emitter,
    count: Val,
    levels: Val,
    combine: Callable[[Val, Val, Val], None],
    carry: Callable[[Val, Val], None],
) -> None:
    """The pairwise tree over slots 0..count-1: combine(2i, 2i+1, into i); an odd last slot is carried over."""
    with b.loop(0, levels, carried=[count]) as level:
        (left,) = level.args
        half = b.shru(left, 1)
        with b.loop(0, half) as pair:
            first = b.shl(pair.index, 1)
            combine(first, b.add(first, 1), pair.index)
        with b.if_(b.cmp("ne", b.and_(left, 1), 0)):
            carry(b.sub(left, 1), half)
        level.carry([b.shru(b.add(left, 1), 1)])


def pair_levels(count: int) -> int:
    """Rounds of pairing until one of `count` is left."""
    return max(count - 1, 0).bit_length()
