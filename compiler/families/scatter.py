"""Scatters: updates that are combined, one after the other, with the elements at indices along an axis. Loops of their own.

In: a node. Out: flambeau.scatter, with a region that says what becomes of an element that is there. Next: `put.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from flambeau.compiler.codegen.body_record import body_record
from flambeau.compiler.codegen.iteration_space import NestForm, extents_of, nest_cuts
from flambeau.compiler.codegen.loops import scatter as loops_scatter
from flambeau.compiler.families.rules import GroupOp, Rules
from flambeau.compiler.groups import bodies
from flambeau.compiler.groups.builder.cluster import ClusterBuilder
from flambeau.compiler.groups.checks import check_combiner, check_count, check_like
from flambeau.compiler.groups.form import Call, GroupError
from flambeau.compiler.groups.play import combiner
from flambeau.compiler.groups.replay_views import GraphMaker
from flambeau.compiler.passes.cluster_values import Values
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import int64
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.orders import OrderError, check_order
from flambeau.dialects.record import HEAVY, Kind
from flambeau.dialects.size import same


def structure(b: ClusterBuilder, node: Node) -> None:
    """Updates in row-major order, each combined with what is there by then."""
    attributes = {"axis": node.attrs[0], "code": b.codes[node.results[0]], "order": "sequential"}
    combined = bodies.combined(node.op.lower, b.aval(node).dtype.mlir)
    b.call(node, "flambeau.scatter", [b.whole(v) for v in node.operands], attributes, (combined,))


def stored(values: Values, node: Node) -> list[int]:
    """Operands that no nest can walk: views and constants are read as they are."""
    base, index, updates = node.operands
    whole = NestForm("map", 1, values.avals[base].size)
    lines = NestForm.along(values.avals[index].shape, node.attrs[0])
    found = [v for v, form in ((base, whole), (index, lines), (updates, lines)) if not _is_walked(values, v, form)]
    return list(dict.fromkeys(found))


def _is_walked(values: Values, value: int, form: NestForm) -> bool:
    if values.is_plain(value):
        return True
    root, layout = values.source(value)
    if layout.dynamic or (values.is_free(root) and values.producers[root].op.name != "constant"):
        return False
    return extents_of(form, nest_cuts([layout])) is not None


def fails_empty(graph: Graph, node: Node) -> bool:
    """A scatter into nothing: every index is out of range."""
    return 0 not in graph.avals[node.operands[1]].shape


def check(op: Call, given: Sequence[Aval], result: Aval) -> None:
    check_count(given, 3)
    tensor, index, updates = given
    axis, code = op.attribute["axis"], op.attribute["code"]
    if not isinstance(axis, int) or not 0 <= axis < tensor.rank or not isinstance(code, int) or code < 0:
        raise GroupError(f"its axis is {axis} of {tensor.mlir}, its failure {code}. Name an axis, and a number from 0.")
    outside = [n for k, n in enumerate(tensor.shape) if k != axis]
    inner = [n for k, n in enumerate(index.shape) if k != axis]
    if index.dtype is not int64 or len(outside) != len(inner) or not all(map(same, outside, inner)):
        raise GroupError(f"its index is {index.mlir} for {tensor.mlir}. Give i64 that agrees outside of axis {axis}.")
    check_like(updates, index.shape, tensor)
    check_like(result, tensor.shape, tensor)
    try:
        check_order(str(op.attribute["order"]))
    except OrderError as error:
        raise GroupError(str(error)) from None
    check_combiner(op.regions, tensor.dtype.mlir)


def replay(maker: GraphMaker, op: Call, operands: list[int]) -> int:
    if op.attribute["order"] != "sequential":
        raise GroupError("[flambeau.scatter] generators take updates one after the other. Use that order.")
    combine = combiner(op.regions[0])
    record = body_record("scatter", Kind.SCATTER, combine, HEAVY, attrs=("axis",), fallible=True)
    result = maker.node(record, operands, maker.aval(op), op.loc, (op.attribute["axis"],))
    maker.fails(result, op.attribute["code"])
    return result


SCATTER = GroupOp(
    "flambeau.scatter", ("axis", "code", "order"), check, replay, operands=3, regions=1, pure=False, axes=("axis",)
)
RULES = Rules("scatter", structure, stored=stored, fails_empty=fails_empty, alone=loops_scatter.nests, ops=(SCATTER,))
