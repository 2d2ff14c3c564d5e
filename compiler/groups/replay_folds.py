"""Folds of a group as reductions and matrix products of a graph.

In: a linalg.generic whose body ends in `flambeau.fold`. Out: nodes for the generators: what does not depend on the result so far
is computed first, the rest is the step of a monoid. Next: `play.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.compiler.codegen.body_record import folding, pointwise
from flambeau.compiler.groups import linear
from flambeau.compiler.groups.form import REDUCTION, Body, BodyOp, Generic, GroupError, Order
from flambeau.compiler.groups.play import needs, number, score
from flambeau.compiler.groups.replay_places import computed, forms, reads_tables
from flambeau.compiler.groups.replay_views import GraphMaker
from flambeau.compiler.groups.weights import weight
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import by_mlir
from flambeau.dialects.record import HEAVY, Monoid
from flambeau.dialects.tape.reduction_order import is_inner


def fold(maker: GraphMaker, op: Generic) -> None:
    ops = dict(zip(op.body.numbers(), op.body.ops, strict=True))
    last = ops.get(op.body.results[0]) if len(op.body.results) == 1 else None
    if last is None or last.name != "flambeau.fold" or not isinstance(last.attribute, Order):
        raise GroupError("[linalg.generic] a reduction does not yield one flambeau.fold, which says its order. Add it.")
    kept = _kept(op)
    folded = _folded(maker, op, last)
    factors = _factors(op, ops, last.operands[0])
    shape = maker.group.avals[op.results[0]].shape
    if factors is not None and _is_matrix(shape, kept, folded, last.attribute):
        maker.value[op.results[0]] = _product(maker, op, factors, kept, folded)
    else:
        maker.value[op.results[0]] = _reduction(maker, op, last, kept, folded)


def _kept(op: Generic) -> list[int]:
    """The loops along the result's axes, in their order."""
    (map,) = op.result_maps
    kept = [e.terms[0][0] for e in map if len(e.terms) == 1]
    if len(kept) != len(map) or sorted(kept) != [d for d, i in enumerate(op.iterators) if i != REDUCTION]:
        raise GroupError("[linalg.generic] a result is not indexed by each parallel loop once. Give it such a map.")
    return kept


def _folded(maker: GraphMaker, op: Generic, last: BodyOp) -> list[int]:
    """The folded loops in the order of the fold."""
    known = forms(maker, op)
    wanted = {d for d, i in enumerate(op.iterators) if i == REDUCTION}
    found = linear.folded_loops([known.get(x) for x in last.operands[1:]], op.extents, wanted)
    if found is None:
        raise GroupError("[flambeau.fold] is not told the place of whole loops: one was split or shifted. Undo that.")
    return found


# ---- reductions ---------------------------------------------------------------------------------------------------


def _reduction(maker: GraphMaker, op: Generic, last: BodyOp, kept: list[int], folded: list[int]) -> int:
    body, (result,), order = op.body, op.results, last.attribute
    assert isinstance(order, Order)
    dims, axes = _space(op, kept, folded, order.name)
    total, step = len(op.operands), last.operands[0]
    element = _element(body, total, step)
    x = _elements(maker, op, element, dims)
    part = score(body, [step], [element], whole=False)

    def combine(b: Any, x: Any, y: Any) -> Any:
        return part.play(b, {total: x, element: y})[0]

    identity = number(order.identity, body.types[total])
    monoid = Monoid(lambda dtype: identity, combine)
    record = folding(_name(op, step), monoid, HEAVY)
    return maker.node(record, [x], maker.group.avals[result], op.loc, (axes,))


def _space(op: Generic, kept: list[int], folded: list[int], order: str) -> tuple[list[int], tuple[int, ...]]:
    """The loops as axes of the operand, so that generators choose the fold's own order, and which of them are folded."""
    in_place = sorted([*kept, *folded])
    choices = [in_place] if kept == sorted(kept) and folded == sorted(folded) else []
    choices += [[*kept, *folded], [*folded, *kept]]
    for dims in choices:
        shape: list[Any] = [op.extents[d] for d in dims]
        axes = tuple(sorted(dims.index(d) for d in folded))
        if order == "any" or ("lanes" if is_inner(tuple(shape), axes) else "chains") == order:
            return dims, axes
    raise GroupError(
        f"[flambeau.fold] no generator folds loops {folded} of {op.extents} by {order}. Take another order."
    )


def _element(body: Body, total: int, step: int) -> int:
    """The one value that the step combines with the result so far."""
    combining = {total}
    leaves: dict[int, None] = {}
    for n, op in zip(body.numbers(), body.ops, strict=True):
        if n <= step and op.name != "flambeau.fold" and not combining.isdisjoint(op.operands):
            combining.add(n)
            leaves.update(dict.fromkeys(x for x in op.operands if x not in combining))
    if step not in combining or len(leaves) != 1:
        raise GroupError("[flambeau.fold] its step does not combine one element with the result so far. Let it.")
    return next(iter(leaves))


def _elements(maker: GraphMaker, op: Generic, element: int, dims: list[int]) -> int:
    """What is folded, as a tensor over all loops."""
    body, captures = op.body, len(op.operands) + len(op.results)
    if element < len(op.operands) or captures <= element < len(body.types):
        return maker.arguments(op, [element], dims)[0]
    part = score(body, [element], whole=False)
    if reads_tables(op) or any(made.name == "linalg.index" and n in part.needed for n, made in part.ops):
        return computed(maker, op, dims, element)
    operands = maker.arguments(op, part.arguments, dims)

    def lower(b: Any, *xs: Any) -> Any:
        return part.play(b, dict(zip(part.arguments, xs, strict=True)))[0]

    record = pointwise(op.name or "generic", lower, weight(body))
    aval = Aval(tuple(op.extents[d] for d in dims), by_mlir(body.value_types()[element]))
    return maker.node(record, operands, aval, op.loc)


def _name(op: Generic, step: int) -> str:
    """What people call it; extremes of floats are also known by it, since they are folded as integers."""
    found = dict(zip(op.body.numbers(), op.body.ops, strict=True))[step].name
    extreme = {"arith.maximumf": "max", "arith.minimumf": "min"}.get(found)
    is_float = op.body.types[len(op.operands)].startswith(("f", "bf"))
    return extreme or ("fold" if is_float and op.name in ("max", "min") else op.name or "fold")


# ---- products -----------------------------------------------------------------------------------------------------


def _factors(op: Generic, ops: dict[int, BodyOp], step: int) -> tuple[int, int] | None:
    """The two numbers of the body that the step multiplies, in one rounding or in integers, and adds to the result so far."""
    total, last = len(op.operands), ops.get(step)
    if last is None or len(op.results) != 1:
        return None
    if last.name == "math.fma":
        return (last.operands[0], last.operands[1]) if last.operands[2] == total else None
    if last.name != "arith.addi" or last.operands[0] != total:
        return None
    factor = ops.get(last.operands[1])
    return factor.operands if factor is not None and factor.name == "arith.muli" else None  # type: ignore[return-value]


def _is_matrix(shape: tuple[Any, ...], kept: list[int], folded: list[int], order: Order) -> bool:
    """Whether generators of matrix products sum in this order."""
    wanted = "lanes" if 1 in shape[-2:] else "blocks"
    return len(folded) == 1 and len(kept) >= 2 and order.name in (wanted, "any")


def _product(maker: GraphMaker, op: Generic, factors: tuple[int, int], kept: list[int], folded: list[int]) -> int:
    (k,) = folded
    spaces = ([*kept[:-1], k], [*kept[:-2], k, kept[-1]])
    operands = [_factor(maker, op, x, space) for x, space in zip(factors, spaces, strict=True)]
    return maker.record("matmul", operands, maker.group.avals[op.results[0]], (), op.loc)


def _factor(maker: GraphMaker, op: Generic, x: int, space: list[int]) -> int:
    """One side of a product as a tensor over its loops: an operand, or what the body computes of operands."""
    if x < len(op.operands):
        return maker.view(op.operands[x], op.operand_maps[x], space, op.extents)
    needed = needs(op.body, [x])
    loops = {d for k in needed if k < len(op.operands) for e in op.operand_maps[k] for d, _ in e.terms}
    if not loops <= set(space) or any(
        o.name in ("linalg.index", "flambeau.check") and n in needed for n, o in zip(op.body.numbers(), op.body.ops)
    ):
        raise GroupError(
            f"[linalg.generic] a product's factor is computed over loops {sorted(loops)}, which are not those of one side "
            f"({sorted(space)}), or of places. Multiply what depends on one side."
        )
    return _elements(maker, op, x, space)
