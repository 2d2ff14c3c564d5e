"""Whole programs as users write them, as the graphs that the compiler gets.

In: functions that run a few steps. Out: `graphs(run)`, every distinct program that was compiled meanwhile.
"""

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
import numpy as np
from flambeau.compiler.compiled import Compiled
from flambeau.dialects.graph import Graph


def graphs(run) -> list[Graph]:
    found = []
    made = Compiled.__init__

    def noted(self, graph, options, key):
        found.append(graph)
        made(self, graph, options, key)

    Compiled.__init__ = noted
    try:
        with fb.compiler_options(mode="off"):
            run()
    finally:
        Compiled.__init__ = made
    return found


def normal(rng, *shape):
    return fb.tensor((rng.standard_normal(shape) * 0.08).astype(np.float32))


def mlp():
    """A perceptron's steps with Adam, random initialization included."""
    rng = np.random.default_rng(0)
    x, y = normal(rng, 16, 70), fb.tensor(rng.integers(0, 10, 16))
    model = nn.Sequential(nn.Linear(70, 33), nn.ReLU(), nn.Linear(33, 17), nn.ReLU(), nn.Linear(17, 10))
    optimizer = fb.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model[0].weight.sum().item()


def chain():
    """A chain of elementwise ops and its gradient."""
    x = normal(np.random.default_rng(0), 1000).requires_grad_()
    y = x
    for _ in range(5):
        y = fb.tanh(y * 1.1 + 0.1) * fb.sigmoid(y) - fb.relu(y) / 3
    y.sum().backward()
    return x.grad.sum().item()


def gpt():
    """A block of a GPT with its head: a training step with AdamW."""
    batch, length, width, heads = 2, 8, 32, 4
    rng = np.random.default_rng(0)
    p = {"tok": normal(rng, 50, width), "pos": normal(rng, 20, width), "head.w": normal(rng, 50, width)}
    for name in ("ln1", "ln2", "lnf"):
        p[f"{name}.w"], p[f"{name}.b"] = fb.ones(width), fb.zeros(width)
    for name, (o, k) in {"qkv": (3, 1), "proj": (1, 1), "fc": (4, 1), "fc2": (1, 4)}.items():
        p[f"{name}.w"], p[f"{name}.b"] = normal(rng, o * width, k * width), fb.zeros(o * width)
    mask = fb.tril(fb.ones(length, length)) > 0
    tokens = fb.tensor(rng.integers(0, 50, (batch, length)))

    def linear(name, x):
        return F.linear(x, p[f"{name}.w"], p.get(f"{name}.b"))

    def norm(name, x):
        return F.layer_norm(x, (width,), p[f"{name}.w"], p[f"{name}.b"])

    def loss():
        h = p["tok"][tokens] + p["pos"][:length]
        parts = linear("qkv", norm("ln1", h)).split(width, dim=2)
        q, k, v = (x.view(batch, length, heads, width // heads).transpose(1, 2) for x in parts)
        scores = (q @ k.transpose(-1, -2) * 0.35).masked_fill(~mask, float("-inf"))
        h = h + linear("proj", (F.softmax(scores, dim=-1) @ v).transpose(1, 2).reshape(batch, length, width))
        h = h + linear("fc2", F.gelu(linear("fc", norm("ln2", h)), approximate="tanh"))
        return F.cross_entropy(linear("head", norm("lnf", h)).flatten(0, 1), tokens.flatten())

    for x in p.values():
        x.requires_grad_()
    optimizer = fb.optim.AdamW(p.values(), lr=3e-4)
    for _ in range(2):
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()
    return p["tok"].sum().item()


def changing_lengths():
    """Attention over a length that changes: programs have symbols from the third on."""
    rng = np.random.default_rng(0)
    w, b, p = fb.ones(16), fb.zeros(16), normal(rng, 16, 16)
    total = 0.0
    for n in (10, 20, 30, 40):
        x = normal(rng, 2, n, 16)
        q = (F.layer_norm(x, (16,), w, b) @ p).view(2, n, 2, 8).transpose(1, 2)
        o = (F.softmax(q @ q.transpose(-1, -2) * 0.25, -1) @ q).transpose(1, 2).reshape(2, n, 16)
        total += (o + x).flip(1)[:, 1:].var(1).sum().item()
    return total


PROGRAMS = {"mlp": mlp, "chain": chain, "gpt": gpt, "changing lengths": changing_lengths}
