"""Sizes as rows of plain numbers, which the runtime evaluates without Python.

In: sizes. Out: rows of `PlanSpec.exprs`. Next: `size.py`, whose sizes these are; `size_programs.py`, the way back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flambeau.runtime.plan_spec import ExprOp

if TYPE_CHECKING:
    from flambeau.dialects.size import Atom, Int

#: What an atom is made of its parts, in the place where others have the number of their symbol.
QUOTIENT, LESSER, GREATER = -1, -2, -3
_OPS = {QUOTIENT: ExprOp.FLOORDIV, LESSER: ExprOp.MIN, GREATER: ExprOp.MAX}


class ExprTable:
    """Expressions in the form of `PlanSpec.exprs`: (operator, a, b), operands before their users, each once."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, int, int], int] = {}

    def row(self, op: int, a: int, b: int = 0) -> int:
        return self.rows.setdefault((op, a, b), len(self.rows))

    def add(self, size: Int) -> int:
        """The index of the row whose value is the size."""
        if type(size) is int or not hasattr(size, "terms"):
            return self.row(ExprOp.CONST, int(size))
        total = None
        for monomial, c in size.terms:
            rows = [self._atom(a) for a in monomial]
            if c != 1 or not rows:
                rows.append(self.row(ExprOp.CONST, c))
            product = rows[0]
            for r in rows[1:]:
                product = self.row(ExprOp.MUL, product, r)
            total = product if total is None else self.row(ExprOp.ADD, total, product)
        assert total is not None
        return total

    def _atom(self, atom: Atom) -> int:
        if atom.symbol >= 0:
            return self.row(ExprOp.SYMBOL, atom.symbol)
        a, b = map(self.add, atom.parts)
        return self.row(_OPS[atom.symbol], a, b)

    @property
    def exprs(self) -> tuple[tuple[int, int, int], ...]:
        return tuple(self.rows)


def program(size: Int) -> tuple[tuple[int, int, int], ...]:
    """The size as rows of which the last is its value."""
    table = ExprTable()
    last = table.add(size)
    assert last == len(table.rows) - 1
    return table.exprs
