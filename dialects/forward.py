"""Forward-mode differentiation: tangents go through a program from its inputs on, beside the values that are there.

In: a graph, its forward values and the tangents of some of them. Out: the tangents of others, emitted with any builder. The rule
of an op is its record's vjp transposed: that is linear in the cotangents, so its own vjp by these, at tangents in the place of
cotangents, is the derivative of the op along them. Transposing happens once per op and types, on a scratch graph, of which only
what is linear in the tangents remains: no gradient is computed on the way. Next: `autodiff.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.dialects import autodiff
from flambeau.dialects.autodiff import (
    DerivativeGraph,
    depth_first,
    fragment,
    histories,
    make_fragment,
    requires_gradient,
)
from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.builder import Builder, GraphBuilder, Value
from flambeau.dialects.graph import Graph, Node, Region
from flambeau.dialects.record import NoGradient, OpRecord, find
from flambeau.dialects.region import build, inlined
from flambeau.dialects.rounding import accumulated, rounds_within
from flambeau.dialects.size_guards import remembered


def jvp(
    builder: Builder, graph: Graph, values: dict[int, Value], tangents: dict[int, Value], outputs: Sequence[int]
) -> list[Value | None]:
    """Emit the tangents of `outputs`, given those of some values of `graph`; None where nothing flows.

    `values` maps forward values to what they are in `builder`; those that are missing but read are computed again. Raises
    RuntimeError at an op without gradient on the way.
    """
    forward = autodiff.Forward(builder, graph, values)
    root = histories(graph)
    found = {root.get(v, v): t for v, t in tangents.items()}
    for node in _way(graph, tangents, outputs, root):
        given = [found.get(root.get(v, v)) for v in node.operands]
        if all(t is None for t in given) or not found.keys().isdisjoint(node.results):
            continue
        builder.loc = node.loc
        parts = _emit(builder, forward, node, given)
        found.update((v, t) for v, t in zip(node.results, parts, strict=True) if t is not None)
    return [found.get(root.get(v, v)) for v in outputs]


def readers(graph: Graph, outputs: Sequence[int], wrt: Sequence[int]) -> dict[int, set[int]]:
    """The forward values that tangents read on their way from `wrt` to `outputs`, each with the results of the nodes that do."""
    root = histories(graph)
    reached = {root.get(v, v) for v in wrt}
    read: dict[int, set[int]] = {}
    for node in _way(graph, wrt, outputs, root):
        given = tuple(root.get(v, v) in reached for v in node.operands)
        if not any(given) or not reached.isdisjoint(node.results):
            continue
        rule = _rule(graph, node, given)
        for value, used in zip((*node.results, *node.operands), rule.reads, strict=False):
            if used:
                read.setdefault(value, set()).update(node.results)
        reached.update(v for v, out in zip(node.results, rule.outputs, strict=True) if out is not None)
    return read


def _way(graph: Graph, tangents: Any, outputs: Sequence[int], root: dict[int, int]) -> list[Node]:
    """The nodes that tangents pass, each after those it depends on."""
    needs = requires_gradient(graph, list(tangents))
    return depth_first(graph, [root.get(v, v) for v in outputs], needs, root)


def _emit(builder: Builder, forward: autodiff.Forward, node: Node, given: Sequence[Value | None]) -> list[Value | None]:
    rule = _rule(forward.graph, node, tuple(t is not None for t in given))
    there = [t for t in given if t is not None]
    return rule.emit(builder, forward, (*node.results, *node.operands, *there), node.loc)


def _rule(graph: Graph, node: Node, given: tuple[bool, ...]) -> DerivativeGraph:
    """The tangents of a node's results, where the `given` ones of its operands have one. Inputs: results, operands, tangents."""
    if isinstance(node.op.vjp, NoGradient):
        fragment(graph, node, given, (True,) * len(node.results))  # raises
    operands, results = (tuple(graph.avals[v] for v in values) for values in (node.operands, node.results))
    return _make_rule(node.op, operands, results, node.attrs, given)


@remembered(4096)
def _make_rule(
    op: OpRecord, operands: tuple[Aval, ...], results: tuple[Aval, ...], attrs: tuple[Any, ...], given: tuple[bool, ...]
) -> DerivativeGraph:
    place = operands[0].device
    if place != CPU and op.moves_to is None:
        here = (tuple(a.on(CPU) for a in avals) for avals in (operands, results))
        return _make_rule(op, *here, attrs, given).on(place)
    scratch, parts = _transposed(op, operands, results, attrs, given)
    if any(a.dtype.is_narrow for a in operands) and rounds_within(scratch.graph):
        scratch, parts = _transposed(op, operands, results, attrs, given, rounded_once=True)
    return DerivativeGraph(scratch.graph, tuple([None if t is None else t.id for t in parts]))


def _transposed(
    op: OpRecord,
    operands: tuple[Aval, ...],
    results: tuple[Aval, ...],
    attrs: tuple[Any, ...],
    given: tuple[bool, ...],
    rounded_once: bool = False,
) -> tuple[GraphBuilder, list[Value | None]]:
    """The vjp of the vjp of an op by the cotangents of its results, on a scratch graph whose inputs are results, operands and the
    `given` tangents; `rounded_once`: computed in the dtypes that these accumulate in."""
    scratch = GraphBuilder()
    ys, xs, ts = (
        [scratch.input(a) for a in avals]
        for avals in (results, operands, [a for a, there in zip(operands, given, strict=True) if there])
    )
    if rounded_once:
        ys, xs, ts = ([v.cast(v.dtype.accumulation) for v in values] for values in (ys, xs, ts))
        attrs = tuple(map(accumulated, attrs))
    if op.name == "while_loop":
        left = iter(ts)
        regions: Any = attrs
        return scratch, _while(scratch, xs, [next(left) if there else None for there in given], *regions)
    flows = tuple(a.dtype.is_inexact for a in results)
    linear = make_fragment(op, tuple(x.aval for x in xs), tuple(y.aval for y in ys), attrs, given, flows)
    cts = linear.inputs[: len(ys)]
    values = dict(zip(linear.inputs, [*[y.like(0) for y in ys], *ys, *xs], strict=True))
    seeds: dict[int, Value] = {}
    left = iter(ts)
    for out, there in zip(linear.outputs, given, strict=True):
        t = next(left) if there else None
        if out is not None and t is not None:
            seeds[out] = seeds[out] + t if out in seeds else t
    graph = Graph(linear.avals, linear.inputs, linear.nodes, [v for v in linear.outputs if v is not None])
    wrt = [ct for ct, flow in zip(cts, flows, strict=True) if flow]
    found = dict(zip(wrt, autodiff.vjp(scratch, graph, values, seeds, wrt), strict=True))
    parts = [found.get(ct) for ct in cts]
    if rounded_once:
        parts = [t if t is None else t.cast(a.dtype) for t, a in zip(parts, results, strict=True)]
    return scratch, parts


# ---- loops --------------------------------------------------------------------------------------------------------


def _while(
    scratch: GraphBuilder, xs: Sequence[Value], ts: Sequence[Value | None], goes_on: Region, body: Region
) -> list[Value | None]:
    """A loop that carries the tangents beside the values, which it computes again."""
    n = len(body.outputs)
    there = _carried(body, [t is not None for t in ts])
    carried = [x.like(0) if t is None else t for x, t, has in zip(xs[:n], ts[:n], there) if has]
    fixed = [t for t in ts[n:] if t is not None]
    operands = [*xs[:n], *carried, *xs[n:], *fixed]

    def parted(values: Sequence[Value]) -> tuple[list[Value], list[Value | None]]:
        """The operands, and the tangents of each."""
        own = [*values[:n], *values[n + len(carried) : len(values) - len(fixed)]]
        first, rest = iter(values[n : n + len(carried)]), iter(values[len(values) - len(fixed) :])
        tangents = [next(first) if has else None for has in there]
        return own, [*tangents, *[None if t is None else next(rest) for t in ts[n:]]]

    def test(*values: Value) -> list[Value]:
        return inlined(goes_on, parted(values)[0])

    def step(*values: Value) -> list[Value]:
        own, tangents = parted(values)
        found, moved = _advanced(body, own, tangents)
        return [*found, *[y.like(0) if t is None else t for y, t, has in zip(found, moved, there) if has]]

    types = [v.aval for v in operands]
    attrs = (build(types, test), build(types, step))
    left = iter(scratch.emit_all(find("while_loop"), operands, attrs)[n:])
    return [next(left) if has else None for has in there]


def _advanced(
    region: Region, xs: Sequence[Value], ts: Sequence[Value | None]
) -> tuple[list[Value], list[Value | None]]:
    """What a region gives, and the tangents of that."""
    graph, b = region.graph, xs[0].builder
    known = dict(zip(graph.inputs, xs, strict=True))
    for node in graph.nodes:
        results = b.emit_all(node.op, [known[v] for v in node.operands], node.attrs)
        known.update(zip(node.results, results, strict=True))
    tangents = {v: t for v, t in zip(graph.inputs, ts, strict=True) if t is not None}
    return [known[v] for v in graph.outputs], jvp(b, graph, known, tangents, graph.outputs)


def _carried(body: Region, there: Sequence[bool]) -> list[bool]:
    """Which carried values have tangents in any round, where these operands have them at first."""
    n, flags = len(body.outputs), list(there)
    while True:
        found: list[bool] = []

        def rule(*values: Value) -> list[Value]:
            xs, left = values[: len(there)], iter(values[len(there) :])
            _, ts = _advanced(body, xs, [next(left) if has else None for has in flags])  # noqa: B023
            found.extend(t is not None for t in ts)  # noqa: B023
            return []

        build([*body.inputs, *[a for a, has in zip(body.inputs, flags, strict=True) if has]], rule)
        new = [had or has for had, has in zip(flags, found)] + flags[n:]
        if new == flags:
            return flags[:n]
        flags = new
