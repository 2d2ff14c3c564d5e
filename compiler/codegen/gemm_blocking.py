"""How a product is cut: the register tile, the blocks of C that are items of the parallel loop, whether B is packed.

In: extents and a target. Out: numbers. They decide speed and never a bit, and they never depend on the number of
threads. Measured choices are the defaults of `Blocking`; `benchmarks/gemm.py` measures them. Next: `gemm.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from flambeau.compiler.codegen.gemm_operands import Contraction
from flambeau.compiler.codegen.gemm_tile import K_BLOCK
from flambeau.compiler.targets import Target


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


@dataclass(frozen=True)
class Cut:
    """What is chosen for one product: `vectors` of the tile, and the rows and columns of a block of C."""

    vectors: int
    packed: bool
    m_block: int
    n_block: int
    m_blocks: int
    n_blocks: int


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
    packed = b_unit != "column" or c.m >= blocks.pack_rows or not (masks or c.n % width == 0)
    panels = -(-c.n // width)
    m_blocks = -(-c.m // blocks.m_block)
    wanted = min(blocks.items, c.batches * c.m * -(-c.n // lanes) * max(c.k, 1) // blocks.item_work)
    n_blocks = min(panels, max(-(-c.n // blocks.n_block), -(-wanted // (c.batches * m_blocks))))
    while c.batches * m_blocks * n_blocks < min(wanted, blocks.items // 4) and c.m > m_blocks * blocks.pack_rows:
        m_blocks += 1
    m_block = -(-c.m // (m_blocks * blocks.rows)) * blocks.rows
    n_block = -(-panels // n_blocks) * width
    return Cut(vectors, packed, m_block, n_block, -(-c.m // m_block), -(-c.n // n_block))


def _vectors(c: Contraction, b_unit: str, lanes: int, blocks: Blocking) -> int:
    """The wide tile reads A less often; the narrow one fits more columns exactly, and its packed panel fits L1."""
    if blocks.narrow == blocks.vectors:
        return blocks.vectors
    shared = b_unit != "column" or c.m >= blocks.pack_rows
    near = c.m * K_BLOCK * c.dtype.itemsize <= blocks.l2 // 2
    return min(
        (blocks.vectors, blocks.narrow),
        key=lambda v: _column_cost(c.n, lanes, v) * (1.0 if v == blocks.vectors else 0.98 if shared and near else 1.03),
    )


def _column_cost(n: int, lanes: int, vectors: int) -> float:
    """Columns as if all were computed in whole tiles: the rest goes vector by vector, which takes longer."""
    whole = n // (lanes * vectors) * lanes * vectors
    return whole + 1.3 * lanes * -(-(n - whole) // lanes)
