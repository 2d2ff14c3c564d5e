"""Which values of a body are linear in the loops: coordinates, places in a fold, an element's row-major number.

In: a `Body`. Out: `AffineForm` forms by number. Next: `replay.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flambeau.compiler.groups.form import Affine, Body, BodyOp
from flambeau.dialects.orders import with_single
from flambeau.dialects.size import Int


class AffineForm(NamedTuple):
    """`sum(coefficient * d[loop]) + constant`; terms are sorted by loop, none is 0. Unlike in maps, numbers may be sizes."""

    terms: tuple[tuple[int, Int], ...] = ()
    constant: Int = 0

    def plus(self, other: AffineForm) -> AffineForm:
        total = dict(self.terms)
        for loop, c in other.terms:
            total[loop] = total.get(loop, 0) + c
        return _linear(total, self.constant + other.constant)

    def times(self, factor: Int) -> AffineForm:
        return _linear({loop: c * factor for loop, c in self.terms}, self.constant * factor)


def _linear(terms: Mapping[int, Int], constant: Int) -> AffineForm:
    return AffineForm(tuple(sorted((d, c) for d, c in terms.items() if c != 0)), constant)


def forms(body: Body, known: Mapping[int, AffineForm] | None = None) -> dict[int, AffineForm]:
    """The values that are linear; `known` are forms of arguments."""
    found = dict(known or {})
    for n, op in zip(body.numbers(), body.ops, strict=True):
        form = _form(op, [found.get(x) for x in op.operands])
        if form is not None:
            found[n] = form
    return found


def _form(op: BodyOp, operands: list[AffineForm | None]) -> AffineForm | None:
    if op.name == "linalg.index" and isinstance(op.attribute, int):
        return AffineForm(((op.attribute, 1),))
    if op.name == "arith.constant" and op.types[0] in ("i64", "index"):
        return AffineForm((), int(str(op.attribute)))
    if op.name == "flambeau.size":
        return AffineForm((), op.attribute)  # type: ignore[arg-type]  # a size
    known = [x for x in operands if x is not None]
    if not known or len(known) != len(operands):
        return None
    if op.name == "arith.index_cast":
        return known[0]
    if op.name == "affine.apply" and isinstance(op.attribute, Affine):
        total = AffineForm((), op.attribute.constant)
        for k, c in op.attribute.terms:
            total = total.plus(known[k].times(c))
        return total
    if op.name == "arith.addi":
        return known[0].plus(known[1])
    if op.name == "arith.subi":
        return known[0].plus(known[1].times(-1))
    if op.name == "arith.muli" and not (known[0].terms and known[1].terms):
        x, y = known if not known[1].terms else known[::-1]
        return x.times(y.constant)
    return None


def row_major(extents: Sequence[Int]) -> AffineForm:
    """An element's number; loops of one iteration add nothing to it."""
    terms: dict[int, Int] = {}
    below: Int = 1
    for loop in reversed(range(len(extents))):
        if extents[loop] != 1:
            terms[loop] = below
            below = below * extents[loop]
    return _linear(terms, 0)


def folded_loops(places: Sequence[AffineForm | None], extents: Sequence[Int], folded: set[int]) -> list[int] | None:
    """The loops that a fold's places count, outermost first: each place the row-major number over some of them, all
    together every folded loop once, but for those that run once. None for any other places."""
    order: list[int] = []
    for place in places:
        if place is None or place.constant != 0:
            return None
        below: Int = 1
        loops: list[int] = []
        left = dict(place.terms)
        while left:
            loop = next((d for d in sorted(left, reverse=True) if left[d] == below), None)
            if loop is None:
                return None
            del left[loop]
            loops.append(loop)
            below = below * extents[loop]
        order += reversed(loops)
    order = with_single(order, dict(enumerate(extents)), folded)
    return order if sorted(order) == sorted(folded) else None
