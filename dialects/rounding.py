"""Where narrow floats are rounded: once per call of a function, and once per gradient of an op.

What a rule or a vjp makes of several ops would round between them, and a number that a user wrote would be rounded before it is
used. `rounds_within` says whether a fragment does so. Then it is made once more, on operands in the dtype that they accumulate in
(`DType.accumulation`), and its results are rounded. In: fragments. Out: that they do, and dtypes. Next: `autodiff.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.dialects.dtypes import DType
from flambeau.dialects.graph import Graph, Node


def rounds_within(graph: Graph) -> bool:
    """Whether some op reads what another one has rounded to a narrow dtype. What is within regions is left alone."""
    rounded: set[int] = set()
    for node in graph.nodes:
        reads = not rounded.isdisjoint(node.operands)
        if node.op.regions:
            return reads
        if node.op.family.moves:
            rounded.update(node.results if reads else ())
        elif reads:
            return True
        elif not _is_exact(node):
            rounded.update(v for v in node.results if graph.avals[v].dtype.is_narrow)
    return False


def _is_exact(node: Node) -> bool:
    """Whether it is a constant that its dtype has, or a choice of numbers that are there."""
    if node.op.name != "constant":
        return node.op.hands_on
    value, dtype = node.attrs
    return not dtype.is_narrow or (isinstance(value, float) and float(dtype.numpy.type(value)) == value)


def accumulated(attribute: Any) -> Any:
    """A dtype among attributes or arguments as the one that it accumulates in, anything else as it is."""
    return attribute.accumulation if isinstance(attribute, DType) else attribute
