"""The GPU code generator for everything that is not a matrix product: a cluster in, a nest and then its launch out.

Some elements per thread; square tiles through shared memory where operands are read transposed; a block per row where rows
are folded, passing over the row once per dependent reduction and once more for its elements. What a later pass needs of
an earlier one is computed again. Outer reductions: `columns.py`. Next: `points.py` for what one element is.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from flambeau.compiler.codegen.access import merge
from flambeau.compiler.codegen.expand import expand
from flambeau.compiler.codegen.fragment import Fragment
from flambeau.compiler.codegen.gpu.columns import lower_columns
from flambeau.compiler.codegen.gpu.lanes import ThreadLanes
from flambeau.compiler.codegen.gpu.points import (
    GpuPoint,
    GpuRow,
    NestElements,
    NestKernel,
    label_of,
    refuse_unsupported,
)
from flambeau.compiler.codegen.loops.phases import ALWAYS, Stages
from flambeau.compiler.codegen.nest_rules import Source
from flambeau.compiler.codegen.reduce import Reduction
from flambeau.compiler.codegen.row_passes import RowPasses
from flambeau.compiler.codegen.units import Cut, LoopNest, Parts, joined
from flambeau.compiler.codegen.values import Val
from flambeau.compiler.kernel import Cluster, KernelCall, Operand
from flambeau.compiler.schedules.gpu_kinds import GpuColumns, GpuPoints, GpuRows
from flambeau.compiler.targets import Target
from flambeau.dialects.orders import LANES
from flambeau.dialects.size import Int, ceil_div


def cut(cluster: Cluster) -> Cut:
    """The nest of a cluster. Raises ValueError for what has no GPU kernel yet."""
    fragment = Fragment(expand(cluster.graph))
    refuse_unsupported(fragment)
    form = fragment.form()
    if form is None:
        raise ValueError(f"[gpu] {label_of(fragment)} does not fit one kernel. Compile it for a CPU target.")
    if all(fragment.size(v) == 0 for v in fragment.graph.outputs):
        return Cut()
    kind = {"map": GpuPoints, "rows": GpuRows, "columns": GpuColumns}[form.kind]
    return Cut([LoopNest(kind, fragment, form, label_of(fragment))], _emit, joined)


def _emit(nest: LoopNest, schedule: Any, target: Target) -> Parts:
    if isinstance(schedule, GpuRows):
        return Parts([_rows(nest, schedule)])
    if isinstance(schedule, GpuColumns):
        return Parts([lower_columns(nest, schedule)])
    return Parts([_tiles(nest, schedule) if schedule.tile else _map(nest, schedule)])


# ---- elements -------------------------------------------------------------------------------------------------


def _map(nest: LoopNest, schedule: GpuPoints) -> KernelCall:
    """Some elements per thread: adjacent threads have adjacent ones."""
    form, threads, each = nest.form, schedule.threads, schedule.each
    kernel = NestKernel(nest, threads)
    b, n = kernel.b, kernel.number(form.size)
    first = b.add(b.mul(b.block(), threads * each), b.thread())
    for k in range(each):
        linear = b.add(first, k * threads) if k else first
        with b.if_(b.cmp("lt", linear, n)):
            GpuPoint(kernel, linear).store_all(nest.graph.outputs)
    return kernel.launch(nest.label, (ceil_div(form.size, threads * each), 1, 1), kernel.overwrites)


# ---- transposed operands --------------------------------------------------------------------------------------


def transposed(fragment: Fragment) -> dict[Source, tuple[Int, Int, Int]]:
    """Operands read with their last two dimensions exchanged, as (batch, rows, columns) of the result.

    Only those of the first such shape: others are read where they lie, which is right but slow.
    """
    found: dict[Source, tuple[Int, Int, Int]] = {}
    for v in fragment.leaf_values():
        source = fragment.sources[v]
        if source.root in fragment.member_of or source.root in fragment.producers:
            continue
        shape = _exchange(source)
        if shape and shape in (*list(found.values())[:1], *([shape] if not found else [])):
            found[source] = shape
    return found


def _exchange(source: Source) -> tuple[Int, Int, Int] | None:
    dims = merge(source.layout)
    if source.layout.offset or len(dims) not in (2, 3):
        return None
    (rows, row_stride), (columns, column_stride) = dims[-2:]
    if row_stride != 1 or column_stride != rows or rows < 2 or columns < 2:
        return None
    if len(dims) == 2:
        return 1, rows, columns
    return (dims[0][0], rows, columns) if dims[0][1] == rows * columns else None


def _tiles(nest: LoopNest, schedule: GpuPoints) -> KernelCall:
    """A block per square tile of the result: operands come in along their own rows, results leave along theirs."""
    fragment, turned, side = nest.fragment, transposed(nest.fragment), schedule.tile
    pitch, at_once = side + schedule.pad, schedule.threads // side
    kernel = NestKernel(nest, schedule.threads)
    b = kernel.b
    batch, rows, columns = next(iter(turned.values()))
    height, width = kernel.number(rows), kernel.number(columns)
    x, y = b.rem_unsigned(b.thread(), side), b.div_unsigned(b.thread(), side)
    row0, column0 = b.mul(b.block("y"), side), b.mul(b.block("x"), side)
    base = b.mul(b.block("z"), b.mul(height, width))
    tiles = {}
    for source in turned:
        element = fragment.avals[source.root].dtype.mlir
        tile = tiles[source] = b.shared(side * pitch, element)
        for step in range(0, side, at_once):
            local = b.add(y, step)
            row, column = b.add(row0, x), b.add(column0, local)
            with b.if_(b.and_(b.cmp("lt", row, height), b.cmp("lt", column, width))):
                at = b.add(base, b.add(b.mul(column, height), row))
                kernel.read.setdefault(source.root, set()).add(source.layout)
                loaded = b.load(kernel.pointer(Operand("value", source.root)), at, element)
                b.store(loaded, tile, b.add(b.mul(local, pitch), x))
    b.barrier()
    for step in range(0, side, at_once):
        local = b.add(y, step)
        row, column = b.add(row0, local), b.add(column0, x)
        with b.if_(b.and_(b.cmp("lt", row, height), b.cmp("lt", column, width))):
            point = GpuPoint(kernel, b.add(base, b.add(b.mul(row, width), column)))
            for source, tile in tiles.items():
                element = fragment.avals[source.root].dtype.mlir
                point.leaves[source] = b.load(tile, b.add(b.mul(x, pitch), local), element)
            point.store_all(nest.graph.outputs)
    return kernel.launch(
        f"{nest.label} transposed", (ceil_div(columns, side), ceil_div(rows, side), batch), kernel.overwrites
    )


# ---- rows -----------------------------------------------------------------------------------------------------


def _rows(nest: LoopNest, schedule: GpuRows) -> KernelCall:
    """A block per row."""
    kernel = NestKernel(nest, LANES * schedule.groups)
    rows = _ThreadRows(kernel, Stages(nest.fragment, nest.form, ALWAYS, at_last=True), schedule.room)
    rows.emit(GpuRow(kernel, kernel.b.block()))
    return kernel.launch(nest.label, (nest.form.batch, 1, 1), kernel.overwrites)


class _ThreadRows(RowPasses):
    """Rows of GPUs: the threads of a block share a row, each of which takes every so many-th element."""

    def __init__(self, kernel: NestKernel, stages: Stages, room: int) -> None:
        super().__init__(kernel.fragment, stages)
        self.kernel, self.b, count = kernel, kernel.b, kernel.form.count
        self.length = kernel.number(count)
        self.start = self.b.mul(self.b.block(), self.length)
        self.lanes = ThreadLanes(self.b, count, self.length, room)

    def fold(self, row: GpuRow, stage: int, folds: Sequence[Reduction]) -> list[Val]:
        return self.lanes.row(folds, _RowElements(self, row, stage))

    def walk(self, row: GpuRow, stage: int) -> None:
        elements = _RowElements(self, row, stage)
        with self.b.apart(), self.b.loop(self.b.thread(), self.length, self.b.threads) as loop:
            elements.store(elements.at(loop.index))

    def alone(self) -> AbstractContextManager[None]:
        return self.b.if_(self.b.cmp("eq", self.b.thread(), 0))


class _RowElements(NestElements):
    """The elements of a row, and what a stage stores of them."""

    def __init__(self, rows: _ThreadRows, row: GpuRow, stage: int) -> None:
        super().__init__(rows.b, rows.stages.stores[stage])
        self.rows, self.row = rows, row

    def at(self, col: Val, mask: Val | None = None, block: tuple[Val, int] | None = None) -> GpuPoint:
        return GpuPoint(self.rows.kernel, self.b.add(self.rows.start, col), self.row, col)
