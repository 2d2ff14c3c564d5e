"""Causal attention: a part of the queries reads the keys up to its last query and no others, whatever these hold; alike on every
tier, for all lengths, and as in PyTorch."""

import math

import flambeau as fb
import flambeau.nn.functional as F
import numpy as np
import pytest
from flambeau.functions.attention import _parts
from support import arrays

pytestmark = pytest.mark.accept("NN-43", "NN-44")

#: Lengths of queries and of keys: of one part, of several, of a last one that is longer or shorter; and one query more.
LENGTHS = [(1, 3), (2, 2), (128, 128), (191, 191), (192, 192), (257, 257), (300, 130), (130, 300), (513, 513), (700, 2)]


def attention(q, k, v, **options):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, **options)


def drawn(queries, keys, heads=2, fewer=2):
    return arrays(heads, queries, 8), arrays(fewer, keys, 8, seed=1), arrays(fewer, keys, 4, seed=2)


def triangle(queries, keys):
    return np.tril(np.ones((queries, keys), bool))


def by_hand(q, k, v):
    scores = q.astype(float) @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])
    scores = np.where(triangle(*scores.shape[-2:]), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


def with_gradients(module, found, leaves):
    (found * found).sum().backward()
    return [found.detach().numpy(), *(x.grad.numpy() for x in leaves)]


def same_bits(one, two):
    return all(np.array_equal(x.view(np.int32), y.view(np.int32)) for x, y in zip(one, two, strict=True))


def test_parts_cover_all_queries():
    for queries in (0, 1, 128, 191, 192, 512, 513, 1024, 2048, 2049, 5000):
        found = _parts(queries, 1000)
        ends = [first + count for first, count, _ in found]
        assert [first for first, _, _ in found] == [0, *ends[:-1]] and ends[-1] == queries
        assert [seen for _, _, seen in found] == [min(1000, end) for end in ends]
        assert len(found) <= 8 and not any(count == 1 for _, count, _ in found[1:]), (
            "a product of one row is another one"
        )


@pytest.mark.parametrize(("queries", "keys"), LENGTHS)
def test_values_by_hand(queries, keys):
    x = drawn(queries, keys)
    np.testing.assert_allclose(attention(*map(fb.tensor, x)).numpy(), by_hand(*x), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("queries", "keys"), LENGTHS)
def test_gradients_are_those_of_torch(queries, keys):
    torch = pytest.importorskip("torch")
    found = []
    for module in (fb, torch):
        leaves = [module.tensor(x, requires_grad=True) for x in drawn(queries, keys)]
        y = module.nn.functional.scaled_dot_product_attention(*leaves, is_causal=True)
        found.append(with_gradients(module, y, leaves))
    for mine, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-5)


def test_what_is_left_out_changes_no_sum():
    """Weights of 0 add nothing: all keys, masked, give the same."""
    x = [fb.tensor(a) for a in drawn(300, 300)]
    mask = fb.tensor(triangle(300, 300))
    masked = F.scaled_dot_product_attention(*x, attn_mask=mask)
    assert np.array_equal(attention(*x).numpy(), masked.numpy())
    narrow = [a.bfloat16() for a in x]
    assert attention(*narrow).equal(F.scaled_dot_product_attention(*narrow, attn_mask=mask))


@pytest.mark.parametrize("mode", ["blocking", "off"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_keys_of_later_parts_are_not_read(mode, bad):
    """Parts begin at 0, 128 and 256. Within one a weight of 0 takes part; a key that is hidden does not."""
    q, k, v = drawn(400, 400)
    with fb.compiler_options(mode=mode):
        clean = attention(*map(fb.tensor, (q, k, v))).numpy()
        other = v.copy()
        other[:, 200] = bad
        found = attention(*map(fb.tensor, (q, k, other))).numpy()
        assert np.array_equal(found[:, :128], clean[:, :128])
        assert np.isnan(found[:, 128:200]).all() and not np.isfinite(found[:, 200:]).any()
        other = k.copy()
        other[:, 200] = math.nan
        found = attention(*map(fb.tensor, (q, other, v))).numpy()
        assert np.array_equal(found[:, :200], clean[:, :200]) and np.isnan(found[:, 200:]).all()


def test_gradients_do_not_come_from_earlier_parts():
    """Keys from 256 on get theirs of queries from 256 on alone."""
    leaves = [fb.tensor(x, requires_grad=True) for x in drawn(400, 400)]
    attention(*leaves)[:, :256].sum().backward()
    assert not any(x.grad[:, 256:].any() for x in leaves)
    for x in leaves:
        x.grad = None
    y = attention(*leaves)
    y.backward(fb.where(fb.arange(400)[:, None] < 256, math.nan, 1.0).expand(y.shape))
    assert all(np.isfinite(x.grad.numpy()[:, 256:]).all() for x in leaves)
    assert np.isnan(leaves[0].grad.numpy()[:, :256]).all()


def test_sums_of_keys_are_added_from_the_first_part_on():
    x, lower = drawn(400, 400), fb.tensor(triangle(400, 400))
    whole = [fb.tensor(a, requires_grad=True) for a in x]
    with_gradients(fb, attention(*whole), whole)
    sums = [np.zeros_like(a[:, :0]) for a in x[1:]]
    for first, end in ((0, 128), (128, 256), (256, 400)):
        parts = x[0][:, first:end], x[1][:, :end], x[2][:, :end]
        q, k, v = leaves = [fb.tensor(a, requires_grad=True) for a in parts]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=lower[first:end, :end])
        _, of_q, *more = with_gradients(fb, y, leaves)
        assert np.array_equal(whole[0].grad.numpy()[:, first:end], of_q)
        for before, term in zip(sums, more, strict=True):
            term[:, :first] += before
        sums = more
    assert all(np.array_equal(a.grad.numpy(), b) for a, b in zip(whole[1:], sums, strict=True))


@pytest.mark.parametrize(("queries", "keys"), [(257, 257), (300, 140)])
def test_bits_are_those_op_by_op(queries, keys):
    found = []
    for mode in ("blocking", "off"):
        with fb.compiler_options(mode=mode):
            leaves = [fb.tensor(x, requires_grad=True) for x in drawn(queries, keys, 4, 2)]
            found.append(with_gradients(fb, attention(*leaves, enable_gqa=True), leaves))
    assert same_bits(*found)


def test_queries_share_heads():
    q, k, v = drawn(260, 260, 4, 2)
    found = attention(*map(fb.tensor, (q, k, v)), enable_gqa=True).numpy()
    assert np.array_equal(found, attention(*map(fb.tensor, (q, k.repeat(2, 0), v.repeat(2, 0)))).numpy())


def test_a_query_whose_scores_are_none_gives_zeros():
    q, k, v = drawn(300, 300)
    q[:, 280] = -np.inf
    found = attention(fb.tensor(q), fb.tensor(np.abs(k)), fb.tensor(v)).numpy()
    assert not found[:, 280].any() and np.isfinite(found).all()


def test_weights_are_dropped_anew_in_every_part():
    q, k, _ = drawn(256, 256)
    values = np.broadcast_to(np.eye(256, dtype=np.float32), (2, 256, 256))  # the result is the weights
    x = [fb.tensor(a) for a in (q, k, values)]
    whole = attention(*x).numpy()
    fb.manual_seed(3)
    found = attention(*x, dropout_p=0.25).numpy()
    kept = found != 0
    np.testing.assert_allclose(found[kept], whole[kept] / 0.75, rtol=1e-6)
    lower = triangle(256, 256)
    assert not kept[:, ~lower].any() and abs(kept[:, lower].mean() - 0.75) < 0.01
    assert (kept[:, 128:, :128] != kept[:, :128, :128])[:, lower[:128, :128]].any(), "both parts drew the same numbers"
    with pytest.raises(ValueError, match="Use a probability from 0 to 1"):
        attention(*x, dropout_p=1.5)


def test_lengths_that_change():
    """A length that is known when the program runs has the parts and values of one that is a constant."""
    for length in (330, 350, 341, 322):
        x = drawn(length, length)
        found = attention(*map(fb.tensor, x)).numpy()
        np.testing.assert_allclose(found, by_hand(*x), rtol=2e-5, atol=2e-6)
