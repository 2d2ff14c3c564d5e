"""Loops of a given length: what one keeps for its gradient, the gradient, and the same loop without what nobody reads.

In: the parts of a `scan` (`tape/loop.py`). Out: programs with loops. A gradient goes through the turns backwards and carries
cotangents. What a turn reads of the forward is kept by that as results of each turn: what was carried into it, and what ops gave
whose records say `keep` (products, folds). All else is computed again in the turn that needs it. Next: `loop_sums.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress

from flambeau.dialects import autodiff
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.graph import Graph, Node, Region
from flambeau.dialects.loop_sums import Sums
from flambeau.dialects.record import find
from flambeau.dialects.region import inlined, reached, reads, without_dead_code, without_inputs
from flambeau.dialects.size import Int, Size


@dataclass(frozen=True)
class ScanParts:
    """The attributes of a `scan`."""

    body: Region
    carried: int
    sliced: int
    size: Int
    reverse: bool

    def emit(self, operands: Sequence[Value]) -> tuple[Value, ...]:
        attrs = (self.carried, self.sliced, self.size, self.reverse, self.body)
        return operands[0].builder.emit_all(find("scan"), operands, attrs)

    def with_outputs(self, more: Sequence[int]) -> ScanParts:
        """The loop with further results of each turn, values of the body."""
        graph = self.body.graph
        return replace(self, body=Region(Graph(graph.avals, graph.inputs, graph.nodes, [*graph.outputs, *more])))

    def keeping(self) -> ScanParts:
        """The loop with further results: what its gradient reads of a turn and could not compute again. Of one around a loop
        without a given length that is what is carried into a turn: to ask what such a loop's gradient reads, which has such
        loops in it, would go on for ever."""
        graph, n = self.body.graph, self.carried + self.sliced
        if any(node.op.name == "while_loop" for _, node in graph.walk()):
            return self.with_outputs([v for v in graph.inputs[: self.carried] if graph.avals[v].dtype.is_inexact])
        results, inputs = (
            [v for v in values if graph.avals[v].dtype.is_inexact] for values in (graph.outputs, graph.inputs)
        )
        known = {*_same_in_all(graph, n), *graph.inputs[self.carried : n], *graph.outputs[self.carried :]}
        return self.with_outputs(autodiff.residuals(graph, results, inputs, known))


def _same_in_all(graph: Graph, changing: int) -> set[int]:
    """The values that are the same in all turns; the first inputs are not."""
    found = set(graph.inputs[changing:])
    for node in graph.nodes:
        if found.issuperset(node.operands):
            found.update(node.results)
    return found


# ---- gradients ------------------------------------------------------------------------------------------------


def gradient(
    cts: Sequence[Value | None], results: Sequence[Value], operands: Sequence[Value], loop: ScanParts
) -> list[Value | None]:
    """A cotangent per operand, None where none arrives, given those of some results."""
    n, graph = loop.carried, loop.body.graph
    flows, arrives = flowing(loop.body, n, [ct is not None for ct in cts])
    if not any(flows) and not any(arrives):
        return [None] * len(operands)
    turn = _GradientTurn(loop, flows, arrives, [ct is not None for ct in cts[n:]])
    stacked = dict(zip(graph.outputs[n:], results[n:]))
    if lacking := [v for v in turn.lacking() if v not in stacked]:  # it was recorded without them
        again = loop.with_outputs(lacking).emit(operands)
        stacked.update(zip(lacking, again[len(results) :], strict=True))
    return turn.emit(cts, operands, stacked)


def flowing(body: Region, carried: int, given: Sequence[bool]) -> tuple[list[bool], list[bool]]:
    """Which carried values, and which operands, have a cotangent in any turn of a loop, where these results have one."""
    flags = list(given[:carried])
    while True:
        arrives = reached(body, [*flags, *given[carried:]])
        new = [had or there for had, there in zip(flags, arrives)]
        if new == flags:
            return flags, arrives
        flags = new


def reached_operands(body: Region, carried: int, given: Sequence[bool]) -> list[bool]:
    """The operands of a loop that have a cotangent where these results have one."""
    flows, arrives = flowing(body, carried, given)
    return [*flows, *arrives[carried:]]


class _GradientTurn:
    """One turn of a gradient. Its inputs: the cotangents that are carried, sums so far; those of what the turn gave, what is known
    of it, its slices; what is the same in all."""

    def __init__(self, loop: ScanParts, flows: Sequence[bool], arrives: Sequence[bool], given: Sequence[bool]) -> None:
        self.loop, self.flows, self.given, self.arrives = loop, flows, given, arrives
        graph, n, end = loop.body.graph, loop.carried, loop.carried + loop.sliced
        self.known = list(dict.fromkeys([*graph.outputs[n:], *graph.inputs[:n]]))  # values with one in each turn
        b = self.builder = GraphBuilder()
        inputs = graph.inputs
        self.cts = [b.input(graph.avals[v]) for v in compress(graph.outputs[:n], flows)]
        self.given_cts = [b.input(graph.avals[v]) for v in compress(graph.outputs[n:], given)]
        self.values = {v: b.input(graph.avals[v]) for v in self.known}
        self.slices = [b.input(graph.avals[v]) for v in inputs[n:end]]
        self.fixed = [b.input(graph.avals[v]) for v in inputs[end:]]
        found = self._differentiate()
        self.next = [
            x.like(0) if ct is None else ct for x, ct in zip(self.cts, compress(found[:n], flows), strict=True)
        ]
        self.of_slices = [ct for ct in found[n:end] if ct is not None]
        through = [*self.given_cts, *self.values.values(), *self.slices, *self.of_slices]
        self.sums = Sums(b.graph, [ct for ct in found[end:] if ct is not None], through, self.fixed)
        outputs = [*self.next, *self.of_slices, *self.sums.carried, *self.sums.stacked]
        live = Graph(b.graph.avals, b.graph.inputs, b.graph.nodes, [v.id for v in outputs])
        self.live = Region(without_dead_code(live))

    def _differentiate(self) -> list[Value | None]:
        """What reaches each input of the body."""
        graph = self.loop.body.graph
        seeds: dict[int, Value] = {}
        flowing = [*compress(graph.outputs, self.flows), *compress(graph.outputs[self.loop.carried :], self.given)]
        for v, ct in zip(flowing, [*self.cts, *self.given_cts], strict=True):
            seeds[v] = seeds[v] + ct if v in seeds else ct
        there = dict(zip(graph.inputs[self.loop.carried :], [*self.slices, *self.fixed], strict=True))
        wrt = [v for v in graph.inputs if graph.avals[v].dtype.is_inexact]
        found = autodiff.vjp(self.builder, graph, {**self.values, **there}, seeds, wrt)
        by_input = dict(zip(wrt, found, strict=True))
        return [by_input.get(v) for v in graph.inputs]

    def lacking(self) -> list[int]:
        """What it reads of the forward's turn, values of the body."""
        needed = self._read() | self.sums.bases
        return [v for v, x in self.values.items() if x.id in needed]

    def _read(self) -> set[int]:
        return set(compress(self.builder.graph.inputs, reads(self.live)))

    def emit(
        self, cts: Sequence[Value | None], operands: Sequence[Value], stacked: dict[int, Value]
    ) -> list[Value | None]:
        loop, n, read = self.loop, self.loop.carried, self._read()
        end = n + loop.sliced
        started = [
            x.like(0) if ct is None else ct
            for x, ct, flow in zip(operands[:n], cts[:n], self.flows, strict=True)
            if flow
        ]
        sums = [operands[end + self._summed(k)].like(0) for k in self.sums.places]
        sources = [
            *zip(self.given_cts, [ct for ct in cts[n:] if ct is not None], strict=True),
            *((x, stacked[v]) for v, x in self.values.items() if v in stacked),
            *zip(self.slices, operands[n:end], strict=True),
        ]
        through = [(x, whole) for x, whole in sources if x.id in read]
        fixed = [(x, whole) for x, whole in zip(self.fixed, operands[end:], strict=True) if x.id in read]
        body, extra = self._body([x for x, _ in through], [x for x, _ in fixed])
        size = loop.size if not loop.sliced else operands[n].shape[0]
        made = ScanParts(
            body, len(started) + len(sums), len(through), 0 if through else size, not loop.reverse
        ).keeping()
        found = iter(made.emit([*started, *sums, *[w for _, w in through], *[w for _, w in fixed]]))
        of_carried = [next(found) for _ in started]
        of_sums = [next(found) for _ in sums]
        of_slices = [next(found) for _ in self.of_slices]
        wholes = {x.id: whole for x, whole in [*sources, *zip(self.of_slices, of_slices, strict=True)]}
        wholes.update((v.id, next(found)) for v in extra)
        left = iter(of_carried)
        results = [next(left) if flow else None for flow in self.flows]
        left = iter(of_slices)
        results += [next(left) if there else None for there in self.arrives[n:end]]
        left = iter(self.sums.finished(of_sums, wholes))
        return [*results, *[next(left) if there else None for there in self.arrives[end:]]]

    def _summed(self, k: int) -> int:
        """The fixed operand of the k-th sum."""
        end = self.loop.carried + self.loop.sliced
        return list(compress(range(len(self.fixed)), self.arrives[end:]))[k]

    def _body(self, through: Sequence[Value], fixed: Sequence[Value]) -> tuple[Region, list[Value]]:
        """The region of the turn, and what of it is stacked for sums alone."""
        b, sums = self.builder, self.sums
        so_far = [b.input(v.aval) for v in sums.carried]
        added = [find("add")(x, v) for x, v in zip(so_far, sums.carried, strict=True)]
        outputs = [*self.next, *added, *self.of_slices, *sums.stacked]
        inputs = [*self.cts, *so_far, *through, *fixed]
        graph = Graph(b.graph.avals, [v.id for v in inputs], b.graph.nodes, [v.id for v in outputs])
        return Region(without_dead_code(graph)), sums.stacked


# ---- without what nobody reads ---------------------------------------------------------------------------------


def narrowed(graph: Graph) -> Graph:
    """The program whose loops carry and give only what is read."""
    if not any(n.op.name == "scan" for n in graph.nodes):
        return graph
    live, nodes = set(graph.outputs), []
    for node in reversed(graph.nodes):
        made = _narrowed(graph, node, live) if node.op.name == "scan" else node
        if made.may_fail or made.has_effect or not live.isdisjoint(made.results):
            live.update(made.operands)
        nodes.append(made)
    return replace(graph, nodes=nodes[::-1])


def _narrowed(outer: Graph, node: Node, live: set[int]) -> Node:
    n, sliced, size, reverse, body = node.attrs
    wanted = [v in live for v in node.results]
    if not any(wanted):
        return node
    graph = body.graph
    while True:
        kept = Graph(graph.avals, graph.inputs, graph.nodes, list(compress(graph.outputs, wanted)))
        used = reads(Region(without_dead_code(kept)))
        new = [w or (k < n and used[k]) for k, w in enumerate(wanted)]
        if new == wanted:
            break
        wanted = new
    keep = [*wanted[:n], *used[n:]]
    n_sliced = sum(keep[n : n + sliced])
    if all(wanted) and all(keep):
        return node
    if sliced and not n_sliced:
        size = outer.avals[node.operands[n]].shape[0]
    made = without_inputs(Region(kept), keep)
    attrs = (sum(keep[:n]), n_sliced, size, reverse, made)
    return node._replace(
        operands=tuple(compress(node.operands, keep)), attrs=attrs, results=tuple(compress(node.results, wanted))
    )


# ---- turn by turn ----------------------------------------------------------------------------------------------


def unrolled(graph: Graph, all_of_them: bool = True) -> Graph:
    """The program with the turns one after the other in the place of its own loops, for what knows no loops; or else of those only
    whose turns have one number for all sizes."""
    graph = narrowed(graph)
    if not any(_is_unrolled(graph, n, all_of_them) for n in graph.nodes):
        return graph
    b = GraphBuilder()
    known = {v: b.input(graph.avals[v]) for v in graph.inputs}
    for node in graph.nodes:
        b.loc = node.loc
        operands = [known[v] for v in node.operands]
        with b.on(graph.device(node)):
            is_unrolled = _is_unrolled(graph, node, all_of_them)
            found = _turns(b, operands, ScanParts(node.attrs[4], *node.attrs[:4])) if is_unrolled else None
            known.update(zip(node.results, found or b.emit_all(node.op, operands, node.attrs), strict=True))
    made = b.graph
    made.outputs, made.updates, made.sizes = [known[v].id for v in graph.outputs], dict(graph.updates), graph.sizes
    return made


def _is_unrolled(graph: Graph, node: Node, all_of_them: bool) -> bool:
    if node.op.name != "scan":
        return False
    carried, sliced, size, *_ = node.attrs
    times = graph.avals[node.operands[carried]].shape[0] if sliced else size
    return all_of_them or not isinstance(times, Size)


def _turns(b: GraphBuilder, operands: Sequence[Value], loop: ScanParts) -> list[Value]:
    n, end = loop.carried, loop.carried + loop.sliced
    carried, through, fixed = list(operands[:n]), operands[n:end], operands[end:]
    times = int(through[0].shape[0] if through else loop.size)
    body = Region(unrolled(loop.body.graph))
    given: list[list[Value]] = [[] for _ in body.outputs[n:]]
    for k in reversed(range(times)) if loop.reverse else range(times):
        found = inlined(body, [*carried, *[_row(x, k) for x in through], *fixed], b)
        carried = found[:n]
        for column, x in zip(given, found[n:], strict=True):
            column.append(find("reshape")(x, shape=(1, *x.shape)))
    return [
        *carried,
        *[_stacked(b, column[:: -1 if loop.reverse else 1], a) for column, a in zip(given, body.outputs[n:])],
    ]


def _row(x: Value, k: int) -> Value:
    starts, steps = (k, *[0] * (len(x.shape) - 1)), (1,) * len(x.shape)
    row = find("slice")(x, starts=starts, sizes=(1, *x.shape[1:]), steps=steps)
    return find("reshape")(row, shape=x.shape[1:])


def _stacked(b: GraphBuilder, rows: Sequence[Value], aval: Aval) -> Value:
    if not rows:
        return b.constant(0, aval.dtype, (0, *aval.shape))
    return rows[0] if len(rows) == 1 else find("concat")(*rows, dim=0)
