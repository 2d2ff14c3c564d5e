"""Is a graph well formed? What `irdl.py` asks of text, asked of a `Graph` that somebody else's code made.

In: a `Graph`. Out: nothing, or a ValueError that names the first thing wrong. Next: `compiler/passes/pipeline.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.parts import in_memory
from flambeau.dialects.record import REGISTRY, OpRecord


def verify(graph: Any) -> None:
    """Raise ValueError unless every value is defined once, before its uses, with the type that its op's record gives."""
    if not isinstance(graph, Graph):
        raise ValueError(f"it is {type(graph).__name__}, not a Graph")
    defined: set[int] = set()
    for v in graph.inputs:
        _define(v, defined, graph, "input")
    for k, node in enumerate(graph.nodes):
        _verify_node(node, f"node {k}", defined, graph)
    verify_tokens(graph)
    for v in graph.outputs:
        if v not in defined:
            raise ValueError(f"output {v!r} is no value of the program")
    for k, i in graph.updates.items():
        if k not in range(len(graph.outputs)) or i not in range(len(graph.inputs)):
            raise ValueError(f"update {k!r}: {i!r} names no output or no input")


def verify_tokens(graph: Graph) -> None:
    """Raise ValueError where two effects come after the same one: their order is then nobody's."""
    seen: set[int] = set()
    for node in graph.nodes:
        if node.op.effect and node.operands[0] in seen:
            where = f" at {node.loc}" if node.loc else ""
            raise ValueError(
                f"[{node.op.name}] its token{where} is that of an earlier effect, too. Give it the one that this gives."
            )
        if node.op.effect:
            seen.add(node.operands[0])


def verify_same_interface(before: Graph, after: Graph) -> None:
    """Raise ValueError unless the two have inputs and outputs of the same types in memory, where complex numbers are their parts,
    and the same updates."""
    for what in ("inputs", "outputs"):
        old = [in_memory(before.avals[v]) for v in getattr(before, what)]
        new = [in_memory(after.avals[v]) for v in getattr(after, what)]
        if old != new:
            raise ValueError(f"its {what} are {new}, those of the program {old}")
    if before.updates != after.updates:
        raise ValueError(f"its updates are {after.updates}, those of the program {before.updates}")


def _define(v: Any, defined: set[int], graph: Graph, what: str) -> None:
    if type(v) is not int or v not in range(len(graph.avals)):
        raise ValueError(f"{what} defines {v!r}, which has no type")
    if v in defined:
        raise ValueError(f"{what} defines value {v} a second time")
    defined.add(v)


def _verify_node(node: Any, place: str, defined: set[int], graph: Graph) -> None:
    if not isinstance(node, Node) or not isinstance(node.op, OpRecord) or REGISTRY.get(node.op.name) is not node.op:
        raise ValueError(f"{place} is {node!r}, not a Node of a registered op")
    name = f"{place} ({node.op.name})"
    for v in node.operands:
        if v not in defined:
            raise ValueError(f"{name} reads {v!r}, which is not defined before it")
    if len(node.attrs) != len(node.op.attrs):
        raise ValueError(f"{name} has {len(node.attrs)} attributes, not {len(node.op.attrs)}")
    for region in node.regions:
        try:
            verify(region.graph)
        except ValueError as e:
            raise ValueError(f"in a region of {name}, {e}") from e
    try:
        expected = node.op.infer_results([graph.avals[v] for v in node.operands], node.attrs, graph.device(node))
    except Exception as e:
        raise ValueError(f"{name} is refused by its record: {e}") from e
    for v in node.results:
        _define(v, defined, graph, name)
    if tuple(graph.avals[v] for v in node.results) != expected:
        raise ValueError(
            f"{name} has results {[graph.avals[v] for v in node.results]}, but its operands give {expected}"
        )
