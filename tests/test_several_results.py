"""Ops with several results, through every part: public function, gradients, tiers, text, plans, fused kernels."""

import execute
import flambeau as fb
import numpy as np
import opgen
import pytest
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import cluster
from flambeau.dialects import irdl, reference
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float32, float64, int32
from flambeau.dialects.record import find

NUMBERS = np.array([0.0, -0.0, 1.0, -3.0, 0.1, 1e-40, 5e-324, 1.7e308, -1e-310, np.inf, -np.inf, np.nan, 8.0, 7.999])


@pytest.mark.parametrize("mode", ["off", "blocking"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_frexp_is_that_of_numpy(dtype, mode):
    with np.errstate(over="ignore"):
        x = np.resize(NUMBERS, 1000).astype(dtype)
    with fb.compiler_options(mode=mode):
        mantissa, exponent = fb.frexp(fb.tensor(x))
        mantissa.numpy()
    expected = np.frexp(x)
    assert (mantissa.dtype, exponent.dtype) == (fb.tensor(x).dtype, fb.int32)
    np.testing.assert_array_equal(mantissa.numpy(), expected[0])
    assert np.array_equal(np.signbit(mantissa.numpy()), np.signbit(np.where(np.isnan(x), 1.0, x)))
    np.testing.assert_array_equal(exponent.numpy()[np.isfinite(x)], expected[1][np.isfinite(x)])
    assert not exponent.numpy()[~np.isfinite(x)].any()


def test_one_result_may_be_left_unread_and_the_other_written_to():
    x = fb.tensor([6.0, 0.25])
    _, exponent = x.frexp()
    exponent += 1
    assert exponent.tolist() == [4, 0]
    mantissa, _ = x.frexp()
    mantissa.mul_(2)
    assert mantissa.tolist() == [1.5, 1.0]


@pytest.mark.parametrize("look", [False, True])
def test_gradients_go_through_the_result_that_has_one(look):
    x = fb.tensor([6.0, -0.3, 0.0, float("inf")], requires_grad=True)
    mantissa, exponent = (x * x).frexp()
    assert mantissa.requires_grad and not exponent.requires_grad
    if look:
        exponent.tolist()
    (g,) = fb.autograd.grad((mantissa * exponent).sum(), [x], create_graph=True)
    squares = np.array([36.0, 0.09, 0.0, np.inf], np.float32)
    m, e = np.frexp(squares)
    with np.errstate(all="ignore"):
        scale = np.where(np.isfinite(squares) & (squares != 0), m / squares, 1)
    e = np.where(np.isfinite(squares), e, 0)
    with np.errstate(invalid="ignore"):
        expected = 2 * x.detach().numpy() * e * scale
    np.testing.assert_allclose(g.detach().numpy(), expected, rtol=1e-6)
    (second,) = fb.autograd.grad(g[:2].sum(), [x])
    np.testing.assert_allclose(second.numpy()[:2], (2 * e * scale)[:2], rtol=1e-6)


def assert_one_semantics(graph, arrays):
    """Fused, op by op, cut into other parts, and in place: the same bits. Returns the outputs."""
    first = execute.run_graph(graph, arrays, Options(fuse=False))
    for how in ({}, {"parts": 3}, {"in_place": True}):
        found = execute.run_graph(graph, arrays, Options(), **how)
        assert all(opgen.same_bits(x, y) for x, y in zip(found, first, strict=True)), how
    return first


def program(shape=(5, 67)):
    """Both results of an op inside of a nest with a row reduction, an output each, and one read again later."""
    b = GraphBuilder()
    x = b.input(Aval(shape, float32))
    mantissa, exponent = find("frexp")(x * x)
    total = find("sum")(mantissa, axes=(1,))
    again = find("reshape")(total, shape=(shape[0], 1))
    scaled = mantissa * find("broadcast")(again, shape=shape) + exponent.cast(float32)
    b.graph.outputs = [exponent.id, scaled.id, total.id]
    return b.graph


def test_tiers_agree_and_one_kernel_computes_both():
    graph = program()
    x = np.random.default_rng(1).standard_normal((5, 67)).astype(np.float32)
    found = assert_one_semantics(graph, [x])
    assert all(opgen.same_bits(a, b) for a, b in zip(found, reference.run(graph, [x]), strict=True))
    assert len(cluster(graph, Options())) == 1
    assert len(cluster(graph, Options(fuse=False))) > 1


def test_text_has_both_results():
    graph = program()
    text = irdl.print_graph(graph)
    assert '%2, %3 = "tape.frexp"(%1) : (tensor<5x67xf32>) -> (tensor<5x67xf32>, tensor<5x67xi32>)' in text
    assert irdl.print_graph(irdl.parse_graph(text)) == text
    with pytest.raises(ValueError, match=r"\[frexp\] result is"):
        irdl.parse_graph(text.replace("5x67xi32", "5x67xi64"))


def test_a_product_takes_one_of_the_results():
    """Neither epilogue nor prologue takes an op of two results: it is a kernel of its own."""
    b = GraphBuilder()
    x, w = b.input(Aval((33, 40), float64)), b.input(Aval((40, 21), float64))
    product = find("matmul")(find("frexp")(x)[0], w)
    mantissa, exponent = find("frexp")(product)
    b.graph.outputs = [mantissa.id, exponent.id]
    rng = np.random.default_rng(2)
    arrays = [rng.standard_normal((33, 40)), rng.standard_normal((40, 21))]
    mantissas, exponents = assert_one_semantics(b.graph, arrays)
    assert exponents.dtype == int32.numpy
    np.testing.assert_allclose(np.ldexp(mantissas, exponents), np.frexp(arrays[0])[0] @ arrays[1], rtol=1e-12)
