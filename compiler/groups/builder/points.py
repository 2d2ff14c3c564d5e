"""Nests over the elements of their result: elementwise ops, sources, gathers.

In: a node. Out: a linalg.generic whose loops are all parallel; constants are numbers that bodies capture.
Next: `folds.py`.
"""

from __future__ import annotations

from flambeau.compiler.codegen.values import spell_number
from flambeau.compiler.groups import bodies
from flambeau.compiler.groups.bodies import Recorder
from flambeau.compiler.groups.builder.cluster import ClusterBuilder, Read
from flambeau.compiler.groups.form import Body
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import int64
from flambeau.dialects.graph import Node
from flambeau.dialects.size import Size


def elementwise(b: ClusterBuilder, node: Node) -> None:
    types = tuple(b.avals[v].dtype.mlir for v in node.operands)
    avals = [b.avals[v] for v in node.results]
    code = b.codes.get(node.results[0]) if node.op.fails is not None else None
    body = bodies.elementwise(node.op, node.attrs, types, tuple(a.dtype.mlir for a in avals), code)
    numbers = b.all_points(avals, body, node.operands, name=node.op.name, loc=node.loc)
    for value, number in zip(node.results, numbers, strict=True):
        b.define(value, number)


def source(b: ClusterBuilder, node: Node) -> None:
    (result,), aval = node.results, b.aval(node)
    if node.op.name == "constant" and (number := _number(b, node)) is not None:
        b.reads[result] = Read(number, is_scalar=True)
        return
    types = tuple(b.avals[v].dtype.mlir for v in node.operands)
    body = bodies.source(node.op, node.attrs, types, aval)
    b.define(result, b.points(aval, body, node.operands, name=node.op.name, loc=node.loc))


def _number(b: ClusterBuilder, node: Node) -> int | None:
    """A constant as a number; a size of another type than its own is computed by a nest."""
    (value, dtype), aval = node.attrs, b.aval(node)
    if not isinstance(value, Size):
        return b.out.call("arith.constant", (), (aval,), {"value": spell_number(value, dtype.mlir)})[0]
    return b.out.call("flambeau.size", (), (aval,), {"size": value})[0] if dtype is int64 else None


def gather(b: ClusterBuilder, node: Node) -> None:
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
