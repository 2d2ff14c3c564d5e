"""Assembly of larger values: pad, concat, update_slice as copies into parts of the result.

In: a `Fragment` with one assembly, its operands views of inputs or, of a concat, computed element by element. Out: one nest
per part. Next: `scatter.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flambeau.compiler.codegen.access import StridedView, dense, dynamic_window, merge, strided
from flambeau.compiler.codegen.fragment import Fragment
from flambeau.compiler.codegen.iteration_space import NestForm
from flambeau.compiler.codegen.loops.rows import label
from flambeau.compiler.codegen.units import LoopNest
from flambeau.compiler.kernel import KernelCall
from flambeau.compiler.schedules.kinds import Points
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.size import Int


def nests(fragment: Fragment) -> list[LoopNest] | None:
    """Nests that fill the result, in order; None if an operand's view cannot be walked."""
    node = fragment.members[-1]
    graph, out = fragment.graph, node.results[0]
    parts: list[tuple[int, StridedView]] = []
    match node.op.name:
        case "concat":
            parts = concat_parts(graph.avals, node)
        case "pad":
            x, value = node.operands
            graph, filled = _filled(graph, value, graph.avals[out].shape)
            inner = strided(
                dense(graph.avals[out].shape), node.attrs[0], graph.avals[x].shape, (1,) * len(node.attrs[0])
            )
            parts = [(filled, dense(graph.avals[out].shape)), (x, inner)]
        case "update_slice":
            x, update, *starts = node.operands
            whole = dense(graph.avals[out].shape)
            window = dynamic_window(whole, tuple(starts), graph.avals[update].shape, node.attrs[0])
            parts = [(x, whole), (update, window)]
    alone = node.op.name == "concat"
    found = [place(graph, value, out, layout, alone) for value, layout in parts if graph.avals[value].size]
    made = [nest for nest in found if nest is not None]
    return made if len(made) == len(found) else None


def concat_parts(avals: Sequence[Aval], node: Node) -> list[tuple[int, StridedView]]:
    """The operands of a concat, each with its place in the result."""
    (dim,), whole, parts = node.attrs, dense(avals[node.results[0]].shape), []
    start: Int = 0
    for x in node.operands:
        shape = avals[x].shape
        starts = tuple(start if a == dim else 0 for a in range(len(shape)))
        parts.append((x, strided(whole, starts, shape, (1,) * len(shape))))
        start += shape[dim]
    return parts


def _filled(graph: Graph, value: int, shape: tuple[Int, ...]) -> tuple[Graph, int]:
    """A graph that also has `value` stretched to `shape`."""
    grown = replace(graph, avals=list(graph.avals), nodes=list(graph.nodes))
    return grown, GraphBuilder(grown).value(value).expand(shape).id


def place(graph: Graph, value: int, out: int, layout: StridedView, alone: bool = False) -> LoopNest | None:
    """A nest that writes `value`, a view of inputs or computed from such, to the elements `layout` of `out`, which no other
    nest writes if it does so `alone`."""
    fragment, form = _part(graph, value, layout), NestForm("map", 1, graph.avals[value].size)
    if not _can_walk(fragment, form, value, layout):
        return None
    return LoopNest(Points, fragment, form, label(fragment), {value: (out, layout)}, alone)


def noted(nest: LoopNest, call: KernelCall) -> KernelCall:
    """The call of such a nest, which says where it does nothing but copy."""
    ((value, (out, layout)),) = nest.placed.items()
    pair = _copied(nest.fragment, value, out, call)
    if pair is None or not is_run(layout):
        return call
    if layout.is_identity and nest.fragment.avals[out].size == nest.form.size:
        return replace(call, copies=pair)
    return replace(call, places=pair) if nest.alone else call


def can_place(graph: Graph, value: int, layout: StridedView) -> bool:
    """Whether `place` finds a nest."""
    return _can_walk(_part(graph, value, layout), NestForm("map", 1, graph.avals[value].size), value, layout)


def _can_walk(fragment: Fragment, form: NestForm, value: int, layout: StridedView) -> bool:
    """Whether one nest computes `value`, in the order of its elements, and walks its place."""
    if fragment.members and (fragment.form() != form or not fragment.sources[value].layout.is_identity):
        return False
    return fragment.is_affine and fragment.extents(form, layout) is not None


def _part(graph: Graph, value: int, layout: StridedView) -> Fragment:
    """The nodes of `graph` that `value` and its place are made of."""
    needed, nodes = {value, *(start for start, _, _ in layout.dynamic)}, []
    for node in reversed(graph.nodes):
        if not needed.isdisjoint(node.results):
            nodes.append(node)
            needed.update(node.operands)
    return Fragment(replace(graph, nodes=nodes[::-1], outputs=[value]))


def is_run(layout: StridedView) -> bool:
    """Whether elements lie one after the other, in order."""
    return all(stride == 1 for _, stride in merge(layout)[-1:]) and len(merge(layout)) <= 1 and not layout.dynamic


def _copied(fragment: Fragment, value: int, out: int, call: KernelCall) -> tuple[int, int] | None:
    """(written, read) if the call copies all of an input."""
    root, layout = fragment.sources[value]
    is_all = layout.is_identity and fragment.avals[value].size == fragment.avals[root].size
    if not is_all or root not in fragment.graph.inputs:
        return None
    at = {o.index: p for p, o in enumerate(call.operands) if o.kind == "value"}
    return at[out], at[root]
