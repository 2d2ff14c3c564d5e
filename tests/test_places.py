"""What is computed where a product's result is: clustering joins what the reader of a cluster takes, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flambeau.compiler.codegen.products.operands import NoProduct, read
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import cluster
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.dtypes import float32, int64
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find

BATCH, M, N = 2, 6, 5
SHAPE = (BATCH, M, N)


def inputs(b: GraphBuilder, *shapes: tuple[int, ...]) -> list[Value]:
    return [b.input(Aval(shape, float32)) for shape in shapes]


def same_shape(b: GraphBuilder, y: Value) -> Value:
    return y + inputs(b, SHAPE)[0]


def columns(b: GraphBuilder, y: Value) -> Value:
    return y * inputs(b, (N,))[0].expand(SHAPE)


def turned(b: GraphBuilder, y: Value) -> Value:
    return y + find("permute")(inputs(b, (BATCH, N, M))[0], perm=(0, 2, 1))


def reshaped(b: GraphBuilder, y: Value) -> Value:
    return find("reshape")(y, shape=(BATCH * M, N)) + inputs(b, (BATCH * M, N))[0]


def across_axes(b: GraphBuilder, y: Value) -> Value:
    flat = find("reshape")(y, shape=(M, BATCH * N))
    return flat + find("permute")(inputs(b, (BATCH * N, M))[0], perm=(1, 0))


def placed_later(b: GraphBuilder, y: Value) -> Value:
    starts = [b.input(Aval((), int64)) for _ in SHAPE]
    part = find("dynamic_slice")(*inputs(b, (9, 9, 9)), *starts, sizes=SHAPE, steps=(1, 1, 1))
    return y + part


def counted(b: GraphBuilder, y: Value) -> Value:
    return y + find("iota")(shape=SHAPE, dim=1, dtype=float32, builder=b)


def turned_result(b: GraphBuilder, y: Value) -> Value:
    return find("permute")(y, perm=(0, 2, 1)) + inputs(b, (BATCH, N, M))[0]


def finished(build: Callable[[GraphBuilder, Value], Value]) -> Graph:
    b = GraphBuilder()
    left, right = inputs(b, (BATCH, M, 7), (BATCH, 7, N))
    b.graph.outputs = [build(b, find("matmul")(left, right)).id]
    return b.graph


def is_read(graph: Graph) -> bool:
    try:
        return bool(read(graph).steps)
    except NoProduct:
        return False


@pytest.mark.parametrize("build", [same_shape, columns, turned, reshaped], ids=lambda f: f.__name__)
def test_what_is_affine_at_the_places_of_a_product_joins_it(build):
    graph = finished(build)
    assert len(cluster(graph, Options())) == 1
    assert is_read(graph)


@pytest.mark.parametrize("build", [across_axes, placed_later, counted, turned_result], ids=lambda f: f.__name__)
def test_what_is_not_stays_outside_and_is_not_read(build):
    graph = finished(build)
    assert len(cluster(graph, Options())) > 1
    assert not is_read(graph)
