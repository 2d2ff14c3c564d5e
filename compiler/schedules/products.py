"""Schedules of products on CPUs: the register tile, the blocks of C that are items of the parallel loop, what is packed.

In: a `ProductNest`, a `Target`, and the fields that somebody has fixed. Out: its schedule. Numbers decide speed and never a
bit, and they never depend on the number of threads; `benchmarks/gemm.py` measured them. Next: `fitting.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from flambeau.compiler.codegen.products.operands import Contraction, Factor, lines_of, unit_of_lhs, unit_of_rhs
from flambeau.compiler.codegen.units import ProductNest
from flambeau.compiler.schedules.kinds import DotProduct, Product, VectorProduct
from flambeau.compiler.targets import Target
from flambeau.compiler.targets.target import LINE
from flambeau.dialects.orders import BLOCK, LANES
from flambeau.dialects.size import Int, Size, ceil_div, hint, maximum, minimum

#: For the sake of threads, C is cut into blocks of at least so many rows or columns where A is computed: its elements
#: are computed once per block of columns, B is packed once per block of rows.
LEAST_ROWS, LEAST_COLUMNS = 128, 256
#: Rows of a block of A that is computed: it stays in L2 while all columns of B pass by.
COMPUTED_ROWS = 512
#: Rows of A that share a packed panel of B on any machine.
COMMON_ROWS = 512
#: Reading A in place hides behind the arithmetic, computing it does not: that pays for few columns, or an A larger than
#: the caches (in bytes) that is still computed only once. Measured with `benchmarks/fusion.py`.
NARROW, LARGE = 64, 4 << 20
#: Multiply-adds that one thread may do by itself although others have nothing to do.
ALONE = 8_000_000
#: B is packed where so many rows share it; vector multiply-adds that are worth an item of the parallel loop; a product is not
#: cut into more items for the sake of threads.
PACK_ROWS, ITEM_WORK, ITEMS = 192, 40_000, 24
#: Rows of B that are asked for before a panel's first tile needs them: they lie far apart, which caches do not foresee.
AHEAD = 16
#: Panels of an unchanged B are kept from call to call where packing them takes more than this part of the multiply-adds.
WORTH = 128
#: Chains that fill the latency of two multiply-add units. Columns that fill no tile go vector by vector: that takes at least so
#: many times as long, and longer where the rows of a tile are fewer chains.
CHAINS, BORDER = 8, 1.3
#: Cycles that a tile waits for a cache line beyond L1 unless a step's multiply-adds, two a cycle, hide them. A copy of A pays
#: where so many cycles per step along k are saved by all tiles that read it.
LINE_CYCLES, COPY_CYCLES = 8.0, 9.0
#: Columns of C that share a copy of A, where there are so many.
COPIED_COLUMNS = 512
#: Steps along k per round.
STEPS = 2
#: Steps and leaves of a computed operand that is written out several times in a row, or between the arithmetic of a tile.
SHORT, MOST_SHORT_LEAVES, UNROLLED = 4, 3, 4
#: Multiply-adds worth a task of a matrix-vector product.
VECTOR_GRAIN = 65_536
#: A line of a matrix that is read alone is asked for so many bytes ahead, where the matrix may lie in the last cache: what caches
#: foresee is too near there. From memory it comes no faster.
LINE_AHEAD = 2048

#: Rows and columns of a tile of dots where there are 32 registers and where there are 16; with one row all go along B. Columns of
#: a block of C, whose lines of B stay in L2 while rows pass by, and rows of one.
DOTS, FEW_DOTS, ONE_ROW = (4, 4), (2, 3), 8
DOT_COLUMNS, DOT_ROWS = 64, 64

Fixed = Mapping[str, Any]


# ---- matrices ---------------------------------------------------------------------------------------------------


def product(nest: ProductNest, machine: Target, fixed: Fixed) -> Product:
    c = nest.c
    itemsize = c.dtype.itemsize
    lanes = fixed.get("lanes", machine.lanes(itemsize))
    pack_rows = fixed.get("pack_rows", PACK_ROWS)
    copied = fixed.get("a_lines", "tile" if copy_pays(c, lanes, machine) else "none") == "tile"
    rows, vectors = _tile(c, lanes, machine, pack_rows, copied, fixed)
    wide = tiles_of(machine)[0].vectors
    most_rows = max(rows, machine.l2 // (BLOCK * itemsize) // rows * rows)
    width, work = lanes * vectors, fixed.get("grain", ITEM_WORK)
    m_block, n_block = fixed.get("m_block"), fixed.get("n_block")
    if m_block is None or n_block is None:
        wanted = minimum(ITEMS, c.batches * c.m * ceil_div(c.n, lanes) * maximum(c.k, 1) // work)
        most_columns = 10 * wide * lanes
        if c.lhs.is_computed:
            blocks = wide_blocks(c, ceil_div(c.n, width), wanted, most_rows)
        elif copied:
            blocks = _copied_blocks(c, ceil_div(c.n, width), wanted, max(rows, most_rows // 2))
        else:
            blocks = _blocks(c, ceil_div(c.n, width), wanted, (most_rows, most_columns, pack_rows))
        m_block = ceil_div(c.m, blocks[0] * rows) * rows if m_block is None else m_block
        n_block = ceil_div(ceil_div(c.n, width), blocks[1]) * width if n_block is None else n_block
    a_lines = fixed.get("a_lines", "tile" if copied else lines_of(c.lhs))
    b_lines = fixed.get("b_lines", lines_of(c.rhs))
    short_b = is_short(c.rhs)
    return Product(
        lanes, rows, vectors, fixed.get("steps", STEPS), m_block, n_block, pack_rows, fixed.get("ahead", AHEAD),
        a_lines, fixed.get("a_unroll", UNROLLED if is_short(c.lhs) else 1),
        fixed.get("a_pitch", pitch(a_lines, m_block, lanes)),
        b_lines, fixed.get("b_unroll", UNROLLED if short_b and b_lines == "row" else 1),
        fixed.get("b_in_tile", b_lines == "row" and short_b),
        fixed.get("panels", b_lines == "none" and may_be_kept(c)), work,
    )  # fmt: skip


class RegisterTile(NamedTuple):
    """Sums that stay in registers: rows by vectors."""

    rows: int
    vectors: int


def tiles_of(machine: Target) -> tuple[RegisterTile, RegisterTile]:
    """Register tiles, which leave room for one row of B and one element of A: their chains must fill the latency of the
    multiply-add units. The wide one reads A less often; the narrow one fits more columns, and its panel of B stays in L1."""
    if machine.registers >= 32:
        return RegisterTile(8, 3), RegisterTile(8, 2)
    return RegisterTile(4, 3), RegisterTile(6, 2)


def rows_beside(machine: Target, vectors: int) -> list[int]:
    """Rows of tiles that have room for so many vectors, the most first."""
    tiles = tiles_of(machine)
    return sorted((t.rows for t in tiles if t.vectors >= vectors), reverse=True) or [tiles[0].rows]


def pitch(lines: str, m_block: Int, lanes: int) -> Int:
    """The distance between lines of a computed block of A: an odd number of vectors, for the sake of cache sets."""
    if lines in ("none", "tile"):
        return 0
    return (ceil_div(BLOCK if lines == "row" else m_block, lanes) // 2 * 2 + 1) * lanes


def is_short(factor: Factor) -> bool:
    """Whether a computed operand is little work, and needs few registers."""
    return factor.is_computed and len(factor.steps) <= SHORT and len(factor.leaves) <= MOST_SHORT_LEAVES


def may_be_kept(c: Contraction) -> bool:
    """Whether B is one matrix in memory, of known extents."""
    if c.rhs.is_computed:
        return False
    (b,) = c.rhs.leaves
    return not any(b.batch) and not any(isinstance(x, Size) for x in (c.n, c.k, b.row, b.column, b.offset))


def panels_pay(c: Contraction, lanes: int) -> bool:
    """Whether packing B takes more than a `WORTH`-th of the multiply-adds: per vector of B a load and a store, and where it is
    turned the shuffles of a square, beside a multiply-add for each row of A."""
    packing = 2 if unit_of_rhs(c) == "column" else 2 + lanes.bit_length() - 1
    return packing * WORTH >= hint(c.m)


def _blocks(c: Contraction, panels: Any, wanted: Any, most: tuple[int, int, int]) -> tuple[Any, Any]:
    """Blocks of rows and of columns where A is read in place, within their bounds, and enough equal ones to share out. Cutting
    columns costs nothing; every cut of rows packs B once more. Rows that need a computed B are cut no more than they must."""
    most_rows, most_columns, pack_rows = most
    m_blocks = ceil_div(c.m, most_rows)
    n_blocks = minimum(panels, maximum(ceil_div(c.n, most_columns), ceil_div(wanted, c.batches * m_blocks)))
    if c.rhs.is_computed:
        return m_blocks, n_blocks
    missing = ceil_div(minimum(wanted, ITEMS // 4), c.batches * n_blocks)
    return maximum(m_blocks, minimum(missing, ceil_div(c.m, pack_rows))), n_blocks


def wide_blocks(c: Contraction, panels: Any, wanted: Any, most_rows: int) -> tuple[Any, Any]:
    """Blocks of rows and of columns where A is computed: rows are cut first."""
    rows = ceil_div(c.m, min(most_rows, COMPUTED_ROWS))
    m_blocks = maximum(rows, minimum(ceil_div(wanted, c.batches), c.m // LEAST_ROWS))
    most = maximum(1, minimum(panels, c.n // LEAST_COLUMNS))
    return m_blocks, minimum(most, maximum(1, ceil_div(wanted, c.batches * m_blocks)))


def _copied_blocks(c: Contraction, panels: Any, wanted: Any, most_rows: int) -> tuple[Any, Any]:
    """Blocks of rows and of columns where A is copied, once for each block of columns: as few of these as threads need."""
    wanted = minimum(ITEMS // 4, ceil_div(wanted, c.batches))
    m_blocks = maximum(ceil_div(c.m, most_rows), minimum(wanted, c.m // LEAST_ROWS))
    n_blocks = minimum(ceil_div(wanted, m_blocks), c.n // LEAST_ROWS)
    return m_blocks, maximum(1, minimum(panels, maximum(n_blocks, c.n // COPIED_COLUMNS)))


def copy_pays(c: Contraction, lanes: int, machine: Target) -> bool:
    """Whether tiles read a copy of A, in which what they need lies in order. In place they wait for cache lines that are not
    near: where rows are adjacent each step along k needs a line of its own, of which the next tile finds no trace if the lines
    of a k-block and a panel of B do not fit into L1; where columns are, caches foresee what comes from L3, but not from memory:
    there it matters that rows of a block that share cache sets drive each other from L2. The multiply-adds of a step hide as much
    of that as they take."""
    unit, itemsize = unit_of_lhs(c), c.dtype.itemsize
    if unit == "neither" or isinstance(c.n, Size):
        return False
    tile = tiles_of(machine)[0]
    long, used = min(hint(c.k), BLOCK), tile.rows * itemsize / LINE
    if unit == "row":
        near = machine.lines_kept(1, hint(c.lhs.column) * itemsize)
        room = machine.l1 // LINE - long * lanes * tile.vectors * itemsize // LINE
        missing = used if min(near, room) >= long else 1.0
    else:
        rows = min(hint(c.m), machine.l2 // (BLOCK * itemsize))
        lines = -(-long * itemsize // LINE)
        stays = machine.lines_kept(2, hint(c.lhs.row) * itemsize, lines) >= rows * lines
        bytes_ = hint(c.batches * (c.m * c.k + c.k * c.n + c.m * c.n)) * itemsize
        missing = 0.0 if stays or bytes_ <= machine.l3 else used
    waits = missing * max(0.0, LINE_CYCLES - tile.rows * tile.vectors / 2)
    return waits * min(c.n, COPIED_COLUMNS) > COPY_CYCLES * lanes * tile.vectors


def _tile(c: Contraction, lanes: int, machine: Target, pack_rows: int, copied: bool, fixed: Fixed) -> RegisterTile:
    """The register tile, around what is fixed of it and of the blocks that it has to fill."""
    vectors, rows = fixed.get("vectors"), fixed.get("rows")
    tiles: list[RegisterTile] = [*tiles_of(machine)]
    if vectors:
        tiles = [RegisterTile(beside, vectors) for beside in rows_beside(machine, vectors)]
    if rows:
        tiles = [t._replace(rows=rows) for t in tiles if t.rows >= rows] or [tiles[0]._replace(rows=rows)]
    m_block, n_block = fixed.get("m_block", 0), fixed.get("n_block", 0)
    tiles = [t for t in tiles if not (m_block % t.rows or n_block % (lanes * t.vectors))] or tiles
    return (
        tiles[0] if isinstance(c.n, Size) else min(tiles, key=lambda t: _cost(c, lanes, t, machine, pack_rows, copied))
    )


def _cost(c: Contraction, lanes: int, tile: RegisterTile, machine: Target, pack_rows: int, copied: bool) -> float:
    """Elements of C as if all were computed in whole tiles of the wide kind, the machine's first."""
    m, whole = hint(c.m), c.n // (lanes * tile.vectors) * lanes * tile.vectors
    border = max(BORDER, CHAINS / tile.rows) * lanes * -(-(c.n - whole) // lanes)
    if tile.vectors == tiles_of(machine)[0].vectors:
        pace = 1.0
    else:
        shared = unit_of_rhs(c) != "column" or m >= pack_rows
        near = m * BLOCK * c.dtype.itemsize <= machine.l2 // 2
        pace = 0.95 if copied else 0.98 if shared and near else 1.03
    return pace * (whole + border) * -(-m // tile.rows) * tile.rows


# ---- what computing an operand costs ------------------------------------------------------------------------------


def computations(c: Contraction) -> tuple[int, int]:
    """How often each element of A and of B is computed if it is, at most, on any machine, for the sizes at hand."""
    if hint(c.batches * c.m * c.n) == 0:
        return 1, 1  # nothing is computed
    if c.is_vector:
        return (1, hint(c.m)) if c.n == 1 else (hint(c.n), 1)
    if not c.lhs.is_computed:
        return 1, hint(ceil_div(c.m, COMMON_ROWS))
    m_blocks, n_blocks = wide_blocks(c, c.n, ITEMS, COMMON_ROWS)
    return hint(n_blocks), hint(m_blocks)


def computes_well(c: Contraction, side: int, bytes_: int) -> bool:
    """Whether computing an operand that has `bytes_` (A for side 0, B for 1) while packing is no slower than reading it."""
    if side == 1 or c.is_vector:
        return True
    columns = hint(c.n)
    if columns > NARROW and (columns > LEAST_COLUMNS or bytes_ < LARGE):
        return False
    n_blocks, m_blocks = computations(c)
    items = hint(c.batches) * m_blocks * n_blocks
    return items >= 8 or hint(c.batches * c.m * c.k) * columns <= ALONE * items


# ---- vectors ----------------------------------------------------------------------------------------------------


def vector_product(nest: ProductNest, machine: Target, fixed: Fixed) -> VectorProduct:
    """The outputs of M = 1 run over the columns of B, those of N = 1 over the rows of A."""
    c = nest.c
    lanes = fixed.get("lanes", machine.lanes(c.dtype.itemsize))
    along = fixed.get("along") or directions(c)[0]
    outputs, matrix = (c.m, c.lhs) if c.n == 1 else (c.n, c.rhs)
    chains, rounds, ahead = machine.registers // 2, 1, 0
    if along == "k":  # the more lines are read at once, the faster they come
        sums = chains if matrix.is_computed else machine.registers * 7 // 8
        group, depth = fixed.get("group", max(1, sums // (LANES // lanes))), fixed.get("depth", 1)
        if not machine.has_masks and hint(outputs) >= ITEMS * lanes:  # what follows the sums takes whole vectors
            rounds = max(1, lanes // group)
        if group == 1 and not matrix.is_computed and hint(outputs * c.k) * c.dtype.itemsize <= machine.l3 // 2:
            ahead = LINE_AHEAD // c.dtype.itemsize
    else:  # long rows of the matrix are read in long runs
        depth = fixed.get("depth") or (1 if outputs >= 2 * chains * lanes else chains // 4)
        group = fixed.get("group", max(1, chains // depth) * lanes)
    rounds, ahead = fixed.get("rounds", rounds), fixed.get("ahead", ahead)
    return VectorProduct(lanes, along, group, rounds, depth, ahead, fixed.get("grain", VECTOR_GRAIN))


def directions(c: Contraction) -> list[str]:
    """Where vectors may run, the best first: along "k" or the "output" where elements of the matrix (and of the vector) are
    adjacent there or computed, or "neither", which takes elements of the matrix from everywhere."""
    over_rows = c.n == 1
    p, x, outputs = (c.lhs, c.rhs, c.m) if over_rows else (c.rhs, c.lhs, c.n)
    p_along_k = p.runs_along_columns if over_rows else p.runs_along_rows
    x_along_k = x.is_computed or (x.row if over_rows else x.column) == 1
    found = []
    if (p_along_k and x_along_k) or c.k <= 1:
        found.append("k")
    if p.is_computed or outputs == 1 or (p.row if over_rows else p.column) == 1:
        found.append("output")
    return found if p.is_computed else [*found, "neither"]


# ---- 8-bit integers ---------------------------------------------------------------------------------------------


def dot_product(nest: ProductNest, machine: Target, fixed: Fixed) -> DotProduct:
    c = nest.c
    lanes = fixed.get("lanes", machine.lanes(c.dtype.itemsize))
    most, wide = DOTS if machine.registers >= 32 else FEW_DOTS
    single = not isinstance(c.m, Size) and c.m == 1
    rows = fixed.get("rows", 1 if single else most)
    columns = fixed.get("columns", ONE_ROW if single and machine.registers >= 32 else wide)
    width = math.lcm(columns, lanes)
    n_block = fixed.get("n_block", -(-DOT_COLUMNS // width) * width)
    m_block = fixed.get("m_block", ceil_div(minimum(c.m, DOT_ROWS), rows) * rows)
    return DotProduct(lanes, rows, columns, m_block, n_block, fixed.get("grain", ITEM_WORK))
