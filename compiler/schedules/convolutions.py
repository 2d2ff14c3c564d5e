"""Schedules of convolutions on CPUs: the register tile and the blocks of C.

In: what a convolution computes, a `Target`, and the fields that somebody has fixed. Out: its schedule. Numbers decide speed and
never a bit, and they never depend on the number of threads. Next: `products.py`, for the same of matrices.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from flambeau.compiler.codegen.conv_operands import Convolution as Computed
from flambeau.compiler.codegen.conv_operands import read
from flambeau.compiler.codegen.units import OwnNest
from flambeau.compiler.schedules.fitting import registers
from flambeau.compiler.schedules.kinds import Convolution
from flambeau.compiler.schedules.products import ITEM_WORK, ITEMS, PACK_ROWS, STEPS
from flambeau.compiler.targets import Target
from flambeau.dialects.size import Int, Size, ceil_div, maximum, minimum, repr_of

#: Rows of C that share a panel, at most: where A is packed, a k-block of so many rows stays in L2.
MOST_ROWS = 512
#: Rows and vectors of the register tile, where there are 32 registers and where there are 16. (Four rows of three vectors, as
#: products have them there, are one register too many beside what says where columns lie. Patches that are turned take more.)
WIDE, NARROW, TURNED = (8, 3), (6, 2), (4, 2)
#: Items of the parallel loop where every one packs A for itself, and columns of C that this is worth.
PACKED_ITEMS, PACKED_COLUMNS = 6, 64
#: Vectors of the columns of a block of C: what is noted and packed for a k-block serves so many.
BLOCK_VECTORS = 128


def choose(nest: OwnNest, machine: Target, fixed: Mapping[str, Any]) -> Convolution:
    c = read(nest.graph)
    lanes = fixed.get("lanes", machine.lanes(c.dtype.itemsize))
    rows, wide = WIDE if machine.registers >= 32 else TURNED if c.gives == "w" else NARROW
    rows = fixed.get("rows", c.rows if not isinstance(c.rows, Size) and c.rows < rows else rows)
    vectors = fixed.get("vectors") or _vectors(c, lanes, wide)
    width, work = lanes * vectors, fixed.get("grain", ITEM_WORK)
    m_block, n_block = fixed.get("m_block"), fixed.get("n_block")
    columns = columns_of(c)
    m_blocks = ceil_div(c.rows, MOST_ROWS)
    panels = ceil_div(columns, width)
    k = ceil_div(c.k, c.phases)
    items = PACKED_ITEMS if c.gives == "w" else ITEMS
    wanted = minimum(items, c.groups * c.rows * ceil_div(columns, lanes) * maximum(k, 1) // work)
    n_blocks = maximum(
        ceil_div(columns, max(1, BLOCK_VECTORS // vectors) * width), ceil_div(wanted, c.groups * c.phases * m_blocks)
    )
    n_blocks = maximum(1, minimum(panels, n_blocks))
    if c.gives == "w":
        n_blocks = minimum(n_blocks, ceil_div(columns, PACKED_COLUMNS))
    missing = ceil_div(minimum(wanted, ITEMS // 4), c.groups * c.phases * n_blocks)
    m_blocks = maximum(m_blocks, minimum(missing, ceil_div(c.rows, PACK_ROWS)))
    m_block = ceil_div(c.rows, m_blocks * rows) * rows if m_block is None else m_block
    n_block = ceil_div(panels, n_blocks) * width if n_block is None else n_block
    return Convolution(lanes, rows, vectors, fixed.get("steps", 1 if c.gives == "w" else STEPS), m_block, n_block, work)


def columns_of(c: Computed) -> Int:
    """Columns of C, of the first phase, which has most."""
    if c.phases == 1:
        return c.copies * c.pixels
    return c.images * prod(ceil_div(a.x, a.stride) for a in c.axes)


def _vectors(c: Computed, lanes: int, wide: int) -> int:
    """As many as there are columns for."""
    columns = columns_of(c)
    return wide if isinstance(columns, Size) else max(1, min(wide, -(-columns // lanes)))


def obstacle(nest: OwnNest, schedule: Convolution, machine: Target) -> str | None:
    """Why a schedule does not fit, and what to do; None if it does."""
    c = read(nest.graph)
    columns = columns_of(c)
    if not schedule.m_block < c.rows + schedule.rows or not schedule.n_block < columns + schedule.columns:
        return (
            f"a block of C is larger than C, {repr_of(c.rows)} x {repr_of(columns)}. Give smaller m_block and n_block."
        )
    values = schedule.rows * schedule.vectors + schedule.vectors + 1
    return registers(values, schedule.lanes, c.dtype.itemsize, machine)
