"""Kernels that walk rows: elementwise maps, row reductions with any number of passes, and flat maps.

In: a `LoopNest` of form "map" or "rows", and its schedule. Out: its `KernelCall`s. Rows run in parallel; the columns of a row
are walked once per stage, a register or 64 lanes at a time. Next: `columns.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flambeau.compiler.codegen.access import StridedView
from flambeau.compiler.codegen.emitter import Emitter, Val
from flambeau.compiler.codegen.fragment import Fragment
from flambeau.compiler.codegen.loops.nest import Nest
from flambeau.compiler.codegen.loops.points import Point, Row
from flambeau.compiler.codegen.loops.tiles import emit_tiles
from flambeau.compiler.codegen.reduce import Reduction
from flambeau.compiler.codegen.units import LoopNest
from flambeau.compiler.kernel import KernelCall
from flambeau.compiler.schedules.kinds import Points, Rows
from flambeau.dialects.orders import CHUNK, LANES
from flambeau.dialects.size import Int, Size, ceil_div, maximum, minimum


def lower_map(unit: LoopNest, schedule: Points) -> KernelCall:
    """The call of an elementwise nest: flat where every access runs on, by rows where not."""
    nest, form = Nest(unit, schedule), unit.form
    if form.size == 1:
        row = Row(nest, None)
        store_point(nest, Point(row, nest.b.const(0, "i64"), 1), 0)
        return finish(nest, 1, 1, unit.label)
    nest.storing = set(nest.stages.stores[0])

    def span(row: Row, lo: Val, hi: Val) -> None:
        """Compute and store columns lo..hi."""
        body = lambda col, mask: store_point(nest, Point(row, col, nest.lanes, mask), 0)  # noqa: E731
        sweep(nest, lo, hi, schedule.unroll, body)

    if not nest.extents:
        span(Row(nest, None), nest.b.lo, nest.b.hi)
        return finish(nest, form.size, schedule.grain, unit.label)
    rows = form.size // nest.cols
    if schedule.tile:
        items, height = emit_tiles(nest, schedule.tile, span)
        return finish(nest, items, rows_of_task(schedule.grain, nest.cols * height), unit.label)
    if schedule.part:
        _emit_parts_of_rows(nest, schedule.part, span)
        grain = rows_of_task(schedule.grain, minimum(nest.cols, schedule.part))
        return finish(nest, rows * ceil_div(nest.cols, schedule.part), grain, unit.label)
    with nest.b.apart(), nest.b.loop(nest.b.lo, nest.b.hi) as loop:
        emit_row(nest, Row(nest, loop.index), schedule)
    return finish(nest, rows, rows_of_task(schedule.grain, nest.cols), unit.label)


def _emit_parts_of_rows(nest: Nest, part: int, span: Callable[[Row, Val, Val], None]) -> None:
    """A few long rows, or rows that may be: an item is a part of a row."""
    b, cols = nest.b, nest.number(nest.cols, "cols")
    parts = nest.number(ceil_div(nest.cols, part), "parts")
    with b.apart(), b.loop(b.lo, b.hi) as item:
        lo = b.mul(b.rem_unsigned(item.index, parts), part)
        row = Row(nest, b.div_unsigned(item.index, parts))
        span(row, lo, b.minimum(b.add(lo, part), cols))


def lower_rows(unit: LoopNest, schedule: Rows) -> KernelCall:
    """One kernel in which every row makes all its passes before the next row begins."""
    nest = Nest(unit, schedule, schedule.recompute)
    with nest.b.apart(), nest.b.loop(nest.b.lo, nest.b.hi) as rows:
        emit_row(nest, Row(nest, rows.index), schedule)
    return finish(nest, unit.form.batch, rows_of_task(schedule.grain, maximum(nest.cols, 1)), unit.label)


def rows_of_task(elements: int, cols: Int) -> Int:
    """Rows (or parts of rows) in a task of so many elements."""
    return maximum(1, elements // cols)


def finish(nest: Nest, n: Int, grain: Int, label: str) -> KernelCall:
    """The call of a finished nest."""
    if nest.streamed:
        nest.b.fence()
    return KernelCall(
        source=nest.source(label),
        operands=tuple(nest.operands),
        dims=tuple(nest.dims),
        n=n,
        grain=grain,
        writes=tuple(sorted(nest.writes.values())),
        scratch=nest.scratch,
        in_place=in_place(nest),
        fallible=nest.is_fallible,
    )


def label(fragment: Fragment) -> str:
    """A name for people: the ops in order, shortened."""
    names = [n.op.name for n in fragment.members] or ["copy"]
    return "+".join(names[:6]) + (f"+{len(names) - 6}more" if len(names) > 6 else "")


def in_place(nest: Nest) -> tuple[tuple[int, int], ...]:
    """(written, read) operand pairs that may share a buffer: the same elements, written no earlier than last read."""
    layouts = nest.layouts()
    return tuple(
        (written, read)
        for value, written in nest.writes.items()
        if value in nest.fragment.sources and value not in nest.placed
        for read in range(len(nest.operands))
        if _may_overwrite(nest, value, read, layouts)
    )


def _may_overwrite(nest: Nest, value: int, read: int, layouts: Mapping[int, list[StridedView]]) -> bool:
    """Whether writing `value` may destroy the operand at position `read` element by element."""
    operand = nest.operands[read]
    if operand.kind != "value" or operand.index not in nest.fragment.graph.inputs or operand.offset:
        return False
    if operand.index in nest.tables or nest.last_read.get(operand.index, 0) > nest.stages.value_stage(value):
        return False
    return nest.fragment.takes_place(value, operand.index, nest.form, layouts.get(operand.index, ()))


def emit_row(nest: Nest, row: Row, schedule: Points | Rows) -> None:
    """All passes over one row, then its scalars."""
    for stage in nest.stages.loops():
        _pass(nest, row, stage, schedule)
    nest.storing = set()
    for value in nest.stages.row_outputs():
        at = row.row if row.row is not None else 0
        nest.b.store(row.value(value), nest.output(value), at)


def _pass(nest: Nest, row: Row, stage: int, schedule: Points | Rows) -> None:
    """One pass over the columns: the reductions and stores of a stage."""
    b = nest.b
    nest.stage, nest.storing = stage, set(nest.stages.stores[stage])
    folds = [Reduction.of(nest.fragment, n) for n in nest.stages.reductions[stage]]
    if nest.is_empty:
        row.values.update({fold.node.results[0]: fold.identity(b) for fold in folds})
        return
    cols = nest.number(nest.cols, "cols")
    zero = b.const(0, "i64")
    if schedule.resident:
        _short_pass(nest, row, stage, folds)
    elif not folds:
        sweep(
            nest,
            zero,
            cols,
            schedule.unroll,
            lambda col, mask: store_point(nest, Point(row, col, nest.lanes, mask), stage),
        )
    elif nest.cols > CHUNK:
        _chunked(nest, row, stage, cols, folds, interleave_of(schedule))
    else:
        results = fold_columns(nest, row, stage, (zero, cols), folds, interleave_of(schedule))
        for fold, result in zip(folds, results, strict=True):
            row.values[fold.node.results[0]] = result
    for value in nest.stages.stores[stage]:
        if value in nest.scratch_of:
            nest.kept[value] = nest.scratch_of[value]
        elif value not in nest.stages.kept:
            nest.stored.add(value)


def interleave_of(schedule: Points | Rows) -> int:
    """The accumulators that a round of a folding pass advances."""
    assert isinstance(schedule, Rows), "points fold nothing"
    return schedule.interleave


def _short_pass(nest: Nest, row: Row, stage: int, folds: list[Reduction]) -> None:
    """One pass over a row that is held in registers."""
    b, lanes = nest.b, nest.lanes
    points = row.points or [Point(row, col, lanes, mask) for col, mask in short_columns(nest)]
    row.points = points
    for fold in folds:
        registers = []
        for point in points:
            x, identity = lanes_of(point, fold), fold.lane_identity(b, lanes)
            registers.append(fold.combine(b, identity, x if point.mask is None else b.select(point.mask, x, identity)))
        row.values[fold.node.results[0]] = fold.fold_few(b, registers, _short_length(nest))
    for point in points:
        store_point(nest, point, stage)


def _short_length(nest: Nest) -> int:
    """The columns of a short row, or the most it may have."""
    return LANES if isinstance(nest.cols, Size) else nest.cols


def short_columns(nest: Nest) -> list[tuple[Val, Val | None]]:
    """The first column of each register of a short row, and the masks of those that may not be full."""
    b, lanes = nest.b, nest.lanes
    starts = [b.const(col, "i64") for col in range(0, _short_length(nest), lanes)]
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


def _chunked(nest: Nest, row: Row, stage: int, cols: Val, folds: list[Reduction], interleave: int) -> None:
    """A pass in chunks of 4096 columns, each folded by itself; then the chunks in pairs."""
    b = nest.b
    count = ceil_div(nest.cols, CHUNK)
    chunks = nest.number(count, "chunks")
    partials = [nest.reserve(count * fold.dtype.itemsize) for fold in folds]
    with b.apart(), b.loop(0, chunks) as chunk:
        lo = b.mul(chunk.index, CHUNK)
        hi = b.minimum(b.add(lo, CHUNK), cols)
        results = fold_columns(nest, row, stage, (lo, hi), folds, interleave)
        for partial, result in zip(partials, results, strict=True):
            b.store(result, partial, chunk.index)
    for fold, partial in zip(folds, partials, strict=True):
        fold.fold_pairs(b, partial, chunks)
        row.values[fold.node.results[0]] = fold.result(b, partial)


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


def fold_columns(
    nest: Nest, row: Row, stage: int, span: tuple[Val, Val], folds: list[Reduction], interleave: int
) -> list[Val]:
    """Fold a span of columns (at most a chunk) into scalars, in 64 lanes, and store what the stage stores."""
    b, lanes, (lo, hi) = nest.b, nest.lanes, span
    copies = LANES // lanes
    with b.apart():
        main = whole_blocks(b, lo, hi, LANES)
        registers = [fold.accumulators(b, lanes) for fold in folds]
        registers = _fold_blocks(nest, row, stage, (lo, main), folds, registers, interleave)
        with b.loop(main, hi, lanes, carried=_flat(registers)) as tail:
            mask = b.tail_mask(b.sub(hi, tail.index), lanes)
            point = Point(row, tail.index, lanes, mask)
            registers = _groups(tail.args, copies)
            for fold, mine in zip(folds, registers, strict=True):
                x = b.select(mask, lanes_of(point, fold), fold.lane_identity(b, lanes))
                for copy in range(copies):
                    here = b.cmp("eq", b.sub(tail.index, main), copy * lanes)
                    mine[copy] = b.select(here, fold.combine(b, mine[copy], x), mine[copy])
            store_point(nest, point, stage)
            tail.carry(_flat(registers))
        return [fold.fold_lanes(b, mine) for fold, mine in zip(folds, _groups(tail.results, copies), strict=True)]


def _fold_blocks(
    nest: Nest,
    row: Row,
    stage: int,
    span: tuple[Val, Val],
    folds: list[Reduction],
    registers: list[list[Val]],
    interleave: int,
) -> list[list[Val]]:
    """Fold whole blocks of 64: a round writes the body once for each of the first `interleave` registers, and then the registers
    take turns."""
    b, lanes = nest.b, nest.lanes
    copies = LANES // lanes

    def blocks() -> list[Val]:
        with b.loop(*span, interleave * lanes, carried=_flat(registers)) as loop:
            taking_turns = _groups(loop.args, copies)
            for copy in range(interleave):
                col = b.add(loop.index, copy * lanes) if copy else loop.index
                point = Point(row, col, lanes, None, (loop.index, copy * lanes))
                for fold, mine in zip(folds, taking_turns, strict=True):
                    mine.append(fold.combine(b, mine.pop(0), lanes_of(point, fold)))
                store_point(nest, point, stage)
            loop.carry(_flat(taking_turns))
        return loop.results

    return _groups(streamed_or_not(nest, blocks), copies)


def _flat(registers: list[list[Val]]) -> list[Val]:
    return [register for mine in registers for register in mine]


def _groups(registers: list[Val], size: int) -> list[list[Val]]:
    return [list(registers[k : k + size]) for k in range(0, len(registers), size)]


def lanes_of(point: Point, fold: Reduction) -> Val:
    """The elements that a fold takes at a point, as its lanes hold them."""
    return fold.lane(point.nest.b, point.nest.b.splat(point.value(fold.node.operands[0]), point.lanes))


def store_point(nest: Nest, point: Point, stage: int) -> None:
    """Write the elements that a stage computes: outputs to their buffers, kept ones to scratch."""
    values = [(v, point.value(v)) for v in nest.stages.stores[stage]]
    for value, x in values:
        if value in nest.stages.kept and point.row.points:
            continue  # the row is in registers
        if value in nest.stages.kept:
            point.store(x, nest.scratch_for(value), point.col)
        elif value in nest.placed:
            point.place(x, *nest.placed[value])
        elif nest.streaming and value in nest.streamed:
            nest.b.stream(nest.b.splat(x, point.lanes), nest.output(value), point.index(point.row.start()))
        else:
            point.store(x, nest.output(value), point.index(point.row.start()))
