"""Dot and matrix-vector products: y[o] = sum over k of P[o, k] * x[k], in the lanes of inner reductions.

In: `VectorSpec`. Out: kernel text. Element k of a chunk of 4096 goes to lane k mod 64 by one FMA; lanes are halved
pairwise, chunk results combined pairwise (docs/architecture.md). Where the matrix's elements are adjacent along k, lanes
lie in registers and each output has its own; otherwise vectors run over outputs and the lanes lie in scratch. Computed
operands are computed where they would be loaded. Items of the parallel loop are groups of outputs. Next: `cut.py`, which
says what P and x are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from flambeau.compiler.codegen.emitter import Val
from flambeau.compiler.codegen.lane_folds import chunks_of
from flambeau.compiler.codegen.products.chains import LINE
from flambeau.compiler.codegen.products.kernel import Epilogue, KernelEmitter
from flambeau.compiler.codegen.products.prologue import Computer, Prologue
from flambeau.compiler.codegen.reduce import MonoidFold
from flambeau.compiler.codegen.values import storage_bytes
from flambeau.compiler.codegen.vector_lanes import VectorLanes
from flambeau.compiler.kernel import KernelSource
from flambeau.compiler.schedules.kinds import VectorProduct
from flambeau.dialects.dtypes import by_mlir
from flambeau.dialects.orders import CHUNK, LANES
from flambeau.dialects.record import find
from flambeau.dialects.size import Int, Size

#: `load(at, lanes, mask, ahead)`: elements of a line of the matrix, or of the vector, from `at` on; what is computed asks for what
#: the line `ahead` of it, if any, will need.
Load = Callable[..., Val]


@dataclass(frozen=True)
class VectorSpec:
    """What text depends on. The outputs of a group are computed at a time: along "k" those that share loads of x, otherwise those
    that a row of lanes covers, of which `depth` rows stay in registers. An item is one group, along "k" one or several. `p` and
    `x` say how the matrix and the vector are computed, if they are; the matrix then has lines along `unit`.
    """

    element: str
    schedule: VectorProduct
    masks: bool
    batch_rank: int
    epilogue: Epilogue
    p: Prologue | None = None
    x: Prologue | None = None

    @property
    def lanes(self) -> int:
        return self.schedule.lanes

    @property
    def group(self) -> int:
        return self.schedule.group

    @property
    def item(self) -> int:
        """Outputs of an item of the parallel loop."""
        return self.group * self.schedule.rounds

    @property
    def pitch(self) -> int:
        """Outputs from one row of scratch to the next, so that vectors hold those of an item."""
        return 1 << (self.item - 1).bit_length() if self.unit == "k" else self.group

    @property
    def depth(self) -> int:
        return self.schedule.depth

    @property
    def unit(self) -> str:
        return self.schedule.along

    @property
    def first_x(self) -> int:
        """The position of the first buffer that the vector is read from."""
        return 1 if self.p is None else len(self.p.leaves)

    @property
    def first_leaf(self) -> int:
        """The position of the epilogue's first leaf."""
        return self.first_x + (1 if self.x is None else len(self.x.leaves))

    def scratch(self, k: Int) -> Int:
        """Bytes for lanes and chunk results."""
        chunks = chunks_of(k)
        return (LANES + chunks) * self.pitch * storage_bytes(self.element)


def vector_kernel(spec: VectorSpec) -> tuple[KernelSource, tuple[str | Size, ...]]:
    """The kernel, and the names of its dims. Buffers: the matrix and the vector (or their leaves), the epilogue's leaves,
    its outputs."""
    return (_AlongK(spec) if spec.unit == "k" else _AlongOutputs(spec)).write()


class _VectorWriter(KernelEmitter):
    def __init__(self, spec: VectorSpec) -> None:
        super().__init__()
        self.spec = spec

    def write(self) -> tuple[KernelSource, tuple[str | Size, ...]]:
        b, spec, d = self.b, self.spec, self.dim
        leaves = [f"leaf{k}" for k in range(len(spec.epilogue.leaves))]
        with b.loop(b.lo, b.hi) as items:
            batch, block = self.split(items.index, ["blocks"])
            matrix, vector = (["px"[k]] if side is None else side.names for k, side in enumerate((spec.p, spec.x)))
            self.offsets = self.batch_offsets(batch, spec.batch_rank, [*matrix, *vector, *leaves])
            if spec.p is None:
                self.p0 = b.address(b.buffer(0), self.offsets["p"], spec.element)
            if spec.x is None:
                self.x0 = b.address(b.buffer(spec.first_x), self.offsets["x"], spec.element)
            self.y0 = b.mul(batch, d("outputs"))
            self.o = b.mul(block, spec.item)
            self.count = b.minimum(b.sub(d("outputs"), self.o), spec.item)
            self.results = b.address(b.scratch, LANES * spec.pitch, spec.element)
            self._chunks()
        before = "".join(side.label for side in (spec.p, spec.x) if side)
        return self.finish(f"{before}matvec {spec.element} {spec.unit}{spec.epilogue.label}")

    def _computed(self, side: Prologue, buffer: int, line: Val, start: Val) -> Load:
        """Reads a line of a computed operand, counting from `start`."""
        computer = Computer(self, side, buffer, self.offsets, self.spec.lanes, self.spec.masks)
        return lambda at, lanes, mask, ahead=0: computer.vector(line, self.b.add(start, at), lanes, mask, ahead)

    def _in_memory(self, pointer: Val) -> Load:
        """Reads adjacent elements."""
        return lambda at, lanes, mask, ahead=0: self.b.load(pointer, at, self.spec.element, lanes, mask)

    def _chunks(self) -> None:
        """Every chunk's result for the group, then their pairwise sum, then the outputs."""
        b, k = self.b, self.dim("k")
        with b.loop(0, self.dim("chunks")) as chunks:
            start = b.mul(chunks.index, CHUNK)
            self._chunk(start, b.minimum(b.sub(k, start), CHUNK), b.mul(chunks.index, self.spec.pitch))
        self._combine()
        self._store_group()

    def _chunk(self, start: Val, length: Val, place: Val) -> None:
        """Leave the chunk's sums at `results[place:]`, one per output of the group."""
        raise NotImplementedError

    def _combine(self) -> None:
        """Chunk results (0, 1), (2, 3), ... are added until one is left; an odd last one is carried over."""
        b, spec = self.b, self.spec
        levels_of = b.bit_length(b.sub(self.dim("chunks"), 1))
        with b.loop(0, levels_of, 1, [self.dim("chunks")]) as levels:
            (count,) = levels.args
            half = b.shru(b.add(count, 1), 1)
            with b.loop(0, half) as pairs:
                i, j = b.mul(pairs.index, 2), b.add(b.mul(pairs.index, 2), 1)
                paired = b.cmp("lt", j, count)
                with b.loop(0, spec.pitch, self._width()) as vs:
                    at = lambda row: b.add(b.mul(row, spec.pitch), vs.index)  # noqa: E731
                    x = b.load(self.results, at(i), spec.element, self._width())
                    y = b.load(self.results, at(b.select(paired, j, i)), spec.element, self._width())
                    b.store(b.select(paired, b.add(x, y), x), self.results, at(pairs.index))
            levels.carry([half])

    def _width(self) -> int:
        """Lanes of the vectors that hold results of neighbouring outputs."""
        return min(self.spec.lanes, self.spec.pitch)

    def _store_group(self) -> None:
        b, spec = self.b, self.spec
        if spec.masks and self._width() > 1:
            with b.loop(0, self.count, self._width()) as vs:
                self._store(vs.index, self._width(), b.tail_mask(b.sub(self.count, vs.index), self._width()))
            return
        whole = b.const(0, "i64")
        if spec.schedule.rounds > 1 and self._width() > 1:
            whole = b.and_(self.count, -self._width())
            with b.loop(0, whole, self._width()) as vs:
                self._store(vs.index, self._width(), None)
        with b.loop(whole, self.count) as vs:
            self._store(vs.index, 1, None)

    def _store(self, v: Val, lanes: int, mask: Val | None) -> None:
        b, spec = self.b, self.spec
        o = b.add(self.o, v)
        total = b.load(self.results, v, spec.element, lanes)

        def load(k: int) -> Val:
            name = f"leaf{k}"
            return self.load_leaf(
                spec.epilogue.leaves[k], b.buffer(spec.first_leaf + k), self.offsets[name], o, name, lanes, mask
            )

        first = spec.first_leaf + len(spec.epilogue.leaves)
        for k, y in enumerate(spec.epilogue.apply(b, total, load)):
            b.store(y, b.buffer(first + k), b.add(self.y0, o), mask)


class _AlongK(_VectorWriter):
    """Vectors run along k: `group` outputs, each with its 64 lanes in registers."""

    def _chunk(self, start: Val, length: Val, place: Val) -> None:
        b, spec = self.b, self.spec
        if spec.schedule.rounds == 1:
            self._round(start, length, place, None)
            return
        with b.loop(0, self.count, spec.group) as rounds:
            self._round(start, length, b.add(place, rounds.index), rounds.index)

    def _round(self, start: Val, length: Val, place: Val, first: Val | None) -> None:
        """The chunk's sums of one group, which begins at output `first` of the item."""
        b, spec = self.b, self.spec
        vectors = LANES // spec.lanes
        last = b.sub(self.count, 1)
        at = lambda g: b.minimum(last, g if first is None else b.add(first, g))  # noqa: E731
        self.lines = list[Val]()
        rows = [self._row(b.add(self.o, at(g)), start) for g in range(spec.group)]
        if spec.x is None:
            x = self._in_memory(b.address(self.x0, start, spec.element))
        else:
            x = self._computed(spec.x, spec.first_x, b.const(0, "i64"), start)
        zero = b.const(0, spec.element, spec.lanes)
        whole = b.mul(b.div_unsigned(length, LANES), LANES)
        with b.loop(0, whole, LANES, [zero] * (spec.group * vectors)) as ks:
            ks.carry(self._step(rows, x, ks.index, ks.args))
        lanes = self._tail(rows, x, whole, b.sub(length, whole), ks.results)
        halves, addition = VectorLanes(b, spec.lanes), MonoidFold(find("sum").lower, by_mlir(spec.element))
        for g in range(spec.group):
            total = halves.halve(addition, lanes[g * vectors : (g + 1) * vectors])
            b.store(total, self.results, b.add(place, g))

    def _row(self, o: Val, start: Val) -> Load:
        """Reads what output `o` multiplies, from `start` on."""
        b, spec = self.b, self.spec
        if spec.p is not None:
            return self._computed(spec.p, 0, o, start)
        row = b.mul(o, self.dim("p.output"))
        line = b.address(self.p0, b.add(row, start), spec.element)
        self.lines.append(line)
        return self._in_memory(line)

    def _step(self, rows: list[Load], x: Load, k: Val, lanes: list[Val]) -> list[Val]:
        """64 elements into the lanes of every output."""
        vectors, lanes, ahead = LANES // self.spec.lanes, list(lanes), self.spec.schedule.ahead
        for at in range(0, LANES if ahead else 0, LINE // storage_bytes(self.spec.element)):
            for line in self.lines:
                self.b.prefetch(line, self.b.add(k, ahead + at), self.spec.element)
        for v in range(vectors):
            lanes[v::vectors] = self._vector(rows, x, k, v, lanes[v::vectors], None)
        return lanes

    def _vector(self, rows: list[Load], x: Load, k: Val, v: int, lanes: list[Val], left: Val | None) -> list[Val]:
        """Vector `v` of 64 elements into the lanes of every output, or what of it is `left`; other lanes keep their value."""
        b, spec = self.b, self.spec
        mask = b.tail_mask(b.sub(left, v * spec.lanes), spec.lanes) if left else None
        at = b.add(k, v * spec.lanes)
        xs = x(at, spec.lanes, mask)
        ahead = 0 if v or left else spec.group  # lines of small numbers end before caches foresee the next ones
        totals = [b.fma(row(at, spec.lanes, mask, ahead), xs, lane) for row, lane in zip(rows, lanes, strict=True)]
        return [b.select(mask, *pair) for pair in zip(totals, lanes, strict=True)] if mask else totals

    def _tail(self, rows: list[Load], x: Load, k: Val, left: Val, lanes: list[Val]) -> list[Val]:
        b, spec, vectors = self.b, self.spec, LANES // self.spec.lanes
        lanes = list(lanes)
        if spec.masks:
            for v in range(vectors):
                there, so_far = b.cmp("gt", left, v * spec.lanes), lanes[v::vectors]
                lanes[v::vectors] = b.if_else(
                    there, partial(self._vector, rows, x, k, v, so_far, left), partial(list[Val], so_far)
                )
            return lanes
        for v in range(vectors - 1):
            there, so_far = b.cmp("ge", left, (v + 1) * spec.lanes), lanes[v::vectors]
            lanes[v::vectors] = b.if_else(
                there, partial(self._vector, rows, x, k, v, so_far, None), partial(list[Val], so_far)
            )
        rest = b.and_(left, spec.lanes - 1)
        through_scratch = partial(self._rest, rows, x, k, b.sub(left, rest), left, lanes)
        return b.if_else(b.cmp("eq", rest, 0), partial(list[Val], lanes), through_scratch)

    def _rest(self, rows: list[Load], x: Load, k: Val, first: Val, end: Val, lanes: list[Val]) -> list[Val]:
        """What is left of 64 elements and is no vector, one by one, from element `first` on: lanes go through scratch."""
        b, spec = self.b, self.spec
        for i, lane in enumerate(lanes):
            b.store(lane, b.scratch, i * spec.lanes)
        with b.loop(first, end) as ks:
            at = b.add(k, ks.index)
            xs = x(at, 1, None)
            for g, row in enumerate(rows):
                place = b.add(ks.index, g * LANES)
                lane = b.load(b.scratch, place, spec.element)
                b.store(b.fma(row(at, 1, None), xs, lane), b.scratch, place)
        return [b.load(b.scratch, i * spec.lanes, spec.element, spec.lanes) for i in range(len(lanes))]


class _AlongOutputs(_VectorWriter):
    """Vectors run over outputs: scratch holds 64 rows of lanes, `group` outputs wide."""

    def _chunk(self, start: Val, length: Val, place: Val) -> None:
        b, spec = self.b, self.spec
        if spec.x is None:
            self.x = b.address(self.x0, b.mul(start, self.dim("x.k")), spec.element)
        if spec.p is None:
            self.p = b.address(self.p0, b.mul(start, self.dim("p.k")), spec.element)
        self.start = start
        if spec.unit == "output":
            whole = b.cmp("eq", self.count, spec.group)
            b.if_else(whole, lambda: self._in_registers(length), lambda: self._in_scratch(length))
        else:
            self._in_scratch(length)
        distance = LANES // 2
        while distance:
            with b.loop(0, distance * spec.group, spec.lanes) as vs:
                y = b.load(b.scratch, b.add(vs.index, distance * spec.group), spec.element, spec.lanes)
                b.store(b.add(b.load(b.scratch, vs.index, spec.element, spec.lanes), y), b.scratch, vs.index)
            distance //= 2
        with b.loop(0, spec.group, spec.lanes) as vs:
            total = b.load(b.scratch, vs.index, spec.element, spec.lanes)
            b.store(total, self.results, b.add(place, vs.index))

    def _x(self, k: Val) -> Val:
        """Element `k` of the vector's chunk."""
        b, spec = self.b, self.spec
        if spec.x is not None:
            return self._computed(spec.x, spec.first_x, b.const(0, "i64"), self.start)(k, 1, None)
        return b.load(self.x, b.mul(k, self.dim("x.k")), spec.element)

    def _line(self, k: Val) -> Load:
        """Reads what element `k` of the vector's chunk is multiplied with, output by output."""
        b, spec = self.b, self.spec
        if spec.p is not None:
            return self._computed(spec.p, 0, b.add(self.start, k), b.const(0, "i64"))
        line = b.address(self.p, b.mul(k, self.dim("p.k")), spec.element)
        if spec.unit == "output":
            return self._in_memory(line)
        at = lambda o, lanes: b.mul(b.add(b.iota(lanes), o), self.dim("p.output"))  # noqa: E731
        return lambda o, lanes, mask, ahead=0: b.gather(line, at(o, lanes), spec.element, mask)

    def _in_registers(self, length: Val) -> list[Val]:
        """A whole group: a few lanes at a time stay in registers while every 64th row goes by."""
        b, spec = self.b, self.spec
        vectors = spec.group // spec.lanes
        zero = b.const(0, spec.element, spec.lanes)
        with b.loop(0, LANES, spec.depth) as lanes:
            first = lanes.index
            end = b.mul(b.div_unsigned(b.add(b.sub(length, first), LANES - spec.depth), LANES), LANES)
            with b.loop(0, end, LANES, [zero] * (spec.depth * vectors)) as ks:
                totals = []
                for i in range(spec.depth):
                    k = b.add(b.add(ks.index, first), i)
                    line, xk = self._line(k), b.splat(self._x(k), spec.lanes)
                    for v in range(vectors):
                        loaded = line(b.add(self.o, v * spec.lanes), spec.lanes, None)
                        totals.append(b.fma(loaded, xk, ks.args[i * vectors + v]))
                ks.carry(totals)
            for i in range(spec.depth):
                lane = b.address(b.scratch, b.mul(b.add(first, i), spec.group), spec.element)
                for v in range(vectors):
                    b.store(ks.results[i * vectors + v], lane, v * spec.lanes)
            rest = b.add(end, first)
            with b.loop(rest, b.minimum(b.add(rest, spec.depth), length)) as ks:
                self._add_row(ks.index)
        return []

    def _in_scratch(self, length: Val) -> list[Val]:
        """Row by row."""
        b, spec = self.b, self.spec
        zero = b.const(0, spec.element, spec.lanes)
        with b.loop(0, LANES * spec.group, spec.lanes) as vs:
            b.store(zero, b.scratch, vs.index)
        with b.loop(0, length) as ks:
            self._add_row(ks.index)
        return []

    def _add_row(self, k: Val) -> None:
        """One FMA per output: P[o, k] * x[k] into its lane in scratch."""
        b, spec = self.b, self.spec
        xk, line = self._x(k), self._line(k)
        lane = b.address(b.scratch, b.mul(b.and_(k, LANES - 1), spec.group), spec.element)

        def step(v: Val, lanes: int, mask: Val | None) -> None:
            loaded = line(b.add(self.o, v), lanes, mask)
            b.store(b.fma(loaded, b.splat(xk, lanes), b.load(lane, v, spec.element, lanes)), lane, v)

        if spec.masks:
            with b.loop(0, self.count, spec.lanes) as vs:
                step(vs.index, spec.lanes, b.tail_mask(b.sub(self.count, vs.index), spec.lanes))
        else:
            with b.loop(0, self.count) as vs:
                step(vs.index, 1, None)
