"""Folds of a row by one block of threads, in the order that every target keeps (docs/architecture.md, "One semantics").

Thread t of a group of 64 is lane t of a chunk of 4096 elements; lanes are halved through shared memory and shuffles,
chunks are combined in pairs. In: what one step does to an accumulator. Out: the result, known to all threads of the
block. Next: `gpu_loops.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flambeau.compiler.codegen.gpu_emitter import GpuEmitter
from flambeau.compiler.codegen.reduce import canonical
from flambeau.compiler.codegen.values import Number, Val
from flambeau.dialects.orders import CHUNK, LANES

#: Chunks that a block works on at once.
_GROUPS = 4
#: More chunks than this would not fit shared memory.
_MOST_CHUNKS = 2048

#: Given the column (i64) and the accumulators, the next accumulators.
Step = Callable[[Val, Sequence[Val]], Sequence[Val]]


@dataclass(frozen=True)
class Accumulator:
    """One of the folds that run together: where it starts, its element type, how two of its results combine."""

    identity: Number
    element: str
    combine: Callable[[GpuEmitter, Val, Val], Val]


def chunks_of(count: int) -> int:
    return max(1, -(-count // CHUNK))


def threads_for(count: int) -> int:
    """Threads per block for rows of `count` elements."""
    return LANES * min(_GROUPS, chunks_of(count))


class Fold:
    """Writes folds over rows of `count` elements; `length` is the same number as a value of the kernel.

    Raises ValueError where rows are too long.
    """

    def __init__(self, b: GpuEmitter, count: int, length: Val) -> None:
        self.b, self.length, self.chunks = b, length, chunks_of(count)
        if self.chunks > _MOST_CHUNKS:
            raise ValueError(
                f"[gpu] a row of {count} elements is longer than {CHUNK * _MOST_CHUNKS}. Reduce in two steps."
            )
        self.groups = b.threads // LANES
        self.lane = b.rem_unsigned(b.thread(), LANES) if self.groups > 1 else b.thread()
        self.group = b.div_unsigned(b.thread(), LANES) if self.groups > 1 else b.const(0, "i64")
        self._exchange: dict[str, Val] = {}

    def run(self, accumulators: Sequence[Accumulator], step: Step) -> list[Val]:
        """The results of folding a whole row."""
        b = self.b
        parts = [b.shared(self.chunks, a.element) for a in accumulators]
        rounds = -(-self.chunks // self.groups)
        if rounds == 1:
            self._chunk(self.group, accumulators, parts, step)
        else:
            with b.loop(0, rounds) as loop:
                first = b.mul(loop.index, self.groups)
                self._chunk(b.add(first, self.group), accumulators, parts, step)
        for a, part in zip(accumulators, parts, strict=True):
            self._pairs(a, part)
        return [canonical(b, b.load(part, 0, a.element)) for a, part in zip(accumulators, parts, strict=True)]

    def _chunk(self, chunk: Val, accumulators: Sequence[Accumulator], parts: Sequence[Val], step: Step) -> None:
        """Fold one chunk per group of threads into `parts`."""
        b = self.b
        start = b.mul(chunk, CHUNK)
        end = b.minimum(self.length, b.add(start, CHUNK)) if self.chunks > 1 else self.length
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
        """Combine neighbouring chunks until one is left; an odd last one is carried over."""
        b, left = self.b, self.chunks
        if left == 1:
            return
        with b.if_(b.cmp("eq", b.thread(), 0)):
            while left > 1:
                self._halve(a, part, left // 2)
                if left % 2:
                    b.store(b.load(part, left - 1, a.element), part, left // 2)
                left = -(-left // 2)
        b.barrier()

    def _halve(self, a: Accumulator, part: Val, pairs: int) -> None:
        b = self.b
        with b.loop(0, pairs) as loop:
            at = b.mul(loop.index, 2)
            x, y = b.load(part, at, a.element), b.load(part, b.add(at, 1), a.element)
            b.store(a.combine(b, x, y), part, loop.index)
