"""Tiles that a script or an editor left on an op, as fields of the schedule of its nest.

In: a `Generic` with tiles and the unit that computes it. Out: the fields that make an item or a task of the nest such a tile.
Raises ScheduleError where no loop of the nest is like that. Next: `scheduling.py`.
"""

from __future__ import annotations

from math import gcd, prod
from typing import Any, NamedTuple

from flambeau.compiler.codegen.units import LoopNest, ProductNest, Unit
from flambeau.compiler.groups.form import Generic
from flambeau.compiler.schedules import ScheduleError
from flambeau.compiler.schedules.gpu_kinds import BLOCK_THREADS, WARP, GpuColumns, GpuPoints, GpuProduct
from flambeau.compiler.schedules.kinds import Columns, Points, Product, Rows
from flambeau.compiler.schedules.products import rows_beside, tiles_of
from flambeau.compiler.targets import Target
from flambeau.dialects.orders import CHAIN
from flambeau.dialects.size import Int, minimum


class Box(NamedTuple):
    """A tile of an op's result: its size along every axis, of the axes' extents. Axes that are not tiled are whole."""

    sizes: tuple[Int, ...]
    shape: tuple[Int, ...]

    def run(self) -> Int | None:
        """The elements of a tile that lie one after the other, row-major; None where they do not."""
        k = next((k for k, n in enumerate(self.sizes) if n != 1), len(self.sizes))
        return prod(self.sizes) if self.sizes[k + 1 :] == self.shape[k + 1 :] else None

    def covers(self) -> bool:
        """Whether tiles that are runs cover the elements one after the other, none of them cut at the end of a row."""
        k = next((k for k, n in enumerate(self.sizes) if n != 1), 0)
        return k == 0 or bool(self.shape[k] % self.sizes[k] == 0)


def box(op: Generic) -> Box:
    """The tile of an op, along the axes of its result that have more than one element."""
    tiles = dict(op.tiles)
    (map, *_) = op.result_maps
    loops = [e.terms[0][0] for e in map if e.terms and op.extents[e.terms[0][0]] != 1]
    shape = tuple(op.extents[d] for d in loops)
    return Box(tuple(minimum(tiles.get(d, n), n) for d, n in zip(loops, shape, strict=True)), shape)


def fields(unit: Unit, op: Generic, machine: Target) -> dict[str, Any]:
    """The fields that make the nest's items or tasks the op's tiles. Raises ScheduleError."""
    twice = len({loop for loop, _ in op.tiles}) < len(op.tiles)
    tile = box(op)
    found = _fields(unit, tile, machine)
    if twice or found is None:
        said = ", ".join(f"{size} along loop {loop}" for loop, size in op.tiles)
        has = "one loop of each" if twice else "no such loops"
        raise ScheduleError(f"[schedule] its op is tiled by {said}, and the nest has {has}. Leave its tiles out.")
    return found


def _fields(unit: Unit, tile: Box, machine: Target) -> dict[str, Any] | None:
    if isinstance(unit, ProductNest):
        return _of_product(unit, tile, machine)
    return _of_loops(unit, tile) if isinstance(unit, LoopNest) else None


def _of_product(unit: ProductNest, tile: Box, machine: Target) -> dict[str, Any] | None:
    """Blocks of C: tiles along the last two axes, of one matrix at a time."""
    *batch, m, n = (1, 1, *tile.sizes)
    if any(x != 1 for x in batch) or not all(isinstance(x, int) for x in (m, n)):
        return None
    if unit.kind is GpuProduct:
        return {"tile": m} if m == n else None
    if unit.kind is not Product:
        return None
    wide = tiles_of(machine)[0].vectors
    lanes = machine.lanes(unit.c.dtype.itemsize)
    columns = -(-n // lanes) if n == unit.c.n else n // lanes
    vectors = next((v for v in range(wide, 0, -1) if columns % v == 0), 1)
    found = {"vectors": vectors, "n_block": columns * lanes if n == unit.c.n else n}
    if m == unit.c.m:
        return found
    return found | {"rows": max(gcd(m, rows) for rows in rows_beside(machine, vectors)), "m_block": m}


def _of_loops(unit: LoopNest, tile: Box) -> dict[str, Any] | None:
    run, form = tile.run(), unit.form
    if unit.kind is GpuPoints:
        return _of_threads(unit, tile, run)
    if unit.kind is Points:
        return _of_points(unit, tile, run)
    if run is None:
        return None
    if unit.kind is Rows:
        return {"chunks": False, "grain": run * form.count}
    if run > form.columns or tile.sizes[-1] != run:
        return None
    if unit.kind is Columns:
        return {"block": run, "grain": run * minimum(form.count, CHAIN)}
    return {"width": run} if unit.kind is GpuColumns else None


def _of_points(unit: LoopNest, tile: Box, run: Int | None) -> dict[str, Any] | None:
    """A task of elements that lie one after the other, a part of a row, or a tile of an operand that is turned."""
    extents, cols = unit.space.extents, unit.space.cols
    if not extents:
        return {"grain": run} if run is not None and tile.covers() else None
    if run is not None:
        within = cols == tile.shape[-1] and run < cols
        whole = {"part": 0, "tile": 0, "grain": run} if run % cols == 0 else None
        return {"part": run, "tile": 0, "grain": run} if within else whole
    if len(tile.sizes) >= 2 and cols == tile.shape[-1] and unit.space.crossing_loop() == len(extents) - 1:
        *outer, height, width = tile.sizes
        return {"lanes": height, "tile": width, "grain": height * width} if all(n == 1 for n in outer) else None
    return None


def _of_threads(unit: LoopNest, tile: Box, run: Int | None) -> dict[str, Any] | None:
    """The elements of a block of threads, or the tile of an operand that is turned."""
    if isinstance(run, int) and run % WARP == 0:
        threads = gcd(run, BLOCK_THREADS)
        return {"threads": threads, "each": run // threads, "tile": 0}
    *outer, height, width = (1, 1, *tile.sizes)
    return {"tile": width} if height == width and all(n == 1 for n in outer) else None
