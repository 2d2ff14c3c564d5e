"""Small elementwise ops whose stretched result is reduced: when the reduction's nest computes them, and the same bits."""

from __future__ import annotations

import numpy as np
import pytest
import random_graphs
from flambeau.compiler import driver
from flambeau.compiler.baseline.op_by_op import to_array
from flambeau.compiler.options import Options
from flambeau.compiler.passes.push_broadcasts import PushBroadcasts
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.dtypes import float32
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find


def op(name: str, *args, **attrs) -> Value:
    return find(name)(*args, **attrs)


class Program:
    def __init__(self) -> None:
        self.b = GraphBuilder()

    def input(self, *shape: int) -> Value:
        return self.b.input(Aval(shape, float32))

    def finish(self, *outputs: Value) -> Graph:
        self.b.graph.outputs = [v.id for v in outputs]
        return self.b.graph


def steps(graph: Graph) -> int:
    """Steps of the fused plan, whose outputs are those of the baseline tier to the bit."""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(0, 2, graph.avals[v].shape).astype(np.float32) for v in graph.inputs]
    fused, generic = (driver.compile(graph, Options(mode=mode)) for mode in ("blocking", "off"))
    for x, y, v in zip(fused(arrays), generic(arrays), graph.outputs, strict=True):
        assert random_graphs.same_bits(to_array(x, graph.avals[v]), to_array(y, graph.avals[v]))
    assert fused.report.tier == "fused" and generic.report.tier == "generic"
    return fused.report.steps


def along(x: Value, axis: int, shape: tuple[int, ...]) -> Value:
    """A vector stretched over a shape, `axis` of which it runs along."""
    unit = tuple(n if d == axis else 1 for d, n in enumerate(shape))
    return op("broadcast", op("reshape", x, shape=unit), shape=shape)


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_small_reduction_computes_what_it_stretches(axes, axis):
    p = Program()
    x = p.input(6, 64)
    weights = op("tanh", p.input(x.shape[axis]) * 2.0)
    assert steps(p.finish(op("sum", x * along(weights, axis, x.shape), axes=axes))) == 1


@pytest.mark.parametrize("rows", [2, 3])
def test_cheap_ops_that_few_rows_share_are_computed_again(rows):
    p = Program()
    x, v = p.input(rows, 3, 3000), p.input(3000)
    assert steps(p.finish(op("sum", x * along(op("neg", v), 2, x.shape), axes=(2,)))) == 1


def test_a_weight_for_each_of_many_long_rows_is_computed_once_a_row():
    p = Program()
    x, v = p.input(90, 1024), p.input(90)
    graph = p.finish(op("sum", x * along(v * v, 0, x.shape), axes=(0,)))
    assert steps(graph) <= steps(p.finish(op("sum", x * along(p.input(90), 0, x.shape), axes=(0,))))


def test_expensive_ops_that_many_rows_share_stay_outside():
    p = Program()
    x, v = p.input(200, 300), p.input(300)
    graph = p.finish(op("sum", x * along(op("exp", v), 1, x.shape), axes=(1,)))
    assert PushBroadcasts()(graph) is graph
    assert steps(graph) == 2


def test_what_others_read_stays_outside():
    p = Program()
    x, v = p.input(6, 50), p.input(50)
    y = op("exp", v)
    graph = p.finish(op("sum", x * along(y, 1, x.shape), axes=(1,)), op("neg", y))
    assert PushBroadcasts()(graph) is graph


def test_without_a_reduction_nothing_moves():
    p = Program()
    x, v = p.input(6, 50), p.input(50)
    graph = p.finish(x * along(op("exp", v), 1, x.shape))
    assert PushBroadcasts()(graph) is graph


@pytest.mark.parametrize("reader", ["frexp", "eigh"])
def test_an_op_with_several_results_takes_a_stretched_value_as_it_is(reader):
    p = Program()
    found, _ = op(reader, along(op("tanh", p.input(4)), 1, (4, 4)))
    graph = p.finish(op("sum", found, axes=(0,)))
    assert [n.op.name for n in PushBroadcasts()(graph).nodes] == [n.op.name for n in graph.nodes]


def test_the_epilogue_of_a_product_keeps_its_small_operand():
    p = Program()
    x, w, bias = p.input(6, 20), p.input(20, 50), p.input(50)
    y = op("matmul", x, w) + along(op("exp", bias), 1, (6, 50))
    graph = p.finish(op("sum", y, axes=(1,)))
    assert PushBroadcasts()(graph) is graph


def test_row_values_of_a_softmax_stay_row_values():
    p = Program()
    x = p.input(6, 50)
    scale = op("rsqrt", op("sum", x * x, axes=(1,)) + 1.0)
    graph = p.finish(op("sum", x * along(scale, 0, x.shape), axes=(1,)))
    assert PushBroadcasts()(graph) is graph
    assert steps(graph) == 1


@pytest.mark.parametrize("seed", range(10))
def test_random_stretches_agree_to_the_bit(seed):
    rng = np.random.default_rng(seed)
    p = Program()
    shape = tuple(int(n) for n in rng.integers(1, 12, 3))
    x = p.input(*shape)
    for _ in range(3):
        kept = [n if rng.integers(2) else 1 for n in shape]
        v = p.input(*kept)
        for name in rng.choice(["neg", "tanh", "abs", "exp"], int(rng.integers(1, 4))):
            v = op(str(name), v)
        v = v * p.input(*kept) if rng.integers(2) else v
        x = (x + op("broadcast", v, shape=shape)) if rng.integers(2) else x * op("broadcast", v, shape=shape)
    axes = tuple(int(a) for a in range(3) if rng.integers(2)) or (1,)
    steps(p.finish(op("sum", x, axes=axes)))
