"""Schedules of convolutions of 8-bit integers on CPUs: the register tile, and bands of rows.

In: what a convolution computes, a `Target`, and the fields that somebody has fixed. Out: its schedule. Next: `convolutions.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flambeau.compiler.codegen.convolutions.operands import ConvolutionOperands, read
from flambeau.compiler.codegen.units import OwnNest
from flambeau.compiler.schedules.fitting import registers
from flambeau.compiler.schedules.kinds import Quads
from flambeau.compiler.schedules.products import ITEM_WORK
from flambeau.compiler.targets import Target
from flambeau.dialects.dtypes import int8
from flambeau.dialects.size import Int, Size, ceil_div, minimum

#: Output channels and vectors of a tile where there are 32 registers, and where there are 16; of a signed map fewer, whose channels
#: take a sum more each.
WIDE, WIDE_SIGNED, NARROW, NARROW_SIGNED = (8, 3), (6, 3), (4, 2), (3, 2)
#: Bands of an image alone, for the sake of threads, and rows that a band has at least, for neighbours pack what both meet.
BANDS, LEAST_ROWS = 4, 8


def choose(nest: OwnNest, machine: Target, fixed: Mapping[str, Any]) -> Quads:
    c = read(nest.graph)
    lanes = fixed.get("lanes", machine.lanes(4))
    rows, vectors = _tile(c, lanes, machine)
    return Quads(
        lanes, fixed.get("rows", rows), fixed.get("vectors", vectors), fixed.get("band") or _band(c, machine),
        fixed.get("grain", ITEM_WORK),
    )  # fmt: skip


def _tile(c: ConvolutionOperands, lanes: int, machine: Target) -> tuple[int, int]:
    """Rows and vectors: no more than there are channels and places for."""
    assert c.small is not None
    signed = c.small.map is int8
    rows, vectors = (
        (WIDE_SIGNED if signed else WIDE) if machine.registers >= 32 else (NARROW_SIGNED if signed else NARROW)
    )
    if not isinstance(c.ys, Size):
        vectors = max(1, min(vectors, -(-c.ys // lanes)))
    return (rows if isinstance(c.o, Size) else max(1, min(rows, c.o))), vectors


def _band(c: ConvolutionOperands, machine: Target) -> Int:
    """Rows whose packed map stays in L2, and enough bands of an image alone."""
    rows = c.axes[0].y
    if isinstance(rows, Size) or any(isinstance(n, Size) for n in (c.xs, c.c)):
        return rows
    packed = 4 * -(-c.c // 4) * c.xs
    wanted = -(-packed // (machine.l2 // 2))
    if not isinstance(c.images, Size) and c.images * c.groups == 1:
        wanted = max(wanted, min(BANDS, rows // LEAST_ROWS))
    return -(-rows // max(1, min(rows, wanted)))


def obstacle(nest: OwnNest, schedule: Quads, machine: Target) -> str | None:
    """Why a schedule does not fit, and what to do; None if it does."""
    c = read(nest.graph)
    assert c.small is not None
    if not schedule.band <= c.axes[0].y:
        return f"a band has {schedule.band} rows, and the result {c.axes[0].y}. Give fewer."
    sums = schedule.rows * (schedule.vectors + (c.small.map is int8))
    return registers(sums + schedule.vectors + 1, schedule.lanes, 4, machine)


def regions(c: ConvolutionOperands, schedule: Quads) -> dict[str, Int]:
    """Sizes of what is packed, in numbers of 4 bytes: `rows` and `pitch` of a phase, its `plane`, all planes of a `quad`, all of it
    (`packed`), and the `places` of a row of sums."""
    down, right = c.axes
    width = schedule.lanes * schedule.vectors
    rows = schedule.band + (right_of(down) // down.stride)
    pitch = right.y + (right_of(right) // right.stride)
    plane = rows * pitch
    quad = plane * down.stride * right.stride
    packed = quad * ceil_div(c.c, 4) + pitch + width
    return {
        "rows": rows, "pitch": pitch, "plane": plane, "quad": quad, "packed": packed,
        "places": ceil_div(schedule.band * pitch, width) * width,
    }  # fmt: skip


def right_of(axis: Any) -> Int:
    """How far the last tap of an axis is from the first."""
    return (axis.w - 1) * axis.dilation


def grain(c: ConvolutionOperands, schedule: Quads, items: Int) -> Int:
    """Items of a task."""
    work = schedule.band * ceil_div(c.axes[1].y, schedule.lanes) * c.o * c.ws * ceil_div(c.c, 4)
    return minimum(items, max(1, schedule.grain // max(1, work)) if not isinstance(work, Size) else 1)
