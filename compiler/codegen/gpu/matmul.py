"""The GPU code generator for matrix products with their epilogues: one launch per cluster.

Square tiles of the result, a few steps along k at a time through shared memory, a small square of results per thread. Sums keep the
order of docs/architecture.md: fused multiply-adds along k in blocks of 256, block results added in order; products with
a single row or column are folded as rows are. Next: `products/operands.py` for what is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flambeau.compiler.codegen.gpu.emitter import GpuEmitter
from flambeau.compiler.codegen.gpu.kernel import GpuKernel
from flambeau.compiler.codegen.gpu.lanes import ThreadLanes
from flambeau.compiler.codegen.lane_folds import Elements
from flambeau.compiler.codegen.products.cut import is_dense
from flambeau.compiler.codegen.products.kernel import evaluate
from flambeau.compiler.codegen.products.operands import Contraction, Factor, MatrixAccess, read
from flambeau.compiler.codegen.reduce import MonoidFold
from flambeau.compiler.codegen.units import Cut, Parts, ProductNest, joined
from flambeau.compiler.codegen.values import Val
from flambeau.compiler.kernel import Cluster, KernelCall, Operand
from flambeau.compiler.schedules.gpu_kinds import GpuProduct, GpuVectorProduct
from flambeau.compiler.targets import Target
from flambeau.dialects.orders import BLOCK, LANES
from flambeau.dialects.record import find
from flambeau.dialects.size import Int, ceil_div, maximum


def cut(cluster: Cluster) -> Cut:
    """The product of a contraction cluster. Raises ValueError for element types without a GPU kernel."""
    c = read(cluster.graph)
    if not c.dtype.is_floating_point:
        raise ValueError(f"[matmul] {c.dtype.name} has no GPU kernel yet. Compile it for a CPU target, or use float32.")
    if 0 in (c.batches, c.m, c.n):
        return Cut()
    kind = GpuVectorProduct if c.is_vector else GpuProduct
    return Cut([ProductNest(kind, c, cluster.graph, _label(c))], _emit, joined)


def _emit(nest: ProductNest, schedule: Any, target: Target) -> Parts:
    if isinstance(schedule, GpuVectorProduct):
        return Parts([_vector(nest.c, schedule)])
    return Parts([_TiledProduct(nest.c, schedule).call()])


def _label(c: Contraction) -> str:
    before = [s.op.name for s in (*c.lhs.steps, *c.rhs.steps) if s.args]
    return "+".join([*before, "matmul", *(s.op.name for s in c.steps)])


class _Product(GpuKernel):
    """What both kinds of kernel share: operands by strides, prologues and the epilogue."""

    def __init__(self, c: Contraction, threads: int) -> None:
        super().__init__(threads)
        self.c = c
        self.m, self.n, self.k = self.number(c.m), self.number(c.n), self.number(c.k)

    def base(self, x: MatrixAccess, batch: Val) -> Val:
        """Where a batch's part of an operand begins."""
        b, total, left = self.b, self.b.const(x.offset, "i64"), batch
        for axis in range(len(x.batch) - 1, -1, -1):
            extent = self.number(self.c.batch[axis], f"batch {axis}")
            at = b.rem_unsigned(left, extent) if axis else left
            total = b.add(total, self._times(at, x, f"batch {axis}", x.batch[axis]))
            left = b.div_unsigned(left, extent) if axis else left
        return total

    def element(self, x: MatrixAccess, base: Val, row: Val, column: Val) -> Val:
        b = self.b
        at = b.add(self._times(row, x, "row", x.row), self._times(column, x, "column", x.column))
        return b.load(self.pointer(Operand("value", x.value)), b.add(base, at), x.dtype.mlir)

    def bases(self, x: Factor, batch: Val) -> list[Val]:
        """Where a batch's part of each leaf of an operand begins."""
        return [self.base(leaf, batch) for leaf in x.leaves]

    def factor(self, x: Factor, bases: Sequence[Val], row: Val, column: Val) -> Val:
        """One element of an operand, read or computed."""
        load = lambda k: self.element(x.leaves[k], bases[k], row, column)  # noqa: E731
        return evaluate(self.b, x.steps, [x.ref], load)[0]

    def _times(self, index: Val, x: MatrixAccess, axis: str, stride: Int) -> Val:
        """`index` times the stride of an operand; strides 0 and 1 are in the text, others are dims."""
        if stride in (0, 1):
            return index if stride else self.b.const(0, "i64")
        return self.b.mul(index, self.number(stride, (x, axis)))

    def finish(self, product: Val, batch: Val, row: Val, column: Val) -> None:
        """The epilogue of one element of the product, and its stores."""
        b = self.b
        leaves = [self.element(x, self.base(x, batch), row, column) for x in self.c.leaves]
        values = evaluate(b, self.c.steps, [ref for _, ref, _ in self.c.outputs], lambda k: leaves[k], product)
        at = b.add(b.mul(b.add(b.mul(batch, self.m), row), self.n), column)
        for (v, _, _), x in zip(self.c.outputs, values, strict=True):
            b.store(x, self.output(v), at)

    def overwrites(self, new: int, old: int) -> bool:
        """An operand of the epilogue alone, read as densely as the product is written."""
        c = self.c
        if any(leaf.value == old for factor in (c.lhs, c.rhs) for leaf in factor.leaves):
            return False
        (width,) = (dtype.itemsize for value, _, dtype in c.outputs if value == new)
        reads = [leaf for leaf in c.leaves if leaf.value == old]
        return all(leaf.dtype.itemsize == width and is_dense(leaf, c) for leaf in reads)


def _vector(c: Contraction, schedule: GpuVectorProduct) -> KernelCall:
    """A block per result, which folds along k."""
    kernel = _Product(c, LANES * schedule.groups)
    b = kernel.b
    row, column = (b.const(0, "i64"), b.block()) if c.m == 1 else (b.block(), b.const(0, "i64"))
    batch = b.block("y")
    lhs, rhs = kernel.bases(c.lhs, batch), kernel.bases(c.rhs, batch)

    factors = lambda k: (kernel.factor(c.lhs, lhs, row, k), kernel.factor(c.rhs, rhs, k, column))  # noqa: E731
    addition = MonoidFold(find("sum").lower, c.dtype)
    (product,) = ThreadLanes(b, c.k, kernel.k, schedule.room).row([addition], _Factors(b, factors))
    with b.if_(b.cmp("eq", b.thread(), 0)):
        kernel.finish(product, batch, row, column)
    return kernel.launch(_label(c), (maximum(c.m, c.n), c.batches, 1), kernel.overwrites)


class _Factors(Elements):
    """What is multiplied and added along k."""

    def __init__(self, b: GpuEmitter, factors: Callable[[Val], tuple[Val, Val]]) -> None:
        super().__init__(b)
        self.factors = factors

    def at(self, col: Val, mask: Val | None = None, block: tuple[Val, int] | None = None) -> Val:
        return col

    def element(self, place: Val, fold: MonoidFold) -> tuple[Val, Val]:
        return self.factors(place)

    def combine(self, fold: MonoidFold, total: Val, x: tuple[Val, Val]) -> Val:
        return self.b.fma(*x, total)


#: 32-bit registers of a processor, on all architectures; and those of a thread for each of its sums: that, its share of what is
#: read of both tiles, and addresses. An assembler that is not told keeps more blocks and puts sums into memory.
_REGISTERS, _PER_SUM = 1 << 16, 8


class _TiledProduct:
    """Writes the kernel of a product of matrices."""

    def __init__(self, c: Contraction, schedule: GpuProduct) -> None:
        self.c, self.schedule, self.kernel = c, schedule, _Product(c, schedule.threads)
        self.tile, self.depth, self.each, self.pitch = (
            schedule.tile,
            schedule.depth,
            schedule.each,
            schedule.tile + schedule.pad,
        )
        self.b = b = self.kernel.b
        b.resident = max(1, _REGISTERS // (_PER_SUM * self.each**2 * schedule.threads))
        side = self.tile // self.each  # threads along each side
        self.type = c.dtype.mlir
        self.tile_a, self.tile_b = (b.shared(self.depth * self.pitch, self.type) for _ in range(2))
        self.batch = b.block("z")
        self.row0, self.column0 = b.mul(b.block("y"), self.tile), b.mul(b.block("x"), self.tile)
        self.lhs, self.rhs = self.kernel.bases(c.lhs, self.batch), self.kernel.bases(c.rhs, self.batch)
        self.x = b.mul(b.rem_unsigned(b.thread(), side), self.each)
        self.y = b.mul(b.div_unsigned(b.thread(), side), self.each)

    def call(self) -> KernelCall:
        c, b = self.c, self.b
        if c.k > BLOCK:
            zeros = [b.const(0.0, self.type)] * self.each**2
            with b.loop(0, self.kernel.k, BLOCK, zeros) as blocks:
                end = b.minimum(self.kernel.k, b.add(blocks.index, BLOCK))
                sums = self._block(blocks.index, end)
                is_first = b.cmp("eq", blocks.index, 0)
                blocks.carry([b.select(is_first, x, b.add(t, x)) for t, x in zip(blocks.args, sums, strict=True)])
            totals = blocks.results
        else:
            totals = self._block(b.const(0, "i64"), self.kernel.k)
        self._store(totals)
        grid = (ceil_div(c.n, self.tile), ceil_div(c.m, self.tile), c.batches)
        return self.kernel.launch(_label(c), grid, self.kernel.overwrites)

    def _block(self, start: Val, end: Val) -> list[Val]:
        """The sums of one block along k."""
        b = self.b
        with b.loop(start, end, self.depth, [b.const(0.0, self.type)] * self.each**2) as loop:
            self._fill(self.tile_a, loop.index, end, self._element_of_lhs, self.c.lhs.runs_along_columns)
            self._fill(self.tile_b, loop.index, end, self._element_of_rhs, self.c.rhs.runs_along_rows)
            b.barrier()
            loop.carry(self._multiply(loop.args))
            b.barrier()
        return loop.results

    def _fill(self, tile: Val, k0: Val, end: Val, element, along_k: bool) -> None:
        """Bring a tile's elements of a few steps along k into it, k outermost there; adjacent threads read adjacent elements."""
        b, threads = self.b, self.schedule.threads
        for part in range(self.tile * self.depth // threads):
            number = b.add(b.thread(), part * threads)
            inner = self.depth if along_k else self.tile
            near, far = b.rem_unsigned(number, inner), b.div_unsigned(number, inner)
            k, side = (near, far) if along_k else (far, near)
            b.store(element(b.add(k0, k), end, side), tile, b.add(b.mul(k, self.pitch), side))

    def _element_of_lhs(self, k: Val, end: Val, side: Val) -> Val:
        row = self.b.add(self.row0, side)
        load = lambda: self.kernel.factor(self.c.lhs, self.lhs, row, k)  # noqa: E731
        return self._or_pad(-0.0, row, self.kernel.m, k, end, load)

    def _element_of_rhs(self, k: Val, end: Val, side: Val) -> Val:
        column = self.b.add(self.column0, side)
        load = lambda: self.kernel.factor(self.c.rhs, self.rhs, k, column)  # noqa: E731
        return self._or_pad(0.0, column, self.kernel.n, k, end, load)

    def _or_pad(self, pad: float, at: Val, extent: Val, k: Val, end: Val, load: Callable[[], Val]) -> Val:
        """An element, or `pad` outside. Behind the end of k both operands have pads, -0 and +0: their product is -0, which leaves
        every sum as it is, also -0."""
        b = self.b
        inside = b.and_(b.cmp("lt", at, extent), b.cmp("lt", k, end))
        return b.if_else(inside, lambda: [load()], lambda: [b.const(pad, self.type)])[0]

    def _multiply(self, sums: Sequence[Val]) -> list[Val]:
        b, sums = self.b, list(sums)
        for k in range(self.depth):
            left = b.load_vector(self.tile_a, b.add(self.y, k * self.pitch), self.type, self.each)
            right = b.load_vector(self.tile_b, b.add(self.x, k * self.pitch), self.type, self.each)
            sums = [b.fma(left[i // self.each], right[i % self.each], sums[i]) for i in range(self.each**2)]
        return sums

    def _store(self, totals: Sequence[Val]) -> None:
        b = self.b
        for i, total in enumerate(totals):
            row = b.add(self.row0, b.add(self.y, i // self.each))
            column = b.add(self.column0, b.add(self.x, i % self.each))
            with b.if_(b.and_(b.cmp("lt", row, self.kernel.m), b.cmp("lt", column, self.kernel.n))):
                self.kernel.finish(total, self.batch, row, column)
