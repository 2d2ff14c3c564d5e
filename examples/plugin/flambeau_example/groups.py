"""The pass `divide-once`: where many numbers are divided by one, its reciprocal is taken once.

In: a fusion group. Out: the same loops with other bodies. Results may differ in their last bit, so it is a choice of whoever
installs this package: Flambeau itself never trades bits for speed. Next: `tests/divide-once.mlir`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from flambeau.compiler.codegen.values import spell_number
from flambeau.compiler.groups.form import Body, BodyOp, Generic, Group
from flambeau.compiler.passes.on_groups import GroupPass


@dataclass(frozen=True)
class DivideOnce(GroupPass):
    """Rewrite x / y to x * (1 / y) where y stays the same along the innermost loop: LLVM then moves 1 / y out of it.

    In: any group. Out: the same group, but for divisions in bodies.
    """

    name = "divide-once"

    def __call__(self, group: Group) -> Group:
        return replace(group, ops=tuple(_changed(op) if isinstance(op, Generic) else op for op in group.ops))


def _changed(op: Generic) -> Generic:
    innermost = len(op.iterators) - 1
    repeated = {
        k for k, map in enumerate(op.operand_maps) if not any(loop == innermost for d in map for loop, _ in d.terms)
    }
    return replace(op, body=_with_reciprocals(op.body, repeated)) if repeated else op


def _with_reciprocals(body: Body, repeated: set[int]) -> Body:
    """The body with its divisions by `repeated` arguments replaced; new ops move the numbers of those behind them."""
    ids = {k: k for k in range(len(body.types))}
    ops: list[BodyOp] = []
    last = len(body.types)  # the number of the next op's first result

    def add(op: BodyOp) -> int:
        nonlocal last
        ops.append(op)
        last += len(op.types)
        return last - len(op.types)

    for number, op in zip(body.numbers(), body.ops):
        operands = tuple(ids[v] for v in op.operands)
        if op.name == "arith.divf" and op.operands[1] in repeated:
            one = add(BodyOp("arith.constant", (), spell_number(1, op.types[0]), op.types))
            reciprocal = add(BodyOp("arith.divf", (one, operands[1]), None, op.types))
            new = add(BodyOp("arith.mulf", (operands[0], reciprocal), None, op.types))
        else:
            new = add(op._replace(operands=operands))
        ids.update((number + k, new + k) for k in range(len(op.types)))
    return body._replace(ops=tuple(ops), results=tuple(ids[v] for v in body.results))
