"""A plan's steps as rows of plain numbers: kernels numbered, offsets as expressions, control flow as jumps.

In: placed steps. Out: the rows of a `PlanSpec`, its kernels and the ops behind its error codes. Next: `control.py` for calls that
have parts; `runtime/src/plan_run.c`, which runs the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from flambeau.compiler.kernel import TRANSFER, Cluster, KernelCall, KernelSource, Launch
from flambeau.compiler.plans.control import (
    Branch,
    ControlCall,
    CountedLoop,
    Cursor,
    MemoryCopy,
    Note,
    Part,
    Run,
    WhileLoop,
)
from flambeau.compiler.plans.steps import NOWHERE, Step
from flambeau.dialects.size import Int
from flambeau.dialects.size_rows import ExprTable
from flambeau.runtime.plan_spec import (
    KERNEL_BRANCH,
    KERNEL_COPY,
    KERNEL_COUNT,
    KERNEL_JUMP,
    KERNEL_MOVE,
    KERNEL_NOTE,
    KERNEL_SET,
    KERNEL_TRANSFER,
    KERNEL_WAVE,
    RefKind,
)

#: Stands for the runtime's built-in copy.
COPY = KernelSource("", "copy")
_BUILT_IN = {COPY: KERNEL_COPY, TRANSFER: KERNEL_TRANSFER}

Place = tuple[int, int, Int]  #: (RefKind, index, byte offset)
#: Where the operand of a step at some position lies; None stands for the status word.
Places = Callable[[int], Place | None]


class RowWriter:
    """The rows so far, and what they number."""

    def __init__(self, exprs: ExprTable) -> None:
        self.exprs = exprs
        self.rows: list[tuple] = []
        self.kernels: dict[tuple[str, str], int] = {}  # by device and text
        self.sources: list[KernelSource] = []
        self.errors: list[str] = []
        self.n_cursors = 0
        self.nowhere: int | None = None  # a cursor that nobody moves, which has no address
        self.clusters: list[Cluster | None] = []  # of each row; of a region's steps that of the op that has the region

    def add_from(self, steps: Sequence[Step]) -> None:
        """Steps of the program itself."""
        for wave, group in groupby(steps, key=lambda step: step.wave):
            together = list(group)
            if wave and len(together) > 1:
                self._built_in(KERNEL_WAVE, (), len(together))
                self.clusters.append(None)
            for step in together:
                self.add(step)
                self.clusters += [step.cluster] * (len(self.rows) - len(self.clusters))

    def add(self, step: Step, place: Places | None = None) -> None:
        """One step, whose operands lie where it says itself, or `place` does."""
        place = place or (lambda position: place_of(step, position))
        if isinstance(step.call, ControlCall):
            self._parts(step.call.parts, place)
            return
        call = step.call
        dims = call.dims
        if call.fallible:
            dims = (*dims, len(self.errors) + 1)
            self.errors.extend(step.ops)
        refs = tuple(self._ref(place(p)) for p in range(len(step.blocks)))
        kernel = self._kernel(_source(call, refs))
        domain = self._domain(call)
        self.rows.append((kernel, *domain, refs, tuple(self.exprs.add(d) for d in dims)))

    def _kernel(self, source: KernelSource) -> int:
        built_in = _BUILT_IN.get(source)
        if built_in is not None:
            return built_in
        kernel = self.kernels.setdefault((source.device, source.text), len(self.kernels))
        if kernel == len(self.sources):
            self.sources.append(source)
        return kernel

    def _domain(self, call: KernelCall) -> tuple:
        """What a call runs over: items, grain and scratch, or a grid of blocks."""
        if isinstance(call, Launch):
            return tuple(map(self.exprs.add, call.grid)), tuple(map(self.exprs.add, call.block))
        return self.exprs.add(call.n), self.exprs.add(call.grain), self.exprs.add(call.scratch)

    def _ref(self, place: Place | None) -> tuple[int, int, int]:
        if place is None:
            return (RefKind.STATUS, 0, self.exprs.add(0))
        kind, index, offset = place
        if place == NOWHERE:
            if self.nowhere is None:
                self.nowhere, self.n_cursors = self.n_cursors, self.n_cursors + 1
            kind, index = RefKind.CURSOR, self.nowhere
        return (kind, index, self.exprs.add(offset))

    # ---- control flow ----------------------------------------------------------------------------------------

    def _parts(self, parts: Sequence[Part], place: Places) -> None:
        for part in parts:
            if isinstance(part, Run):
                for step in part.body.steps:
                    self.add(step, _inside(part, place, step))
            elif isinstance(part, MemoryCopy):
                self._built_in(KERNEL_COPY, (place(part.target), place(part.source)), part.bytes)
            elif isinstance(part, Note):
                self._built_in(KERNEL_NOTE, [place(p) for p in part.operands], *part.bytes)
            elif isinstance(part, Branch):
                self._branch(part, place)
            elif isinstance(part, CountedLoop):
                self._repeat(part, place)
            else:
                self._loop(part, place)

    def _built_in(self, kernel: int, places: Sequence[Place | None], *dims: Int) -> None:
        one, none = self.exprs.add(1), self.exprs.add(0)
        refs = tuple(map(self._ref, places))
        self.rows.append((kernel, one, one, none, refs, tuple(map(self.exprs.add, dims))))

    def _branch(self, part: Branch, place: Places) -> None:
        then = self._apart(part.then, place)
        otherwise = self._apart(part.otherwise, place)
        self._built_in(KERNEL_BRANCH, (place(part.flag),), len(then) + bool(otherwise))
        self.rows += then
        if otherwise:
            self._built_in(KERNEL_JUMP, (), len(otherwise))
            self.rows += otherwise

    def _loop(self, part: WhileLoop, place: Places) -> None:
        test, body = self._apart(part.test, place), self._apart(part.body, place)
        self.rows += test
        self._built_in(KERNEL_BRANCH, (place(part.flag),), len(body) + 1)
        self.rows += body
        self._built_in(KERNEL_JUMP, (), -(len(test) + len(body) + 2))

    def _repeat(self, part: CountedLoop, place: Places) -> None:
        slots = {c.position: self.n_cursors + k for k, c in enumerate(part.cursors)}
        self.n_cursors += len(slots)

        def inside(position: int) -> Place | None:
            slot = slots.get(position)
            return place(position) if slot is None else (RefKind.CURSOR, slot, 0)

        def move(cursor: Cursor, to: Place | None, by: Int) -> None:
            assert to is not None  # the status word is nothing to go through
            self._built_in(KERNEL_MOVE, (inside(cursor.position), (to[0], to[1], to[2] + by)))

        for c in part.cursors:
            move(c, place(c.of), c.start)
        self._built_in(KERNEL_SET, (place(part.counter),), part.times)
        before, self.rows = self.rows, []
        for c in (c for c in part.cursors if c.early):
            move(c, inside(c.position), c.step)
        self._parts(part.body, inside)
        for c in (c for c in part.cursors if not c.early):
            move(c, inside(c.position), c.step)
        turn, self.rows = self.rows, before
        self._built_in(KERNEL_COUNT, (place(part.counter),), len(turn) + 1)
        self.rows += turn
        self._built_in(KERNEL_JUMP, (), -(len(turn) + 2))

    def _apart(self, parts: Sequence[Part], place: Places) -> list[tuple]:
        """The rows of parts, by themselves: jumps are relative."""
        before, self.rows = self.rows, []
        self._parts(parts, place)
        made, self.rows = self.rows, before
        return made


def place_of(step: Step, position: int) -> Place | None:
    """Where an operand of a placed step lies."""
    block = step.blocks[position]
    if block is None:
        return None
    kind, index, base = step.updates.get(id(block), block).place
    return (kind, index, base + step.call.operands[position].offset)


def _inside(run: Run, outer: Places, step: Step) -> Places:
    """Where the operands of a body's step lie, given where those of the call do."""

    def place(position: int) -> Place | None:
        found = place_of(step, position)
        if found is None or found == NOWHERE:
            return found
        kind, index, offset = found
        known = {RefKind.INPUT: run.inputs, RefKind.OUTPUT: run.outputs}.get(kind)
        base = outer(run.arena if known is None else known[index])
        assert base is not None  # the status word is no operand of a call with parts
        return (base[0], base[1], base[2] + offset)

    return place


def _source(call: KernelCall, refs: Sequence[tuple[int, int, int]]) -> KernelSource:
    """The kernel to call where the operands lie at `refs`."""
    if isinstance(call, Launch) and call.in_place_source and any(refs[w] == refs[r] for w, r in call.in_place):
        return call.in_place_source
    return call.source
