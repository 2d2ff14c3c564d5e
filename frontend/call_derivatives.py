"""What the operands of one call get of the cotangent of its result; equal calls share it.

In: the graph of a call, which of its operands are wanted. Out: `Passing`, with a graph that has an output for each op that reads an
operand, since sums go by ops. Next: `call_gradients.py`, which goes through a trace with these.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from flambeau.dialects import autodiff
from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.cost import nanoseconds
from flambeau.dialects.graph import Graph
from flambeau.dialects.locks import process_lock
from flambeau.dialects.record import find
from flambeau.dialects.size_guards import remembered, scope
from flambeau.dialects.size_scopes import asking, current


class Known:
    """The graph of a call, told from others by identity, since equal calls share theirs.

    values      those of its values that may be read when its derivative runs, its inputs first
    slots       value -> slot, where it stands for several calls and gradients pass through their results
    passings    how gradients pass it, by which of its operands are wanted
    """

    __slots__ = ("graph", "passings", "slots", "values")

    def __init__(
        self, graph: Graph, values: Sequence[int] | None = None, slots: Mapping[int, int] = MappingProxyType({})
    ) -> None:
        self.graph, self.slots = graph, slots
        self.values = [*graph.inputs, *graph.outputs] if values is None else values
        self.passings: dict[bytes, Passing] = {}


_MOST = 4096
known_graphs: OrderedDict[int, Known] = OrderedDict()
_lock = process_lock()


def known(graph: Graph) -> Known:
    found = known_graphs.get(id(graph))
    if found is None or found.graph is not graph:
        with _lock:
            found = known_graphs[id(graph)] = Known(graph)
            if len(known_graphs) > _MOST:
                known_graphs.popitem(last=False)
    return found


class Term(NamedTuple):
    """What an op of a call contributes to an operand's cotangent: an output of the derivative, or (-1) the result's as it is."""

    operand: int
    node: int
    place: int  # among the op's operands
    output: int


class Derivative(NamedTuple):
    """What a call's operands get of the cotangent of one of its results.

    graph       the cotangent and the values `reads` in, terms out
    reads       places among the call's `values`
    passed      the operands on the way
    """

    graph: Graph
    reads: tuple[int, ...]
    terms: tuple[Term, ...]
    passed: tuple[int, ...]
    cost: int


class Passing(NamedTuple):
    """How gradients pass a call, in the layout that `pass_back` of the runtime reads (`call_gradients.h`): bytes are int32.

    result      which result hands on its cotangent, -1: none; `is_alone` where no other one does
    graph       that of the `Derivative`, None where there is none; `avals` the types of its outputs
    within      the slots of calls that the call stands for, those on the way
    met         its ops and operands in the order in which they are met, of so many ops
    """

    result: int
    is_alone: bool
    graph: Graph | None = None
    avals: tuple[Aval, ...] = ()
    cost: int = 0
    reads: bytes = b""
    terms: bytes = b""
    passed: bytes = b""
    within: bytes = b""
    met: bytes = b""
    n_ops: int = 0


def passing(call: Known, wanted: bytes) -> Passing:
    """How gradients pass a call, of whose operands some are `wanted`. Raises what an op says that has no gradient."""
    asked = current()
    with scope(asked.hints if asked else ()) as inner:
        found = _passing(call, wanted)
    if not inner.guards:  # it is so for all sizes
        call.passings[wanted] = found
    for guard in inner.guards:
        asking("the gradient of a call").require(guard)
    return found


@remembered(_MOST)
def _passing(call: Known, wanted: bytes) -> Passing:
    flags = tuple(map(bool, wanted))
    through = passes(call, flags)
    if not any(through):
        return Passing(-1, True)
    result, is_alone = through.index(True), through.count(True) == 1
    made, behind = derivative(call, flags, result), _numbers(within(call, flags, result))
    if made is None:
        return Passing(result, is_alone, within=behind)
    return Passing(
        result,
        is_alone,
        made.graph,
        tuple([made.graph.avals[v] for v in made.graph.outputs]),
        made.cost,
        _numbers(made.reads),
        _numbers([number for term in made.terms for number in term]),
        _numbers(made.passed),
        behind,
        _numbers(met(call, flags, result)),
        len(call.graph.nodes),
    )


def _numbers(numbers: Iterable[int]) -> bytes:
    return array("i", numbers).tobytes()


def passes(call: Known, wanted: tuple[bool, ...]) -> tuple[bool, ...]:
    """Which results' cotangents go on to the wanted operands."""
    needs = autodiff.requires_gradient(call.graph, _chosen(call.graph.inputs, wanted))
    return tuple([v in needs for v in call.graph.outputs])


def derivative(call: Known, wanted: tuple[bool, ...], result: int) -> Derivative | None:
    """None where its ops may not run here. What is read of values within the call is computed again. Raises what an op says that
    has no gradient."""
    graph = call.graph
    root, wrt, values = graph.outputs[result], _chosen(graph.inputs, wanted), call.values
    if not is_plain(graph):
        return None
    b = GraphBuilder()
    ct = b.input(graph.avals[root])
    forward = {v: b.input(graph.avals[v]) for v in values}
    split, uses = _split(graph, wrt)
    copies = {v: forward[graph.nodes[n].operands[place]] for v, (n, place) in uses.items()}
    found = autodiff.vjp(b, split, forward | copies, {root: ct}, list(uses))
    b.loc = None
    terms: list[Term] = []
    for (n, place), part in zip(uses.values(), found, strict=True):
        if part is None:
            continue
        if part.id != ct.id:
            b.graph.outputs.append(_own(b, part))
        output = -1 if part.id == ct.id else len(b.graph.outputs) - 1
        terms.append(Term(graph.inputs.index(graph.nodes[n].operands[place]), n, place, output))
    made = _without_dead(b.graph)
    reads = [k for k, v in enumerate(values) if forward[v].id in made.inputs]
    made.inputs = [ct.id, *(forward[values[k]].id for k in reads)]
    reached = _between(graph, root, wrt)
    passed = tuple([k for k, v in enumerate(graph.inputs) if v in reached])
    return Derivative(made, tuple(reads), tuple(terms), passed, nanoseconds(made))


def within(call: Known, wanted: tuple[bool, ...], result: int) -> tuple[int, ...]:
    """The slots of the calls that a call stands for, those on the way from a result to the wanted operands."""
    reached = _between(call.graph, call.graph.outputs[result], _chosen(call.graph.inputs, wanted)) if call.slots else ()
    return tuple([call.slots[v] for v in reached if v in call.slots])


def _split(graph: Graph, wrt: Sequence[int]) -> tuple[Graph, dict[int, tuple[int, int]]]:
    """The graph with a value of its own for each use of one of `wrt`; and these, each with the op and the place that reads it."""
    made = Graph(list(graph.avals), graph.inputs, [], graph.outputs, sizes=graph.sizes)
    uses: dict[int, tuple[int, int]] = {}
    for n, node in enumerate(graph.nodes):
        operands = list(node.operands)
        for place, v in enumerate(node.operands):
            if v in wrt:
                operands[place] = made.add_value(graph.avals[v])
                uses[operands[place]] = n, place
        made.nodes.append(node._replace(operands=tuple(operands)))
    return made, uses


def met(call: Known, wanted: tuple[bool, ...], result: int) -> tuple[int, ...]:
    """What `autodiff.depth_first` meets in a call, from a result down: node n as -1 - n, operand k, where it would go on, as k."""
    graph = call.graph
    producers = {v: n for n, node in enumerate(graph.nodes) for v in node.results}
    needs = autodiff.requires_gradient(graph, _chosen(graph.inputs, wanted))
    order: list[int] = []
    entered: set[int] = set()
    pending = [(graph.outputs[result], False)]
    while pending:
        value, left = pending.pop()
        n = producers.get(value)
        if n is None:
            order.append(graph.inputs.index(value))
        elif left:
            order.append(-1 - n)
        elif n not in entered:
            entered.add(n)
            pending.append((value, True))
            pending.extend((v, False) for v in reversed(graph.nodes[n].operands) if v in needs)
    return tuple(order)


def _chosen(items: Sequence[int], wanted: Sequence[bool]) -> list[int]:
    return [item for item, want in zip(items, wanted, strict=True) if want]


def _own(b: GraphBuilder, value: Value) -> int:
    """The value, or a copy where it is an input or another output."""
    taken = value.id in b.graph.inputs or value.id in b.graph.outputs
    return find("reshape")(value, shape=value.shape).id if taken else value.id


def is_plain(graph: Graph) -> bool:
    """Whether the ops are ones that may run by themselves here."""
    return all(a.device == CPU for a in graph.avals) and not any(n.regions or n.has_effect for n in graph.nodes)


def _without_dead(graph: Graph) -> Graph:
    """Without what no output needs; inputs are those that are read."""
    live, nodes = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if not live.isdisjoint(node.results):
            nodes.append(node)
            live.update(node.operands)
    return Graph(graph.avals, [v for v in graph.inputs if v in live], nodes[::-1], graph.outputs)


def _between(graph: Graph, root: int, wrt: Sequence[int]) -> set[int]:
    """The values on the way from a result to the operands, these included."""
    needs, reached = autodiff.requires_gradient(graph, wrt), {root}
    for node in reversed(graph.nodes):
        if not reached.isdisjoint(node.results):
            reached.update(v for v in node.operands if v in needs)
    return reached & needs


@remembered(64)
def ones(aval: Aval) -> Graph:
    b = GraphBuilder()
    b.graph.outputs = [b.constant(1, aval.dtype, aval.shape).id]
    return b.graph


@remembered(256)
def total(aval: Aval, other: Aval) -> Graph:
    b = GraphBuilder()
    b.graph.outputs = [(b.input(aval) + b.input(other)).id]
    return b.graph


@remembered(256)
def copied(aval: Aval) -> Graph:
    b = GraphBuilder()
    b.graph.outputs = [_own(b, b.input(aval))]
    return b.graph
