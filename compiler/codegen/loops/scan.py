"""Scans on CPUs: chains side by side, each one element after the other; where lines are long, blocks of them and their prefixes.

In: a `Fragment` whose one member is a scan. Out: its nest; by a schedule, one call, or three: every block by itself, which
leaves its last element; the running fold of these; and what comes before a block combined with its elements. A line is all
elements along the axis at one place of the other axes; where lines lie beside each other in memory, a vector holds elements of
several. Next: `reduce.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from flambeau.compiler.codegen.emitter import Emitter, Val
from flambeau.compiler.codegen.fragment import Fragment
from flambeau.compiler.codegen.iteration_space import NestForm
from flambeau.compiler.codegen.units import LoopNest, Parts
from flambeau.compiler.kernel import KernelCall, KernelSource, Operand
from flambeau.compiler.schedules.kinds import Scan
from flambeau.dialects.dtypes import DType
from flambeau.dialects.graph import Node
from flambeau.dialects.orders import SCAN_BLOCK
from flambeau.dialects.size import Int, ceil_div, maximum
from flambeau.dialects.tape.nan import canonical


def nests(fragment: Fragment) -> list[LoopNest] | None:
    """The nest of a scan; None if an operand does not lie in memory in order."""
    (node,) = fragment.members
    if not fragment.reads_memory(node):
        return None
    form = NestForm.along(fragment.avals[node.results[0]].shape, node.attrs[0])
    label = "scan" if len(node.operands) == 1 else "recurrence"
    return [LoopNest(Scan, fragment, form, label, node=node, own=lower)] if form.size else []


def lower(nest: LoopNest, schedule: Scan) -> Parts:
    """The calls of a scan."""
    return _Scan(nest, schedule).parts()


@dataclass(frozen=True)
class _Chain:
    """Elements that are scanned one after the other: where the first lies, how many there are, which of them exist (lanes of a
    vector), and where the last one is left for the prefixes."""

    start: Val
    count: Val
    last: Val
    mask: Val | None = None


class _Scan:
    """The kernels of one scan. Their dims are the elements of a line, how many lines lie beside each other, and the blocks of a
    line."""

    def __init__(self, nest: LoopNest, schedule: Scan) -> None:
        assert nest.node is not None
        self.node: Node = nest.node
        self.step: Callable[..., Val] = nest.node.op.lower
        self.form, self.schedule, self.label = nest.form, schedule, nest.label
        self.reverse = bool(self.node.attrs[1])
        self.is_blocked = len(self.node.operands) == 1 and bool(self.form.count > SCAN_BLOCK)
        self.is_unit = not bool(self.form.columns > 1)
        self.across = schedule.lanes > 1 and not self.is_unit
        self.dtype: DType = nest.fragment.avals[self.node.results[0]].dtype
        self.roots = [nest.fragment.sources[v].root for v in self.node.operands]
        self.blocks: Int = ceil_div(self.form.count, SCAN_BLOCK) if self.is_blocked else 1
        self.groups: Int = ceil_div(self.form.columns, schedule.lanes * schedule.chains) if self.across else 1
        self.total: Int = self.form.batch * self.blocks * self.form.columns
        self.dims = (self.form.count, self.form.columns, self.blocks, self.groups, self.total)

    def parts(self) -> Parts:
        first = self._blocks()
        if not self.is_blocked:
            return Parts([first])
        return Parts([first, self._prefixes(), self._later()], [self.total * self.dtype.itemsize])

    # ---- the three calls -------------------------------------------------------------------------------------

    def _blocks(self) -> KernelCall:
        """Every chain by itself."""
        inputs = [Operand("value", root) for root in self.roots]
        out = len(inputs)
        operands = [*inputs, Operand("value", self.node.results[0]), *([Operand("temp", 0)] if self.is_blocked else [])]
        schedule = self.schedule
        width = schedule.chains * (schedule.lanes if self.across else 1)
        items = self.form.batch * self.blocks * self.groups if self.across else ceil_div(self.total, width)
        return KernelCall(
            self._kernel(),
            tuple(operands),
            dims=self.dims,
            n=items,
            grain=maximum(1, schedule.grain // (self._longest() * width)),
            writes=tuple(range(out, len(operands))),
            in_place=tuple((out, k) for k in range(out)),
        )

    def _longest(self) -> Int:
        """Elements of a chain, at most."""
        return SCAN_BLOCK if self.is_blocked else self.form.count

    def _kernel(self) -> KernelSource:
        b = Emitter()
        with b.loop(b.lo, b.hi) as item:
            if self.across:
                for branch, chains in self._vectors(b, item.index, 0):
                    with branch:
                        self._advance(b, chains())
            else:
                self._lines(b, item.index)
        return b.source(self.label)

    def _prefixes(self) -> KernelCall:
        """What comes out for the blocks up to each one: of every line, from its first block on."""
        b = Emitter()
        parts, columns, blocks, element = b.buffer(0), self._columns(b), b.dim(2), self.dtype.mlir
        with b.loop(b.lo, b.hi) as line:
            start = line.index if not self.is_unit else b.mul(line.index, blocks)
            if not self.is_unit:
                outer, column = b.div_unsigned(line.index, columns), b.rem_unsigned(line.index, columns)
                start = b.add(b.mul(outer, b.mul(blocks, columns)), column)
            with b.loop(1, blocks, carried=[b.load(parts, start, element)]) as block:
                at = b.add(start, block.index if self.is_unit else b.mul(block.index, columns))
                found = self.step(b, block.args[0], b.load(parts, at, element))
                b.store(found, parts, at)
                block.carry([found])
        lines = self.form.batch * self.form.columns
        return KernelCall(
            b.source(f"prefixes of {self.label}"),
            (Operand("temp", 0),),
            dims=self.dims,
            n=lines,
            grain=maximum(1, self.schedule.grain // self.blocks),
            writes=(0,),
        )

    def _later(self) -> KernelCall:
        """Every block but the first, combined with what comes before it."""
        b = Emitter()
        before, out = b.buffer(0), b.buffer(1)
        with b.loop(b.lo, b.hi) as item:
            if self.across:
                for branch, chains in self._vectors(b, item.index, 1):
                    with branch:
                        self._combine_vectors(b, before, out, chains())
            else:
                self._combine_line(b, before, out, item.index)
        later = self.form.batch * (self.blocks - 1)
        width = self.schedule.chains * self.schedule.lanes if self.across else 1
        return KernelCall(
            b.source(f"blocks after the first of {self.label}"),
            (Operand("temp", 0), Operand("value", self.node.results[0])),
            dims=self.dims,
            n=later * (self.groups if self.across else self.form.columns),
            grain=maximum(1, self.schedule.grain // (SCAN_BLOCK * width)),
            writes=(1,),
        )

    # ---- where chains lie ------------------------------------------------------------------------------------

    def _columns(self, b: Emitter) -> Val:
        return b.const(1, "i64") if self.is_unit else b.dim(1)

    def _length(self, b: Emitter, block: Val) -> Val:
        """Elements of a block."""
        if not self.is_blocked:
            return b.dim(0)
        return b.minimum(b.sub(b.dim(0), b.mul(block, SCAN_BLOCK)), SCAN_BLOCK)

    def _chain(self, b: Emitter, outer: Val, block: Val, column: Val, length: Val, mask: Val | None = None) -> _Chain:
        count, columns = b.dim(0), self._columns(b)
        first = b.mul(block, SCAN_BLOCK) if self.is_blocked else b.const(0, "i64")
        place = b.sub(b.sub(count, 1), first) if self.reverse else first
        start = b.add(b.mul(outer, count), place)
        last = b.add(b.mul(outer, b.dim(2)), block) if self.is_blocked else outer
        if not self.is_unit:
            start, last = b.add(b.mul(start, columns), column), b.add(b.mul(last, columns), column)
        return _Chain(start, length, last, mask)

    def _numbered(self, b: Emitter, chain: Val, skipped: int) -> _Chain:
        """The chain of a number, in the order of lines beside each other, then blocks, then lines further apart; of every line so
        many blocks are left out."""
        column, rest = b.const(0, "i64"), chain
        if not self.is_unit:
            column, rest = b.rem_unsigned(chain, b.dim(1)), b.div_unsigned(chain, b.dim(1))
        outer, block = self._block_of(b, rest, skipped)
        return self._chain(b, outer, block, column, self._length(b, block))

    def _block_of(self, b: Emitter, number: Val, skipped: int) -> tuple[Val, Val]:
        if not self.is_blocked:
            return number, b.const(0, "i64")
        blocks = b.sub(b.dim(2), skipped) if skipped else b.dim(2)
        block = b.rem_unsigned(number, blocks)
        return b.div_unsigned(number, blocks), b.add(block, skipped) if skipped else block

    def _place(self, b: Emitter, chain: _Chain, k: Val) -> Val:
        """Where element `k` of a chain lies."""
        step = k if self.is_unit else b.mul(k, b.dim(1))
        return b.sub(chain.start, step) if self.reverse else b.add(chain.start, step)

    def _vectors(
        self, b: Emitter, item: Val, skipped: int
    ) -> Iterator[tuple[AbstractContextManager[None], Callable[[], list[_Chain]]]]:
        """The vectors of an item, twice: where all their lanes are lines, and where only some are."""
        columns, groups = b.dim(1), b.dim(3)
        lanes, chains = self.schedule.lanes, self.schedule.chains
        group, rest = b.rem_unsigned(item, groups), b.div_unsigned(item, groups)
        outer, block = self._block_of(b, rest, skipped)
        length = self._length(b, block)
        first = b.mul(group, lanes * chains)
        left = b.sub(columns, first)
        is_whole = b.cmp("ge", left, lanes * chains)

        def whole() -> list[_Chain]:
            return [self._chain(b, outer, block, b.add(first, k * lanes), length) for k in range(chains)]

        def partly() -> list[_Chain]:
            masks = [b.tail_mask(b.maximum(b.sub(left, k * lanes), 0), lanes) for k in range(chains)]
            return [self._chain(b, outer, block, b.add(first, k * lanes), length, m) for k, m in enumerate(masks)]

        yield b.if_(is_whole), whole
        yield b.if_(b.not_(is_whole)), partly

    # ---- what is written -------------------------------------------------------------------------------------

    def _lines(self, b: Emitter, item: Val) -> None:
        """Chains of single elements: as many as a round takes, or those that are left, one by one."""
        chains = self.schedule.chains
        if chains == 1:
            self._advance(b, [self._numbered(b, item, 0)])
            return
        first, total = b.mul(item, chains), b.dim(4)
        is_whole = b.cmp("ge", b.sub(total, first), chains)
        with b.if_(is_whole):
            self._advance(b, [self._numbered(b, b.add(first, k), 0) for k in range(chains)])
        with b.if_(b.not_(is_whole)), b.loop(first, total) as chain:
            self._advance(b, [self._numbered(b, chain.index, 0)])

    def _advance(self, b: Emitter, chains: Sequence[_Chain]) -> None:
        """Scan chains side by side as far as all of them go, then each one to its end."""
        zero = b.const(0, "i64")
        so_far = [self._loaded(b, c, zero)[-1] for c in chains]
        for c, x in zip(chains, so_far, strict=True):
            self._stored(b, c, zero, x)
        common = chains[0].count
        if self.is_blocked and not self.across:
            for c in chains[1:]:
                common = b.minimum(common, c.count)
        with b.loop(1, common, carried=so_far) as loop:
            given = [self._loaded(b, c, loop.index) for c in chains]
            found = [self.step(b, t, *x) for t, x in zip(loop.args, given, strict=True)]
            for c, x in zip(chains, found, strict=True):
                self._stored(b, c, loop.index, x)
            loop.carry(found)
        for c, x in zip(chains, loop.results, strict=True):
            self._finish(b, c, x, common)

    def _finish(self, b: Emitter, chain: _Chain, so_far: Val, done: Val) -> None:
        """The elements of a chain that is longer than others, and its last one."""
        if chain.count is not done:
            with b.loop(done, chain.count, carried=[so_far]) as rest:
                found = self.step(b, rest.args[0], *self._loaded(b, chain, rest.index))
                self._stored(b, chain, rest.index, found)
                rest.carry([found])
            (so_far,) = rest.results
        if self.is_blocked:
            b.store(so_far, b.buffer(len(self.roots) + 1), chain.last, chain.mask)

    def _loaded(self, b: Emitter, chain: _Chain, k: Val) -> list[Val]:
        at, lanes = self._place(b, chain, k), self.schedule.lanes if self.across else 1
        return [b.load(b.buffer(i), at, self.dtype.mlir, lanes, chain.mask) for i in range(len(self.roots))]

    def _stored(self, b: Emitter, chain: _Chain, k: Val, x: Val) -> None:
        b.store(canonical(b, x), b.buffer(len(self.roots)), self._place(b, chain, k), chain.mask)

    def _combine_vectors(self, b: Emitter, before: Val, out: Val, chains: Sequence[_Chain]) -> None:
        lanes, element = self.schedule.lanes, self.dtype.mlir
        prefixes = [b.load(before, b.sub(c.last, b.dim(1)), element, lanes, c.mask) for c in chains]
        with b.loop(0, chains[0].count) as k:
            for c, prefix in zip(chains, prefixes, strict=True):
                at = self._place(b, c, k.index)
                x = b.load(out, at, element, lanes, c.mask)
                b.store(canonical(b, self.step(b, prefix, x)), out, at, c.mask)

    def _combine_line(self, b: Emitter, before: Val, out: Val, item: Val) -> None:
        chain, element = self._numbered(b, item, 1), self.dtype.mlir
        prefix = b.load(before, b.sub(chain.last, self._columns(b)), element)
        lanes = self.schedule.lanes if self.is_unit else 1
        lowest = b.sub(chain.start, b.sub(chain.count, 1)) if self.reverse and self.is_unit else chain.start
        whole = b.sub(chain.count, b.rem_unsigned(chain.count, lanes)) if lanes > 1 else b.const(0, "i64")

        def combine(at: Val, lanes: int) -> None:
            x = b.load(out, at, element, lanes)
            b.store(canonical(b, self.step(b, b.splat(prefix, lanes), x)), out, at)

        if lanes > 1:
            with b.loop(0, whole, lanes) as k:
                combine(b.add(lowest, k.index), lanes)
        with b.loop(whole, chain.count) as k:
            combine(b.add(lowest, k.index) if self.is_unit else self._place(b, chain, k.index), 1)
