"""Whether a schedule fits a nest on a machine.

In: a unit, a schedule that somebody gave, a target. Out: what stands against it, in words, or None. A schedule that fits
changes no bit of what the nest computes. What is asked about sizes becomes guards. Next: `overrides.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.compiler.codegen.gpu.loops import transposed
from flambeau.compiler.codegen.lane_folds import chunks_of
from flambeau.compiler.codegen.loops.phases import Stages
from flambeau.compiler.codegen.products.operands import lines_of, unit_of_lhs
from flambeau.compiler.codegen.units import LoopNest, OwnNest, ProductNest, Unit
from flambeau.compiler.schedules import gpu
from flambeau.compiler.schedules.form import Schedule, first
from flambeau.compiler.schedules.gpu_kinds import GpuColumns, GpuPoints, GpuProduct, GpuRows, GpuVectorProduct
from flambeau.compiler.schedules.kinds import (
    Columns,
    DotProduct,
    Points,
    Product,
    Rows,
    Scan,
    Scatter,
    Search,
    Sort,
    TopK,
    VectorProduct,
    Windows,
)
from flambeau.compiler.schedules.loops import is_one_pass, may_stream
from flambeau.compiler.schedules.products import directions, may_be_kept
from flambeau.compiler.targets import Target
from flambeau.dialects.orders import BLOCK, CHAIN, LANES
from flambeau.dialects.size import Int, ceil_div, maximum, repr_of

#: Registers of 32 bits that a GPU's thread may fill with results.
_RESULTS = 128


def obstacle(unit: Unit, schedule: Schedule, machine: Target) -> str | None:
    """Why a schedule does not fit a nest, and what to do; None if it does."""
    if type(schedule) is not unit.kind:
        return f"the nest takes a schedule of kind {unit.kind.kind}. Give one."
    if isinstance(unit, OwnNest):
        return unit.obstacle(unit, schedule, machine)
    return _FITTING[unit.kind](unit, schedule, machine)


# ---- loops on CPUs ----------------------------------------------------------------------------------------------


def registers(values: int, lanes: int, itemsize: int, machine: Target) -> str | None:
    """What is wrong where so many vectors do not fit the machine's registers."""
    needed = values * -(-lanes * itemsize // machine.vector_bytes)
    if needed <= machine.registers:
        return None
    return f"it takes {needed} vector registers at once, and {machine.name} has {machine.registers}. Take fewer lanes or copies."


def _widest(nest: LoopNest) -> int:
    return max(nest.widths(), default=1)


def _unrolled(nest: LoopNest, lanes: int, unroll: int, machine: Target) -> str | None:
    return registers(unroll if lanes > 1 else 1, lanes, _widest(nest), machine)


def _streamed(nest: LoopNest, schedule: Any, stages: Stages, machine: Target) -> str | None:
    outputs = nest.fragment.graph.outputs
    for k in schedule.streamed:
        if k >= len(outputs):
            return f"streamed names output {k} of {len(outputs)}. Count them from 0."
        if not may_stream(nest, machine, outputs[k], schedule.lanes, stages):
            return (
                f"output {k} cannot go past the caches: its rows do not begin on cache lines, its vectors are not as wide as "
                f"the machine's, or it is read again. Leave it out of streamed."
            )
    return None


def _resident(nest: LoopNest, schedule: Any) -> str | None:
    cols = nest.space.cols
    if not schedule.resident or (bool(cols > 0) and bool(cols <= LANES) and schedule.lanes > 1):
        return None
    return f"rows of {repr_of(cols)} elements do not stay in registers, which hold {LANES}. Leave resident false."


def _points(nest: LoopNest, schedule: Points, machine: Target) -> str | None:
    rows = [name for name in ("part", "tile", "resident") if getattr(schedule, name)]
    if rows and (nest.form.size == 1 or not nest.space.extents):
        return f"its loops are one, and {rows[0]} says how rows are cut. Leave it out."
    if schedule.tile and nest.space.crossing_loop() is None:
        return "no operand runs across the columns, so none is turned. Leave tile 0."
    if schedule.tile and (wrong := registers(schedule.lanes, schedule.lanes, _widest(nest), machine)):
        return wrong
    return first(
        _resident(nest, schedule),
        _unrolled(nest, schedule.lanes, schedule.unroll, machine),
        _streamed(nest, schedule, nest.stages(0), machine),
    )


def _rows(nest: LoopNest, schedule: Rows, machine: Target) -> str | None:
    stages = nest.stages(schedule.recompute)
    if schedule.chunks and not is_one_pass(nest, stages):
        return "more than its folds depends on them, so it is more than one pass. Leave chunks false."
    return first(
        _resident(nest, schedule),
        _unrolled(nest, schedule.lanes, schedule.unroll, machine),
        _streamed(nest, schedule, stages, machine),
    )


def _columns(nest: LoopNest, schedule: Columns, machine: Target) -> str | None:
    if schedule.resident and not schedule.block >= nest.form.columns:
        return f"block is {schedule.block}, and an item that stays in registers has all {nest.form.columns} columns. Give more."
    return first(
        _resident(nest, schedule),
        _unrolled(nest, schedule.lanes, schedule.unroll, machine),
        _streamed(nest, schedule, nest.stages(0), machine),
    )


def _scatter(nest: LoopNest, schedule: Scatter, machine: Target) -> str | None:
    if schedule.lanes > 1 and not nest.form.columns > 1:
        return "its updates are single elements, which no vector holds. Leave lanes 1."
    return _unrolled(nest, schedule.lanes, schedule.unroll, machine)


def _scan(nest: LoopNest, schedule: Scan, machine: Target) -> str | None:
    if nest.form.size == 1 and schedule.lanes > 1:
        return "it has one element, which fills no vector. Leave lanes 1."
    return _unrolled(nest, schedule.lanes, schedule.chains, machine)


def _sort(nest: LoopNest, schedule: Sort, machine: Target) -> str | None:
    """Any digits and blocks serve any line."""
    return None


def _topk(nest: LoopNest, schedule: TopK, machine: Target) -> str | None:
    if schedule.lanes > 1 and nest.form.columns > 1:
        return "elements of its lines do not lie beside each other, so no vector holds them. Leave lanes 1."
    return _unrolled(nest, schedule.lanes, 1, machine)


def _windows(nest: LoopNest, schedule: Windows, machine: Target) -> str | None:
    return _unrolled(nest, schedule.lanes, 1, machine)


# ---- products on CPUs -------------------------------------------------------------------------------------------


def _product(nest: ProductNest, schedule: Product, machine: Target) -> str | None:
    c = nest.c
    for name, lines, factor in (("a_lines", schedule.a_lines, c.lhs), ("b_lines", schedule.b_lines, c.rhs)):
        if lines == "tile":
            if unit_of_lhs(c) == "neither":
                return f"{name} is tile, and elements of A are not adjacent in memory. Give {lines_of(factor)}."
        elif (lines == "none") is factor.is_computed:
            right = lines_of(factor) if factor.is_computed else "none"
            return f"{name} is {lines}, and that operand {'is computed' if factor.is_computed else 'lies in memory'}. Give {right}."
    if not schedule.m_block < c.m + schedule.rows or not schedule.n_block < c.n + schedule.columns:
        return f"a block of C is larger than C, {repr_of(c.m)} x {repr_of(c.n)}. Give smaller m_block and n_block."
    length: Int = (
        0 if schedule.a_lines in ("none", "tile") else BLOCK if schedule.a_lines == "row" else schedule.m_block
    )
    least = ceil_div(length, schedule.lanes) * schedule.lanes
    if not schedule.a_pitch >= least or (length == 0 and schedule.a_pitch):
        given, right = repr_of(schedule.a_pitch), "0" if length == 0 else "at least that"
        return f"a_pitch is {given}, and lines of A take {repr_of(least)}. Give {right}."
    if schedule.panels and not may_be_kept(c):
        return "panels are those of one matrix in memory, whose extents are known. Leave panels false."
    values = schedule.rows * schedule.vectors + schedule.vectors + 1
    return registers(values, schedule.lanes, c.dtype.itemsize, machine)


def _vector_product(nest: ProductNest, schedule: VectorProduct, machine: Target) -> str | None:
    possible = directions(nest.c)
    if schedule.along not in possible:
        return f"vectors cannot run along {schedule.along}. Give {' or '.join(possible)}."
    if schedule.along == "k":
        values = schedule.group * (LANES // schedule.lanes) if schedule.group > 1 else 1
    else:
        values = schedule.depth * (schedule.group // schedule.lanes)
    return registers(values, schedule.lanes, nest.c.dtype.itemsize, machine)


def _dot_product(nest: ProductNest, schedule: DotProduct, machine: Target) -> str | None:
    c, tile = nest.c, schedule.rows * schedule.columns
    if not schedule.m_block < c.m + schedule.rows:
        return f"a block of C is larger than C, {repr_of(c.m)} x {repr_of(c.n)}. Give a smaller m_block."
    return registers(tile + schedule.rows + 1, schedule.lanes, c.dtype.itemsize, machine)


# ---- GPUs -------------------------------------------------------------------------------------------------------


def _shared(bytes_: int) -> str | None:
    """What is wrong where workgroup memory has not so many bytes."""
    return None if bytes_ <= gpu.SHARED else f"it takes {bytes_} bytes of workgroup memory, of {gpu.SHARED}. Take less."


def _room(count: Int, room: int) -> str | None:
    return (
        None if bool(count <= room) else f"room is {room}, and there are {repr_of(count)} partial results. Give more."
    )


def _gpu_points(nest: LoopNest, schedule: GpuPoints, machine: Target) -> str | None:
    turned = transposed(nest.fragment)
    if schedule.tile and not turned:
        return "no operand is read turned. Leave tile 0."
    sizes = sum(nest.fragment.avals[source.root].dtype.itemsize for source in turned)
    return _shared(schedule.tile * (schedule.tile + schedule.pad) * sizes)


def _gpu_rows(nest: LoopNest, schedule: GpuRows, machine: Target) -> str | None:
    folds = [n for n in nest.fragment.members if nest.fragment.folds(n)]
    exchanged = sum(d.itemsize for d in {nest.fragment.avals[n.results[0]].dtype for n in folds})
    bytes_ = schedule.room * gpu.bytes_per_part(nest) + LANES * schedule.groups * exchanged
    return _room(chunks_of(nest.form.count), schedule.room) or _shared(bytes_)


def _gpu_columns(nest: LoopNest, schedule: GpuColumns, machine: Target) -> str | None:
    chains = maximum(1, ceil_div(nest.form.count, CHAIN))
    return _room(chains, schedule.room) or _shared(schedule.width * schedule.room * gpu.bytes_per_part(nest))


def _gpu_product(nest: ProductNest, schedule: GpuProduct, machine: Target) -> str | None:
    itemsize = nest.c.dtype.itemsize
    if schedule.each**2 * itemsize // 4 > _RESULTS:
        return f"a thread has {schedule.each**2} results, more than fit its registers. Give a smaller each."
    return _shared(2 * schedule.depth * (schedule.tile + schedule.pad) * itemsize)


def _gpu_vector_product(nest: ProductNest, schedule: GpuVectorProduct, machine: Target) -> str | None:
    itemsize = nest.c.dtype.itemsize
    return _room(chunks_of(nest.c.k), schedule.room) or _shared((schedule.room + LANES * schedule.groups) * itemsize)


_FITTING: dict[type[Schedule], Callable[..., str | None]] = {
    Points: _points,
    Rows: _rows,
    Columns: _columns,
    Scatter: _scatter,
    Scan: _scan,
    Sort: _sort,
    TopK: _topk,
    Search: _sort,
    Windows: _windows,
    Product: _product,
    VectorProduct: _vector_product,
    DotProduct: _dot_product,
    GpuPoints: _gpu_points,
    GpuRows: _gpu_rows,
    GpuColumns: _gpu_columns,
    GpuProduct: _gpu_product,
    GpuVectorProduct: _gpu_vector_product,
}
