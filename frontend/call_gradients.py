"""backward() in a short new trace, call by call: what is seen once mostly never comes again, and equal calls have equal gradients.

In: the export of a trace in which nothing was overwritten, and what a backward asks of it. Out: `Deferred`, the payload of the
entry: its gradients as steps that `walk.py` runs, which equal calls share; or None where the gradients are worked out at once. What
a trace as a graph has there, the gradients as a fragment, is made when that is asked for: where the trace comes again.

The bits are those of the fragment. A value's cotangent is a sum in the order of `dialects/autodiff.py`, which goes by ops, not by
calls: so a call says what each of its ops contributes, and in which order they and its operands are met.
Next: `call_derivatives.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, cast

from flambeau.assembly import Differentiated
from flambeau.call_derivatives import Term, copied, derivative, is_plain, met, ones, total
from flambeau.call_history import CallHistory, call_history
from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Graph
from flambeau.dialects.size_guards import scope
from flambeau.runtime import recorder

#: A graph, the values it reads and those it makes: slots, or numbers below 0.
Step = tuple[Graph, tuple[int, ...], tuple[int, ...]]


class Deferred:
    """The expansion of a backward entry, as `Differentiated`, whose `graph` and `operands` are made when they are asked for.

    `take` gives steps that compute the same: `results` are the gradients that there are, in order, of these `types`; they stand for
    so many `calls`. They are many objects, and made `again` where they have been taken.
    """

    def __init__(
        self,
        name: str,
        steps: Sequence[Step],
        results: Sequence[int],
        types: Sequence[Aval],
        freed: tuple[int, ...],
        cost: int,
        calls: int,
        make: Callable[[], Differentiated],
        again: Callable[[], Deferred | None],
    ) -> None:
        self.name, self.results, self.types, self.freed = name, results, types, freed
        self.cost, self.calls = cost, calls
        self._steps: Sequence[Step] | None = steps
        self._make, self._again = make, again
        self._made: Differentiated | None = None

    def take(self) -> Sequence[Step] | None:
        steps, self._steps = self._steps, None
        if steps is None and (made := self._again()) is not None:  # calls may be joined in another way by now
            steps, self.results = made._steps, made.results
        return steps

    @property
    def made(self) -> Differentiated:
        """What is asked for: the whole fragment."""
        found = self._made
        if found is None:
            found = self._made = self._make()
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
    """The steps of a backward in the making. `terms` are what cotangents are sums of, by slot, `avals` the types of the numbers
    below 0."""

    def __init__(self, trace: CallHistory, root: int) -> None:
        self.trace, self.root = trace, root
        self.again: dict[int, int] = {}  # slot of an imported trace that was not kept -> its value, computed again
        self.steps: list[Step] = []
        self.terms: dict[int, list[tuple[int, Term | None, int]]] = {}  # (call, term, its value)
        self.passed: set[int] = set()
        self.avals: dict[int, Aval] = {}
        self.cost = 0
        self.n_joined = 0  # calls that have no steps of their own

    def step(self, graph: Graph, operands: tuple[int, ...]) -> tuple[int, ...]:
        results = tuple(range(-len(self.avals) - 1, -len(self.avals) - 1 - len(graph.outputs), -1))
        self.avals.update(zip(results, [graph.avals[v] for v in graph.outputs]))
        self.steps.append((graph, operands, results))
        return results

    def type_of(self, value: int) -> Aval:
        return self.avals[value] if value < 0 else cast(Aval, self.trace.type_of(value))

    def added(self, value: int, other: int) -> int:
        return self.step(total(self.type_of(value), self.type_of(other)), (value, other))[0]

    def seed(self, aval: Aval, given: int | None) -> None:
        self.passed.add(self.root)
        self.terms[self.root] = [(-1, None, self.step(ones(aval), ())[0] if given is None else given)]

    def back(self) -> bool:
        """Go back through the calls; False where one may not run by itself, or what it reads is not there any more."""
        for number in range(len(self.trace.calls) - 1, -1, -1):
            passed = self.trace.calls[number]
            if passed.slot not in self.terms:
                continue
            made = derivative(passed.call, passed.wanted, passed.result)
            if made is None or passed.slot in self.trace.freed:
                return False
            if made.within and not self._go_within(passed.base, made.within):
                return False
            ct = self.cotangent(passed.slot)
            read = [self.value(passed.values[k], passed.at) for k in made.reads]
            if None in read:
                return False
            outputs = self.step(made.graph, (ct, *read)) if made.graph.outputs else ()  # type: ignore[arg-type]
            self.cost += made.cost
            self.passed.update([passed.operands[k] for k in made.passed])
            for term in made.terms:
                value = outputs[term.output] if term.output >= 0 else ct
                self.terms.setdefault(passed.operands[term.operand], []).append((number, term, value))
        return True

    def _go_within(self, base: int, slots: Sequence[int]) -> bool:
        """Whether the history of calls that were joined is still there."""
        inner = [base + s for s in slots]
        self.passed.update(inner)
        self.n_joined += len(inner) - 1
        return self.trace.freed.isdisjoint(inner)

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

    def cotangent(self, slot: int) -> int:
        """The sum of the terms that there are for a slot, all of whose readers have been gone through."""
        terms = self.terms[slot]
        if len(terms) > 2:  # two can be added in any order
            order = self.order
            terms.sort(key=lambda t: (-order[t[0], t[1].node], t[1].place) if t[1] else (-len(order), 0))
        first, *rest = [value for _, _, value in terms]
        for value in rest:
            first = self.added(first, value)
        return first

    @cached_property
    def order(self) -> dict[tuple[int, int], int]:
        """The ops of the calls in the order of `autodiff.depth_first`."""
        calls = self.trace.calls
        makers = {passed.slot: number for number, passed in enumerate(calls)}
        order: dict[tuple[int, int], int] = {}
        entered = {makers[self.root]}
        pending = [(makers[self.root], iter(met(*calls[makers[self.root]][:2], calls[makers[self.root]].result)))]
        while pending:
            number, rest = pending[-1]
            for k in rest:
                below = makers.get(calls[number].operands[k]) if k >= 0 else None
                if k < 0:
                    order[number, -1 - k] = len(order)
                elif below is not None and below not in entered:
                    entered.add(below)
                    pending.append((below, iter(met(*calls[below][:2], calls[below].result))))
                    break
            else:
                pending.pop()
        return order


def call_by_call(
    export: Sequence[tuple],
    loss: tuple,
    gradient: tuple | None,
    leaves: Sequence[tuple],
    retain_graph: bool,
    make: Callable[[], Differentiated],
) -> tuple[Deferred, list[Aval | None]] | None:
    """The payload and the types of the gradients, arguments as those of the hook `expand_backward`; `make` gives the fragment. The
    payload keeps the export."""
    refs = [loss, gradient, *(held for _, held in leaves)]
    if any(ref is not None and ref[1] is not None for ref in refs):  # seen through a view
        return None
    trace = call_history(export, [slot for slot, _ in leaves], loss[0])
    if trace is None:
        return None
    root = trace.meeting(loss[0])
    walk, aval = _BackwardWalk(trace, root), trace.type_of(loss[0])
    if aval is None or (gradient is None and (aval.size != 1 or not aval.dtype.is_inexact or aval.dtype.is_complex)):
        return None
    if gradient is not None and trace.type_of(gradient[0]) != aval:
        return None
    if root in trace.needs:
        walk.seed(aval, None if gradient is None else trace.data_of(gradient[0]))
        if not walk.back():
            return None
    results, types = _gradients(walk, leaves)
    freed = (
        () if retain_graph else tuple(sorted((walk.passed & trace.needs).difference(map(trace.meeting, trace.leaves))))
    )
    there, kinds = [r for r in results if r is not None], [t for t in types if t is not None]

    def again() -> Deferred | None:
        with scope(recorder.trace_sizes()):  # what it asks of them was asked before
            made = call_by_call(export, loss, gradient, leaves, retain_graph, make)
        return made and made[0]

    calls = len(walk.steps) + walk.n_joined
    return Deferred("backward", walk.steps, there, kinds, freed, walk.cost, calls, make, again), types


def _gradients(walk: _BackwardWalk, leaves: Sequence[tuple]) -> tuple[list[int | None], list[Aval | None]]:
    """What is found for the leaves, added to what they have; each a value of its own."""
    results: list[int | None] = []
    for slot, held in leaves:
        place = walk.trace.meeting(slot)
        value = walk.cotangent(place) if place in walk.terms else None
        if value is not None and held is not None:
            value = walk.added(held[0], value)
        if value is not None and (value >= 0 or value in results):
            (value,) = walk.step(copied(walk.type_of(value)), (value,))
        results.append(value)
    return results, [None if r is None else walk.type_of(r) for r in results]
