"""Elementwise producers of matmul operands: which ones products compute themselves, and that no bit depends on it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import random_graphs
from execute import run_graph
from flambeau.compiler import driver
from flambeau.compiler.baseline.op_by_op import to_array
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import cluster
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.dtypes import by_name
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find


def op(name: str, *args, **attrs) -> Value:
    return find(name)(*args, **attrs)


class Program:
    """A graph under construction; inputs are random."""

    def __init__(self, dtype: str = "float32") -> None:
        self.b, self.dtype = GraphBuilder(), by_name(dtype)

    def input(self, *shape: int, dtype=None) -> Value:
        return self.b.input(Aval(shape, dtype or self.dtype))

    def finish(self, *outputs: Value) -> Graph:
        self.b.graph.outputs = [v.id for v in outputs]
        return self.b.graph


def relu(x: Value) -> Value:
    return op("maximum", x, x.like(0.0))


def turned(x: Value) -> Value:
    rank = len(x.shape)
    return op("permute", x, perm=(*range(rank - 2), rank - 1, rank - 2))


def stretched(x: Value, shape: tuple[int, ...]) -> Value:
    """A value per row, over the columns."""
    return op("broadcast", op("reshape", x, shape=(*x.shape, 1)), shape=shape)


def layer_norm(p: Program, x: Value) -> Value:
    n = x.shape[-1]
    mean = op("sum", x, axes=(1,)) * (1.0 / n)
    centred = x - stretched(mean, x.shape)
    variance = op("sum", centred * centred, axes=(1,)) * (1.0 / n)
    return centred * stretched(op("rsqrt", variance + 1e-5), x.shape) * p.input(n).expand(x.shape)


def ops_of(graph: Graph) -> list[list[str]]:
    """The ops of each cluster that compute."""
    return [
        [n.op.name for n in c.graph.nodes if not (n.op.family.is_view or n.op.family.is_placed)]
        for c in cluster(graph, Options())
    ]


def arrays_for(graph: Graph) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    avals = [graph.avals[v] for v in graph.inputs]
    return [
        (rng.normal(0, 2, a.shape) if a.dtype.is_floating_point else rng.random(a.shape) < 0.5).astype(a.dtype.numpy)
        for a in avals
    ]


def assert_same_bits(graph: Graph) -> None:
    """Fused or not, on the machine's kernels and the plan, the outputs are the same."""
    arrays = arrays_for(graph)
    wanted = run_graph(graph, arrays, Options(fuse=False))
    for found in (run_graph(graph, arrays, Options()), run_graph(graph, arrays, Options(), parts=3, in_place=True)):
        assert all(random_graphs.same_bits(x, y) for x, y in zip(wanted, found, strict=True))


# ---- what is fused --------------------------------------------------------------------------------------------

SHAPES = [(9, 50, 20), (5, 17, 300), (40, 64, 513), (17, 3, 70)]


def left(p: Program, m: int, n: int, k: int) -> Graph:
    return p.finish(op("matmul", relu(p.input(m, k)), p.input(k, n)))


def left_of_transpose(p: Program, m: int, n: int, k: int) -> Graph:
    return p.finish(op("matmul", relu(p.input(m, k)), turned(p.input(n, k))))


def normed(p: Program, m: int, n: int, k: int) -> Graph:
    x = p.input(m, k)
    y = (x - stretched(p.input(m), x.shape)) * stretched(p.input(m), x.shape)
    return p.finish(op("matmul", y, p.input(k, n)))


def right(p: Program, m: int, n: int, k: int) -> Graph:
    dy, h = p.input(k, n), p.input(k, n)
    return p.finish(op("matmul", turned(p.input(k, m)), op("select", h > h.like(0.0), dy, dy.like(0.0))))


def dropped(p: Program, m: int, n: int, k: int) -> Graph:
    """A mask of another dtype and a number for all elements, on the right, transposed."""
    x, mask, scale = p.input(n, k), p.input(n, k, dtype=by_name("bool")), p.input(dtype=by_name("float64"))
    y = x * mask.cast(p.dtype) * scale.cast(p.dtype).expand(x.shape)
    return p.finish(op("matmul", p.input(m, k), turned(y)))


def both(p: Program, m: int, n: int, k: int) -> Graph:
    return p.finish(op("matmul", relu(p.input(m, k)), op("exp", p.input(k, n))) + p.input(n).expand((m, n)))


def batched(p: Program, m: int, n: int, k: int) -> Graph:
    return p.finish(op("matmul", p.input(3, m, k) * 0.125, turned(op("neg", p.input(3, n, k)))))


def matrix_vector(p: Program, m: int, n: int, k: int) -> Graph:
    return p.finish(op("matmul", op("exp", p.input(m, k)), p.input(k, 1)))


def vector_matrix(p: Program, m: int, n: int, k: int) -> Graph:
    return p.finish(op("matmul", p.input(1, k), turned(op("tanh", p.input(n, k)))))


def dot(p: Program, m: int, n: int, k: int) -> Graph:
    return p.finish(op("matmul", p.input(1, k) * 2.0, op("exp", p.input(k, 1))))


FUSED: list[Callable[[Program, int, int, int], Graph]] = [
    left, left_of_transpose, normed, right, dropped, both, batched, matrix_vector, vector_matrix, dot,
]  # fmt: skip


@pytest.mark.accept("LIN-03")
@pytest.mark.parametrize("make", FUSED, ids=lambda f: f.__name__)
def test_a_product_computes_its_operands(make):
    for m, n, k in SHAPES:
        graph = make(Program(), m, n, k)
        found = [ops for ops in ops_of(graph) if ops != ["cast"]]  # a number is converted once, not per element
        assert len(found) == 1 and "matmul" in found[0]
        assert_same_bits(graph)


@pytest.mark.parametrize("make", FUSED, ids=lambda f: f.__name__)
def test_doubles_too(make):
    assert_same_bits(make(Program("float64"), 21, 37, 260))


@pytest.mark.parametrize("make", [left, right, both, matrix_vector])
def test_the_plan_has_one_step_and_the_generic_tier_agrees(make):
    graph = make(Program(), 9, 50, 20)
    arrays = arrays_for(graph)
    fused, generic = (driver.compile(graph, Options(mode=mode)) for mode in ("blocking", "off"))
    found, wanted = (to_array(f(arrays)[0], graph.avals[graph.outputs[0]]) for f in (fused, generic))
    assert random_graphs.same_bits(found, wanted)
    assert fused.report.tier == "fused" and generic.report.tier == "generic"
    packs = sum(k.startswith("panels of") for k in fused.report.kernels)  # of an input that is itself a factor
    assert fused.report.steps - packs == 1 and packs == (make is left) and fused.report.arena_bytes == 0


def test_layer_norm_leaves_its_rows_sums_and_computes_the_rest_in_the_product():
    p = Program()
    graph = p.finish(op("matmul", layer_norm(p, p.input(30, 40)), p.input(40, 20)))
    rows, product = ops_of(graph)
    assert product == ["sub", "mul", "mul", "matmul"]
    assert rows.count("sum") == 2 and rows.count("sub") == 1, "the centred rows are cheap enough to compute twice"
    assert [v.size for v in (graph.avals[r] for r in cluster(graph, Options())[0].results)] == [30, 30]
    assert_same_bits(graph)


def test_two_products_each_take_their_part_of_one_nest():
    p = Program()
    x, w = p.input(40, 30), p.input(30, 30)
    graph = p.finish(op("matmul", relu(x), w), op("matmul", op("abs", x), w), op("sum", x, axes=(1,)))
    assert sorted(map(tuple, ops_of(graph))) == [("abs", "matmul"), ("maximum", "matmul"), ("sum",)]
    assert_same_bits(graph)


# ---- what is not ----------------------------------------------------------------------------------------------


def test_what_others_read_is_stored_and_read():
    for number in range(4):
        p = Program()
        x, w = p.input(30, 40), p.input(40, 40)
        y = relu(x)
        product = op("matmul", y, w)
        second = [y, op("matmul", turned(y), x), op("sum", y, axes=(0,)), op("matmul", y, turned(y))][number]
        assert all(ops.count("maximum") == 0 for ops in ops_of(p.finish(product, second)) if "matmul" in ops)


def test_softmax_is_not_computed_twice():
    p = Program()
    x = p.input(30, 40)
    e = op("exp", x - stretched(op("max", x, axes=(1,)), x.shape))
    y = e / stretched(op("sum", e, axes=(1,)), x.shape)
    assert ops_of(p.finish(op("matmul", y, p.input(40, 20)))) == [["max", "sub", "exp", "sum", "div"], ["matmul"]]


def test_a_left_operand_that_many_columns_share_is_read_in_place():
    assert len(ops_of(left(Program(), 300, 1000, 70))) == 2
    assert len(ops_of(batched(Program(), 128, 128, 64))) == 2, "only the right one is computed"


def test_expensive_ops_are_not_computed_for_every_block_of_rows():
    def product(name: str) -> Graph:
        p = Program()
        return p.finish(op("matmul", p.input(2000, 64), op(name, p.input(64, 100))))

    assert len(ops_of(product("neg"))) == 1 and len(ops_of(product("exp"))) == 2


def test_the_vector_is_not_computed_for_every_output():
    p = Program()
    assert len(ops_of(p.finish(op("matmul", p.input(50, 70), op("exp", p.input(70, 1)))))) == 2


def test_an_operand_that_batches_share_is_computed_once():
    p = Program()
    shared = op("reshape", relu(p.input(20, 30)), shape=(1, 20, 30)).expand((4, 20, 30))
    assert len(ops_of(p.finish(op("matmul", p.input(4, 10, 20), shared)))) == 2


def test_what_can_fail_is_not_moved():
    p = Program()
    int64 = by_name("int64")
    y = op("int_div", p.input(9, 20, dtype=int64), p.input(9, 20, dtype=int64))
    assert len(ops_of(p.finish(op("matmul", y, p.input(20, 30, dtype=int64))))) == 2


def test_the_size_of_a_prologue_is_bounded():
    p = Program()
    x = p.input(30, 40)
    for _ in range(40):
        x = op("neg", op("abs", x))
    assert len(ops_of(p.finish(op("matmul", x, p.input(40, 20))))) == 2


# ---- many at once ---------------------------------------------------------------------------------------------


def test_equal_layers_have_equal_prologues():
    p = Program()
    x = p.input(64, 64)
    for _ in range(5):
        x = op("sum", op("reshape", op("matmul", relu(x), p.input(64, 64)), shape=(64, 64, 1)), axes=(2,))
        x = x / stretched(op("sum", x, axes=(1,)), x.shape)
    found = cluster(p.finish(x), Options())
    products = [c.graph.structural_key() for c in found if c.kind == "contraction"]
    assert len(products) == 5 and len(set(products[1:])) == 1


@pytest.mark.parametrize("seed", range(12))
def test_random_operands_agree_to_the_bit(seed):
    """Chains of ops, views and row values before a product of random shape, transposed or batched."""
    rng = np.random.default_rng(seed)
    p = Program(("float32", "float64")[seed % 2])
    m, n, k = (int(x) for x in rng.integers(1, 90, 3))
    batch = ((), (3,))[rng.integers(2)]
    sides = []
    for rows, columns in ((m, k), (k, n)):
        flip = bool(rng.integers(2))
        shape = (*batch, columns, rows) if flip else (*batch, rows, columns)
        x = p.input(*shape)
        for _ in range(int(rng.integers(1, 5))):
            match rng.integers(5):
                case 0:
                    x = relu(x)
                case 1:
                    x = x * p.input(shape[-1]).expand(shape)
                case 2:
                    x = x - op("broadcast", p.input(*shape[:-1], 1), shape=shape)
                case 3:
                    x = op("select", x > x.like(0.0), x, p.input(*shape))
                case 4:
                    x = op("tanh", x)
        sides.append(turned(x) if flip else x)
    graph = p.finish(op("matmul", *sides))
    assert_same_bits(graph)
