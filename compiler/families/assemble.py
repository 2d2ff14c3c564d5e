"""Ops that place operands into a larger result: concat, pad, update_slice. They are loops of their own, a nest per part, and a
part of a concat may be computed in its place.

In: a node. Out: tensor.concat, tensor.pad, tensor.insert_slice. Next: `scatter.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from flambeau.compiler.codegen.access import StridedView
from flambeau.compiler.codegen.iteration_space import NestForm, extents_of, nest_cuts
from flambeau.compiler.codegen.loops import assemble as loops_assemble
from flambeau.compiler.families.rules import Rules
from flambeau.compiler.groups.builder.cluster import ClusterBuilder
from flambeau.compiler.passes import cluster_parts
from flambeau.compiler.passes.cluster_groups import Clustering
from flambeau.compiler.passes.cluster_producers import Move
from flambeau.compiler.passes.cluster_values import Values
from flambeau.dialects.graph import Node


def structure(b: ClusterBuilder, node: Node) -> None:
    match node.op.name:
        case "concat":
            b.call(node, "tensor.concat", [b.whole(v) for v in node.operands], {"dim": node.attrs[0]})
        case "pad":
            x, value = node.operands
            low, high = node.attrs
            b.call(node, "tensor.pad", [b.whole(x), b.scalar(value)], {"low": low, "high": high})
        case "update_slice":
            x, update, *starts = node.operands
            operands = [b.whole(update), b.whole(x), *(b.start(v) for v in starts)]
            attributes = {"starts": ("clamped",) * len(starts), "steps": node.attrs[0]}
            b.call(node, "tensor.insert_slice", operands, attributes)
        case name:
            raise ValueError(f"[group] {name} has no form here. Teach `families/assemble.py` what it places.")


def stored(values: Values, node: Node) -> list[int]:
    """Operands that no nest can copy to their place."""
    if node.op.name != "concat":
        return [v for v in dict.fromkeys(node.operands) if not values.is_plain(v)]
    parts = loops_assemble.concat_parts(values.avals, node)
    return list(dict.fromkeys(v for v, place in parts if not _is_part(values, v, place)))


def _is_part(values: Values, value: int, place: StridedView) -> bool:
    """Whether a concat can copy the value from where it lies to its place."""
    root, layout = values.source(value)
    if values.is_plain(value):
        return True
    if layout.dynamic or (values.is_free(root) and values.producers[root].op.name != "constant"):
        return False
    return extents_of(NestForm("map", 1, layout.size), nest_cuts([layout, place])) is not None


def producers(node: Node) -> Callable[[Clustering, Move], bool] | None:
    return cluster_parts.pays if node.op.name == "concat" else None


RULES = Rules("assemble", structure, stored=stored, alone=loops_assemble.nests, producers=producers)
