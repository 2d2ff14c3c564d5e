"""Folds of a row by one block of threads, in the order that every target keeps (docs/architecture.md, "One semantics").

Thread t of a group of 64 is lane t of a chunk of 4096 elements; lanes are halved through shared memory and shuffles,
chunks are combined in pairs. In: what one step does to an accumulator. Out: the result, known to all threads of the
block. Next: `loops.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flambeau.compiler.codegen.gpu.emitter import GpuEmitter
from flambeau.compiler.codegen.reduce import MonoidFold
from flambeau.compiler.codegen.values import Val
from flambeau.dialects.orders import CHUNK, LANES
from flambeau.dialects.size import Int, ceil_div, maximum

#: Given the column (i64) and the accumulators, the next accumulators.
Step = Callable[[Val, Sequence[Val]], Sequence[Val]]


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

    def run(self, folds: Sequence[MonoidFold], step: Step) -> list[Val]:
        """The results of folding a whole row."""
        b = self.b
        parts = [b.shared(self.room, fold.dtype.mlir) for fold in folds]
        if self.room <= self.groups:
            self._chunk(self.group, folds, parts, step)
        else:
            with b.loop(0, ceil_div(self.chunks, self.groups)) as loop:
                first = b.mul(loop.index, self.groups)
                self._chunk(b.add(first, self.group), folds, parts, step)
        for fold, part in zip(folds, parts, strict=True):
            self._pairs(fold, part)
        return [fold.result(b, part) for fold, part in zip(folds, parts, strict=True)]

    def _chunk(self, chunk: Val, folds: Sequence[MonoidFold], parts: Sequence[Val], step: Step) -> None:
        """Fold one chunk per group of threads into `parts`."""
        b = self.b
        start = b.mul(chunk, CHUNK)
        end = b.minimum(self.length, b.add(start, CHUNK)) if self.room > 1 else self.length
        initial = [fold.identity(b) for fold in folds]
        with b.loop(b.add(start, self.lane), end, LANES, initial) as loop:
            loop.carry(step(loop.index, loop.args))
        for fold, part, x in zip(folds, parts, loop.results, strict=True):
            self._lanes(fold, part, x, chunk)

    def _lanes(self, fold: MonoidFold, part: Val, x: Val, chunk: Val) -> None:
        """Halve the lanes until one is left: once across warps, then within the first one."""
        b = self.b
        exchange = self._exchange_for(fold.dtype.mlir)
        b.store(x, exchange, b.thread())
        b.barrier()
        x = fold.combine(b, x, b.load(exchange, b.xor(b.thread(), LANES // 2), fold.dtype.mlir))
        for distance in (16, 8, 4, 2, 1):
            x = fold.combine(b, x, b.shuffle_down(x, distance))
        is_last = b.cmp("eq", self.lane, 0)
        with b.if_(b.and_(is_last, b.cmp("lt", chunk, self.chunks))):
            b.store(x, part, chunk)
        b.barrier()

    def _exchange_for(self, element: str) -> Val:
        if element not in self._exchange:
            self._exchange[element] = self.b.shared(self.b.threads, element)
        return self._exchange[element]

    def _pairs(self, fold: MonoidFold, part: Val) -> None:
        b = self.b
        if self.room == 1:
            return
        with b.if_(b.cmp("eq", b.thread(), 0)):
            fold.fold_pairs(b, part, self.chunks, self.room)
        b.barrier()
