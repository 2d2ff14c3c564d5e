"""The programs with sizes that change, as every peer sees them: sizes, initial weights, lengths, batches.

Weights are NumPy float32 in PyTorch layout, keyed by name, so that tokens and losses can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

DECODE = dict(vocab=1000, d=256, heads=8, layers=4, T=264)
PROMPT = (3, 141, 592, 653, 589, 793, 238, 462)
TOKENS = 256
TRAIN = dict(vocab=1000, d=128, heads=4, layers=2, T=256)
BATCH = 8
LR = 3e-4


@dataclass
class Case:
    """`begin()` starts an episode; each call of `step(i)` runs one step of it to its end and returns what is compared."""

    steps: int
    begin: Callable[[], None]
    step: Callable[[int], Any]
    compilations: Callable[[], int]


def weights(c: dict[str, int], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    d = c["d"]

    def normal(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.08).astype(np.float32)

    one, zero = (lambda n: np.ones(n, np.float32)), (lambda n: np.zeros(n, np.float32))
    p = {"tok": normal(c["vocab"], d), "pos": normal(c["T"], d)}
    for i in range(c["layers"]):
        for name in (f"{i}.ln1", f"{i}.ln2"):
            p[f"{name}.weight"], p[f"{name}.bias"] = one(d), zero(d)
        for name, (o, k) in dict(qkv=(3 * d, d), proj=(d, d), fc=(4 * d, d), fc2=(d, 4 * d)).items():
            p[f"{i}.{name}.weight"], p[f"{i}.{name}.bias"] = normal(o, k), zero(o)
    p["lnf.weight"], p["lnf.bias"] = one(d), zero(d)
    p["head.weight"], p["head.bias"] = normal(c["vocab"], d), zero(c["vocab"])
    return p


def lengths(n: int = 40) -> list[int]:
    return np.random.default_rng(1).permutation(np.arange(16, TRAIN["T"] + 1))[:n].tolist()


def batch(length: int) -> tuple[np.ndarray, np.ndarray]:
    text = np.random.default_rng(length).integers(0, TRAIN["vocab"], (BATCH, length + 1))
    return text[:, :-1].copy(), text[:, 1:].copy()
