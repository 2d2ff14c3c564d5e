"""Making regions: from a function on values, as the derivative of another, without inputs that nobody reads.

In: types, rules, `Region`s. Out: `Region`s, and what the records of ops that run them check. Next: `tape/control.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

from flambeau.dialects import autodiff
from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.builder import Builder, GraphBuilder, Value
from flambeau.dialects.graph import Graph, Region
from flambeau.dialects.size_guards import remembered


def build(inputs: Sequence[Aval], rule: Callable[..., Sequence[Value]]) -> Region:
    """The region that computes what `rule(*values)` gives."""
    b = GraphBuilder()
    b.graph.outputs = [v.id for v in rule(*map(b.input, inputs))]
    return Region(without_dead_code(b.graph))


def inlined(region: Region, values: Sequence[Value], builder: Builder | None = None) -> list[Value]:
    """What the region gives for `values`, written into their builder, which a region without inputs is to be told."""
    graph, b = region.graph, builder or values[0].builder
    known = dict(zip(graph.inputs, values, strict=True))
    for node in graph.nodes:
        b.loc = node.loc or b.loc
        with b.on(values[0].aval.device if values else b.device):
            results = b.emit_all(node.op, [known[v] for v in node.operands], node.attrs)
        known.update(zip(node.results, results, strict=True))
    return [known[v] for v in graph.outputs]


def without_dead_code(graph: Graph) -> Graph:
    """Only what its outputs, its errors and its effects depend on, numbered anew: inputs, then results in order."""
    made = Graph()
    ids = {v: made.add_input(graph.avals[v]) for v in graph.inputs}
    for node in graph.live_nodes():
        ids.update((v, made.add_value(graph.avals[v])) for v in node.results)
        operands, results = (tuple(ids[v] for v in values) for values in (node.operands, node.results))
        made.nodes.append(node._replace(operands=operands, results=results))
    made.outputs = [ids[v] for v in graph.outputs]
    return made


def at_home(graph: Graph) -> Graph:
    """The program with the CPU's types, without what moves values. Regions are such: they run where their op does."""
    if all(a.device == CPU for a in graph.avals):
        return graph
    ids = {v: v for v in range(len(graph.avals))}
    nodes = []
    for node in graph.nodes:
        operands = tuple([ids[v] for v in node.operands])
        if node.op.moves_to is None:
            nodes.append(node._replace(operands=operands))
        else:
            ids.update(zip(node.results, operands, strict=True))
    outputs = [ids[v] for v in graph.outputs]
    return replace(graph, avals=[a.on(CPU) for a in graph.avals], nodes=nodes, outputs=outputs)


def reads(region: Region) -> list[bool]:
    """Per input, whether it makes a difference."""
    used = {v for n in region.graph.nodes for v in n.operands}.union(region.graph.outputs)
    return [v in used for v in region.graph.inputs]


def without_inputs(region: Region, keep: Sequence[bool]) -> Region:
    """The region without the inputs that are not kept, which it must not read."""
    graph = region.graph
    inputs = [v for v, kept in zip(graph.inputs, keep, strict=True) if kept]
    return Region(without_dead_code(Graph(graph.avals, inputs, graph.nodes, graph.outputs)))


def cotangents(region: Region, xs: Sequence[Value], cts: Sequence[Value | None]) -> list[Value | None]:
    """What reaches each input at `xs`, given the cotangents of some outputs; the forward is computed again. Written into
    the builder of `xs`."""
    graph = region.graph
    seeds: dict[int, Value] = {}
    for v, ct in zip(graph.outputs, cts, strict=True):
        if ct is not None:
            seeds[v] = seeds[v] + ct if v in seeds else ct
    values = dict(zip(graph.inputs, xs, strict=True))
    wrt = [v for v in graph.inputs if graph.avals[v].dtype.is_inexact]
    found = dict(zip(wrt, autodiff.vjp(xs[0].builder, graph, values, seeds, wrt), strict=True)) if xs else {}
    return [found.get(v) for v in graph.inputs]


def reached(region: Region, given: Sequence[bool]) -> list[bool]:
    """The inputs that a cotangent of the given outputs reaches, or would have to."""
    return _reached(region, tuple(given))


@remembered(4096)
def _reached(region: Region, given: tuple[bool, ...]) -> list[bool]:
    graph = region.graph
    wrt = [v for v in graph.inputs if graph.avals[v].dtype.is_inexact]
    found = autodiff.arriving(graph, compress(graph.outputs, given), wrt)
    return [v in found for v in graph.inputs]


def typed(avals: Sequence[Aval]) -> str:
    """Types as a message shows them."""
    return f"({', '.join(map(str, avals))})"


def check_region(op: str, name: str, region: Any, inputs: Sequence[Aval]) -> None:
    """Raise RuntimeError unless `region` is one that takes `inputs`."""
    if not isinstance(region, Region):
        raise RuntimeError(f"[{op}] {name} is {region!r}, not a region. Give it a block of ops.")
    if region.inputs != list(inputs):
        raise RuntimeError(
            f"[{op}] {name} takes {typed(region.inputs)}, its operands are {typed(inputs)}. Make them equal."
        )
