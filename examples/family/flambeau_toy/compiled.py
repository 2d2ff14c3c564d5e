"""The compiler's half of the family: what a scan is in a fusion group, and who makes its kernels.

In: nodes of clusters. Out: `toy.scan`, with a region that says what one step does; a kernel for CPUs. Other ops fuse among
themselves and stay out of it: it has no iteration space that they could share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from flambeau.compiler.codegen.body_record import body_record
from flambeau.compiler.codegen.emitter import Emitter
from flambeau.compiler.codegen.fragment import Fragment
from flambeau.compiler.codegen.units import Cut, OwnNest, Parts, joined
from flambeau.compiler.families import GroupOp, Rules, in_memory
from flambeau.compiler.groups import bodies
from flambeau.compiler.groups.builder.cluster import ClusterBuilder
from flambeau.compiler.groups.checks import check_combiner, check_count, check_like
from flambeau.compiler.groups.form import Call, GroupError
from flambeau.compiler.groups.play import combiner
from flambeau.compiler.groups.replay_views import GraphMaker
from flambeau.compiler.kernel import Cluster, KernelCall, KernelSource, Operand
from flambeau.compiler.schedules.form import Schedule, count
from flambeau.compiler.targets import Target
from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Node
from flambeau.dialects.record import HEAVY
from flambeau.dialects.size import maximum


@dataclass(frozen=True, eq=False, repr=False)
class Lines(Schedule):
    """The lines of a scan, one after the other or one per item of a parallel loop."""

    kind: ClassVar[str] = "toy.lines"
    grain: int = count("elements that a thread takes at a time")


def choose(nest: OwnNest, machine: Target, fixed: Mapping[str, Any]) -> Lines:
    return Lines(fixed.get("grain", 4096))


def structure(b: ClusterBuilder, node: Node) -> None:
    axis, reverse = node.attrs
    step = bodies.combined(node.op.lower, b.aval(node).dtype.mlir)
    attributes = {"axis": axis, "order": "sequential", "reverse": int(reverse)}
    b.call(node, "toy.scan", [b.whole(v) for v in node.operands], attributes, (step,))


def check(op: Call, given: Sequence[Aval], result: Aval) -> None:
    check_count(given, 1)
    axis, order = op.attribute["axis"], op.attribute["order"]
    if not isinstance(axis, int) or not 0 <= axis < given[0].rank:
        raise GroupError(f"its axis is {axis} of {given[0].mlir}. Name one of its axes.")
    if order != "sequential":
        raise GroupError(f"its order is {order}. Scans go one after the other: write sequential.")
    check_like(result, given[0].shape, given[0])
    check_combiner(op.regions, given[0].dtype.mlir)


def replay(maker: GraphMaker, op: Call, operands: list[int]) -> int:
    step, attrs = combiner(op.regions[0]), (op.attribute["axis"], bool(op.attribute["reverse"]))
    record = body_record("scan", "toy", step, HEAVY, attrs=("axis", "reverse"))
    return maker.node(record, operands, maker.aval(op), op.loc, attrs)


def cut(cluster: Cluster) -> Cut:
    """One nest, whose items are the lines along the axis."""
    return Cut([OwnNest(Lines, cluster.graph, "scan", choose)], emit, joined)


def emit(nest: OwnNest, schedule: Lines, machine: Target) -> Parts:
    fragment = Fragment(nest.graph)
    (node,) = fragment.members
    (axis, reverse), result = node.attrs, node.results[0]
    root, layout = fragment.sources[node.operands[0]]
    if not layout.is_identity:
        raise GroupError("[toy.scan] its operand does not lie in memory in order. Copy it first.")
    aval = fragment.avals[result]
    length, columns = aval.shape[axis], prod(aval.shape[axis + 1 :])
    call = KernelCall(
        _kernel(node, aval.dtype.mlir, reverse),
        (Operand("value", root), Operand("value", result)),
        dims=(length, columns),
        n=prod(aval.shape[:axis]) * columns,
        grain=maximum(1, schedule.grain // length),
        writes=(1,),
        in_place=((1, 0),),
    )
    return Parts([call])


def _kernel(node: Node, element: str, reverse: bool) -> KernelSource:
    b = Emitter()
    x, out, count, columns = b.buffer(0), b.buffer(1), b.dim(0), b.dim(1)
    with b.loop(b.lo, b.hi) as line:
        outer, inner = b.div_unsigned(line.index, columns), b.rem_unsigned(line.index, columns)
        start = b.add(b.mul(outer, b.mul(count, columns)), inner)

        def place(k):
            return b.add(start, b.mul(b.sub(b.sub(count, 1), k) if reverse else k, columns))

        first = place(b.const(0, "i64"))
        so_far = b.load(x, first, element)
        b.store(so_far, out, first)
        with b.loop(1, count, carried=[so_far]) as step:
            at = place(step.index)
            found = node.op.lower(b, step.args[0], b.load(x, at, element))
            b.store(found, out, at)
            step.carry([found])
    return b.source(node.op.name)


SCAN = GroupOp("toy.scan", ("axis", "order", "reverse"), check, replay, regions=1, axes=("axis",))
RULES = Rules("toy", structure, stored=in_memory, generators={"cpu": cut}, ops=(SCAN,), schedules=(Lines,))
