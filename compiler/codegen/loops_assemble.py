"""Assembly of larger values: pad, concat, update_slice as copies into parts of the result.

In: a `Fragment` whose one member is an assembly, its operands views of inputs. Out: one call per part.
Next: `loops_scatter.py`.
"""

from __future__ import annotations

from dataclasses import replace

from flambeau.compiler.codegen.access import Layout, dense, dynamic_window, strided
from flambeau.compiler.codegen.fragment import Form, Fragment, nest_extents
from flambeau.compiler.codegen.loops_rows import emit_map
from flambeau.compiler.codegen.nest import Nest
from flambeau.compiler.kernel import KernelCall
from flambeau.compiler.targets import Target
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.graph import Graph
from flambeau.dialects.size import Int


def lower(fragment: Fragment, target: Target) -> list[KernelCall] | None:
    """Copies that fill the result, in order; None if an operand's view cannot be walked."""
    (node,) = fragment.members
    graph, out = fragment.graph, node.results[0]
    parts: list[tuple[int, Layout]] = []
    match node.op.name:
        case "concat":
            parts = _concat_parts(graph, node.operands, out, node.attrs[0])
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
    calls = [place(graph, value, out, layout, target) for value, layout in parts if graph.avals[value].size]
    made = [call for call in calls if call is not None]
    return made if len(made) == len(calls) else None


def _concat_parts(graph: Graph, operands: tuple[int, ...], out: int, dim: int) -> list[tuple[int, Layout]]:
    whole, parts = dense(graph.avals[out].shape), []
    start: Int = 0
    for x in operands:
        shape = graph.avals[x].shape
        starts = tuple(start if a == dim else 0 for a in range(len(shape)))
        parts.append((x, strided(whole, starts, shape, (1,) * len(shape))))
        start += shape[dim]
    return parts


def _filled(graph: Graph, value: int, shape: tuple[Int, ...]) -> tuple[Graph, int]:
    """A graph that also has `value` stretched to `shape`."""
    grown = replace(graph, avals=list(graph.avals), nodes=list(graph.nodes))
    return grown, GraphBuilder(grown).value(value).expand(shape).id


def place(graph: Graph, value: int, out: int, layout: Layout, target: Target) -> KernelCall | None:
    """A call that writes `value`, a view of inputs, to the elements `layout` of `out`."""
    views = [n for n in graph.nodes if out not in n.results]
    fragment = Fragment(replace(graph, nodes=views, outputs=[value]))
    form = Form("map", 1, graph.avals[value].size)
    if not fragment.is_affine or nest_extents(form, [*fragment.elem_layouts(form), layout], []) is None:
        return None
    nest = Nest(fragment, form, target, placed={value: (out, layout)})
    return replace(call := emit_map(nest), copies=_whole_copy(fragment, value, out, layout, call))


def _whole_copy(fragment: Fragment, value: int, out: int, layout: Layout, call: KernelCall) -> tuple[int, int] | None:
    """(written, read) if the call copies all of an input to all of `out`."""
    source = fragment.sources[value]
    whole = source.layout.is_identity and layout.is_identity and source.root in fragment.graph.inputs
    if not whole or len({fragment.avals[v].size for v in (value, out, source.root)}) > 1:
        return None
    at = {o.index: p for p, o in enumerate(call.operands) if o.kind == "value"}
    return at[out], at[source.root]
