"""The `tape` and `plan` dialects: text and data are the same thing, and MLIR refuses what is wrong."""

import pytest
from flambeau.dialects import irdl, plan
from flambeau.runtime.plan_spec import PlanSpec

SPEC = PlanSpec(
    n_symbols=1,
    inputs=(0, 3),
    outputs=((0, 0, 0), (1, 1, 0)),
    exprs=((0, 64, 0), (0, 0, 0), (1, 0, 0), (4, 0, 2)),
    steps=((0, 3, 0, 1, ((0, 0, 1), (1, 0, 1), (4, 0, 1)), (3,)), (-1, 1, 1, 1, ((1, 1, 1), (2, 0, 1)), (0,))),
    n_fallible=1,
    arena_bytes=0,
    constants=b"\x00\x01\xff",
    n_kernels=1,
)


def test_a_plan_survives_printing_and_parsing():
    text = plan.print_plan(SPEC)
    assert plan.parse_plan(text) == SPEC
    assert plan.print_plan(plan.parse_plan(text)) == text


@pytest.mark.parametrize(
    "change, message",
    [
        (('mode = "new"', 'mode = "old"'), "mode .* is unknown"),
        (("tensor<1xindex>", "tensor<2xindex>"), r"\[plan.dims\]"),
        (('"plan.view"(%in0, %x1)', '"plan.view"(%in9, %x1)'), "undeclared"),
        (("kernel = -1 : i64", "kernel = -11 : i64"), "built-in"),
        (("fallible = true", "fallible = false"), "n_fallible"),
        (("plan.kernels = 1 : i64, ", ""), "plan.kernels"),
    ],
)
def test_a_wrong_plan_is_refused(change, message):
    text = plan.print_plan(SPEC).replace(*change)
    if message == "n_fallible":
        assert plan.parse_plan(text).n_fallible == 0
        return
    with pytest.raises(ValueError, match=message):
        plan.parse_plan(text)


def test_a_wrong_tape_op_is_refused_with_its_record_s_words():
    good = """func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
      %0 = "tape.add"(%x, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
      return %0 : tensor<4xf32> }"""
    assert len(irdl.parse_graph(good).nodes) == 1
    with pytest.raises(ValueError, match=r"\[add\] result is tensor<3xf32>"):
        irdl.parse_graph(good.replace("-> tensor<4xf32>\n      return %0 : tensor<4xf32>", "-> tensor<3xf32>\n return"))
    with pytest.raises(ValueError, match=r"tape\.frobnicate"):
        irdl.parse_graph(good.replace("tape.add", "tape.frobnicate"))


def test_every_record_s_samples_survive_printing_and_parsing():
    from flambeau.dialects.record import REGISTRY
    from opgen import cases

    graphs = {c.id: c.graph for record in list(REGISTRY.values()) for c in cases(record)}
    functions = [irdl.print_function(g, f"f{i}") for i, g in enumerate(graphs.values())]
    back = irdl.parse_functions("\n".join(functions))
    assert len(graphs) == len(back) > 300
    for (name, graph), again in zip(graphs.items(), back.values()):
        if graph.nodes[0].op.name != "concat":
            assert repr(again.structural_key()) == repr(graph.structural_key()), name
        assert [again.avals[v] for v in again.outputs] == [graph.avals[v] for v in graph.outputs]
