"""Reductions of values that are stretched inside the reduced axes: one nest, and the bits of the op-by-op tier."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import random_graphs
from execute import run_graph
from flambeau.compiler import driver
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import cluster
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.dtypes import DType, bool_, float32, float64, int64
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find


def op(name: str, *args, **attrs) -> Value:
    return find(name)(*args, **attrs)


class Program:
    def __init__(self, dtype: DType = float32) -> None:
        self.b, self.dtype = GraphBuilder(), dtype

    def input(self, *shape: int, dtype: DType | None = None) -> Value:
        return self.b.input(Aval(shape, dtype or self.dtype))

    def kept(self, shape: tuple[int, ...], axes: tuple[int, ...], **how) -> Value:
        """An input that varies along `axes` only, stretched to `shape`."""
        unit = tuple(n if a in axes else 1 for a, n in enumerate(shape))
        return op("broadcast", self.input(*unit, **how), shape=shape)

    def finish(self, *outputs: Value) -> Graph:
        self.b.graph.outputs = [v.id for v in outputs]
        return self.b.graph


def check(graph: Graph) -> int:
    """The number of clusters; fused and unfused agree to the bit."""
    rng = np.random.default_rng(0)
    arrays = []
    for v in graph.inputs:
        aval = graph.avals[v]
        numbers = rng.normal(0, 2, aval.shape)
        arrays.append((numbers > 0 if aval.dtype.is_bool else numbers).astype(aval.dtype.numpy))
    wanted = run_graph(graph, arrays, Options(fuse=False))
    for how in (dict(), dict(parts=3, in_place=True)):
        found = run_graph(graph, arrays, Options(), **how)
        assert all(random_graphs.same_bits(x, y) for x, y in zip(wanted, found, strict=True))
    return len(cluster(graph, Options()))


SHAPES = [(3, 5, 64), (2, 3, 192), (4, 6, 128), (2, 70, 64), (1, 9, 1024), (3, 2, 4096)]


@pytest.mark.accept("RED-01")
@pytest.mark.parametrize("dtype", [float32, float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_inner_reductions_over_several_axes(shape, dtype):
    for axes, name in itertools.product([(1, 2), (0, 1, 2)], ["sum", "max"]):
        for kept in [(1,), (0, 1), (2,), (0, 2), (0,)]:
            p = Program(dtype)
            x = p.input(*shape)
            graph = p.finish(op(name, (x - p.kept(shape, kept)) * x, axes=axes))
            assert check(graph) == 1


@pytest.mark.accept("RED-01")
@pytest.mark.parametrize("shape", [(3, 5, 7, 9), (2, 40, 3, 70), (1, 2, 100, 33)])
def test_outer_reductions_over_several_axes(shape):
    for kept in [(1,), (2,), (0, 1), (0, 2), (1, 3), (2, 3), (0, 2, 3)]:
        p = Program()
        x = p.input(*shape)
        graph = p.finish(op("sum", (x - p.kept(shape, kept)) * 0.5, axes=(1, 2)))
        assert check(graph) == 1


def test_a_mean_squared_error_of_stretched_targets_is_one_pass():
    p = Program()
    x = p.input(50, 512)
    difference = x - p.kept(x.shape, (0,))
    graph = p.finish(op("sum", difference * difference, axes=(0, 1)) * (1.0 / x.aval.size))
    executable = driver.compile(graph, Options(mode="blocking"))
    rng = np.random.default_rng(1)
    executable([rng.normal(size=graph.avals[v].shape).astype(np.float32) for v in graph.inputs])
    assert executable.report.tier == "fused" and executable.report.arena_bytes < 1000, "only partial sums are stored"
    check(graph)


def test_transposed_masks_positions_and_row_values_inside_a_fold():
    p = Program()
    shape = (3, 64, 128)
    x = p.input(*shape)
    turned = op("permute", p.input(3, 128, 64), perm=(0, 2, 1))
    mask = p.kept(shape, (1,), dtype=bool_)
    place = op("iota", shape=shape, dim=1, dtype=int64, builder=p.b).cast(float32)
    y = op("select", mask, x * turned, place)
    largest = op("broadcast", op("reshape", op("max", y, axes=(1, 2)), shape=(3, 1, 1)), shape=shape)
    graph = p.finish(op("sum", op("exp", y - largest), axes=(1, 2)))
    check(graph)


def test_every_other_element_inside_a_fold():
    p = Program()
    shape = (4, 3, 64)
    thin = op("slice", p.input(1, 3, 128), starts=(0, 0, 1), sizes=(1, 3, 64), steps=(1, 1, 2))
    x = p.input(*shape) * op("broadcast", thin, shape=shape)
    assert check(p.finish(op("sum", x, axes=(0, 1, 2)))) == 1


def test_registers_would_straddle_a_break():
    p = Program()
    x = p.input(4, 50)
    graph = p.finish(op("sum", x * p.kept(x.shape, (0,)), axes=(0, 1)))
    assert check(graph) == 2


@pytest.mark.parametrize("seed", range(12))
def test_random_folds_agree_to_the_bit(seed):
    rng = np.random.default_rng(seed)
    p = Program((float32, float64)[seed % 2])
    shape = tuple(int(rng.choice([1, 2, 3, 64, 128, 10])) for _ in range(4))
    x = p.input(*shape)
    for _ in range(3):
        kept = tuple(a for a in range(4) if rng.integers(2))
        x = op(str(rng.choice(["add", "mul", "maximum"])), x, p.kept(shape, kept))
    axes = tuple(a for a in range(4) if rng.integers(2)) or (3,)
    outputs = [op("sum", x, axes=axes)]
    if rng.integers(2):
        outputs.append(x)
    check(p.finish(*outputs))
