"""What may be computed at the places of a result that has loops of its own (a product's, a convolution's), or of its operands.

Said here once: asked while clusters form (`families/contraction.py`), and again when a cluster is read (`operands.py`), which so
follows what has been joined. In: nodes, layouts, the shape in which a code generator sees the result. Out: whether, and where a
value is read. Next: `operands.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.compiler.codegen.access import StridedView, reshape
from flambeau.compiler.codegen.nest_rules import is_map
from flambeau.dialects.graph import Graph, Node


def is_step(graph: Graph, node: Node) -> bool:
    """Whether a node is computed at a place from what is read there, or of itself."""
    return is_map(node) or (node.op.family.is_placed and not graph.avals[node.results[0]].shape)


def is_fixed(view: Node) -> bool:
    """Whether it is known beforehand where the elements of a view are."""
    return len(view.operands) == 1


def keeps_places(view: Node) -> bool:
    """Whether every element of a view of the result is at its old place, in the order of the elements."""
    return view.op.name == "reshape"


def onto(layout: StridedView, shape: tuple[Any, ...]) -> StridedView | None:
    """`layout` with the coordinates of the result, which has as many elements in the same order; None where that is not affine."""
    if layout.dynamic or layout.shape == shape:
        return None if layout.dynamic else layout
    if layout.is_uniform:
        return layout._replace(shape=shape, strides=(0,) * len(shape))
    return reshape(layout, shape)
