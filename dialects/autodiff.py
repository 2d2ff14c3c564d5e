"""Reverse-mode differentiation: calls the records' vjps in reverse order and adds up what reaches each value.

In: a graph, its forward values and the cotangents of some of them. Out: cotangents of the values in `wrt`, emitted with
any builder: the compiler passes a `GraphBuilder`, and where gradients must themselves be recorded the recorder passes
its own. vjps are run once per op and types, on a scratch graph, where what nobody needs is dropped; the rest is then
emitted. Next: `record.py` for what a vjp is.

Order of addition, fixed by the structure of the program alone, so that it matters neither in which order nor in how
many traces independent ops were recorded: nodes are visited in reverse of the depth-first order in which the outputs
reach them, operands from left to right; a value's cotangent is ((given + first visited) + second visited) + ...
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy
from itertools import compress
from typing import Any

from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.builder import Builder, GraphBuilder, Value
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.record import NoGradient, OpRecord, find
from flambeau.dialects.rounding import accumulated, rounds_within
from flambeau.dialects.size_guards import remembered


def vjp(
    builder: Builder,
    graph: Graph,
    values: dict[int, Value],
    cotangents: dict[int, Value],
    wrt: Sequence[int],
    hooks: Mapping[int, Callable[[Value], Value]] | None = None,
    check: Callable[[Node, Sequence[Value | None]], None] | None = None,
) -> list[Value | None]:
    """Emit the cotangents of `wrt`, given those of some values of `graph`; None where nothing flows.

    `values` maps forward values to what they are in `builder`; those that are missing but read are computed again from
    their operands (see `residuals`). `hooks[v]` may replace the cotangent of v, no graft's result, once it is complete.
    `check` is called with each op and what its vjp gave.
    Raises RuntimeError at an op without gradient on the way.
    """
    forward = Forward(builder, graph, values)
    needs = requires_gradient(graph, wrt)
    root = histories(graph)
    producers = graph.producers() if hooks else {}
    found: dict[int, Value] = {}
    for v, ct in cotangents.items():
        if v in needs:
            _accumulate(found, root.get(v, v), ct)
    for node in reversed(depth_first(graph, found, needs, root)):
        if found.keys().isdisjoint(node.results):
            continue
        builder.loc = node.loc
        for v in node.results:
            if hooks and v in hooks and v in found:
                found[v] = hooks[v](found[v])
        wanted = tuple(v in needs for v in node.operands)
        if not any(wanted):
            continue
        cts = [found.get(v) for v in node.results]
        parts = _emit_vjp(builder, forward, node, cts, wanted)
        if check is not None:
            check(node, parts)
        for operand, part in zip(node.operands, parts, strict=True):
            if part is not None:
                _accumulate(found, root.get(operand, operand), part)
    for v, hook in (hooks or {}).items():
        if v in found and v not in producers:
            found[v] = hook(found[v])
    return [found.get(root.get(v, v)) for v in wrt]


def _accumulate(found: dict[int, Value], value: int, part: Value) -> None:
    found[value] = part if value not in found else find("add")(found[value], part)


def histories(graph: Graph) -> dict[int, int]:
    """Where the cotangents of grafted values go: the result of a `graft` stands for its second operand. So it does not
    matter for the order of addition how many traces a value has passed through."""
    root: dict[int, int] = {}
    for node in graph.nodes:
        if node.op.name == "graft":
            root[node.results[0]] = root.get(node.operands[1], node.operands[1])
    return root


def depth_first(graph: Graph, outputs: Iterable[int], values: set[int], root: Mapping[int, int]) -> list[Node]:
    """The nodes that `outputs` depend on through `values`, each after those it depends on: depth first, left to right.

    `root[v]` stands for v, see `histories`.
    """
    producers = graph.producers()
    order: list[Node] = []
    entered: set[int] = set()
    for output in outputs:
        pending = [(output, False)]
        while pending:
            value, left = pending.pop()
            node = producers.get(value)
            if node is None:
                continue
            if left:
                order.append(node)
            elif node.results[0] not in entered:
                entered.add(node.results[0])
                pending.append((value, True))
                pending.extend((root.get(v, v), False) for v in reversed(node.operands) if v in values)
    return order


def requires_gradient(graph: Graph, wrt: Iterable[int]) -> set[int]:
    """The floating-point values through which a cotangent can reach `wrt`, these included.

    Integers and booleans never get one. Operands whose vjp gives None cut the path; an op without gradient does not, so
    that `vjp` can refuse it when it is reached.
    """
    needs = {v for v in wrt if graph.avals[v].dtype.is_inexact}
    for node in graph.nodes:
        if needs.isdisjoint(node.operands):
            continue
        wanted = tuple([v in needs for v in node.operands])
        for k, result in enumerate(node.results):
            if graph.avals[result].dtype.is_inexact and _passes(graph, node, k, wanted):
                needs.add(result)
    return needs


def _passes(graph: Graph, node: Node, k: int, wanted: tuple[bool, ...]) -> bool:
    """Whether a cotangent of result `k` reaches one of the wanted operands, or would have to."""
    given = tuple([i == k for i in range(len(node.results))])
    return any(_arrives(graph, node, wanted, given))


def _arrives(graph: Graph, node: Node, wanted: tuple[bool, ...], given: tuple[bool, ...]) -> Sequence[bool]:
    """Whether a cotangent reaches each operand, if it is wanted, or would have to, given those of some results. What an op with
    regions says of itself takes no derivative of these: the loops in a loop would be differentiated once for each of its values."""
    if isinstance(node.op.vjp, NoGradient):
        return wanted
    if node.op.reaches is not None:
        return [want and there for want, there in zip(wanted, node.op.reaches(given, *node.attrs), strict=True)]
    return [v is not None for v in fragment(graph, node, wanted, given).outputs]


def arriving(graph: Graph, outputs: Iterable[int], wrt: Iterable[int]) -> set[int]:
    """The values that have a cotangent, or would have to, where `outputs` have one and that of `wrt` is asked for."""
    needs = requires_gradient(graph, wrt)
    reached = {v for v in outputs if v in needs}
    for node in reversed(graph.nodes):
        if reached.isdisjoint(node.results) or needs.isdisjoint(node.operands):
            continue
        wanted = tuple([v in needs for v in node.operands])
        flags = _arrives(graph, node, wanted, tuple([v in reached for v in node.results]))
        reached.update(compress(node.operands, flags))
    return reached


def readers(graph: Graph, outputs: Sequence[int], wrt: Sequence[int]) -> dict[int, set[int]]:
    """The forward values that the vjps on the way from `outputs` to `wrt` read, each with the results of the nodes
    whose vjps read it."""
    needs = requires_gradient(graph, wrt)
    reached = {v for v in outputs if v in needs}
    read: dict[int, set[int]] = {}
    for node in reversed(graph.nodes):
        if reached.isdisjoint(node.results) or needs.isdisjoint(node.operands) or isinstance(node.op.vjp, NoGradient):
            continue  # `vjp` refuses the last
        wanted = tuple([v in needs for v in node.operands])
        given = tuple([v in reached for v in node.results])
        part = fragment(graph, node, wanted, given)
        for value, used in zip((*node.results, *node.operands), part.reads[len(given) :], strict=True):
            if used:
                read.setdefault(value, set()).update(v for v in node.results if v in reached)
        reached.update(v for v, out in zip(node.operands, part.outputs, strict=True) if out is not None)
    return read


def residuals(graph: Graph, outputs: Sequence[int], wrt: Sequence[int], known: Collection[int] = ()) -> list[int]:
    """The values to keep when the forward runs before the backward: everything that vjps read (`readers`) can be computed
    again from them and what is `known`. Kept are the graph's inputs and the results of ops whose records say `keep`."""
    producers = graph.producers()
    keep: set[int] = set()
    seen: set[int] = set()
    pending = sorted(readers(graph, outputs, wrt))
    while pending:
        value = pending.pop()
        if value in seen or value in known:
            continue
        seen.add(value)
        node = producers.get(value)
        if node is None or node.op.keep:
            keep.add(value)
        else:
            pending.extend(node.operands)
    return sorted(keep)


class Forward:
    """The forward's values in a builder, computed again where they were not given."""

    def __init__(self, builder: Builder, graph: Graph, values: dict[int, Value]) -> None:
        self.builder, self.graph, self.values = builder, graph, dict(values)
        self.producers: dict[int, Node] | None = None

    def __getitem__(self, value: int) -> Value:
        if value not in self.values:
            self._recompute(value)
        return self.values[value]

    def _recompute(self, value: int) -> None:
        if self.producers is None:
            self.producers = self.graph.producers()
        pending = [value]
        while pending:
            node = self.producers.get(pending[-1])
            if node is None:
                raise KeyError(f"[vjp] input {pending[-1]} of the graph is read by a gradient but was not given.")
            missing = [v for v in node.operands if v not in self.values]
            if missing:
                pending.extend(reversed(missing))
                continue
            pending.pop()
            if not self.values.keys() >= set(node.results):
                self.builder.loc = node.loc
                operands = [self.values[v] for v in node.operands]
                with self.builder.on(self.graph.avals[node.results[0]].device):
                    results = self.builder.emit_all(node.op, operands, node.attrs)
                self.values = {**dict(zip(node.results, results, strict=True)), **self.values}


class DerivativeGraph:
    """What an op's derivative computes, as a graph without dead nodes; `reads` says which of its inputs are used. That of a vjp
    takes cotangents, results, operands, and its `outputs` has one value, or None, per operand of the node."""

    def __init__(self, graph: Graph, outputs: tuple[int | None, ...]) -> None:
        live = {v for v in outputs if v is not None}
        nodes = []
        for node in reversed(graph.nodes):
            if not live.isdisjoint(node.results):
                nodes.append(node)
                live.update(node.operands)
        self.inputs, self.nodes, self.outputs, self.avals = graph.inputs, nodes[::-1], outputs, graph.avals
        self.reads = tuple(v in live for v in graph.inputs)

    def emit(
        self, builder: Builder, forward: Forward, sources: Sequence[Value | int | None], loc: Any
    ) -> list[Value | None]:
        """Its outputs, emitted with `builder`. `sources` are its inputs: values, or what they are in the forward."""
        local: dict[int, Value] = {}
        avals, is_typed = self.avals, True
        for slot, used, source in zip(self.inputs, self.reads, sources, strict=True):
            if used:
                assert source is not None  # a rule gets None for a cotangent that is not there
                value = local[slot] = forward[source] if isinstance(source, int) else source
                is_typed = is_typed and value.aval.is_same(avals[slot])
        for step in self.nodes:
            builder.loc = loc
            operands, types = [local[v] for v in step.operands], [avals[v] for v in step.results]
            with builder.on(types[0].device):
                if is_typed:
                    results = builder.emit_typed(step.op, operands, step.attrs, types)
                else:
                    results = builder.emit_all(step.op, operands, step.attrs)
            local.update(zip(step.results, results, strict=True))
        return [None if v is None else local[v] for v in self.outputs]

    def only(self, wanted: Sequence[bool]) -> DerivativeGraph:
        """That of some operands."""
        graph = Graph(self.avals, self.inputs, self.nodes, [])
        return DerivativeGraph(
            graph, tuple([v if want else None for v, want in zip(self.outputs, wanted, strict=True)])
        )

    def on(self, device: str) -> DerivativeGraph:
        """The same where all values lie on a device."""
        found = copy(self)
        found.avals = [a.on(device) for a in self.avals]
        return found


def fragment(graph: Graph, node: Node, wanted: tuple[bool, ...], given: tuple[bool, ...]) -> DerivativeGraph:
    """What the vjp of a node gives its `wanted` operands, where the `given` ones of its results have a cotangent."""
    if isinstance(node.op.vjp, NoGradient):
        place = f" ({node.loc})" if node.loc else ""
        raise RuntimeError(f"[{node.op.name}] has no gradient: {node.op.vjp.reason}. Detach its operands{place}.")
    avals = graph.avals
    operands, results = tuple([avals[v] for v in node.operands]), tuple([avals[v] for v in node.results])
    return make_fragment(node.op, operands, results, node.attrs, wanted, given)


@remembered(4096)
def make_fragment(
    op: OpRecord,
    operands: tuple[Aval, ...],
    results: tuple[Aval, ...],
    attrs: tuple[Any, ...],
    wanted: tuple[bool, ...],
    given: tuple[bool, ...],
) -> DerivativeGraph:
    place = operands[0].device
    if place != CPU and op.moves_to is None:  # rules know of no devices, nor do regions
        here = (tuple(a.on(CPU) for a in avals) for avals in (operands, results))
        return make_fragment(op, *here, attrs, wanted, given).on(place)
    if op.regions and not all(wanted):  # which ones are makes no difference to the rule, and regions are long
        whole = make_fragment(op, operands, results, attrs, (True,) * len(wanted), given)
        return whole.only(wanted)
    scratch, parts = _run_vjp(op, operands, results, attrs, given)
    if any(a.dtype.is_narrow for a in operands) and rounds_within(scratch.graph):
        scratch, parts = _run_vjp(op, operands, results, attrs, given, rounded_once=True)
    outputs = []
    for part, aval, want in zip(parts, operands, wanted, strict=True):
        if want and part is not None and part.aval != aval:
            raise RuntimeError(f"[{op.name}] its vjp gives {part.aval} for an operand of type {aval}. Fix the record.")
        outputs.append(part.id if want and part is not None else None)
    return DerivativeGraph(scratch.graph, tuple(outputs))


def _run_vjp(
    op: OpRecord,
    operands: tuple[Aval, ...],
    results: tuple[Aval, ...],
    attrs: tuple[Any, ...],
    given: tuple[bool, ...],
    rounded_once: bool = False,
) -> tuple[GraphBuilder, list[Value | None]]:
    """What the rule of an op gives, on a scratch graph whose inputs are cotangents, results and operands; `rounded_once`:
    computed in the dtypes that these accumulate in."""
    scratch = GraphBuilder()
    cts, ys, xs = (tuple(map(scratch.input, avals)) for avals in (results, results, operands))
    if rounded_once:
        cts, ys, xs = (tuple(v.cast(v.dtype.accumulation) for v in values) for values in (cts, ys, xs))
        attrs = tuple(map(accumulated, attrs))
    there = tuple(ct if is_given else None for ct, is_given in zip(cts, given, strict=True))
    vjp_rule: Any = op.vjp
    parts = list(vjp_rule(*(there + ys if op.is_single else (there, ys)), *xs, *attrs))
    if len(parts) != len(operands):
        raise RuntimeError(
            f"[{op.name}] its vjp gives {len(parts)} cotangents for {len(operands)} operands. Fix the record."
        )
    if rounded_once:
        parts = [p if p is None else p.cast(aval.dtype) for p, aval in zip(parts, operands, strict=True)]
    return scratch, parts


def _emit_vjp(
    builder: Builder, forward: Forward, node: Node, cts: Sequence[Value | None], wanted: tuple[bool, ...]
) -> list[Value | None]:
    part = fragment(forward.graph, node, wanted, tuple(ct is not None for ct in cts))
    return part.emit(builder, forward, (*cts, *node.results, *node.operands), node.loc)
