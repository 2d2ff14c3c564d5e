"""Folds of a row by one block of threads, in the order that every target keeps (docs/architecture.md, "One semantics").

Thread t of a group of 64 is lane t of a chunk of 4096 elements; lanes are halved through shared memory and shuffles,
chunks are combined in pairs. In: what one step does to an accumulator. Out: the result, known to all threads of the
block. Next: `loops.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flambeau.compiler.codegen.gpu.emitter import GpuEmitter
from flambeau.compiler.codegen.reduce import canonical
from flambeau.compiler.codegen.values import Number, Operand, Val
from flambeau.dialects.orders import CHUNK, LANES
from flambeau.dialects.size import Int, Size, ceil_div, maximum

#: Given the column (i64) and the accumulators, the next accumulators.
Step = Callable[[Val, Sequence[Val]], Sequence[Val]]


@dataclass(frozen=True)
class Accumulator:
    """One of the folds that run together: where it starts, its element type, how two of its results combine."""

    identity: Number
    element: str
    combine: Callable[[GpuEmitter, Val, Val], Val]


def chunks_of(count: Int) -> Int:
    return maximum(1, ceil_div(count, CHUNK))


class FoldWriter:
    """Writes folds over rows of `count` elements; `length` is the same number as a value of the kernel. There is `room` for the
    results of so many chunks."""

    def __init__(self, b: GpuEmitter, count: Int, length: Val, room: int) -> None:
        self.b, self.length, self.chunks, self.room = b, length, chunks_of(count), room
        self.groups = b.threads // LANES
        self.lane = b.rem_unsigned(b.thread(), LANES) if self.groups > 1 else b.thread()
        self.group = b.div_unsigned(b.thread(), LANES) if self.groups > 1 else b.const(0, "i64")
        self._exchange: dict[str, Val] = {}

    def run(self, accumulators: Sequence[Accumulator], step: Step) -> list[Val]:
        """The results of folding a whole row."""
        b = self.b
        parts = [b.shared(self.room, a.element) for a in accumulators]
        if self.room <= self.groups:
            self._chunk(self.group, accumulators, parts, step)
        else:
            with b.loop(0, ceil_div(self.chunks, self.groups)) as loop:
                first = b.mul(loop.index, self.groups)
                self._chunk(b.add(first, self.group), accumulators, parts, step)
        for a, part in zip(accumulators, parts, strict=True):
            self._pairs(a, part)
        return [canonical(b, b.load(part, 0, a.element)) for a, part in zip(accumulators, parts, strict=True)]

    def _chunk(self, chunk: Val, accumulators: Sequence[Accumulator], parts: Sequence[Val], step: Step) -> None:
        """Fold one chunk per group of threads into `parts`."""
        b = self.b
        start = b.mul(chunk, CHUNK)
        end = b.minimum(self.length, b.add(start, CHUNK)) if self.room > 1 else self.length
        initial = [b.const(a.identity, a.element) for a in accumulators]
        with b.loop(b.add(start, self.lane), end, LANES, initial) as loop:
            loop.carry(step(loop.index, loop.args))
        for a, part, x in zip(accumulators, parts, loop.results, strict=True):
            self._lanes(a, part, x, chunk)

    def _lanes(self, a: Accumulator, part: Val, x: Val, chunk: Val) -> None:
        """Halve the lanes until one is left: once across warps, then within the first one."""
        b = self.b
        exchange = self._exchange_for(a.element)
        b.store(x, exchange, b.thread())
        b.barrier()
        x = a.combine(b, x, b.load(exchange, b.xor(b.thread(), LANES // 2), a.element))
        for distance in (16, 8, 4, 2, 1):
            x = a.combine(b, x, b.shuffle_down(x, distance))
        is_last = b.cmp("eq", self.lane, 0)
        with b.if_(b.and_(is_last, b.cmp("lt", chunk, self.chunks))):
            b.store(x, part, chunk)
        b.barrier()

    def _exchange_for(self, element: str) -> Val:
        if element not in self._exchange:
            self._exchange[element] = self.b.shared(self.b.threads, element)
        return self._exchange[element]

    def _pairs(self, a: Accumulator, part: Val) -> None:
        b = self.b
        if self.room == 1:
            return
        with b.if_(b.cmp("eq", b.thread(), 0)):
            fold_pairs(b, a, part, self.chunks, self.room, lambda k: k)
        b.barrier()


def fold_pairs(b: GpuEmitter, a: Accumulator, part: Val, count: Int, room: int, at: Callable[[Val], Val]) -> None:
    """Combine neighbours of the `count` elements at(0), at(1), ... of `part` until one is left, at(0); an odd last one is
    carried over. There are at most `room`. Every thread that comes here has elements of its own."""

    def halve(pairs: Operand) -> None:
        with b.loop(0, pairs) as loop:
            first = b.mul(loop.index, 2)
            x, y = b.load(part, at(first), a.element), b.load(part, at(b.add(first, 1)), a.element)
            b.store(a.combine(b, x, y), part, at(loop.index))

    def carry_over(last: Val, to: Val) -> None:
        b.store(b.load(part, at(last), a.element), part, at(to))

    if isinstance(count, Size):
        left = b.const(count, "i64")
        while room > 1:  # with one left, another round changes nothing
            half, rest = b.shru(left, 1), b.and_(left, 1)
            halve(half)
            with b.if_(b.cmp("ne", rest, 0)):
                carry_over(b.sub(left, 1), half)
            left, room = b.add(half, rest), -(-room // 2)
        return
    while count > 1:
        halve(count // 2)
        if count % 2:
            carry_over(b.const(count - 1, "i64"), b.const(count // 2, "i64"))
        count = -(-count // 2)
