"""Which element made a program fail, and what it is: a second program for those that run without Python.

In: a graph with ops that may fail. Out: a graph that computes, from the same inputs, the operands that these ops check, and
cannot fail itself: what is out of an op's domain is replaced, once it has been looked at. Together with the `Domain`s it
tells what eager execution would say: the first op in recorded order, the first element in row-major order.
Next: `exporter.py`.
"""

from __future__ import annotations

from typing import NamedTuple

from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.domain import Domain
from flambeau.dialects.dtypes import DType, int32, int64
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.record import find

#: Their result is the operand: without the check nothing depends on its domain.
_THROUGH = ("check_index", "check_range")


class Checked(NamedTuple):
    """An operand of type `aval` whose elements must lie in `domain`."""

    domain: Domain
    aval: Aval


def explanation(graph: Graph) -> tuple[Graph, list[Checked]]:
    """The graph whose output k is the operand that the k-th of the checks is about; no outputs where nothing is checked."""
    b = GraphBuilder()
    values = {v: b.input(graph.avals[v]) for v in graph.inputs}
    checks, outputs = [], []
    for node in graph.nodes:
        domain = node.op.domain and node.op.domain(*(graph.avals[v] for v in node.operands), *node.attrs)
        operands = [values[v] for v in node.operands]
        if domain:
            x = operands[domain.operand]
            read = x.cast(_read_as(x.dtype))
            checks.append(Checked(domain, read.aval))
            outputs.append(read.id)
            values[node.results[0]] = _harmless(b, node, operands, domain, graph.avals[node.results[0]])
        else:
            values.update(zip(node.results, b.emit_all(node.op, operands, node.attrs)))
    b.graph.outputs = outputs
    b.graph.nodes = _needed(b.graph)
    return b.graph, checks


def _read_as(dtype: DType) -> DType:
    """The dtype in which the runtime, which knows numbers of four and eight bytes, looks at elements. It holds all of them."""
    return int64 if dtype.is_integer and dtype is not int32 else dtype.accumulation


def _needed(graph: Graph) -> list[Node]:
    """Without what no output depends on, ops that might fail included."""
    live, kept = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if not live.isdisjoint(node.results):
            live.update(node.operands)
            kept.append(node)
    return kept[::-1]


def _harmless(b: GraphBuilder, node: Node, operands: list[Value], domain: Domain, aval: Aval) -> Value:
    """The op on operands that it takes: the same where the check holds."""
    x = operands[domain.operand]
    if node.op.name in _THROUGH:
        return x
    if domain.low is None or domain.high is None:
        safe = find("select")(x.eq(0), x.like(1), x)
    elif domain.low > domain.high:
        return b.constant(0, aval.dtype, aval.shape)
    else:
        safe = find("maximum")(find("minimum")(x, x.like(domain.high)), x.like(domain.low))
    return b.emit(node.op, [safe if k == domain.operand else y for k, y in enumerate(operands)], node.attrs)
