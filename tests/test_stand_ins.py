"""What stands in for an op until it has a plan: to the bit what is compiled, at once, and only where that is not much."""

import contraction_order
import flambeau as fb
import numpy as np
import opgen
import pytest
from flambeau.compiler.baseline import one_op, op_plans, stand_ins
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import by_name
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find
from flambeau.runtime import _binding


def one(name, *avals, attrs=()):
    graph = Graph()
    graph.outputs = list(graph.add_node(find(name), [graph.add_input(a) for a in avals], attrs))
    return graph, graph.nodes[0]


def product(a, b):
    graph = opgen.graph_of(find("matmul"), [a, b], {})
    return stand_ins.stand_in(graph, graph.nodes[0])(a, b)


@pytest.mark.parametrize("case", [*opgen.cases(find("matmul"), narrow=False)], ids=lambda c: c.id)
def test_products_are_summed_in_the_order_of_kernels(case):
    found = stand_ins.stand_in(case.graph, case.graph.nodes[0])(*case.arrays)
    assert opgen.same_bits(found, contraction_order.matmul(*case.arrays))


def test_long_products_cross_chunks_and_blocks():
    """Partial sums of 4096 elements are added in pairs, an odd last one at the end; those of 256 one after the other."""
    rng = np.random.default_rng(3)
    for dtype in (np.float32, np.float64):
        for k in (64, 4096, 4097, 5 * 4096, 7 * 4096 - 1):
            a, b = rng.standard_normal((1, k)).astype(dtype), rng.standard_normal((k, 3)).astype(dtype)
            assert opgen.same_bits(product(a, b), contraction_order.matmul(a, b))
        a, b = rng.standard_normal((2, 1000)).astype(dtype), rng.standard_normal((1000, 3)).astype(dtype)
        assert opgen.same_bits(product(a, b), contraction_order.matmul(a, b))


def test_a_sum_that_comes_to_less_than_nothing_keeps_its_sign():
    """A product that is too small becomes -0, and one block is not added to anything."""
    a, b = np.float32([[-1e-30], [1.0]]), np.float32([[1e-30, 1.0]])
    assert np.signbit(product(a, b)).tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_products_of_narrow_floats_round_once(name):
    dtype, rng = by_name(name), np.random.default_rng(5)
    a, b = (rng.standard_normal(shape).astype(dtype.numpy) for shape in ((3, 300), (300, 4)))
    wide = contraction_order.matmul(a.astype(np.float32), b.astype(np.float32))
    assert opgen.same_bits(product(a, b), wide.astype(dtype.numpy))


def test_buffers_that_do_not_fit_are_refused():
    x = np.zeros(4, np.float32)
    with pytest.raises(ValueError, match="operands have other sizes than the result"):
        _binding.multiply_add(x, x[:3], x, np.empty(4, np.float32), False)
    with pytest.raises(ValueError, match=r"other sizes than 1 x \(2 x 2 x 3\)"):
        _binding.matrix_product(x, x, np.empty(4, np.float32), 1, 2, 2, 3, False)


def test_much_work_and_complex_numbers_are_left_to_kernels():
    f32, complex64 = by_name("float32"), by_name("complex64")
    small, large = Aval((8, 8), f32), Aval((2048, 2048), f32)
    assert stand_ins.stand_in(*one("matmul", small, small)) is not None
    assert stand_ins.stand_in(*one("matmul", large, large)) is None
    assert stand_ins.stand_in(*one("exp", small)) is not None
    assert stand_ins.stand_in(*one("exp", Aval((1 << 24,), f32))) is None
    assert stand_ins.stand_in(*one("exp", Aval((8,), complex64))) is None


def test_a_first_step_waits_for_no_compiler(monkeypatch):
    """A classifier with every kind of op that such a model has, from nothing, with sizes that no other test has."""
    for module, name in ((one_op, "_known"), (op_plans, "_asked"), (op_plans, "_plans")):
        monkeypatch.setattr(module, name, type(getattr(module, name))())
    made = []
    monkeypatch.setattr(op_plans, "_make", lambda graphs, options: made.extend(graphs) or {})
    rng = np.random.default_rng(0)
    data, target = rng.standard_normal((9, 13)).astype(np.float32), rng.integers(0, 5, 9)
    weight = rng.standard_normal((13, 5)).astype(np.float32)
    with fb.compiler_options(mode="background"):
        w = fb.tensor(weight, requires_grad=True)
        scores = (fb.tensor(data) @ w).tanh()
        loss = fb.nn.functional.cross_entropy(fb.nn.functional.gelu(scores).sigmoid(), fb.tensor(target))
        loss.backward()
        found = w.grad.numpy()
    assert made == []
    assert np.isfinite(found).all() and np.abs(found).max() > 0
    with fb.compiler_options(mode="blocking"):
        monkeypatch.undo()
        w = fb.tensor(weight, requires_grad=True)
        scores = (fb.tensor(data) @ w).tanh()
        loss = fb.nn.functional.cross_entropy(fb.nn.functional.gelu(scores).sigmoid(), fb.tensor(target))
        loss.backward()
        assert opgen.same_bits(w.grad.numpy(), found)
