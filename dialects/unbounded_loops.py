"""The gradient of a loop whose length is not known before, `while_loop`.

In: the regions of a loop, its operands, cotangents of its results. Out: those of its operands, a program with loops. A gradient
goes through the turns backwards and reads what was carried into each. For that there is no room: how many there are is found by
running the loop once more. So it keeps what was carried into `SLOTS` turns at equal distances, goes back from one to the one
before, and within such a part does the same again; what lies between is computed again from the last one kept. Up to `SLOTS`²
turns are computed three times more, of n turns each about n / (2 `SLOTS`²) times beyond that. (Griewank, "Achieving logarithmic
growth of temporal and spatial complexity in reverse automatic differentiation", 1992, with a given number of levels.) Next:
`tape/control.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import compress

from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import int64
from flambeau.dialects.graph import Graph, Region
from flambeau.dialects.loops import ScanParts, flowing
from flambeau.dialects.record import find
from flambeau.dialects.region import build, cotangents, inlined

#: Turns whose carried values are kept, at each of `_LEVELS` levels.
_SHIFT = 5
SLOTS = 1 << _SHIFT
_LEVELS = 2

_COUNT = Aval((), int64)


def gradient(
    cts: Sequence[Value | None], operands: Sequence[Value], goes_on: Region, body: Region
) -> list[Value | None]:
    """A cotangent per operand, None where none arrives, given those of some results. A sum over turns begins with the last one."""
    n = len(body.outputs)
    body = Region(_silent(body.graph))
    flows, arrives = flowing(body, n, [ct is not None for ct in cts])
    if not any(arrives) and not any(flows):
        return [None] * len(operands)
    loop = _Backward(body, flows, [*[False] * n, *arrives[n:]])
    state, fixed = list(operands[:n]), list(operands[n:])
    first = [x.like(0) if ct is None else ct for x, ct, flow in zip(state, cts, flows) if flow]
    sums = [x.like(0) for x in compress(operands, loop.summed)]
    zero = operands[0].builder.constant(0, int64)
    turns = _counted(operands, goes_on, body)
    found = iter(loop.back(_LEVELS, zero, turns, state, fixed, [*first, *sums]))
    of_state = [next(found) if flow else None for flow in flows]
    return [*of_state, *[next(found) if there else None for there in loop.summed[n:]]]


def _silent(graph: Graph) -> Graph:
    """The program without its effects, which happened in the forward."""
    if not graph.has_effect:
        return graph
    graph = graph.with_regions(_silent)
    same = {v: v for v in range(len(graph.avals))}
    nodes = []
    for node in graph.nodes:
        operands = tuple([same[v] for v in node.operands])
        if node.op.effect:
            same[node.results[0]] = operands[0]  # the token
        else:
            nodes.append(node._replace(operands=operands))
    return replace(graph, nodes=nodes, outputs=[same[v] for v in graph.outputs])


def _counted(operands: Sequence[Value], goes_on: Region, body: Region) -> Value:
    """How many turns the loop takes."""
    zero = operands[0].builder.constant(0, int64)

    def again(i: Value, *values: Value) -> list[Value]:
        return [i + 1, *inlined(body, values)]

    return _while([zero, *operands], lambda _, *values: inlined(goes_on, values), again)[0]


def _while(
    operands: Sequence[Value], goes_on: Callable[..., Sequence[Value]], body: Callable[..., Sequence[Value]]
) -> tuple[Value, ...]:
    types = [v.aval for v in operands]
    return operands[0].builder.emit_all(find("while_loop"), operands, (build(types, goes_on), build(types, body)))


def _least(x: Value, y: Value) -> Value:
    return find("minimum")(x, y)


@dataclass(frozen=True)
class _Backward:
    """The turns of a loop backwards. `flows` are the carried values, `summed` the operands whose cotangents are carried."""

    body: Region
    flows: Sequence[bool]
    summed: Sequence[bool]

    def advanced(self, start: Value, end: Value, state: Sequence[Value], fixed: Sequence[Value]) -> list[Value]:
        """What is carried into turn `end`, given that into turn `start`."""
        n = len(state)

        def again(i: Value, *rest: Value) -> list[Value]:
            return [i + 1, *inlined(self.body, [*rest[:n], *rest[n + 1 :]])]

        return list(_while([start, *state, end, *fixed], lambda i, *rest: [i < rest[n]], again)[1:])

    def turn(self, state: Sequence[Value], fixed: Sequence[Value], carried: Sequence[Value]) -> list[Value]:
        """Cotangents and sums before a turn, given those after it."""
        left = iter(carried)
        cts = [next(left) if flow else None for flow in self.flows]
        found = cotangents(self.body, [*state, *fixed], cts)
        new = [x.like(0) if ct is None else ct for x, ct, flow in zip(state, found, self.flows) if flow]
        return [*new, *[s if ct is None else s + ct for s, ct in zip(left, compress(found, self.summed))]]

    def back(
        self, level: int, start: Value, end: Value, state: list[Value], fixed: list[Value], carried: list[Value]
    ) -> list[Value]:
        """Cotangents and sums before turn `start`, given those after turn `end - 1` and what is carried into turn `start`."""
        return (
            self._parts(level, start, end, state, fixed, carried)
            if level
            else self._turns(start, end, state, fixed, carried)
        )

    def _turns(
        self, start: Value, end: Value, state: list[Value], fixed: list[Value], carried: list[Value]
    ) -> list[Value]:
        m, n = 1 + len(carried), len(state)

        def again(k: Value, *rest: Value) -> list[Value]:
            before, start, state, fixed = k - 1, rest[m - 1], rest[m : m + n], rest[m + n :]
            there = self.advanced(start, before, state, fixed)
            return [before, *self.turn(there, fixed, rest[: m - 1])]

        return list(_while([end, *carried, start, *state, *fixed], lambda k, *rest: [k > rest[m - 1]], again)[1:m])

    def _parts(
        self, level: int, start: Value, end: Value, state: list[Value], fixed: list[Value], carried: list[Value]
    ) -> list[Value]:
        """By `SLOTS` parts of equal length, the last ones of which may be shorter or empty."""
        b, n, m = start.builder, len(state), len(carried)
        equal = find("shr")(end - start + (SLOTS - 1), b.constant(_SHIFT, int64))
        length = find("maximum")(equal, b.constant(SLOTS ** (level - 1), int64))
        where = [start, end, length]

        def of(k: Value, start: Value, end: Value, length: Value) -> tuple[Value, Value]:
            first = _least(start + k * length, end)
            return first, _least(first + length, end)

        def forward(*values: Value) -> list[Value]:
            state, k, where, fixed = values[:n], values[n], values[n + 1 : n + 4], values[n + 4 :]
            first, end = of(k, *where)
            there = _where(  # an empty part is nothing to differentiate again: a loop without turns would go through its slots
                first < end,
                lambda f, e, *xs: self.advanced(f, e, xs[:n], xs[n:]),
                lambda f, e, *xs: list(xs[:n]),
                [first, end, *state, *fixed],
            )
            return [*there, *state]

        def backward(*values: Value) -> list[Value]:
            carried, k, state, rest = list(values[:m]), values[m], list(values[m + 1 : m + 1 + n]), values[m + 1 + n :]
            first, end = of(k, *rest[:3])
            return _where(
                first < end,
                lambda f, e, *xs: self.back(level - 1, f, e, list(xs[m : m + n]), list(xs[m + n :]), list(xs[:m])),
                lambda f, e, *xs: list(xs[:m]),
                [first, end, *carried, *state, *rest[3:]],
            )

        numbers = find("iota")(shape=(SLOTS,), dim=0, dtype=int64, builder=b)
        kept = _scan(state, [numbers], [*where, *fixed], forward)[n:]
        return _scan(carried, [numbers, *kept], [*where, *fixed], backward, reverse=True)


def _scan(
    carried: Sequence[Value],
    through: Sequence[Value],
    fixed: Sequence[Value],
    turn: Callable[..., Sequence[Value]],
    reverse: bool = False,
) -> list[Value]:
    slices = [x.aval._replace(shape=x.shape[1:]) for x in through]
    body = build([*[x.aval for x in carried], *slices, *[x.aval for x in fixed]], turn)
    return list(ScanParts(body, len(carried), len(through), 0, reverse).emit([*carried, *through, *fixed]))


def _where(
    flag: Value,
    then: Callable[..., Sequence[Value]],
    otherwise: Callable[..., Sequence[Value]],
    values: Sequence[Value],
) -> list[Value]:
    types = [v.aval for v in values]
    return list(flag.builder.emit_all(find("cond"), [flag, *values], (build(types, then), build(types, otherwise))))
