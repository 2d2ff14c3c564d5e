"""Programs of one op each, for the baseline tier: which plan runs a node.

In: a graph, and an `OpPlanner`, which makes plans. Out: `OneOps`, which finds a node's plan. One-op programs have symbols for their
extents, so new sizes need no new plan. Where something stands in for an op (`stand_ins.py`) nobody waits for a plan: its time is
counted, and a plan is looked for on disk, then asked of the workers, once that has become worth it. Next: `op_by_op.py`, the user;
`op_plans.py`, which links.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, cast

from flambeau.compiler.baseline.small_ops import small_op
from flambeau.compiler.baseline.stand_ins import StandIn, stand_in
from flambeau.compiler.baseline.waiting import Waiting
from flambeau.compiler.caches.identity import graph_key
from flambeau.compiler.caches.plan_cache import MOST_VARIANTS
from flambeau.compiler.plugins import foreign
from flambeau.dialects.aval import CPU
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.locks import process_lock
from flambeau.dialects.size import LEAST, Int, Size, evaluate, is_static, substitute, symbol
from flambeau.dialects.size_guards import scope
from flambeau.dialects.tape import nan
from flambeau.runtime._binding import SmallOp

#: Seconds that what stands in for an op takes before a plan is looked for on disk, and before one is asked of the workers.
LOOK, ASK = 0.0002, 0.005
_REMEMBERED = 4096
_known: dict[tuple[Any, ...], Found] = {}  # one-op programs by the types of the op
_lock = process_lock()


class OpPlanner(Protocol):
    """Makes plans of one-op programs (`op_plans.py`)."""

    def __call__(self, graphs: Sequence[Graph]) -> list[Any]:
        """Plans, made now if they are missing."""

    def at_hand(self, graph: Graph) -> Any:
        """A plan that is in memory or on disk, else None."""

    def ask(self, graph: Graph, waiting: Waiting) -> None:
        """Let workers make a plan, if the mode is such that they do: some time later it is at hand, and who is waiting is told."""

    @property
    def key(self) -> Any:
        """What the plans depend on besides their graphs."""

    @property
    def improves(self) -> bool:
        """Whether `ask` is of use: only then does anything but an exact reference stand in."""


class Found(NamedTuple):
    """What runs a node: a program and the values of its symbols, in those of the graph."""

    program: OneOp
    extents: tuple[Int, ...]


class OneOps:
    """The plans of a graph's nodes, by position; equal nodes share one. Making it links what a run at `sizes` needs."""

    def __init__(self, graph: Graph, link: OpPlanner, sizes: Sequence[int] = (), links: bool = True) -> None:
        self._nodes: dict[int, Found] = {}
        self._optional: dict[int, Found] = {}  # where something stands in as long as there is no plan
        self._stand_ins: dict[int, StandIn] = {}
        self.seen = nan.seen(graph)
        self._small: dict[int, SmallOp] = {}  # what is done in C, and needs no plan
        theirs: dict[tuple[Any, ...], Found] = {}
        has_theirs = bool(foreign.ops(graph))
        bound: Graph | None = None
        for position, node in enumerate(graph.nodes):
            is_there = any(graph.avals[v].device != CPU for v in (*node.operands, *node.results))
            memo = theirs if has_theirs and foreign.offers(node.op) else _known
            found = node.op.reference if node.op.exact and not is_there else None
            if memo is _known and link.improves and not graph.sizes:
                small = small_op(graph, node, node.results[0] in self.seen) if node.results else None
                if small is not None:
                    self._small[position] = small
            if found is None and not is_there and memo is _known and link.improves and is_static(node.attrs):
                bound = bound or (graph.bind(sizes or graph.sizes) if graph.sizes else graph)
                found = stand_in(bound, node)
            if is_there or (found is None and not node.op.regions):
                self._nodes[position] = _find(graph, node, link, memo)
            elif found is not None and not node.op.effect and memo is _known:
                self._stand_ins[position] = found
                if position in self._small:
                    continue
                with contextlib.suppress(Exception):  # what holds by a guard of the trace need not hold by itself
                    self._optional[position] = _find(graph, node, link, memo)
        self._has_symbols = bool(graph.sizes)
        if links:
            self._link_together(link, sizes)

    def is_linked(self, sizes: Sequence[int] = ()) -> bool:
        """Whether no plan is missing for a run at these sizes."""
        found = ((program, self._values(extents, sizes)) for program, extents in self._nodes.values())
        return all(program.is_ours and not program.is_wanted(values) for program, values in found)

    def find(self, position: int, sizes: Sequence[int]) -> tuple[Any, tuple[int, ...]] | None:
        """(plan, values of its symbols) for a node; None where its reference stands in."""
        if position in self._nodes:
            program, extents = self._nodes[position]
            return program.find(self._values(extents, sizes))
        plan, extents = self.at_hand(position, sizes)
        return (plan, self._values(extents, sizes)) if plan else None

    def small(self, position: int) -> SmallOp | None:
        """What does a node in C without a plan."""
        return self._small.get(position)

    def optional(self, position: int) -> OneOp | None:
        """The program of a node for which something else may stand in."""
        found = self._optional.get(position)
        return found.program if found else None

    def stand_in(self, position: int, node: Node) -> StandIn:
        """What gives a node's results where there is no plan."""
        return self._stand_ins.get(position, node.op.reference)

    def at_hand(self, position: int, sizes: Sequence[int]) -> tuple[Any, tuple[Int, ...]]:
        """A plan for a node if there is one, and the values of its symbols, in those of the graph."""
        found = self._nodes.get(position) or self._optional.get(position)
        if found is None or not found.program.plans:
            return None, ()
        plan = found.program.at_hand(self._values(found.extents, sizes))
        return (plan, found.extents) if plan else (None, ())

    def _values(self, extents: tuple[Int, ...], sizes: Sequence[int]) -> tuple[int, ...]:
        return tuple([evaluate(e, sizes) for e in extents]) if self._has_symbols else cast(tuple[int, ...], extents)

    def count(self, sizes: Sequence[int]) -> int:
        """How many plans there are by now. Looks for those that have become worth it."""
        n = 0
        for program, extents in self._optional.values():
            if program.is_slow:
                program.look(self._values(extents, sizes))
            n += len(program.plans)
        for program, _ in self._nodes.values():
            n += len(program.plans)
        return n

    def _link_together(self, link: OpPlanner, sizes: Sequence[int]) -> None:
        """Link what is missing in one go, so that workers share it. What fails is met again one by one, when it runs."""
        wanted = {}
        for program, extents in self._nodes.values():
            values = self._values(extents, sizes)
            if program.is_ours and program.is_wanted(values):
                wanted[program] = replace(program.graph, sizes=values)
        try:
            made = link(list(wanted.values())) if wanted else []
        except Exception:
            if not any(program.graph.sizes for program in wanted):
                raise
            return
        for program, plan in zip(wanted, made, strict=True):
            program.plans.append(plan)


class OneOp:
    """A one-op program and its plans: one, or with symbols several that serve different sizes."""

    def __init__(self, graph: Graph, link: OpPlanner, is_general: bool = True) -> None:
        self.graph, self.link = graph, link
        self.plans: list[Any] = []
        self._next = LOOK  # after so many, something is done about it
        self.waiting = Waiting(1)  # for a plan; it counts what is spent in the reference
        self.is_ours = not foreign.ops(graph)
        self._is_general = is_general and bool(graph.sizes) and self.is_ours  # else each size has a program of its own
        self._is_refused = False  # the lowering of a plug-in's op does not work

    def is_wanted(self, values: tuple[int, ...]) -> bool:
        """Whether there should be a plan for these values of the symbols, and is none."""
        if not values:
            return not self.plans
        is_full = len(self.plans) >= MOST_VARIANTS
        return self._is_general and not is_full and min(values) >= LEAST and self.at_hand(values) is None

    def find(self, values: tuple[int, ...]) -> tuple[Any, tuple[int, ...]] | None:
        """(plan, values of its symbols), compiled now if there is none; None if the reference stands in."""
        if not self.is_ours:
            return self._find_foreign(values)
        if self.is_wanted(values):
            self._add(values)
        plan = self.at_hand(values)
        return (self.link([self.graph.bind(values)])[0], ()) if plan is None else (plan, values)

    def at_hand(self, values: tuple[int, ...]) -> Any:
        """The plan that serves these values, if there is one."""
        if not values:
            return self.plans[0] if self.plans else None
        return next((p for p in self.plans if p.fits(values)), None) if min(values) >= LEAST else None

    @property
    def is_slow(self) -> bool:
        """Whether its reference has taken long since something was done about it."""
        return self.waiting.seconds >= self._next

    def look(self, values: tuple[int, ...]) -> None:
        """Find a plan for what has taken its reference long, be it on disk; else ask the workers for one."""
        if not self.is_wanted(values):
            self._next = 2 * self.waiting.seconds
            return
        graph = replace(self.graph, sizes=values)
        if plan := self.link.at_hand(graph):
            self.plans.append(plan)
            self._next = self.waiting.seconds + LOOK
        elif self.waiting.seconds < ASK:
            self._next = ASK
        else:  # it is not there yet, or can never be
            self._next = 2 * self.waiting.seconds
            self.link.ask(graph, self.waiting)

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


def _find(graph: Graph, node: Node, link: OpPlanner, memo: dict[tuple[Any, ...], Found]) -> Found:
    """The program of a node, remembered by its types in `memo`."""
    types = [graph.avals[v] for v in (*node.operands, *node.results)]
    key: tuple[Any, ...] = (link.key, node.op, node.attrs, *types)
    if graph.sizes:
        key = (*key[:2], _form(node.attrs), *map(_form, types))
    found = memo.get(key)
    if found is None:
        return _remember(memo, key, _made(graph, node, link, memo))
    if memo is _known and len(memo) > _REMEMBERED // 2:  # what was found last is forgotten last
        with _lock:
            memo[key] = memo.pop(key, found)
    return found


def _made(graph: Graph, node: Node, link: OpPlanner, memo: dict[tuple[Any, ...], Found]) -> Found:
    if not graph.sizes:
        single, extents = _of_extents(graph, node, memo is _known)
        return Found(_program(memo, single, link), extents)
    try:
        single, found = general(graph, node)
        return Found(_program(memo, single, link), found)
    except Exception:  # what holds by a guard of the trace need not hold by itself
        single, found = as_given(graph, node)
        return Found(OneOp(single, link, is_general=False), found)


def _of_extents(graph: Graph, node: Node, is_ours: bool) -> tuple[Graph, tuple[Int, ...]]:
    """A node of a program without symbols by itself, with symbols for its extents where that works."""
    single = one_op(graph, node)
    return (is_ours and _for_all_sizes(single)) or (single, ())


def _form(x: Any) -> Any:
    """What tells attributes and types apart whose expressions of symbols have one value at the time."""
    if isinstance(x, tuple):
        return tuple(map(_form, x))
    return (Size, x.terms) if isinstance(x, Size) else x


def _program(memo: dict[tuple[Any, ...], Found], single: Graph, link: OpPlanner) -> OneOp:
    """The program of a graph of one op; equal ones are one."""
    key = (link.key, graph_key(single))
    return (memo.get(key) or _remember(memo, key, Found(OneOp(single, link), ()))).program


def _remember(memo: dict[tuple[Any, ...], Found], key: tuple[Any, ...], found: Found) -> Found:
    with _lock:
        found = memo.setdefault(key, found)
        while len(memo) > _REMEMBERED:
            del memo[next(iter(memo))]
    return found


#: Attributes of ops that say nothing of extents.
_NO_EXTENTS = frozenset({"axes", "axis", "dim", "dtype", "perm"})


def _for_all_sizes(single: Graph) -> tuple[Graph, tuple[int, ...]] | None:
    """A one-op program with symbols for all extents, equal ones for equal extents, and their values; None where that is not
    the same program."""
    (node,) = single.nodes
    if not all(name == "shape" or name in _NO_EXTENTS for name in node.op.attrs) or not single.inputs:
        return None
    extents: dict[int, Size] = {}

    def renamed(shape: Sequence[int]) -> tuple[Int, ...]:
        return tuple([extents.setdefault(n, symbol(len(extents))) if n >= LEAST else n for n in shape])

    avals = [single.avals[v]._replace(shape=renamed(single.avals[v].shape)) for v in single.inputs]
    attrs = tuple([renamed(x) if name == "shape" else x for name, x in zip(node.op.attrs, node.attrs, strict=True)])
    if not extents:
        return None
    values = tuple(extents)
    try:
        with scope(values, by_form=True):
            results = node.op.infer_results(avals, attrs, single.avals[single.outputs[0]].device)
            if [substitute(a, values) for a in results] != [single.avals[v] for v in single.outputs]:
                return None
    except Exception:  # it holds for these extents only
        return None
    nodes = [node._replace(attrs=attrs)]
    return replace(single, avals=[*avals, *results], nodes=nodes, sizes=values), values


def one_op(graph: Graph, node: Node) -> Graph:
    """The program that is just this node, with an input per operand, also where one value is read twice."""
    single = Graph()
    operands = tuple(single.add_input(graph.avals[v]) for v in node.operands)
    results = tuple(single.add_value(graph.avals[v]) for v in node.results)
    single.nodes.append(Node(node.op, operands, node.attrs, results))
    single.outputs = list(results)
    return single


def general(graph: Graph, node: Node) -> tuple[Graph, tuple[Int, ...]]:
    """The program that is just this node with a symbol for each extent that depends on symbols, and those extents. Raises what
    the op does where its types do not follow for all values of them."""
    single, extents = _renamed(graph, node, 0)
    avals = single.avals[: len(single.inputs)]
    with scope(single.sizes, by_form=True):
        results = node.op.infer_results(avals, single.nodes[0].attrs, single.avals[single.outputs[0]].device)
    return replace(single, avals=[*avals, *results]), extents


def as_given(graph: Graph, node: Node) -> tuple[Graph, tuple[Int, ...]]:
    """The same, with symbols for the extents of the results, too: what they are follows from the graph alone."""
    return _renamed(graph, node, len(node.results))


def _renamed(graph: Graph, node: Node, n_results: int) -> tuple[Graph, tuple[Int, ...]]:
    """The program of a node with symbols for the extents of operands, attributes and the first so many results."""
    single = one_op(graph, node)
    extents: dict[Size, Size] = {}

    def renamed(x: Any) -> Any:
        if isinstance(x, tuple):
            return tuple(map(renamed, x))
        return extents.setdefault(x, symbol(len(extents))) if isinstance(x, Size) else x

    avals, n = list(single.avals), len(single.inputs)
    avals[:n] = [a._replace(shape=renamed(a.shape)) for a in avals[:n]]
    nodes = [single.nodes[0]._replace(attrs=renamed(single.nodes[0].attrs))]
    avals[n : n + n_results] = [a._replace(shape=renamed(a.shape)) for a in avals[n : n + n_results]]
    sizes = tuple(evaluate(e, graph.sizes) for e in extents)
    return replace(single, avals=avals, nodes=nodes, sizes=sizes), tuple(extents)
