"""Views: other maps of the same root, as far as axes go. What regroups axes is a reshape of the root, a window whose place
is known at run time only a tensor.extract_slice, and a flip of an unknown extent is read at a computed index.

In: a node. Out: how its result is read. Next: `elementwise.py`.
"""

from __future__ import annotations

from flambeau.compiler.codegen.access import apply_view
from flambeau.compiler.families.rules import Rules
from flambeau.compiler.groups import slices
from flambeau.compiler.groups.bodies import Recorder
from flambeau.compiler.groups.builder.cluster import ClusterBuilder, Moved, Read, moved
from flambeau.compiler.groups.form import Affine, Map, identity_map
from flambeau.dialects.graph import Node
from flambeau.dialects.size import Int, Size
from flambeau.dialects.tape.view import held

_SAME = ("stop_gradient", "graft", "overwrite", "to_device")


def structure(b: ClusterBuilder, node: Node) -> None:
    (result,), source = node.results, node.operands[0]
    read = b.reads[source]
    if read.is_scalar or node.op.name in _SAME:
        b.reads[result] = read
        return
    old, new = b.avals[source].shape, b.avals[result].shape
    axes = _axes(node, old, new)
    if axes is not None:
        map = moved(read.map, axes)
        if _fits(map, b.out.avals[read.root].shape, new):
            b.reads[result] = Read(read.root, map)
            return
    b.define(result, _VIEWS[node.op.name](b, node))


def _axes(node: Node, old: tuple[Int, ...], new: tuple[Int, ...]) -> dict[int, Moved] | None:
    """What becomes of every axis of the operand; None where that is no matter of axes."""
    attrs = node.attrs
    match node.op.name:
        case "permute":
            return {axis: Affine.of(k) for k, axis in enumerate(attrs[0])}
        case "broadcast":
            return {k: _along(k, o) for k, o in enumerate(old)}
        case "slice":
            starts, sizes, steps = attrs
            if any(isinstance(start, Size) for start in starts):
                return None
            places = zip(starts, sizes, steps, strict=True)
            return {k: _along(k, n, step, start) for k, (start, n, step) in enumerate(places)}
        case "flip":
            if any(isinstance(old[k], Size) for k in attrs[0]):
                return None
            return {k: Affine(((k, -1),), int(n) - 1) if k in attrs[0] else Affine.of(k) for k, n in enumerate(old)}
        case "unfold":
            axis, size, step, dilation = attrs
            inside = _along(len(old), size, dilation)
            windows = Affine((*_along(axis, new[axis], step).terms, *inside.terms))
            return {k: windows if k == axis else Affine.of(k) for k in range(len(old))}
        case "reshape":
            return _units(old, new)
    return None


def _units(old: tuple[Int, ...], new: tuple[Int, ...]) -> dict[int, Moved] | None:
    """The axes of a reshape that adds or drops some of extent 1."""
    places = [k for k, n in enumerate(new) if n != 1]
    if [n for n in old if n != 1] != [new[k] for k in places]:
        return None
    wide = iter(places)
    return {k: Affine() if n == 1 else Affine.of(next(wide)) for k, n in enumerate(old)}


def _along(axis: int, extent: Int, step: int = 1, start: int = 0) -> Affine:
    """Every `step`-th place along a new axis; that of one of extent 1 is always the first."""
    return Affine((), start) if extent == 1 else Affine(((axis, step),), start)


def _fits(map: Map, root: tuple[Int, ...], shape: tuple[Int, ...]) -> bool:
    """Whether axes that are read by a loop alone are as long as the loop: MLIR takes its trip count from them."""
    alone = {Affine.of(k): n for k, n in enumerate(shape)}
    return all(e not in alone or alone[e] == n for e, n in zip(map, root, strict=True))


def _reshape(b: ClusterBuilder, node: Node) -> int:
    return slices.reshape(b.out, b.whole(node.operands[0]), b.aval(node).shape, node.loc)


def _slice(b: ClusterBuilder, node: Node) -> int:
    starts, _, steps = node.attrs
    attributes = {"starts": starts, "steps": steps}
    (number,) = b.out.call(
        "tensor.extract_slice", (b.whole(node.operands[0]),), (b.aval(node),), attributes, loc=node.loc
    )
    return number


def _dynamic_slice(b: ClusterBuilder, node: Node) -> int:
    source, *starts = node.operands
    operands = (b.whole(source), *(b.start(v) for v in starts))
    attributes = {"starts": ("clamped",) * len(starts), "steps": node.attrs[1]}
    (number,) = b.out.call("tensor.extract_slice", operands, (b.aval(node),), attributes, loc=node.loc)
    return number


def _unfold(b: ClusterBuilder, node: Node) -> int:
    """Of the elements that windows hold, which are then read by loops that end with them."""
    axis, size, step, dilation = node.attrs
    whole, aval = b.whole(node.operands[0]), b.aval(node)
    extent = held(aval.shape[axis], size, step, dilation)
    root = b.out.avals[whole]
    cut = root._replace(shape=tuple(extent if k == axis else n for k, n in enumerate(root.shape)))
    attributes = {"starts": (0,) * root.rank, "steps": (1,) * root.rank}
    (number,) = b.out.call("tensor.extract_slice", (whole,), (cut,), attributes, loc=node.loc)
    axes = _axes(node, root.shape, aval.shape)
    assert axes is not None
    b.reads[node.results[0]] = Read(number, moved(identity_map(root.rank), axes))
    return b.copy(node.results[0], node.loc)


def _flip(b: ClusterBuilder, node: Node) -> int:
    table, aval = b.whole(node.operands[0]), b.aval(node)
    r = Recorder((aval.dtype.mlir, b.out.avals[table].mlir), aval.shape)
    places = [
        r.as_index(r.sub(r.const(n - 1, "i64"), r.index(k))) if k in node.attrs[0] else r.coordinate(k)
        for k, n in enumerate(aval.shape)
    ]
    found = r.op("tensor.extract", [r.arguments[1], *places], aval.dtype.mlir)
    return b.points(aval, r.body(found), (), (table,), node.op.name, node.loc)


def _copied(b: ClusterBuilder, node: Node) -> int:
    """A view that no map says as MLIR wants it: of a copy of the operand it is one."""
    raise ValueError(f"[group] {node.op.name} has no form here. Teach `families/view.py` what it reads.")


_VIEWS = {
    "reshape": _reshape,
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "flip": _flip,
    "unfold": _unfold,
    "permute": _copied,
    "broadcast": _copied,
}

RULES = Rules("view", structure, layout=apply_view)
