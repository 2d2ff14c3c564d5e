"""Attention and transformers: against closed forms and PyTorch, with every kind of mask; state dicts, training, errors."""

import math

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
import numpy as np
import pytest
from support import arrays

ROWS = pytest.mark.accept("NN-43", "NN-45", "NN-47")


def by_hand(q, k, v, keep=None, added=None, scale=None):
    scores = (q.astype(float) @ np.swapaxes(k, -1, -2)) * (scale or 1 / math.sqrt(q.shape[-1]))
    scores = scores if added is None else scores + added
    scores = scores if keep is None else np.where(keep, scores, -np.inf)
    with np.errstate(invalid="ignore"):
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights = np.nan_to_num(weights / weights.sum(-1, keepdims=True))
    return weights @ v


Q, K, V = arrays(2, 3, 4, 5), arrays(2, 3, 6, 5, seed=1), arrays(2, 3, 6, 2, seed=2)
KEEP = arrays(4, 6, seed=3) > -0.5
KEEP[1] = False
CALLS = [
    ({}, {}),
    ({"scale": 0.3}, {"scale": 0.3}),
    ({"is_causal": True}, {"keep": np.tril(np.ones((4, 6), bool))}),
    ({"attn_mask": KEEP}, {"keep": KEEP}),
    ({"attn_mask": arrays(2, 1, 4, 6, seed=4)}, {"added": arrays(2, 1, 4, 6, seed=4)}),
]


@ROWS
@pytest.mark.parametrize(("options", "meant"), CALLS)
def test_attention_by_hand_and_as_torch(options, meant):
    given = {k: fb.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    found = F.scaled_dot_product_attention(fb.tensor(Q), fb.tensor(K), fb.tensor(V), **given)
    np.testing.assert_allclose(found.numpy(), by_hand(Q, K, V, **meant), rtol=2e-5, atol=2e-6)
    torch = pytest.importorskip("torch")
    gradients = []
    for module in (fb, torch):
        leaves = [module.tensor(x, requires_grad=True) for x in (Q, K, V)]
        given = {k: module.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        out = module.nn.functional.scaled_dot_product_attention(*leaves, **given)
        (out * out).sum().backward()
        gradients.append([x.grad.numpy() for x in leaves])
    for mine, theirs in zip(*gradients):
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-5)


@ROWS
def test_queries_share_heads():
    q, k, v = arrays(2, 6, 3, 4), arrays(2, 2, 5, 4, seed=1), arrays(2, 2, 5, 4, seed=2)
    found = F.scaled_dot_product_attention(*map(fb.tensor, (q, k, v)), enable_gqa=True)
    np.testing.assert_allclose(found.numpy(), by_hand(q, k.repeat(3, 1), v.repeat(3, 1)), rtol=2e-5, atol=2e-6)
    with pytest.raises(RuntimeError, match="4 heads of queries do not share 3 heads of keys"):
        F.scaled_dot_product_attention(fb.ones(4, 2, 2), fb.ones(3, 2, 2), fb.ones(3, 2, 2), enable_gqa=True)


@ROWS
def test_dropout_of_weights():
    fb.manual_seed(0)
    q, k, v = fb.randn(4, 50, 8), fb.randn(4, 60, 8), fb.ones(4, 60, 1)
    found = F.scaled_dot_product_attention(q, k, v, dropout_p=0.25)
    assert abs(found.mean().item() - 1.0) < 0.05 and found.std().item() > 0.05
    layer = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
    assert not layer(q, k, k)[0].equal(layer(q, k, k)[0])
    layer.eval()
    assert layer(q, k, k)[0].equal(layer(q, k, k)[0])


def copied(mine, theirs):
    """The parameters of `theirs` in `mine`."""
    mine.load_state_dict({k: fb.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    return mine


def compared(mine, theirs, inputs, options=None, pick=lambda x: x, rtol=3e-5):
    """Outputs and gradients of inputs and parameters are PyTorch's."""
    torch = pytest.importorskip("torch")
    copied(mine, theirs)
    found = []
    for module, net in ((fb, mine), (torch, theirs)):
        leaves = [module.tensor(x, requires_grad=True) for x in inputs]
        given = {k: module.tensor(v) if isinstance(v, np.ndarray) else v for k, v in (options or {}).items()}
        out = pick(net(*leaves, **given))
        outs = [x for x in (out if isinstance(out, tuple) else (out,)) if x is not None]
        sum((x * x).sum() for x in outs).backward()
        gradients = {n: p.grad.numpy() for n, p in net.named_parameters() if p.grad is not None}
        gradients |= {f"input {i}": x.grad.numpy() for i, x in enumerate(leaves)}
        found.append(([x.detach().numpy() for x in outs], gradients))
    for a, b in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
    assert set(found[0][1]) == set(found[1][1])
    for name, value in found[0][1].items():
        wanted = found[1][1][name]
        np.testing.assert_allclose(value, wanted, rtol=1e-3, atol=1e-4 * max(1.0, np.abs(wanted).max()), err_msg=name)


PADDING = np.array([[False, False, True, False], [False, True, True, True]])
HEADS = [
    ({}, {}),
    ({"bias": False}, {"need_weights": False}),
    ({"batch_first": True}, {"average_attn_weights": False}),
    ({"add_bias_kv": True, "add_zero_attn": True}, {"key_padding_mask": PADDING}),
    ({"kdim": 3, "vdim": 5}, {}),
    ({}, {"key_padding_mask": PADDING, "attn_mask": arrays(3, 4, seed=8)}),
    ({}, {"attn_mask": arrays(4, 3, 4, seed=9) > 0.5, "need_weights": False}),
]


@ROWS
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("made", "options"), HEADS)
def test_multihead_attention_is_that_of_torch(made, options):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    shapes = [(3, 2, 8), (4, 2, made.get("kdim", 8)), (4, 2, made.get("vdim", 8))]
    inputs = [arrays(*s, seed=i) for i, s in enumerate(shapes)]
    inputs = [x.transpose(1, 0, 2).copy() for x in inputs] if made.get("batch_first") else inputs
    compared(nn.MultiheadAttention(8, 2, **made), torch.nn.MultiheadAttention(8, 2, **made), inputs, options)


@ROWS
def test_attention_without_a_batch_to_itself():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.MultiheadAttention(8, 4)
    mine = copied(nn.MultiheadAttention(8, 4), theirs)
    x = arrays(5, 8)
    causal = np.triu(np.full((5, 5), -np.inf, np.float32), 1)
    for options in ({}, {"is_causal": True, "need_weights": False}):
        a, weights = mine(*[fb.tensor(x)] * 3, attn_mask=fb.tensor(causal), **options)
        b, wanted = theirs(*[torch.tensor(x)] * 3, attn_mask=torch.tensor(causal), **options)
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=2e-5, atol=2e-6)
        assert (weights is None) == (wanted is None)


LAYERS = [{}, {"norm_first": True, "activation": "gelu"}, {"batch_first": True, "bias": False}]


@ROWS
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", LAYERS)
def test_layers_are_those_of_torch(options):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    options = {"dropout": 0.0, **options}
    src, tgt = arrays(4, 2, 8), arrays(3, 2, 8, seed=1)
    if options.get("batch_first"):
        src, tgt = src.transpose(1, 0, 2).copy(), tgt.transpose(1, 0, 2).copy()
    causal = np.triu(np.full((3, 3), -np.inf, np.float32), 1)
    encoder = [m.nn.TransformerEncoderLayer(8, 2, 16, **options) for m in (fb, torch)]
    compared(*encoder, [src], {"src_key_padding_mask": PADDING})
    decoder = [m.nn.TransformerDecoderLayer(8, 2, 16, **options) for m in (fb, torch)]
    compared(*decoder, [tgt, src], {"tgt_mask": causal, "tgt_is_causal": True, "memory_key_padding_mask": PADDING})
    whole = [m.nn.Transformer(8, 2, 1, 2, 16, **options) for m in (fb, torch)]
    compared(*whole, [src, tgt], {"tgt_mask": causal})


@ROWS
def test_state_dicts_have_the_keys_of_torch():
    torch = pytest.importorskip("torch")
    for name, args, options in (
        ("MultiheadAttention", (8, 2), {"kdim": 3, "add_bias_kv": True}),
        ("Transformer", (8, 2, 1, 1, 16), {}),
        ("TransformerDecoderLayer", (8, 2, 16), {"bias": False}),
    ):
        mine, theirs = (getattr(m.nn, name)(*args, **options).state_dict() for m in (fb, torch))
        assert {k: tuple(v.shape) for k, v in mine.items()} == {k: tuple(v.shape) for k, v in theirs.items()}


@ROWS
def test_a_transformer_learns_to_copy_with_equal_bits_everywhere():
    """Op by op, fused, and looked at in every step."""
    found = []
    for mode, look in (("off", False), ("blocking", False), ("blocking", True)):
        fb.manual_seed(3)
        with fb.compiler_options(mode=mode):
            embed, head = nn.Embedding(6, 8), nn.Linear(8, 6)
            layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
            params = [*embed.parameters(), *layer.parameters(), *head.parameters()]
            opt = fb.optim.Adam(params, lr=1e-2)
            tokens = fb.arange(30).reshape(5, 6) % 6
            mask = nn.Transformer.generate_square_subsequent_mask(6)
            losses = []
            for _ in range(6):
                opt.zero_grad()
                hidden = layer(embed(tokens), src_mask=mask, is_causal=True)
                if look:
                    hidden.sum().item()
                loss = F.cross_entropy(head(hidden).reshape(-1, 6), tokens.reshape(-1))
                loss.backward()
                opt.step()
                losses.append(loss.item())
            found.append(losses)
    assert found[0] == found[1] == found[2] and found[0][-1] < found[0][0]


BAD = [
    (lambda: nn.MultiheadAttention(0, 1), ValueError, r"\[MultiheadAttention\] embed_dim is 0"),
    (lambda: nn.MultiheadAttention(8, 3), AssertionError, r"embed_dim 8 does not divide by num_heads 3"),
    (
        lambda: nn.MultiheadAttention(8, 2)(*[fb.ones(2, 3, 4)] * 3),
        AssertionError,
        r"queries have 4 features, expected 8",
    ),
    (lambda: nn.MultiheadAttention(8, 2)(*[fb.ones(8)] * 3), AssertionError, r"query has 1 dimensions"),
    (
        lambda: nn.MultiheadAttention(8, 2)(*[fb.ones(3, 1, 8)] * 3, attn_mask=fb.zeros(2, 2)),
        RuntimeError,
        r"attn_mask has shape \(2, 2\), expected \(3, 3\)",
    ),
    (
        lambda: nn.MultiheadAttention(8, 2)(*[fb.ones(3, 1, 8)] * 3, key_padding_mask=fb.zeros(1, 3).long()),
        AssertionError,
        r"key_padding_mask has dtype flambeau.int64",
    ),
    (lambda: nn.MultiheadAttention(8, 2)(*[fb.ones(3, 1, 8)] * 3, is_causal=True), RuntimeError, r"Pass the mask, too"),
    (lambda: nn.TransformerEncoderLayer(8, 2, activation="tanh"), RuntimeError, r"activation is 'tanh'"),
    (lambda: nn.Transformer(8, 2, 1, 1)(fb.ones(2, 1, 8), fb.ones(2, 3, 8)), RuntimeError, r"src has a batch of 1"),
    (
        lambda: F.scaled_dot_product_attention(fb.ones(2, 2), fb.ones(2, 2).double(), fb.ones(2, 2)),
        RuntimeError,
        r"query is flambeau.float32, key flambeau.float64",
    ),
]


@pytest.mark.parametrize(("call", "error", "text"), BAD)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()
