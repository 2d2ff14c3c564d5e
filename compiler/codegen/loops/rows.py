"""Kernels that walk rows: elementwise maps, row reductions with any number of passes, and flat maps.

In: a `LoopNest` of form "map" or "rows", and its schedule. Out: its `KernelCall`s. Rows run in parallel; the columns of a row
are walked once per stage, a register or 64 lanes at a time. Next: `../row_passes.py`, the order of a row's passes;
`columns.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from flambeau.compiler.codegen.access import StridedView
from flambeau.compiler.codegen.emitter import Emitter, Val
from flambeau.compiler.codegen.fragment import Fragment
from flambeau.compiler.codegen.loops.lanes import RowElements, RowLanes
from flambeau.compiler.codegen.loops.nest import Nest
from flambeau.compiler.codegen.loops.points import Point, Row
from flambeau.compiler.codegen.loops.tiles import emit_tiles
from flambeau.compiler.codegen.loops.walks import short_columns, short_length, store_point, sweep
from flambeau.compiler.codegen.reduce import Reduction
from flambeau.compiler.codegen.row_passes import RowPasses
from flambeau.compiler.codegen.units import LoopNest
from flambeau.compiler.codegen.vector_lanes import VectorLanes
from flambeau.compiler.kernel import KernelCall
from flambeau.compiler.schedules.kinds import Points, Rows
from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Node
from flambeau.dialects.size import Int, ceil_div, maximum, minimum


def has_no_order(unit: LoopNest) -> bool:
    """Whether all that a nest reads and writes is of one narrow dtype that is computed in another, and nothing in between is of a
    third one or depends on an element's place: the lanes of vectors may then have any order."""
    fragment, graph = unit.fragment, unit.graph
    avals = graph.avals
    ends = {avals[v].dtype for v in (*graph.inputs, *graph.outputs) if v in graph.outputs or avals[v].size != 1}
    if len(ends) != 1 or not (narrow := ends.pop()).carrier:
        return False
    wide = narrow.accumulation

    def is_plain(node: Node) -> bool:
        if node.results[0] not in fragment.member_of:
            return node.op.name != "iota"
        dtypes = {avals[v].dtype for v in (*node.operands, *node.results)}
        fits = all(dtype is wide or dtype.is_bool for dtype in dtypes) or (
            dtypes == {narrow, wide} and is_conversion(node, avals)
        )
        return fits and node.op.family.is_pointwise and not node.op.fallible

    return all(map(is_plain, graph.nodes))


def is_conversion(node: Node, avals: Sequence[Aval]) -> bool:
    """Whether an op does what `cast` does to its operand, and nothing else: a group's text may be anybody's."""
    if len(node.operands) != 1 or len(node.results) != 1:
        return False
    x, element = Val("%x", avals[node.operands[0]].dtype.mlir), avals[node.results[0]].dtype.mlir
    given, meant = Emitter(), Emitter()
    (made,) = node.op.run_lower(given, [x], node.attrs)
    return made == meant.cast(x, element) and given.source("").text == meant.source("").text


def lower_map(unit: LoopNest, schedule: Points, parted: bool = False) -> KernelCall:
    """The call of an elementwise nest: flat where every access runs on, by rows where not."""
    nest, form = Nest(unit, schedule), unit.form
    nest.b.parted = parted
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
    VectorRows(nest, schedule).emit(row)


class VectorRows(RowPasses):
    """Rows of CPUs: one thread has a whole row, whose elements it takes a register at a time."""

    def __init__(self, nest: Nest, schedule: Points | Rows) -> None:
        super().__init__(nest.fragment, nest.stages)
        self.nest, self.schedule, self.b = nest, schedule, nest.b

    def enter(self, row: Row, stage: int) -> None:
        nest = self.nest
        nest.stage, nest.storing = stage, set(self.stages.stores[stage])

    def _cols(self) -> tuple[Val, Val]:
        cols = self.nest.number(self.nest.cols, "cols")
        return self.b.const(0, "i64"), cols

    def fold(self, row: Row, stage: int, folds: Sequence[Reduction]) -> list[Val]:
        if self.nest.is_empty:
            return [fold.identity(self.b) for fold in folds]
        self._cols()  # their number comes before those of the elements
        if self.schedule.resident:
            return self._resident(row, stage, folds)
        assert isinstance(self.schedule, Rows), "points fold nothing"
        return RowLanes(self.nest, self.schedule.interleave).row(folds, RowElements(row, stage))

    def walk(self, row: Row, stage: int) -> None:
        nest = self.nest
        if nest.is_empty:
            return
        columns = self._cols()
        if self.schedule.resident:
            self._resident(row, stage, [])
            return
        body = lambda col, mask: store_point(nest, Point(row, col, nest.lanes, mask), stage)  # noqa: E731
        sweep(nest, *columns, self.schedule.unroll, body)

    def _resident(self, row: Row, stage: int, folds: Sequence[Reduction]) -> list[Val]:
        """One pass over a row that is held in registers."""
        nest, b, lanes, results = self.nest, self.b, self.nest.lanes, list[Val]()
        elements = RowElements(row, stage)
        row.points = row.points or [Point(row, col, lanes, mask) for col, mask in short_columns(nest)]
        for fold in folds:
            registers = []
            for point in row.points:
                x, identity = elements.element(point, fold), fold.lane_identity(b, lanes)
                x = x if point.mask is None else b.select(point.mask, x, identity)
                registers.append(fold.combine(b, identity, x))
            results.append(VectorLanes(b, lanes).halve(fold, registers, short_length(nest)))
            row.values[fold.node.results[0]] = results[-1]
        for point in row.points:
            elements.store(point)
        return results

    def leave(self, row: Row, stage: int) -> None:
        nest = self.nest
        for value in self.stages.stores[stage]:
            if value in nest.scratch_of:
                nest.kept[value] = nest.scratch_of[value]
            elif value not in self.stages.kept:
                nest.stored.add(value)

    def end(self, row: Row) -> None:
        self.nest.storing = set()
