"""A program: what a plan is made of, without addresses.

In: a `PlanSpec`, kernels and the ops behind its error codes. Out: a `Program`, plain data that caches keep and processes exchange.
A start from the caches needs this module and none that makes plans. Next: `plan.py`, which makes programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flambeau.compiler.kernel import KernelSource
from flambeau.dialects import size
from flambeau.dialects.size_rows import ExprTable
from flambeau.runtime.plan_spec import PlanSpec, Relation


@dataclass(frozen=True)
class Program:
    """A plan without addresses: `spec` calls `kernels` by position, `errors[code - 1]` is the op a code means. `pinned`
    is why it serves one value of its symbols only, where that is not how it should be. `unread` are patterns of the user's
    for schedules that meant none of its kernels."""

    spec: PlanSpec
    kernels: tuple[KernelSource, ...]
    errors: tuple[str, ...] = ()
    pinned: str = ""
    unread: tuple[str, ...] = ()


def pinned(program: Program, values: Sequence[int], reason: str) -> Program:
    """A program made without symbols as one with symbols that serves these values of theirs."""
    spec, table = program.spec, ExprTable()
    for row in spec.exprs:
        table.row(*row)
    guards = tuple((Relation.EQUAL, table.add(size.symbol(i) - v)) for i, v in enumerate(values))
    spec = spec._replace(n_symbols=len(values), exprs=table.exprs, guards=guards)
    return replace(program, spec=spec, pinned=reason)
