"""Reductions: nests that fold. The order is part of the body, and so is each element's place in it.

In: a node. Out: a linalg.generic that starts from the fold's identity. Next: `contraction.py`.
"""

from __future__ import annotations

from flambeau.compiler.codegen.iteration_space import NestForm, form_of_split, over_result, reduction_split
from flambeau.compiler.codegen.values import spell_number
from flambeau.compiler.families.rules import Rules
from flambeau.compiler.groups import bodies
from flambeau.compiler.groups.builder.cluster import ClusterBuilder
from flambeau.compiler.groups.builder.folded import says_trips
from flambeau.compiler.groups.form import PARALLEL, REDUCTION, Affine
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.tape.reduction_order import is_inner


def structure(b: ClusterBuilder, node: Node) -> None:
    """Every axis of the operand is a loop, those of one element too."""
    (operand,), (result,), (axes,) = node.operands, node.results, node.attrs
    aval, shape = b.aval(node), b.avals[operand].shape
    if not says_trips(b.reads[operand], axes):
        b.define(operand, b.copy(operand, node.loc))
    order = "lanes" if is_inner(shape, axes) else "chains"
    body = bodies.fold(node.op, aval.dtype, order, axes)
    iterators = tuple(REDUCTION if k in axes else PARALLEL for k in range(len(shape)))
    kept = tuple(Affine.of(k) for k in range(len(shape)) if k not in axes)
    identity = spell_number(node.op.lower.identity(aval.dtype), aval.dtype.mlir)
    maps = [b.reads[operand].map]
    (number,) = b.nest(
        iterators, shape, (operand,), maps, [(aval, kept, identity)], body, name=node.op.name, loc=node.loc
    )
    b.define(result, number)


def nest(graph: Graph, node: Node) -> NestForm | None:
    """Rows or columns that are folded in place, or elements where there is nothing to fold; positions of extremes have no
    monoid, and what lies scattered must be moved first (`codegen/expand.py`)."""
    split = reduction_split(graph, node)
    if split is None or (node.op.lower is None and (split.is_trivial or not split.inner)):
        return None
    return over_result(graph, node) if split.is_trivial else form_of_split(split)


RULES = Rules("reduction", structure, nest=nest)
