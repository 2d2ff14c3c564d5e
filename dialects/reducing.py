"""A failing program made small: as few outputs and ops as still fail.

In: a graph, all its values, and a question. Out: a graph of which the answer is still yes. Results of ops that are left out become
inputs, with the values that they had, so that what is left computes on the same numbers. The search is that of Zeller and
Hildebrandt, "Simplifying and isolating failure-inducing input" (2002): parts are left out, halves first. Fusion groups are made
small by the same search (`compiler/groups/reducing.py`). Next: `flambeau.verify`, which shows such a program.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from time import monotonic
from typing import Any, TypeVar

from flambeau.dialects.graph import Graph, Node

#: Whether a graph fails on these inputs. What it raises counts as no.
Fails = Callable[[Graph, list[Any]], bool]


Program = TypeVar("Program")
Op = TypeVar("Op")


def reduced(graph: Graph, values: Mapping[int, Any], fails: Fails, seconds: float = 20.0) -> tuple[Graph, list[Any]]:
    """A part of `graph`, which has no symbols, that still fails, and its inputs; after so many `seconds` the smallest so far."""
    until = monotonic() + seconds

    def holds(made: Graph) -> bool:
        if monotonic() > until:
            return False
        try:
            return fails(made, [values[v] for v in made.inputs])
        except Exception:
            return False

    whole = part(graph, graph.nodes, graph.outputs) or graph
    best = smallest(whole, lambda made: (made.nodes, made.outputs), part, holds)
    return best, [values[v] for v in best.inputs]


def smallest(
    whole: Program,
    pieces: Callable[[Program], tuple[Sequence[Op], Sequence[int]]],
    part: Callable[[Program, Sequence[Op], Sequence[int]], Program | None],
    holds: Callable[[Program], bool],
) -> Program:
    """The least part of a program found for which `holds` says yes, as it does for the `whole`: no op of it can be left out.

    `pieces` are the ops and the outputs of a program, `part` is the program with these only, or None where nothing is left.
    """
    best = whole

    def size_of(program: Program) -> tuple[int, int]:
        return len(pieces(program)[0]), len(pieces(program)[1])

    def shrinks(ops: Sequence[Op], outputs: Sequence[int]) -> bool:
        nonlocal best
        made = part(best, ops, outputs)
        if made is None or size_of(made) >= size_of(best) or not holds(made):
            return False
        best = made
        return True

    ops, outputs = pieces(best)
    if len(outputs) > 1:
        any(shrinks(ops, [v]) for v in dict.fromkeys(outputs))
    size = max(1, len(pieces(best)[0]) // 2)
    while True:
        at, before = 0, best
        while at < len(pieces(best)[0]):
            ops, outputs = pieces(best)
            if not shrinks([*ops[:at], *ops[at + size :]], outputs):
                at += size
        if size > 1:
            size //= 2
        elif best is before:
            return best


def part(graph: Graph, nodes: Sequence[Node], outputs: Sequence[int]) -> Graph | None:
    """The program of these nodes and those of the outputs that they compute, or what the nodes left out read of them if they
    compute none, without nodes that nobody needs; None if there is no output."""
    made = {v for node in nodes for v in node.results}
    wanted = [v for v in outputs if v in made] or read_of(made, (n for n in graph.nodes if made.isdisjoint(n.results)))
    if not wanted:
        return None
    needed, kept = set(wanted), []
    for node in reversed(nodes):
        if needed.intersection(node.results):
            kept.append(node)
            needed.update(node.operands)
    kept.reverse()
    made = {v for node in kept for v in node.results}
    read = dict.fromkeys(v for node in kept for v in node.operands if v not in made)
    return Graph(graph.avals, list(read), kept, wanted)


def read_of(made: Collection[int], ops: Iterable[Any]) -> list[int]:
    """The values of `made` that ops read."""
    return list(dict.fromkeys(v for op in ops for v in op.operands if v in made))
