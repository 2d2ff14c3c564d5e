"""Ops on whole tensors: what places operands into a larger result, and scatters.

In: a node of kind ASSEMBLE or SCATTER. Out: tensor.concat, pad, insert_slice, or flambeau.scatter with a region that says how
an element is combined with what is there.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from flambeau.compiler.groups import bodies
from flambeau.compiler.groups.builder.cluster import ClusterBuilder
from flambeau.compiler.groups.form import Body
from flambeau.dialects.graph import Node


def assemble(b: ClusterBuilder, node: Node) -> None:
    match node.op.name:
        case "concat":
            _call(b, node, "tensor.concat", [b.whole(v) for v in node.operands], {"dim": node.attrs[0]})
        case "pad":
            x, value = node.operands
            low, high = node.attrs
            _call(b, node, "tensor.pad", [b.whole(x), b.scalar(value)], {"low": low, "high": high})
        case "update_slice":
            x, update, *starts = node.operands
            operands = [b.whole(update), b.whole(x), *(b.start(v) for v in starts)]
            attributes = {"starts": ("clamped",) * len(starts), "steps": node.attrs[0]}
            _call(b, node, "tensor.insert_slice", operands, attributes)
        case name:
            raise ValueError(f"[group] {name} has no form here. Teach `groups/builder/assemble.py` what it places.")


def scatter(b: ClusterBuilder, node: Node) -> None:
    """Updates in row-major order, each combined with what is there by then."""
    attributes = {"axis": node.attrs[0], "code": b.codes[node.results[0]], "order": "sequential"}
    added = bodies.combined(lambda r, old, new: r.add(old, new), b.aval(node).dtype.mlir)
    _call(b, node, "flambeau.scatter", [b.whole(v) for v in node.operands], attributes, (added,))


def _call(
    b: ClusterBuilder,
    node: Node,
    name: str,
    operands: Sequence[int],
    attributes: dict[str, Hashable],
    regions: tuple[Body, ...] = (),
) -> None:
    (number,) = b.out.call(name, tuple(operands), (b.aval(node),), attributes, regions, node.loc)
    b.define(node.results[0], number)
