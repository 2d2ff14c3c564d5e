"""Control flow in plans: an op with regions becomes one call whose parts are steps, copies, branches and loops.

In: the cluster of one such op, and what compiles a region's graph to clusters. Out: a `ControlCall`, which the plan builder places
like any other call, and writes out as rows with jumps (`rows.py`). A region has temporary memory of its own, a piece of the
plan's. Next: `families/control.py`, what each op becomes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from flambeau.compiler.kernel import Cluster, KernelCall, KernelSource, Lowered, Operand
from flambeau.compiler.plans.steps import Step
from flambeau.dialects.graph import Graph, Node, Region
from flambeau.dialects.size import Int

#: Makes the clusters of a region, lowered.
Compile = Callable[[Graph], list[tuple[Cluster, Lowered]]]


@dataclass
class RegionPlan:
    """A region's steps, with all their blocks placed: inputs and outputs by number, temporaries at offsets from 0. `kept` are
    the outputs that lie where the input of the same number does. What the steps `before` a loop write counts as further inputs."""

    steps: list[Step]
    arena: Int
    kept: frozenset[int] = frozenset()
    before: tuple[Step, ...] = ()

    @property
    def may_fail(self) -> bool:
        return any(step.call.fallible for step in self.steps)


@dataclass(frozen=True)
class Run:
    """Run a body. Operands of the call, by position: one per input, one per output, its temporary memory."""

    body: RegionPlan
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    arena: int


@dataclass(frozen=True)
class MemoryCopy:
    """Copy `bytes` from one operand to another."""

    target: int
    source: int
    bytes: Int


@dataclass(frozen=True)
class Branch:
    """`then` where the operand `flag`, a bool, holds; else `otherwise`."""

    flag: int
    then: tuple[Part, ...]
    otherwise: tuple[Part, ...] = ()


@dataclass(frozen=True)
class WhileLoop:
    """`test`; where the operand `flag` then holds, `body`, and again; else the end."""

    test: tuple[Part, ...]
    flag: int
    body: tuple[Part, ...]


@dataclass(frozen=True)
class Cursor:
    """Where a loop is in what it goes through: `position`, below 0, stands for it as an operand. It begins `start` bytes into the
    operand `of`, and moves on by `step` bytes, before a turn (`early`) or after it."""

    position: int
    of: int
    start: Int
    step: Int
    early: bool


@dataclass(frozen=True)
class CountedLoop:
    """`body` as many `times`, counted down in the operand `counter`; cursors go on from turn to turn."""

    times: Int
    counter: int
    cursors: tuple[Cursor, ...]
    body: tuple[Part, ...]


@dataclass(frozen=True)
class Note:
    """Write operands down for the host, each with its size in bytes."""

    operands: tuple[int, ...]
    bytes: tuple[Int, ...]


Part = Run | MemoryCopy | Branch | WhileLoop | CountedLoop | Note


@dataclass(frozen=True)
class ControlCall(KernelCall):
    """A call that runs parts. Operands: those of the op, its results, temporaries."""

    parts: tuple[Part, ...] = ()

    def sources(self) -> Iterator[KernelSource]:
        for body in bodies(self.parts):
            for step in body.steps:
                yield from step.call.sources()


def bodies(parts: Sequence[Part]) -> Iterator[RegionPlan]:
    """Every body among parts and within them."""
    for part in parts:
        if isinstance(part, Run):
            yield part.body
        elif isinstance(part, Branch):
            yield from bodies((*part.then, *part.otherwise))
        elif isinstance(part, WhileLoop):
            yield from bodies((*part.test, *part.body))
        elif isinstance(part, CountedLoop):
            yield from bodies(part.body)


def lower(cluster: Cluster, compile_region: Compile, made: Callable[..., list[Part]]) -> Lowered:
    """The cluster's one op as a call of the parts that `made` makes of the work and the op's regions, after those of what its loops
    find as it was."""
    (node,) = cluster.graph.nodes
    work = Lowering(cluster.graph, node, compile_region)
    parts = tuple(made(work, *node.regions))
    loops = any(isinstance(part, WhileLoop | CountedLoop) for part in parts)  # may be interrupted
    fallible = loops or node.has_effect or any(body.may_fail for body in bodies(parts))  # before what cannot be undone
    n_read, n = len(node.operands), len(work.operands)
    call = ControlCall(
        KernelSource("", node.op.name),
        tuple(work.operands),
        dims=(),
        n=1,
        grain=1,
        writes=tuple(p for p in range(n_read, n) if p not in work.made),
        fallible=fallible,
        parts=parts,
    )
    return Lowered([*work.before, call], work.temps)


def lower_graph(graph: Graph, compile_region: Compile) -> Lowered:
    """A graph as one call that runs what it becomes by itself, in a piece of the plan's memory."""
    from flambeau.compiler.plans.plan import place_body  # that module imports this one

    body = place_body(graph, compile_region(graph))
    ends, n_read = (*graph.inputs, *graph.outputs), len(graph.inputs)
    operands = (*(Operand("value", v) for v in ends), Operand("temp"))
    run = Run(body, tuple(range(n_read)), tuple(range(n_read, len(ends))), len(ends))
    writes, source = tuple(range(n_read, len(operands))), KernelSource("", "clusters")
    return Lowered(
        [ControlCall(source, operands, (), 1, 1, writes, fallible=body.may_fail, parts=(run,))], [body.arena]
    )


class Lowering:
    """One op's operands so far: the values it reads, those it gives, temporaries."""

    def __init__(self, graph: Graph, node: Node, compile_region: Compile) -> None:
        self.graph, self.node, self._compile = graph, node, compile_region
        self.operands = [Operand("value", v) for v in (*node.operands, *node.results)]
        self.reads = tuple(range(len(node.operands)))
        self.results = tuple(range(len(node.operands), len(self.operands)))
        self.temps: list[Int] = []
        self.n_cursors = 0
        self.before: list[KernelCall] = []
        self.made = set[int]()  # the positions of what these write

    def temp(self, size: Int) -> int:
        """The position of a temporary of so many bytes."""
        self.operands.append(Operand("temp", len(self.temps)))
        self.temps.append(size)
        return len(self.operands) - 1

    def cursor(self, of: int, step: Int, times: Int, reverse: bool) -> Cursor:
        """One that goes through an operand, `step` bytes a turn, from its end if `reverse`."""
        self.n_cursors += 1
        start, by = (step * times, 0 - step) if reverse else (0, step)
        return Cursor(-self.n_cursors, of, start, by, early=reverse)

    def body(self, region: Region, in_place: int = 0, fixed: Sequence[int] = ()) -> RegionPlan:
        from flambeau.compiler.plans.plan import place_body  # that module imports this one

        return place_body(region.graph, self._compile(region.graph), in_place, fixed)

    def run(self, body: RegionPlan, inputs: Sequence[int], outputs: Sequence[int]) -> Run:
        made = [position for step in body.before for position in self._make_before(step, inputs)]
        return Run(body, (*inputs, *made), tuple(outputs), self.temp(body.arena))

    def _make_before(self, step: Step, inputs: Sequence[int]) -> list[int]:
        """Call a step of a body before the loop; the positions of what it writes."""
        written = {id(b): self.temp(b.bytes) for b in step.written()}
        operands = []
        for operand, block in zip(step.call.operands, step.blocks, strict=True):
            assert block is not None  # such a step cannot fail
            at = self.operands[inputs[block.input] if block.input is not None else written[id(block)]]
            operands.append(replace(at, offset=at.offset + operand.offset))
        self.before.append(replace(step.call, operands=tuple(operands), spare=False))
        self.made.update(written.values())
        return list(written.values())

    def bytes(self, position: int) -> Int:
        return self.graph.avals[self.operands[position].index].nbytes
