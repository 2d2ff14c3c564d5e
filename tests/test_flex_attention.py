"""Attention by functions of scores and positions: values and gradients by NumPy and PyTorch, masks, groups, what is refused."""

import flambeau as fb
import numpy as np
import pytest
from flambeau.nn.flex_attention import (
    AuxRequest,
    BlockMask,
    and_masks,
    create_block_mask,
    create_mask,
    flex_attention,
    noop_mask,
    or_masks,
)

RNG = np.random.default_rng(3)
Q, K, V = (RNG.normal(size=s) for s in ((2, 4, 5, 3), (2, 4, 6, 3), (2, 4, 6, 2)))
BIAS = RNG.normal(size=(4, 11))


def causal(b, h, q_idx, kv_idx):
    return q_idx >= kv_idx


def window(b, h, q_idx, kv_idx):
    return q_idx - kv_idx < 2 + h


def plain(q, k, v, bias=0.0, mask=None):
    """softmax(q k / sqrt(E) + bias) v, and the logarithms of the sums."""
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]) + bias
    scores = scores if mask is None else np.where(mask, scores, -np.inf)
    top = np.where(np.isfinite(scores.max(-1, keepdims=True)), scores.max(-1, keepdims=True), 0)
    grown = np.exp(scores - top)
    total = grown.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        return (grown / np.where(total == 0, 1, total)) @ v, np.log(total[..., 0]) + top[..., 0]


@pytest.mark.accept("NN-43")
def test_a_score_may_look_up_what_it_adds():
    bias = fb.tensor(BIAS, requires_grad=True)
    q, k, v = (fb.tensor(x, requires_grad=True) for x in (Q, K, V))
    found = flex_attention(q, k, v, lambda score, b, h, i, j: score + bias[h, i - j + 5])
    at = BIAS[:, np.arange(5)[:, None] - np.arange(6) + 5]
    np.testing.assert_allclose(found.detach().numpy(), plain(Q, K, V, at)[0], rtol=1e-9)
    found.sum().backward()
    step = 1e-6
    moved = BIAS.copy()
    moved[1, 4] += step
    at = moved[:, np.arange(5)[:, None] - np.arange(6) + 5]
    slope = (plain(Q, K, V, at)[0].sum() - found.detach().numpy().sum()) / step
    assert bias.grad[1, 4].item() == pytest.approx(slope, rel=1e-3, abs=1e-6) and q.grad.shape == q.shape


@pytest.mark.accept("NN-43")
def test_masks_are_functions_of_positions():
    i, j = np.arange(5)[:, None], np.arange(6)
    wanted = (i >= j) & (i - j < 2 + np.arange(4)[:, None, None])
    mask = create_block_mask(and_masks(causal, window), None, 4, 5, 6, BLOCK_SIZE=2)
    assert create_mask(mask.mask_mod, None, 4, 5, 6).numpy()[0].tolist() == wanted.tolist()
    assert mask.shape == (1, 4, 5, 6) and mask.to_dense()[0, 0].tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    assert mask.sparsity() < 100 and isinstance(mask.to("cpu"), BlockMask)
    q, k, v = (fb.tensor(x) for x in (Q, K, V))
    found, lse = flex_attention(q, k, v, block_mask=mask, return_lse=True)
    values, sums = plain(Q, K, V, mask=wanted)
    np.testing.assert_allclose(found.numpy(), values, rtol=1e-9)
    np.testing.assert_allclose(lse.numpy(), sums, rtol=1e-9)
    nothing = create_block_mask(lambda b, h, i, j: (i > 0) & (j >= 0), None, None, 5, 6)
    found = flex_attention(q, k, v, block_mask=nothing)
    assert found[:, :, 0].abs().max().item() == 0.0 and np.isfinite(found.numpy()).all()
    either = or_masks(causal, lambda b, h, i, j: j == 5)
    assert create_mask(either, None, None, 2, 6).int().tolist() == [[[[1, 0, 0, 0, 0, 1], [1, 1, 0, 0, 0, 1]]]]
    assert create_mask(noop_mask, 2, None, 2, 3).shape == (2, 1, 2, 3)


def test_groups_of_heads_and_more_results():
    k, v = K[:, :2], V[:, :2]
    q, narrow = fb.tensor(Q), (fb.tensor(k), fb.tensor(v))
    found, more = flex_attention(q, *narrow, enable_gqa=True, return_aux=AuxRequest(lse=True, max_scores=True))
    values, sums = plain(Q, k.repeat(2, 1), v.repeat(2, 1))
    np.testing.assert_allclose(found.numpy(), values, rtol=1e-9)
    np.testing.assert_allclose(more.lse.numpy(), sums, rtol=1e-9)
    assert more.max_scores.shape == (2, 4, 5)
    with pytest.raises(ValueError, match=r"\[flex_attention\] query has 4 heads, key 2"):
        flex_attention(q, *narrow)
    with pytest.raises(
        ValueError, match=r"\[flex_attention\] the mask is of lengths \(4, 6\), query and key have 5 and 6"
    ):
        flex_attention(q, fb.tensor(K), fb.tensor(V), block_mask=create_block_mask(causal, None, None, 4, 6))
    with pytest.raises(NotImplementedError, match=r"\[flex_attention\] shapes are .* Pass \[batch, heads"):
        flex_attention(q[0], fb.tensor(K), fb.tensor(V))
    with pytest.raises(RuntimeError, match=r"\[and_masks\] an argument is no function"):
        and_masks(causal, 1)


def test_values_and_gradients_are_those_of_pytorch():
    """Which has no gradients of it on the CPU: those are of the formula, written out."""
    theirs = pytest.importorskip("torch.nn.attention.flex_attention")
    import torch

    def inputs(module, grad):
        return [module.tensor(x.astype(np.float32), requires_grad=grad) for x in (Q, K, V)]

    def tilted(score, b, h, i, j):
        return score * 2 - (i - j) * 0.1 * (h + 1)

    def by_function(flex, q, k, v):
        mask = flex.create_block_mask(causal, None, None, 5, 6, device="cpu")
        return flex.flex_attention(q, k, v, tilted, mask, scale=0.3)

    mine = inputs(fb, True)
    found = by_function(fb.nn.flex_attention, *mine)
    np.testing.assert_allclose(
        found.detach().numpy(), by_function(theirs, *inputs(torch, False)).numpy(), rtol=1e-4, atol=1e-5
    )
    q, k, v = wanted = inputs(torch, True)
    h, i, j = torch.arange(4)[:, None, None], torch.arange(5)[:, None], torch.arange(6)
    scores = tilted(q @ k.transpose(-1, -2) * 0.3, None, h, i, j).masked_fill(i < j, -torch.inf)
    (scores.softmax(-1) @ v).square().sum().backward()
    found.square().sum().backward()
    for x, y in zip(mine, wanted):
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-4, atol=1e-5)
