"""Nests that fold: reductions and contractions. The order is part of the body, and so is each element's place in it.

In: a node of kind REDUCTION or CONTRACTION. Out: a linalg.generic that starts from the fold's identity.
Next: `assemble.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from flambeau.compiler.codegen.values import spell_number
from flambeau.compiler.groups import bodies
from flambeau.compiler.groups.builder.cluster import ClusterBuilder, Moved, Read, moved
from flambeau.compiler.groups.form import PARALLEL, REDUCTION, Affine, Map, identity_map
from flambeau.dialects.graph import Node
from flambeau.dialects.tape.reduction_order import is_inner


def reduction(b: ClusterBuilder, node: Node) -> None:
    """Every axis of the operand is a loop, those of one element too."""
    (operand,), (result,), (axes,) = node.operands, node.results, node.attrs
    aval, shape = b.aval(node), b.avals[operand].shape
    if not _says_trips(b.reads[operand], axes):
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


def contraction(b: ClusterBuilder, node: Node) -> None:
    """The loops are the result's axes, then the one that is folded."""
    (result,), aval = node.results, b.aval(node)
    rank, (left, right) = aval.rank, node.operands
    extent = b.avals[left].shape[-1]
    if not any(_says_trips(b.reads[v], (axis,)) for v, axis in ((left, rank - 1), (right, rank - 2))):
        b.define(left, b.copy(left, node.loc))
    order = "lanes" if 1 in aval.shape[-2:] else "blocks"
    body = bodies.product(aval.dtype, order, rank)
    maps = _factor_maps(b.reads[left].map, b.reads[right].map, rank)
    zero = (aval, identity_map(rank), spell_number(0, aval.dtype.mlir))
    iterators, extents = (*(PARALLEL,) * rank, REDUCTION), (*aval.shape, extent)
    (number,) = b.nest(iterators, extents, (left, right), maps, [zero], body, name=node.op.name, loc=node.loc)
    b.define(result, number)


def _factor_maps(left: Map, right: Map, rank: int) -> list[Map]:
    same: dict[int, Moved] = {k: (k, 1, 0) for k in range(rank)}
    folded: Moved = (rank, 1, 0)
    return [moved(left, {**same, rank - 1: folded}), moved(right, {**same, rank - 2: folded})]


def _says_trips(read: Read, axes: Sequence[int]) -> bool:
    """Whether the trip counts of these axes' loops can be seen from the operand: MLIR wants that of folded ones."""
    return not read.is_scalar and all(Affine.of(axis) in read.map for axis in axes)
