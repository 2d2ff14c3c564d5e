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
from typing import Any, NamedTuple

from flambeau.assembly import Differentiated
from flambeau.call_derivatives import Known, Term, copied, derivative, known, met, ones, passes, total
from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Graph

#: A graph, the values it reads and those it makes: slots, or numbers below 0.
Step = tuple[Graph, tuple[int, ...], tuple[int, ...]]


class Deferred:
    """The expansion of a backward entry, as `Differentiated`, whose `graph` and `operands` are made when they are asked for.

    `steps` compute the same: `results` are the gradients that there are, in order. None: they have been taken.
    """

    def __init__(
        self,
        name: str,
        steps: Sequence[Step],
        results: Sequence[int],
        freed: tuple[int, ...],
        cost: int,
        make: Callable[[], Differentiated],
    ) -> None:
        self.name, self.results, self.freed, self.cost = name, results, freed, cost
        self.steps: Sequence[Step] | None = steps
        self._make = make
        self._made: Differentiated | None = None

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


class _Passed(NamedTuple):
    """A call of the trace that gradients can pass: the slots of its operands and results, and which result hands them on."""

    call: Known
    wanted: tuple[bool, ...]
    operands: Sequence[int]
    result: int
    results: Sequence[int]

    @property
    def slot(self) -> int:
        return self.results[self.result]


class _Trace:
    """A trace up to a backward: the calls between `leaves` and whatever is made of them, and the slots that need gradients."""

    def __init__(self, leaves: Sequence[int]) -> None:
        self.calls: list[_Passed] = []
        self.needs = set(leaves)
        self.avals: dict[int, Aval] = {}

    def read(self, export: Sequence[tuple]) -> bool:
        """Whether the trace is one of calls alone, all of whose leaves are among those asked for."""
        leaves = frozenset(self.needs)
        for entry in export:
            kind = entry[0]
            if kind == "call":
                if not self._call(*entry[1:5]):
                    return False
            elif kind == "input":
                self.avals[entry[1]] = Aval(entry[2], entry[3], entry[6])
            elif kind == "leaf":
                if entry[2] is None or entry[1] not in leaves:
                    return False
                self.avals[entry[1]] = self.avals[entry[2]]
            elif kind != "scalar":
                return False
        return True

    def _call(
        self, payload: Any, operands: Sequence[tuple | None], results: Sequence[int], writes: Sequence[int]
    ) -> bool:
        graph = payload.graph
        for slot, value in zip(results, graph.outputs, strict=True):
            self.avals[slot] = graph.avals[value]
        values = [s for o in operands if o is not None for s in (o[0], *o[2])]
        wanted = tuple([s in self.needs for s in values])
        if True in wanted:
            call = known(graph)
            through = passes(call, wanted)
            if through.count(True) > 1:
                return False
            if True in through:
                k = through.index(True)
                self.needs.add(results[k])
                self.calls.append(_Passed(call, wanted, values, k, results))
        return max(writes, default=-1) < 0


class _Walk:
    """The steps of a backward in the making. `terms` are what cotangents are sums of, by slot, `avals` the types of the numbers
    below 0."""

    def __init__(self, trace: _Trace, root: int) -> None:
        self.trace, self.root = trace, root
        self.steps: list[Step] = []
        self.terms: dict[int, list[tuple[int, Term | None, int]]] = {}  # (call, term, its value)
        self.passed: set[int] = set()
        self.avals: dict[int, Aval] = {}
        self.cost = 0

    def step(self, graph: Graph, operands: tuple[int, ...]) -> tuple[int, ...]:
        results = tuple(range(-len(self.avals) - 1, -len(self.avals) - 1 - len(graph.outputs), -1))
        self.avals.update(zip(results, [graph.avals[v] for v in graph.outputs]))
        self.steps.append((graph, operands, results))
        return results

    def type_of(self, value: int) -> Aval:
        return self.avals[value] if value < 0 else self.trace.avals[value]

    def added(self, value: int, other: int) -> int:
        return self.step(total(self.type_of(value), self.type_of(other)), (value, other))[0]

    def seed(self, aval: Aval, given: int | None) -> None:
        self.passed.add(self.root)
        self.terms[self.root] = [(-1, None, self.step(ones(aval), ())[0] if given is None else given)]

    def back(self) -> bool:
        """Go back through the calls; False where one may not run by itself."""
        for number in range(len(self.trace.calls) - 1, -1, -1):
            passed = self.trace.calls[number]
            if passed.slot not in self.terms:
                continue
            made = derivative(passed.call, passed.wanted, passed.result)
            if made is None:
                return False
            ct, values = self.cotangent(passed.slot), [*passed.operands, *passed.results]
            outputs = self.step(made.graph, (ct, *[values[k] for k in made.reads])) if made.graph.outputs else ()
            self.cost += made.cost
            self.passed.update([values[k] for k in made.passed])
            for term in made.terms:
                value = outputs[term.output] if term.output >= 0 else ct
                self.terms.setdefault(values[term.operand], []).append((number, term, value))
        return True

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
    """The payload and the types of the gradients, arguments as those of the hook `expand_backward`; `make` gives the fragment."""
    refs = [loss, gradient, *(held for _, held in leaves)]
    if any(ref is not None and ref[1] is not None for ref in refs):  # seen through a view
        return None
    trace = _Trace([slot for slot, _ in leaves])
    if not trace.read(export):
        return None
    root = loss[0]
    walk = _Walk(trace, root)
    aval = trace.avals[root]
    if gradient is None and (aval.size != 1 or not aval.dtype.is_inexact or aval.dtype.is_complex):
        return None
    if gradient is not None and trace.avals.get(gradient[0]) != aval:
        return None
    if root in trace.needs:
        walk.seed(aval, None if gradient is None else gradient[0])
        if not walk.back():
            return None
    results, types = _gradients(walk, leaves)
    freed = () if retain_graph else tuple(sorted((walk.passed & trace.needs).difference(slot for slot, _ in leaves)))
    there = [r for r in results if r is not None]
    return Deferred("backward", walk.steps, there, freed, walk.cost, make), types


def _gradients(walk: _Walk, leaves: Sequence[tuple]) -> tuple[list[int | None], list[Aval | None]]:
    """What is found for the leaves, added to what they have; each a value of its own."""
    results: list[int | None] = []
    for slot, held in leaves:
        value = walk.cotangent(slot) if slot in walk.terms else None
        if value is not None and held is not None:
            value = walk.added(held[0], value)
        if value is not None and (value >= 0 or value in results):
            (value,) = walk.step(copied(walk.type_of(value)), (value,))
        results.append(value)
    return results, [None if r is None else walk.type_of(r) for r in results]
