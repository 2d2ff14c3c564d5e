"""Programs for traces, and backward expansions: the hooks that look at whole traces.

In: exports of traces. Out: `Program`s whose executables the compiler makes (found by name, see `COMPILER`), gradients
as fragments, residuals to keep. Next: `assembly.py` for how traces become graphs.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from flambeau.assembly import Assembly, Differentiated
from flambeau.dialects import autodiff, reference
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.graph import Graph
from flambeau.dialects.history import strip
from flambeau.engine import START
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Program

COMPILER = "flambeau.compiler.driver"


def compiler() -> Any:
    """The compiler's entry module, imported when the first program is needed."""
    return importlib.import_module(COMPILER)


# ---- programs -------------------------------------------------------------------------------------------------


def build_program(export: Sequence[tuple], live: Sequence[int], history: Sequence[int] | None) -> Program:
    """Hook: a program that computes the live slots and, if `history` names slots whose gradient may still be asked
    for, the residuals of their backward."""
    asm = Assembly(export)
    residuals = None if history is None else residual_slots(asm, history, [asm.slots[s] for s in sources(asm)])
    graph, inputs = program_graph(asm, [*live, *(residuals or ())])
    runner = Runner(graph)
    runner.program = Program(runner, live, None, residuals, inputs)
    runner.promote()
    return runner.program


class Runner:
    """What a program runs until its plan is there, then the recorder runs the plan without Python."""

    program: Program

    def __init__(self, graph: Graph) -> None:
        self.executable = compiler().compile(graph, options())

    def promote(self) -> bool:
        """Hand the plan to the recorder if it is ready."""
        plan = self.executable.ready()
        if plan is not None:
            self.program.executable = plan
        return plan is not None

    def __call__(self, inputs: Sequence[Any], donate: Sequence[bool]) -> list[Any]:
        self.promote()
        return self.executable(inputs, [i for i, given in enumerate(donate) if given])


_options: list[Any] = []  # a stack; the last one counts


def options() -> Any:
    """The compiler's options in force: those of the innermost `compiler_options`, else the environment's."""
    return _options[-1] if _options else None


@contextmanager
def compiler_options(**changes: Any) -> Iterator[None]:
    """Compile differently inside the block; fields as in the compiler's `Options`. Known programs are forgotten."""
    base = options() or importlib.import_module("flambeau.compiler.options").Options.from_environment()
    recorder.flush()
    recorder.clear()
    _options.append(dataclasses.replace(base, **changes))
    try:
        yield
    finally:
        recorder.flush()
        recorder.clear()
        _options.pop()


def replay(export: Sequence[tuple], live: Sequence[int], inputs: Sequence[tuple[int, Any]], error: Exception) -> tuple:
    """Hook: after a failed run, what running op by op leaves: ({live slot: Buffer}, the failing op's error)."""
    asm = Assembly(export)
    given = dict(inputs)
    graph, slots = program_graph(asm, live)
    prefix = compiler().compile(graph, options()).run_prefix([given[s] for s in slots])
    values = dict(zip(graph.outputs, live))
    kept = {slot: prefix.values[v] for v, slot in values.items() if v in prefix.values}
    return kept, prefix.error or error


def read_view(buffer: Any, shape: tuple[int, ...], dtype: Any, view: Any, starts: Sequence[int]) -> Any:
    """Hook: the elements that a view of shared memory selects, copied now."""
    import numpy as np
    from flambeau.runtime import Buffer

    b = GraphBuilder()
    base = b.input(Aval(shape, dtype))
    b.graph.outputs = [view.read(base, [b.input(START) for _ in starts]).id]
    array = np.frombuffer(buffer, dtype.numpy).reshape(shape)
    (result,) = reference.run(strip(b.graph), [array, *(np.asarray(s, np.int64) for s in starts)])
    copy = Buffer.alloc(result.nbytes)
    np.frombuffer(copy, dtype.numpy)[:] = result.reshape(-1)
    return copy


def program_graph(asm: Assembly, outputs: Sequence[int]) -> tuple[Graph, list[int]]:
    """The part of the trace that computes the slots `outputs`, and the input slots that it reads.

    An output whose tensor entered as an input may take that input's buffer: `updates`.
    """
    graph = strip(Graph(asm.graph.avals, asm.graph.inputs, asm.graph.nodes, [asm.slots[s] for s in outputs]))
    graph, used = _live(graph)
    slots = [s for s in asm.inputs if asm.slots[s] in used]
    graph.inputs = [asm.slots[s] for s in slots]
    place = {s: i for i, s in enumerate(slots)}
    roots = [asm.roots.get(s) for s in outputs]
    graph.updates = {k: place[r] for k, (r, s) in enumerate(zip(roots, outputs)) if r in place and r != s}
    return graph, slots


def _live(graph: Graph) -> tuple[Graph, set[int]]:
    """Without nodes that no output needs; and the values that are read."""
    live = set(graph.outputs)
    nodes = []
    for node in reversed(graph.nodes):
        if live.intersection(node.results):
            nodes.append(node)
            live.update(node.operands)
    return Graph(graph.avals, graph.inputs, nodes[::-1], graph.outputs), live


# ---- residuals ------------------------------------------------------------------------------------------------


def sources(asm: Assembly) -> list[int]:
    """The slots that gradients flow to: leaves, and inputs with a history of their own."""
    return [*asm.leaves, *asm.differentiable]


def residual_slots(asm: Assembly, outputs: Sequence[int], wrt: Sequence[int]) -> list[int]:
    """Slots to keep when the trace runs before its backward: what vjps read, or what that is cheaply computed from.

    Kept are inputs and results of calls that contain a contraction or a reduction (`OpRecord.keep`).
    """
    slot_of = {v: s for s, v in asm.slots.items()}
    producers = asm.graph.producers()
    found: set[int] = set()
    seen: set[int] = set()
    pending = autodiff.needed_values(asm.graph, [asm.slots[s] for s in outputs], wrt)
    while pending:
        value = asm.available(pending.pop())
        if value in seen:
            continue
        seen.add(value)
        slot, node = slot_of.get(value), producers.get(value)
        if slot is not None and (slot in asm.keeps or node is None):
            found.add(slot)
        elif node is not None:
            pending.extend(node.operands)
    return sorted(found)


# ---- gradients ------------------------------------------------------------------------------------------------


def differentiate(
    name: str,
    asm: Assembly,
    seeds: dict[int, int | None],
    wrt: Sequence[int],
    added: Sequence[int | None],
    retain: bool,
) -> tuple[Differentiated, list[bool]]:
    """Gradients of the values `wrt`, given for each seed value the value of its cotangent (None: one).

    `added[i]` is a value that gradient i is added to. Returns the expansion, whose outputs are the gradients that
    exist, and for each of `wrt` whether it does.
    """
    read = autodiff.readers(asm.graph, list(seeds), wrt)
    check_alive(name, asm, read)
    check_unmodified(name, asm, read)
    b = GraphBuilder()
    operands: list[int] = []

    def enter(value: int) -> Value:
        operands.append(asm.available(value))
        return b.input(asm.graph.avals[value])

    forward = {v: enter(v) for v in sorted(read)}
    cotangents = {v: _one(b, asm.graph.avals[v]) if ct is None else enter(ct) for v, ct in seeds.items()}
    found = autodiff.vjp(b, asm.graph, forward, cotangents, wrt)
    b.loc = None
    for i, (gradient, old) in enumerate(zip(found, added, strict=True)):
        if gradient is not None and old is not None:
            found[i] = enter(old) + gradient
    b.graph.outputs = [g.id for g in found if g is not None]
    freed = () if retain else tuple(_used_up(asm, seeds, wrt))
    return Differentiated(name, b.graph, tuple(operands), freed), [g is not None for g in found]


def _used_up(asm: Assembly, seeds: Iterable[int], wrt: Sequence[int]) -> list[int]:
    """The slots between the seeds and `wrt`: their history is gone after a backward that does not retain the graph."""
    needs = autodiff.requires_gradient(asm.graph, wrt) - set(wrt)
    reached = set(seeds)
    for node in reversed(asm.graph.nodes):
        if reached.intersection(node.results):
            reached.update(v for v in node.operands if v in needs)
    return sorted(s for s, v in asm.slots.items() if v in reached and v in needs)


def _one(b: GraphBuilder, aval: Aval) -> Value:
    return b.constant(1, aval.dtype, aval.shape)


def check_alive(name: str, asm: Assembly, read: dict[int, set[int]]) -> None:
    """Raise if a vjp reads values on behalf of a call whose history an earlier backward used up."""
    used = set().union(*read.values()) if asm.freed else ()
    if any(not asm.made.get(slot, frozenset()).isdisjoint(used) for slot in asm.freed):
        raise RuntimeError(
            f"[{name}] this graph was freed by an earlier backward: it cannot be gone through a second time. "
            "Pass retain_graph=True to the first."
        )


def check_unmodified(name: str, asm: Assembly, read: dict[int, set[int]]) -> None:
    """Raise if a value that a vjp reads has been overwritten in its tensor since, as PyTorch does.

    The overwriting call's own gradient may read it: it had the old value.
    """
    for o in asm.overwrites:
        if read.get(asm.slots[o.slot], set()) - o.own:
            where = f" at {o.loc}" if o.loc else ""
            raise RuntimeError(
                f"[{name}] a tensor needed for the gradient was modified in place by {o.name}{where}. "
                "Change a copy instead, or use the form that returns a new tensor."
            )
