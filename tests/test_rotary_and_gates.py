"""Rotary position embeddings and gated units, beside what their papers say written out in NumPy."""

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
import numpy as np
import pytest
from flambeau.compiler.tools import report

X = np.random.default_rng(0).normal(size=(2, 3, 5, 8))


def turned(x, positions, base=10000.0, interleaved=False):
    """Pairs of features as complex numbers, times a number of length 1."""
    n = x.shape[-1]
    frequency = base ** (-2.0 * np.arange(n // 2) / n)
    angle = positions[..., None] * frequency
    if interleaved:
        z = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angle)
        return np.stack([z.real, z.imag], -1).reshape(x.shape)
    z = (x[..., : n // 2] + 1j * x[..., n // 2 :]) * np.exp(1j * angle)
    return np.concatenate([z.real, z.imag], -1)


@pytest.mark.accept("NN-46")
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("positions", [0, 4, np.array([3, 1, 0, 9, 2]), np.arange(30).reshape(2, 3, 5)])
def test_pairs_are_turned_by_their_position(interleaved, positions):
    where = np.arange(5) + positions if isinstance(positions, int) else positions
    given = positions if isinstance(positions, int) else fb.tensor(positions)
    rope = nn.RotaryEmbedding(8, base=100.0, interleaved=interleaved)
    wanted = turned(X, where, 100.0, interleaved)
    assert np.allclose(rope(fb.tensor(X), given).numpy(), wanted, rtol=0, atol=1e-14)
    narrow = F.rotary_embedding(fb.tensor(X.astype(np.float32)), given, 100.0, interleaved)
    assert narrow.dtype is fb.float32 and np.allclose(narrow.numpy(), wanted, rtol=0, atol=4e-6)
    half = rope(fb.tensor(X).bfloat16(), given)
    assert half.dtype is fb.bfloat16 and np.allclose(half.float().numpy(), wanted, rtol=0, atol=0.06)


def test_scores_depend_on_distances_alone():
    rope = nn.RotaryEmbedding(8)
    q, k = fb.tensor(X), fb.tensor(X[::-1].copy())
    near, far = (rope(q, at) @ rope(k, at).mT for at in (0, 1000))
    assert np.allclose(near.numpy(), far.numpy(), rtol=0, atol=1e-9)


def test_a_part_is_turned_as_the_whole_is():
    """Decoding with a cache: one element at a time, by one program for all positions."""
    rope, x = nn.RotaryEmbedding(8), fb.tensor(X)
    whole = rope(x).numpy()
    one = [fb.tensor(X[:, :, at : at + 1]) for at in range(5)]
    known = {id(r) for r in report.programs()}
    for at in range(5):
        assert np.array_equal(rope(one[at], at).numpy(), whole[:, :, at : at + 1])
    assert len([r for r in report.programs() if id(r) not in known]) == 1


def test_gradients_turn_back():
    x = fb.tensor(X, requires_grad=True)
    F.rotary_embedding(x, 3).backward(fb.tensor(X))
    assert np.allclose(x.grad.numpy(), turned(X, -(np.arange(5) + 3)), rtol=0, atol=1e-14)


def test_layers_refuse_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"dim is 7\. Pass a positive even number"):
        nn.RotaryEmbedding(7)
    with pytest.raises(ValueError, match=r"base is 0\. Pass a positive number"):
        nn.RotaryEmbedding(8, base=0)
    with pytest.raises(RuntimeError, match=r"input has shape \(3, 6\). Its last size must be 8"):
        nn.RotaryEmbedding(8)(fb.zeros(3, 6))
    assert repr(nn.RotaryEmbedding(8)) == "RotaryEmbedding(8, base=10000.0, interleaved=False)"


@pytest.mark.accept("NN-46")
@pytest.mark.parametrize("dim", [-1, 1])
def test_the_second_half_opens_the_first(dim):
    from scipy.special import erf, expit

    x = np.random.default_rng(1).normal(size=(3, 4, 6))
    value, gate = np.split(x, 2, dim)
    opened = {
        nn.GLU: expit(gate),
        nn.SwiGLU: gate * expit(gate),
        nn.GeGLU: gate * 0.5 * (1 + erf(gate * np.sqrt(0.5))),
    }
    for kind, factor in opened.items():
        assert np.allclose(kind(dim)(fb.tensor(x)).numpy(), value * factor, rtol=0, atol=1e-14), kind
    bent = gate * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
    assert np.allclose(nn.GeGLU(dim, "tanh")(fb.tensor(x)).numpy(), value * bent, rtol=0, atol=1e-14)
    assert repr(nn.GeGLU(dim)) == f"GeGLU(dim={dim}, approximate='none')"
