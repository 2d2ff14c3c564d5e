"""Kernels for reductions over outer axes, and for inner reductions of few long rows: partial results, then a combine.

In: a `LoopNest` of form "columns", or of form "rows" with one pass, and its schedule. Out: a call that folds chains of 64 rows
(or chunks of 4096 columns) in parallel and, where there are several, a call per reduction that combines them pairwise.
Next: `cut.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from flambeau.compiler.codegen.chain_folds import fold_chain
from flambeau.compiler.codegen.emitter import Val
from flambeau.compiler.codegen.iteration_space import NestForm
from flambeau.compiler.codegen.loops.lanes import ColumnElements, RowElements, RowLanes
from flambeau.compiler.codegen.loops.nest import Nest, Writer
from flambeau.compiler.codegen.loops.points import Point, Row
from flambeau.compiler.codegen.loops.rows import finish
from flambeau.compiler.codegen.loops.walks import short_columns, store_point, sweep
from flambeau.compiler.codegen.reduce import Reduction, walk_pairs
from flambeau.compiler.codegen.units import LoopNest, Parts
from flambeau.compiler.kernel import KernelCall, Operand
from flambeau.compiler.schedules.kinds import Columns, Rows
from flambeau.dialects.orders import CHAIN, CHUNK
from flambeau.dialects.size import Int, ceil_div, maximum, minimum
from flambeau.dialects.tape.nan import canonical


def lower_chunks(unit: LoopNest, schedule: Rows) -> Parts:
    """Few long rows: chunks of 4096 columns in parallel, then one combine per reduction."""
    nest, form = Nest(unit, schedule, schedule.recompute), unit.form
    b, count = nest.b, ceil_div(form.count, CHUNK)
    folds = [Reduction.of(unit.fragment, n) for n in nest.stages.reductions[0]]
    nest.storing = set(nest.stages.stores[0])
    partials = [nest.pointer(Operand("temp", k), written=True) for k in range(len(folds))]
    written = range(len(folds))
    cols, chunks = nest.number(nest.cols, "cols"), nest.number(count)
    with b.apart(), b.loop(b.lo, b.hi) as item:
        row = Row(nest, b.div_unsigned(item.index, chunks) if form.batch > 1 else None)
        lo = b.mul(b.rem_unsigned(item.index, chunks), CHUNK)
        span = lo, b.minimum(b.add(lo, CHUNK), cols)
        results = RowLanes(nest, schedule.interleave).chunk(span, folds, RowElements(row, 0))
        for partial, result in zip(partials, list(results), strict=True):
            b.store(result, partial, item.index)
    first = finish(nest, form.batch * count, max(1, schedule.grain // CHUNK), unit.label)
    first = _with_writes(first, written)
    calls = [_combine_rows(fold, k, form.batch, count, schedule.grain) for k, fold in enumerate(folds)]
    return Parts([first, *calls], [form.batch * count * fold.dtype.itemsize for fold in folds])


def _with_writes(call: KernelCall, positions: range) -> KernelCall:
    """The call, which also writes the operands at `positions`."""
    return replace(call, writes=tuple(sorted({*call.writes, *positions})))


def _combine_rows(fold: Reduction, temp: int, rows: Int, count: Int, elements: int) -> KernelCall:
    """Per row: fold `count` partial results into the reduction's output."""
    b = Writer()
    with b.apart(), b.loop(b.lo, b.hi) as row:
        slots = b.address(b.buffer(0), b.mul(row.index, b.dim(0)), fold.dtype.mlir)
        fold.fold_pairs(b, slots, b.dim(0))
        b.store(fold.result(b, slots), b.buffer(1), row.index)
    operands = (Operand("temp", temp), Operand("value", fold.node.results[0]))
    source = b.source(f"combine {fold.node.op.name}")
    return KernelCall(source, operands, (count,), n=rows, grain=maximum(1, elements // count), writes=(0, 1))


def lower_columns(unit: LoopNest, schedule: Columns) -> Parts:
    """Outer reductions: chains of 64 rows, blocks of columns in parallel; then the chains in pairs."""
    nest, form = Nest(unit, schedule), unit.form
    is_one, chains = form.count <= CHAIN, maximum(1, ceil_div(form.count, CHAIN))
    folds = [Reduction.of(unit.fragment, n) for n in nest.stages.reductions[0]]
    nest.storing = set(nest.stages.stores[0])
    block = minimum(schedule.block, form.columns)
    blocks = ceil_div(form.columns, block)
    homes = [Operand("value", f.node.results[0]) if is_one else Operand("temp", k) for k, f in enumerate(folds)]
    partials = [nest.pointer(home, written=True) for home in homes]
    _emit_chains(nest, schedule, folds, partials, (chains, block, blocks))
    height = maximum(1, minimum(form.count, CHAIN))
    grain = maximum(1, schedule.grain // (block * height))
    first = finish(nest, form.batch * chains * blocks, grain, unit.label)
    first = _with_writes(first, range(len(folds)))
    if is_one:
        return Parts([first])
    calls = [_combine_columns(f, k, schedule, form, (chains, block, blocks)) for k, f in enumerate(folds)]
    return Parts([first, *calls], [form.batch * chains * form.columns * f.dtype.itemsize for f in folds])


def _emit_chains(
    nest: Nest, schedule: Columns, folds: list[Reduction], partials: list[Val], counts: tuple[Int, Int, Int]
) -> None:
    """Item (batch, chain, block of columns): fold the rows of a chain into its partial results."""
    b, form = nest.b, nest.form
    chains, block, blocks = (nest.number(n) for n in counts)
    count, cols = nest.number(form.count), nest.number(form.columns, "cols")
    with b.apart(), b.loop(b.lo, b.hi) as item:
        slot = b.div_unsigned(item.index, blocks)
        lo = b.mul(b.rem_unsigned(item.index, blocks), block)
        hi = b.minimum(b.add(lo, block), cols)
        batch, chain = b.div_unsigned(slot, chains), b.rem_unsigned(slot, chains)
        first = b.mul(chain, CHAIN)
        last = b.minimum(b.add(first, CHAIN), count)
        start = b.mul(batch, count)
        homes = [(f, partial, b.mul(slot, cols)) for f, partial in zip(folds, partials, strict=True)]
        rows = b.add(start, first), b.add(start, last)
        if schedule.resident:
            _fold_in_registers(nest, homes, rows)
        else:
            _fold_in_memory(nest, homes, rows, (lo, hi), schedule.unroll)


Home = tuple[Reduction, Val, Val]  # a fold, the buffer of its partial results and where the item's begin


def _fold_in_memory(nest: Nest, homes: list[Home], rows: tuple[Val, Val], span: tuple[Val, Val], unroll: int) -> None:
    """Row by row into partial results in memory: wide rows are streamed, the partial results stay in cache."""
    b, lanes = nest.b, nest.lanes

    def clear(col: Val, mask: Val | None) -> None:
        for fold, partial, base in homes:
            b.store(fold.identity(b, lanes), partial, b.add(base, col), mask)

    sweep(nest, *span, 1, clear)
    if nest.is_empty:
        return
    with b.apart(), b.loop(*rows) as r:
        row = Row(nest, r.index)

        def accumulate(col: Val, mask: Val | None) -> None:
            point = Point(row, col, lanes, mask)
            for fold, partial, base in homes:
                at = b.add(base, col)
                sofar = b.load(partial, at, fold.dtype.mlir, lanes, mask)
                x = b.splat(point.value(fold.node.operands[0]), lanes)
                b.store(fold.combine(b, sofar, x), partial, at, mask)
            store_point(nest, point, 0)

        sweep(nest, *span, unroll, accumulate)

    def finish(col: Val, mask: Val | None) -> None:
        for fold, partial, base in homes:
            at = b.add(base, col)
            b.store(canonical(b, b.load(partial, at, fold.dtype.mlir, lanes, mask)), partial, at, mask)

    if any(fold.dtype.is_floating_point for fold, _, _ in homes):
        sweep(nest, *span, unroll, finish)


def _fold_in_registers(nest: Nest, homes: list[Home], rows: tuple[Val, Val]) -> None:
    """A few columns: their partial results are carried from row to row."""
    b, lanes = nest.b, nest.lanes
    columns = short_columns(nest)
    folds = [fold for fold, _, _ in homes]

    def places(row: Val) -> list[Point]:
        here = Row(nest, row)
        return [Point(here, col, lanes, mask) for col, mask in columns]

    with b.apart():
        start = [fold.identity(b, lanes) for fold in folds for _ in columns]
        totals = fold_chain(ColumnElements(nest), folds, rows, start, places)
        for j, (_, partial, base) in enumerate(homes):
            for k, (col, mask) in enumerate(columns):
                b.store(canonical(b, totals[j * len(columns) + k]), partial, b.add(base, col), mask)


def _combine_columns(
    fold: Reduction, temp: int, schedule: Columns, form: NestForm, counts: tuple[Int, Int, Int]
) -> KernelCall:
    """Item (batch, block of columns): combine the chains pairwise, in place, and copy the last one out."""
    b, lanes, (chains, block, blocks) = Writer(), schedule.lanes, counts
    partial, out = b.buffer(0), b.buffer(1)
    count, width, per_row, cols = (b.dim(k) for k in range(4))
    element = fold.dtype.mlir
    with b.apart(), b.loop(b.lo, b.hi) as item:
        batch, lo = b.div_unsigned(item.index, per_row), b.mul(b.rem_unsigned(item.index, per_row), width)
        hi = b.minimum(b.add(lo, width), cols)
        slots = b.address(partial, b.mul(b.mul(batch, count), cols), element)

        def columns(body: Callable[[Val, Val], None]) -> None:
            with b.loop(lo, hi, lanes) as loop:
                body(loop.index, b.tail_mask(b.sub(hi, loop.index), lanes))

        def read(slot: Val, col: Val, mask: Val) -> Val:
            return b.load(slots, b.add(b.mul(slot, cols), col), element, lanes, mask)

        def combine(left: Val, right: Val, into: Val) -> None:
            columns(
                lambda col, mask: b.store(
                    fold.combine(b, read(left, col, mask), read(right, col, mask)),
                    slots,
                    b.add(b.mul(into, cols), col),
                    mask,
                )
            )

        def carry(left: Val, into: Val) -> None:
            columns(lambda col, mask: b.store(read(left, col, mask), slots, b.add(b.mul(into, cols), col), mask))

        walk_pairs(b, count, combine, carry)
        zero, at = b.const(0, "i64"), b.mul(batch, cols)
        columns(lambda col, mask: b.store(canonical(b, read(zero, col, mask)), out, b.add(at, col), mask))
    return KernelCall(
        b.source(f"combine {fold.node.op.name} of columns"),
        (Operand("temp", temp), Operand("value", fold.node.results[0])),
        (chains, block, blocks, form.columns),
        n=form.batch * blocks,
        grain=maximum(1, schedule.grain // (chains * block)),
        writes=(0, 1),
    )
