"""From rows that the runtime evaluates back to sizes and guards.

In: rows of `PlanSpec.exprs`, the guards of a `PlanSpec`. Out: sizes; whether guards hold. Next: `size_rows.py`, the way there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flambeau.dialects.size import Int, as_size, maximum, minimum, symbol
from flambeau.dialects.size_guards import RELATIONS, Guard
from flambeau.runtime.plan_spec import ExprOp, PlanSpec


def guards_of(spec: PlanSpec) -> list[Guard]:
    """A plan's guards, as they were asked."""
    values = _read_rows(spec.exprs[: 1 + max((x for _, x in spec.guards), default=-1)])
    return [Guard(RELATIONS[relation], as_size(values[x])) for relation, x in spec.guards]


def fits(spec: PlanSpec, values: Sequence[int]) -> bool:
    """Whether a plan's guards hold for these values of its symbols: what the runtime says, without a plan."""
    try:
        return all(guard.holds(values) for guard in guards_of(spec))
    except ZeroDivisionError:
        return False


def read_program(rows: Sequence[tuple[int, int, int]]) -> Int:
    """The size that `program` gave as rows."""
    return _read_rows(rows)[-1]


def _read_rows(rows: Sequence[tuple[int, int, int]]) -> list[Int]:
    found: list[Int] = []
    for op, a, b in rows:
        if op not in _READERS:
            raise ValueError(f"[size] a size has no operator {op}.")
        found.append(_READERS[op](a, b) if op in (ExprOp.CONST, ExprOp.SYMBOL) else _READERS[op](found[a], found[b]))
    return found


_READERS: dict[int, Callable[[Any, Any], Int]] = {
    ExprOp.CONST: lambda a, b: a,
    ExprOp.SYMBOL: lambda a, b: symbol(a),
    ExprOp.ADD: lambda a, b: a + b,
    ExprOp.MUL: lambda a, b: a * b,
    ExprOp.FLOORDIV: lambda a, b: a // b,
    ExprOp.MIN: minimum,
    ExprOp.MAX: maximum,
}
