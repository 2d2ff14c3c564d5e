"""Whole programs whose shapes change from run to run: few programs serve all of them, with the bits of each by itself."""

from __future__ import annotations

import flambeau as fb
import numpy as np
import pytest
from flambeau import nn
from flambeau.compiler.tools import report
from flambeau.programs import compiler_options

F = nn.functional
WIDTH, HEADS, WORDS = 32, 2, 20


@pytest.fixture
def reports():
    """The reports of programs that the test makes."""
    fb.runtime.recorder.clear()
    before = {id(r) for r in report.programs()}
    return lambda: [r for r in report.programs() if id(r) not in before]


def weights(*shape, seed=0):
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * 0.2).astype(np.float32)


def generate(steps: int) -> np.ndarray:
    """What a layer of attention with a growing cache says, token by token."""
    query, key, value, out = (fb.tensor(weights(WIDTH, WIDTH, seed=k)) for k in range(4))
    x, cache, said = fb.tensor(weights(1, WIDTH)), None, []
    for _ in range(steps):
        q, k, v = ((x @ w).reshape(1, 1, HEADS, WIDTH // HEADS).transpose(1, 2) for w in (query, key, value))
        cache = (k, v) if cache is None else (fb.cat([cache[0], k], 2), fb.cat([cache[1], v], 2))
        attention = F.softmax(q @ cache[0].transpose(-2, -1) * 0.25, -1)
        x = x + (attention @ cache[1]).transpose(1, 2).reshape(1, WIDTH) @ out
        x = x / x.abs().max()
        said.append(x.numpy().copy())
    return np.concatenate(said)


@pytest.mark.accept("NN-46")
def test_a_growing_cache_does_not_compile_for_every_length(reports):
    said = generate(140)
    made = reports()
    assert len(made) <= 8 and any(r.symbols for r in made)
    assert all(r.tier == "fused" and r.pinned is None and len(r.plans) <= 3 for r in made)
    with compiler_options(mode="off"):
        assert np.array_equal(generate(140), said)


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.norm = nn.Embedding(WORDS, WIDTH), nn.LayerNorm(WIDTH)
        self.wide, self.head = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WORDS)

    def forward(self, words):
        return self.head(F.gelu(self.wide(self.norm(self.words(words)))).mean(1))


def train(sizes) -> list[float]:
    """The losses of steps on batches of these (sizes, lengths)."""
    fb.manual_seed(0)
    model, rng, losses = Classifier(), np.random.default_rng(0), []
    for parameter in model.parameters():
        parameter.data = fb.tensor(weights(*parameter.shape))
    optimizer = fb.optim.AdamW(model.parameters(), lr=1e-2)
    for batch, length in sizes:
        words = fb.tensor(rng.integers(0, WORDS, (batch, length)))
        labels = fb.tensor(rng.integers(0, WORDS, (batch,)))
        optimizer.zero_grad()
        loss = F.cross_entropy(model(words), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_batches_of_many_sizes_train_with_few_programs(reports):
    rng = np.random.default_rng(0)
    sizes = [(int(rng.integers(2, 20)), int(rng.integers(2, 40))) for _ in range(25)]
    losses = train(sizes)
    made = reports()
    assert len(made) <= 12 and any(r.symbols >= 2 for r in made)
    assert all(r.tier == "fused" and r.pinned is None and not r.is_full for r in made)
    assert sum(len(r.plans) for r in made if r.symbols) <= 6
    with compiler_options(mode="off"):
        assert train(sizes[:12]) == losses[:12]
