"""Programs for traces, and backward expansions: the hooks that look at whole traces.

In: exports of traces. Out: `Program`s whose executables the compiler makes (found by name, see `COMPILER`), gradients
as fragments, residuals to keep. Next: `assembly.py` for how traces become graphs.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ContextDecorator
from typing import Any, NamedTuple

from flambeau import runtime
from flambeau.assembly import Assembly, Differentiated
from flambeau.declarations import Unsampled, declared
from flambeau.dialects import autodiff, effects, reference
from flambeau.dialects.aval import Aval
from flambeau.dialects.bugs import is_internal
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.cost import nanoseconds
from flambeau.dialects.effects import Noted
from flambeau.dialects.graph import Graph
from flambeau.dialects.history import strip
from flambeau.dialects.locks import process_lock
from flambeau.dialects.size import scope
from flambeau.dialects.verify import verify
from flambeau.engine import START, View
from flambeau.reach import History
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Program
from flambeau.sizing import answered, assembled, bound

COMPILER = "flambeau.compiler.driver"
NO_SLOT = 2**32 - 1


def compiler() -> Any:
    """The compiler's entry module, imported when the first program is needed."""
    return importlib.import_module(COMPILER)


# ---- programs -------------------------------------------------------------------------------------------------


def build_program(export: Sequence[tuple], live: Sequence[int], history: Sequence[int] | None) -> Program:
    """Hook: a program that computes the live slots and, if `history` names slots whose gradient may still be asked
    for, the residuals of their backward."""
    sizes = recorder.trace_sizes()
    with scope(sizes):
        asm = assembled(export)
        kept = None if history is None else kept_slots(asm, history, [asm.slots[s] for s in sources(asm)])
        residuals, watched = kept or (None, None)
        graph, inputs = program_graph(asm, [*live, *(residuals or ())])
    runner = Runner(graph)
    runner.program = Program(runner, live, None, residuals, inputs, watched)
    runner.promote(sizes)
    return runner.program


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

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.apart = bool(graph.sizes) and not is_consistent(graph)
        self.has_effect = graph.has_effect  # then it stays here, and calls what the plan notes
        self._executables: dict[tuple[int, ...], Any] = {}

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
        plan = None if self.apart or self.has_effect else self.executable(sizes).ready(sizes)
        if plan is not None:
            program = self.program
            with _lock:
                known = () if program.executable is self else (program.executable, *(program.others or ()))
                program.executable, program.others = plan, tuple(p for p in known if p is not plan)
        return plan is not None

    def __call__(self, inputs: Sequence[Any], donate: Sequence[bool], sizes: Sequence[int] = ()) -> list[Any]:
        self.promote(sizes)
        given = [i for i, may in enumerate(donate) if may]
        symbols = () if self.apart else sizes
        if not self.has_effect:
            return self.executable(sizes)(inputs, given, symbols)
        noted: list[Noted] = []
        outputs = self.executable(sizes)(inputs, given, symbols, noted)
        perform(noted)
        return outputs


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
        recorder.clear()
        _options.append(self)

    def leave(self) -> None:
        if self not in _options:
            return
        try:
            recorder.flush()
        finally:
            recorder.clear()
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
    return kept, _located(prefix.error), asm.call_of(graph.nodes[prefix.failed].results[0])


def _located(error: Exception) -> Exception:
    """The error with the line that recorded the op, kept as a note so far, in its message."""
    notes = getattr(error, "__notes__", None)
    return type(error)("\n".join([str(error), *notes])) if notes and len(error.args) == 1 else error


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
    np.frombuffer(memoryview(copy), dtype.numpy)[:] = result.reshape(-1)
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


def kept_slots(asm: Assembly, outputs: Sequence[int], wrt: Sequence[int]) -> tuple[list[int], list[int]]:
    """Slots to keep when the trace runs before its backward, and the slots whose values vjps read, which must still be what
    they were by then. Nothing is kept or read for calls whose history a backward has used up."""
    roots = [asm.slots[s] for s in outputs]
    graph = History(asm, roots, wrt)
    read = autodiff.readers(graph, roots, wrt)
    needed = [v for v, by in read.items() if not by <= asm.facts.used_up]
    return residual_slots(asm, graph, needed), watched_slots(asm, needed)


def watched_slots(asm: Assembly, needed: Sequence[int]) -> list[int]:
    """All slots that show the same data as one of the needed values."""
    data = asm.facts.data
    shown = {data.get(v, v) for v in map(asm.available, needed)}
    return sorted(s for s, v in asm.slots.items() if data.get(v, v) in shown)


def residual_slots(asm: Assembly, graph: History, needed: Sequence[int]) -> list[int]:
    """Slots from which all needed values follow cheaply: inputs, and results of calls that contain a contraction or a
    reduction (`OpRecord.keep`)."""
    computable = asm.facts.computable
    found: set[int] = set()
    seen: set[int] = set()
    pending = list(needed)
    while pending:
        value = asm.available(pending.pop())
        if value in seen:
            continue
        seen.add(value)
        slot, node = next(iter(asm.slots_of.get(value, ())), None), graph.producer(value)
        if slot is not None and asm.slots[slot] in computable and (slot in asm.keeps or node is None):
            found.add(slot)
        elif node is not None:
            pending.extend(node.operands)
    return sorted(found)


# ---- gradients ------------------------------------------------------------------------------------------------


class Ref(NamedTuple):
    """A tensor that an entry reads: a slot, the view through which it is seen, and the slots of the view's starts."""

    slot: int
    view: View | None
    starts: tuple[int, ...]

    @staticmethod
    def of(operand: tuple | None) -> Ref | None:
        return Ref(*operand) if operand is not None else None


class Differentiation:
    """Gradients over an assembled trace, collected as the fragment of a backward or grad entry.

    `name` is for errors. `refs` are all tensors that the entry reads, in order: their starts are scalars of the entry.
    `scratch` is where values are made that the trace does not have.
    """

    def __init__(self, name: str, asm: Assembly, scratch: Graph, refs: Sequence[Ref | None]) -> None:
        self.name, self.asm, self.scratch = name, asm, scratch
        self.b = GraphBuilder()
        self.operands: list[int] = []
        for ref in refs:
            for slot in ref.starts if ref else ():
                asm.enter_scalar(slot, "int")

    def output(self, ref: Ref) -> int:
        """The value of a tensor to differentiate, in the history graph."""
        b = GraphBuilder(self.scratch)
        base = b.value(self.asm.slots[ref.slot])
        return ref.view.read(base, [b.value(self.asm.slots[s]) for s in ref.starts]).id if ref.view else base.id

    def enter(self, value: int) -> Value:
        """A value of the trace as an input of the fragment."""
        self.operands.append(self.asm.available(value))
        return self.b.input(self.scratch.avals[value])

    def read(self, ref: Ref) -> tuple[Value, Value, list[Value]]:
        """A tensor's value in the fragment; with its base and starts."""
        base = self.enter(self.asm.slots[ref.slot])
        starts = [self.enter(self.asm.slots[s]) for s in ref.starts]
        return (ref.view.read(base, starts) if ref.view else base), base, starts

    def run(self, seeds: dict[int, Value], wrt: Sequence[int]) -> list[Value | None]:
        """The gradients of `wrt` given the cotangents of some values."""
        self.history = History(self.asm, seeds, wrt, self.scratch.nodes)
        read = autodiff.readers(self.history, list(seeds), wrt)
        check_alive(self.name, self.asm, read)
        check_unmodified(self.name, self.asm, read)
        forward = {v: self.enter(v) for v in sorted(read)}
        found = autodiff.vjp(self.b, self.history, forward, seeds, wrt)
        self.b.loc = None
        return found

    def seed(self, ref: Ref, gradient: Ref | None) -> tuple[int, Value]:
        """An output and its cotangent: the tensor given for it, or one."""
        value = self.output(ref)
        aval = self.scratch.avals[value]
        ct = None if gradient is None else self.read(gradient)[0]
        check_seed(self.name, aval, None if ct is None else ct.aval)
        with self.b.on(aval.device):
            return value, self.b.constant(1, aval.dtype, aval.shape) if ct is None else ct

    def expansion(self, gradients: Sequence[Value | None], freed: Sequence[int]) -> tuple:
        """The hook's answer: (payload, result types, freed slots)."""
        self.b.graph.outputs = [g.id for g in gradients if g is not None]
        sizes = self.asm.graph.sizes
        cost = nanoseconds(self.b.graph.bind(sizes) if sizes else self.b.graph)
        payload = Differentiated(self.name, self.b.graph, tuple(self.operands), tuple(freed), cost)
        return payload, [None if g is None else (g.shape, g.dtype, False, g.aval.device) for g in gradients], freed

    def used_up(self, outputs: Iterable[int], wrt: Sequence[int]) -> list[int]:
        return used_up(self.asm, self.history, outputs, wrt)


def used_up(
    asm: Assembly, history: History, outputs: Iterable[int], wrt: Sequence[int], passed: Sequence[int] = ()
) -> list[int]:
    """The slots between the outputs and `wrt`: a backward that does not retain the graph ends their history.

    Gradients also flow to the values `passed`, and on from there.
    """
    needs = autodiff.requires_gradient(history, [*wrt, *passed]) - set(wrt)
    reached = set(outputs)
    for node in reversed(history.nodes):
        if reached.intersection(node.results):
            reached.update(v for v in node.operands if v in needs)
    return sorted(s for v in reached & needs for s in asm.slots_of.get(v, ()))


def expand_backward(
    export: Sequence[tuple], loss: tuple, gradient: tuple | None, leaves: Sequence[tuple], flags: int
) -> tuple:
    """Hook: the gradients of the leaves [(slot, ref of its .grad or None)], added to what they have."""

    def ask(asm: Assembly) -> tuple:
        with asm.scratch() as scratch:
            return _backward(asm, scratch, loss, gradient, leaves, flags)

    return answered(export, ask)


def _backward(
    asm: Assembly, scratch: Graph, loss: tuple, gradient: tuple | None, leaves: Sequence[tuple], flags: int
) -> tuple:
    root, given, held = Ref(*loss), Ref.of(gradient), [Ref.of(grad) for _, grad in leaves]
    d = Differentiation("backward", asm, scratch, [root, given, *held])
    output, seed = d.seed(root, given)
    wrt = [asm.slots[s] for s, _ in leaves]
    gradients = d.run({output: seed}, wrt)
    for i, (new, old) in enumerate(zip(gradients, held, strict=True)):
        if new is not None and old is not None:
            shown, base, starts = d.read(old)
            total = shown + new
            gradients[i] = old.view.write(base, total, starts) if old.view else total
    return d.expansion(gradients, () if flags & 1 else d.used_up([output], wrt))


def expand_grad(export: Sequence[tuple], outputs: Sequence, gradients: Sequence, inputs: Sequence, flags: int) -> tuple:
    """Hook: the gradients of `inputs`, as new tensors."""

    def ask(asm: Assembly) -> tuple:
        with asm.scratch() as scratch:
            return _grad(asm, scratch, outputs, gradients, inputs, flags)

    return answered(export, ask)


def _grad(asm: Assembly, scratch: Graph, outputs: Sequence, gradients: Sequence, inputs: Sequence, flags: int) -> tuple:
    outs, given, wanted = [Ref(*r) for r in outputs], [Ref.of(r) for r in gradients], [Ref.of(r) for r in inputs]
    d = Differentiation("grad", asm, scratch, [*outs, *given, *wanted])
    seeds: dict[int, Value] = {}
    for out, gradient in zip(outs, given, strict=True):
        value, ct = d.seed(out, gradient)
        seeds[value] = seeds[value] + ct if value in seeds else ct
    wrt = [d.output(ref) for ref in wanted if ref]
    reached = iter(d.run(seeds, wrt))
    found = [next(reached) if ref else None for ref in wanted]  # no ref: its history is gone
    return d.expansion(found, () if flags & 1 else d.used_up(seeds, wrt))


def check_seed(name: str, aval: Aval, gradient: Aval | None) -> None:
    """Raise unless a gradient of type `gradient` (None: left out) fits an output of type `aval`."""
    if gradient is None and aval.size != 1:
        raise RuntimeError(
            f"[{name}] a gradient can be left out only for a scalar, this tensor has shape {aval.shape}. "
            "Reduce it, or pass the gradient."
        )
    if gradient is not None and gradient.device != aval.device:
        raise RuntimeError(
            f"[{name}] the gradient lies on {gradient.device}, the tensor on {aval.device}. Move one with to(device)."
        )
    if gradient is not None and gradient != aval:
        raise RuntimeError(
            f"[{name}] the gradient is {gradient.dtype.name} of shape {gradient.shape}, "
            f"the tensor {aval.dtype.name} of shape {aval.shape}. Make them equal."
        )


def check_alive(name: str, asm: Assembly, read: dict[int, set[int]]) -> None:
    """Raise if a vjp reads values on behalf of a call whose history an earlier backward used up."""
    if not all(by.isdisjoint(asm.facts.used_up) for by in read.values()):
        raise freed_graph(name)


def freed_graph(name: str) -> RuntimeError:
    return RuntimeError(
        f"[{name}] this graph was freed by an earlier backward: it cannot be gone through a second time. "
        "Pass retain_graph=True to the first."
    )


def check_unmodified(name: str, asm: Assembly, read: dict[int, set[int]]) -> None:
    """Raise if a value that a vjp reads has been overwritten in its tensor since, as PyTorch does.

    The overwriting call's own gradient may read it: it had the old value. Writes to a leaf through `.data` are allowed.
    """
    facts = asm.facts
    found = []
    for value, by in read.items():
        data = asm.available(value)
        found += [(k, o) for k, o in facts.overwritten.get(facts.data.get(data, data), ()) if by - o.own]
    if found:
        _, o = min(found, key=lambda pair: pair[0])
        where = f" at {o.loc}" if o.loc else ""
        raise RuntimeError(
            f"[{name}] a tensor needed for the gradient was modified in place by {o.name}{where}. "
            "Change a copy instead, or use the form that returns a new tensor."
        )
