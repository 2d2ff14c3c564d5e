"""When a product computes an operand while it packs it.

In: a `Move`, or a program. Out: whether the move pays; the ops that wait for the products that read them. Next:
`schedules/products.py`, which knows how often elements are computed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flambeau.compiler import families
from flambeau.compiler.codegen.access import StridedView
from flambeau.compiler.codegen.products.dots import is_small
from flambeau.compiler.codegen.products.operands import Contraction, read
from flambeau.compiler.passes.cluster_groups import Clustering, OpenGroup
from flambeau.compiler.schedules.products import computations, computes_well
from flambeau.dialects.dtypes import int8, int32, uint8
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.size import Size

if TYPE_CHECKING:
    from flambeau.compiler.passes.cluster_producers import Move

#: What writing and reading an element is worth, in additions.
SAVED = 10.0


def pays(program: Clustering, move: Move) -> bool:
    """Whether the operand need not be written and read for less than that costs. 8-bit integers are never written wide."""
    product = _contraction(program, move.joined)
    if product is not None and is_small((product.lhs, product.rhs)[move.position]):
        return True
    if product is None or not computes_well(product, move.position, move.bytes):
        return False
    return (computations(product)[move.position] - 1) * move.work + move.again <= SAVED * move.saved


def _contraction(program: Clustering, joined: OpenGroup) -> Contraction | None:
    """What the code generator sees; None where it cannot read the operand."""
    assert joined.product is not None
    graph, _, _ = program.fragment(replace(joined, outputs=[joined.product]))
    try:
        return read(graph)
    except ValueError:
        return None


def widens_for_convolution(program: Clustering, move: Move) -> bool:
    """Whether both operands are widened 8-bit integers that a convolution can read where they lie."""
    sources = [program.source(v) for v in move.reader.operands]
    casts = [program.producers.get(s.root) for s in sources]
    if not all(s.layout.is_identity for s in sources) or move.saved <= 0:
        return False
    if any(cast is None or not _widens(program.graph, cast) for cast in casts):
        return False
    map, kernel = (program.source(cast.operands[0]).layout for cast in casts if cast is not None)
    small = program.avals[casts[1].operands[0]].dtype is int8 if casts[1] is not None else False
    beside = kernel.strides[1] == 1 or kernel.shape[1] == 1
    return small and map.is_identity and not kernel.dynamic and _is_known(kernel) and bool(beside)


def _is_known(kernel: StridedView) -> bool:
    """Whether the number of channels of a kernel along one or two axes is known."""
    return len(kernel.shape) <= 4 and not isinstance(kernel.shape[1], Size)


def widened_factors(graph: Graph) -> set[int]:
    """The numbers of nodes that widen 8-bit integers for products, and for nothing else: no other kernel computes these."""
    if not any(aval.dtype in (int8, uint8) for aval in graph.avals):
        return set()
    readers: dict[int, list[Node]] = {}
    found, outputs = set[int](), set(graph.outputs)
    for index in reversed(range(len(graph.nodes))):
        node = graph.nodes[index]
        if _widens(graph, node) and _is_factor(readers, node.results[0], outputs):
            found.add(index)
        for v in node.operands:
            readers.setdefault(v, []).append(node)
    return found


def _widens(graph: Graph, node: Node) -> bool:
    if node.op.name != "cast":
        return False
    return graph.avals[node.operands[0]].dtype in (int8, uint8) and graph.avals[node.results[0]].dtype is int32


def _is_factor(readers: dict[int, list[Node]], value: int, outputs: set[int]) -> bool:
    """Whether products alone read a value, or views of it."""
    if value in outputs or value not in readers:
        return False
    for node in readers[value]:
        rules = families.rules(node.op)
        if node.op.family.is_view:
            if not _is_factor(readers, node.results[0], outputs):
                return False
        elif not rules.is_head or rules.producers(node) is None:
            return False
    return True
