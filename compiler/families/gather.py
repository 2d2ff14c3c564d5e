"""Gathers: nests that read a table at an index, which is data. A table lies in memory, or is the row that a nest has at hand.

In: a node. Out: a linalg.generic with a tensor.extract in its body. Next: `reduction.py`.
"""

from __future__ import annotations

from flambeau.compiler.codegen.iteration_space import over_result
from flambeau.compiler.families.rules import Rules
from flambeau.compiler.groups.bodies import Recorder
from flambeau.compiler.groups.builder.cluster import ClusterBuilder
from flambeau.compiler.groups.form import Body
from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Node


def structure(b: ClusterBuilder, node: Node) -> None:
    """Element by element at an index that is checked: the table is captured whole."""
    (result,), (operand, index), (axis,) = node.results, node.operands, node.attrs
    table, aval = b.whole(operand), b.aval(node)
    body = _picked(b.out.avals[table], aval, axis, b.codes[result])
    b.define(result, b.points(aval, body, (index,), (table,), node.op.name, node.loc))


def _picked(table: Aval, result: Aval, axis: int, code: int) -> Body:
    r = Recorder(("i64", result.dtype.mlir, table.mlir), result.shape)
    index, _, source = r.arguments
    failed = r.or_(r.cmp("lt", index, 0), r.cmp("ge", index, r.const(table.shape[axis], "i64")))
    r.keep("flambeau.check", [failed], (), code)
    at = r.as_index(r.select(failed, 0, index))
    places = [at if k == axis else r.coordinate(k) for k in range(result.rank)]
    return r.body(r.op("tensor.extract", [source, *places], result.dtype.mlir))


RULES = Rules("gather", structure, nest=over_result, nests_on=("cpu",))
