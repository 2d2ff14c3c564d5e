"""Schedules of nests on GPUs: threads of a block, what each of them computes, what passes through workgroup memory.

In: a `LoopNest` or `ProductNest`, and the fields that somebody has fixed. Out: its schedule. Raises ValueError where partial
results do not fit workgroup memory. Next: `fitting.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flambeau.compiler.codegen.gpu.loops import transposed
from flambeau.compiler.codegen.lane_folds import chunks_of
from flambeau.compiler.codegen.units import LoopNest, ProductNest
from flambeau.compiler.schedules.gpu_kinds import GpuColumns, GpuPoints, GpuProduct, GpuRows, GpuVectorProduct
from flambeau.compiler.targets import Target
from flambeau.dialects.orders import CHAIN, CHUNK
from flambeau.dialects.size import Int, Size, ceil_div, maximum

#: Bytes of workgroup memory that every device gives a block.
SHARED = 48 << 10
#: More chunks than this would not fit workgroup memory.
MOST_CHUNKS = 2048
THREADS, TILE, GROUPS = 256, 32, 4
WIDTH, WORKERS = 32, 8
PRODUCT_TILE, DEPTH, EACH, PAD = 64, 16, 4, 4

Fixed = Mapping[str, Any]


def points(nest: LoopNest, machine: Target, fixed: Fixed) -> GpuPoints:
    tile = fixed.get("tile")
    if tile is None:
        tile = TILE if transposed(nest.fragment) else 0
    return GpuPoints(fixed.get("threads", THREADS), fixed.get("each", 1), tile, fixed.get("pad", 1))


def rows(nest: LoopNest, machine: Target, fixed: Fixed) -> GpuRows:
    return GpuRows(*_groups_and_room(nest.form.count, fixed))


def vector_product(nest: ProductNest, machine: Target, fixed: Fixed) -> GpuVectorProduct:
    return GpuVectorProduct(*_groups_and_room(nest.c.k, fixed))


def _groups_and_room(count: Int, fixed: Fixed) -> tuple[int, int]:
    room = fixed.get("room") or room_for(chunks_of(count), MOST_CHUNKS)
    if room > MOST_CHUNKS:
        raise ValueError(f"[gpu] a row of {count} elements is longer than {CHUNK * MOST_CHUNKS}. Reduce in two steps.")
    return fixed.get("groups", min(GROUPS, room)), room


def columns(nest: LoopNest, machine: Target, fixed: Fixed) -> GpuColumns:
    width = fixed.get("width", WIDTH)
    most = SHARED // (width * bytes_per_part(nest))
    room = fixed.get("room") or room_for(maximum(1, ceil_div(nest.form.count, CHAIN)), most)
    if room > most:
        raise ValueError(f"[{nest.label}] {nest.form.count} rows are too many for one kernel. Reduce in two steps.")
    return GpuColumns(width, fixed.get("workers", WORKERS), room)


def bytes_per_part(nest: LoopNest) -> int:
    """Bytes of the partial results of one chain or chunk, of all folds."""
    fragment = nest.fragment
    return sum(fragment.avals[n.results[0]].dtype.itemsize for n in fragment.members if fragment.folds(n))


def product(nest: ProductNest, machine: Target, fixed: Fixed) -> GpuProduct:
    return GpuProduct(
        fixed.get("tile", PRODUCT_TILE), fixed.get("depth", DEPTH), fixed.get("each", EACH), fixed.get("pad", PAD)
    )


def room_for(count: Int, most: int) -> int:
    """For how many parts of a fold there is to be room. For a count known at run time only it is a power of two, or `most`:
    the kernel serves all counts up to that and down to the half. More than `most` stands for all that is more."""
    if not isinstance(count, Size):
        return count
    room = 1
    while not count <= room:
        if room == most:
            return most + 1
        room = min(2 * room, most)
    return room
