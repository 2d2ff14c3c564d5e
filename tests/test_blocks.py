"""Products that share their rows, block of rows by block of rows: the bits of the kernels apart, and no matrix of scores."""

from __future__ import annotations

import math

import flambeau as fb
import flambeau.nn.functional as F
import numpy as np
import pytest
from flambeau.compiler import targets
from flambeau.compiler.codegen.blocks import kernel as blocks_kernel
from flambeau.compiler.codegen.blocks.block import NoBlocks, block, extent
from flambeau.compiler.passes.cluster import ClusterKernels
from flambeau.compiler.tools import report
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float32, int64
from flambeau.dialects.record import find
from support import arrays

ROWS = pytest.mark.accept("NN-44")
LABEL = "blocks of rows: matmul+exp+matmul"
MORE_ROWS = (2, 37, 256)


def attention(q, k, v, **options):
    return F.scaled_dot_product_attention(q, k, v, **options)


def by_hand(q, k, v):
    scores = q @ k.transpose(-2, -1) * 0.3
    hidden = fb.ones(q.shape[-2], k.shape[-2], dtype=fb.bool).triu(1)
    return F.dropout(F.softmax(scores.masked_fill(hidden, -math.inf), dim=-1), 0.1) @ v


def packed(q, k, v):
    """Heads side by side, as one product gives queries, keys and values."""
    b, h, t, d = q.shape
    qkv = fb.cat([x.transpose(1, 2).reshape(b, t, h * d) for x in (q, k, v)], dim=-1)
    q, k, v = (x.view(b, t, h, d).transpose(1, 2) for x in qkv.split(h * d, dim=2))
    return attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, h * d)


def turned(q, k, v):
    """Queries, keys and values of one tensor, by angles: factors that are computed, and gradients that are added up."""
    angles = fb.arange(q.shape[-2]).float()[:, None] * 0.1
    halves = fb.cat([-q[..., 4:], q[..., :4]], -1)
    x = q * fb.cos(angles) + halves * fb.sin(angles)
    y = attention(x, x, q)
    return y * y + k.sum() + v.sum()


def narrow(q, k, v):
    with fb.autocast("cpu", dtype=fb.bfloat16):
        return attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), is_causal=True).float()


MASK = arrays(261, 515, seed=5) > -0.5
MASK[3] = False
CASES = {
    "causal": (attention, (2, 4, 256, 16), (2, 4, 256, 16), {"is_causal": True}),
    "mask": (attention, (1, 4, 261, 8), (1, 4, 515, 8), {"attn_mask": MASK}),
    "heads": (attention, (1, 4, 300, 8), (1, 2, 260, 8), {"enable_gqa": True}),
    "by hand": (by_hand, (2, 2, 530, 8), (2, 2, 300, 8), {}),
    "turned": (turned, (1, 4, 300, 8), (1, 4, 300, 8), {}),
    "narrow": (narrow, (2, 4, 300, 8), (2, 4, 400, 8), {}),
    "a row more": (attention, (1, 4, 513, 8), (1, 4, 257, 8), {}),
    "a row more, dropped": (attention, (2, 3, 257, 8), (2, 3, 257, 8), {"dropout_p": 0.1}),
    "causal, fewer keys": (attention, (2, 4, 600, 8), (2, 4, 450, 8), {"is_causal": True}),
    "causal, heads": (
        attention,
        (2, 4, 513, 8),
        (2, 2, 700, 8),
        {"is_causal": True, "enable_gqa": True, "dropout_p": 0.1},
    ),
    "packed": (packed, (2, 4, 300, 16), (2, 4, 300, 16), {}),
}


def step(case, **options):
    """What attention gives, without gradients and with, and these."""
    function, of_q, of_k, how = CASES[case]
    given = {n: fb.tensor(x) if isinstance(x, np.ndarray) else x for n, x in how.items()}
    q, k, v = (fb.tensor(x) for x in (arrays(*of_q), arrays(*of_k, seed=1), arrays(*of_k, seed=2)))
    with fb.compiler_options(mode="blocking", **options):
        fb.manual_seed(0)
        with fb.no_grad():
            found = [function(q, k, v, **given).numpy().copy()]
        leaves = [x.requires_grad_() for x in (q, k, v)]
        fb.manual_seed(0)
        y = function(*leaves, **given)
        (y * y).sum().backward()
        return [*found, y.detach().numpy(), *(x.grad.numpy() for x in leaves)]


def same_bits(one, two):
    return all(np.array_equal(x.view(np.int32), y.view(np.int32)) for x, y in zip(one, two, strict=True))


@ROWS
@pytest.mark.parametrize("case", CASES)
def test_bits_are_those_of_ops_apart(case):
    known = {id(p) for p in report.programs()}
    found = step(case, max_cluster_ops=131)  # as no other test has it: programs are new
    by_blocks = [p for p in report.programs() if id(p) not in known and str(p.kernels).count("blocks of rows")]
    assert len(by_blocks) == 2, "without gradients, and with"
    assert same_bits(found, step(case, fuse=False))


@ROWS
def test_causal_attention_is_that_of_torch():
    torch = pytest.importorskip("torch")
    _, of_q, of_k, how = CASES["causal"]
    leaves = [
        torch.tensor(x, requires_grad=True) for x in (arrays(*of_q), arrays(*of_k, seed=1), arrays(*of_k, seed=2))
    ]
    y = torch.nn.functional.scaled_dot_product_attention(*leaves, **how)
    (y * y).sum().backward()
    wanted = [y, y, *(x.grad for x in leaves)]
    for mine, theirs in zip(step("causal"), wanted, strict=True):
        np.testing.assert_allclose(mine, theirs.detach().numpy(), rtol=2e-5, atol=2e-5)


@ROWS
def test_no_matrix_of_scores_is_in_memory():
    b, h, t, d = 4, 4, 512, 16
    q, k, v = (fb.tensor(arrays(b, h, t, d, seed=n), requires_grad=True) for n in range(3))

    def peak():
        for x in (q, k, v):
            x.grad = None
        fb.reset_peak()
        before = fb.memory_stats()["peak_bytes"]
        attention(q, k, v, is_causal=True).sum().backward()
        v.grad[0, 0, 0, 0].item()
        return fb.memory_stats()["peak_bytes"] - before

    scores = b * h * t * t * 4
    with fb.compiler_options(mode="blocking"):
        peak()
        assert peak() < scores  # 16 MB; apart it takes several of them
    with fb.compiler_options(mode="blocking", fuse=False):
        peak()
        assert peak() > 2 * scores


@ROWS
def test_any_number_of_rows_has_the_same_bits(monkeypatch):
    function, of_q, of_k, how = CASES["heads"]
    q, k, v = (fb.tensor(x) for x in (arrays(*of_q), arrays(*of_k, seed=1), arrays(*of_k, seed=2)))
    found = []
    for rows in MORE_ROWS:
        monkeypatch.setattr(blocks_kernel, "rows_of_blocks", lambda graph, machine, rows=rows: rows)
        with fb.no_grad(), fb.compiler_options(mode="blocking", max_cluster_ops=150 + rows):
            found.append([function(q, k, v, **how).numpy().copy()])
    assert same_bits(found[0], found[1]) and same_bits(found[0], found[2])


@ROWS
def test_threads_change_no_bit():
    threads = fb.get_num_threads()
    found = []
    try:
        for n in (1, 2):
            fb.set_num_threads(n)
            found.append(step("causal"))
    finally:
        fb.set_num_threads(threads)
    assert same_bits(*found)


@ROWS
def test_a_kernel_that_cannot_be_made_is_several(monkeypatch):
    def refuse(*args):
        raise NoBlocks("[blocks] not this one.")

    monkeypatch.setattr(blocks_kernel, "compose", refuse)
    monkeypatch.setitem(CASES, "refused", (attention, (1, 4, 310, 8), (1, 4, 270, 8), {}))  # as no other test has it
    found = step("refused")
    assert "matmul" in str(report.programs()[-1].kernels)
    assert "blocks of rows" not in str(report.programs()[-1].kernels)
    assert same_bits(found, step("refused", fuse=False))


# ---- what is joined -------------------------------------------------------------------------------------------


def op(name, *args, **attrs):
    return find(name)(*args, **attrs)


def softmax_of_product(b, heads=4, rows=256, columns=256):
    q, k, v = (b.input(Aval((heads, n, 8), float32)) for n in (rows, columns, columns))
    scores = op("matmul", q, op("permute", k, perm=(0, 2, 1)))
    grown = op("exp", scores)
    total = op("reshape", op("sum", grown, axes=(2,)), shape=(heads, rows, 1)).expand(scores.shape)
    return v, grown / total


def clustered(outputs, b):
    b.graph.outputs = [x.id for x in outputs]
    return [c.kind for c in ClusterKernels(blocks=True)(b.graph)]


@ROWS
def test_one_cluster():
    b = GraphBuilder()
    v, weights = softmax_of_product(b)
    out = op("matmul", weights, v)
    assert clustered([out], b) == ["blocks"]
    assert [c.kind for c in ClusterKernels()(b.graph)] == ["contraction", "loops", "contraction"]
    assert blocks_kernel.rows_of_blocks(b.graph, targets.find("x86-64-v4")) == 256
    found = block(b.graph, 32)
    assert [given.columns for given in found.given] == [8] and found.sums == 0
    assert extent(b.graph) == ((4,), 256)


@ROWS
def test_what_is_not_joined():
    b = GraphBuilder()
    v, weights = softmax_of_product(b)
    assert clustered([op("matmul", weights, v), weights], b) == [
        "contraction",
        "loops",
        "contraction",
    ]  # they are wanted
    b = GraphBuilder()
    v, weights = softmax_of_product(b, rows=40, columns=40)
    assert "blocks" not in clustered([op("matmul", weights, v)], b)  # they are small
    b = GraphBuilder()
    v, weights = softmax_of_product(b)
    sums = op("sum", weights, axes=(0,))  # of all matrices
    assert "blocks" not in clustered([op("matmul", weights, v), sums], b)


@ROWS
def test_rows_alone_are_no_block():
    b = GraphBuilder()
    v, weights = softmax_of_product(b)
    b.graph.outputs = [op("matmul", weights, v).id]
    with pytest.raises(NoBlocks, match="less than two rows"):
        block(b.graph, 1)
    places = op("iota", shape=weights.shape, dim=0, dtype=int64, builder=b)
    b.graph.outputs = [op("matmul", op("select", places.eq(0), weights, -weights), v).id]
    with pytest.raises(NoBlocks, match="positions other than those of rows and columns"):
        block(b.graph, 32)


@ROWS
def test_the_kernel_is_named():
    q = fb.tensor(arrays(4, 300, 8))
    with fb.no_grad(), fb.compiler_options(mode="blocking", max_cluster_ops=123):
        attention(q, q, q).numpy()
    told = fb.explain(schedules=True)  # its text shows a few programs, and other tests have many
    assert LABEL in told.reports[-1].kernels
    assert any(label == LABEL and "blocks(rows = " in schedule for label, schedule in told.schedules)
