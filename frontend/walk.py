"""Traces that were never seen, run call by call: most of what is seen once is never seen again.

In: a trace as the recorder exports it. Out: a program for these sizes, or None where the trace is better assembled at once: a
gradient may still be asked for, an op is still to be compiled, or its own work is worth a look at what lies on disk. Each call has
been expanded and its ops have plans: what calls share is looked up, so a new trace of known calls costs microseconds for each.
They are joined to one list, which the recorder runs by itself when the trace comes again. Assembling and compiling cost what many
such runs do, so a trace is assembled once they have cost a share of that.
Next: `call_gradients.py` for backward; `programs.py`, which assembles what is seen again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import thread_time_ns
from typing import Any

from flambeau.call_gradients import Deferred
from flambeau.dialects.graph import Graph
from flambeau.runtime._binding import join_op_lists
from flambeau.runtime.recorder import Program

#: Nanoseconds that a call's own work may take, by estimate, where assembling it costs more than running it unfused.
CHEAP = 20_000
#: Of what assembling a trace costs, the part that running it again may cost first, and walking it again at other sizes: what comes
#: often costs about so much more than if it had been assembled at once. The first walk does not count, which looks up what other
#: traces share.
SHARE = 1 / 2
#: Of what compiling a trace costs, the part that counts so where it runs again, for each size at which it has a list, and where it
#: is walked again at others. Workers do it beside who runs op by op, but it takes that from all; and what changes its sizes is
#: compiled for each of the first ones and then for all.
COMPILING, RESIZED = 1 / 50, 1 / 5

#: How many times as much a trace has cost for each call when its gradient is asked for that it will not be walked: a gradient takes
#: about twice as many calls as what it is of, and twice as long.
HEAVY = 2

Step = tuple[Any, Sequence[int], Sequence[int]]  #: a call as an OpList, its operands' slots, its results'


def walk(
    export: Sequence[tuple],
    live: Sequence[int],
    sizes: Sequence[int],
    calls: Any,
    history: Sequence[int] | None = None,
    returns: tuple[int, int] = (0, 0),
) -> Program | None:
    """A program that runs the trace now, with `compiler.baseline.calls.CallRunner` for its calls. `history` are the slots whose
    gradients may be asked for, unless a backward of the trace has used them up. It `returns` for this many times, on which so many
    nanoseconds were spent."""
    start, (times, spent) = thread_time_ns(), returns
    spent = spent if times > 1 else 0
    if times == _DUE or (times > 1 and spent >= _due(calls, _n_calls(export), RESIZED)):
        return None
    steps = _Steps(calls, sizes)
    for entry in export:
        if not steps.add(*entry):
            return None
    if not steps.steps or steps.cost > CHEAP * steps.n_calls or not steps.used_up.issuperset(history or ()):
        return None
    if steps.imports and not steps.makes(live):
        return None
    runner = _TraceWalk(steps, live)
    program = Program(runner, live, None, None if history is None else ())
    program.once, program.spent = min(times + 1, _DUE - 1), spent + thread_time_ns() - start
    runner.program = program
    return program


#: What `Program.once` says of one that is assembled when its trace comes again; programs that were for once count up to it.
_DUE = 255


def _due(calls: Any, n_calls: int, part: float) -> float:
    """The nanoseconds after which a trace of so many calls is assembled, if this `part` of compiling counts."""
    return SHARE * (assembling.each * n_calls + part * calls.compiling(n_calls) * 1e9)


class Assembling:
    """What assembling a trace and running it for the first time costs: nanoseconds `each` call, about the median of all so far."""

    def __init__(self, each: float) -> None:
        self.each = each

    def learn(self, export: Sequence[tuple]) -> Callable[[], None]:
        """Begin to measure; what is given ends that. One that waits for a compiler, or imports one, counts no more than others."""
        start, n_calls = thread_time_ns(), _n_calls(export)

        def end() -> None:
            is_more = thread_time_ns() - start > self.each * n_calls
            self.each *= STEP if is_more else 1 / STEP

        return end


#: By how much an estimate follows what is measured.
STEP = 1.1
assembling = Assembling(180_000)


def _n_calls(export: Sequence[tuple]) -> int:
    """How many calls a trace has, those of its gradients among them."""
    backwards = (entry[1] for entry in export if entry[0] == "backward")
    own = sum(entry[0] == "call" for entry in export)
    return own + sum(payload.calls for payload in backwards if isinstance(payload, Deferred))


def is_heavy(export: Sequence[tuple]) -> bool:
    """Whether a trace whose gradient is asked for will be assembled at once, for what it has cost so far."""
    costs = [entry[1].cost for entry in export if entry[0] == "call"]
    return sum(costs) > HEAVY * CHEAP * len(costs)


class _Steps:
    """A trace as steps: `inputs` are the slots that enter, `same` the slots of leaves with those of what they hold."""

    def __init__(self, calls: Any, sizes: Sequence[int]) -> None:
        self.calls, self.sizes = calls, sizes
        self.inputs: list[int] = []
        self.steps: list[Step] = []
        self.graphs: list[Graph] = []  # of the steps
        self.same: dict[int, int] = {}
        self.used_up: set[int] = set()
        self.imports = False
        self.cost = self.n_calls = 0

    def add(self, kind: str, *entry: Any) -> bool:
        """Add an entry of the export. False: the trace is to be assembled."""
        if kind == "call":
            payload, operands, results, *_ = entry
            self.cost += payload.cost
            self.n_calls += 1
            return self._step(payload.graph, [s for o in operands if o is not None for s in (o[0], *o[2])], results)
        if kind in ("input", "scalar"):
            self.inputs.append(entry[0])
        elif kind == "leaf" and entry[1] is not None:
            self.same[entry[0]] = self.same.get(entry[1], entry[1])
        elif kind == "backward" and isinstance(entry[0], Deferred):
            return self._backward(entry[0], [s for s in entry[2] if s is not None])
        else:  # what a backward by call reads of imported traces is among its steps
            self.imports |= kind == "segment"
            return kind in ("segment", "link", "leaf", "freed")
        return True

    def makes(self, live: Sequence[int]) -> bool:
        """Whether all that is read, and what is `live` then, has entered or was made before. Calls that were recorded by a gradient
        with create_graph read values of imported traces, which are no steps."""
        known = set(self.inputs)
        for _, operands, results in self.steps:
            if not known.issuperset(operands):
                return False
            known.update(results)
        return known.issuperset(live)

    def _step(self, graph: Graph, operands: Sequence[int], results: Sequence[int]) -> bool:
        found = self.calls.find(graph, self.sizes)
        if found is None:
            return False
        self.steps.append((found, [self.same.get(s, s) for s in operands] if self.same else operands, results))
        self.graphs.append(graph)
        return True

    def joined(self, live: Sequence[int]) -> Any:
        """All steps as one list, which gives what is `live` then."""
        return join_op_lists(self.steps, self.inputs, live)

    def renewed(self) -> bool:
        """Look for lists with more plans. False: there are none."""
        found = [self.calls.find(graph, self.sizes) for graph in self.graphs]
        if None in found or all(new is step[0] for new, step in zip(found, self.steps)):
            return False
        self.steps = [(new, *step[1:]) for new, step in zip(found, self.steps)]
        return True

    def _backward(self, payload: Deferred, slots: Sequence[int]) -> bool:
        steps = payload.take()
        if steps is None:
            return False
        self.cost += payload.cost
        self.n_calls += payload.calls
        self.used_up.update(payload.freed)
        named = dict(zip(payload.results, slots, strict=True))
        return all(
            self._step(graph, [named.get(v, v) for v in operands], [named.get(v, v) for v in results])
            for graph, operands, results in steps
        )


class _TraceWalk:
    """The calls of one trace as one list, which the recorder runs from then on at these sizes, and asks about from time to time.
    The lists of a few other sizes at which the trace has come lately stay beside it (`Program.earlier`).
    What it is made of is let go where the list is whole: that is many objects, and Python's collector looks at each."""

    __slots__ = ("_calls", "_list", "_live", "_made", "_n_calls", "program")

    program: Program

    def __init__(self, made: _Steps, live: Sequence[int]) -> None:
        self._made: _Steps | None = made
        self._live, self._calls, self._n_calls = live, made.calls, made.n_calls
        self._list: Any = None

    def __call__(self, inputs: Sequence[Any], donate: Sequence[bool], sizes: Sequence[int] = ()) -> list[Any]:
        if self._list is not None:
            return self._asked().run(inputs)
        start = thread_time_ns()
        program, op_list = self.program, self._joined()
        found = op_list.run(inputs)
        program.lasts = sizes
        program.spent += thread_time_ns() - start
        return found

    def _joined(self) -> Any:
        assert self._made is not None
        found = self._list = self.program.executable = self._made.joined(self._live)
        if found.is_whole:
            self._made = None
        return found

    def _asked(self) -> Any:
        """The list to run now. Where it has taken long enough, the trace is assembled when it comes again."""
        program, op_list = self.program, self._list
        spent, part, other = op_list.ns, COMPILING, program.earlier
        while other is not None:  # which would be compiled, too
            spent, part, other = spent + other.executable.ns, part + COMPILING, other.earlier
        if spent >= _due(self._calls, self._n_calls, min(part, RESIZED)):
            program.lasts, program.once, program.spent, program.earlier = None, _DUE, spent, None
        elif self._made is not None and self._made.renewed():
            self._joined().ns = op_list.ns
        return self._list
