"""Workload definitions shared by every peer: shapes, hyper-parameters, initial weights, batches.

Weights are numpy float32 in PyTorch layout (Linear (out,in), Conv OIHW, LSTM gates i,f,g,o), keyed
by PyTorch state_dict names, so every peer starts from the same point and losses can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

TRAIN = ["W1_b64", "W1_b512", "W2", "W3", "W4", "W5"]
ELEM = [f"W6_{d}_{n}" for d in ("fwd", "fwdbwd") for n in ("1e3", "1e5", "1e7")]
MM = [f"W7_mm{n}" for n in (256, 512, 1024, 2048)]
ROWS = ["W7_softmax", "W7_layernorm"]
DISPATCH = ["W8_add", "W8_add_grad"]
INFER = ["W9_mlp", "W9_cnn"]
IMAGES = ["resnet18_train", "resnet18_infer", "vit_train", "vit_infer"]
ALL = TRAIN + ELEM + MM + ROWS + DISPATCH + INFER + IMAGES + ["decode"]


@dataclass
class Case:
    """One workload on one peer. `step()` runs one step to completion (blocking) and returns something
    `loss()` turns into a float. `inner` = how many logical ops one step stands for (W8)."""

    step: Callable[[], Any]
    loss: Callable[[Any], float] = lambda r: float("nan")
    inner: int = 1
    note: str = ""


class Unsupported(Exception):
    """Raised by a peer for a workload it does not implement."""


LSTM = dict(vocab=96, emb=64, hid=128, T=64, B=32, lr=1e-3)
GPT = dict(vocab=96, d=128, heads=4, layers=4, T=128, B=16, lr=3e-4, wd=0.01)
GAN = dict(nz=100, ngf=32, ndf=32, B=16, lr=2e-4, betas=(0.5, 0.999))
MLP = dict(lr=1e-3)
CNN = dict(B=64, lr=0.01, momentum=0.9)
#: Channels in and out, and stride, of each pair of blocks.
RESNET = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
VIT = dict(d=192, heads=3, layers=12, patch=16)
#: Weights of 230 MB, which no cache holds.
DECODE = dict(vocab=1000, d=768, heads=12, layers=8, T=128)


def uniform(rng, fan_in, *shape):
    k = 1.0 / np.sqrt(fan_in)
    return rng.uniform(-k, k, shape).astype(np.float32)


def _n(rng, std, *shape):
    return (rng.standard_normal(shape) * std).astype(np.float32)


def mlp(rng=None):
    rng = rng or np.random.default_rng(0)
    p = {}
    for i, (a, b) in enumerate([(784, 512), (512, 256), (256, 10)], 1):
        p[f"fc{i}.weight"], p[f"fc{i}.bias"] = uniform(rng, a, b, a), uniform(rng, a, b)
    return p


def cnn(rng=None):
    rng = rng or np.random.default_rng(0)
    return {
        "conv1.weight": uniform(rng, 9, 32, 1, 3, 3),
        "conv1.bias": uniform(rng, 9, 32),
        "conv2.weight": uniform(rng, 288, 64, 32, 3, 3),
        "conv2.bias": uniform(rng, 288, 64),
        "fc1.weight": uniform(rng, 9216, 128, 9216),
        "fc1.bias": uniform(rng, 9216, 128),
        "fc2.weight": uniform(rng, 128, 10, 128),
        "fc2.bias": uniform(rng, 128, 10),
    }


def lstm(rng=None):
    rng = rng or np.random.default_rng(0)
    c = LSTM
    H = c["hid"]
    return {
        "emb.weight": _n(rng, 1, c["vocab"], c["emb"]),
        "lstm.weight_ih_l0": uniform(rng, H, 4 * H, c["emb"]),
        "lstm.weight_hh_l0": uniform(rng, H, 4 * H, H),
        "lstm.bias_ih_l0": uniform(rng, H, 4 * H),
        "lstm.bias_hh_l0": uniform(rng, H, 4 * H),
        "out.weight": uniform(rng, H, c["vocab"], H),
        "out.bias": uniform(rng, H, c["vocab"]),
    }


def gpt(rng=None):
    rng = rng or np.random.default_rng(0)
    c = GPT
    d = c["d"]
    p = {"tok.weight": _n(rng, 0.02, c["vocab"], d), "pos.weight": _n(rng, 0.02, c["T"], d)}
    one, zero = (lambda n: np.ones(n, np.float32)), (lambda n: np.zeros(n, np.float32))
    for i in range(c["layers"]):
        b = f"blocks.{i}."
        for n in ("ln1", "ln2"):
            p[b + n + ".weight"], p[b + n + ".bias"] = one(d), zero(d)
        for n, (o, k) in dict(qkv=(3 * d, d), proj=(d, d), fc=(4 * d, d), fc2=(d, 4 * d)).items():
            p[b + n + ".weight"], p[b + n + ".bias"] = _n(rng, 0.02, o, k), zero(o)
    p["lnf.weight"], p["lnf.bias"] = one(d), zero(d)
    p["head.weight"], p["head.bias"] = _n(rng, 0.02, c["vocab"], d), zero(c["vocab"])
    return p


def gan(rng=None):
    """(G params, D params). BN running stats are not listed: only batch statistics are trained on."""
    rng = rng or np.random.default_rng(0)
    f, nz = GAN["ngf"], GAN["nz"]
    G, D = {}, {}
    for i, (a, b) in enumerate([(nz, 8 * f), (8 * f, 4 * f), (4 * f, 2 * f), (2 * f, f), (f, 3)], 1):
        G[f"ct{i}.weight"] = _n(rng, 0.02, a, b, 4, 4)
        if i < 5:
            G[f"bn{i}.weight"], G[f"bn{i}.bias"] = 1 + _n(rng, 0.02, b), np.zeros(b, np.float32)
    for i, (a, b) in enumerate([(3, f), (f, 2 * f), (2 * f, 4 * f), (4 * f, 8 * f), (8 * f, 1)], 1):
        D[f"c{i}.weight"] = _n(rng, 0.02, b, a, 4, 4)
        if 1 < i < 5:
            D[f"bn{i}.weight"], D[f"bn{i}.bias"] = 1 + _n(rng, 0.02, b), np.zeros(b, np.float32)
    return G, D


def batch(name):
    rng = np.random.default_rng(1)
    f32 = np.float32
    if name.startswith("W1"):
        b = int(name.split("_b")[1])
        return rng.standard_normal((b, 784)).astype(f32), rng.integers(0, 10, b)
    if name == "W2":
        return rng.standard_normal((CNN["B"], 1, 28, 28)).astype(f32), rng.integers(0, 10, CNN["B"])
    if name in ("W3", "W4"):
        c = LSTM if name == "W3" else GPT
        s = rng.integers(0, c["vocab"], (c["B"], c["T"] + 1))
        return s[:, :-1].copy(), s[:, 1:].copy()
    if name == "W5":
        B = GAN["B"]
        return rng.uniform(-1, 1, (B, 3, 64, 64)).astype(f32), rng.standard_normal((B, GAN["nz"], 1, 1)).astype(f32)
    if name.startswith("W6"):
        return (rng.standard_normal(int(float(name.split("_")[2]))).astype(f32),)
    if name.startswith("W7_mm"):
        n = int(name[5:])
        return rng.standard_normal((n, n)).astype(f32), rng.standard_normal((n, n)).astype(f32)
    if name.startswith("W7"):
        return (rng.standard_normal((4096, 1024)).astype(f32), np.ones(1024, f32), np.zeros(1024, f32))
    if name == "W9_mlp":
        return (rng.standard_normal((1, 784)).astype(f32),)
    if name == "W9_cnn":
        return (rng.standard_normal((1, 1, 28, 28)).astype(f32),)
    if name in IMAGES:
        b = 8 if name.endswith("train") else 1
        return rng.standard_normal((b, 3, 224, 224)).astype(f32), rng.integers(0, 1000, b)
    raise KeyError(name)
