"""Loops as ONNX's `Scan`: those whose number of turns is known when the file is run. All others are written turn by turn."""

from __future__ import annotations

from flambeau.dialects.graph import Node
from flambeau.dialects.loops import unrolled
from flambeau.onnx.builder import OnnxBuilder, Unwritten, writes
from flambeau.onnx.package import number_of, onnx
from flambeau.onnx.writing.moving import flipped


@writes("scan")
def _scan(b: OnnxBuilder, node: Node) -> tuple[str, ...]:
    """The body reads what is the same in every turn from the graph around it. Backwards it goes through what is turned around, for
    ONNX's reference has no directions."""
    carried, sliced, _, reverse, body = node.attrs
    if not sliced:
        raise Unwritten("that goes through nothing")
    n = carried + sliced
    inner = b.within(unrolled(body.graph, all_of_them=False))
    graph = inner.graph
    for v, operand in zip(graph.inputs[n:], node.operands[n:]):
        if operand in b.known:
            inner.known[v] = b.known[operand]
        else:
            inner.names[v] = b.name(operand)
    inner.names.update((v, inner.fresh()) for v in graph.inputs[:n])
    for each in graph.nodes:
        inner.add(each)
    outputs = [inner.node("Identity", inner.name(v)) for v in graph.outputs]
    describe = onnx().helper.make_tensor_value_info
    given, made = (
        [describe(name, number_of(inner.aval(v).dtype), None) for name, v in zip(names, values)]
        for names, values in (([inner.names[v] for v in graph.inputs[:n]], graph.inputs), (outputs, graph.outputs))
    )
    whole = onnx().helper.make_graph(inner.nodes, "turn", given, made)
    inputs = [b.name(v) for v in node.operands[:n]]
    if reverse:
        inputs[carried:] = [flipped(b, name, [0]) for name in inputs[carried:]]
    found = b.several("Scan", inputs, len(node.results), body=whole, num_scan_inputs=sliced)
    return (*found[:carried], *(flipped(b, name, [0]) for name in found[carried:])) if reverse else found
