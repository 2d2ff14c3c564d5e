"""Schedules of direct convolutions on CPUs, and which convolutions are.

In: what a convolution computes, a `Target`, and the fields that somebody has fixed. Out: its schedule. What is chosen follows from
a count of loads, multiply-adds and registers. Numbers decide speed and never a bit. Next: `convolutions.py`, for all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flambeau.compiler.codegen.conv_operands import Axis, read
from flambeau.compiler.codegen.conv_operands import Convolution as Computed
from flambeau.compiler.codegen.conv_taps import Pattern, pattern
from flambeau.compiler.codegen.units import OwnNest
from flambeau.compiler.schedules.fitting import registers
from flambeau.compiler.schedules.kinds import Direct
from flambeau.compiler.schedules.products import ITEM_WORK, ITEMS
from flambeau.compiler.targets import Target
from flambeau.dialects.orders import BLOCK
from flambeau.dialects.size import Int, Size, at_most, ceil_div, maximum, minimum, repr_of

#: Results of a group that a product's tile of 8 rows would compute at once: of so few, packing costs more than it saves.
MOST_CHANNELS = 4
#: Taps that are written out, at most.
MOST_TAPS = 128
#: Rows of tiles, at most; what a tile takes beside its loads and multiply-adds, in such.
MOST_ROWS, OF_A_TILE = 8, 6


def is_direct(c: Computed) -> bool:
    """Whether a convolution is computed without packing."""
    return (
        c.gives != "w"
        and len(c.axes) <= 2
        and not any(isinstance(a.w, Size) for a in c.axes)
        and not isinstance(c.rows, Size)
        and c.rows <= MOST_CHANNELS
        and 0 < c.ws <= MOST_TAPS
        and at_most(channels(c) * c.ws, BLOCK)
    )


def channels(c: Computed) -> Int:
    """Channels of a group that a result is made of."""
    return c.c if c.gives == "y" else c.o


def plane(c: Computed) -> tuple[Axis, Axis]:
    """Rows and columns; of one axis these are columns."""
    return (Axis(1, 1, 1, 1, 0, 1), c.axes[0]) if len(c.axes) == 1 else (c.axes[0], c.axes[1])


def choose(nest: OwnNest, machine: Target, fixed: Mapping[str, Any]) -> Direct:
    c = read(nest.graph)
    axes = plane(c)
    rows, columns = (pattern(c.gives, a) for a in axes)
    height, width = (ceil_div(a.y if c.gives == "y" else a.x, p.results) for a, p in zip(axes, (rows, columns)))
    most = machine.lanes(c.dtype.itemsize)
    lanes = fixed.get("lanes", least_lanes(width, most))
    kept, grain = fixed.get("kept"), fixed.get("grain", ITEM_WORK)
    each = rows.results * columns.results * _registers(lanes, c, machine)
    room = machine.registers - _registers(lanes, c, machine) * (1 + len(columns.offsets))
    taps = c.ws * _registers(lanes, c, machine)
    tile = fixed.get("rows") or _rows(rows, columns, height, max(1, min(MOST_ROWS, room // each)))
    if kept is None:
        kept = taps + tile * each <= room
    planes = c.copies * c.groups * c.rows
    work = height * ceil_div(width, lanes) * maximum(1, ceil_div(c.k, c.phases))
    bands = minimum(ceil_div(ITEMS, maximum(1, planes)), maximum(1, planes * work // grain))
    band = fixed.get("band") or maximum(1, ceil_div(height, maximum(1, minimum(bands, ceil_div(height, tile)))))
    return Direct(lanes, tile, kept, band, grain)


def _registers(lanes: int, c: Computed, machine: Target) -> int:
    """Registers of a vector."""
    return max(1, lanes * c.dtype.itemsize // machine.vector_bytes)


def least_lanes(width: Int, most: int) -> int:
    """The least that need no more vectors for so many elements."""
    lanes = most
    while not isinstance(width, Size) and lanes > 2 and -(-width // (lanes // 2)) == -(-width // lanes):
        lanes //= 2
    return lanes


def _rows(rows: Pattern, columns: Pattern, height: Int, most: int) -> int:
    """The height of tiles for which a plane takes least: what they read, what they multiply (which is the same for all), and what
    tiles take besides. Rows that do not fill one go one by one."""
    if isinstance(height, Size):
        return most

    def cost(count: int) -> int:
        return len(rows.rows(count)) * len(columns.offsets) + OF_A_TILE

    return min(range(1, most + 1), key=lambda n: (height // n * cost(n) + height % n * cost(1), n))


def obstacle(nest: OwnNest, schedule: Direct, machine: Target) -> str | None:
    """Why a schedule does not fit, and what to do; None if it does."""
    c = read(nest.graph)
    rows, columns = (pattern(c.gives, a) for a in plane(c))
    height = ceil_div(plane(c)[0].y if c.gives == "y" else plane(c)[0].x, rows.results)
    if not schedule.band <= height:
        return f"band is {repr_of(schedule.band)}, and planes have {repr_of(height)} rows. Give less."
    return registers(schedule.rows * rows.results * columns.results + 2, schedule.lanes, c.dtype.itemsize, machine)
