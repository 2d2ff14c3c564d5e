"""A failing fusion group made small: as few ops, and as little scalar code in them, as still fail.

In: a group, and a question. Out: a group, valid like the first, of which the answer is still yes. Results of ops that are left out
become inputs; an op of a body that is left out is replaced by what it was computed from. The search is that for programs
(`dialects/reducing.py`). Next: `compiler/tools/reduce_text.py`, which asks a command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from flambeau.compiler.groups.form import (
    Body,
    BodyOp,
    Call,
    Generic,
    Group,
    GroupError,
    StructuredOp,
    gives_scalar,
    scalars,
)
from flambeau.compiler.groups.verify import verify
from flambeau.dialects.reducing import read_of, smallest


def reduced(group: Group, fails: Callable[[Group], bool]) -> Group:
    """A valid group made of parts of `group`, which fails, that still fails: none of its ops can be left out."""

    def holds(made: Group) -> bool:
        return _is_valid(made) and fails(made)

    best = _without_unread(group, holds)
    while True:
        best = smallest(best, lambda made: (made.ops, made.outputs), part, holds)
        simpler = next(filter(holds, _simpler(best)), None)
        if simpler is None:
            return best
        best = simpler


def part(group: Group, ops: Sequence[StructuredOp], outputs: Sequence[int]) -> Group | None:
    """The group of these ops and those of the outputs that they compute, or what the ops left out read of them if they compute
    none, without ops that nobody needs; None if there is no output. Numbers stay with who reads them, for they are no inputs."""
    named = {v for op in ops for v in op.results} - scalars(group)
    wanted = [v for v in outputs if v in named] or read_of(named, (o for o in group.ops if named.isdisjoint(o.results)))
    needed, kept = set(wanted), []
    for op in reversed(group.ops):
        if needed.intersection(op.results) and (named.intersection(op.results) or _stays(op)):
            kept.append(op)
            needed.update(op.reads)
    return _renumbered(group, kept[::-1], wanted) if wanted else None


def _stays(op: StructuredOp) -> bool:
    return isinstance(op, Call) and (gives_scalar(op) or op.name == "arith.constant")


def _is_valid(group: Group) -> bool:
    try:
        verify(group)
    except GroupError:
        return False
    return True


def _without_unread(group: Group, holds: Callable[[Group], bool]) -> Group:
    made = part(group, group.ops, group.outputs)
    return made if made is not None and holds(made) else group


def _renumbered(group: Group, ops: Sequence[StructuredOp], outputs: Sequence[int]) -> Group:
    made = {v for op in ops for v in op.results}
    read = sorted({v for op in ops for v in op.reads} - made)
    new = {v: k for k, v in enumerate([*read, *(v for op in ops for v in op.results)])}

    def at(values: Sequence[int]) -> tuple[int, ...]:
        return tuple(new[v] for v in values)

    moved = [
        replace(op, operands=at(op.operands), results=at(op.results), captures=at(op.captures))
        if isinstance(op, Generic)
        else replace(op, operands=at(op.operands), results=at(op.results))
        for op in ops
    ]
    return Group(tuple(group.avals[v] for v in new), tuple(range(len(read))), tuple(moved), at(outputs), group.sizes)


# ---- bodies -----------------------------------------------------------------------------------------------------


def _simpler(group: Group) -> Iterator[Group]:
    """The groups in which one op of one body is left out, the last ones first."""
    for at, op in reversed(list(enumerate(group.ops))):
        if not isinstance(op, Generic):
            continue
        for body in _bodies(op.body):
            ops = [*group.ops[:at], _with_body(op, body), *group.ops[at + 1 :]]
            yield _renumbered(group, _needed(ops, group.outputs), group.outputs)


def _needed(ops: Sequence[StructuredOp], outputs: Sequence[int]) -> list[StructuredOp]:
    needed, kept = set(outputs), []
    for op in reversed(ops):
        if needed.intersection(op.results):
            kept.append(op)
            needed.update(op.reads)
    return kept[::-1]


def _bodies(body: Body) -> Iterator[Body]:
    """The bodies without one of its ops: what read the op's result reads one of its operands of that type."""
    types, numbers = body.value_types(), body.numbers()
    for k in reversed(range(len(body.ops))):
        op = body.ops[k]
        if not op.types:
            yield _body_without(body, k, {})
        for v in dict.fromkeys(op.operands) if len(op.types) == 1 else ():
            if types[v] == op.types[0]:
                yield _body_without(body, k, {numbers[k]: v})


def _body_without(body: Body, dropped: int, instead: dict[int, int]) -> Body:
    """The body without an op and without what only that op needed."""
    numbers = body.numbers()

    def at(v: int) -> int:
        return instead.get(v, v)

    results = [at(v) for v in body.results]
    needed, kept = set(results), []
    for k in reversed(range(len(body.ops))):
        op = body.ops[k]
        made = range(numbers[k], numbers[k] + len(op.types))
        if k != dropped and (needed.intersection(made) or not made):
            kept.append(k)
            needed.update(map(at, op.operands))
    new = {v: v for v in range(len(body.types))}
    ops: list[BodyOp] = []
    for k in reversed(kept):
        op = body.ops[k]
        ops.append(op._replace(operands=tuple(new[at(v)] for v in op.operands)))
        new |= {numbers[k] + j: len(new) + j for j in range(len(op.types))}
    return Body(body.types, tuple(ops), tuple(new[v] for v in results))


def _with_body(op: Generic, body: Body) -> Generic:
    """The nest with another body, and without operands and captures that this does not read."""
    read = {v for o in body.ops for v in o.operands} | set(body.results)
    n, first = len(op.operands), len(op.operands) + len(op.results)
    operands = [k for k in range(n) if k in read]
    captures = [k for k in range(len(op.captures)) if first + k in read]
    kept = [*operands, *range(n, first), *(first + k for k in captures)]
    new = {v: k for k, v in enumerate(kept)}
    new.update((v, v - len(body.types) + len(kept)) for v in range(len(body.types), len(body.value_types())))
    ops = tuple(o._replace(operands=tuple(new[v] for v in o.operands)) for o in body.ops)
    return replace(
        op,
        operands=tuple(op.operands[k] for k in operands),
        maps=(*(op.maps[k] for k in operands), *op.result_maps),
        captures=tuple(op.captures[k] for k in captures),
        body=Body(tuple(body.types[v] for v in kept), ops, tuple(new[v] for v in body.results)),
    )
