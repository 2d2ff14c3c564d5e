"""Clustering: what is compiled together, in which order, and that it is the same for equal layers."""

from __future__ import annotations

import flambeau.dialects.tape  # noqa: F401
import mlp_step
import pytest
import random_graphs
from counting import calls
from flambeau.compiler.kernel import Cluster
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import ClusterKernels, cluster
from flambeau.compiler.passes.dead_code import DeadCode
from flambeau.compiler.passes.registry import find as find_pass
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.dtypes import float32, int64
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find

SHARED = ("constant", "iota")


def op(name: str, *args, **attrs) -> Value:
    return find(name)(*args, **attrs)


def computed(clusters: list[Cluster]) -> list[list[str]]:
    """The ops of each cluster that compute, views and constants left out."""
    return [[n.op.name for n in c.graph.nodes if not n.op.family.is_view and n.op.name not in SHARED] for c in clusters]


def clusters_of(outputs: list[Value], **options) -> list[Cluster]:
    graph = outputs[0].builder.graph
    graph.outputs = [v.id for v in outputs]
    return cluster(graph, Options(**options))


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("fuse", (True, False))
def test_every_op_is_computed_once_after_its_operands(seed, fuse):
    graph = DeadCode()(random_graphs.program(seed, 40).graph)
    known, made = set(graph.inputs), []
    for part in cluster(graph, Options(fuse=fuse)):
        assert known.issuperset(part.operands), "an operand is computed later"
        assert [part.graph.avals[v] for v in part.graph.inputs] == [graph.avals[v] for v in part.operands]
        assert [part.graph.avals[v] for v in part.graph.outputs] == [graph.avals[v] for v in part.results]
        made += [n.op.name for n in part.graph.nodes if not n.op.family.is_view and n.op.name not in SHARED]
        known.update(part.results)
    assert known.issuperset(graph.outputs)
    expected = [n.op.name for n in graph.nodes if not n.op.family.is_view and n.op.name not in SHARED]
    assert sorted(made) == sorted(expected)


def test_fragments_are_numbered_by_inputs_then_results():
    for seed in range(20):
        for part in cluster(random_graphs.program(seed, 40).graph, Options()):
            numbers = [*part.graph.inputs, *(v for n in part.graph.nodes for v in n.results)]
            assert numbers == list(range(len(part.graph.avals)))


def test_clusters_do_not_depend_on_the_run():
    graph = mlp_step.step(64)
    first, second = (ClusterKernels()(graph) for _ in range(2))
    assert [c.graph.structural_key() for c in first] == [c.graph.structural_key() for c in second]


def test_equal_layers_give_equal_clusters():
    b = GraphBuilder()
    x = b.input(Aval((64, 64), float32))
    for _ in range(6):
        x = op(
            "tanh", op("matmul", x, b.input(Aval((64, 64), float32))) + b.input(Aval((64,), float32)).expand((64, 64))
        )
        x = x / op("broadcast", op("reshape", op("sum", x, axes=(1,)), shape=(64, 1)), shape=(64, 64))
    found = clusters_of([x])
    names = [c.graph.structural_key() for c in found]
    assert len(found) == 12 and len({*names[2:-1]}) == 2, "only the first product and the last nest differ"


def test_a_matmul_takes_its_epilogue_and_nothing_else():
    b = GraphBuilder()
    x, w, bias = (b.input(Aval(s, float32)) for s in ((8, 16), (16, 32), (32,)))
    h = op("matmul", x, w) + bias.expand((8, 32))
    y = op("maximum", h, h.like(0.0))
    found = clusters_of([y, op("sum", y, axes=(0,)), op("permute", y, perm=(1, 0))])
    assert [c.kind for c in found] == ["contraction", "loops", "loops"]
    assert computed(found) == [["matmul", "add", "maximum"], ["sum"], []]


def test_transposed_operands_of_a_matmul_are_views():
    b = GraphBuilder()
    x, w = b.input(Aval((8, 16), float32)), b.input(Aval((32, 16), float32))
    (found,) = clusters_of([op("matmul", x, op("permute", w, perm=(1, 0)))])
    assert found.kind == "contraction" and len(found.operands) == 2


def test_softmax_is_one_cluster_and_the_mean_of_its_rows_another():
    b = GraphBuilder()
    x = b.input(Aval((30, 40), float32))
    stretch = lambda r: op("broadcast", op("reshape", r, shape=(30, 1)), shape=(30, 40))  # noqa: E731
    e = op("exp", x - stretch(op("max", x, axes=(1,))))
    total = op("sum", e, axes=(1,))
    found = clusters_of([e / stretch(total), op("sum", op("log", total), axes=(0,))])
    assert computed(found) == [["max", "sub", "exp", "sum", "div", "log"], ["sum"]]


def test_a_diamond_is_fused_once_and_a_cycle_never_made():
    b = GraphBuilder()
    x, w = b.input(Aval((16, 16), float32)), b.input(Aval((16, 16), float32))
    y = op("exp", x)
    left, right = y * 2.0, op("tanh", y)
    assert computed(clusters_of([left + right])) == [["exp", "mul", "tanh", "add"]]
    around = op("matmul", y, w)  # y -> product -> sum: y must not join the sum
    found = clusters_of([y + op("exp", around) * y])
    assert computed(found)[0][:1] == ["exp"] and [c.kind for c in found] == ["loops", "contraction"]


def test_readers_of_one_value_share_a_pass_over_it():
    b = GraphBuilder()
    x = b.input(Aval((50, 60), float32))
    assert len(clusters_of([op("sum", x, axes=(1,)), op("max", x * x, axes=(1,)), op("exp", x)])) == 1


def test_reductions_over_other_axes_do_not_share_a_nest():
    b = GraphBuilder()
    x = op("exp", b.input(Aval((50, 60), float32)))
    assert len(clusters_of([op("sum", x, axes=(1,)), op("sum", x, axes=(0,))])) == 2


def number_times_nests(*sizes):
    """A number, which comes first, and for each size what it was multiplied into, and the sum of the tanh of that."""
    b = GraphBuilder()
    number = op("cast", b.input(Aval((), int64)), dtype=float32)
    outputs = [number]
    for n in sizes:
        product = b.input(Aval((n,), float32)) * op("broadcast", op("reshape", number, shape=(1,)), shape=(n,))
        outputs += [op("sum", op("tanh", product), axes=(0,)), product]
    return outputs


def test_a_number_that_one_row_reads_is_computed_by_its_nest():
    assert len(clusters_of(number_times_nests(100)[1:])) == 1
    assert computed(clusters_of(number_times_nests(100, 200)[1:]))[0] == [
        "cast"
    ]  # twice would be more work than reading it


def test_a_number_that_is_handed_out_has_a_kernel_of_its_own():
    assert ["cast"] in computed(clusters_of(number_times_nests(100)))


def test_very_long_rows_are_not_walked_twice_by_one_thread():
    b = GraphBuilder()
    x = b.input(Aval((2, 1 << 17), float32))
    total = op("broadcast", op("reshape", op("sum", x, axes=(1,)), shape=(2, 1)), shape=x.shape)
    assert len(clusters_of([x / total])) == 2


def test_a_cluster_has_a_bounded_number_of_ops():
    b = GraphBuilder()
    x = b.input(Aval((10,), float32))
    for _ in range(500):
        x = x + 1.0
    sizes = [len(ops) for ops in computed(clusters_of([x], max_cluster_ops=200))]
    assert sum(sizes) == 500 and max(sizes) <= 200 and len(sizes) <= 4


def test_fallible_ops_that_nobody_reads_are_kept():
    b = GraphBuilder()
    x, index = b.input(Aval((4, 5), float32)), b.input(Aval((4, 1), int64))
    op("gather", x, index, axis=1)
    found = clusters_of([x + 1.0])
    assert sorted(name for names in computed(found) for name in names) == ["add", "gather"]


def test_the_pass_is_known_by_its_name():
    assert find_pass("cluster") is ClusterKernels


def long_program(layers: int) -> Graph:
    b = GraphBuilder()
    x = b.input(Aval((64, 64), float32))
    w = b.input(Aval((64, 64), float32))
    for _ in range(layers):
        h = op("matmul", x, w)
        x = op("tanh", h) * x + op("broadcast", op("reshape", op("sum", h, axes=(1,)), shape=(64, 1)), shape=(64, 64))
    b.graph.outputs = [x.id]
    return b.graph


def test_work_is_linear_in_the_program():
    def work(layers: int) -> int:
        graph = long_program(layers)
        return calls(lambda: cluster(graph, Options()))

    work(20)
    assert work(800) < 12 * work(100)
