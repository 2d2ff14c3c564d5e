"""The steps of a plan: kernel calls bound to blocks of memory, and the order they run in.

In: the program and its lowered clusters. Out: `Step`s on `MemoryBlock`s: what may fail first, updates that nobody waits for
last, copies that need not be made left out. Next: `plan.py`, which gives every block a place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from flambeau.compiler.kernel import Cluster, KernelCall, Lowered
from flambeau.dialects.aval import CPU
from flambeau.dialects.graph import Graph
from flambeau.dialects.size import Int, Size, same

#: The place of what nobody has made: a kernel gets no address.
NOWHERE = (-1, 0, 0)

# ---- storage and steps ----------------------------------------------------------------------------------------


@dataclass
class MemoryBlock:
    """A piece of memory that steps read and write. `ref` is where it lies once that is decided."""

    bytes: Int
    device: str = CPU  # in whose memory
    input: int | None = None  # position in graph.inputs
    ref: tuple[int, int, Int] | None = None  # (RefKind, index, byte offset)
    reads: list[int] = field(default_factory=list)  # positions of steps
    writes: list[int] = field(default_factory=list)

    @property
    def place(self) -> tuple[int, int, Int]:
        """`ref`, once decided."""
        if self.ref is None:
            raise RuntimeError("[plan] a step's operand has no place. Report this as a bug.")
        return self.ref


@dataclass
class Step:
    """One kernel call on blocks. `blocks` matches `call.operands`; None stands for the status word."""

    call: KernelCall
    blocks: tuple[MemoryBlock | None, ...]
    ops: tuple[str, ...] = ()  # the fallible ops of its cluster
    updates: dict[int, MemoryBlock] = field(default_factory=dict)  # id(input block) -> the output that is it, in place
    is_done: bool = False  # a copy of an input to the output that takes its buffer
    cluster: Cluster | None = None  # what it is a call of; None: a copy that the plan needs
    wave: int = 0  # the number of the wave that it is in, whose steps may run at once; 0: none
    _touched: _Touched | None = field(default=None, init=False, repr=False, compare=False)

    def written(self) -> list[MemoryBlock]:
        return self._blocks_touched().written

    @cached_property
    def in_place(self) -> frozenset[tuple[int, int]]:
        """The pairs of `call.in_place`."""
        return frozenset(self.call.in_place)

    def overwritable(self) -> dict[int, list[int]]:
        """id(block) -> the operands that what is written to it may overwrite, by the call alone."""
        found: dict[int, list[int]] = {}
        for w, r in self.call.in_place:
            found.setdefault(id(self.blocks[w]), []).append(r)
        return found

    def copied(self) -> tuple[MemoryBlock, MemoryBlock] | None:
        """(written, read) if the call only copies one block to another."""
        return self._pair(self.call.copies)

    def placed(self) -> tuple[MemoryBlock, MemoryBlock] | None:
        """(written, read) if the call only copies one block to a part of another."""
        return self._pair(self.call.places)

    def _pair(self, positions: tuple[int, int] | None) -> tuple[MemoryBlock, MemoryBlock] | None:
        if positions is None:
            return None
        written, read = (self.blocks[p] for p in positions)
        return None if written is None or read is None else (written, read)

    def read(self) -> list[MemoryBlock]:
        return self._blocks_touched().read

    def _blocks_touched(self) -> _Touched:
        """What the call reads and writes, found again where the step was bound to other blocks."""
        found, call, blocks = self._touched, self.call, self.blocks
        if found is None or found.call is not call or found.blocks is not blocks:
            read, written = (distinct([blocks[p] for p in places]) for places in (call.reads, call.writes))
            found = self._touched = _Touched(call, blocks, read, written)
        return found


class _Touched(NamedTuple):
    """The blocks that a call reads and writes, each once. Nobody may change the lists."""

    call: KernelCall
    blocks: tuple[MemoryBlock | None, ...]
    read: list[MemoryBlock]
    written: list[MemoryBlock]


class BufferAssignment:
    """Which block each value of the program lives in; aliases share one."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.blocks: dict[int, MemoryBlock] = {
            v: MemoryBlock(graph.avals[v].nbytes, graph.avals[v].device, input=k) for k, v in enumerate(graph.inputs)
        }

    def of(self, value: int) -> MemoryBlock:
        block = self.blocks.get(value)
        if block is None:
            aval = self.graph.avals[value]
            block = self.blocks[value] = MemoryBlock(aval.nbytes, aval.device)
        return block


def collect(storage: BufferAssignment, clusters: Iterable[tuple[Cluster, Lowered]]) -> list[Step]:
    """Bind every call's operands to blocks. Calls over domains that are always empty are dropped."""
    steps = []
    for cluster, lowered in clusters:
        graph = lowered.graph or cluster.graph
        local = _local_blocks(storage, graph, cluster, lowered)
        device = cluster.device
        temps = [MemoryBlock(size, device) for size in lowered.temps]
        ops = tuple(n.op.name for n in cluster.graph.nodes if n.may_fail)
        for call in lowered.calls:
            blocks = tuple(_block(graph, local, temps, o.kind, o.index, device) for o in call.operands)
            if isinstance(call.n, Size) or call.n > 0:
                steps.append(Step(call, blocks, ops if call.fallible else (), cluster=cluster))
    return steps


def _local_blocks(
    storage: BufferAssignment, graph: Graph, cluster: Cluster, lowered: Lowered
) -> dict[int, MemoryBlock]:
    """The blocks of the cluster's own values, which `graph` numbers, aliases joined."""
    local = {v: storage.of(p) for v, p in zip(graph.inputs, cluster.operands, strict=True)}
    for v, p in zip(graph.outputs, cluster.results, strict=True):
        source = v
        while source in lowered.aliases:
            source = lowered.aliases[source]
        if source not in local:
            local[source] = storage.of(p) if source == v else MemoryBlock(graph.avals[source].nbytes, cluster.device)
        local[v] = storage.blocks[p] = local[source]
    return local


def _block(
    graph: Graph, local: dict[int, MemoryBlock], temps: list[MemoryBlock], kind: str, index: int, device: str
) -> MemoryBlock | None:
    if kind == "status":
        return None
    if kind == "temp":
        return temps[index]
    if index not in local:  # a value that only this cluster's calls see
        local[index] = MemoryBlock(graph.avals[index].nbytes, device)
    return local[index]


def distinct(blocks: Iterable[MemoryBlock | None]) -> list[MemoryBlock]:
    found = [b for b in blocks if b is not None]
    return found if len(found) < 2 else list({id(b): b for b in found}.values())


# ---- order ----------------------------------------------------------------------------------------------------


def schedule(steps: list[Step], storage: BufferAssignment) -> tuple[list[Step], int]:
    """Fallible steps and what they need first, updates that nobody waits for last. Returns the number that may fail."""
    early = _needed_by_fallible(steps)
    first = [s for k, s in enumerate(steps) if k in early]
    rest = [s for k, s in enumerate(steps) if k not in early]
    late = _postponed(rest, storage)
    return first + [s for k, s in enumerate(rest) if k not in late] + [rest[k] for k in sorted(late)], len(first)


def span(steps: Sequence[Step], position: int) -> tuple[int, int]:
    """The positions of the first and the last step that may run at the same time as the one at `position`: its wave, or itself."""
    first = last = position
    wave = steps[position].wave
    while wave and first > 0 and steps[first - 1].wave == wave:
        first -= 1
    while wave and last + 1 < len(steps) and steps[last + 1].wave == wave:
        last += 1
    return first, last


def note_uses(steps: list[Step]) -> None:
    """Note on each block the positions of the steps that read and write it."""
    for block in distinct(b for step in steps for b in step.blocks):
        block.reads, block.writes = [], []
    for position, step in enumerate(steps):
        for block in step.read():
            block.reads.append(position)
        for block in step.written():
            block.writes.append(position)


def drop_copies(steps: list[Step], n_fallible: int, storage: BufferAssignment) -> tuple[list[Step], int]:
    """Let a copy and a temporary that is not read after it be one block, and drop the step. Notes all uses.

    A copy to a part of a block: the temporary is that part.
    """
    note_uses(steps)
    escaping = {id(storage.of(v)) for v in storage.graph.outputs}
    homes: dict[
        int, tuple[MemoryBlock, Int]
    ] = {}  # id of a block that is gone -> where it lies, and from which byte on
    early: list[Step] = []
    late: list[Step] = []
    for position, step in enumerate(steps):
        home = _home(step, position, escaping)
        if home is not None:
            block, where = home
            homes[id(block)] = where
        else:
            (early if position < n_fallible else late).append(step)
    kept = early + late
    for step in kept:
        _move(step, homes)
    note_uses(kept)
    return kept, len(early)


def _home(step: Step, position: int, escaping: set[int]) -> tuple[MemoryBlock, tuple[MemoryBlock, Int]] | None:
    """The temporary that a copy reads last of all, and where it may lie from the beginning."""
    whole, part = step.copied(), step.placed()
    if whole is not None:
        copy, block = whole
        if same(block.bytes, copy.bytes) and copy.writes[0] == position and _is_last_read(block, position, escaping):
            return block, (copy, 0)
    elif part is not None:
        copy, block = part
        if copy is not block and _is_last_read(block, position, escaping):
            return block, (copy, step.call.operands[step.call.places[0]].offset)  # type: ignore[index]
    return None


def _is_last_read(block: MemoryBlock, position: int, escaping: set[int]) -> bool:
    """Whether `block` is a temporary that the copy at `position` reads, last of all."""
    if block.input is not None or id(block) in escaping:
        return False
    return block.reads[-1] == position and block.writes[-1] < position


def _move(step: Step, homes: dict[int, tuple[MemoryBlock, Int]]) -> None:
    """Bind a step to the blocks that are left."""
    blocks, operands = list(step.blocks), list(step.call.operands)
    for p, block in enumerate(blocks):
        while block is not None and id(block) in homes:
            block, offset = homes[id(block)]
            operands[p] = replace(operands[p], offset=operands[p].offset + offset)
        blocks[p] = block
    step.blocks = tuple(blocks)
    if operands != list(step.call.operands):
        step.call = replace(step.call, operands=tuple(operands))


def _needed_by_fallible(steps: list[Step]) -> set[int]:
    """Positions of fallible steps and of those they depend on."""
    needed: set[int] = set()
    blocks: set[int] = set()
    if not any(step.call.fallible for step in steps):
        return needed
    for k in range(len(steps) - 1, -1, -1):
        step = steps[k]
        if step.call.fallible or any(id(b) in blocks for b in step.written()):
            needed.add(k)
            blocks.update(id(b) for b in (*step.read(), *step.written()))
    return needed


def _postponed(steps: list[Step], storage: BufferAssignment) -> set[int]:
    """Steps that write the new value of an input which later steps still read, and whose results nobody reads."""
    graph = storage.graph
    donors = {id(storage.of(graph.outputs[k])): id(storage.of(graph.inputs[i])) for k, i in graph.updates.items()}
    read_later: set[int] = set()
    written_later: set[int] = set()
    late: set[int] = set()
    for k in range(len(steps) - 1, -1, -1):
        read, written = {id(b) for b in steps[k].read()}, {id(b) for b in steps[k].written()}
        overwrites = any(donors.get(b) in read_later for b in written)
        movable = written_later.isdisjoint(read | written) and read_later.isdisjoint(written)
        if overwrites and movable:
            late.add(k)
        read_later |= read
        written_later |= written
    return late
