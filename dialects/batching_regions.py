"""Batches of ops with regions: a choice, or a loop, that goes its own way in each call.

In: a `BatchedOp` of `cond`, `while_loop` or `scan`. Out: results. Where all calls go the same way, the op stays, with regions that
compute the batch. Else both branches of a choice are computed and one taken; a loop runs as long as any call does, and what a call
that has ended carries stays. Next: `batching.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

from flambeau.dialects.aval import Aval
from flambeau.dialects.batching import BatchBuilder, BatchedOp, moved, repeated, replayed
from flambeau.dialects.builder import Builder, Value
from flambeau.dialects.graph import Region
from flambeau.dialects.record import find
from flambeau.dialects.region import build
from flambeau.dialects.size import Int


def _run(region: Region, values: Sequence[Value], many: Sequence[bool], n: Int, b: Builder) -> list[tuple[Value, bool]]:
    """What a region gives for a batch; whether each result differs from call to call."""
    builder = BatchBuilder(b, n)
    inputs = [builder.value(x, is_many) for x, is_many in zip(values, many, strict=True)]
    return [(r.id, builder.is_batched(r)) for r in replayed(builder, region.graph, inputs)]


def _whole(region: Region, values: Sequence[Value], many: Sequence[bool], n: Int, b: Builder) -> list[Value]:
    return [x if is_many else repeated(x, n) for x, is_many in _run(region, values, many, n, b)]


def _types(region: Region, many: Sequence[bool], n: Int) -> list[Aval]:
    pairs = zip(region.inputs, many, strict=True)
    return [a._replace(shape=(n, *a.shape)) if is_many else a for a, is_many in pairs]


def chosen(flag: Value, x: Value, y: Value) -> Value:
    """x in the calls where the flag, [n], holds, else y."""
    shape = (*flag.shape, *[1] * (len(x.shape) - 1))
    return find("select")(find("reshape")(flag, shape=shape).expand(x.shape), x, y)


def cond(call: BatchedOp) -> Sequence[Value]:
    pred, *values = call.xs
    many, branches = call.many[1:], call.attrs
    if call.many[0]:
        then, otherwise = (_whole(branch, values, many, call.n, call.b) for branch in branches)
        return [chosen(pred, x, y) for x, y in zip(then, otherwise, strict=True)]

    def batched(branch: Region) -> Region:
        return build(
            _types(branch, many, call.n), lambda *xs: _whole(branch, xs, many, call.n, xs[0].builder) if xs else []
        )

    return call.emit(call.xs, tuple(map(batched, branches)))


def while_loop(call: BatchedOp) -> Sequence[Value]:
    goes_on, body = call.attrs
    n_carried, n = len(body.outputs), call.n
    many = _settled(call.many, goes_on, body)
    types = _types(body, many, n)
    ends_apart = _flags(goes_on, many)[0]

    def test(*xs: Value) -> list[Value]:
        ((flag, is_many),) = _run(goes_on, xs, many, n, xs[0].builder)
        return [find("any")(flag, axes=(0,)) if is_many else flag]

    def step(*xs: Value) -> list[Value]:
        found = _run(body, xs, many, n, xs[0].builder)
        new = [repeated(x, n) if wanted and not got else x for (x, got), wanted in zip(found, many)]
        if not ends_apart:
            return new
        ((flag, _),) = _run(goes_on, xs, many, n, xs[0].builder)
        return [chosen(flag, x, old) for x, old in zip(new, xs)]

    operands = [repeated(x, n) if m and not had else x for x, m, had in zip(call.xs, many, call.many, strict=True)]
    found = call.emit(operands, (build(types, test), build(types, step)))
    return [x if m else repeated(x, n) for x, m in zip(found, many[:n_carried])]


def scan(call: BatchedOp) -> Sequence[Value]:
    """The same loop, in each turn of which the whole batch takes its step."""
    n_carried, sliced, size, reverse, body = call.attrs
    n, end, many = call.n, n_carried + sliced, list(call.many)
    while True:
        differ = _flags(body, many)
        new = [m or d for m, d in zip(many[:n_carried], differ)] + many[n_carried:]
        if new == many:
            break
        many = new

    def step(*xs: Value) -> list[Value]:
        found = _run(body, xs, many, n, xs[0].builder)
        return [
            repeated(x, n) if m and not got else x
            for (x, got), m in zip(found, [*many[:n_carried], *differ[n_carried:]])
        ]

    operands = [repeated(x, n) if m and not had else x for x, m, had in zip(call.xs, many, call.many, strict=True)]
    for k in range(n_carried, end):
        operands[k] = moved(operands[k], 0, 1) if many[k] else operands[k]
    found = call.emit(operands, (n_carried, sliced, size, reverse, build(_types(body, many, n), step)))
    carried = [x if m else repeated(x, n) for x, m in zip(found, many[:n_carried])]
    return [*carried, *[moved(x, 1, 0) if m else repeated(x, n) for x, m in zip(found[n_carried:], differ[n_carried:])]]


def _flags(region: Region, many: Sequence[bool]) -> list[bool]:
    """Which results of a region differ from call to call: what is computed of anything that does, as a `BatchBuilder` has it. It
    is asked of each turn's region again and again, so that it must not write what the loops in there become."""
    graph = region.graph
    differ = set(compress(graph.inputs, many))
    for node in graph.nodes:
        if not differ.isdisjoint(node.operands):
            differ.update(node.results)
    return [v in differ for v in graph.outputs]


def _settled(had: Sequence[bool], goes_on: Region, body: Region) -> list[bool]:
    """Which operands of the loop differ from call to call, in any round."""
    many = list(had)
    while True:
        differ = _flags(body, many)
        if _flags(goes_on, many)[0]:
            differ = [True] * len(differ)
        new = [m or d for m, d in zip(many, differ)] + many[len(differ) :]
        if new == many:
            return many
        many = new
