"""Reductions rewritten into those that loops know: positions of extremes, and axes that do not lie together.

In: the graph of a cluster. Out: the same graph with `argmax` and `argmin` as an extreme and the least position that
attains it, and reductions over scattered axes as a permute and a reduction. Values keep their numbers; new ones are
appended. Next: `fragment.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from flambeau.compiler.codegen.iteration_space import split_axes
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.dtypes import int64
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.record import find

_EXTREMES = {"argmax": "max", "argmin": "min"}


def expand(graph: Graph) -> Graph:
    """`graph` with every reduction foldable in place; the graph itself if all are."""
    return _expanded(graph, lambda node: _is_position(node) or _is_scattered(graph, node))


def expand_positions(graph: Graph) -> Graph:
    """`graph` with positions of extremes as reductions that have a monoid, whatever their axes."""
    return _expanded(graph, _is_position)


def _expanded(graph: Graph, needs_it: Callable[[Node], bool]) -> Graph:
    if not any(map(needs_it, graph.nodes)):
        return graph
    result = replace(graph, avals=list(graph.avals), nodes=[])
    for node in graph.nodes:
        if needs_it(node):
            _expand_node(result, node)
        else:
            result.nodes.append(node)
    return result


def _is_position(node: Node) -> bool:
    return node.op.name in _EXTREMES


def _is_scattered(graph: Graph, node: Node) -> bool:
    return node.op.family.folds and split_axes(graph.avals[node.operands[0]].shape, node.attrs[0]) is None


def _expand_node(graph: Graph, node: Node) -> None:
    """Append nodes that compute `node.results`."""
    b = GraphBuilder(graph)
    b.loc = node.loc
    x, (axes,) = b.value(node.operands[0]), node.attrs
    if node.op.name in _EXTREMES:
        operand, record = _positions(x, axes, _EXTREMES[node.op.name]), find("min")
    else:
        (operand, axes), record = _together(x, axes), node.op
    graph.nodes.append(Node(record, (operand.id,), (axes,), node.results, node.loc))


def _together(x: Value, axes: tuple[int, ...]) -> tuple[Value, tuple[int, ...]]:
    """Permute so that the reduced axes, and the kept axes after them, each lie together."""
    wide = [a for a, n in enumerate(x.shape) if n != 1]
    kept = [a for a in range(len(x.shape)) if a not in axes]
    tail: list[int] = []
    if wide[-1] not in axes:  # the kept axes after the last reduced one stay last
        tail = [a for a in kept if a > max(axis for axis in axes if x.shape[axis] != 1)]
    perm = (*[a for a in kept if a not in tail], *axes, *tail)
    first = len(kept) - len(tail)
    return find("permute")(x, perm=perm), tuple(range(first, first + len(axes)))


def _positions(x: Value, axes: tuple[int, ...], extreme: str) -> Value:
    """Every element's position along `axes` where it attains the extreme (or is NaN), the greatest number elsewhere."""
    unit = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    best = find(extreme)(x, axes=axes)
    best = find("broadcast")(find("reshape")(best, shape=unit), shape=x.shape)
    hit = x.eq(best)
    if x.dtype.is_floating_point:
        hit = find("or_")(hit, x.ne(x))
    return find("select")(hit, _position(x, axes), x.builder.constant(2**63 - 1, int64, x.shape))


def _position(x: Value, axes: tuple[int, ...]) -> Value:
    if len(axes) == 1:
        return find("iota")(shape=x.shape, dim=axes[0], dtype=int64, builder=x.builder)
    flat = find("iota")(shape=(x.aval.size,), dim=0, dtype=int64, builder=x.builder)
    return find("reshape")(flat, shape=x.shape)
