"""Contraction kernels against `contraction_order.py`, the order of docs/architecture.md written in NumPy, to the bit.

In: clusters built by hand. Out: calls run chunk by chunk through ctypes.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from flambeau.compiler import targets
from flambeau.compiler.codegen.products.cut import cut
from flambeau.compiler.kernel import Cluster
from flambeau.compiler.schedules.choose import choose
from flambeau.dialects import dtypes
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find
from products import bits, expected, lower, random, run, transpose

_EPS = {"float32": 2.0**-23, "float64": 2.0**-52}


def product(a: Aval, b: Aval, transpose_a=False, transpose_b=False, epilogue=None) -> Graph:
    """The graph of a @ b with operands of these types, transposed by views, and an epilogue on the result."""
    build = GraphBuilder()
    x, y = build.input(a), build.input(b)
    result = find("matmul")(transpose(x) if transpose_a else x, transpose(y) if transpose_b else y)
    outputs = epilogue(build, result) if epilogue else [result]
    build.graph.outputs = [v.id for v in outputs]
    return build.graph


# ---- the meaning of a product ---------------------------------------------------------------------------------


def check(shape_a, shape_b, dtype="float32", transpose_a=False, transpose_b=False, **how):
    """One product against its meaning, to the bit, and against float64 within the bound."""
    a, b = random(shape_a, dtype, 1), random(shape_b, dtype, 2)
    stored = [np.swapaxes(x, -1, -2) if t else x for x, t in ((a, transpose_a), (b, transpose_b))]
    avals = [Aval(x.shape, dtypes.by_name(dtype)) for x in stored]
    (result,) = run(product(*avals, transpose_a, transpose_b), stored, **how)
    np.testing.assert_array_equal(bits(result), bits(expected(a, b)))
    if dtype in _EPS:
        exact, size = (np.matmul(*(f(x).astype(np.longdouble) for x in (a, b))) for f in (np.asarray, np.abs))
        assert (abs(result - exact) <= 4 * _EPS[dtype] * a.shape[-1] ** 0.5 * size).all()


# ---- products -------------------------------------------------------------------------------------------------

_MATRICES = [
    (2, 2, 1), (2, 3, 5), (7, 11, 13), (8, 48, 16), (9, 49, 17), (16, 96, 256), (17, 97, 257),
    (3, 100, 31), (50, 2, 300), (100, 10, 64), (13, 47, 513), (5, 64, 0), (23, 200, 3),
]  # fmt: skip
_TRANSPOSITIONS = list(itertools.product((False, True), repeat=2))


@pytest.mark.accept("LIN-01")
@pytest.mark.parametrize("m, n, k", _MATRICES)
def test_matrices_in_every_transposition(m, n, k):
    for ta, tb in _TRANSPOSITIONS:
        check((m, k), (k, n), "float32", ta, tb)


@pytest.mark.parametrize("change", [{}, dict(rows=6, vectors=2), dict(rows=3, vectors=1), dict(rows=8, vectors=1)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_copies_of_a_change_no_bit(dtype, change):
    for m, n, k in [(1, 2, 3), (7, 40, 9), (48, 49, 16), (50, 33, 300), (103, 20, 257), (5, 64, 0)]:
        for ta in (False, True):
            if m > 1 or dtype == "int32":
                check((m, k), (k, n), dtype, ta, fixed={**change, "a_lines": "tile"}, backwards=True)
    check((3, 50, 300), (3, 300, 33), dtype, True, fixed={**change, "a_lines": "tile"})


def test_a_is_copied_where_its_lines_would_not_stay_near():
    def lines(m, n, k, transpose_a, **machine):
        graph = product(*(Aval(s, dtypes.float32) for s in ((k, m) if transpose_a else (m, k), (k, n))), transpose_a)
        (unit,) = cut(Cluster("contraction", graph)).units
        return choose(unit, replace(targets.find(machine.pop("name", "x86-64-v3")), **machine)).a_lines

    assert lines(512, 128, 2048, True) == lines(128, 784, 512, True) == "tile"
    assert lines(512, 32, 2048, True) == "none"  # few columns share it
    assert lines(496, 128, 64, True) == "none"  # the next tile finds its lines in L1
    assert lines(512, 128, 64, True) == lines(512, 128, 64, True, l1_ways=4) == "tile"
    assert lines(512, 128, 64, True, l1_ways=512) == "none"  # of which a cache of one set keeps all
    assert lines(512, 512, 512, False) == lines(1024, 1024, 1024, False, l3=32 << 20) == "none"  # L3 holds them
    assert lines(2048, 2048, 2048, False) == "tile"
    assert lines(2048, 2048, 2048, False, l2_ways=8192) == "none"
    assert lines(2048, 2048, 2032, False, l3=1 << 20) == "none"  # rows fall into all sets
    assert lines(2048, 2048, 2048, True, name="x86-64-v4") == "none"  # 24 multiply-adds hide it


@pytest.mark.accept("LIN-01")
@pytest.mark.parametrize("dtype", ["float64", "int32", "int64"])
@pytest.mark.parametrize("m, n, k", [(2, 3, 5), (9, 25, 17), (17, 97, 257), (4, 4, 0)])
def test_other_dtypes(dtype, m, n, k):
    for ta, tb in _TRANSPOSITIONS:
        check((m, k), (k, n), dtype, ta, tb)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integer_vectors_wrap(dtype):
    check((1, 9), (9, 1), dtype)
    check((3, 1, 9), (3, 9, 5), dtype)


@pytest.mark.accept("LIN-01")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [0, 1, 63, 64, 65, 300, 4096, 4097, 13000])
def test_vectors_use_the_lanes_of_reductions(dtype, k):
    outputs = 5 if k > 4000 else 37
    for ta, tb in _TRANSPOSITIONS:
        check((1, k), (k, outputs), dtype, ta, tb)
        check((outputs, k), (k, 1), dtype, ta, tb)
    check((1, k), (k, 1), dtype)


@pytest.mark.parametrize("outputs", [1, 2, 16, 63, 64, 65, 130, 600])
def test_vectors_of_every_width(outputs):
    for ta, tb in _TRANSPOSITIONS:
        check((1, 70), (70, outputs), "float32", ta, tb)
        check((outputs, 70), (70, 1), "float32", ta, tb)


@pytest.mark.parametrize(
    "shape_a, shape_b", [((0, 3), (3, 2)), ((2, 3), (3, 0)), ((0, 2, 3), (0, 3, 2)), ((2, 0), (0, 1))]
)
def test_empty(shape_a, shape_b):
    check(shape_a, shape_b)


@pytest.mark.accept("LIN-02")
@pytest.mark.parametrize("batch", [(3,), (2, 3), (1, 4), (2, 1, 3)])
def test_batches(batch):
    for ta, tb in _TRANSPOSITIONS:
        check((*batch, 9, 20), (*batch, 20, 50), "float32", ta, tb)
    check((*batch, 1, 20), (*batch, 20, 50))
    check((*batch, 9, 20), (*batch, 20, 1))


def _broadcast_product(shape_a, shape_b, batch, transpose_b):
    build = GraphBuilder()
    operands = []
    for shape, turned in ((shape_a, False), (shape_b, transpose_b)):
        stored = (*shape[:-2], shape[-1], shape[-2]) if turned else shape
        x = build.input(Aval(stored, dtypes.float32))
        x = transpose(x) if turned else x
        operands.append(x.expand((*batch, *shape[-2:])))
    build.graph.outputs = [find("matmul")(*operands).id]
    return build.graph


@pytest.mark.accept("LIN-02")
@pytest.mark.parametrize(
    "batch_a, batch_b, m, n",
    [
        ((4,), (), 5, 50), ((4,), (1,), 1, 50), ((1, 3), (2, 1), 5, 7), ((2, 3), (3,), 5, 49), ((), (2,), 9, 20),
        ((2, 1), (2, 3), 6, 1), ((2, 3, 4), (), 3, 30),
    ],
)  # fmt: skip
def test_broadcast_batches(batch_a, batch_b, m, n):
    k = 19
    a, b = random((*batch_a, m, k), "float32", 1), random((*batch_b, k, n), "float32", 2)
    batch = np.broadcast_shapes(batch_a, batch_b)
    wide = [np.broadcast_to(x, (*batch, *x.shape[-2:])) for x in (a, b)]
    for turned in (False, True):
        graph = _broadcast_product(a.shape, b.shape, batch, turned)
        (result,) = run(graph, [a, np.swapaxes(b, -1, -2) if turned else b])
        np.testing.assert_array_equal(bits(result), bits(expected(*wide)))


def _check_permuted(perm, rest, target="host"):
    """A batched product of operands stored with their three axes in another order."""
    batch, m, n = rest
    k = 19
    a, b = random((batch, m, k), "float32", 1), random((batch, k, n), "float32", 2)
    inverse = tuple(int(i) for i in np.argsort(perm))
    build = GraphBuilder()
    x, y = (build.input(Aval(np.transpose(v, perm).shape, dtypes.float32)) for v in (a, b))
    result = find("matmul")(*(find("permute")(v, perm=inverse) for v in (x, y)))
    build.graph.outputs = [result.id]
    (got,) = run(build.graph, [np.transpose(v, perm) for v in (a, b)], target)
    np.testing.assert_array_equal(bits(got), bits(expected(a, b)))


@pytest.mark.parametrize("perm", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("rest", [(3, 5, 7), (2, 1, 70), (2, 70, 1), (20, 3, 50)])
def test_operands_strided_in_every_way(perm, rest):
    _check_permuted(perm, rest)


# ---- nothing but the order decides the bits -------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        dict(rows=4), dict(rows=12, vectors=2), dict(rows=1, vectors=1), dict(m_block=8, n_block=48), dict(pack_rows=1),
        dict(pack_rows=1 << 40), dict(grain=1), dict(steps=4),
        dict(ahead=0),
    ],
)  # fmt: skip
def test_blocking_changes_no_bit(change):
    lanes = targets.find("host").lanes(4)
    change = dict(change, **({"vectors": 1, "n_block": lanes} if "n_block" in change else {}))
    for tb in (False, True):
        check((70, 300), (300, 101), "float32", False, tb, fixed=change)


def test_the_order_of_chunks_changes_no_bit():
    check((70, 300), (300, 101), fixed={"grain": 1}, backwards=True)
    check((1, 4100), (4100, 300), backwards=True)
    check((300, 4100), (4100, 1), backwards=True)


def test_machines_without_masks_agree():
    if targets.find("host").vector_bytes < 32:
        pytest.skip("this machine cannot run AVX2 code")
    for dtype in ("float32", "float64"):
        for ta, tb in _TRANSPOSITIONS:
            check((17, 300), (300, 53), dtype, ta, tb, target="x86-64-v3")
            check((1, 300), (300, 53), dtype, ta, tb, target="x86-64-v3")
    for perm in itertools.permutations(range(3)):
        _check_permuted(perm, (3, 5, 29), "x86-64-v3")


def test_text_depends_on_extents_by_the_tile_only():
    texts = set()
    for (m, n, k), ta in itertools.product(
        [(64, 512, 784), (512, 10, 256), (33, 97, 1000), (2048, 2048, 2048)], (False, True)
    ):
        a = Aval((k, m) if ta else (m, k), dtypes.float32)
        graph = product(a, Aval((k, n), dtypes.float32), transpose_a=ta)
        texts.update(call.source.text for call in lower(graph, "x86-64-v4").calls if not call.spare)
    assert len(texts) == 2, "one for each width of the register tile"


# ---- epilogues ------------------------------------------------------------------------------------------------


def _op(name, *args, **attrs):
    return find(name)(*args, **attrs)


def _bias_relu(build, y):
    bias = build.input(Aval((y.shape[-1],), y.dtype)).expand(y.shape)
    before = y + bias
    return [before, _op("maximum", before, y.like(0.0))]


def _apply_bias_relu(y, bias):
    before = y + bias
    return [before, np.maximum(before, np.zeros_like(y))]


@pytest.mark.accept("LIN-03")
@pytest.mark.parametrize("m, n, k", [(9, 50, 20), (64, 96, 256), (17, 100, 600), (1, 70, 300), (70, 1, 300), (4, 4, 0)])
def test_bias_and_activation(m, n, k):
    a, b, bias = (random(s, "float32", i) for i, s in enumerate([(m, k), (k, n), (n,)]))
    graph = product(*(Aval(x.shape, dtypes.float32) for x in (a, b)), epilogue=_bias_relu)
    for got, want in zip(run(graph, [a, b, bias]), _apply_bias_relu(expected(a, b), bias), strict=True):
        np.testing.assert_array_equal(bits(got), bits(want))


@pytest.mark.parametrize("m, n, k", [(9, 50, 20), (17, 100, 600), (1, 70, 300), (70, 1, 300)])
def test_every_kind_of_epilogue_operand(m, n, k):
    """Full, per row, per column, transposed, scalar of another dtype, constant; results of other dtypes."""

    def epilogue(build, y):
        full, row = build.input(Aval((m, n), dtypes.float32)), build.input(Aval((m, 1), dtypes.float32)).expand((m, n))
        turned = transpose(build.input(Aval((n, m), dtypes.float32)))
        scalar = build.input(Aval((), dtypes.float64)).cast(dtypes.float32).expand((m, n))
        total = (y * scalar + full) * row - turned + 0.5
        return [total.cast(dtypes.float64), total > full]

    a, b, full, row, turned = (random(s, "float32", i) for i, s in enumerate([(m, k), (k, n), (m, n), (m, 1), (n, m)]))
    graph = product(*(Aval(x.shape, dtypes.float32) for x in (a, b)), epilogue=epilogue)
    wide, mask = run(graph, [a, b, full, row, turned, np.float64(0.1)])
    want = (expected(a, b) * np.float32(0.1) + full) * row - turned.T + np.float32(0.5)
    np.testing.assert_array_equal(bits(wide), bits(want.astype(np.float64)))
    np.testing.assert_array_equal(mask, want > full)


def test_epilogue_of_batches_with_broadcast_operands():
    def epilogue(build, y):
        bias = build.input(Aval((50,), dtypes.float32)).expand(y.shape)
        scale = build.input(Aval((2, 1, 9, 1), dtypes.float32)).expand(y.shape)
        return [(y + bias) * scale, y]

    a, b = random((2, 3, 9, 20), "float32", 1), random((2, 3, 20, 50), "float32", 2)
    bias, scale = random((50,), "float32", 3), random((2, 1, 9, 1), "float32", 4)
    graph = product(*(Aval(x.shape, dtypes.float32) for x in (a, b)), epilogue=epilogue)
    scaled, plain = run(graph, [a, b, bias, scale])
    np.testing.assert_array_equal(bits(plain), bits(expected(a, b)))
    np.testing.assert_array_equal(bits(scaled), bits((expected(a, b) + bias) * scale))


def test_a_reshaped_result():
    def epilogue(build, y):
        extra = build.input(Aval((6, 10), dtypes.float32))
        return [_op("reshape", y, shape=(6, 10)) + extra]

    a, b, extra = random((2, 3, 7), "float32", 1), random((2, 7, 10), "float32", 2), random((6, 10), "float32", 3)
    graph = product(*(Aval(x.shape, dtypes.float32) for x in (a, b)), epilogue=epilogue)
    (got,) = run(graph, [a, b, extra])
    np.testing.assert_array_equal(bits(got), bits(expected(a, b).reshape(6, 10) + extra))


@pytest.mark.parametrize("k", [20, 600])
def test_an_output_may_overwrite_an_operand_where_the_call_says_so(k):
    def epilogue(build, y):
        return [build.input(Aval(y.shape, dtypes.float32)) + y]

    a, b, total = random((9, k), "float32", 1), random((k, 50), "float32", 2), random((9, 50), "float32", 3)
    graph = product(*(Aval(x.shape, dtypes.float32) for x in (a, b)), epilogue=epilogue)
    (call,) = (call for call in lower(graph).calls if not call.spare)
    assert call.in_place == (((2, 3),) if k <= 256 else ())  # partial sums would destroy the operand
    if call.in_place:
        (got,) = run(graph, [a, b, total], overwrite={0: 2})
        np.testing.assert_array_equal(bits(got), bits(total + expected(a, b)))


def test_what_is_no_contraction_is_refused():
    build = GraphBuilder()
    x = build.input(Aval((2, 2), dtypes.float32))
    build.graph.outputs = [(x + x).id]
    with pytest.raises(ValueError, match=r"\[gemm\] the cluster has no product"):
        lower(build.graph)
