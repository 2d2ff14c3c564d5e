"""The order that clustering goes through a program in: what ends a value's life comes right behind what it waits for."""

from __future__ import annotations

import random_graphs
from flambeau.compiler import stages
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster_order import in_order
from flambeau.dialects.dtypes import int64
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find
from support import rounds
from test_cluster_prologues import Program, op
from test_equal_parts import residual_blocks


def names(graph: Graph) -> list[str]:
    return [node.op.name for node in in_order(graph)]


def assert_is_an_order(graph: Graph) -> None:
    """All nodes are there, once, operands first."""
    nodes, made = in_order(graph), set(graph.inputs)
    assert len(nodes) == len(graph.nodes) and {n.results for n in nodes} == {n.results for n in graph.nodes}
    for node in nodes:
        assert made.issuperset(node.operands)
        made.update(node.results)


def test_operands_come_first():
    for seed in range(rounds(30, 400, 2000)):
        assert_is_an_order(random_graphs.program(seed, n_nodes=30).graph)
    assert_is_an_order(residual_blocks(3))


def test_an_update_comes_behind_its_gradient():
    p = Program()
    x, parameter = p.input(8, 8), p.input(8, 8)
    gradient, other = op("matmul", x, x), op("exp", op("sum", x, axes=(0,)))
    graph = p.finish(op("sub", parameter, op("mul", gradient, gradient)), op("sum", other, axes=(0,)))
    assert names(graph) == ["matmul", "mul", "sub", "sum", "exp", "sum"]


def test_an_update_waits_for_who_else_reads_the_parameter():
    p = Program()
    x, parameter = p.input(8, 8), p.input(8, 8)
    gradient = op("matmul", x, x)
    other, last = op("matmul", x, parameter), op("sum", x, axes=(0,))
    graph = p.finish(op("sub", parameter, op("mul", gradient, gradient)), other, last)
    assert names(graph) == ["matmul", "mul", "matmul", "sub", "sum"]


def test_an_update_waits_for_what_may_fail():
    p = Program()
    x, parameter = p.input(8, 8), p.input(8, 8)
    gradient, index = op("matmul", x, x), p.input(4, 8, dtype=int64)
    rows, last = op("gather", x, index, axis=0), op("sum", x, axes=(0,))
    assert find("gather").fallible
    assert names(p.finish(op("sub", parameter, gradient), rows, last)) == ["matmul", "gather", "sub", "sum"]


def test_what_replaces_a_value_comes_where_it_is_read_before():
    p = Program()
    x, w = p.input(16, 16), p.input(16, 16)
    h = op("matmul", x, w)
    y = op("matmul", op("erf", h), w)
    slope = op("exp", op("neg", op("mul", h, h)))
    graph = p.finish(op("matmul", op("mul", y, slope), w))
    assert names(graph) == ["matmul", "erf", "mul", "neg", "exp", "matmul", "mul", "matmul"]


def test_what_stays_beside_a_value_is_not_computed_earlier():
    p = Program()
    x, w = p.input(16, 16), p.input(16, 16)
    h = op("matmul", x, w)
    y = op("matmul", op("erf", h), w)
    slope = op("exp", h)
    graph = p.finish(op("matmul", op("mul", y, slope), w), h)
    assert names(graph) == ["matmul", "erf", "matmul", "exp", "mul", "matmul"]


def test_no_kernel_depends_on_the_number_of_layers():
    """All but those of numbers, which gather."""

    def kernels(n: int) -> set[str]:
        work = stages.run(residual_blocks(n), Options())
        return {
            call.source.text
            for part, made in zip(work.clusters, work.lowered)
            for call in made.calls
            if any(work.graph.avals[v].size > 1 for v in part.results)
        }

    assert kernels(12) == kernels(5) == kernels(3)


def test_every_layer_has_as_many_clusters():
    counts = [len(stages.run(residual_blocks(n), Options()).clusters) for n in (3, 5, 12)]
    assert (counts[2] - counts[1]) * 2 == (counts[1] - counts[0]) * 7
