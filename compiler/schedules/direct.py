"""Schedules of direct convolutions on CPUs, and which convolutions are.

In: what a convolution computes, a `Target`, and the fields that somebody has fixed. Out: its schedule. What is chosen follows from
a count of loads, multiply-adds and registers. Numbers decide speed and never a bit. Next: `convolutions.py`, for all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from flambeau.compiler.codegen.convolutions.operands import Axis, ConvolutionOperands, read
from flambeau.compiler.codegen.convolutions.taps import Pattern, pattern
from flambeau.compiler.codegen.units import OwnNest
from flambeau.compiler.schedules.fitting import registers
from flambeau.compiler.schedules.kinds import Direct
from flambeau.compiler.schedules.products import ITEM_WORK, ITEMS
from flambeau.compiler.targets import Target
from flambeau.dialects.orders import BLOCK
from flambeau.dialects.size import Int, Size, at_most, ceil_div, hint, maximum, minimum, repr_of

#: Results of a group that a product's tile of 8 rows would compute at once: of so few, packing costs more than it saves.
MOST_CHANNELS = 4
#: Taps that are written out, at most.
MOST_TAPS = 128
#: Rows of tiles, at most; what a tile takes beside its loads and multiply-adds, in such; what a value takes that registers do not
#: hold; sums that go on side by side at least, so that none waits for another; elements of the kernel that registers hold at least.
MOST_ROWS, OF_A_TILE, OF_A_SPILL, SIDE_BY_SIDE, OF_KERNELS = 8, 6, 2, 8, 8

#: Along channels: columns of a strip, at most, and how many where rows are not known; rows; the part of L2 that a strip takes;
#: results of a unit that are written out.
MOST_COLUMNS, SOME_COLUMNS, MOST_STRIP, PART_OF_L2, MOST_RESULTS = 256, 64, 64, 4, 4
#: What a vector read across cache lines takes, and what storing one takes, in multiply-adds. (To turn a square takes as many
#: shuffles of each of its vectors as the number of these has bits, and loads and stores that hide behind them.)
ACROSS_LINES, OF_A_VECTOR = 3, 3


def is_direct(c: ConvolutionOperands) -> bool:
    """Whether a convolution is computed without packing."""
    return (
        c.gives != "w"
        and len(c.axes) <= 2
        and not any(isinstance(a.w, Size) for a in c.axes)
        and not isinstance(c.rows, Size)
        and c.rows <= MOST_CHANNELS
        and 0 < c.ws <= MOST_TAPS
        and at_most(steps(c), BLOCK)
    )


def steps(c: ConvolutionOperands) -> Int:
    """Steps along k of a result that meets most taps: of a gradient with a stride, each phase meets its own."""
    met = (max(map(len, pattern(c.gives, a).taps)) for a in c.axes)
    return channels(c) * prod(met)


def channels(c: ConvolutionOperands) -> Int:
    """Channels of a group that a result is made of."""
    return c.c if c.gives == "y" else c.o


def plane(c: ConvolutionOperands) -> tuple[Axis, Axis]:
    """Rows and columns; of one axis these are columns."""
    return (Axis(1, 1, 1, 1, 0, 1), c.axes[0]) if len(c.axes) == 1 else (c.axes[0], c.axes[1])


def choose(nest: OwnNest, machine: Target, fixed: Mapping[str, Any]) -> Direct:
    c = read(nest.graph)
    axes = plane(c)
    rows, columns = (pattern(c.gives, a) for a in axes)
    height, width = (ceil_div(a.y if c.gives == "y" else a.x, p.results) for a, p in zip(axes, (rows, columns)))
    most, grain = machine.lanes(c.dtype.itemsize), fixed.get("grain", ITEM_WORK)
    along = fixed.get("along") or ("channels" if _pays_to_turn(c, rows, columns, height, width, most) else "row")
    lanes = fixed.get("lanes") or least_lanes(c.groups * c.rows if along == "channels" else width, most)
    across = fixed.get("columns") or (SOME_COLUMNS if isinstance(width, Size) else max(1, min(MOST_COLUMNS, width)))
    unroll = fixed.get("unroll") or _unroll(columns, across, machine)
    each = rows.results * columns.results * _registers(lanes, c, machine)
    room = machine.registers - _registers(lanes, c, machine) * (1 + len(columns.offsets))
    tile = fixed.get("rows")
    if tile is None and along == "channels":
        tile = _strip(rows, columns, height, across, machine.l2 // PART_OF_L2 // (lanes * c.dtype.itemsize))
    elif tile is None:
        tile = _rows(
            c,
            rows,
            columns,
            height,
            max(1, min(MOST_ROWS, room // each)),
            machine.registers // _registers(lanes, c, machine),
        )
    kept = fixed.get("kept")
    if kept is None:
        kept = along == "row" and c.ws * _registers(lanes, c, machine) + tile * each <= room
    band = fixed.get("band")
    if band is None and along == "channels":
        vectors = ceil_div(c.groups * c.rows, lanes)
        band = maximum(1, ceil_div(c.images, maximum(1, minimum(c.images, ceil_div(ITEMS, vectors)))))
    elif band is None:
        planes = c.copies * c.groups * c.rows
        work = height * ceil_div(width, lanes) * maximum(1, ceil_div(c.k, c.phases))
        bands = minimum(ceil_div(ITEMS, maximum(1, planes)), maximum(1, planes * work // grain))
        band = maximum(1, ceil_div(height, maximum(1, minimum(bands, ceil_div(height, tile)))))
    return Direct(lanes, along, tile, across, unroll, kept, band, grain)


def _pays_to_turn(c: ConvolutionOperands, rows: Pattern, columns: Pattern, height: Int, width: Int, lanes: int) -> bool:
    """Whether channels in the lanes take less, counted in multiply-adds of as many planes as a vector has lanes: of those that
    lanes idle in, of what is read beside each, of squares that are turned."""
    if any(isinstance(n, Size) for n in (height, width, channels(c))) or channels(c) != 1:
        return False
    if rows.results * columns.results > MOST_RESULTS or not height * width:
        return False
    taps, results = sum(len(t) for t in rows.taps) * sum(len(t) for t in columns.taps), rows.results * columns.results
    squares = rows.reached(int(height)) * ceil_div(columns.reached(int(width)), lanes)
    squares += ceil_div(height * width * results, lanes)
    vectors, planes = ceil_div(width, lanes), c.groups * c.rows
    turned = ceil_div(planes, lanes) * (height * width * taps + squares * lanes * (lanes.bit_length() - 1))
    loads = len(rows.rows(MOST_ROWS)) * len(columns.offsets) * columns.step / MOST_ROWS
    return bool(turned < planes * height * vectors * (taps + ACROSS_LINES * loads + OF_A_VECTOR * results))


def _unroll(columns: Pattern, width: int, machine: Target) -> int:
    """How many columns share what they read, so that a row takes the fewest loads; what is left goes one by one."""

    def cost(count: int) -> int:
        near = {k * columns.step + offset for k in range(count) for offset in columns.offsets}
        return len(near) + 2 * len(columns.offsets)

    most = min(machine.registers * 7 // 16, width)  # beside these sums, what is multiplied
    return min(range(1, most + 1), key=lambda n: (width // n * cost(n) + width % n * cost(1), n))


def _strip(rows: Pattern, columns: Pattern, height: Int, across: int, room: int) -> int:
    """Rows of a strip: of so many vectors, what is turned and what comes of it stay in the cache."""
    line = columns.reached(across)
    each = rows.step * line + rows.results * across * columns.results
    count = max(1, min(MOST_STRIP, (room - (rows.reached(1) - rows.step) * line) // each))
    return count if isinstance(height, Size) else max(1, min(count, height))


def _registers(lanes: int, c: ConvolutionOperands, machine: Target) -> int:
    """Registers of a vector."""
    return max(1, lanes * c.dtype.itemsize // machine.vector_bytes)


def least_lanes(width: Int, most: int) -> int:
    """The least that need no more vectors for so many elements."""
    lanes = most
    while not isinstance(width, Size) and lanes > 2 and -(-width // (lanes // 2)) == -(-width // lanes):
        lanes //= 2
    return lanes


def _rows(c: ConvolutionOperands, rows: Pattern, columns: Pattern, height: Int, most: int, registers: int) -> int:
    """The height of tiles for which a plane takes least, counted in loads or in multiply-adds, whichever are more: those of a
    channel, and what registers do not hold beside. Rows that do not fill one go one by one."""
    if isinstance(height, Size):
        return most
    across, offsets, taps, deep = columns.results, len(columns.offsets), int(c.ws), hint(channels(c))
    met = sum(map(len, rows.taps)) * sum(map(len, columns.taps))

    def cost(count: int) -> float:
        sums = count * rows.results * across
        waits = max(1, SIDE_BY_SIDE / sums) if deep > 1 else 1  # the sums of one channel are done with their tile
        spilled = max(0, sums + min(taps, OF_KERNELS) + offsets + 1 - registers)
        loads = len(rows.rows(count)) * offsets + taps
        return max(count * met * waits, loads) + OF_A_SPILL * spilled + OF_A_TILE / max(1, deep)

    return min(range(1, most + 1), key=lambda n: (height // n * cost(n) + height % n * cost(1), n))


def is_narrow(columns: Pattern, width: Int, size: Int, lanes: int) -> bool:
    """Whether every vector of a row of `width` results reaches over an edge of the map's row of that `size`."""
    if isinstance(width, Size) or isinstance(size, Size):
        return False
    starts = range(0, ceil_div(width, columns.results), lanes)
    return not any(
        first * columns.step + columns.offsets[0] >= 0
        and first * columns.step + columns.offsets[-1] + lanes * columns.step - 1 < size
        and (first + lanes) * columns.results <= width
        for first in starts
    )


def obstacle(nest: OwnNest, schedule: Direct, machine: Target) -> str | None:
    """Why a schedule does not fit, and what to do; None if it does."""
    c = read(nest.graph)
    rows, columns = (pattern(c.gives, a) for a in plane(c))
    if schedule.along == "channels":
        if not schedule.band <= maximum(1, c.images):
            return f"band is {repr_of(schedule.band)}, and there are {repr_of(c.images)} images. Give less."
        if isinstance(channels(c), Size) or channels(c) != 1:
            return (
                f"results are made of {repr_of(channels(c))} channels, and vectors hold those of one. Give along row."
            )
        return registers(schedule.unroll + 2, schedule.lanes, c.dtype.itemsize, machine)
    height = ceil_div(plane(c)[0].y if c.gives == "y" else plane(c)[0].x, rows.results)
    if not schedule.band <= height:
        return f"band is {repr_of(schedule.band)}, and planes have {repr_of(height)} rows. Give less."
    return registers(schedule.rows * rows.results * columns.results + 2, schedule.lanes, c.dtype.itemsize, machine)
