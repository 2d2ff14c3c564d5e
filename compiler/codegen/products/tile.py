"""The matrix-product kernel: blocks of C, k-blocks of 256, register tiles of a few rows by a few vectors.

In: `TileSpec`. Out: kernel text. A is read where it lies, by any strides, or a block of it is copied first; B is read where it
lies if its rows are adjacent and few rows of A share them, otherwise one panel at a time is packed into scratch. Computed
operands are computed into scratch: a block of A at the start of each k-block, B panel by panel. Items of the parallel loop are
blocks of C. A full tile goes straight to C. Border tiles, and every tile that gets an epilogue, pass through scratch, where one
loop over rows and vectors finishes them. Next: `pack.py`, `prologue.py`.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

from flambeau.compiler.codegen.emitter import Val
from flambeau.compiler.codegen.products.chains import K_BLOCK, Chains, Compute, PanelSource, RowSource, TileText
from flambeau.compiler.codegen.products.kernel import KernelEmitter
from flambeau.compiler.codegen.products.pack import Packer, Submatrix, TileRows
from flambeau.compiler.codegen.products.prologue import Computer, OperandLines, Prologue
from flambeau.compiler.codegen.values import storage_bytes
from flambeau.compiler.kernel import KernelSource
from flambeau.compiler.schedules.kinds import Product
from flambeau.dialects.size import Int, Size, ceil_div


@dataclass(frozen=True)
class TileSpec(TileText):
    """What text of products depends on. `masks`: the machine has masked loads and stores.

    `b_unit` is the direction in which B's elements are adjacent: "column", "row" or "neither" (see `pack.py`), `a_unit` that of
    an A that is copied; `lhs` and `rhs` say how operands are computed that do not lie in memory.
    """

    schedule: Product
    masks: bool
    b_unit: str
    batch_rank: int
    lhs: Prologue | None = None
    rhs: Prologue | None = None
    a_unit: str = "column"

    @property
    def first_rhs(self) -> int:
        """The position of the first buffer that B is read from."""
        return 1 if self.lhs is None else len(self.lhs.leaves)

    @property
    def sums(self) -> int:
        return self.first_rhs + (1 if self.rhs is None else len(self.rhs.leaves))

    @property
    def panels(self) -> int:
        """The position of panels of B that a call before has packed; there may be none at that address."""
        outputs = len(self.epilogue.outputs) - (self.accumulator is not None)
        return self.sums + 1 + len(self.epilogue.leaves) + outputs

    @property
    def scratch(self) -> Int:
        """Bytes for one tile, one packed panel of B and, where A is computed or copied, a block of it."""
        elements: Int = (self.rows + K_BLOCK) * self.columns
        if self.schedule.a_lines == "tile":
            at_once = self.rows * max(
                1, self.lanes // self.rows
            )  # squares fill so many rows, whether they are there or not
            elements += ceil_div(self.schedule.m_block, at_once) * at_once * (K_BLOCK + self.lanes)
        if self.lhs is not None:
            elements += self.schedule.a_pitch * (self.schedule.m_block if self.lhs.lines == "row" else K_BLOCK)
        return elements * storage_bytes(self.element)


def tile_kernel(spec: TileSpec) -> tuple[KernelSource, tuple[str | Size, ...]]:
    """The kernel, and the names of its dims.

    Buffers: A, B (their leaves where they are computed), C (partial sums), the epilogue's leaves, its outputs but the one
    that is C, the panels of B.
    """
    return _TileWriter(spec).write()


def panels_kernel(spec: TileSpec) -> tuple[KernelSource, tuple[str | Size, ...]]:
    """What packs all of B, panel after panel, and the names of its dims. Buffers: B, panels."""
    kernel = KernelEmitter()
    b, d = kernel.b, kernel.dim
    packer = Packer(b, spec.element, spec.lanes, spec.columns, spec.masks)
    with b.loop(b.lo, b.hi) as items:
        first = b.mul(items.index, spec.columns)
        source = b.address(b.buffer(0), b.mul(first, d("b.column")), spec.element)
        target = b.address(b.buffer(1), b.mul(first, d("b.pitch")), spec.element)
        columns = b.minimum(b.sub(d("n"), first), spec.columns)
        packer.pack(Submatrix(source, d("b.k"), d("b.column"), d("k"), columns), target, spec.b_unit)
    return kernel.finish(f"panels of a matrix {spec.element}")


class _Panel(NamedTuple):
    """`columns` columns of B over one k-block: where tiles read them, `stride` apart, and where they come from.

    `pending` (i1) says that the first tile has to pack them, from `source` or by `compute`; None if it never has.
    """

    rows: Val
    stride: Val
    source: Val
    pending: Val | None
    compute: Compute | None = None


class _TileWriter(Chains):
    spec: TileSpec

    def __init__(self, spec: TileSpec) -> None:
        super().__init__(spec, spec.schedule.ahead)
        self.leaves = range(len(spec.epilogue.leaves))

    def write(self) -> tuple[KernelSource, tuple[str | Size, ...]]:
        b = self.b
        with b.loop(b.lo, b.hi) as items:
            rest, mb = self.split(items.index, ["m_blocks"])
            batch, nb = self.split(rest, ["n_blocks"])
            self._block(batch, mb, nb)
        before = "".join(side.label for side in (self.spec.lhs, self.spec.rhs) if side)
        return self.finish(f"{before}matmul {self.spec.element}{self.spec.epilogue.label}")

    def _block(self, batch: Val, mb: Val, nb: Val) -> None:
        """One block of C, k-block after k-block."""
        b, spec, d = self.b, self.spec, self.dim
        left, right = (["ab"[k]] if side is None else side.names for k, side in enumerate((spec.lhs, spec.rhs)))
        names = [*left, *right, *(f"leaf{k}" for k in self.leaves)]
        self.offsets = self.batch_offsets(batch, spec.batch_rank, names)
        self.row0 = b.mul(batch, d("m"))
        m0, n0 = b.mul(mb, d("m_block")), b.mul(nb, d("n_block"))
        m1, n1 = b.minimum(b.add(m0, d("m_block")), d("m")), b.minimum(b.add(n0, d("n_block")), d("n"))
        a0 = None if spec.lhs else b.address(b.buffer(0), self.offsets["a"], spec.element)
        b0 = None if spec.rhs else b.address(b.buffer(spec.first_rhs), self.offsets["b"], spec.element)
        with b.loop(0, b.maximum(d("k"), 1), K_BLOCK) as ks:
            self.kc = b.minimum(b.sub(d("k"), ks.index), K_BLOCK)
            self.first, self.last = b.cmp("eq", ks.index, 0), b.cmp("ge", b.add(ks.index, K_BLOCK), d("k"))
            a_k = self._rows(a0, ks.index, m0, m1)
            b_k = b.address(b0, b.mul(ks.index, d("b.k")), spec.element) if b0 else None
            with b.loop(n0, n1, spec.columns) as js:
                columns = b.minimum(b.sub(n1, js.index), spec.columns)
                panel = self._panel(b_k, ks.index, js.index, columns)
                with b.loop(m0, m1, spec.rows) as rows:
                    row = rows.index if a_k.first is None else b.sub(rows.index, a_k.first)
                    a_at = a_k._replace(start=b.address(a_k.start, b.mul(row, a_k.row), spec.element))
                    count = b.minimum(b.sub(m1, rows.index), spec.rows)
                    packs = b.and_(panel.pending, b.cmp("eq", rows.index, m0)) if panel.pending else None
                    self._tile(a_at, panel, packs, rows.index, js.index, count, columns)

    def _rows(self, a0: Val | None, k: Val, m0: Val, m1: Val) -> RowSource:
        """Where tiles read A from `k` on: in place, or in a block of scratch that is computed or copied now."""
        b, spec, d = self.b, self.spec, self.dim
        if a0 is not None:
            here = b.address(a0, b.mul(k, d("a.k")), spec.element)
            if spec.schedule.a_lines != "tile":
                return RowSource(here, None, d("a.row"), d("a.k"))
            block = b.address(b.scratch, (spec.rows + K_BLOCK) * spec.columns, spec.element)
            source = b.address(here, b.mul(m0, d("a.row")), spec.element)
            tiles = TileRows(b, spec.element, spec.lanes, spec.rows, K_BLOCK + spec.lanes, spec.schedule.ahead)
            tiles.pack(Submatrix(source, d("a.row"), d("a.k"), b.sub(m1, m0), self.kc), block, spec.a_unit)
            return RowSource(block, m0, b.const(tiles.pitch, "i64"), b.const(spec.rows, "i64"), packed=True)
        assert spec.lhs is not None
        block = b.address(b.scratch, (spec.rows + K_BLOCK) * spec.columns, spec.element)
        computer = Computer(self, spec.lhs, 0, self.offsets, spec.lanes, spec.masks)
        one, pitch, count = b.const(1, "i64"), d("a.pitch"), b.sub(m1, m0)
        if spec.lhs.lines == "row":
            computer.fill(OperandLines(m0, count, k, self.kc), block, pitch, spec.schedule.a_unroll)
            return RowSource(block, m0, pitch, one)
        computer.fill(OperandLines(k, self.kc, m0, count), block, pitch, spec.schedule.a_unroll)
        return RowSource(block, m0, one, pitch)

    def _panel(self, b_k: Val | None, k: Val, n: Val, columns: Val) -> _Panel:
        """Where tiles read B from row `k` and column `n` on: in place, or packed or computed into scratch.

        A whole panel of adjacent columns is packed by its first tile, so that the copy hides behind the arithmetic.
        """
        b, spec, d = self.b, self.spec, self.dim
        scratch = b.address(b.scratch, spec.rows * spec.columns, spec.element)
        width = b.const(spec.columns, "i64")
        if b_k is None:
            return self._computed_panel(k, n, columns, scratch, width)
        packer = Packer(b, spec.element, spec.lanes, spec.columns, spec.masks)
        kept = self._kept(k, n) if spec.schedule.panels else None
        missing = None if kept is None else b.not_(kept[0])
        if spec.b_unit != "column":
            source = b.address(b_k, b.mul(n, d("b.column")), spec.element)
            block = Submatrix(source, d("b.k"), d("b.column"), self.kc, columns)
            with b.if_(missing) if missing else nullcontext():
                packer.pack(block, scratch, spec.b_unit)
            return _Panel(b.select(*kept, scratch) if kept else scratch, width, source, None)
        source = b.address(b_k, n, spec.element)
        packed, whole = b.cmp("ne", d("b.packed"), 0), b.cmp("eq", columns, spec.columns)
        packed = b.and_(packed, missing) if missing else packed
        with b.if_(b.and_(packed, b.not_(whole))):
            packer.pack(Submatrix(source, d("b.k"), b.const(1, "i64"), self.kc, columns), scratch, "column")
        rows, stride = b.select(packed, scratch, source), b.select(packed, width, d("b.k"))
        if kept:
            rows, stride = b.select(*kept, rows), b.select(kept[0], width, stride)
        return _Panel(rows, stride, source, b.and_(packed, whole))

    def _kept(self, k: Val, n: Val) -> tuple[Val, Val]:
        """Whether (i1) somebody has packed B, and where from row `k` and column `n` on."""
        b, spec = self.b, self.spec
        panels = b.buffer(spec.panels)
        at = b.add(b.mul(n, self.dim("b.pitch")), b.mul(k, spec.columns))
        return b.exists(panels), b.place(panels, at, spec.element)

    def _computed_panel(self, k: Val, n: Val, columns: Val, scratch: Val, width: Val) -> _Panel:
        """Computed before the first tile reads it, or by the first tile if that has registers left for it."""
        b, spec = self.b, self.spec
        assert spec.rhs is not None
        computer = Computer(self, spec.rhs, spec.first_rhs, self.offsets, spec.lanes, spec.masks)
        if spec.rhs.lines == "column":
            computer.fill_transposed(
                OperandLines(n, columns, k, self.kc), scratch, spec.columns, spec.schedule.b_unroll
            )
            return _Panel(scratch, width, scratch, None)
        lines = OperandLines(k, self.kc, n, columns)
        if not spec.schedule.b_in_tile:
            computer.fill(lines, scratch, width, spec.schedule.b_unroll)
            return _Panel(scratch, width, scratch, None)
        whole = b.cmp("eq", columns, spec.columns)
        with b.if_(b.not_(whole)):
            computer.fill(lines, scratch, width, spec.schedule.b_unroll)

        def compute(row: Val, column: int) -> Val:
            return computer.vector(b.add(k, row), b.add(n, column), spec.lanes, None, spec.schedule.ahead)

        return _Panel(scratch, width, scratch, whole, compute)

    def _tile(self, a: RowSource, panel: _Panel, packs: Val | None, m: Val, n: Val, rows: Val, columns: Val) -> None:
        """One register tile over one k-block; where `packs` holds it reads B in place and fills the panel."""
        b, spec = self.b, self.spec
        wide = b.cmp("eq", columns, spec.columns)
        direct = b.and_(wide, b.cmp("eq", rows, spec.rows))
        if not spec.epilogue.is_plain:
            direct = b.and_(direct, b.not_(self.last))
        c_index = b.add(b.mul(b.add(self.row0, m), self.dim("n")), n)
        pointers = self.row_pointers(a, rows)
        self.ask_for_leaves(rows, columns, lambda k, i: b.add(self._leaf_start(k, b.add(m, i)), n))

        def full() -> list[Val]:
            in_panel = PanelSource(panel.rows, panel.stride, spec.vectors, unrolled=True)
            read = lambda: self.chains(pointers, a.k, in_panel)  # noqa: E731
            chains = b.if_else(packs, lambda: self._chains_that_pack(pointers, a.k, panel), read) if packs else read()
            c_at = b.address(b.buffer(spec.sums), c_index, spec.element)
            target = b.select(direct, c_at, b.scratch)
            c_stride = b.select(direct, self.dim("n"), b.const(spec.columns, "i64"))
            fresh = b.or_(self.first, b.not_(direct))
            self.put_where(fresh, chains, target, c_stride)
            return []

        def border() -> list[Val]:
            with b.loop(0, columns, spec.lanes) as vs:
                mask = b.tail_mask(b.sub(columns, vs.index), spec.lanes) if spec.masks else None
                rows_of_b = b.address(panel.rows, vs.index, spec.element)
                chains = self.chains(pointers, a.k, PanelSource(rows_of_b, panel.stride, 1, mask))
                target = b.address(b.scratch, vs.index, spec.element)
                self.put(chains, target, b.const(spec.columns, "i64"), False)
            return []

        b.if_else(wide, full, border)
        with b.if_(b.not_(direct)):
            self._finish_tile(rows, columns, m, n)

    def _chains_that_pack(self, pointers: list[Val], a_k: Val, panel: _Panel) -> list[Val]:
        """The chains of a panel's first tile, which fills the panel."""
        stride = panel.stride if panel.compute else self.dim("b.k")
        in_place = PanelSource(panel.source, stride, self.spec.vectors, fill=panel.rows, compute=panel.compute)
        return self.chains(pointers, a_k, in_place)

    # ---- from scratch to memory ----------------------------------------------------------------------------

    def _finish_tile(self, rows: Val, columns: Val, m: Val, n: Val) -> None:
        b, spec = self.b, self.spec
        with b.loop(0, rows) as rs:
            row = b.add(m, rs.index)
            place = (rs.index, row)
            if spec.masks:
                with b.loop(0, columns, spec.lanes) as vs:
                    mask = b.tail_mask(b.sub(columns, vs.index), spec.lanes)
                    self._finish_vector(*place, vs.index, n, spec.lanes, mask)
            else:
                whole = b.mul(b.div_unsigned(columns, spec.lanes), spec.lanes)
                with b.loop(0, whole, spec.lanes) as vs:
                    self._finish_vector(*place, vs.index, n, spec.lanes, None)
                with b.loop(whole, columns) as vs:
                    self._finish_vector(*place, vs.index, n, 1, None)

    def _finish_vector(self, i: Val, row: Val, v: Val, n: Val, lanes: int, mask: Val | None) -> None:
        """Add what earlier k-blocks left, apply the epilogue after the last one, store."""
        b, spec = self.b, self.spec
        column = b.add(n, v)
        index = b.add(b.mul(b.add(self.row0, row), self.dim("n")), column)
        x = b.load(b.scratch, b.add(b.mul(i, spec.columns), v), spec.element, lanes)

        def load(k: int) -> Val:
            leaf, buffer = spec.epilogue.leaves[k], b.buffer(spec.sums + 1 + k)
            return self.load_leaf(leaf, buffer, self._leaf_start(k, row), column, f"leaf{k}", lanes, mask)

        self.finish_vector(
            x,
            lambda buffer: b.load(buffer, index, spec.element, lanes, mask),
            lambda y, buffer: b.store(y, buffer, index, mask),
            load,
        )

    def _leaf_start(self, k: int, row: Val) -> Val:
        """Where a row of a leaf begins."""
        return self.b.add(self.offsets[f"leaf{k}"], self.b.mul(row, self.dim(f"leaf{k}.row")))
