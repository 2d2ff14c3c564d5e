"""Contractions: a matmul with its epilogue becomes one call.

In: a cluster (views on two operands, one matmul, elementwise ops on the result) and a target. Out: `Lowered`. Kernel
text depends on element type, epilogue and register tile only; extents, strides and blocking are dims. Which operands
are packed, and how C is cut into items, depends on extents and cache sizes, never on the number of threads.
Next: `gemm_operands.py` (what is computed), `gemm_tile.py`, `gemm_vector.py`, `gemm_pack.py` (the kernels).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from flambeau.compiler.codegen.gemm_kernel import Epilogue, Leaf
from flambeau.compiler.codegen.gemm_operands import Access, Contraction, read
from flambeau.compiler.codegen.gemm_tile import K_BLOCK, TileSpec, tile_kernel
from flambeau.compiler.codegen.gemm_vector import CHUNK, LANES, VectorSpec, vector_kernel
from flambeau.compiler.kernel import Cluster, KernelCall, Lowered, Operand
from flambeau.compiler.targets import Target
from flambeau.dialects.graph import Graph


#: Multiply-adds worth a chunk of a matrix-vector product's parallel loop.
_VECTOR_GRAIN = 65_536


@dataclass(frozen=True)
class Blocking:
    """How a product is cut: rows and vectors of the register tile, bounds of C's blocks, when packing pays.

    B is packed where `pack_rows` rows share it. An item of the parallel loop has at least `item_work` vector
    multiply-adds, and a product is not cut into more than `items` for the sake of threads.
    """

    rows: int
    vectors: int
    m_block: int
    n_block: int
    pack_rows: int = 192
    item_work: int = 40_000
    items: int = 24


def blocking(target: Target, itemsize: int) -> Blocking:
    """The register tile that leaves room for one row of B and one element of A; a block of A as large as L2."""
    rows, vectors = (8, 3) if target.registers >= 32 else (4, 3)
    m_block = _multiple(target.l2 // (K_BLOCK * itemsize), rows)
    n_block = 10 * vectors * target.lanes(itemsize)
    return Blocking(rows, vectors, m_block, n_block)


def lower(cluster: Cluster, target: Target, blocks: Blocking | None = None) -> Lowered:
    """The calls that compute a contraction cluster. `blocks` overrides the blocking; it never changes a bit."""
    c = read(cluster.graph)
    lowered = Lowered()
    if 0 in (c.batches, c.m, c.n):
        return lowered
    if c.is_vector:
        _lower_vector(c, target, lowered)
    else:
        _Tiled(c, cluster.graph, target, blocks or blocking(target, c.dtype.itemsize), lowered).lower()
    return lowered


@dataclass
class _Tiled:
    c: Contraction
    graph: Graph
    target: Target
    blocks: Blocking
    lowered: Lowered
    numbers: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lanes = self.target.lanes(self.c.dtype.itemsize)
        self.masks = self.target.vector_bytes == 64
        self.columns = self.lanes * self.blocks.vectors

    def lower(self) -> None:
        c, numbers = self.c, self.numbers
        b_unit = self._place_operands()
        epilogue = make_epilogue(c)
        accumulator, c_operand = self._accumulator()
        spec = TileSpec(
            c.dtype.mlir, self.lanes, self.blocks.rows, self.blocks.vectors, self.masks, b_unit, len(c.batch), epilogue, accumulator
        )  # fmt: skip
        source, names = tile_kernel(spec)
        outputs = [Operand("value", v) for v, _, _ in c.outputs]
        if accumulator is not None:
            del outputs[accumulator]
        leaves = [_operand(leaf) for leaf in c.leaves]
        operands = (_operand(c.lhs), _operand(c.rhs), c_operand, *leaves, *outputs)
        m_block, n_block = self._cut()
        m_blocks, n_blocks = -(-c.m // m_block), -(-c.n // n_block)
        numbers.update(m=c.m, n=c.n, k=c.k, m_block=m_block, n_block=n_block, m_blocks=m_blocks, n_blocks=n_blocks)
        numbers.update({f"batch{r}": extent for r, extent in enumerate(c.batch)})
        for k, leaf in enumerate(c.leaves):
            numbers.update({f"leaf{k}.row": leaf.row, f"leaf{k}.column": leaf.column})
            self._place_batch(f"leaf{k}", leaf)
        first_output = 3 + len(leaves)
        written = tuple(range(first_output, len(operands)))
        n = c.batches * m_blocks * n_blocks
        work = min(m_block, c.m) * -(-min(n_block, c.n) // self.lanes) * max(c.k, 1)
        self.lowered.calls.append(
            KernelCall(
                source,
                operands,
                tuple(numbers[name] for name in names),
                n,
                min(n, max(1, self.blocks.item_work // max(work, 1))),
                (2, *written),
                spec.scratch,
                self._in_place(operands, first_output),
            )
        )

    # ---- operands ------------------------------------------------------------------------------------------

    def _place_operands(self) -> str:
        """Fill in the strides of A and B; returns the direction in which B's elements are adjacent."""
        c, a, b = self.c, self.c.lhs, self.c.rhs
        unit = "column" if b.column == 1 or c.n == 1 else "row" if b.row == 1 or c.k == 1 else "neither"
        in_place = c.m < self.blocks.pack_rows and (self.masks or c.n % self.columns == 0)
        self.numbers.update({"a.row": a.row, "a.k": a.column, "b.k": b.row, "b.column": b.column})
        self.numbers["b.packed"] = int(not in_place)
        self._place_batch("a", a)
        self._place_batch("b", b)
        return unit

    def _place_batch(self, name: str, x: Access) -> None:
        self.numbers.update({f"{name}.batch{r}": s for r, s in enumerate(x.batch)})

    # ---- results -------------------------------------------------------------------------------------------

    def _accumulator(self) -> tuple[int | None, Operand]:
        """Where partial sums lie: an output of the product's dtype, else a temporary if there are several k-blocks."""
        c = self.c
        for k, (v, ref, dtype) in enumerate(c.outputs):
            if ref.kind == "acc":
                return k, Operand("value", v)
        for k, (v, _, dtype) in enumerate(c.outputs):
            if dtype is c.dtype:
                return k, Operand("value", v)
        size = c.batches * c.m * c.n if c.k > K_BLOCK else 0
        self.lowered.temps.append(size * c.dtype.itemsize)
        return None, Operand("temp", len(self.lowered.temps) - 1)

    def _in_place(self, operands: tuple[Operand, ...], first_output: int) -> tuple[tuple[int, int], ...]:
        """Outputs may overwrite dense epilogue operands; where partial sums lie, only if there are none."""
        c = self.c
        written = [p for p in range(first_output, len(operands))]
        if c.k <= K_BLOCK and operands[2].kind == "value":
            written.append(2)
        pairs = []
        for p in written:
            itemsize = self.graph.avals[operands[p].index].dtype.itemsize
            for k, leaf in enumerate(c.leaves):
                if leaf.dtype.itemsize == itemsize and _is_dense(leaf, c):
                    pairs.append((p, 3 + k))
        return tuple(pairs)

    # ---- items ---------------------------------------------------------------------------------------------

    def _cut(self) -> tuple[int, int]:
        """Rows and columns of a block of C: within the caches' bounds, and enough equal items to share out.

        Cutting columns costs nothing; every cut of rows packs B once more.
        """
        c, blocks = self.c, self.blocks
        panels = -(-c.n // self.columns)
        m_blocks = -(-c.m // blocks.m_block)
        n_blocks = -(-panels * self.columns // blocks.n_block)
        wanted = min(blocks.items, c.batches * c.m * -(-c.n // self.lanes) * max(c.k, 1) // blocks.item_work)
        rest = -(-wanted // (c.batches * m_blocks))
        n_blocks = min(panels, max(n_blocks, rest))
        while c.batches * m_blocks * n_blocks < min(wanted, blocks.items // 4) and c.m > m_blocks * blocks.pack_rows:
            m_blocks += 1
        return _multiple_up(-(-c.m // m_blocks), blocks.rows), -(-panels // n_blocks) * self.columns


# ---- dot and matrix-vector products -----------------------------------------------------------------------------


def _lower_vector(c: Contraction, target: Target, lowered: Lowered) -> None:
    """The outputs of M = 1 run over the columns of B, those of N = 1 over the rows of A."""
    lanes, masks = target.lanes(c.dtype.itemsize), target.vector_bytes == 64
    over_rows = c.n == 1
    p, x, outputs = (c.lhs, c.rhs, c.m) if over_rows else (c.rhs, c.lhs, c.n)
    p_output, p_k = (p.row, p.column) if over_rows else (p.column, p.row)
    x_k = x.row if over_rows else x.column
    along_k = (p_k == 1 and x_k == 1) or c.k <= 1
    unit = "k" if along_k else "output" if p_output == 1 or outputs == 1 else "neither"
    group = max(1, target.registers // 2 // (LANES // lanes)) if along_k else 4 * lanes
    leaves = [(leaf.row if over_rows else leaf.column) for leaf in c.leaves]
    spec = VectorSpec(c.dtype.mlir, lanes, group, unit, masks, len(c.batch), make_epilogue(c, leaves))
    source, names = vector_kernel(spec)
    chunks, blocks = max(1, -(-c.k // CHUNK)), -(-outputs // group)
    numbers = {
        "blocks": blocks, "outputs": outputs, "k": c.k, "chunks": chunks, "levels": (chunks - 1).bit_length(),
        "p.output": p_output, "p.k": p_k, "x.k": x_k,
        **{f"batch{r}": extent for r, extent in enumerate(c.batch)},
        **{f"leaf{k}.column": stride for k, stride in enumerate(leaves)},
    }  # fmt: skip
    for name, access in (("p", p), ("x", x), *((f"leaf{k}", leaf) for k, leaf in enumerate(c.leaves))):
        numbers.update({f"{name}.batch{r}": s for r, s in enumerate(access.batch)})
    operands = (_operand(p), _operand(x), *map(_operand, c.leaves), *(Operand("value", v) for v, _, _ in c.outputs))
    written = tuple(range(2 + len(leaves), len(operands)))
    n = c.batches * blocks
    grain = min(n, max(1, _VECTOR_GRAIN // max(1, group * c.k)))
    dims = tuple(numbers[name] for name in names)
    lowered.calls.append(KernelCall(source, operands, dims, n, grain, written, spec.scratch(c.k)))


def make_epilogue(c: Contraction, columns: list[int] | None = None) -> Epilogue:
    """The epilogue as kernel text sees it; `columns` are the strides of its leaves along vectors."""
    names = {0: "fixed", 1: "unit"}
    columns = [x.column for x in c.leaves] if columns is None else columns
    leaves = tuple(
        Leaf(x.dtype.mlir, names.get(stride, "strided")) for x, stride in zip(c.leaves, columns, strict=True)
    )
    return Epilogue(leaves, c.steps, tuple((ref, dtype.mlir) for _, ref, dtype in c.outputs))


def _operand(x: Access) -> Operand:
    return Operand("value", x.value, x.offset * x.dtype.itemsize)


def _is_dense(x: Access, c: Contraction) -> bool:
    """Whether an epilogue operand lies exactly as the result does."""
    steps = [c.m * c.n]
    for extent in reversed(c.batch[1:]):
        steps.append(steps[-1] * extent)
    rows_fit = x.row == c.n or c.m == 1
    return (
        x.offset == 0 and x.batch == tuple(reversed(steps[: len(c.batch)])) and rows_fit and (x.column == 1 or c.n == 1)
    )


def _multiple(x: int, unit: int) -> int:
    return max(unit, x // unit * unit)


def _multiple_up(x: int, unit: int) -> int:
    return -(-x // unit) * unit
