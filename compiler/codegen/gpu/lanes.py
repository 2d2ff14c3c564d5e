"""The 64 lanes of folds as threads: thread t of a group of 64 is lane t, a block of threads has a row.

Groups take chunks in turns. Lanes reach one another through workgroup memory once, across warps, then by shuffles; chunks leave
there what they give, so that all threads know it. In: an emitter, and the length of rows. Out: `ThreadLanes`.
Next: `../lane_folds.py`, what is done with them; `loops.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from flambeau.compiler.codegen.gpu.emitter import WARP, GpuEmitter
from flambeau.compiler.codegen.lane_folds import Elements, Lanes, Span, chunks_of
from flambeau.compiler.codegen.reduce import MonoidFold
from flambeau.compiler.codegen.values import Val
from flambeau.dialects.orders import CHUNK, LANES
from flambeau.dialects.size import Int, ceil_div


class ThreadLanes(Lanes):
    """Those of rows of `count` elements; `length` is the same number as a value of the kernel. There is `room` for what so many
    chunks give."""

    held = LANES

    def __init__(self, b: GpuEmitter, count: Int, length: Val, room: int) -> None:
        super().__init__(b)
        self.b: GpuEmitter = b
        self.length, self.count, self.room = length, chunks_of(count), room
        self.slots = self.count, room
        self.groups = b.threads // LANES
        self.lane = b.rem_unsigned(b.thread(), LANES) if self.groups > 1 else b.thread()
        self.group = b.div_unsigned(b.thread(), LANES) if self.groups > 1 else b.const(0, "i64")
        self._exchange: dict[str, Val] = {}
        self._unread: set[str] = set()  # exchanges that some thread may still have to read

    # ---- chunks ------------------------------------------------------------------------------------------------

    def staging(self, folds: Sequence[MonoidFold]) -> list[Val]:
        return [self.b.shared(self.room, fold.dtype.mlir) for fold in folds]

    @contextmanager
    def chunks(self) -> Iterator[Val]:
        b = self.b
        if self.room <= self.groups:
            yield self.group
            return
        with b.apart(), b.loop(0, ceil_div(self.count, self.groups)) as loop:
            first = b.mul(loop.index, self.groups)
            yield b.add(first, self.group)

    def span(self, chunk: Val) -> Span:
        b = self.b
        start = b.mul(chunk, CHUNK)
        return start, b.minimum(self.length, b.add(start, CHUNK)) if self.room > 1 else self.length

    def put(self, results: Iterable[Val], parts: Sequence[Val], chunk: Val) -> None:
        b, results = self.b, list(results)
        is_last = b.cmp("eq", self.lane, 0)
        with b.if_(b.and_(is_last, b.cmp("lt", chunk, self.count))):
            for x, part in zip(results, parts, strict=True):
                b.store(x, part, chunk)
        self._barrier()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self.b.if_(self.b.cmp("eq", self.b.thread(), 0)):
            yield
        self._barrier()

    # ---- columns -----------------------------------------------------------------------------------------------

    def walk(self, span: Span, folds: Sequence[MonoidFold], elements: Elements) -> list[list[Val]]:
        b, (start, end) = self.b, span
        initial = [fold.identity(b) for fold in folds]
        with b.apart(), b.loop(b.add(start, self.lane), end, LANES, initial) as loop:
            place = elements.at(loop.index)
            takes = zip(folds, loop.args, strict=True)
            totals = [elements.combine(fold, t, elements.element(place, fold)) for fold, t in takes]
            elements.store(place)
            loop.carry(totals)
        return [[x] for x in loop.results]

    def low(self, x: Val, half: int) -> Val:
        return x  # every thread has its own, and those of lanes behind `half` go on for nobody

    def upper(self, x: Val, half: int) -> Val:
        b = self.b
        if half < WARP:
            return b.shuffle_down(x, half)
        if x.type in self._unread:
            self._barrier()
        if x.type not in self._exchange:
            self._exchange[x.type] = b.shared(b.threads, x.type)
        exchange = self._exchange[x.type]
        b.store(x, exchange, b.thread())
        self._barrier()
        self._unread.add(x.type)
        return b.load(exchange, b.xor(b.thread(), half), x.type)

    def _barrier(self) -> None:
        self.b.barrier()
        self._unread.clear()
