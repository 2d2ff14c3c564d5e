"""Register tiles: rows by vectors of sums that stay in registers along a k-block of 256.

In: a `TileText`; where rows of A begin, where rows of B lie. Out: text of the chains of fused multiply-adds, and of their way to
memory. Next: `tile.py` and `convolutions/tile.py`, who say where things lie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from flambeau.compiler.codegen.emitter import Val
from flambeau.compiler.codegen.products.kernel import Epilogue, KernelEmitter
from flambeau.compiler.codegen.values import storage_bytes
from flambeau.compiler.schedules.kinds import Tiles
from flambeau.compiler.targets.target import LINE
from flambeau.dialects.orders import BLOCK

#: Length of an FMA chain; part of the language's meaning (docs/architecture.md, "Contractions").
K_BLOCK = BLOCK

Compute = Callable[[Val, int], Val]


@dataclass(frozen=True)
class TileText:
    """What all text of tiles depends on: `schedule`, but for its blocks of C, which are dims. `accumulator` is the output that
    holds partial sums between k-blocks, or None where a temporary does."""

    element: str
    schedule: Tiles
    epilogue: Epilogue
    accumulator: int | None

    @property
    def lanes(self) -> int:
        return self.schedule.lanes

    @property
    def rows(self) -> int:
        return self.schedule.rows

    @property
    def vectors(self) -> int:
        return self.schedule.vectors

    @property
    def columns(self) -> int:
        return self.schedule.columns

    @property
    def sums(self) -> int:
        """The position of the buffer of partial sums; then come the epilogue's leaves, and outputs."""
        raise NotImplementedError


class RowSource(NamedTuple):
    """Where tiles read A over one k-block: row `first` begins at `start`; the strides between rows and along k. With `packed` the
    rows of a tile lie side by side, all of them, whatever those beyond the border hold."""

    start: Val
    first: Val | None
    row: Val
    k: Val
    packed: bool = False


class PanelSource(NamedTuple):
    """Where a tile reads B: rows of `vectors` vectors (under `mask`), `stride` apart; `fill` is where a copy goes.

    With `compute` it does not read them: that gives the vector of a row of the k-block from a column of the tile on.
    """

    rows: Val
    stride: Val
    vectors: int
    mask: Val | None = None
    fill: Val | None = None
    unrolled: bool = False
    compute: Compute | None = None


class Chains(KernelEmitter):
    """A kernel of register tiles. `kc` is the length of the k-block at hand, `first` and `last` say whether it is that; a tile that
    fills a panel asks for rows of B so far `ahead`."""

    spec: TileText
    kc: Val
    first: Val
    last: Val

    def __init__(self, spec: TileText, ahead: int = 0) -> None:
        super().__init__()
        self.spec, self.schedule, self.element, self.ahead = spec, spec.schedule, spec.element, ahead

    def row_pointers(self, a: RowSource, rows: Val) -> list[Val]:
        """Where each row of A begins; rows beyond the border repeat the last one and are never stored."""
        b = self.b
        if a.packed:
            return [b.address(a.start, i, self.element) for i in range(self.schedule.rows)]
        last = b.sub(rows, 1)
        return [b.address(a.start, b.mul(b.minimum(last, i), a.row), self.element) for i in range(self.schedule.rows)]

    def chains(self, pointers: list[Val], a_k: Val, source: PanelSource, noted: Val | None = None) -> list[Val]:
        """The FMA chains over one k-block of a tile, row by row. Elements of A lie `a_k` apart, or where a table has `noted`."""
        b, schedule = self.b, self.schedule
        zero = b.const(0, self.element, schedule.lanes)
        state = [*[zero] * (len(pointers) * source.vectors), b.const(0, "i64"), source.rows]
        start = b.const(0, "i64")
        if source.unrolled:
            whole = b.and_(self.kc, -schedule.steps)
            state = self._steps(pointers, a_k, source, start, whole, schedule.steps, state, noted)
            start = whole
        return self._steps(pointers, a_k, source, start, self.kc, 1, state, noted)[:-2]

    def _steps(
        self,
        pointers: list[Val],
        a_stride: Val,
        source: PanelSource,
        start: Val,
        end: Val,
        count: int,
        state: list[Val],
        noted: Val | None,
    ) -> list[Val]:
        """Extends the chains from `start` to `end`, `count` steps per round; what is read of B goes to `fill` too."""
        b, schedule, vectors = self.b, self.schedule, source.vectors
        with b.loop(start, end, count, state) as ks:
            *chains, a_k, b_k = ks.args
            for _ in range(count):
                if source.compute:
                    row = [source.compute(ks.index, v * schedule.lanes) for v in range(vectors)]
                else:
                    row = [
                        b.load(b_k, v * schedule.lanes, self.element, schedule.lanes, source.mask)
                        for v in range(vectors)
                    ]
                if source.fill and not source.compute and self.ahead:
                    for v in range(vectors):
                        far = b.mul(source.stride, self.ahead)
                        b.prefetch(b_k, b.add(far, v * schedule.lanes), self.element)
                if source.fill:
                    target = b.address(source.fill, b.mul(ks.index, schedule.columns), self.element)
                    for v, x in enumerate(row):
                        b.store(x, target, v * schedule.lanes)
                place = a_k if noted is None else b.load(noted, a_k, "i64")
                for i, pointer in enumerate(pointers):
                    x = b.splat(b.load(pointer, place, self.element), schedule.lanes)
                    for v in range(vectors):
                        at = i * vectors + v
                        chains[at] = self.multiply_add(x, row[v], chains[at])
                a_k, b_k = b.add(a_k, a_stride), b.address(b_k, source.stride, self.element)
            ks.carry([*chains, a_k, b_k])
        return ks.results

    def put(self, chains: list[Val], target: Val, stride: Val, accumulate: bool | tuple[Val, Val]) -> list[Val]:
        """Store a tile at `target`, or add it to what is there, or to what is elsewhere: (start, stride)."""
        b, schedule = self.b, self.schedule
        vectors = len(chains) // schedule.rows
        for i in range(schedule.rows):
            at = given = b.address(target, b.mul(stride, i), self.element)
            if isinstance(accumulate, tuple):
                given = b.address(accumulate[0], b.mul(accumulate[1], i), self.element)
            for v in range(vectors):
                x = chains[i * vectors + v]
                if accumulate:
                    x = b.add(b.load(given, v * schedule.lanes, self.element, schedule.lanes), x)
                b.store(x, at, v * schedule.lanes)
        return []

    def put_where(self, fresh: Val, chains: list[Val], target: Val, stride: Val) -> None:
        """Store a tile at `target` where it is the first one there, else add it to what is there."""
        self.b.if_else(
            fresh,
            lambda: self.put(chains, target, stride, False),
            lambda: self.put(chains, target, stride, True),
        )

    def ask_for_leaves(self, rows: Val, reach: Val | int, place: Callable[[int, Val], Val]) -> None:
        """Before the last chains of a tile of so many rows, ask for what its epilogue reads, each row's elements within a `reach`:
        rows lie apart, which caches do not foresee. `place(k, i)` is where leaf k begins in the tile's row i."""
        b, spec = self.b, self.spec
        near = [k for k, leaf in enumerate(spec.epilogue.leaves) if leaf.column == "unit"]
        if not near:
            return
        with b.if_(self.last), b.loop(0, rows) as rs:
            for k in near:
                element, at = spec.epilogue.leaves[k].element, place(k, rs.index)
                line, buffer = LINE // storage_bytes(element), b.buffer(spec.sums + 1 + k)
                with b.loop(0, reach, line) as lines:
                    b.prefetch(buffer, b.add(at, lines.index), element)
                b.prefetch(buffer, b.add(at, b.sub(reach, 1) if isinstance(reach, Val) else reach - 1), element)

    def finish_vector(
        self,
        x: Val,
        read: Callable[[Val], Val],
        write: Callable[[Val, Val], None],
        load: Callable[[int], Val],
    ) -> None:
        """Add what earlier k-blocks left, apply the epilogue after the last one, store. `read` and `write` reach the same places
        of a buffer, `load` those of a leaf."""
        b, spec = self.b, self.spec
        sums = b.buffer(spec.sums)
        (x,) = b.if_else(self.first, lambda: [x], lambda: [b.add(read(sums), x)])
        if spec.epilogue.is_plain:
            write(x, sums)
            return

        def final() -> list[Val]:
            self.store_results(spec.epilogue, spec.accumulator, spec.sums, x, write, load)
            return []

        def partial() -> list[Val]:
            write(x, sums)
            return []

        b.if_else(self.last, final, partial)
