"""A group as a graph for the code generators, whose ops know nothing but bodies.

In: a `Group`, of a cluster or read back from MLIR. Out: `Replayed`: a graph whose views say what maps say, and whose computed
ops play bodies; no record's lowering is behind them. Raises `GroupError` for a group that no generator follows. This
stands between groups and generators until these read groups themselves. Next: `replay_views.py`, `replay_folds.py`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flambeau.compiler import families
from flambeau.compiler.codegen.body_record import BodyRecord, placed, pointwise
from flambeau.compiler.codegen.values import Number
from flambeau.compiler.groups import linear
from flambeau.compiler.groups.form import REDUCTION, Body, Call, Generic, Group, GroupError, identity_map
from flambeau.compiler.groups.play import needs, number, score
from flambeau.compiler.groups.replay_folds import fold
from flambeau.compiler.groups.replay_places import computed, forms, reads_tables
from flambeau.compiler.groups.replay_views import GraphMaker
from flambeau.compiler.groups.weights import weight
from flambeau.dialects.dtypes import int64
from flambeau.dialects.graph import Graph
from flambeau.dialects.size import Size


@dataclass
class Replayed:
    """The graph, the error number of every op that may fail, by its result, and the ops that somebody tiled, with theirs."""

    graph: Graph
    errors: dict[int, int] = field(default_factory=dict)
    tiled: tuple[tuple[int, Generic], ...] = ()


def replay(group: Group) -> Replayed:
    maker = GraphMaker(group)
    for op in group.ops:
        if isinstance(op, Call):
            _call(maker, op)
        elif REDUCTION in op.iterators or any(o.name == "flambeau.fold" for o in op.body.ops):
            fold(maker, op)
        else:
            _points(maker, op)
    maker.graph.outputs = [maker.value[v] for v in group.outputs]
    tiled = [op for op in group.ops if isinstance(op, Generic) and op.tiles]
    return Replayed(maker.graph, maker.errors, tuple((maker.value[v], op) for op in tiled for v in op.results))


# ---- ops on whole tensors ---------------------------------------------------------------------------------------


def _call(maker: GraphMaker, op: Call) -> None:
    make = _CALLS.get(op.name)
    if make is None:
        found = families.group_op(op.name)
        make = None if found is None else found.replay
    if make is None:
        raise GroupError(f"[{op.name}] is no op that a code generator knows. Use those that `groups/form.py` names.")
    (result,) = op.results
    maker.value[result] = make(maker, op, [maker.value[v] for v in op.operands])


def _constant(maker: GraphMaker, op: Call, operands: list[int]) -> int:
    dtype = maker.aval(op).dtype
    if maker.aval(op).rank:
        raise GroupError("[arith.constant] a table is read as a whole. Read its elements in a body, by tensor.extract.")
    value = number(str(op.attribute["value"]), dtype.mlir)
    if dtype is int64:
        maker.integers[op.results[0]] = int(value)
    return maker.constant(value, dtype)


def _size(maker: GraphMaker, op: Call, operands: list[int]) -> int:
    maker.integers[op.results[0]] = op.attribute["size"]
    return maker.constant(op.attribute["size"], maker.aval(op).dtype)


def _empty(maker: GraphMaker, op: Call, operands: list[int]) -> int:
    aval = maker.aval(op)
    return maker.broadcast(maker.reshaped(maker.constant(0, aval.dtype), (1,) * aval.rank), aval.shape)


def _reshape(maker: GraphMaker, op: Call, operands: list[int]) -> int:
    return maker.reshaped(operands[0], maker.aval(op).shape)


def _slice(maker: GraphMaker, op: Call, operands: list[int]) -> int:
    starts, steps, aval = op.attribute["starts"], op.attribute["steps"], maker.aval(op)
    if "clamped" not in starts:
        return maker.record("slice", operands, aval, (starts, aval.shape, steps), op.loc)
    x, *given = operands
    return maker.record("dynamic_slice", [x, *_starts(maker, starts, given)], aval, (aval.shape, steps), op.loc)


def _starts(maker: GraphMaker, starts: tuple[Any, ...], given: list[int]) -> list[int]:
    """Starts as values."""
    rest = iter(given)
    return [next(rest) if start == "clamped" else maker.constant(start, int64) for start in starts]


def _insert(maker: GraphMaker, op: Call, operands: list[int]) -> int:
    update, x, *given = operands
    places = _starts(maker, op.attribute["starts"], given)
    return maker.record("update_slice", [x, update, *places], maker.aval(op), (op.attribute["steps"],), op.loc)


def _concat(maker: GraphMaker, op: Call, operands: list[int]) -> int:
    return maker.record("concat", operands, maker.aval(op), (op.attribute["dim"],), op.loc)


def _pad(maker: GraphMaker, op: Call, operands: list[int]) -> int:
    return maker.record("pad", operands, maker.aval(op), (op.attribute["low"], op.attribute["high"]), op.loc)


_CALLS: dict[str, Callable[[GraphMaker, Call, list[int]], int]] = {
    "arith.constant": _constant,
    "flambeau.size": _size,
    "tensor.extract": lambda maker, op, operands: operands[0],
    "tensor.empty": _empty,
    "tensor.collapse_shape": _reshape,
    "tensor.expand_shape": _reshape,
    "tensor.extract_slice": _slice,
    "tensor.insert_slice": _insert,
    "tensor.concat": _concat,
    "tensor.pad": _pad,
}


# ---- nests over the elements of their results ---------------------------------------------------------------------


def _points(maker: GraphMaker, op: Generic) -> None:
    """One op for all results where these are elements of one place; else one per result. Loops come in the order of the
    result's axes, whatever theirs is."""
    apart = {o.name for o in op.body.ops} & {"linalg.index", "tensor.extract"}
    if len(op.results) > 1 and not apart and set(op.result_maps) == {identity_map(len(op.iterators))}:
        found = _elementwise(op, op.body.results).emit(maker, op, list(range(len(op.iterators))), op.results)
        maker.value.update(zip(op.results, found, strict=True))
        return
    for k, result in enumerate(op.results):
        map, rank = op.result_maps[k], len(op.iterators)
        if map == identity_map(rank):
            maker.value[result] = _result(maker, op, list(range(rank)), op.body.results[k], result)
            continue
        loops = [e.terms[0][0] for e in map if e.terms and e == e.of(e.terms[0][0])]
        if len(loops) != len(map) or sorted(loops) != list(range(len(op.iterators))):
            raise GroupError("[linalg.generic] a result is not indexed by each parallel loop once. Give it such a map.")
        maker.value[result] = _result(maker, op, loops, op.body.results[k], result)


def _result(maker: GraphMaker, op: Generic, loops: list[int], wanted: int, result: int) -> int:
    known = _played.get((id(op.body), wanted, op.name, len(op.results)))
    if known is not None and known.body is op.body:
        return known.emit(maker, op, loops, (result,))[0]
    body, names = op.body, {o.name for o in op.body.ops}
    if wanted < len(op.operands) and "flambeau.check" not in names:
        x = maker.view(op.operands[wanted], op.maps[wanted], loops, op.extents)
        if x != maker.value[op.operands[wanted]]:
            return x  # a copy of a view
    if wanted >= len(op.operands) + len(op.results) and wanted < len(body.types):
        return maker.view(op.captures[wanted - len(op.operands) - len(op.results)], (), loops, op.extents)
    if (value := _literal(body, wanted)) is not None:
        constant = maker.constant(value, maker.group.avals[result].dtype)
        return maker.stretched(constant, loops, op.extents)
    if reads_tables(op):
        return computed(maker, op, loops, wanted)
    if "linalg.index" in names:
        return _source(maker, op, loops, wanted, result)
    played = _elementwise(op, (wanted,))
    if names - {"arith.constant"}:  # a copy in place is only one where its map says so
        _played[id(body), wanted, op.name, len(op.results)] = played
        if len(_played) > _MOST:
            _played.popitem(last=False)
    return played.emit(maker, op, loops, (result,))[0]


def _literal(body: Body, wanted: int) -> Number | None:
    """The number that a body gives everywhere, if it does."""
    ops = dict(zip(body.numbers(), body.ops, strict=True))
    op = ops.get(wanted)
    if op is not None and op.name == "arith.constant":
        return number(str(op.attribute), op.types[0])
    is_turned = op is not None and op.name == "arith.bitcast" and body.value_types()[wanted] == "ui64"
    if op is not None and (is_turned or op.name in ("arith.trunci", "arith.sitofp")):
        op = ops.get(op.operands[0])
    return op.attribute if op is not None and isinstance(op.attribute, Size) else None


class Played(NamedTuple):
    """A body as an elementwise op: the arguments that it reads, and the number of its failure, if it may fail."""

    body: Body
    record: BodyRecord
    slots: list[int]
    code: Hashable

    def emit(self, maker: GraphMaker, op: Generic, loops: list[int], results: tuple[int, ...]) -> tuple[int, ...]:
        operands = maker.arguments(op, self.slots, loops)
        found = maker.nodes(self.record, operands, [maker.group.avals[v] for v in results], op.loc)
        if self.code is not None:
            maker.fails(found[0], self.code)
        return found


_MOST = 2048
_played: OrderedDict[tuple[Hashable, ...], Played] = OrderedDict()  # by bodies themselves: they are shared


def _elementwise(op: Generic, wanted: tuple[int, ...]) -> Played:
    body = op.body
    checks = [o for o in body.ops if o.name == "flambeau.check"]
    if len(checks) > 1:
        raise GroupError("[linalg.generic] a body checks more than one condition. Leave one in each.")
    checked = [x for o in checks for x in o.operands]
    part = score(body, wanted, out=checked, whole=len(op.results) == len(wanted))
    slots = sorted({*part.arguments, *(k for k in needs(body, checked) if k < len(body.types))})
    unify = len(slots) > 1 and not part.is_short

    def lower(b: Any, *xs: Any) -> Any:
        found = part.play(b, dict(zip(slots, b.unify(*xs) if unify else xs, strict=True)))
        return tuple(found) if len(wanted) > 1 else found[0]

    fails = _fails(body, checked, slots) if checks else None
    record = pointwise(op.name or "generic", lower, weight(body, op.name), fails, len(wanted))
    return Played(body, record, slots, checks[0].attribute if checks else None)


def _fails(body: Body, checked: list[int], slots: list[int]) -> Callable[..., Any]:
    part = score(body, checked, whole=False)
    return lambda b, *xs: part.play(b, dict(zip(slots, xs, strict=True)))[0]


def _source(maker: GraphMaker, op: Generic, loops: list[int], wanted: int, result: int) -> int:
    """Computed of places: an iota, or what asks for the element's row-major number only."""
    body, aval = op.body, maker.group.avals[result]
    if (loop := _iota(body, wanted)) is not None:
        return maker.record("iota", (), aval, (aval.shape, loops.index(loop), aval.dtype), op.loc)
    here = linear.row_major(op.extents)
    types = body.value_types()
    known = [n for n, form in forms(maker, op).items() if form == here and types[n] == "i64"]
    part = score(body, [wanted], known, whole=len(op.results) == 1)
    is_split = any(o.name == "linalg.index" and n in part.needed for n, o in part.ops)
    if is_split or any(o.name == "flambeau.check" for o in body.ops):
        return computed(maker, op, loops, wanted)
    operands = [_numbers(maker, op, k, loops) for k in part.arguments]

    def lower(b: Any, *xs: Any) -> Any:
        given = dict(zip(part.arguments, xs, strict=True))
        return part.play(b, given | dict.fromkeys(known, b.position()))[0]

    record = placed(op.name or "generic", lower, weight(body))
    return maker.node(record, operands, aval, op.loc)


def _numbers(maker: GraphMaker, op: Generic, slot: int, loops: list[int]) -> int:
    """An argument of what is computed of places: a key or an offset is one number, not one per place."""
    first = len(op.operands) + len(op.results)
    if slot >= first:
        return maker.value[op.captures[slot - first]]
    return maker.arguments(op, [slot], loops)[0] if op.maps[slot] else maker.value[op.operands[slot]]


def _iota(body: Body, wanted: int) -> int | None:
    """The loop whose coordinate a body gives, if it gives nothing else."""
    ops = dict(zip(body.numbers(), body.ops, strict=True))
    op = ops.get(wanted)
    is_turned = op is not None and op.name == "arith.bitcast" and body.value_types()[wanted] == "ui64"
    if op is not None and (is_turned or op.name in ("arith.trunci", "arith.sitofp")):
        op = ops.get(op.operands[0])
    if op is None or op.name != "arith.index_cast":
        return None
    index = ops[op.operands[0]]
    return index.attribute if index.name == "linalg.index" and isinstance(index.attribute, int) else None
