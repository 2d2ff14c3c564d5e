"""Cheap ops that a group computes again instead of reading what they gave: which ones, and that no bit depends on it."""

from __future__ import annotations

import random

import pytest
from flambeau.compiler.kernel import Cluster
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import cluster
from flambeau.dialects.builder import Value
from flambeau.dialects.graph import Graph
from test_cluster import computed
from test_cluster_prologues import Program, assert_same_bits, op, turned


def gelu_and_its_gradient(p: Program) -> Graph:
    """As approximated by tanh, between two products, for whose gradient a third one is."""
    x, w, v, ct = p.input(37, 20), p.input(20, 48), p.input(48, 24), p.input(37, 24)
    h = op("matmul", x, w)
    square = op("mul", h, h)
    t = op("tanh", op("mul", op("add", h, op("mul", op("mul", square, h), h.like(0.044715))), h.like(0.8)))
    half, more = op("mul", h, h.like(0.5)), op("add", t, h.like(1.0))
    y = op("matmul", op("mul", half, more), v)
    from_y = op("matmul", ct, turned(v))
    of_tanh = op("mul", op("mul", from_y, half), op("sub", h.like(1.0), op("mul", t, t)))
    slope = op("add", op("mul", square, h.like(0.107)), h.like(0.8))
    return p.finish(y, op("add", op("mul", op("mul", from_y, more), h.like(0.5)), op("mul", of_tanh, slope)))


def reads(parts: list[Cluster], part: Cluster) -> set[int]:
    return {v for v in part.operands if any(v in other.results for other in parts)}


def test_a_gradient_reads_two_values_of_what_its_activation_made():
    parts = cluster(gelu_and_its_gradient(Program()), Options())
    assert len(parts) == 3 and all(ops.count("matmul") == 1 for ops in computed(parts))
    forward = next(p for p in parts if "tanh" in computed([p])[0])
    (back,) = (p for p in parts if "sub" in computed([p])[0])
    assert len(forward.results) == 3, "the product, its tanh and the result: neither squares nor halves"
    assert len(reads(parts, back)) == 2 and "tanh" not in computed([back])[0]


def test_no_bit_depends_on_it():
    assert_same_bits(gelu_and_its_gradient(Program()))


def before_and_after(p: Program, again, *more) -> tuple[Graph, Value]:
    """`again(h)`, beside h, of a product that another product waits for, whose epilogue reads both."""
    x, w, v = p.input(20, 30), p.input(30, 40), p.input(40, 40)
    h = op("matmul", x, w)
    value = again(h)
    last = op("matmul", op("exp", op("mul", h, value)), v)
    return p.finish(op("add", op("mul", last, value), h), *(made(h, value) for made in more)), value


def stored(graph: Graph) -> set[int]:
    return {v for part in cluster(graph, Options()) for v in part.results}


def test_what_is_cheap_is_not_stored():
    graph, value = before_and_after(Program(), lambda h: op("add", op("mul", h, h), h.like(1.0)))
    assert value.id not in stored(graph)
    assert_same_bits(graph)


@pytest.mark.parametrize("name", ["exp", "tanh", "div"])
def test_what_takes_more_than_reading_is(name):
    def again(h: Value) -> Value:
        return op("div", op("div", h, h.like(3.0)), h.like(2.0)) if name == "div" else op(name, h)

    graph, value = before_and_after(Program(), again)
    assert value.id in stored(graph)
    assert_same_bits(graph)


def test_what_the_program_returns_is_stored_and_not_read():
    graph, value = before_and_after(Program(), lambda h: op("mul", h, h), lambda h, value: value)
    last = next(p for p in cluster(graph, Options()) if graph.outputs[0] in p.results)
    assert value.id in stored(graph) and value.id not in last.operands
    assert_same_bits(graph)


@pytest.mark.parametrize("seed", range(12))
def test_random_values_between_products_agree_to_the_bit(seed):
    choose, p = random.Random(seed), Program()
    rows = choose.choice((1, 5, 16, 33))
    x, w, v = p.input(rows, 17), p.input(17, 24), p.input(24, 24)
    values = [op("matmul", x, w)]
    for _ in range(choose.randrange(2, 9)):
        one, two = choose.choice(values), choose.choice(values)
        name = choose.choice(("add", "mul", "sub", "maximum", "neg", "tanh"))
        values.append(op(name, one) if name in ("neg", "tanh") else op(name, one, choose.choice((two, one.like(0.5)))))
    last = op("matmul", values[-1], v)
    for value in choose.sample(values, min(4, len(values))):
        last = op(choose.choice(("add", "mul")), last, value)
    folded = op("sum", op("mul", last, choose.choice(values)), axes=(choose.randrange(2),))
    assert_same_bits(p.finish(last, folded))
