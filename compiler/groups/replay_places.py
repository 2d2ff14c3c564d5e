"""What bodies compute of places: elements of tables as gathers and flips, indices of loops as iotas, and what is made of these.

In: a linalg.generic with `linalg.index` or `tensor.extract` in its body: one for a node, or several that a pass has fused. Out:
nodes for the generators. Next: `linear.py`, which values are linear in the loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from flambeau.compiler.codegen.body_record import pointwise
from flambeau.compiler.groups import linear
from flambeau.compiler.groups.form import BodyOp, Generic, GroupError
from flambeau.compiler.groups.play import needs, score
from flambeau.compiler.groups.replay_views import GraphMaker
from flambeau.compiler.groups.weights import weight
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import by_mlir, int64
from flambeau.dialects.graph import Loc
from flambeau.dialects.size import Int


def forms(maker: GraphMaker, op: Generic) -> dict[int, linear.AffineForm]:
    """The values of the body that are linear in the loops. Passes of MLIR's move a body's constants out of it."""
    first = len(op.operands) + len(op.results)
    known = {first + k: maker.integers.get(v) for k, v in enumerate(op.captures)}
    return linear.forms(op.body, {k: linear.AffineForm((), n) for k, n in known.items() if n is not None})


def reads_tables(op: Generic) -> bool:
    """Whether the body reads captured tensors at places that it says."""
    return any(_is_pick(op, made) for made in op.body.ops)


def _is_pick(op: Generic, made: BodyOp) -> bool:
    return made.name == "tensor.extract" and len(op.operands) + len(op.results) <= made.operands[0] < len(op.body.types)


def computed(maker: GraphMaker, op: Generic, loops: list[int], wanted: int) -> int:
    """A value of the body over `loops`: elements of tables and indices of loops are nodes of their own, and one more is what is
    made of them."""
    body = op.body
    checks = [made for made in body.ops if made.name == "flambeau.check"]
    if len(checks) > 1:
        raise GroupError("[linalg.generic] a body checks more than one condition. Leave one in each.")
    known = _elements(maker, op, loops, wanted)
    of_tables = bool(known)  # whose gather checks the condition
    checked = [] if of_tables else [x for made in checks for x in made.operands]
    if known.keys() != {wanted} or checked:
        known |= _indices(maker, op, loops, (wanted, *checked), known)
    if wanted in known:
        return known[wanted]
    part = score(body, [wanted], tuple(known), whole=False)
    asked = score(body, checked, tuple(known), whole=False)
    slots = sorted({*part.arguments, *asked.arguments})
    numbers = [*slots, *known]

    def lower(b: Any, *xs: Any) -> Any:
        return part.play(b, dict(zip(numbers, b.unify(*xs) if len(xs) > 1 else xs, strict=True)))[0]

    def fails(b: Any, *xs: Any) -> Any:
        return asked.play(b, dict(zip(numbers, xs, strict=True)))[0]

    record = pointwise(op.name or "generic", lower, weight(body), fails if checked else None)
    aval = Aval(tuple(op.extents[d] for d in loops), by_mlir(body.value_types()[wanted]))
    found = maker.node(record, [*maker.arguments(op, slots, loops), *known.values()], aval, op.loc)
    if checked:
        maker.fails(found, checks[0].attribute)
    return found


def _elements(maker: GraphMaker, op: Generic, loops: list[int], wanted: int) -> dict[int, int]:
    """The elements of tables that a value depends on, by their numbers in the body."""
    needed = needs(op.body, (wanted,))
    picks = {
        n: made for n, made in zip(op.body.numbers(), op.body.ops, strict=True) if _is_pick(op, made) and n in needed
    }
    return {n: _picked(maker, op, loops, made) for n, made in picks.items()}


def _indices(
    maker: GraphMaker, op: Generic, loops: list[int], wanted: Sequence[int], known: dict[int, int]
) -> dict[int, int]:
    """The loops' indices, as numbers, that values depend on, but for what is known."""
    body, types = op.body, op.body.value_types()
    needed, known_forms = needs(body, wanted, tuple(known)), forms(maker, op)
    shape = tuple(op.extents[d] for d in loops)
    row_major = sorted((loops[k], c) for k, c in linear.row_major(shape).terms)
    axes: dict[linear.AffineForm, int | None] = {linear.AffineForm(tuple(row_major)): None}
    axes |= {linear.AffineForm(((d, 1),)): k for k, d in enumerate(loops)}
    casts = [n for n, made in zip(body.numbers(), body.ops, strict=True) if made.name == "arith.index_cast"]
    casts = [n for n in casts if n in needed and types[n] == "i64"]
    found = {n: axes[form] for n in casts if (form := known_forms.get(n)) in axes}
    left = needs(body, wanted, (*known, *found))
    if any(made.name == "linalg.index" and n in left for n, made in zip(body.numbers(), body.ops, strict=True)):
        raise GroupError(
            "[linalg.index] generators compute with the index of a loop or the row-major number, as i64. Cast these."
        )
    return {n: _counted(maker, shape, axis, op.loc) for n, axis in found.items()}


def _counted(maker: GraphMaker, shape: tuple[Int, ...], axis: int | None, loc: Loc | None) -> int:
    """Places along an axis, or row-major numbers of elements."""
    if axis is not None:
        return maker.record("iota", (), Aval(shape, int64), (shape, axis, int64), loc)
    flat = (prod(shape),)
    return maker.reshaped(maker.record("iota", (), Aval(flat, int64), (flat, 0, int64), loc), shape)


# ---- tensor.extract -----------------------------------------------------------------------------------------------


def _picked(maker: GraphMaker, op: Generic, loops: list[int], extract: BodyOp) -> int:
    """A gather along the one axis whose place is data; with places that are linear, a flip."""
    table = op.captures[extract.operands[0] - len(op.operands) - len(op.results)]
    known, shape = forms(maker, op), maker.group.avals[table].shape
    places = [known.get(x) for x in extract.operands[1:]]
    axes = [k for k, form in enumerate(places) if form is None]
    if not axes:
        return _flipped(maker, op, loops, places, table)
    if len(axes) != 1:
        raise GroupError("[tensor.extract] generators gather along one axis. Read the others in place.")
    (axis,) = axes
    index = _checked(op, known, extract.operands[1 + axis], shape[axis])
    in_place = all(k == axis or _is_in_place(form, loops[k], shape[k], op) for k, form in enumerate(places))
    if index is None or not in_place:
        raise GroupError("[tensor.extract] generators gather at one index, as it is. Compute it in a nest of its own.")
    (indices,) = maker.arguments(op, [index], loops)
    aval = Aval(tuple(op.extents[d] for d in loops), maker.group.avals[table].dtype)
    found = maker.record("gather", [maker.value[table], indices], aval, (axis,), op.loc)
    maker.fails(found, next(made.attribute for made in op.body.ops if made.name == "flambeau.check"))
    return found


def _is_in_place(form: linear.AffineForm | None, loop: int, size: Int, op: Generic) -> bool:
    """Whether a place is the index of a loop along the axis; passes of MLIR's write 0 for that of a loop that runs once."""
    return form == linear.AffineForm(((loop, 1),)) or (
        form == linear.AffineForm() and size == 1 and op.extents[loop] == 1
    )


def _checked(op: Generic, known: dict[int, linear.AffineForm], place: int, size: Int) -> int | None:
    """The argument that a place is, as it is, 0 where it is none of an axis; None for any other place: `families/gather.py`."""
    ops = dict(zip(op.body.numbers(), op.body.ops, strict=True))
    cast = ops.get(place)
    chosen = ops.get(cast.operands[0]) if cast is not None and cast.name == "arith.index_cast" else None
    if chosen is None or chosen.name != "arith.select" or known.get(chosen.operands[1]) != linear.AffineForm():
        return None
    outside, _, index = chosen.operands
    either = ops.get(outside)
    sides = [ops.get(x) for x in either.operands] if either is not None and either.name == "arith.ori" else []
    asked = {(x.attribute, known.get(x.operands[1])) for x in sides if x is not None and x.operands[:1] == (index,)}
    is_right = asked == {("slt", linear.AffineForm()), ("sge", linear.AffineForm((), size))}
    is_checked = any(made.name == "flambeau.check" and made.operands == (outside,) for made in op.body.ops)
    return index if is_right and is_checked and index < len(op.body.types) else None


def _flipped(maker: GraphMaker, op: Generic, loops: list[int], places: Sequence[Any], table: int) -> int:
    shape = maker.group.avals[table].shape
    axes = []
    for k, form in enumerate(places):
        if form == linear.AffineForm(((loops[k], -1),), shape[k] - 1):
            axes.append(k)
        elif not _is_in_place(form, loops[k], shape[k], op):
            raise GroupError("[tensor.extract] generators read in place or backwards. Use maps for all else.")
    return maker.record("flip", [maker.value[table]], maker.group.avals[table], (tuple(axes),), op.loc)
