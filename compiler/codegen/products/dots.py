"""Products of 8-bit integers, whose sums are int32 and have no order: dots of lines that lie along k, read where they are.

In: `DotSpec`. Out: kernel text. A tile of a few rows of A by a few columns of B is held in vectors of sums along k, which are
folded at the end: nothing is packed, whatever the sizes. A machine that multiplies four neighbours at once (`dots`) does so with
one factor unsigned and one signed; of two that are alike, one is moved by 128, and 128 times the other's sum is taken off: int32
wraps, so that this is exact on the way, too. Sums of a row lie in scratch until the epilogue goes over them. Items of the
parallel loop are blocks of C. Next: `cut.py`, which fills in the dims; `schedules/products.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from flambeau.compiler.codegen.emitter import Val
from flambeau.compiler.codegen.products.kernel import Epilogue, KernelEmitter
from flambeau.compiler.codegen.products.operands import Contraction, Factor
from flambeau.compiler.codegen.values import storage_bytes
from flambeau.compiler.kernel import KernelSource
from flambeau.compiler.schedules.kinds import DotProduct
from flambeau.dialects.dtypes import int8, int32, uint8
from flambeau.dialects.size import Int, Size

#: Products that one instruction adds up where a machine has it.
QUAD = 4


def is_small(factor: Factor) -> bool:
    """Whether an operand is int8 or uint8 in memory, and nothing but widened."""
    if [step.op.name for step in factor.steps] != ["cast"] or factor.ref.kind != "step":
        return False
    return [x.dtype in (int8, uint8) for x in factor.leaves] == [True]


def fits(c: Contraction) -> bool:
    """Whether a product is one of 8-bit integers whose lines lie along k."""
    if c.dtype is not int32 or not (is_small(c.lhs) and is_small(c.rhs)):
        return False
    return bool(c.k == 1) or (c.lhs.leaves[0].column == 1 and c.rhs.leaves[0].row == 1)


@dataclass(frozen=True)
class DotSpec:
    """What text depends on: the types of A and B in memory, and `dots`, whether the machine adds up four products at once."""

    a: str
    b: str
    schedule: DotProduct
    masks: bool
    dots: bool
    batch_rank: int
    epilogue: Epilogue

    @property
    def step(self) -> int:
        """Elements along k of a vector."""
        return self.schedule.lanes * (QUAD if self.dots else 1)

    @property
    def moved(self) -> str:
        """Which factor is moved by 128 so that one is unsigned and one signed: "a", "b" or none."""
        if not self.dots or self.a != self.b:
            return ""
        return "a" if self.a == "i8" else "b"

    def scratch(self) -> Int:
        """Bytes for the sums of a few rows."""
        return self.schedule.rows * self.schedule.n_block * storage_bytes("i32")


def dot_kernel(spec: DotSpec) -> tuple[KernelSource, tuple[str | Size, ...]]:
    """The kernel, and the names of its dims. Buffers: A, B, the epilogue's leaves, its outputs."""
    return _DotWriter(spec).write()


class _DotWriter(KernelEmitter):
    def __init__(self, spec: DotSpec) -> None:
        super().__init__()
        self.spec = spec

    def write(self) -> tuple[KernelSource, tuple[str | Size, ...]]:
        b, spec, d = self.b, self.spec, self.dim
        leaves = [f"leaf{k}" for k in range(len(spec.epilogue.leaves))]
        with b.loop(b.lo, b.hi) as items:
            rest, mb = self.split(items.index, ["m_blocks"])
            batch, nb = self.split(rest, ["n_blocks"])
            self.offsets = self.batch_offsets(batch, spec.batch_rank, ["a", "b", *leaves])
            self.a0 = b.address(b.buffer(0), self.offsets["a"], spec.a)
            self.b0 = b.address(b.buffer(1), self.offsets["b"], spec.b)
            self.row0 = b.mul(batch, d("m"))
            m0, self.n0 = b.mul(mb, d("m_block")), b.mul(nb, d("n_block"))
            m1 = b.minimum(b.add(m0, d("m_block")), d("m"))
            self.n1 = b.minimum(b.add(self.n0, d("n_block")), d("n"))
            with b.loop(m0, m1, spec.schedule.rows) as ms:
                self._rows(ms.index, m1)
        return self.finish(f"dots {spec.a} x {spec.b}{spec.epilogue.label}")

    def _rows(self, m: Val, m1: Val) -> None:
        """A few rows of a block: their sums into scratch, then the epilogue."""
        b, spec = self.b, self.spec
        count = b.minimum(b.sub(m1, m), spec.schedule.rows)
        last = b.sub(m1, 1)
        rows = [
            b.address(self.a0, b.mul(b.minimum(b.add(m, i), last), self.dim("a.row")), spec.a)
            for i in range(spec.schedule.rows)
        ]
        with b.loop(self.n0, self.n1, spec.schedule.columns) as ns:
            far = b.sub(self.n1, 1)
            lines = [
                b.address(self.b0, b.mul(b.minimum(b.add(ns.index, j), far), self.dim("b.column")), spec.b)
                for j in range(spec.schedule.columns)
            ]
            place = b.sub(ns.index, self.n0)
            sums = self._sums(rows, lines)
            for i in range(len(rows)):
                for j in range(len(lines)):  # beyond the border they lie where the next ones will, or at the end
                    b.store(sums[i * len(lines) + j], b.scratch, b.add(place, i * spec.schedule.n_block + j))
        with b.loop(0, count) as rs:
            self._finish_row(rs.index, b.add(m, rs.index))

    # ---- along k -------------------------------------------------------------------------------------------

    def _sums(self, rows: list[Val], lines: list[Val]) -> list[Val]:
        """The dots of all rows with all lines, row by row."""
        b, spec, k = self.b, self.spec, self.dim("k")
        others = {"a": len(lines), "b": len(rows), "": 0}[spec.moved]
        zero = b.const(0, "i32", spec.schedule.lanes)
        whole = b.mul(b.div_unsigned(k, spec.step), spec.step)
        with b.loop(0, whole, spec.step, [zero] * (len(rows) * len(lines) + others)) as ks:
            ks.carry(self._step(rows, lines, ks.index, ks.args, None))
        sums = ks.results
        if spec.masks:
            left = b.sub(k, whole)
            sums = b.if_else(b.cmp("gt", left, 0), lambda: self._step(rows, lines, whole, sums, left), lambda: sums)
        found = self._corrected([b.reduce("add", x) for x in sums], len(lines))
        return found if spec.masks else self._rest(rows, lines, whole, found)

    def _step(self, rows: list[Val], lines: list[Val], k: Val, sums: list[Val], left: Val | None) -> list[Val]:
        """A vector along k into every sum, or only its first `left` elements."""
        b, spec = self.b, self.spec
        mask = b.tail_mask(left, spec.step) if left else None
        xs = [b.load(row, k, spec.a, spec.step, mask) for row in rows]
        ys = [b.load(line, k, spec.b, spec.step, mask) for line in lines]
        if not spec.dots:
            xs, ys = ([b.cast(v, "i32") for v in vs] for vs in (xs, ys))
            return [b.add(b.mul(x, y), sums[i * len(ys) + j]) for i, x in enumerate(xs) for j, y in enumerate(ys)]
        apart = ys if spec.moved == "a" else xs if spec.moved == "b" else []
        extra = [self._dot(self._constant(v), v, s) for v, s in zip(apart, sums[len(rows) * len(lines) :], strict=True)]
        if spec.moved == "a":
            xs = [self._moved(x, "ui8") for x in xs]
        elif spec.moved == "b":
            ys = [self._moved(y, "i8") for y in ys]
        return [self._dot(x, y, sums[i * len(ys) + j]) for i, x in enumerate(xs) for j, y in enumerate(ys)] + extra

    def _dot(self, x: Val, y: Val, total: Val) -> Val:
        """The products of four neighbours each, added to `total`."""
        return self.b.dot4(x, y, total) if x.type == "ui8" else self.b.dot4(y, x, total)

    def _moved(self, x: Val, element: str) -> Val:
        """x + 128 as an unsigned number, or x - 128 as a signed one."""
        return self.b.bitcast(self.b.xor(x, -128 if x.is_signed else 128), element)

    def _constant(self, x: Val) -> Val:
        """What the other factor was moved by: 128, or -128 beside an unsigned one."""
        return self.b.const(*((128, "ui8") if x.is_signed else (-128, "i8")), x.lanes)

    def _corrected(self, sums: list[Val], columns: int) -> list[Val]:
        """The sums without what moving a factor added."""
        b, spec = self.b, self.spec
        if not spec.moved:
            return sums
        count = spec.schedule.rows * columns
        extra = sums[count:]
        return [b.sub(x, extra[n % columns if spec.moved == "a" else n // columns]) for n, x in enumerate(sums[:count])]

    def _rest(self, rows: list[Val], lines: list[Val], start: Val, sums: list[Val]) -> list[Val]:
        """What is left along k, element by element."""
        b, spec = self.b, self.spec
        with b.loop(start, self.dim("k"), 1, sums) as ks:
            xs = [b.cast(b.load(row, ks.index, spec.a), "i32") for row in rows]
            ys = [b.cast(b.load(line, ks.index, spec.b), "i32") for line in lines]
            pairs = [(x, y) for x in xs for y in ys]
            ks.carry([b.add(b.mul(x, y), total) for (x, y), total in zip(pairs, ks.args, strict=True)])
        return ks.results

    # ---- from scratch to memory ----------------------------------------------------------------------------

    def _finish_row(self, i: Val, row: Val) -> None:
        b, spec, lanes = self.b, self.spec, self.spec.schedule.lanes
        count = b.sub(self.n1, self.n0)
        start = b.mul(i, spec.schedule.n_block)
        if spec.masks:
            with b.loop(0, count, lanes) as vs:
                self._finish(start, row, vs.index, lanes, b.tail_mask(b.sub(count, vs.index), lanes))
            return
        whole = b.mul(b.div_unsigned(count, lanes), lanes)
        with b.loop(0, whole, lanes) as vs:
            self._finish(start, row, vs.index, lanes, None)
        with b.loop(whole, count) as vs:
            self._finish(start, row, vs.index, 1, None)

    def _finish(self, start: Val, row: Val, v: Val, lanes: int, mask: Val | None) -> None:
        b, spec = self.b, self.spec
        column = b.add(self.n0, v)
        total = b.load(b.scratch, b.add(start, v), "i32", lanes)
        index = b.add(b.mul(b.add(self.row0, row), self.dim("n")), column)

        def load(k: int) -> Val:
            name = f"leaf{k}"
            line = b.add(self.offsets[name], b.mul(row, self.dim(f"{name}.row")))
            return self.load_leaf(spec.epilogue.leaves[k], b.buffer(2 + k), line, column, name, lanes, mask)

        for k, y in enumerate(spec.epilogue.apply(b, total, load)):
            b.store(y, b.buffer(2 + len(spec.epilogue.leaves) + k), index, mask)
