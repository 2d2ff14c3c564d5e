"""Sources: nests that compute elements of their places. Those without operands are made where they are read.

In: a node. Out: a scalar of the group for a constant, else a linalg.generic. Next: `gather.py`.
"""

from __future__ import annotations

from flambeau.compiler.codegen.iteration_space import over_result
from flambeau.compiler.codegen.values import spell_number
from flambeau.compiler.families.rules import Rules
from flambeau.compiler.groups import bodies
from flambeau.compiler.groups.builder.cluster import ClusterBuilder, Read
from flambeau.dialects.dtypes import int64
from flambeau.dialects.graph import Node
from flambeau.dialects.size import Size


def structure(b: ClusterBuilder, node: Node) -> None:
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


RULES = Rules("source", structure, nest=over_result)
