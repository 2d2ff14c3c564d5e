"""Walks over the columns of a row, a register at a time, and what is stored there.

In: a `Nest` and a span of columns. Out: text. Next: `rows.py`, `columns.py`, `lanes.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from flambeau.compiler.codegen.emitter import Emitter, Val
from flambeau.compiler.codegen.loops.nest import Nest
from flambeau.compiler.codegen.loops.points import Point
from flambeau.dialects.orders import LANES
from flambeau.dialects.size import Size


def sweep(nest: Nest, lo: Val, hi: Val, copies: int, body: Callable[[Val, Val | None], None]) -> None:
    """body(col, mask) for every register of columns lo..hi: `copies` at a time without masks, then one by one with."""
    b, lanes = nest.b, nest.lanes
    if lanes == 1:
        with b.apart(), b.loop(lo, hi) as loop:
            return body(loop.index, None)
    block = copies * lanes
    with b.apart():
        main = whole_blocks(b, lo, hi, block)

        def blocks() -> list[Val]:
            with b.loop(lo, main, block) as loop:
                for copy in range(copies):
                    body(b.add(loop.index, copy * lanes) if copy else loop.index, None)
            return []

        streamed_or_not(nest, blocks)
        with b.loop(main, hi, lanes) as tail:
            body(tail.index, b.tail_mask(b.sub(hi, tail.index), lanes))


def streamed_or_not(nest: Nest, loop: Callable[[], list[Val]]) -> list[Val]:
    """Write a loop of unmasked stores; twice where it stores large outputs, for aligned buffers past the caches."""
    if nest.storing.isdisjoint(nest.streamed):
        return loop()

    def streamed() -> list[Val]:
        nest.streaming = True
        results = loop()
        nest.streaming = False
        return results

    return nest.b.if_else(nest.aligned(), streamed, loop)


def whole_blocks(b: Emitter, lo: Val, hi: Val, block: int) -> Val:
    """The end of the whole blocks of lo..hi."""
    return b.add(lo, b.mul(b.div_unsigned(b.sub(hi, lo), block), block))


def short_columns(nest: Nest) -> list[tuple[Val, Val | None]]:
    """The first column of each register of a short row, and the masks of those that may not be full."""
    b, lanes = nest.b, nest.lanes
    starts = [b.const(col, "i64") for col in range(0, short_length(nest), lanes)]
    if isinstance(nest.cols, Size):
        with b.into(nest.top):
            cols = nest.number(nest.cols, "cols")
            return [(col, b.tail_mask(b.maximum(b.sub(cols, col), 0), lanes)) for col in starts]
    columns: list[tuple[Val, Val | None]] = [(col, None) for col in starts]
    if nest.cols % lanes:
        with b.into(nest.top):
            last, _ = columns[-1]
            columns[-1] = last, b.tail_mask(b.sub(nest.number(nest.cols, "cols"), last), lanes)
    return columns


def short_length(nest: Nest) -> int:
    """The columns of a short row, or the most it may have."""
    return LANES if isinstance(nest.cols, Size) else nest.cols


def store_point(nest: Nest, point: Point, stage: int) -> None:
    """Write the elements that a stage computes: outputs to their buffers, kept ones to scratch."""
    point.store_all(nest.stages.stores[stage])
