"""Devices in types: inferred from operands, printed, verified, kept by passes and gradients. No op but a transfer joins two.

In: the records' samples on a device that is only a name here. What runs on one is in `test_device_programs.py`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import opgen
import pytest
from devices import placed
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cse import CommonSubexpressions
from flambeau.compiler.passes.legalise_devices import LegaliseDevices
from flambeau.compiler.passes.simplify import Simplify
from flambeau.dialects import autodiff
from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float32, int64
from flambeau.dialects.graph import Graph
from flambeau.dialects.identity import graph_bytes
from flambeau.dialects.irdl import parse_graph, print_graph
from flambeau.dialects.record import NoGradient, find
from flambeau.dialects.size import symbol
from flambeau.dialects.tape.transfer import crosses, to_device
from flambeau.dialects.verify import verify

THERE = "pretend:0"
RECORDS = [r for r in opgen.records() if r is not to_device]


def added() -> Graph:
    """x + 1 on a device, between transfers."""
    b = GraphBuilder()
    x = b.input(Aval((3, 4), float32))
    b.graph.outputs = [to_device(to_device(x, device=THERE) + 1.0, device=CPU).id]
    return b.graph


def places(graph: Graph) -> set[str]:
    return {a.device for a in graph.avals}


@pytest.mark.parametrize("record", RECORDS, ids=str)
def test_results_lie_where_operands_do(record):
    """Sources lie where they are asked for; neither rules nor references know of it."""
    for case in opgen.cases(record):
        graph = placed(Graph(list(case.graph.avals[: len(case.arrays)]), list(case.graph.inputs)), THERE)
        (node,) = case.graph.nodes
        graph.outputs = list(graph.add_node(record, node.operands, node.attrs, device=THERE))
        assert places(graph) == {THERE}
        assert [a.on(CPU) for a in graph.avals] == case.graph.avals
        verify(graph)


def test_types_with_devices_are_text_and_read_back():
    text = print_graph(added())
    assert 'tensor<3x4xf32, {device = "pretend:0"}>' in text and "(%0: tensor<3x4xf32>) -> (tensor<3x4xf32>)" in text
    assert print_graph(parse_graph(text)) == text and parse_graph(text).avals == added().avals
    sized = Aval((symbol(0), 4), float32, THERE)
    assert sized.mlir == 'tensor<?x4xf32, {device = "pretend:0", sizes = ["s0"]}>'
    graph = Graph([sized], [0], [], [0], sizes=(7,))
    assert parse_graph(print_graph(graph)).avals == [sized]
    assert "pretend" not in print_graph(placed(added(), CPU)).replace('device = "pretend:0"} :', "")


@pytest.mark.parametrize(
    "encoding", ["{place = 1 : i64}", "{device = 3 : i64}", '{device = ""}', "{device = [1 : i64]}"]
)
def test_a_type_whose_device_is_no_name_is_refused(encoding):
    text = f"func.func @main(%x: tensor<2xf32, {encoding}>) {{\n  return\n}}"
    with pytest.raises(ValueError, match="is no encoding"):
        parse_graph(text)


def test_operands_of_one_op_lie_on_one_device():
    b = GraphBuilder()
    x, y = b.input(Aval((3,), float32)), b.input(Aval((3,), float32, THERE))
    with pytest.raises(
        RuntimeError, match=r"\[add\] operands lie on cpu, pretend:0\. Move them to one device with to\(device\)\."
    ):
        x + y
    text = (
        print_graph(added())
        .replace('%1 = "tape.to_device"(%0)', '%1 = "tape.neg"(%0)')
        .replace('{device = "pretend:0"} :', ":")
    )
    with pytest.raises(ValueError, match=r"\[neg\] result is tensor<3x4xf32, \{device"):
        parse_graph(text)


def test_a_node_that_reads_or_writes_another_device_is_refused():
    graph = added()
    graph.avals[-2] = graph.avals[-2].on(CPU)  # the sum, computed on the device
    with pytest.raises(ValueError, match=r"\(add\) has results .*, but its operands give"):
        verify(graph)
    graph = added()
    graph.avals[1] = graph.avals[1].on("pretend:1")
    with pytest.raises(ValueError, match="but its operands give"):
        verify(graph)


@pytest.mark.parametrize("record", [r for r in RECORDS if not isinstance(r.vjp, NoGradient)], ids=str)
def test_gradients_lie_where_values_do(record):
    """The gradient of a program on a device is that of the program on the CPU, there: constants of the rules, too."""
    case = next((c for c in opgen.cases(record) if c.sample.gradient), None) or next(opgen.cases(record))
    wrt = [v for v in case.graph.inputs if case.graph.avals[v].dtype.is_floating_point]
    here = opgen.gradient_graph(case.graph, wrt)
    there = opgen.gradient_graph(placed(case.graph, THERE), wrt)
    assert there.avals == placed(here, THERE).avals and there.nodes == here.nodes
    verify(there)


def test_the_gradient_of_a_transfer_is_the_transfer_back():
    b = GraphBuilder()
    x = b.input(Aval((3,), float32))
    y = to_device(x, device=THERE)
    forward = Graph(list(b.graph.avals), [x.id], list(b.graph.nodes), [y.id])
    ct = b.input(Aval((3,), float32, THERE))
    (found,) = autodiff.vjp(b, forward, {x.id: x, y.id: y}, {y.id: ct}, [x.id])
    assert found is not None and found.aval == x.aval and b.graph.nodes[-1].op is to_device
    verify(replace(b.graph, outputs=[found.id]))


def test_passes_keep_what_lies_where():
    """Equal constants on two devices stay two, and a constant is made where it is used rather than moved."""
    b = GraphBuilder()
    x, y = b.input(Aval((3,), float32)), b.input(Aval((3,), float32, THERE))
    moved = to_device(b.constant(2.0, float32, (3,)), device=THERE)
    b.graph.outputs = [(x * 2.0).id, (y * 2.0).id, (y - moved).id]
    for graph in (Simplify()(b.graph), CommonSubexpressions()(Simplify()(b.graph))):
        verify(graph)
        read = {v for n in graph.nodes for v in n.operands} | set(graph.outputs)
        assert not any(crosses(graph, n) for n in graph.nodes if n.results[0] in read)
        assert {a.device for v in graph.outputs for a in [graph.avals[v]]} == {CPU, THERE}


def test_a_transfer_there_and_back_is_none():
    b = GraphBuilder()
    x = b.input(Aval((3,), float32))
    b.graph.outputs = [to_device(to_device(x, device=THERE), device=CPU).id, to_device(x, device=CPU).id]
    graph = Simplify()(b.graph)
    assert graph.outputs == [0, 0]


def test_programs_on_other_devices_have_other_keys_and_those_of_the_cpu_keep_theirs():
    here, there = added(), placed(added(), THERE)
    assert graph_bytes(here) != graph_bytes(there) != graph_bytes(placed(added(), "pretend:1"))
    source = GraphBuilder()
    source.graph.outputs = [source.constant(1.0, float32).id]
    assert graph_bytes(source.graph) != graph_bytes(placed(source.graph, THERE))
    assert b"cpu" not in graph_bytes(source.graph)
    assert find("to_device").run_reference([np.ones(3)], (THERE,))[0].sum() == 3
    assert Options().target == "host"


def test_what_a_transfer_moves_is_not_moved_back():
    """An op that the device lacks reads the value from where it came; on a third device nothing is known of it."""
    b = GraphBuilder()
    x, index = b.input(Aval((3,), float32)), b.input(Aval((2,), int64))
    there = to_device(x, device=THERE)
    picked = find("gather")(there, to_device(index, device=THERE), axis=0)
    b.graph.outputs = [picked.id, to_device(there, device="pretend:1").id]
    graph = LegaliseDevices(targets=f"{THERE}=sm_90")(b.graph)
    verify(graph)
    (gather,) = (n for n in graph.nodes if n.op.name == "gather")
    assert gather.operands == (0, 1)
    assert [graph.avals[v].device for v in graph.outputs] == [THERE, "pretend:1"]
    assert LegaliseDevices(targets=f"{THERE}=sm_90")(graph) == graph
