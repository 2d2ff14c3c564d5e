"""One kernel that loops over blocks of rows, and calls the kernels of a block's program on each: values between them stay in a
block of scratch.

In: a cluster, the programs of its blocks (`block.py`) with their kernels placed. Out: its call. The text depends on kernels
and operands only; extents, strides and what the inner kernels are called with are dims. Next: `stages.py`, who compiles the
program of a block like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod

from flambeau.compiler.codegen.blocks.block import BlockProgram, Extent, Feed, NoBlocks, block, extent, widest
from flambeau.compiler.codegen.emitter import Emitter, Val
from flambeau.compiler.codegen.values import POINTER
from flambeau.compiler.kernel import Cluster, KernelCall, KernelSource, Lowered, Operand
from flambeau.compiler.plans.arena import aligned
from flambeau.compiler.plans.control import Compile, RegionPlan
from flambeau.compiler.plans.plan import place_body
from flambeau.compiler.plans.rows import place_of
from flambeau.compiler.plans.steps import NOWHERE, Step
from flambeau.compiler.targets import Target
from flambeau.dialects.dtypes import DType
from flambeau.dialects.graph import Graph
from flambeau.dialects.orders import BLOCK
from flambeau.dialects.size import Int
from flambeau.runtime.plan_spec import RefKind

_SLOT = 8  # bytes of a pointer, and of a number that the kernel writes for a block


@dataclass(frozen=True)
class Placed:
    """The program of blocks of `rows` rows, and its steps in memory."""

    rows: int
    block: BlockProgram
    body: RegionPlan


#: Rows of a block, at least and at most; matrices of a block that are in use at a time.
_LEAST_ROWS, _MOST_ROWS, _LIVE = 32, 256, 2


def lower(cluster: Cluster, compile_program: Compile, machine: Target) -> Lowered:
    """The one call of a cluster; `compile_program` makes kernels of the program of a block."""
    graph = cluster.graph
    over = extent(graph)
    rows = rows_of_blocks(graph, machine)
    rest, known = rest_of_blocks(over.rows, rows)
    label = "blocks of rows: " + "+".join(n.op.name for n in graph.nodes if n.op.name in ("matmul", "exp"))
    whole = _placed(graph, rows, compile_program)
    last = _placed(graph, rest, compile_program, known) if rest else None
    call = compose(graph, over, whole, last, label)
    return Lowered([replace(call, source=replace(call.source, schedule=f"blocks(rows = {rows})"))])


def rows_of_blocks(graph: Graph, machine: Target) -> int:
    """As many as have their matrices in half of L2, such that none is left alone at the end, where blocks are computed side by
    side. Sums over rows are those of blocks as long as their order says."""
    rows = extent(graph).rows
    order = min(rows, BLOCK)
    if block(graph, order).sums:
        return order
    near = machine.l2 // 2 // (_LIVE * widest(graph) * 4)
    wanted = min(rows, max(_LEAST_ROWS, min(_MOST_ROWS, near)))
    wanted = -(-rows // -(-rows // wanted))
    while rows % wanted == 1:
        wanted += 1
    return wanted


def rest_of_blocks(rows: int, length: int) -> tuple[int, int]:
    """Rows of the last of the blocks of `length` rows, or 0 if that is whole; and how many of them the block before has, too. A row
    is never left alone: a product of one row has an order of its own."""
    rest = rows % length
    return (2, 1) if rest == 1 else (rest, 0)


def _placed(graph: Graph, rows: int, compile_program: Compile, known: int = 0) -> Placed:
    found = block(graph, rows, known)
    return Placed(rows, found, place_body(found.graph, compile_program(found.graph), found.sums))


def compose(graph: Graph, extent: Extent, whole: Placed, rest: Placed | None, label: str) -> KernelCall:
    """The call that computes a cluster's graph by blocks like `whole`, and in the end `rest`. Raises NoBlocks for programs that
    cannot be called so."""
    return _Composer(graph, extent, whole, rest, label).run()


@dataclass
class _Composer:
    graph: Graph
    extent: Extent
    whole: Placed
    rest: Placed | None
    label: str
    numbers: list[Int] = field(default_factory=list)  # the dims of inner calls
    outer: dict[str, Int] = field(default_factory=dict)  # and those of the loops, by name
    texts: dict[str, int] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.b = Emitter()
        self.feeds, self.given = self.whole.block.feeds, self.whole.block.given
        self.parts = [self.whole] if self.rest is None else [self.whole, self.rest]
        if any(p.block.feeds != self.feeds or p.block.given != self.given for p in self.parts):
            raise NoBlocks("[blocks] the last block is another program.")
        if any(len(p.body.kept) < p.block.sums for p in self.parts):
            raise NoBlocks("[blocks] a sum is not made in place.")
        steps = [step for p in self.parts for step in p.body.steps]
        if any(not s.call.source.text or s.call.source.is_host or None in s.blocks for s in steps):
            raise NoBlocks("[blocks] a step is no kernel of ours.")
        self.at = {id(step): self._add(step) for step in steps}
        self.feeds_values = [f for f in self.feeds if f.kind == "value"]
        self.places = dict.fromkeys(f for f in self.feeds if f.kind in ("row", "place"))
        self.pointers = aligned(_SLOT * len(self.places))
        self.arena = self.pointers + aligned(_SLOT * max(len(s.blocks) for s in steps))
        self.inner = self.arena + aligned(max(int(p.body.arena) for p in self.parts))
        self.scratch = self.inner + max(int(s.call.scratch) for s in steps)

    @property
    def sums(self) -> bool:
        return any(g.is_sum for g in self.given)

    def run(self) -> KernelCall:
        b, rows = self.b, self.extent.rows
        blocks = -(-rows // self.whole.rows)
        count = self._dim("blocks", blocks)
        with b.loop(b.lo, b.hi) as items:
            if self.sums:
                batch = items.index
                self._clear(batch)
                with b.loop(0, count) as loop:
                    self._block(batch, loop.index)
            else:
                self._block(b.div_unsigned(items.index, count), b.rem_unsigned(items.index, count))
        operands = [Operand("value", f.value, f.offset * self._dtype(f.value).itemsize) for f in self.feeds_values]
        first = len(operands)
        operands += [Operand("value", g.value) for g in self.given]
        n = prod(self.extent.batch) * (1 if self.sums else blocks)
        dims = (*self.numbers, *(self.outer[name] for name in self.names))
        writes = tuple(range(first, len(operands)))
        return KernelCall(self._source(), tuple(operands), dims, n, 1, writes, self.scratch)

    # ---- inner kernels -----------------------------------------------------------------------------------------

    def _add(self, step: Step) -> tuple[int, int]:
        """The number of a step's kernel, and where its numbers begin among the dims: how many items, then its own."""
        kernel = self.texts.setdefault(step.call.source.text, len(self.texts))
        begin = len(self.numbers)
        self.numbers += [step.call.n, *step.call.dims]
        return kernel, begin

    def _source(self) -> KernelSource:
        found = self.b.source(self.label)
        inner = "".join(_inner(text, k) for text, k in self.texts.items())
        head, _, tail = found.text.partition("module {\n")
        return KernelSource(f"{head}module {{\n{inner}{tail}", found.label)

    def _dtype(self, value: int) -> DType:
        return self.graph.avals[value].dtype

    def _dim(self, name: str, number: Int) -> Val:
        self.outer[name] = number
        return self.b.dim(len(self.numbers) + self.names.setdefault(name, len(self.names)))

    # ---- text --------------------------------------------------------------------------------------------------

    def _clear(self, batch: Val) -> None:
        """Sums begin at -0, to which whatever is added is what it is."""
        b = self.b
        for k, given in enumerate(self.given):
            if not given.is_sum:
                continue
            dtype = self._dtype(given.value)
            size, start = self._dim(f"out{k}.size", given.columns), self._output(k, batch, None)
            with b.loop(0, size) as loop:
                b.store(b.neg(b.const(0.0, dtype.mlir)), start, loop.index)

    def _block(self, batch: Val, number: Val) -> None:
        b = self.b
        row = b.mul(number, self._dim("rows", self.whole.rows))
        begin = row
        if self.rest is not None:  # which may begin in the block before
            row = b.minimum(row, self._dim("last", self.extent.rows - self.rest.rows))
        for k, place in enumerate(self.places):
            first = row
            if place.kind == "place":
                rows = b.add(b.mul(batch, self._dim("all", self.extent.rows)), row)
                first = b.mul(rows, self._dim(f"place{k}", place.step))
            else:
                first = b.add(row, self._dim(f"row{k}", place.offset))
            b.store(first, b.address(b.scratch, k, "i64"), 0)
        inputs = [self._input(k, f, batch, row) for k, f in enumerate(self.feeds)]
        outputs = [self._output(k, batch, row) for k in range(len(self.given))]
        if self.rest is None:
            self._calls(self.whole, inputs, outputs)
            return
        is_whole = b.cmp("le", b.add(begin, self._dim("rows", self.whole.rows)), self._dim("all", self.extent.rows))
        rest = self.rest
        b.if_else(
            is_whole,
            lambda: self._calls(self.whole, inputs, outputs),
            lambda: self._calls(rest, inputs, outputs),
        )

    def _input(self, k: int, feed: Feed, batch: Val, row: Val) -> Val | None:
        """Where a block's input begins; a sum's is its output."""
        b = self.b
        if feed.kind == "sums":
            return None
        if feed.kind != "value":
            return b.address(b.scratch, list(self.places).index(feed), "i64")
        at = b.const(0, "i64")
        rest = batch
        for d in reversed(range(len(self.extent.batch))):
            size = self._dim(f"batch{d}", self.extent.batch[d])
            digit = b.rem_unsigned(rest, size) if d else rest
            rest = b.div_unsigned(rest, size)
            if feed.batch[d]:
                at = b.add(at, b.mul(digit, self._dim(f"in{k}.batch{d}", feed.batch[d])))
        if feed.step:
            at = b.add(at, b.mul(row, self._dim(f"in{k}.row", feed.step)))
        return b.address(b.buffer(self.feeds_values.index(feed)), at, self._dtype(feed.value).mlir)

    def _output(self, k: int, batch: Val, row: Val | None) -> Val:
        b, given = self.b, self.given[k]
        size = self._dim(f"out{k}.size", given.columns)
        at = batch
        if not given.is_sum:
            assert row is not None
            at = b.add(b.mul(batch, self._dim("all", self.extent.rows)), row)
        return b.address(b.buffer(len(self.feeds_values) + k), b.mul(at, size), self._dtype(given.value).mlir)

    def _calls(self, placed: Placed, inputs: Sequence[Val | None], outputs: Sequence[Val]) -> list[Val]:
        """The calls of a block's program; they give no values."""
        b = self.b
        pointers, arena, inner = (b.address(b.scratch, self._offset(n), "i8") for n in ("pointers", "arena", "inner"))

        def pointer(step: Step, position: int, name: str) -> Val:
            place = place_of(step, position)
            assert place is not None
            if place == NOWHERE:
                return b.nowhere()
            kind, index, offset = place
            bases = {RefKind.INPUT: inputs, RefKind.OUTPUT: outputs}.get(kind)
            base = arena if bases is None else bases[index] or outputs[index]
            return b.address(base, self._dim(name, offset), "i8") if offset else base

        for number, step in enumerate(placed.body.steps):
            kernel, begin = self.at[id(step)]
            for p in range(len(step.blocks)):
                x = pointer(step, p, f"{placed is self.rest}{number}.{p}")
                slot = b.address(pointers, p, POINTER)
                b.line(f"llvm.store {x.name}, {slot.name} {{alignment = 8 : i64}} : {POINTER}, {POINTER}")
            dims = b.address(Val("%dims", POINTER), begin + 1, "i64")
            arguments = (pointers, dims, b.const(0, "i64"), b.dim(begin), inner)
            types = f"({POINTER}, {POINTER}, i64, i64, {POINTER}) -> ()"
            b.line(f"llvm.call @inner{kernel}({', '.join(x.name for x in arguments)}) : {types}")
        return []

    def _offset(self, name: str) -> Val:
        return self._dim(f"at.{name}", getattr(self, name))


def _inner(text: str, number: int) -> str:
    """A kernel's text as a function of another kernel's module."""
    lines = text.splitlines()
    body = "\n".join(lines[1 : len(lines) - lines[::-1].index("}") - 1])
    body = body.replace("llvm.func @kernel(", f"llvm.func internal @inner{number}(")
    body = body.replace('passthrough = ["', 'passthrough = ["noinline", "', 1)  # one large function compiles slower
    return body.replace("@table", f"@inner{number}_table").replace("@part", f"@inner{number}_part") + "\n"
