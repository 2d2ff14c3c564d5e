"""Concatenation: its parts are computed or stored where they end up, with as few copies as that takes."""

from __future__ import annotations

import numpy as np
import pytest
import random_graphs
from execute import run_graph
from flambeau.compiler import driver, stages
from flambeau.compiler.baseline.op_by_op import to_array
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import cluster
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.dtypes import DType, float32, float64, int32
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find
from flambeau.runtime.plan_spec import KERNEL_WAVE


def op(name: str, *args, **attrs) -> Value:
    return find(name)(*args, **attrs)


def concat(parts: list[Value], dim: int) -> Value:
    return op("concat", *parts, dim=dim)


class Program:
    def __init__(self, dtype: DType = float32) -> None:
        self.b, self.dtype = GraphBuilder(), dtype

    def input(self, *shape: int) -> Value:
        return self.b.input(Aval(shape, self.dtype))

    def finish(self, *outputs: Value) -> Graph:
        self.b.graph.outputs = [v.id for v in outputs]
        return self.b.graph


def labels(graph: Graph) -> list[str]:
    """The steps of the fused plan, by their kernels' labels, without the canonical NaNs at their end, and without what packs an
    input once; the plan and the generic tier agree to the bit."""
    arrays = arrays_for(graph)
    fused, generic = (driver.compile(graph, Options(mode=mode)) for mode in ("blocking", "off"))
    for x, y, v in zip(fused(arrays), generic(arrays), graph.outputs, strict=True):
        assert random_graphs.same_bits(to_array(x, graph.avals[v]), to_array(y, graph.avals[v]))
    assert fused.report.tier == "fused" and generic.report.tier == "generic"
    program = fused.report
    kernels = [label.replace("+canonical_nan", "") for label in program.kernels]
    rows = stages.run(graph, Options(mode="blocking")).program.spec.steps
    waves = sum(kernel == KERNEL_WAVE for kernel, *_ in rows)  # say which steps run side by side, and are none
    steps = [*kernels, *["again"] * (program.steps - waves - len(program.kernels))]
    return [label for label in steps if not label.startswith("panels of")]


def arrays_for(graph: Graph) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [(rng.normal(0, 2, graph.avals[v].shape)).astype(graph.avals[v].dtype.numpy) for v in graph.inputs]


def assert_same_bits(graph: Graph) -> None:
    arrays = arrays_for(graph)
    wanted = run_graph(graph, arrays, Options(fuse=False))
    for found in (run_graph(graph, arrays, Options()), run_graph(graph, arrays, Options(), parts=3, in_place=True)):
        assert all(random_graphs.same_bits(x, y) for x, y in zip(wanted, found, strict=True))


# ---- parts that lie there from the beginning ------------------------------------------------------------------


@pytest.mark.accept("SHP-11")
def test_products_and_sums_are_stored_in_their_parts():
    p = Program()
    x, y = p.input(20, 30), p.input(30, 40)
    product, total = op("matmul", x, y), op("sum", p.input(50, 40), axes=(0,))
    found = labels(p.finish(concat([product, op("reshape", total, shape=(1, 40))], 0)))
    assert len(found) == 2 and not any("copy" in name for name in found)


@pytest.mark.accept("SHP-11")
def test_elementwise_parts_of_the_outermost_dim_are_not_copied():
    p = Program()
    found = labels(p.finish(concat([op("exp", p.input(6, 7)), op("tanh", p.input(3, 7))], 0)))
    assert found == ["exp", "tanh"]


def test_unit_dims_before_the_dim_do_not_matter():
    p = Program()
    found = labels(p.finish(concat([op("exp", p.input(1, 6, 7)), op("tanh", p.input(1, 3, 7))], 1)))
    assert found == ["exp", "tanh"]


def test_a_part_that_others_read_lies_in_the_result_too():
    p = Program()
    e = op("exp", p.input(6, 7))
    found = labels(p.finish(concat([e, p.input(3, 7)], 0), op("sum", e, axes=(0,)), op("sum", e, axes=(1,))))
    assert found.count("copy") == 1, "only the input is copied"


def test_a_part_that_the_program_returns_is_copied():
    p = Program()
    e = op("exp", p.input(6, 7))
    assert labels(p.finish(concat([e, op("tanh", p.input(3, 7))], 0), e)).count("copy") == 1


def test_the_same_part_twice_is_copied_once():
    p = Program()
    e = op("exp", p.input(6, 7))
    assert labels(p.finish(concat([e, e], 0))).count("copy") == 1


def test_parts_of_parts():
    p = Program()
    inner = concat([op("exp", p.input(2, 5)), op("tanh", p.input(3, 5))], 0)
    graph = p.finish(concat([op("sin", p.input(4, 5)), inner, op("cos", p.input(1, 5))], 0))
    assert sorted(labels(graph)) == ["cos", "exp", "sin", "tanh"]


def test_a_part_is_not_written_over_by_padding():
    p = Program()
    e = op("exp", p.input(4, 5))
    zero = p.b.constant(0.0, float32)
    graph = p.finish(op("pad", e, zero, low=(1, 0), high=(2, 0)))
    assert len(labels(graph)) == 3


def test_a_result_that_replaces_an_input_does_not_destroy_it_first():
    """The last rows of a buffer move up and a new one follows: all reads come before the first write."""
    p = Program()
    buffer, row = p.input(8, 5), p.input(1, 5)
    kept = op("slice", buffer, starts=(1, 0), sizes=(7, 5), steps=(1, 1))
    graph = p.finish(concat([kept, op("exp", row)], 0), op("sum", buffer, axes=(0, 1)))
    graph.updates = {0: 0}
    labels(graph)


# ---- parts that are computed where they end up ----------------------------------------------------------------


def halves(x: Value) -> tuple[Value, Value]:
    half = x.shape[-1] // 2
    sizes = (*x.shape[:-1], half)
    starts = [(0,) * (len(sizes) - 1) + (at,) for at in (0, half)]
    first, second = (op("slice", x, starts=s, sizes=sizes, steps=(1,) * len(sizes)) for s in starts)
    return first, second


@pytest.mark.parametrize("dtype", [float32, float64, int32])
@pytest.mark.parametrize("shape", [(5, 8), (3, 4, 34), (70, 130)])
def test_rotated_halves_have_no_temporary(shape, dtype):
    """cat([-x2, x1], -1), as rotary embeddings do."""
    p = Program(dtype)
    first, second = halves(p.input(*shape))
    graph = p.finish(concat([op("neg", second), first], len(shape) - 1))
    assert [n.op.name for n in cluster(graph, Options())[0].graph.nodes if n.op.family.is_pointwise] == ["neg"]
    assert labels(graph) == ["neg", "copy"]
    assert_same_bits(graph)


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("widths", [(3, 5), (1, 16, 2), (64, 65)])
def test_parts_along_every_dim(dim, widths):
    p = Program()
    parts = []
    for k, width in enumerate(widths):
        shape = tuple(width if d == dim else n for d, n in enumerate((4, 6, 9)))
        x = p.input(*shape)
        row = op("broadcast", p.input(*shape[:-1], 1), shape=shape)
        parts.append((op("exp", x) * row, x - row, op("neg", x))[k])
    graph = p.finish(concat(parts, dim))
    assert len(labels(graph)) == len(widths)
    assert_same_bits(graph)


def test_transposed_and_constant_parts_are_written_once():
    p = Program()
    x = op("permute", p.input(20, 33), perm=(1, 0))
    graph = p.finish(concat([x, op("exp", x), p.b.constant(2.0, float32, (33, 7))], 1))
    assert len(labels(graph)) == 3
    assert_same_bits(graph)


def test_a_sum_of_the_part_stays_with_its_rows():
    """The nest goes on computing what the sum needs; the part is computed once, there, and copied."""
    p = Program()
    e = op("exp", p.input(9, 20))
    graph = p.finish(concat([e, p.input(9, 3)], 1), op("sum", e, axes=(1,)))
    assert sum(n.op.name == "exp" for c in cluster(graph, Options()) for n in c.graph.nodes) == 1
    assert_same_bits(graph)


def test_siblings_each_go_to_their_part():
    p = Program()
    x = p.input(9, 20)
    graph = p.finish(concat([op("sin", x), op("cos", x)], 1))
    assert sorted(labels(graph)) == ["cos", "sin"]
    assert_same_bits(graph)


@pytest.mark.parametrize("seed", range(12))
def test_random_parts_agree_to_the_bit(seed):
    rng = np.random.default_rng(seed)
    p = Program((float32, float64)[seed % 2])
    base = [int(n) for n in rng.integers(1, 20, 3)]
    dim = int(rng.integers(3))
    shared = p.input(*base)
    parts = []
    for _ in range(int(rng.integers(2, 5))):
        shape = [int(rng.integers(1, 40)) if d == dim else n for d, n in enumerate(base)]
        x = shared if rng.integers(3) == 0 else p.input(*shape)
        match rng.integers(5):
            case 0:
                x = op("exp", x)
            case 1:
                x = x * op("broadcast", p.input(*x.shape[:-1], 1), shape=x.shape)
            case 2:
                x = op("permute", op("tanh", op("permute", x, perm=(2, 0, 1))), perm=(1, 2, 0))
            case 3:
                x = x + op("broadcast", op("reshape", op("sum", x, axes=(2,)), shape=(*x.shape[:-1], 1)), shape=x.shape)
        parts.append(x)
    outputs = [concat(parts, dim)]
    if rng.integers(2):
        outputs.append(op("sum", parts[0], axes=(0,)))
    graph = p.finish(*outputs)
    labels(graph)
    assert_same_bits(graph)
