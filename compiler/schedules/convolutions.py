"""Schedules of convolutions on CPUs: the register tile and the blocks of C.

In: what a convolution computes, a `Target`, and the fields that somebody has fixed. Out: its schedule. Numbers decide speed and
never a bit, and they never depend on the number of threads. Next: `products.py`, for the same of matrices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from flambeau.compiler.codegen.convolutions.operands import ConvolutionOperands, read
from flambeau.compiler.codegen.units import OwnNest
from flambeau.compiler.schedules.fitting import registers
from flambeau.compiler.schedules.kinds import Convolution
from flambeau.compiler.schedules.products import ITEM_WORK, ITEMS, PACK_ROWS, STEPS
from flambeau.compiler.targets import Target
from flambeau.dialects.size import Int, Size, ceil_div, maximum, minimum, repr_of

#: Rows of C that share a panel, at most: where A is packed, a k-block of so many rows stays in L2.
MOST_ROWS = 512
#: Rows and vectors of the register tile, where there are 32 registers and where there are 16: of the latter that which computes
#: least beyond C's borders; the first one where rows are places.
WIDE, NARROW = (8, 3), ((6, 2), (4, 3))
#: Tiles of a kernel where registers are many; what it takes to copy a vector of a line across cache lines, in multiply-adds of
#: vectors. (To transpose a square takes as many shuffles of each of its vectors as the number of these has bits, two each.)
OF_A_COPY = 8
#: What places take beside: to bring a vector of results from sums in scratch to C, to transpose it not counted, and to read another
#: line of a map; elements of a line. (Measured where a store under a mask takes long; elsewhere they were counted without.)
OF_A_RESULT, OF_A_LINE, LINE = 8, 1.5, 16
#: What a panel takes beside its columns, in vectors of these: the tiles along it read all of A once more.
OF_A_PANEL = 0.06
TILES = ((8, 3), (6, 4), (14, 2))
#: Those whose rows are places, each of which takes a register that points there; places of a block of C at most.
OF_PLACES, MOST_PLACES = ((6, 4), (8, 3), (7, 3)), 256
#: Caches of the second level that hold maps which are copied to get margins: of many images no map is copied whole.
NEAR = 4
#: Items of the parallel loop where every one packs A for itself, and columns of C that this is worth.
PACKED_ITEMS, PACKED_COLUMNS = 6, 64
#: Vectors of the columns of a block of C: what is noted and packed for a k-block serves so many.
BLOCK_VECTORS = 128


def choose(nest: OwnNest, machine: Target, fixed: Mapping[str, Any]) -> Convolution:
    c = read(nest.graph)
    lanes = fixed.get("lanes", machine.lanes(c.dtype.itemsize))
    turned = fixed["turned"] if "turned" in fixed else pays_to_turn(c, lanes, machine)
    all_rows, columns = extents(c, turned)
    tile = _tile(c, all_rows, columns, lanes, machine, turned)
    rows, vectors = fixed.get("rows", tile[0]), fixed.get("vectors") or tile[1]
    width, work = lanes * vectors, fixed.get("grain", ITEM_WORK)
    m_block, n_block = fixed.get("m_block"), fixed.get("n_block")
    m_blocks = ceil_div(all_rows, MOST_ROWS)
    panels = ceil_div(columns, width)
    k = ceil_div(c.k, c.phases)
    items = PACKED_ITEMS if c.gives == "w" else ITEMS
    wanted = minimum(items, c.groups * all_rows * ceil_div(columns, lanes) * maximum(k, 1) // work)
    n_blocks = ceil_div(columns, max(1, BLOCK_VECTORS // vectors) * width)
    if turned and c.gives == "y":
        m_blocks, n_blocks = _of_places(c, panels, width, wanted, machine)
    elif turned:
        m_blocks = maximum(m_blocks, minimum(ceil_div(wanted, c.groups), ceil_div(all_rows, PACK_ROWS)))
    else:
        n_blocks = maximum(n_blocks, ceil_div(wanted, c.groups * c.phases * m_blocks))
    n_blocks = maximum(1, minimum(panels, n_blocks))
    if c.gives == "w":
        n_blocks = minimum(n_blocks, ceil_div(columns, PACKED_COLUMNS))
    if not turned or c.gives == "w":
        missing = ceil_div(minimum(wanted, ITEMS // 4), c.groups * c.phases * n_blocks)
        m_blocks = maximum(m_blocks, minimum(missing, ceil_div(all_rows, PACK_ROWS)))
    m_block = ceil_div(all_rows, m_blocks * rows) * rows if m_block is None else m_block
    n_block = ceil_div(panels, n_blocks) * width if n_block is None else n_block
    steps = fixed.get("steps", 1 if c.gives == "w" else STEPS)
    narrows = fixed["narrows"] if "narrows" in fixed else not turned and _narrows(c, columns, lanes, vectors)
    return Convolution(lanes, rows, vectors, steps, m_block, n_block, turned, narrows, work)


def _of_places(c: ConvolutionOperands, panels: Int, width: int, wanted: Int, machine: Target) -> tuple[Int, Int]:
    """Blocks of places and of output channels: sums stay in a quarter of L2, and many places share what is read of the kernel."""
    m_blocks = ceil_div(c.pixels, MOST_PLACES)
    most = max(1, machine.l2 // 4 // (MOST_PLACES * c.dtype.itemsize) // width)
    n_blocks = maximum(ceil_div(panels, most), ceil_div(wanted, c.images * c.groups * m_blocks))
    return m_blocks, maximum(1, minimum(panels, n_blocks))


def pays_to_turn(c: ConvolutionOperands, lanes: int, machine: Target) -> bool:
    """Whether rows of C are better taps, of a gradient by the kernel, or places."""
    if c.gives == "x" or any(isinstance(n, Size) for n in (c.o, c.pixels, c.images, c.k)):
        return False
    if c.gives == "y":
        if margins(c) * c.dtype.itemsize > NEAR * machine.l2:
            return False
        return _cost_of_places(c, lanes, machine) < _cost_of_patches(c, lanes, machine)
    return _cost(c, True, lanes, machine) < _cost(c, False, lanes, machine)


def margins(c: ConvolutionOperands) -> int:
    """Elements of maps that are copied to get margins, or 0 where places meet none."""
    wide = [(int(a.y) - 1) * a.stride + (int(a.w) - 1) * a.dilation + 1 for a in c.axes]
    if all(a.padding == 0 and n <= a.x for a, n in zip(c.axes, wide, strict=True)):
        return 0
    return int(c.images) * c.groups * int(c.c) * prod(wide)


def _cost_of_places(c: ConvolutionOperands, lanes: int, machine: Target) -> int:
    """Multiply-adds of a step along k, those beyond C's borders included, and half of what it takes to turn the kernel: it is kept
    while it stays the same."""
    height, vectors = _tile(c, c.pixels, c.rows, lanes, machine, True)
    rows = ceil_div(int(c.pixels), height) * height * int(c.images)
    columns = ceil_div(int(c.rows), vectors * lanes) * vectors * lanes
    cost = int(rows * columns) + int(c.rows) * (OF_A_COPY + 2 * (lanes.bit_length() - 1)) // 2
    return cost if machine.has_masks else cost + _beside_places(c, height, vectors, lanes)


def _beside_places(c: ConvolutionOperands, height: int, vectors: int, lanes: int) -> int:
    """The same of all else: results, which are turned after all of k, margins, and lines of maps, of which places a stride apart
    use less and share fewer, and which taps of a row share."""
    results = int(c.pixels * c.images * c.rows) * (OF_A_RESULT + 2 * (lanes.bit_length() - 1))
    copied, last = margins(c) * OF_A_COPY, c.axes[-1]
    lines = last.stride * (1 + height * last.stride / LINE) / int(last.w)
    tiles = ceil_div(int(c.pixels), height) * int(c.images) * ceil_div(int(c.rows), vectors * lanes)
    return (results + copied) // max(1, int(c.k)) + int(tiles * lines * OF_A_LINE * lanes)


def _cost_of_patches(c: ConvolutionOperands, lanes: int, machine: Target) -> int:
    """The same where rows of C are output channels: a patch is copied for every block of these."""
    all_columns = int(columns_of(c))
    height, _ = _tile(c, c.rows, all_columns, lanes, machine, False)
    rows = ceil_div(int(c.rows), height) * height
    return int(rows * ceil_div(all_columns, lanes) * lanes + all_columns * OF_A_COPY * ceil_div(int(c.rows), MOST_ROWS))


def _cost(c: ConvolutionOperands, turned: bool, lanes: int, machine: Target) -> int:
    """Multiply-adds of a step along k, those beyond C's borders included, and what it takes to bring lines of the maps there: rows
    once for every block of columns, columns, which are transposed, once for every block of rows."""
    rows, columns = (int(n) for n in extents(c, turned))
    height, vectors = _tile(c, rows, columns, lanes, machine, turned)
    width = vectors * lanes
    n_blocks = 1 if turned else min(PACKED_ITEMS, ceil_div(columns, PACKED_COLUMNS))
    lines = columns * ceil_div(rows, MOST_ROWS)
    tiles = ceil_div(rows, height) * height * ceil_div(columns, width) * width
    return int(tiles + lines * (OF_A_COPY + 2 * (lanes.bit_length() - 1)) + rows * n_blocks * OF_A_COPY)


def extents(c: ConvolutionOperands, turned: bool) -> tuple[Int, Int]:
    """Rows and columns of C."""
    return (c.pixels, c.rows) if turned else (c.rows, columns_of(c))


def _tile(
    c: ConvolutionOperands, rows: Int, columns: Int, lanes: int, machine: Target, turned: bool
) -> tuple[int, int]:
    """Rows and vectors of the register tile: where rows and columns are few, that which computes least beyond. So have
    phases columns, which may fill fewer vectors better."""
    known = not (isinstance(rows, Size) or isinstance(columns, Size))
    if machine.registers < 32:
        tiles: Sequence[tuple[int, int]] = NARROW if known and not (turned and c.gives == "y") else NARROW[:1]
    else:
        tiles = (TILES if c.gives == "w" else OF_PLACES) if known and (c.gives == "w" or turned) else (WIDE,)
    if c.phases > 1 and known:
        tiles = [(most, _of_phases(columns, lanes, wide)) for most, wide in tiles] if len(tiles) == 1 else tiles
    fitting = [(most if isinstance(rows, Size) else min(rows, most), _vectors(columns, lanes, v)) for most, v in tiles]
    if not known:
        return fitting[0]
    return min(fitting, key=lambda t: ceil_div(rows, t[0]) * t[0] * ceil_div(columns, lanes * t[1]) * t[1])


def _of_phases(columns: Int, lanes: int, wide: int) -> int:
    """Vectors of a phase's columns, so many at most: those which compute least beyond."""
    return min(range(2, wide + 1), key=lambda v: ceil_div(columns, v * lanes) * (v + OF_A_PANEL))


def _narrows(c: ConvolutionOperands, columns: Int, lanes: int, vectors: int) -> bool:
    """Whether the last columns, which fill no tile, go vector by vector: of small maps they are many. It is the same for few of
    them and for many, so that layers share text."""
    if not may_narrow(c) or vectors == 1:
        return False
    return isinstance(columns, Size) or ceil_div(columns, lanes) % vectors > 0


def may_narrow(c: ConvolutionOperands) -> bool:
    """Columns of a phase are noted panel by panel; those of a gradient by the kernel are many."""
    return c.gives != "w" and c.phases == 1


def columns_of(c: ConvolutionOperands) -> Int:
    """Columns of C, of the first phase, which has most."""
    if c.phases == 1:
        return c.copies * c.pixels
    return c.images * prod(ceil_div(a.x, a.stride) for a in c.axes)


def _vectors(columns: Int, lanes: int, wide: int) -> int:
    """As many as there are columns for."""
    return wide if isinstance(columns, Size) else max(1, min(wide, -(-columns // lanes)))


def obstacle(nest: OwnNest, schedule: Convolution, machine: Target) -> str | None:
    """Why a schedule does not fit, and what to do; None if it does."""
    c = read(nest.graph)
    if schedule.turned and c.gives == "x":
        return "turned is true, and this is a gradient by the maps. Give false."
    if schedule.narrows and (schedule.turned or not may_narrow(c)):
        return "narrows is true, and columns are no places of a map that lie side by side. Give false."
    rows, columns = extents(c, schedule.turned)
    if not schedule.m_block < rows + schedule.rows or not schedule.n_block < columns + schedule.columns:
        return f"a block of C is larger than C, {repr_of(rows)} x {repr_of(columns)}. Give smaller m_block and n_block."
    values = schedule.rows * schedule.vectors + schedule.vectors + 1
    return registers(values, schedule.lanes, c.dtype.itemsize, machine)
