"""backward() and grad() as entries of a trace: on a miss their gradients, as a fragment of primitive ops.

In: the export of a trace, and the tensors that a call names. Out: `Differentiated`. *What* is differentiated is told apart from
where it lies (`Problem`), and remembered: of the backwards of micro-batches, or of the rows of a Hessian, only the first is worked
out, the others cost a look at the ops that they go through. Next: `reach.py`, `dialects/autodiff.py`; `inline.py` where gradients
are recorded op by op.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from flambeau.assembly import Assembly, Differentiated
from flambeau.call_gradients import Asked, Deferred, call_by_call
from flambeau.dialects import autodiff
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.cost import nanoseconds
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.identity import attrs_key
from flambeau.dialects.size_guards import remembered, scope
from flambeau.engine import View
from flambeau.programs import walker
from flambeau.reach import History
from flambeau.runtime import recorder
from flambeau.sizing import answered, programs_of
from flambeau.walk import is_heavy

# ---- what is differentiated -----------------------------------------------------------------------------------


class Ref(NamedTuple):
    """A tensor that an entry reads: a slot, the view through which it is seen, and the slots of the view's starts."""

    slot: int
    view: View | None
    starts: tuple[int, ...]

    @staticmethod
    def of(operand: tuple | None) -> Ref | None:
        return Ref(*operand) if operand is not None else None


class Shown(NamedTuple):
    """A tensor in a `Problem`: the number of its base, the view, the numbers of the view's starts."""

    base: int
    view: View | None
    starts: tuple[int, ...]

    @property
    def key(self) -> tuple:
        return self.base, id(self.view), self.starts  # a problem keeps its views, and so their ids


class Problem:
    """Gradients to find: a graph with the values that play a part, numbered in the order in which they were met.

    graph       what the gradients go through; `outputs` the values that are differentiated
    seeds       their cotangents, None: one
    wrt         the values whose gradients are asked for
    held        what the gradients are added to: for each of `wrt` a tensor or None; empty for `grad`

    Problems are equal if they have the same answers, lines of ops included.
    """

    def __init__(
        self,
        name: str,
        graph: Graph,
        outputs: Sequence[int],
        seeds: Sequence[Shown | None],
        wrt: Sequence[int],
        held: Sequence[Shown | None],
    ) -> None:
        self.name, self.graph = name, graph
        self.outputs, self.seeds, self.wrt, self.held = outputs, seeds, wrt, held
        self._key = (
            name,
            tuple(graph.avals),
            tuple([(n.op, n.operands, attrs_key(n.attrs), n.results, n.loc) for n in graph.nodes]),
            tuple(outputs),
            tuple([s and s.key for s in seeds]),
            tuple(wrt),
            tuple([s and s.key for s in held]),
        )
        self._hash = hash(self._key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Problem) and self._hash == other._hash and self._key == other._key


class _Numbers:
    """Numbers for values of a trace; `values[k]` is number k's."""

    def __init__(self, asm: Assembly) -> None:
        self.slots = asm.slots
        self.values: list[int] = []
        self._known: dict[int, int] = {}

    def of(self, value: int) -> int:
        found = self._known.get(value)
        if found is None:
            found = self._known[value] = len(self.values)
            self.values.append(value)
        return found

    def all(self, values: Iterable[int]) -> tuple[int, ...]:
        return tuple([self.of(v) for v in values])

    def shown(self, ref: Ref | None) -> Shown | None:
        if ref is None:
            return None
        return Shown(self.of(self.slots[ref.slot]), ref.view, self.all([self.slots[s] for s in ref.starts]))

    def graph(self, graph: Graph) -> Graph:
        nodes = [Node(n.op, self.all(n.operands), n.attrs, self.all(n.results), n.loc) for n in graph.nodes]
        return Graph([graph.avals[v] for v in self.values], [], nodes)


# ---- its answer -----------------------------------------------------------------------------------------------


class _Fragment:
    """The gradients of a problem in the making. `entered` are the numbers of the values that it reads."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.b = GraphBuilder()
        self.entered: list[int] = []

    def enter(self, number: int) -> Value:
        self.entered.append(number)
        return self.b.input(self.problem.graph.avals[number])

    def read(self, shown: Shown) -> tuple[Value, Value, list[Value]]:
        """A tensor's value; with its base and starts."""
        base = self.enter(shown.base)
        starts = [self.enter(s) for s in shown.starts]
        return (shown.view.read(base, starts) if shown.view else base), base, starts

    def seeds(self) -> dict[int, Value]:
        """The cotangents of the outputs."""
        found: dict[int, Value] = {}
        for output, given in zip(self.problem.outputs, self.problem.seeds, strict=True):
            aval = self.problem.graph.avals[output]
            ct = None if given is None else self.read(given)[0]
            check_seed(self.problem.name, aval, None if ct is None else ct.aval)
            if ct is None:
                with self.b.on(aval.device):
                    ct = self.b.constant(1, aval.dtype, aval.shape)
            found[output] = found[output] + ct if output in found else ct
        return found

    def added(self, new: Value | None, held: Shown | None) -> Value | None:
        """What a gradient that is there becomes."""
        if new is None or held is None:
            return new
        shown, base, starts = self.read(held)
        total = shown + new
        return held.view.write(base, total, starts) if held.view else total


class Answer:
    """The gradients as a graph whose inputs are the values `entered`, and the type of each, None where there is none."""

    def __init__(self, graph: Graph, entered: Sequence[int], types: Sequence[Aval | None]) -> None:
        self.graph, self.entered, self.types = graph, entered, types
        self._cost: tuple[tuple[int, ...], int] | None = None

    def cost(self, sizes: tuple[int, ...]) -> int:
        """The estimated run time in ns for these values of the symbols."""
        known = self._cost
        if known is None or known[0] != sizes:
            known = self._cost = sizes, nanoseconds(self.graph.bind(sizes) if sizes else self.graph)
        return known[1]


_MOST = 64  # problems whose answers are kept: they are remembered for the sake of loops


@remembered(_MOST)
def _reads(problem: Problem) -> Mapping[int, set[int]]:
    """The values that vjps read, each with the results of the nodes whose vjps do."""
    seeds = _Fragment(problem).seeds()
    return autodiff.readers(problem.graph, list(seeds), problem.wrt)


@remembered(_MOST)
def _answer(problem: Problem) -> Answer:
    fragment = _Fragment(problem)
    seeds = fragment.seeds()
    forward = {v: fragment.enter(v) for v in sorted(_reads(problem))}
    gradients = autodiff.vjp(fragment.b, problem.graph, forward, seeds, problem.wrt)
    fragment.b.loc = None
    if problem.held:
        gradients = [fragment.added(new, held) for new, held in zip(gradients, problem.held, strict=True)]
    fragment.b.graph.outputs = [g.id for g in gradients if g is not None]
    return Answer(fragment.b.graph, fragment.entered, [None if g is None else g.aval for g in gradients])


@remembered(_MOST)
def _passed(problem: Problem) -> Sequence[int]:
    return sorted(between(problem.graph, problem.outputs, problem.wrt))


def between(graph: Graph, outputs: Iterable[int], wrt: Sequence[int], passed: Sequence[int] = ()) -> set[int]:
    """The values between the outputs and `wrt`: a backward that does not retain the graph ends their history.

    Gradients also flow to the values `passed`, and on from there.
    """
    needs = autodiff.requires_gradient(graph, [*wrt, *passed]) - set(wrt)
    reached = set(outputs)
    for node in reversed(graph.nodes):
        if reached.intersection(node.results):
            reached.update(v for v in node.operands if v in needs)
    return reached & needs


def slots_of(asm: Assembly, values: Iterable[int]) -> list[int]:
    """All slots of some values."""
    return sorted(s for v in values for s in asm.slots_of.get(v, ()))


# ---- the hooks ------------------------------------------------------------------------------------------------


class Differentiation:
    """Gradients over an assembled trace, as the fragment of a backward or grad entry.

    `name` is for errors. `refs` are all tensors that the entry reads, in order: their starts are scalars of the entry.
    `scratch` is where values are made that the trace does not have.
    """

    def __init__(self, name: str, asm: Assembly, scratch: Graph, refs: Sequence[Ref | None]) -> None:
        self.name, self.asm, self.scratch = name, asm, scratch
        for ref in refs:
            for slot in ref.starts if ref else ():
                asm.enter_scalar(slot, "int")

    def value(self, ref: Ref) -> int:
        """The value of a tensor, in the history graph."""
        b = GraphBuilder(self.scratch)
        base = b.value(self.asm.slots[ref.slot])
        return ref.view.read(base, [b.value(self.asm.slots[s]) for s in ref.starts]).id if ref.view else base.id

    def expansion(
        self,
        outputs: Sequence[int],
        seeds: Sequence[Ref | None],
        wrt: Sequence[int],
        held: Sequence[Ref | None],
        retain_graph: bool,
    ) -> tuple[Differentiated, list[Aval | None]]:
        """The entry's payload, and the types of the gradients."""
        asm, numbers = self.asm, _Numbers(self.asm)
        history = History(asm, outputs, wrt, self.scratch.nodes)
        named = (
            numbers.all(outputs),
            tuple(map(numbers.shown, seeds)),
            numbers.all(wrt),
            tuple(map(numbers.shown, held)),
        )
        problem = Problem(self.name, numbers.graph(history), *named)
        values = numbers.values
        read = {values[v]: {values[r] for r in by} for v, by in _reads(problem).items()}
        check_alive(self.name, asm, read)
        check_unmodified(self.name, asm, read)
        answer = _answer(problem)
        operands = tuple([asm.available(values[v]) for v in answer.entered])
        freed = () if retain_graph else tuple(slots_of(asm, [values[v] for v in _passed(problem)]))
        cost = answer.cost(asm.graph.sizes)
        return Differentiated(self.name, answer.graph, operands, freed, cost), list(answer.types)


def expand_backward(
    export: Sequence[tuple], loss: tuple, gradient: tuple | None, leaves: Sequence[tuple], flags: int
) -> tuple:
    """Hook: the gradients of the leaves [(slot, ref of its .grad or None)], added to what they have."""
    asked = Asked(export, loss, gradient, leaves, bool(flags & 1), recorder.trace_sizes(), _fragment)
    return _deferred(asked) or answered(export, _with_scratch(partial(_backward, asked)))


def _backward(asked: Asked, asm: Assembly, scratch: Graph) -> tuple:
    """The answer of `expand_backward`, worked out in the assembled trace."""
    root, given, held = Ref(*asked.loss), Ref.of(asked.gradient), [Ref.of(grad) for _, grad in asked.leaves]
    d = Differentiation("backward", asm, scratch, [root, given, *held])
    wrt = [asm.slots[s] for s, _ in asked.leaves]
    return _told(*d.expansion([d.value(root)], [given], wrt, held, asked.retain_graph))


def _fragment(asked: Asked) -> Differentiated:
    """What a deferred backward is, in a trace of its own."""
    with scope(asked.sizes):
        return _with_scratch(partial(_backward, asked))(Assembly(asked.export, asked.sizes))[0]


def _deferred(asked: Asked) -> tuple | None:
    """The answer of `expand_backward` where the trace may run call by call: its fragment is made if it comes again."""
    if walker() is None or is_heavy(asked.export):
        return None
    try:
        with scope(asked.sizes) as questions:
            found = call_by_call(asked._replace(export=list(asked.export)))
            return found and (*_told(*found), programs_of(questions))
    except RuntimeError:  # an op without a gradient: the fragment's error names its line
        return None


def expand_grad(export: Sequence[tuple], outputs: Sequence, gradients: Sequence, inputs: Sequence, flags: int) -> tuple:
    """Hook: the gradients of `inputs`, as new tensors."""
    outs, given, wanted = [Ref(*r) for r in outputs], [Ref.of(r) for r in gradients], [Ref.of(r) for r in inputs]

    def ask(asm: Assembly, scratch: Graph) -> tuple:
        d = Differentiation("grad", asm, scratch, [*outs, *given, *wanted])
        roots, wrt = map(d.value, outs), [d.value(ref) for ref in wanted if ref]
        payload, types = d.expansion(list(roots), given, wrt, (), bool(flags & 1))
        reached = iter(types)
        return _told(payload, [next(reached) if ref else None for ref in wanted])  # no ref: its history is gone

    return answered(export, _with_scratch(ask))


def _with_scratch(ask: Callable[[Assembly, Graph], tuple]) -> Callable[[Assembly], tuple]:
    def run(asm: Assembly) -> tuple:
        with asm.scratch() as scratch:
            return ask(asm, scratch)

    return run


def _told(payload: Differentiated | Deferred, types: Sequence[Aval | None]) -> tuple:
    """A hook's answer: (payload, result types, freed slots)."""
    return payload, [a and (a.shape, a.dtype, False, a.device) for a in types], payload.freed


# ---- what is refused ------------------------------------------------------------------------------------------


def check_seed(name: str, aval: Aval, gradient: Aval | None) -> None:
    """Raise unless a gradient of type `gradient` (None: left out) fits an output of type `aval`."""
    if gradient is None and aval.dtype.is_complex:
        raise RuntimeError(
            f"[{name}] a gradient can be left out only for a real scalar, this tensor is {aval.dtype.name}. "
            "Take a real part or an absolute value, or pass the gradient."
        )
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
    used_up = asm.facts.used_up
    if not all(by.isdisjoint(used_up) for by in read.values()):
        raise freed_graph(name)


def freed_graph(name: str) -> RuntimeError:
    return RuntimeError(
        f"[{name}] this graph was freed by an earlier backward: it cannot be gone through a second time. "
        "Pass retain_graph=True to the first."
    )


def check_unmodified(name: str, asm: Assembly, read: dict[int, set[int]]) -> None:
    """Raise if a value that a vjp reads has been overwritten in its tensor since, as PyTorch does.

    The overwriting call's own gradient may read it, and so may what is recorded of that: it had the old value. Writes to a leaf
    through `.data` are allowed.
    """
    facts = asm.facts
    found = []
    for value, by in read.items():
        data = asm.available(value)
        first = min(by)
        found += [(k, o) for k, o in facts.overwritten.get(facts.data.get(data, data), ()) if first < o.first]
    if found:
        _, o = min(found, key=lambda pair: pair[0])
        where = f" at {o.loc}" if o.loc else ""
        raise RuntimeError(
            f"[{name}] a tensor needed for the gradient was modified in place by {o.name}{where}. "
            "Change a copy instead, or use the form that returns a new tensor."
        )
