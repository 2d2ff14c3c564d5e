"""Programs of one op each, for the generic tier: which plan runs a node whose NumPy reference is not exact.

In: a graph, and `link`, which makes plans. Out: `OneOps`, which finds a node's plan. Where extents depend on symbols, so does
the one-op program: new sizes need no new plan. Next: `generic.py`, the user; `ops.py`, which links.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from flambeau.compiler import foreign
from flambeau.compiler.identity import graph_key
from flambeau.compiler.plan_cache import MOST_VARIANTS
from flambeau.dialects.aval import CPU
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.size import LEAST, Int, Size, evaluate, scope, symbol

#: Makes plans of one-op programs.
Link = Callable[[list[Graph]], list[Any]]


class OneOps:
    """The plans of a graph's nodes, by position; equal nodes share one. Making it links what a run at `sizes` needs."""

    def __init__(self, graph: Graph, link: Link, sizes: Sequence[int] = ()) -> None:
        self._programs: dict[str, OneOp] = {}
        self._nodes: dict[int, tuple[OneOp, tuple[Int, ...]]] = {}
        for position, node in enumerate(graph.nodes):
            is_there = any(graph.avals[v].device != CPU for v in (*node.operands, *node.results))
            if is_there or (not node.op.exact and not node.op.regions):
                single, extents = general(graph, node) if graph.sizes else (one_op(graph, node), ())
                program = self._programs.setdefault(graph_key(single), OneOp(single, link))
                self._nodes[position] = program, extents
        self._link_together(link, sizes)

    def find(self, position: int, sizes: Sequence[int]) -> tuple[Any, tuple[int, ...]] | None:
        """(plan, values of its symbols) for a node; None where its reference stands in."""
        if position not in self._nodes:
            return None
        program, extents = self._nodes[position]
        return program.find(tuple(evaluate(e, sizes) for e in extents))

    def _link_together(self, link: Link, sizes: Sequence[int]) -> None:
        """Link what is missing in one go, so that workers share it. What fails is met again one by one, when it runs."""
        wanted = {}
        for program, extents in self._nodes.values():
            values = tuple(evaluate(e, sizes) for e in extents)
            if program.is_ours and program.is_wanted(values):
                wanted[program] = replace(program.graph, sizes=values)
        try:
            made = link(list(wanted.values())) if wanted else []
        except Exception:
            if not sizes:
                raise
            return
        for program, plan in zip(wanted, made, strict=True):
            program.plans.append(plan)


class OneOp:
    """A one-op program and its plans: one, or with symbols several that serve different sizes."""

    def __init__(self, graph: Graph, link: Link) -> None:
        self.graph, self.link = graph, link
        self.plans: list[Any] = []
        self.is_ours = not foreign.ops(graph)
        self._is_general = bool(graph.sizes) and self.is_ours
        self._is_refused = False  # the lowering of a plug-in's op does not work

    def is_wanted(self, values: tuple[int, ...]) -> bool:
        """Whether there should be a plan for these values of the symbols, and is none."""
        if not values:
            return not self.plans
        is_full = len(self.plans) >= MOST_VARIANTS
        return self._is_general and not is_full and min(values) >= LEAST and self._served(values) is None

    def find(self, values: tuple[int, ...]) -> tuple[Any, tuple[int, ...]] | None:
        """(plan, values of its symbols), compiled now if there is none; None if the reference stands in."""
        if not self.is_ours:
            return self._find_foreign(values)
        if self.is_wanted(values):
            self._add(values)
        plan = self._served(values)
        return (self.link([self.graph.bind(values)])[0], ()) if plan is None else (plan, values)

    def _served(self, values: tuple[int, ...]) -> Any:
        if not values:
            return self.plans[0] if self.plans else None
        return next((p for p in self.plans if p.fits(values)), None) if min(values) >= LEAST else None

    def _add(self, values: tuple[int, ...]) -> None:
        """One more plan. Where an op cannot be compiled for all sizes, each gets a program without symbols."""
        try:
            self.plans += self.link([replace(self.graph, sizes=values)])
        except Exception as error:
            if not values:
                raise
            self._is_general = False
            op = self.graph.nodes[0].op.name
            warnings.warn(f"[{op}] is compiled for each size by itself: {error}", RuntimeWarning, stacklevel=2)

    def _find_foreign(self, values: tuple[int, ...]) -> tuple[Any, tuple[int, ...]] | None:
        """The plan of a plug-in's op; where its lowering does not work its reference stands in for good."""
        if self._is_refused:
            return None
        try:
            if refused := foreign.left_out(self.graph):
                raise RuntimeError(f"{refused}.")
            if not values and not self.plans:
                self.plans += self.link([self.graph])
            return (self.link([self.graph.bind(values)])[0] if values else self.plans[0]), ()
        except Exception as error:
            self._is_refused = True
            named = foreign.named(foreign.ops(self.graph))
            warnings.warn(
                f"[plug-in] {named} does not compile: {error} Its NumPy reference runs instead.",
                RuntimeWarning,
                stacklevel=2,
            )
            return None


def one_op(graph: Graph, node: Node) -> Graph:
    """The program that is just this node, with an input per operand, also where one value is read twice."""
    single = Graph()
    operands = tuple(single.add_input(graph.avals[v]) for v in node.operands)
    results = tuple(single.add_value(graph.avals[v]) for v in node.results)
    single.nodes.append(Node(node.op, operands, node.attrs, results))
    single.outputs = list(results)
    return single


def general(graph: Graph, node: Node) -> tuple[Graph, tuple[Int, ...]]:
    """The program that is just this node with a symbol for each extent that depends on symbols, and those extents."""
    single = one_op(graph, node)
    extents: dict[Size, Size] = {}

    def renamed(x: Any) -> Any:
        if isinstance(x, tuple):
            return tuple(map(renamed, x))
        return extents.setdefault(x, symbol(len(extents))) if isinstance(x, Size) else x

    avals = [single.avals[v]._replace(shape=renamed(single.avals[v].shape)) for v in single.inputs]
    place = single.avals[single.outputs[0]].device
    attrs = renamed(single.nodes[0].attrs)
    sizes = tuple(evaluate(e, graph.sizes) for e in extents)
    with scope(sizes, by_form=True):
        results = node.op.infer_results(avals, attrs, place)
    nodes = [single.nodes[0]._replace(attrs=attrs)]
    return replace(single, avals=[*avals, *results], nodes=nodes, sizes=sizes), tuple(extents)
