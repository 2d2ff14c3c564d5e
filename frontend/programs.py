"""Programs for traces: the hooks that look at whole traces.

In: exports of traces. Out: `Program`s whose executables the compiler makes (found by name, see `COMPILER`), residuals to keep.
Next: `assembly.py` for how traces become graphs, `expansions.py` for gradients.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ContextDecorator
from functools import cache, partial
from typing import Any

from flambeau import runtime, watching
from flambeau.assembly import Assembly
from flambeau.declarations import Unsampled, declared
from flambeau.dialects import autodiff, effects, reference
from flambeau.dialects.aval import Aval
from flambeau.dialects.bugs import is_internal
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.effects import Noted
from flambeau.dialects.graph import Graph
from flambeau.dialects.history import strip
from flambeau.dialects.locks import process_lock
from flambeau.dialects.size_guards import scope
from flambeau.dialects.verify import verify
from flambeau.engine import START
from flambeau.naming import told_of
from flambeau.reach import History
from flambeau.runtime import recorder
from flambeau.runtime.imports import imported
from flambeau.runtime.recorder import Program
from flambeau.sizing import assembled, bound
from flambeau.walk import assembling, walk
from flambeau.watching import ProgramRun

COMPILER = "flambeau.compiler.driver"
NO_SLOT = 2**32 - 1


@cache
def compiler() -> Any:
    """The compiler's entry module, imported when the first program is needed."""
    return imported(COMPILER)


# ---- programs -------------------------------------------------------------------------------------------------


def build_program(export: Sequence[tuple], live: Sequence[int], history: Sequence[int] | None) -> Program:
    """Hook: a program that computes the live slots and, if `history` names slots whose gradient may still be asked
    for, the residuals of their backward."""
    sizes, returns = recorder.trace_sizes(), recorder.trace_returns()
    if returns is not None and (calls := walker()):
        walked = walk(export, live, sizes, calls, history, returns)
        if walked is not None:
            return walked
    begun = assembling.learn(export) if returns and returns[0] else None
    with scope(sizes):
        asm = assembled(export)
        kept = None if history is None else kept_slots(asm, history, [asm.slots[s] for s in sources(asm)])
        residuals, watched, followed = kept or (None, None, None)
        graph, inputs = program_graph(asm, [*live, *(residuals or ())])
    runner = Runner(graph, returns is None or returns[0] > 0, begun)
    runner.program = Program(runner, live, None, residuals, inputs, watched, followed)
    runner.promote(sizes)
    return runner.program


def walker() -> Any:
    """What runs calls by themselves in traces that were never seen before, or None where each is to be assembled."""
    return None if watching.current() is not None else compiler().calls(options())


def perform(noted: Sequence[Noted]) -> None:
    """Make the calls that a run has noted."""
    from flambeau import debug  # which records, and so needs this

    debug.perform(noted)


class Runner:
    """What a program runs until its plan is there, then the recorder runs the plan without Python.

    Sizes of the graph may be equal only because the trace's guards say so, in a way that its expressions do not show.
    Such a graph is compiled for each set of values by itself.
    """

    program: Program

    def __init__(self, graph: Graph, has_run: bool = False, begun: Callable[[], None] | None = None) -> None:
        self.graph = graph
        self.apart = bool(graph.sizes) and not is_consistent(graph)
        self.has_effect = graph.has_effect  # then it stays here, and calls what the plan notes
        self._executables: dict[tuple[int, ...], Any] = {}
        self._has_run = has_run
        self._begun = begun  # called when it has run for the first time
        self._op_list: Any = None  # what the recorder was given as long as there is no plan

    def executable(self, sizes: Sequence[int]) -> Any:
        """What runs for these values of the symbols."""
        key = tuple(sizes) if self.apart else ()
        found = self._executables.get(key)
        if found is None:
            made = compiler().compile(self.graph.bind(sizes) if self.apart else self.graph, options())
            with _lock:
                while len(self._executables) >= _MOST_APART:
                    self._executables.pop(next(iter(self._executables)))
                found = self._executables.setdefault(key, made)
        return found

    def promote(self, sizes: Sequence[int]) -> bool:
        """Hand the plan for these sizes to the recorder if it is ready, beside those that it has for others."""
        stays = self.apart or self.has_effect or watching.current() is not None
        plan = None if stays else self.executable(sizes).ready(sizes)
        if plan is not None:
            program = self.program
            with _lock:
                known = () if self._is_slow() else (program.executable, *(program.others or ()))
                program.executable, program.others = plan, tuple(p for p in known if p is not plan)
                self._op_list = None
            self.executable(sizes).settle()
        return plan is not None

    def __call__(self, inputs: Sequence[Any], donate: Sequence[bool], sizes: Sequence[int] = ()) -> list[Any]:
        if (watcher := watching.current()) is not None:
            symbols, may_take = () if self.apart else sizes, [i for i, may in enumerate(donate) if may]
            graph = self.graph.bind(sizes) if self.graph.sizes else self.graph
            run = ProgramRun(graph, partial(self.executable, sizes), inputs, symbols, may_take)
            return watcher.watch(run, partial(self._run, inputs, sizes=sizes))
        self.promote(sizes)
        given = [i for i, may in enumerate(donate) if may]
        again, self._has_run = self._has_run, True  # what has run once may never run again
        outputs = self._run(inputs, given, sizes, again)
        if not self.has_effect:
            self._lend(sizes)
        if self._begun is not None:
            self._begun()
            self._begun = None
        return outputs

    def _run(
        self,
        inputs: Sequence[Any],
        given: Sequence[int] = (),
        sizes: Sequence[int] = (),
        again: bool = True,
        times: Any = None,
    ) -> list[Any]:
        symbols = () if self.apart else sizes
        if not self.has_effect:
            return self.executable(sizes)(inputs, given, symbols, again=again, times=times)
        noted: list[Noted] = []
        outputs = self.executable(sizes)(inputs, given, symbols, noted, again, times)
        perform(noted)
        return outputs

    def _lend(self, sizes: Sequence[int]) -> None:
        """Let the recorder run the program op by op without Python, until there is a plan."""
        if not self.apart and self._is_slow() and (found := self.executable(sizes).op_list(sizes)) is not None:
            with _lock:
                if self._is_slow():
                    self._op_list = self.program.executable = found

    def _is_slow(self) -> bool:
        """Whether the recorder has no plan to run yet."""
        return self.program.executable is self or self.program.executable is self._op_list


_MOST_APART = 64  # executables of one program that are kept
_lock = process_lock()  # guards what runners and their programs hold; nothing is compiled under it


def is_consistent(graph: Graph) -> bool:
    """Whether the types of a graph agree for all values of its symbols, not only where the trace's guards hold."""
    try:
        with scope(graph.sizes, by_form=True):
            verify(graph)
    except ValueError:
        return False
    return True


_options: list[_Compiling] = []  # of all threads; the one put there last counts


def options() -> Any:
    """The compiler's options in force: those of the innermost `compiler_options`, else the environment's."""
    found = next(reversed(_options), None)
    return found.changed if found else None


@declared(free="flambeau", samples=Unsampled("changes what the process does next"))
def compiler_options(**changes: Any) -> AbstractContextManager[None]:
    """Compile differently inside the block; fields as in the compiler's `Options`. Known programs are forgotten.

    Raises, when called, TypeError for a name that is no option and for a value of the wrong type, ValueError for a value
    that the option does not take, and for a target whose code cannot run on this machine."""
    return _Compiling(_changed(changes))


def _changed(changes: dict[str, Any]) -> Any:
    base = options() or importlib.import_module("flambeau.compiler.options").Options.from_environment()
    return base.changed(**changes)


class _Compiling(recorder.Context, ContextDecorator):
    """Other options for the compiler. What was recorded before runs with those before."""

    def __init__(self, changed: Any) -> None:
        self.changed = changed

    def enter(self) -> None:
        recorder.flush()
        recorder.clear(False)
        _options.append(self)

    def leave(self) -> None:
        if self not in _options:
            return
        try:
            recorder.flush()
        finally:
            recorder.clear(False)
            _options.remove(self)


def replay(export: Sequence[tuple], live: Sequence[int], inputs: Sequence[tuple[int, Any]], error: Exception) -> tuple:
    """Hook: after a failed run, what running op by op leaves: ({live slot: Buffer}, the failing op's error, the first slot
    of the call it belongs to)."""
    asm = Assembly(bound(export))
    given = dict(inputs)
    graph, slots = program_graph(asm, live)
    executable = compiler().compile(graph, options())
    noted: list[Noted] = []
    with effects.collecting(noted):
        prefix = executable.run_prefix([given[s] for s in slots])
    if noted:
        perform(noted)
    values = dict(zip(graph.outputs, live))
    kept = {slot: prefix.values[v] for v, slot in values.items() if v in prefix.values}
    if prefix.failed is None or prefix.error is None:
        return kept, executable.bug(error) if is_internal(error) else error, NO_SLOT
    if isinstance(prefix.error, (runtime.OutOfMemory, MemoryError)):
        raise prefix.error
    failed = graph.nodes[prefix.failed]
    first, name = asm.call_of(failed.results[0])
    return kept, told_of(_located(prefix.error), name, failed.op.name), first


def _located(error: Exception) -> Exception:
    """The error with the line that recorded the op, kept as a note so far, in its message."""
    notes = getattr(error, "__notes__", None)
    return type(error)("\n".join([str(error), *notes])) if notes and len(error.args) == 1 else error


def read_view(buffer: Any, shape: tuple[int, ...], dtype: Any, view: Any, starts: Sequence[int]) -> Any:
    """Hook: the elements that a view of shared memory selects, copied now."""
    import numpy as np

    b = GraphBuilder()
    base = b.input(Aval(shape, dtype))
    b.graph.outputs = [view.read(base, [b.input(START) for _ in starts]).id]
    array = np.frombuffer(buffer, dtype.numpy).reshape(shape)
    (result,) = reference.run(strip(b.graph), [array, *(np.asarray(s, np.int64) for s in starts)])
    copy = runtime.Buffer.alloc(result.nbytes)
    np.frombuffer(memoryview(copy), result.dtype)[:] = result.reshape(-1)
    return copy


def program_graph(asm: Assembly, outputs: Sequence[int]) -> tuple[Graph, list[int]]:
    """The part of the trace that computes the slots `outputs`, and the input slots that it reads.

    An output whose tensor entered as an input may take that input's buffer: `updates`.
    """
    values = [asm.slots[s] for s in outputs]
    graph = strip(Graph(asm.graph.avals, asm.graph.inputs, asm.graph.nodes, values, sizes=asm.graph.sizes))
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
    return Graph(graph.avals, graph.inputs, nodes[::-1], graph.outputs, sizes=graph.sizes), live


# ---- residuals ------------------------------------------------------------------------------------------------


def sources(asm: Assembly) -> list[int]:
    """The slots that gradients flow to: leaves, and inputs with a history of their own."""
    return [*asm.leaves, *asm.differentiable]


def kept_slots(asm: Assembly, outputs: Sequence[int], wrt: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Slots to keep when the trace runs before its backward; the slots whose values vjps read, which must still be what they were
    by then; and of these each that was overwritten aside, with the slot that followed it. Nothing is kept or read for calls whose
    history a backward has used up, or that were imported: their own trace keeps what they need."""
    roots = [asm.slots[s] for s in outputs]
    graph = History(asm, roots, wrt)
    read = autodiff.readers(graph, roots, wrt)
    gone = asm.facts.used_up.union(*(asm.made.get(slot, ()) for slot in asm.imported))
    needed = [v for v, by in read.items() if not by <= gone]
    watched, followed = watched_slots(asm, needed), asm.facts.followed
    pairs = [(s, followed[data]) for s in watched if (data := asm.facts.data_at(asm, s)) in followed]
    return residual_slots(asm, graph, needed), watched, [slot for pair in pairs for slot in pair]


def watched_slots(asm: Assembly, needed: Sequence[int]) -> list[int]:
    """All slots that show the same data as one of the needed values."""
    data = asm.facts.data
    shown = {data.get(v, v) for v in map(asm.available, needed)}
    return sorted(s for s, v in asm.slots.items() if data.get(v, v) in shown)


def residual_slots(asm: Assembly, graph: History, needed: Sequence[int]) -> list[int]:
    """Slots from which all needed values follow cheaply: inputs, what was read of imported traces, and results of calls that
    contain a contraction or a reduction (`OpRecord.keep`)."""
    computable = asm.facts.computable
    found: set[int] = set()
    seen: set[int] = set()
    pending = list(needed)
    while pending:
        value = asm.available(pending.pop())
        if value in seen:
            continue
        seen.add(value)
        slots = asm.slots_of.get(value, ())
        if not asm.imported.isdisjoint(slots):
            found.update(asm.read.intersection(slots) or slots[:1])
            continue
        slot, node = next(iter(slots), None), graph.producer(value)
        if slot is not None and asm.slots[slot] in computable and (slot in asm.keeps or node is None):
            found.add(slot)
        elif node is not None:
            pending.extend(node.operands)
    return sorted(found)
