"""How a product is cut: the register tile, the blocks of C that are items of the parallel loop, whether B is packed.

In: extents and a target. Out: numbers. They decide speed and never a bit, and they never depend on the number of
threads. Measured choices are the defaults of `Blocking`; `benchmarks/gemm.py` measures them. Next: `gemm.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flambeau.compiler.codegen.gemm_operands import Contraction
from flambeau.compiler.codegen.gemm_tile import K_BLOCK
from flambeau.compiler.targets import Target
from flambeau.dialects.size import Size, ceil_div, hint, maximum, minimum


@dataclass(frozen=True)
class Blocking:
    """Bounds and thresholds.

    rows, vectors   the register tile: its chains must fill the latency of the multiply-add units
    narrow          vectors of the tile whose panel of B stays in L1, for products whose A stays in L2
    m_block         rows of A that share a packed panel of B, at most
    n_block         columns of a block of C, at most
    l2              bytes
    pack_rows       B is packed where so many rows share it
    item_work       vector multiply-adds that are worth an item of the parallel loop
    items           a product is not cut into more for the sake of threads
    computed_rows   rows of a block of A that is computed: it stays in L2 while all columns of B pass by
    """

    rows: int
    vectors: int
    narrow: int
    m_block: int
    n_block: int
    l2: int
    pack_rows: int = 192
    item_work: int = 40_000
    items: int = 24
    computed_rows: int = 512


#: For the sake of threads, C is cut into blocks of at least so many rows or columns where A is computed: its elements
#: are computed once per block of columns, B is packed once per block of rows.
LEAST_ROWS, LEAST_COLUMNS = 128, 256
#: Rows of A that share a packed panel of B on any machine.
COMMON_ROWS = 512
#: Reading A in place hides behind the arithmetic, computing it does not: that pays for few columns, or an A larger than
#: the caches (in bytes) that is still computed only once. Measured with `benchmarks/fusion.py`.
NARROW, LARGE = 64, 4 << 20
#: Multiply-adds that one thread may do by itself although others have nothing to do.
ALONE = 8_000_000


@dataclass(frozen=True)
class Cut:
    """What is chosen for one product: `vectors` of the tile, whether B is packed (not 0), and the rows and columns of a
    block of C; all but the tile may depend on sizes known at run time."""

    vectors: int
    packed: Any
    m_block: Any
    n_block: Any
    m_blocks: Any
    n_blocks: Any


def blocking(target: Target, itemsize: int) -> Blocking:
    """The register tile that leaves room for one row of B and one element of A; blocks of A as large as L2."""
    rows, vectors, narrow = (8, 3, 2) if target.registers >= 32 else (4, 3, 3)
    m_block = max(rows, target.l2 // (K_BLOCK * itemsize) // rows * rows)
    return Blocking(rows, vectors, narrow, m_block, 10 * vectors * target.lanes(itemsize), target.l2)


def cut(c: Contraction, b_unit: str, lanes: int, masks: bool, blocks: Blocking) -> Cut:
    """The blocks of C: within their bounds, and enough equal ones to share out.

    Cutting columns costs nothing; every cut of rows packs B once more.
    """
    vectors = _vectors(c, b_unit, lanes, blocks)
    width = lanes * vectors
    always = b_unit != "column" or not (masks or c.n % width == 0)
    packed = 1 if always else c.m // max(1, blocks.pack_rows)
    wanted = minimum(blocks.items, c.batches * c.m * ceil_div(c.n, lanes) * maximum(c.k, 1) // blocks.item_work)
    make = _wide_blocks if c.lhs.is_computed else _blocks
    m_blocks, n_blocks = make(c, ceil_div(c.n, width), wanted, blocks)
    m_block = ceil_div(c.m, m_blocks * blocks.rows) * blocks.rows
    n_block = ceil_div(ceil_div(c.n, width), n_blocks) * width
    return Cut(vectors, packed, m_block, n_block, ceil_div(c.m, m_block), ceil_div(c.n, n_block))


def _blocks(c: Contraction, panels: Any, wanted: Any, blocks: Blocking) -> tuple[Any, Any]:
    """Blocks of rows and of columns where A is read in place; rows that need a computed B are cut no more than they must."""
    m_blocks = ceil_div(c.m, blocks.m_block)
    n_blocks = minimum(panels, maximum(ceil_div(c.n, blocks.n_block), ceil_div(wanted, c.batches * m_blocks)))
    if c.rhs.is_computed:
        return m_blocks, n_blocks
    missing = ceil_div(minimum(wanted, blocks.items // 4), c.batches * n_blocks)
    return maximum(m_blocks, minimum(missing, ceil_div(c.m, max(1, blocks.pack_rows)))), n_blocks


def _wide_blocks(c: Contraction, panels: Any, wanted: Any, blocks: Blocking) -> tuple[Any, Any]:
    """Blocks of rows and of columns where A is computed: rows are cut first."""
    rows = ceil_div(c.m, min(blocks.m_block, blocks.computed_rows))
    m_blocks = maximum(rows, minimum(ceil_div(wanted, c.batches), c.m // LEAST_ROWS))
    most = maximum(1, minimum(panels, c.n // LEAST_COLUMNS))
    return m_blocks, minimum(most, maximum(1, ceil_div(wanted, c.batches * m_blocks)))


def computations(c: Contraction) -> tuple[int, int]:
    """How often each element of A and of B is computed if it is, at most, on any machine, for the sizes at hand."""
    if hint(c.batches * c.m * c.n) == 0:
        return 1, 1  # nothing is computed
    if c.is_vector:
        return (1, hint(c.m)) if c.n == 1 else (hint(c.n), 1)
    if not c.lhs.is_computed:
        return 1, hint(ceil_div(c.m, COMMON_ROWS))
    common = Blocking(8, 3, 3, COMMON_ROWS, 0, 0)
    m_blocks, n_blocks = _wide_blocks(c, c.n, common.items, common)
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


def _vectors(c: Contraction, b_unit: str, lanes: int, blocks: Blocking) -> int:
    """The wide tile reads A less often; the narrow one fits more columns exactly, and its packed panel fits L1."""
    if blocks.narrow == blocks.vectors or isinstance(c.n, Size):
        return blocks.vectors
    m = hint(c.m)
    shared = b_unit != "column" or m >= blocks.pack_rows
    near = m * K_BLOCK * c.dtype.itemsize <= blocks.l2 // 2
    return min(
        (blocks.vectors, blocks.narrow),
        key=lambda v: _column_cost(c.n, lanes, v) * (1.0 if v == blocks.vectors else 0.98 if shared and near else 1.03),
    )


def _column_cost(n: int, lanes: int, vectors: int) -> float:
    """Columns as if all were computed in whole tiles: the rest goes vector by vector, which takes longer."""
    whole = n // (lanes * vectors) * lanes * vectors
    return whole + 1.3 * lanes * -(-(n - whole) // lanes)
