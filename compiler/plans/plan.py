"""From lowered clusters to a plan: order, memory, donation.

In: the program and its clusters with what the code generators made of them. Out: a `Program`, plain data: the
`PlanSpec` the runtime interprets, the kernels it calls and the ops its error codes stand for. Nothing here knows
MLIR or addresses. Sizes of the program's symbols become expressions, and what was asked about them so far becomes the
plan's guards; nothing here asks more. Next: `steps.py` for the steps, `kept.py` for what is made once,
`arena.py` for offsets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flambeau.compiler.kernel import Cluster, KernelCall, KernelSource, Lowered, Operand
from flambeau.compiler.plans import waves
from flambeau.compiler.plans.arena import Arenas
from flambeau.compiler.plans.control import RegionPlan
from flambeau.compiler.plans.kept import KeptMemory, kept_steps, place_kept, steps_before, with_made
from flambeau.compiler.plans.program import Program
from flambeau.compiler.plans.rows import COPY, RowWriter
from flambeau.compiler.plans.steps import (
    BufferAssignment,
    MemoryBlock,
    Step,
    collect,
    distinct,
    drop_copies,
    schedule,
    span,
)
from flambeau.dialects import size_scopes
from flambeau.dialects.aval import CPU
from flambeau.dialects.graph import Graph
from flambeau.dialects.size import Int, same
from flambeau.dialects.size_guards import RELATIONS, Guard, strongest
from flambeau.dialects.size_rows import ExprTable
from flambeau.runtime.plan_spec import OutMode, PlanSpec, RefKind


def build(
    graph: Graph,
    clusters: Sequence[tuple[Cluster, Lowered]],
    origins: list[Cluster | None] | None = None,
    keeps: bool = False,
) -> Program:
    """The program that runs `clusters`, which are in an order that respects their operands. `origins` gets the cluster of each
    step of the plan. Results of calls that are worth it are kept from run to run if `keeps`."""
    storage = BufferAssignment(graph)
    steps = collect(storage, clusters)
    kept = kept_steps(steps, storage) if keeps and len(found_devices(steps, storage)) == 1 else []
    steps, n_fallible = schedule(with_made(steps, kept), storage)
    if kept:
        first = {id(s) for s in kept}
        n_fallible += sum(id(s) in first for s in steps[n_fallible:])
        steps = [*kept, *(s for s in steps if id(s) not in first)]
    steps = waves.find(steps, len(kept), n_fallible, _replaced(storage))
    steps, n_fallible = drop_copies(steps, n_fallible, storage)
    outputs = place_outputs(steps, n_fallible, storage)
    steps = [s for s in steps if not s.is_done]
    devices = found_devices(steps, storage)
    made = KeptMemory(place_kept(kept), sum(step.call.spare for step in kept))
    arenas = place_temporaries(steps, devices)
    return emit(steps, n_fallible, outputs, arenas, made, storage, [] if origins is None else origins)


def _replaced(storage: BufferAssignment) -> dict[int, int]:
    """id of the block of an output -> id of the block of the input that it updates."""
    graph = storage.graph
    return {id(storage.of(graph.outputs[k])): id(storage.of(graph.inputs[i])) for k, i in graph.updates.items()}


# ---- outputs --------------------------------------------------------------------------------------------------


def place_outputs(steps: list[Step], n_fallible: int, storage: BufferAssignment) -> list[tuple[int, int, Int]]:
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
                taken = id(donor) in escaping or i in given or donor.device != block.device
                if taken or not same(donor.bytes, block.bytes):
                    continue
                mode = _donation(steps, n_fallible, block, donor)
                if mode != OutMode.NEW:
                    source = i
                    given.add(i)
                    break
            outputs.append((mode, source, block.bytes))
    return outputs


def _input_output(k: int, block: MemoryBlock, steps: list[Step], storage: BufferAssignment) -> tuple[int, int, Int]:
    """An output that is an input: the same buffer. A 0-d one may be a host scalar, which has none: it is copied."""
    assert block.input is not None
    if storage.graph.avals[storage.graph.inputs[block.input]].shape or block.device != CPU:
        return (OutMode.INPUT, block.input, block.bytes)
    target = MemoryBlock(block.bytes, ref=(RefKind.OUTPUT, k, 0))
    steps.append(Step(_copy(int(block.bytes)), (target, block)))
    return (OutMode.NEW, 0, block.bytes)


def _copy(size: Int) -> KernelCall:
    """All of one block to another, by the runtime's built-in copy."""
    return KernelCall(COPY, (Operand("value"), Operand("value")), (size,), 1, 1, writes=(0,))


def _donation(steps: list[Step], n_fallible: int, block: MemoryBlock, donor: MemoryBlock) -> int:
    """How `block`, an output, may use the buffer of input `donor`."""
    if not block.writes or block.writes[0] < n_fallible:
        return OutMode.NEW
    first = block.writes[0]
    beside = span(steps, first)[0]  # from there on steps may run at the same time
    if not donor.reads or donor.reads[-1] < beside:
        return OutMode.REPLACE
    if donor.reads[-1] > first or any(beside <= r < first for r in donor.reads):
        return OutMode.NEW
    pair = steps[first].copied()
    if pair is not None and pair[0] is block and pair[1] is donor:
        steps[first].is_done = True
        return OutMode.UPDATE
    if len(block.writes) > 1 or not in_place(steps[first], block, donor):
        return OutMode.NEW
    steps[first].updates[id(donor)] = block
    return OutMode.UPDATE


def in_place(step: Step, written: MemoryBlock, read: MemoryBlock) -> bool:
    """Whether the call allows `written` and `read` to be one buffer."""
    operands, blocks = step.call.operands, step.blocks
    writes = [p for p in step.call.writes if blocks[p] is written]
    reads = [p for p, b in enumerate(blocks) if b is read]
    return all((w, r) in step.in_place and same(operands[w].offset, operands[r].offset) for w in writes for r in reads)


# ---- temporaries ----------------------------------------------------------------------------------------------


def found_devices(steps: list[Step], storage: BufferAssignment) -> list[str]:
    """The devices whose memory the plan uses, the CPU first."""
    ends = [storage.of(v) for v in (*storage.graph.inputs, *storage.graph.outputs)]
    blocks = [*ends, *distinct(b for step in steps for b in step.blocks)]
    return list(dict.fromkeys([CPU, *(b.device for b in blocks)]))


def place_temporaries(steps: list[Step], devices: list[str]) -> dict[str, Int]:
    """Give every block that has no place yet an offset in its device's arena; returns the arenas' sizes in bytes."""
    arenas = {device: Arenas() for device in devices}
    placed: list[MemoryBlock] = []
    uses = _uses(steps)
    inherited: set[int] = set()
    ended: list[MemoryBlock] = []  # their last use is in the wave at hand
    for position, step in enumerate(steps):
        beside = span(steps, position)
        written, overwritable = {id(b) for b in step.written()}, step.overwritable()
        for block in distinct(step.blocks):
            if block.ref is None:
                if not same(block.bytes, 0) and id(block) not in written:
                    raise RuntimeError(
                        f"[plan] '{step.call.source.label}' reads what nobody wrote. Report this as a bug."
                    )
                reads = overwritable.get(id(block), ())
                offset = _inherit(step, block, reads, position, beside, uses, inherited)
                offset = arenas[block.device].take(block.bytes) if offset is None else offset
                block.ref = (RefKind.ARENA, devices.index(block.device), offset)
                placed.append(block)
        ended += [b for b in distinct(step.blocks) if uses.get(id(b), [-1])[-1] == position]
        if position == beside[1]:
            for block in ended:
                if id(block) not in inherited:
                    arenas[block.device].give(block.place[2], block.bytes)
            ended.clear()
    for block in placed:
        kind, index, offset = block.place
        block.ref = (kind, index, arenas[block.device].offset(offset, block.bytes))
    return {device: arena.size for device, arena in arenas.items()}


def _uses(steps: list[Step]) -> dict[int, list[int]]:
    """id of each block that has no place yet -> the positions of the steps that read or write it."""
    found: dict[int, list[int]] = {}
    for position, step in enumerate(steps):
        for block in distinct(step.blocks):
            if block.ref is None:
                found.setdefault(id(block), []).append(position)
    return found


def _inherit(
    step: Step,
    block: MemoryBlock,
    reads: Iterable[int],
    position: int,
    beside: tuple[int, int],
    uses: dict[int, list[int]],
    inherited: set[int],
) -> Int | None:
    """The offset of a temporary that dies in this step and that `block` may overwrite in place: one of the operands `reads`. No
    step that may run at the same time (`beside`: their positions) touches either."""

    def is_alone(b: MemoryBlock) -> bool:
        return all(p == position or not beside[0] <= p <= beside[1] for p in uses[id(b)])

    for r in reads:
        dying = step.blocks[r]
        if dying is None or dying.ref is None or dying.ref[0] != RefKind.ARENA:
            continue
        usable = uses[id(dying)][-1] == position and id(dying) not in inherited and same(dying.bytes, block.bytes)
        if usable and is_alone(dying) and is_alone(block) and in_place(step, block, dying):
            inherited.add(id(dying))
            return dying.ref[2]
    return None


# ---- regions --------------------------------------------------------------------------------------------------


def place_body(
    graph: Graph, clusters: Sequence[tuple[Cluster, Lowered]], in_place: int = 0, fixed: Sequence[int] = ()
) -> RegionPlan:
    """The steps of a region in memory of their own. The first `in_place` outputs may lie where the inputs of the same numbers
    do, if each may be written there while the others are still read. Inputs that are `fixed`, by number, are the same in every
    turn of a loop: what steps make of one of these alone, and is worth keeping, is made before it."""
    storage = BufferAssignment(graph)
    steps = collect(storage, clusters)
    before = steps_before(steps, storage, fixed)
    first = {id(step) for step in before}
    steps, _ = drop_copies([s for s in with_made(steps, before) if id(s) not in first], 0, storage)
    for k, v in enumerate(graph.inputs):
        storage.of(v).ref = (RefKind.INPUT, k, 0)
    for k, block in enumerate((b for step in before for b in step.written()), len(graph.inputs)):
        block.ref = (RefKind.INPUT, k, 0)
    kept = _place_results(graph, steps, storage, in_place)
    steps = [s for s in steps if not s.is_done]
    arena = place_temporaries(steps, [CPU])[CPU]  # regions are programs of the CPU
    return RegionPlan(steps, arena, frozenset(kept), tuple(before))


def _place_results(graph: Graph, steps: list[Step], storage: BufferAssignment, in_place: int) -> list[int]:
    """Give every output of a region its place; returns those that lie where their inputs do. May append copies."""
    roots = [storage.of(v) for v in graph.outputs]
    escaping = {id(b) for b in roots if b.input is not None}
    kept = []
    for k, block in enumerate(roots):
        donor = storage.of(graph.inputs[k]) if k < in_place else None
        if block is donor:
            kept.append(k)
        elif block.ref is not None:
            target = MemoryBlock(block.bytes, ref=(RefKind.OUTPUT, k, 0))
            steps.append(Step(_copy(block.bytes), (target, block)))
        elif donor is not None and id(donor) not in escaping and _donation(steps, 0, block, donor) != OutMode.NEW:
            block.ref = donor.ref
            kept.append(k)
        else:
            block.ref = (RefKind.OUTPUT, k, 0)
    return kept


# ---- the spec -------------------------------------------------------------------------------------------------


def emit(
    steps: list[Step],
    n_fallible: int,
    outputs: list[tuple[int, int, Int]],
    arenas: dict[str, Int],
    kept: KeptMemory,
    storage: BufferAssignment,
    origins: list[Cluster | None],
) -> Program:
    """Write everything down as plain tuples."""
    exprs = ExprTable()
    asked = size_scopes.current()
    guards = _guards(asked.guards, exprs) if asked else ()
    rows = RowWriter(exprs)
    rows.add_from(steps[:n_fallible])
    n_first = len(rows.rows)
    rows.add_from(steps[n_fallible:])
    origins += rows.clusters
    graph = storage.graph
    spec = PlanSpec(
        n_symbols=len(asked.hints) if asked else 0,
        inputs=tuple(exprs.add(graph.avals[v].nbytes) for v in graph.inputs),
        outputs=tuple((mode, source, exprs.add(nbytes)) for mode, source, nbytes in outputs),
        steps=tuple(rows.rows),
        n_fallible=n_first,
        arena_bytes=exprs.add(arenas[CPU]),
        constants=b"",
        n_kernels=len(rows.kernels),
        devices=_devices(arenas, graph, rows.sources, exprs),
        kept=tuple(map(exprs.add, kept.bytes)),
        spare=kept.spare,
        exprs=exprs.exprs,
        guards=guards,
    )
    return Program(spec, tuple(rows.sources), tuple(rows.errors))


def _devices(arenas: dict[str, Int], graph: Graph, kernels: Sequence[KernelSource], exprs: ExprTable) -> tuple:
    """The rows of `PlanSpec.devices`."""

    def on(device: str, values: Sequence[int]) -> tuple[int, ...]:
        return tuple(k for k, v in enumerate(values) if graph.avals[v].device == device)

    return tuple(
        (
            device,
            exprs.add(size),
            on(device, graph.inputs),
            on(device, graph.outputs),
            tuple(k for k, source in enumerate(kernels) if source.device == device),
        )
        for device, size in arenas.items()
        if device != CPU
    )


def _guards(asked: Sequence[Guard], exprs: ExprTable) -> tuple[tuple[int, int], ...]:
    """What was asked about sizes, without what follows from the rest."""
    return tuple((RELATIONS.index(g.relation), exprs.add(g.size)) for g in strongest(asked))
