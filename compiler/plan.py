"""From lowered clusters to a plan: order, memory, donation.

In: the program and its clusters with what the code generators made of them. Out: a `Program`, plain data: the
`PlanSpec` the runtime interprets, the kernels it calls and the ops its error codes stand for. Nothing here knows
MLIR or addresses. Next: `arena.py` for offsets, `driver.py` for who calls this.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from flambeau.compiler.arena import Arena
from flambeau.compiler.kernel import Cluster, KernelCall, KernelSource, Lowered, Operand
from flambeau.dialects.graph import Graph
from flambeau.runtime.plan_spec import KERNEL_COPY, ExprOp, OutMode, PlanSpec, RefKind


@dataclass(frozen=True)
class Program:
    """A plan without addresses: `spec` calls `kernels` by position, `errors[code - 1]` is the op a code means."""

    spec: PlanSpec
    kernels: tuple[KernelSource, ...]
    errors: tuple[str, ...] = ()


def build(graph: Graph, clusters: Sequence[tuple[Cluster, Lowered]]) -> Program:
    """The program that runs `clusters`, which are in an order that respects their operands."""
    storage = Storage(graph)
    steps = collect(storage, clusters)
    steps, n_fallible = schedule(steps, storage)
    outputs = place_outputs(steps, n_fallible, storage)
    arena_bytes = place_temporaries(steps, storage)
    return emit(steps, n_fallible, outputs, arena_bytes, storage)


# ---- storage and steps ----------------------------------------------------------------------------------------


@dataclass
class Block:
    """A piece of memory that steps read and write. `ref` is where it lies once that is decided."""

    bytes: int
    input: int | None = None  # position in graph.inputs
    ref: tuple[int, int, int] | None = None  # (RefKind, index, byte offset)
    reads: list[int] = field(default_factory=list)  # positions of steps
    writes: list[int] = field(default_factory=list)

    @property
    def place(self) -> tuple[int, int, int]:
        """`ref`, once decided."""
        if self.ref is None:
            raise RuntimeError("[plan] a step's operand has no place. Report this as a bug.")
        return self.ref


@dataclass
class Step:
    """One kernel call on blocks. `blocks` matches `call.operands`; None stands for the status word."""

    call: KernelCall
    blocks: tuple[Block | None, ...]
    ops: tuple[str, ...] = ()  # the fallible ops of its cluster
    updates: dict[int, Block] = field(
        default_factory=dict
    )  # id(input block) -> the output that is it, updated in place

    def written(self) -> list[Block]:
        return _distinct(self.blocks[p] for p in self.call.writes)

    def read(self) -> list[Block]:
        return _distinct(b for p, b in enumerate(self.blocks) if p not in self.call.writes)


class Storage:
    """Which block each value of the program lives in; aliases share one."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.blocks: dict[int, Block] = {v: Block(graph.avals[v].nbytes, input=k) for k, v in enumerate(graph.inputs)}

    def of(self, value: int) -> Block:
        block = self.blocks.get(value)
        if block is None:
            block = self.blocks[value] = Block(self.graph.avals[value].nbytes)
        return block


def collect(storage: Storage, clusters: Iterable[tuple[Cluster, Lowered]]) -> list[Step]:
    """Bind every call's operands to blocks. Calls over empty domains are dropped."""
    steps = []
    for cluster, lowered in clusters:
        local = _local_blocks(storage, cluster, lowered)
        temps = [Block(size) for size in lowered.temps]
        ops = tuple(n.op.name for n in cluster.graph.nodes if n.op.fallible)
        for call in lowered.calls:
            blocks = tuple(_block(cluster, local, temps, o.kind, o.index) for o in call.operands)
            if call.n > 0:
                steps.append(Step(call, blocks, ops if call.fallible else ()))
    return steps


def _local_blocks(storage: Storage, cluster: Cluster, lowered: Lowered) -> dict[int, Block]:
    """The blocks of the cluster's own values, aliases joined."""
    local = {v: storage.of(p) for v, p in zip(cluster.graph.inputs, cluster.operands, strict=True)}
    for v, p in zip(cluster.graph.outputs, cluster.results, strict=True):
        source = v
        while source in lowered.aliases:
            source = lowered.aliases[source]
        if source not in local:
            local[source] = storage.of(p) if source == v else Block(cluster.graph.avals[source].nbytes)
        local[v] = storage.blocks[p] = local[source]
    return local


def _block(cluster: Cluster, local: dict[int, Block], temps: list[Block], kind: str, index: int) -> Block | None:
    if kind == "status":
        return None
    if kind == "temp":
        return temps[index]
    if index not in local:  # a value that only this cluster's calls see
        local[index] = Block(cluster.graph.avals[index].nbytes)
    return local[index]


def _distinct(blocks: Iterable[Block | None]) -> list[Block]:
    return list({id(b): b for b in blocks if b is not None}.values())


# ---- order ----------------------------------------------------------------------------------------------------


def schedule(steps: list[Step], storage: Storage) -> tuple[list[Step], int]:
    """Fallible steps and what they need first, updates that nobody waits for last. Returns the number that may fail.

    Readers and writers of each block are noted on it, by position in the new order.
    """
    early = _needed_by_fallible(steps)
    first = [s for k, s in enumerate(steps) if k in early]
    rest = [s for k, s in enumerate(steps) if k not in early]
    late = _postponed(rest, storage)
    ordered = first + [s for k, s in enumerate(rest) if k not in late] + [rest[k] for k in sorted(late)]
    for position, step in enumerate(ordered):
        for block in step.read():
            block.reads.append(position)
        for block in step.written():
            block.writes.append(position)
    return ordered, len(first)


def _needed_by_fallible(steps: list[Step]) -> set[int]:
    """Positions of fallible steps and of those they depend on."""
    needed: set[int] = set()
    blocks: set[int] = set()
    for k in range(len(steps) - 1, -1, -1):
        step = steps[k]
        if step.call.fallible or any(id(b) in blocks for b in step.written()):
            needed.add(k)
            blocks.update(id(b) for b in (*step.read(), *step.written()))
    return needed


def _postponed(steps: list[Step], storage: Storage) -> set[int]:
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


# ---- outputs --------------------------------------------------------------------------------------------------


def place_outputs(steps: list[Step], n_fallible: int, storage: Storage) -> list[tuple[int, int, int]]:
    """(mode, source, bytes) per output, and the refs of inputs and outputs. May append copies to `steps`."""
    graph = storage.graph
    for k, v in enumerate(graph.inputs):
        storage.of(v).ref = (RefKind.INPUT, k, 0)
    roots = [storage.of(v) for v in graph.outputs]
    escaping = {id(b) for b in roots if b.input is not None}
    wanted: dict[int, list[int]] = {}
    for k, i in sorted(graph.updates.items()):
        wanted.setdefault(id(roots[k]), []).append(i)
    placed: dict[int, int] = {}
    given: set[int] = set()
    outputs = []
    for k, block in enumerate(roots):
        if block.input is not None:
            outputs.append(_input_output(k, block, steps, storage))
        elif id(block) in placed:
            outputs.append((OutMode.OUTPUT, placed[id(block)], block.bytes))
        else:
            placed[id(block)] = k
            block.ref = (RefKind.OUTPUT, k, 0)
            mode, source = OutMode.NEW, 0
            for i in wanted.get(id(block), ()):
                donor = storage.of(graph.inputs[i])
                if id(donor) in escaping or i in given or donor.bytes != block.bytes:
                    continue
                mode = _donation(steps, n_fallible, block, donor)
                if mode != OutMode.NEW:
                    source = i
                    given.add(i)
                    break
            outputs.append((mode, source, block.bytes))
    return outputs


def _input_output(k: int, block: Block, steps: list[Step], storage: Storage) -> tuple[int, int, int]:
    """An output that is an input: the same buffer. A 0-d one may be a host scalar, which has none: it is copied."""
    assert block.input is not None
    if storage.graph.avals[storage.graph.inputs[block.input]].shape:
        return (OutMode.INPUT, block.input, block.bytes)
    copy = KernelCall(COPY, (Operand("value"), Operand("value")), (block.bytes,), 1, 1, writes=(0,))
    target = Block(block.bytes, ref=(RefKind.OUTPUT, k, 0))
    steps.append(Step(copy, (target, block)))
    return (OutMode.NEW, 0, block.bytes)


#: Stands for the runtime's built-in copy.
COPY = KernelSource("", "copy")


def _donation(steps: list[Step], n_fallible: int, block: Block, donor: Block) -> int:
    """How `block`, an output, may use the buffer of input `donor`."""
    if not block.writes or block.writes[0] < n_fallible:
        return OutMode.NEW
    first = block.writes[0]
    if not donor.reads or donor.reads[-1] < first:
        return OutMode.REPLACE
    if donor.reads[-1] > first or len(block.writes) > 1 or not in_place(steps[first], block, donor):
        return OutMode.NEW
    steps[first].updates[id(donor)] = block
    return OutMode.UPDATE


def in_place(step: Step, written: Block, read: Block) -> bool:
    """Whether the call allows `written` and `read` to be one buffer."""
    operands, blocks = step.call.operands, step.blocks
    writes = [p for p in step.call.writes if blocks[p] is written]
    reads = [p for p, b in enumerate(blocks) if b is read]
    return all((w, r) in step.call.in_place and operands[w].offset == operands[r].offset for w in writes for r in reads)


# ---- temporaries ----------------------------------------------------------------------------------------------


def place_temporaries(steps: list[Step], storage: Storage) -> int:
    """Give every block that has no place yet an offset in the arena; returns the arena's size in bytes."""
    arena = Arena()
    last: dict[int, int] = {}
    for position, step in enumerate(steps):
        last.update((id(b), position) for b in _distinct(step.blocks) if b.ref is None)
    inherited: set[int] = set()
    for position, step in enumerate(steps):
        for block in _distinct(step.blocks):
            if block.ref is None:
                if block.writes[:1] != [position]:
                    raise RuntimeError(
                        f"[plan] '{step.call.source.label}' reads what nobody wrote. Report this as a bug."
                    )
                offset = _inherit(step, block, position, last, inherited)
                block.ref = (RefKind.ARENA, 0, arena.take(block.bytes) if offset is None else offset)
        for block in _distinct(step.blocks):
            if last.get(id(block)) == position and id(block) not in inherited:
                arena.give(block.place[2], block.bytes)
    return arena.size


def _inherit(step: Step, block: Block, position: int, last: dict[int, int], inherited: set[int]) -> int | None:
    """The offset of a temporary that dies in this step and that `block` may overwrite in place."""
    for w, r in step.call.in_place:
        dying = step.blocks[r]
        if step.blocks[w] is not block or dying is None or dying.ref is None or dying.ref[0] != RefKind.ARENA:
            continue
        usable = last[id(dying)] == position and id(dying) not in inherited and dying.bytes == block.bytes
        if usable and in_place(step, block, dying):
            inherited.add(id(dying))
            return dying.ref[2]
    return None


# ---- the spec -------------------------------------------------------------------------------------------------


class Exprs:
    """The table of size expressions, each once."""

    def __init__(self) -> None:
        self.index: dict[tuple[int, int, int], int] = {}

    def const(self, value: int) -> int:
        return self._add(ExprOp.CONST, value, 0)

    def symbol(self, number: int) -> int:
        return self._add(ExprOp.SYMBOL, number, 0)

    def apply(self, op: int, a: int, b: int) -> int:
        """The expression `a op b` of earlier expressions."""
        return self._add(op, a, b)

    def _add(self, op: int, a: int, b: int) -> int:
        return self.index.setdefault((op, a, b), len(self.index))


def emit(
    steps: list[Step], n_fallible: int, outputs: list[tuple[int, int, int]], arena_bytes: int, storage: Storage
) -> Program:
    """Write everything down as plain tuples."""
    exprs = Exprs()
    kernels: dict[str, int] = {}
    sources: list[KernelSource] = []
    errors: list[str] = []
    rows = []
    for step in steps:
        call = step.call
        dims = call.dims
        if call.fallible:
            dims = (*dims, len(errors) + 1)
            errors.extend(step.ops)
        kernel = KERNEL_COPY if call.source is COPY else kernels.setdefault(call.source.text, len(kernels))
        if kernel == len(sources):
            sources.append(call.source)
        refs = tuple(_ref(step, p, exprs) for p in range(len(step.blocks)))
        sizes = (exprs.const(call.n), exprs.const(call.grain), exprs.const(call.scratch))
        rows.append((kernel, *sizes, refs, tuple(exprs.const(d) for d in dims)))
    graph = storage.graph
    spec = PlanSpec(
        n_symbols=0,
        inputs=tuple(exprs.const(graph.avals[v].nbytes) for v in graph.inputs),
        outputs=tuple((mode, source, exprs.const(size)) for mode, source, size in outputs),
        steps=tuple(rows),
        n_fallible=n_fallible,
        arena_bytes=exprs.const(arena_bytes),
        constants=b"",
        n_kernels=len(kernels),
        exprs=(),
    )
    return Program(spec._replace(exprs=tuple(exprs.index)), tuple(sources), tuple(errors))


def _ref(step: Step, position: int, exprs: Exprs) -> tuple[int, int, int]:
    block = step.blocks[position]
    if block is None:
        return (RefKind.STATUS, 0, exprs.const(0))
    kind, index, base = step.updates.get(id(block), block).place
    return (kind, index, exprs.const(base + step.call.operands[position].offset))
