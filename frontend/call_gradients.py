"""backward() in a short new trace, call by call: what is seen once mostly never comes again, and equal calls have equal gradients.

In: the export of a trace that reads nothing overwritten since, and what a backward asks of it. Out: `Deferred`, the payload of the
entry: its gradients as steps that `walk.py` runs, which equal calls share; or None where the gradients are worked out at once. What
a trace as a graph has there, the gradients as a fragment, is made when that is asked for: where the trace comes again.

The bits are those of the fragment. A value's cotangent is a sum in the order of `dialects/autodiff.py`, which goes by ops, not by
calls: so a call says what each of its ops contributes, and in which order they and its operands are met.
Next: `call_derivatives.py`; `runtime/binding/call_gradients.c`, which goes back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

from flambeau.assembly import Differentiated
from flambeau.call_derivatives import copied, is_plain, known, known_graphs, ones, passing, total
from flambeau.call_history import CallHistory, call_histories
from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Graph
from flambeau.dialects.size_guards import scope
from flambeau.runtime import recorder
from flambeau.runtime._binding import pass_back

#: A graph, the values it reads and those it makes: slots, or numbers below 0.
Step = tuple[Graph, tuple[int, ...], tuple[int, ...]]


class Asked(NamedTuple):
    """What a backward asks of a trace: the `export`, and arguments as those of the hook `expand_backward`. `make` gives the
    fragment of gradients, at the trace's `sizes`."""

    export: Sequence[tuple]
    loss: tuple
    gradient: tuple | None
    leaves: Sequence[tuple]
    retain_graph: bool
    sizes: tuple[int, ...]
    make: Callable[[Asked], Differentiated]


class Deferred:
    """The expansion of a backward entry, as `Differentiated`, whose `graph` and `operands` are made when they are asked for.

    `take` gives steps that compute the same: `results` are the gradients that there are, in order, of these `types`; they stand for
    so many `calls`. They are many objects, and made again where they have been taken.
    """

    __slots__ = ("_asked", "_made", "_steps", "calls", "cost", "freed", "name", "results", "types")

    def __init__(
        self,
        name: str,
        steps: Sequence[Step],
        results: Sequence[int],
        types: Sequence[Aval],
        freed: tuple[int, ...],
        cost: int,
        calls: int,
        asked: Asked,
    ) -> None:
        self.name, self.results, self.types, self.freed = name, results, types, freed
        self.cost, self.calls = cost, calls
        self._steps: Sequence[Step] | None = steps
        self._asked = asked
        self._made: Differentiated | None = None

    def take(self) -> Sequence[Step] | None:
        steps, self._steps = self._steps, None
        if steps is None and (made := self._again()) is not None:  # calls may be joined in another way by now
            steps, self.results = made._steps, made.results
        return steps

    def _again(self) -> Deferred | None:
        with scope(recorder.trace_sizes()):  # what it asks of them was asked before
            made = call_by_call(self._asked)
        return made and made[0]

    @property
    def made(self) -> Differentiated:
        """What is asked for: the whole fragment."""
        found = self._made
        if found is None:
            found = self._made = self._asked.make(self._asked)
        return found

    @property
    def graph(self) -> Graph:
        return self.made.graph

    @property
    def operands(self) -> tuple[int, ...]:
        return self.made.operands

    def _replace(self, **changes: Any) -> Differentiated:
        return self.made._replace(**changes)


class _BackwardWalk:
    """The steps of a backward in the making, which `pass_back` adds to and asks. `avals` are the types of the numbers below 0."""

    def __init__(self, trace: CallHistory, aval: Aval, given: int | None) -> None:
        self.trace, self._aval, self._given = trace, aval, given
        self.again: dict[int, int] = {}  # slot of an imported trace that was not kept -> its value, computed again
        self.steps: list[Step] = []
        self.avals: list[Aval] = []

    def step(self, graph: Graph, operands: tuple[int, ...]) -> tuple[int, ...]:
        first = -len(self.avals) - 1
        self.avals += [graph.avals[v] for v in graph.outputs]
        results = tuple(range(first, -len(self.avals) - 1, -1))
        self.steps.append((graph, operands, results))
        return results

    def type_of(self, value: int) -> Aval:
        return self.avals[-1 - value] if value < 0 else cast(Aval, self.trace.type_of(value))

    def added(self, value: int, other: int) -> int:
        return self.step(total(self.type_of(value), self.type_of(other)), (value, other))[0]

    def seed(self) -> int:
        """The cotangent of the loss."""
        return self.step(ones(self._aval), ())[0] if self._given is None else self._given

    def value(self, slot: int, at: int) -> int | None:
        """The value of a slot that the call in this place read, where need be computed again; None where it cannot be, or its
        tensor has been overwritten since."""
        trace, first = self.trace, self.trace.data_of(slot)
        if trace.overwritten.get(first, 0) > at:
            return None
        pending = [first]
        while pending:
            slot = pending[-1]
            if slot in self.again or slot in trace.own:
                pending.pop()
                continue
            made = trace.made_by(slot)
            if made is None or not is_plain(made[0]):
                return None
            operands = [trace.data_of(v) for v in made[1]]
            missing = [v for v in operands if v not in self.again and v not in trace.own]
            if missing:
                pending += missing
                continue
            results = self.step(made[0], tuple([self.again.get(v, v) for v in operands]))
            self.again.update(zip(made[2], results, strict=True))
        return self.again.get(first, first)


def call_by_call(asked: Asked) -> tuple[Deferred, list[Aval | None]] | None:
    """The payload, which keeps what is asked, and the types of the gradients."""
    export, loss, gradient, leaves = asked[:4]
    refs = [loss, gradient, *(held for _, held in leaves)]
    if any(ref is not None and ref[1] is not None for ref in refs):  # seen through a view
        return None
    for trace in call_histories(export, [slot for slot, _ in leaves]):
        root, aval = trace.meeting(loss[0]), trace.type_of(loss[0])
        if aval is None or (
            gradient is None and (aval.size != 1 or not aval.dtype.is_inexact or aval.dtype.is_complex)
        ):
            return None
        if gradient is not None and trace.type_of(gradient[0]) != aval:
            return None
        walk = _BackwardWalk(trace, aval, None if gradient is None else trace.data_of(gradient[0]))
        wrt = tuple([trace.meeting(slot) for slot, _ in leaves])
        passed = pass_back(trace, walk, root, wrt, known_graphs, known, passing)
        if passed is not None:
            break
    else:
        return None
    found, ended, cost, n_joined = passed
    results, types = _gradients(walk, found, [held for _, held in leaves])
    freed = () if asked.retain_graph else ended
    there, kinds = [r for r in results if r is not None], [t for t in types if t is not None]
    calls = len(walk.steps) + n_joined
    return Deferred("backward", walk.steps, there, kinds, freed, cost, calls, asked), types


def _gradients(
    walk: _BackwardWalk, found: Sequence[int | None], held: Sequence[tuple | None]
) -> tuple[list[int | None], list[Aval | None]]:
    """What is found for the leaves, added to what they have; each a value of its own."""
    results: list[int | None] = []
    for value, ref in zip(found, held, strict=True):
        if value is not None and ref is not None:
            value = walk.added(ref[0], value)
        if value is not None and (value >= 0 or value in results):
            (value,) = walk.step(copied(walk.type_of(value)), (value,))
        results.append(value)
    return results, [None if r is None else walk.type_of(r) for r in results]
