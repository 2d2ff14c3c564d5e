"""Scans: running folds along an axis, and recurrences. Loops of their own.

In: a node. Out: flambeau.scan or flambeau.recurrence, with a region that says what one step does. Next: `scatter.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flambeau.compiler.codegen.body_record import body_record
from flambeau.compiler.codegen.loops import scan as loops_scan
from flambeau.compiler.families.rules import GroupOp, Rules, in_memory
from flambeau.compiler.groups import bodies
from flambeau.compiler.groups.builder.cluster import ClusterBuilder
from flambeau.compiler.groups.checks import check_axis, check_count, check_like, check_region
from flambeau.compiler.groups.form import Call, GroupError
from flambeau.compiler.groups.play import combiner
from flambeau.compiler.groups.replay_views import GraphMaker
from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Node
from flambeau.dialects.record import HEAVY, Kind

_ATTRIBUTES = ("axis", "order", "reverse")
_NAMES = {1: "flambeau.scan", 2: "flambeau.recurrence"}
#: By the number of operands: the step of a recurrence does not combine what comes out for parts of a line.
_ORDERS = {1: "prefixes", 2: "sequential"}


def structure(b: ClusterBuilder, node: Node) -> None:
    """One op, whose region is the step."""
    axis, reverse = node.attrs
    count = len(node.operands)
    attributes = {"axis": axis, "order": _ORDERS[count], "reverse": int(reverse)}
    step = bodies.combined(node.op.lower, b.aval(node).dtype.mlir, count + 1)
    b.call(node, _NAMES[count], [b.whole(v) for v in node.operands], attributes, (step,))


def _check(count: int) -> Callable[[Call, Sequence[Aval], Aval], None]:
    def check(op: Call, given: Sequence[Aval], result: Aval) -> None:
        check_count(given, count)
        check_axis(op, given[0])
        if op.attribute["reverse"] not in (0, 1):
            raise GroupError(f"its reverse is {op.attribute['reverse']}. Give 1 to go from the last element on, or 0.")
        if op.attribute["order"] != _ORDERS[count]:
            raise GroupError(
                f"its order is {op.attribute['order']}. Such scans have one order: write {_ORDERS[count]}."
            )
        for other in given[1:]:
            check_like(other, given[0].shape, given[0])
        check_like(result, given[0].shape, given[0])
        check_region(
            op.regions, (given[0].dtype.mlir,) * (count + 1), "the result so far and an element of each operand"
        )

    return check


def replay(maker: GraphMaker, op: Call, operands: list[int]) -> int:
    name = op.name.removeprefix("flambeau.")
    record = body_record(name, Kind.SCAN, combiner(op.regions[0]), HEAVY, attrs=("axis", "reverse"))
    return maker.node(record, operands, maker.aval(op), op.loc, (op.attribute["axis"], bool(op.attribute["reverse"])))


OPS = tuple(
    GroupOp(name, _ATTRIBUTES, _check(count), replay, operands=count, regions=1, axes=("axis",))
    for count, name in _NAMES.items()
)
RULES = Rules("scan", structure, stored=in_memory, alone=loops_scan.nests, ops=OPS)
