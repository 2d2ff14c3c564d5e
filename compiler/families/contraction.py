"""Matrix products: loops of their own, which pack panels and hold tiles of the result in registers. Elementwise ops on the
result are computed there, and those of an operand where it is packed.

In: a node. Out: a linalg.generic with a fold along its last loop. Next: `assemble.py`.
"""

from __future__ import annotations

from math import prod

from flambeau.compiler.codegen.nest_rules import is_map
from flambeau.compiler.codegen.products.places import is_fixed, is_step, keeps_places, onto
from flambeau.compiler.codegen.values import spell_number
from flambeau.compiler.families.rules import Rules
from flambeau.compiler.groups import bodies
from flambeau.compiler.groups.builder.cluster import ClusterBuilder, Moved, moved
from flambeau.compiler.groups.builder.folded import says_trips
from flambeau.compiler.groups.form import PARALLEL, REDUCTION, Affine, Map, identity_map
from flambeau.compiler.passes import cluster_prologues
from flambeau.compiler.passes.cluster_groups import Clustering
from flambeau.compiler.passes.cluster_values import Values
from flambeau.dialects.graph import Node
from flambeau.dialects.size import Int


def structure(b: ClusterBuilder, node: Node) -> None:
    """The loops are the result's axes, then the one that is folded."""
    (result,), aval = node.results, b.aval(node)
    rank, (left, right) = aval.rank, node.operands
    extent = b.avals[left].shape[-1]
    if not any(says_trips(b.reads[v], (axis,)) for v, axis in ((left, rank - 1), (right, rank - 2))):
        b.define(left, b.copy(left, node.loc))
    order = "lanes" if 1 in aval.shape[-2:] else "blocks"
    body = bodies.product(aval.dtype, order, rank)
    maps = _factor_maps(b.reads[left].map, b.reads[right].map, rank)
    zero = (aval, identity_map(rank), spell_number(0, aval.dtype.mlir))
    iterators, extents = (*(PARALLEL,) * rank, REDUCTION), (*aval.shape, extent)
    (number,) = b.nest(iterators, extents, (left, right), maps, [zero], body, name=node.op.name, loc=node.loc)
    b.define(result, number)


def _factor_maps(left: Map, right: Map, rank: int) -> list[Map]:
    same: dict[int, Moved] = {k: Affine.of(k) for k in range(rank)}
    folded: Moved = Affine.of(rank)
    return [moved(left, {**same, rank - 1: folded}), moved(right, {**same, rank - 2: folded})]


def stored(values: Values, node: Node) -> list[int]:
    """Operands that lie at places which panels cannot be packed from."""
    return [v for v in dict.fromkeys(node.operands) if values.is_dynamic(v) or values.is_free(values.source(v).root)]


def epilogue(program: Clustering, node: Node, product: int, members: set[int]) -> bool:
    """Whether `node` may run on the register tile of a product, whose code generator sees its (batch, M, N) coordinates."""
    return joins_onto(program, node, program.avals[product].shape, members)


def joins_onto(program: Clustering, node: Node, shape: tuple[Int, ...], members: set[int]) -> bool:
    """Whether `node` may be computed at the places of a result that its code generator sees in this shape: elementwise, of as many
    elements, of members element by element and of what is stored that is affine in these coordinates."""
    if not is_map(node) or program.avals[node.results[0]].size != prod(shape):
        return False
    return all(_is_read(program, v, shape, members) for v in node.operands)


def _is_read(program: Clustering, value: int, shape: tuple[Int, ...], members: set[int]) -> bool:
    """Whether a value is at hand at these places, or lies in memory (or is a constant) where it can be read."""
    (root, layout), views = program.source(value), program.views(value)
    if root in members:
        return all(map(keeps_places, views))
    if program.is_free(root) and not is_step(program.graph, program.producers[root]):
        return False
    return all(map(is_fixed, views)) and onto(layout, shape) is not None


RULES = Rules(
    "contraction",
    structure,
    stored=stored,
    generators={"cpu": "flambeau.compiler.codegen.products.cut:cut", "gpu": "flambeau.compiler.codegen.gpu.matmul:cut"},
    epilogue=epilogue,
    producers=lambda node: cluster_prologues.pays,
)
