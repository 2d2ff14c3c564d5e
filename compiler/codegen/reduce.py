"""Folds being emitted: how one takes an element, and combines partial results in pairs.

In: what lanes hold, or partial results in memory. Out: text that folds them. Next: `lane_folds.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flambeau.compiler.codegen.emitter import Emitter, Val
from flambeau.compiler.codegen.fragment import Fragment
from flambeau.compiler.codegen.memory import Index
from flambeau.compiler.codegen.values import float_bits
from flambeau.dialects.dtypes import DType
from flambeau.dialects.graph import Node
from flambeau.dialects.orders import LANES
from flambeau.dialects.record import Monoid
from flambeau.dialects.size import Int, Size
from flambeau.dialects.tape.nan import canonical


@dataclass(frozen=True)
class MonoidFold:
    """A fold being emitted, on whatever machine: its monoid and element type."""

    monoid: Monoid
    dtype: DType

    def identity(self, b: Emitter, lanes: int = 1) -> Val:
        return b.const(self.monoid.identity(self.dtype), self.dtype.mlir, lanes)

    def combine(self, b: Emitter, x: Val, y: Val) -> Val:
        """One step, on elements or on lanes (keys are integers: the same monoid)."""
        return self.monoid.combine(b, x, y)

    def leave(self, b: Emitter, x: Val) -> Val:
        """What a lane holds, as an element."""
        return x

    def fold_pairs(
        self,
        b: Emitter,
        pointer: Val,
        count: Val | Int,
        most: int = 0,
        at: Callable[[Val], Val] = lambda slot: slot,
    ) -> None:
        """Combine `count` (at least 1) partial results pairwise, in place, until one is left in slot 0: slot k is element
        `at(k)` of `pointer`. `most`: see `walk_pairs`."""

        def combine(left: Val, right: Val, into: Val) -> None:
            x, y = (b.load(pointer, at(slot), self.dtype.mlir) for slot in (left, right))
            b.store(self.combine(b, x, y), pointer, at(into))

        def carry(last: Val, into: Val) -> None:
            b.store(b.load(pointer, at(last), self.dtype.mlir), pointer, at(into))

        walk_pairs(b, count, combine, carry, most)

    def result(self, b: Emitter, pointer: Val, slot: Index = 0) -> Val:
        """What is left when pairs are folded."""
        return canonical(b, b.load(pointer, slot, self.dtype.mlir))


@dataclass(frozen=True)
class Reduction(MonoidFold):
    """One that is all of a node of a fragment."""

    node: Node

    @classmethod
    def of(cls, fragment: Fragment, node: Node) -> Reduction:
        return cls(node.op.lower, fragment.avals[node.operands[0]].dtype, node)

    # ---- lanes: extremes of floats are folded as integers in the same order -----------------------------------

    @property
    def uses_keys(self) -> bool:
        return self.node.op.name in ("max", "min") and self.dtype.is_floating_point

    def lane(self, b: Emitter, x: Val) -> Val:
        """Elements as the lanes hold them."""
        return ordered_key(b, x, self.node.op.name == "max") if self.uses_keys else x

    def lane_identity(self, b: Emitter, lanes: int) -> Val:
        if not self.uses_keys:
            return self.identity(b, lanes)
        bits = float_bits(self.monoid.identity(self.dtype), self.dtype.mlir)
        width = self.dtype.itemsize * 8
        signed = bits - (1 << width) if bits >> (width - 1) else bits
        return b.const(signed ^ (signed >> width & ~(-1 << (width - 1))), f"i{width}", lanes)

    def leave(self, b: Emitter, x: Val) -> Val:
        return canonical(b, from_ordered_key(b, x, self.dtype.mlir) if self.uses_keys else x)

    def accumulators(self, b: Emitter, lanes: int) -> list[Val]:
        """The 64 lanes in registers of `lanes`, holding the identity."""
        return [self.lane_identity(b, lanes)] * (LANES // lanes)


def ordered_key(b: Emitter, x: Val, nan_is_greatest: bool) -> Val:
    """Integers in the order of the floats x, -0 before +0, every NaN at the end that wins: one comparison decides."""
    width = x.bits
    bits = b.bitcast(x, f"i{width}")
    winner = (1 << (width - 1)) - 1 if nan_is_greatest else -1  # the bits of a NaN, positive or negative
    return b.ordered(b.select(b.is_nan(x), winner, bits))


def from_ordered_key(b: Emitter, key: Val, element: str) -> Val:
    return b.bitcast(b.ordered(key), element)


def walk_pairs(
    b: Emitter,
    count: Val | Int,
    combine: Callable[[Val, Val, Val], None],
    carry: Callable[[Val, Val], None],
    most: int = 0,
) -> None:
    """The pairwise tree over slots 0..count-1: combine(2i, 2i+1, into i); an odd last slot is carried over.

    Levels are a loop, or text one after the other: of a count that is known, and of one that is no more than `most`.
    """
    if isinstance(count, Val):
        with b.loop(0, b.bit_length(b.sub(count, 1)), carried=[count]) as level:
            level.carry([_halved(b, level.args[0], combine, carry)])
        return
    left: Any = b.const(count, "i64") if isinstance(count, Size) else count
    most = most if isinstance(count, Size) else count
    while most > 1:  # with one left, another level changes nothing
        left, most = _halved(b, left, combine, carry), -(-most // 2)


def _halved(b: Emitter, left: Any, combine: Callable[[Val, Val, Val], None], carry: Callable[[Val, Val], None]) -> Any:
    """One level: how many slots of `left` (i64, or an int) there are then."""
    is_known = isinstance(left, int)
    half: Any = left // 2 if is_known else b.shru(left, 1)
    with b.loop(0, half) as pair:
        first = b.shl(pair.index, 1)
        combine(first, b.add(first, 1), pair.index)
    if is_known:
        if left % 2:
            carry(b.const(left - 1, "i64"), b.const(half, "i64"))
        return half + left % 2
    with b.if_(b.cmp("ne", b.and_(left, 1), 0)):
        carry(b.sub(left, 1), half)
    return b.shru(b.add(left, 1), 1)
