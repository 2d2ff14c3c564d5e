"""Schedules of gradients of convolutions by the kernel whose vectors hold output channels, and which of these are computed so.

In: what a convolution computes, a `Target`, and the fields that somebody has fixed. Out: its schedule, from counts of loads and
registers and the size of the cache that strips stay in. Numbers decide speed and never a bit. Next: `direct.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flambeau.compiler.codegen.convolutions.operands import ConvolutionOperands, read
from flambeau.compiler.codegen.units import OwnNest
from flambeau.compiler.schedules.direct import MOST_CHANNELS, MOST_TAPS, least_lanes, plane
from flambeau.compiler.schedules.fitting import registers
from flambeau.compiler.schedules.kinds import DirectWeight
from flambeau.compiler.schedules.products import ITEM_WORK
from flambeau.compiler.targets import Target
from flambeau.dialects.size import Size

#: Taps in a row whose sums every machine's registers hold; fewer output channels than these fill no vector.
MOST_COLUMNS, LEAST_CHANNELS = 11, 4
#: Columns of a product that leave most lanes of vectors idle.
FEW_COLUMNS = 12
#: Places of a row that are turned at once, at most, and how many where rows are not known; rows at once, at most.
MOST_PLACES, SOME_PLACES, MOST_ROWS = 256, 64, 64
#: Strips take this part of L2: outputs and what is read of memory pass through it, too.
PART_OF_L2 = 4
MOST_UNROLLED = 8


def is_direct(c: ConvolutionOperands) -> bool:
    """Whether a gradient by the kernel is computed so."""
    return (
        c.gives == "w"
        and len(c.axes) <= 2
        and not any(isinstance(n, Size) for n in (*(a.w for a in c.axes), c.c, c.o))
        and 0 < c.c <= MOST_CHANNELS
        and (0 < c.o <= MOST_CHANNELS or c.c * c.ws <= FEW_COLUMNS)
        and 0 < c.ws <= MOST_TAPS
        and c.axes[-1].w <= MOST_COLUMNS
        and c.groups * c.o >= LEAST_CHANNELS
    )


def choose(nest: OwnNest, machine: Target, fixed: Mapping[str, Any]) -> DirectWeight:
    c = read(nest.graph)
    by_rows, by_columns = plane(c)
    kernel, itemsize = (int(by_rows.w), int(by_columns.w)), c.dtype.itemsize
    lanes = fixed.get("lanes", least_lanes(c.groups * c.o, machine.lanes(itemsize)))
    each = max(1, lanes * itemsize // machine.vector_bytes)
    tap_rows = fixed.get("tap_rows") or max(1, min(kernel[0], (machine.registers // each - 2) // kernel[1]))
    height, width = by_rows.y, by_columns.y
    columns = fixed.get("columns")
    if columns is None:
        columns = SOME_PLACES if isinstance(width, Size) else max(1, min(MOST_PLACES, width))
    rows = fixed.get("rows")
    if rows is None:
        room = machine.l2 // PART_OF_L2 // (columns * lanes * itemsize)
        of_taps = (kernel[0] - 1) * by_rows.dilation + 1 - by_rows.stride
        rows = max(1, min(MOST_ROWS, (room - by_columns.stride * of_taps) // (1 + by_rows.stride * by_columns.stride)))
        rows = rows if isinstance(height, Size) else max(1, min(rows, height))
    unroll = fixed.get("unroll") or _unroll(columns, tap_rows, kernel[1], by_columns.stride)
    return DirectWeight(lanes, tap_rows, unroll, rows, columns, fixed.get("grain", ITEM_WORK))


def _unroll(places: int, tap_rows: int, taps: int, stride: int) -> int:
    """How many places share what they read, so that a row of `places` takes the fewest loads; what is left goes one by one."""

    def cost(count: int) -> int:
        read = len({k * stride + s for k in range(count) for s in range(taps)})
        return count + tap_rows * read

    return min(
        range(1, min(MOST_UNROLLED, places) + 1), key=lambda n: (places // n * cost(n) + places % n * cost(1), n)
    )


def obstacle(nest: OwnNest, schedule: DirectWeight, machine: Target) -> str | None:
    """Why a schedule does not fit, and what to do; None if it does."""
    c = read(nest.graph)
    rows, columns = (int(a.w) for a in plane(c))
    if schedule.tap_rows > rows:
        return f"tap_rows is {schedule.tap_rows}, and kernels have {rows} rows. Give at most that."
    return registers(schedule.tap_rows * columns + 2, schedule.lanes, c.dtype.itemsize, machine)
