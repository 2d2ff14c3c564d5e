"""Lanes that take the columns of a nest's rows: whole blocks of 64, then what is left under masks.

In: a `Nest`. Out: `RowLanes`, and what they take. Chunks leave what they give in the thread's scratch. Next: `rows.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from flambeau.compiler.codegen.emitter import Val
from flambeau.compiler.codegen.lane_folds import Elements, Span
from flambeau.compiler.codegen.loops.nest import Nest
from flambeau.compiler.codegen.loops.points import Point, Row
from flambeau.compiler.codegen.loops.walks import store_point, streamed_or_not, whole_blocks
from flambeau.compiler.codegen.reduce import Reduction
from flambeau.compiler.codegen.vector_lanes import VectorLanes
from flambeau.dialects.orders import CHUNK, LANES
from flambeau.dialects.size import ceil_div


class RowLanes(VectorLanes):
    """The lanes of a row's folds. A round of the loop advances the first `interleave` registers of every fold."""

    def __init__(self, nest: Nest, interleave: int) -> None:
        super().__init__(nest.b, nest.lanes)
        self.nest, self.interleave = nest, interleave
        self.is_staged = nest.cols > CHUNK

    # ---- chunks ------------------------------------------------------------------------------------------------

    def whole(self) -> Span:
        return self.b.const(0, "i64"), self._cols()

    def _cols(self) -> Val:
        return self.nest.number(self.nest.cols, "cols")

    def staging(self, folds: Sequence[Reduction]) -> list[Val]:
        count = ceil_div(self.nest.cols, CHUNK)
        self.slots = self.nest.number(count, "chunks"), 0
        return [self.nest.reserve(count * fold.dtype.itemsize) for fold in folds]

    @contextmanager
    def chunks(self) -> Iterator[Val]:
        with self.b.apart(), self.b.loop(0, self.slots[0]) as chunk:
            yield chunk.index

    def span(self, chunk: Val) -> Span:
        lo = self.b.mul(chunk, CHUNK)
        return lo, self.b.minimum(self.b.add(lo, CHUNK), self._cols())

    def put(self, results: Iterable[Val], parts: Sequence[Val], chunk: Val) -> None:
        for part, result in zip(parts, list(results), strict=True):
            self.b.store(result, part, chunk)

    # ---- columns -----------------------------------------------------------------------------------------------

    def walk(self, span: Span, folds: Sequence[Reduction], elements: Elements) -> list[list[Val]]:
        b, lanes, (lo, hi) = self.b, self.held, span
        copies = LANES // lanes
        with b.apart():
            main = whole_blocks(b, lo, hi, LANES)
            registers = [fold.accumulators(b, lanes) for fold in folds]
            registers = self._blocks((lo, main), folds, registers, elements)
            with b.loop(main, hi, lanes, carried=_flat(registers)) as tail:
                mask = b.tail_mask(b.sub(hi, tail.index), lanes)
                place = elements.at(tail.index, mask)
                registers = _groups(tail.args, copies)
                for fold, mine in zip(folds, registers, strict=True):
                    x = b.select(mask, elements.element(place, fold), fold.lane_identity(b, lanes))
                    for copy in range(copies):
                        here = b.cmp("eq", b.sub(tail.index, main), copy * lanes)
                        mine[copy] = b.select(here, elements.combine(fold, mine[copy], x), mine[copy])
                elements.store(place)
                tail.carry(_flat(registers))
        return _groups(tail.results, copies)

    def _blocks(
        self, span: Span, folds: Sequence[Reduction], registers: list[list[Val]], elements: Elements
    ) -> list[list[Val]]:
        """Whole blocks of 64: a round writes the body once for each of the first `interleave` registers, and then the registers
        take turns."""
        b, lanes, interleave = self.b, self.held, self.interleave
        copies = LANES // lanes

        def blocks() -> list[Val]:
            with b.loop(*span, interleave * lanes, carried=_flat(registers)) as loop:
                taking_turns = _groups(loop.args, copies)
                for copy in range(interleave):
                    col = b.add(loop.index, copy * lanes) if copy else loop.index
                    place = elements.at(col, None, (loop.index, copy * lanes))
                    for fold, mine in zip(folds, taking_turns, strict=True):
                        mine.append(elements.combine(fold, mine.pop(0), elements.element(place, fold)))
                    elements.store(place)
                loop.carry(_flat(taking_turns))
            return loop.results

        return _groups(streamed_or_not(self.nest, blocks), copies)


class ColumnElements(Elements):
    """The elements of a nest as they are, and what `stage` stores of them."""

    def __init__(self, nest: Nest, stage: int = 0) -> None:
        super().__init__(nest.b)
        self.nest, self.stage = nest, stage

    def element(self, place: Point, fold: Reduction) -> Val:
        return self.b.splat(place.value(fold.node.operands[0]), place.lanes)

    def store(self, place: Point) -> None:
        store_point(self.nest, place, self.stage)


class RowElements(ColumnElements):
    """The elements of a row, as lanes hold them."""

    def __init__(self, row: Row, stage: int) -> None:
        super().__init__(row.nest, stage)
        self.row = row

    def at(self, col: Val, mask: Val | None = None, block: tuple[Val, int] | None = None) -> Point:
        return Point(self.row, col, self.nest.lanes, mask, block)

    def element(self, place: Point, fold: Reduction) -> Val:
        return fold.lane(self.b, super().element(place, fold))


def _flat(registers: list[list[Val]]) -> list[Val]:
    return [register for mine in registers for register in mine]


def _groups(registers: list[Val], size: int) -> list[list[Val]]:
    return [list(registers[k : k + size]) for k in range(0, len(registers), size)]
