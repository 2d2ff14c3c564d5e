"""Attention, forward and with gradients, Flambeau beside PyTorch's `scaled_dot_product_attention`.

    python benchmarks/attention.py

Both are in one process, on one thread, and take turns; medians in milliseconds, how many times faster Flambeau is, and how much
memory its step takes at most beyond what it starts from, in matrices of scores. Twelve heads of 64; blocking compilation.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import flambeau as fb
import numpy as np
from turns import Step, beside, count, find_torch, flushed, medians

HEADS, FEATURES = 12, 64
#: Batch and length.
SHAPES = ((1, 128), (8, 128), (1, 256), (4, 256), (4, 257), (1, 512), (4, 512), (1, 1024), (2, 1024), (1, 2048))
TURN, TURNS = 0.1, 9


def forward(m: ModuleType, x: list[Any], causal: bool) -> Step:
    q, k, v = (m.tensor(a) for a in x)
    return flushed(m, lambda: m.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal))


def gradients(m: ModuleType, x: list[Any], causal: bool) -> Step:
    leaves = [m.tensor(a, requires_grad=True) for a in x]

    def step() -> Any:
        for leaf in leaves:
            leaf.grad = None
        y = m.nn.functional.scaled_dot_product_attention(*leaves, is_causal=causal)
        (y * y).sum().backward()
        return leaves[0].grad

    return flushed(m, step)


def peak(step: Step, scores: int) -> float:
    fb.reset_peak()
    before = fb.memory_stats()["live_bytes"]
    step()
    return (fb.memory_stats()["peak_bytes"] - before) / scores


def main() -> None:
    fb.set_num_threads(1)
    torch = find_torch()
    modules = {"Flambeau": fb, **({"PyTorch": torch} if torch else {})}
    for batch, length in SHAPES:
        x = [np.random.default_rng(k).standard_normal((batch, HEADS, length, FEATURES), np.float32) for k in range(3)]
        for causal in (False, True):
            for kind in (forward, gradients):
                with fb.compiler_options(mode="blocking"):
                    steps = {name: kind(m, x, causal) for name, m in modules.items()}
                    counts = {name: count(step, TURN, tries=3) for name, step in steps.items()}
                    found = medians(steps, counts, TURNS)
                    matrices = peak(steps["Flambeau"], batch * HEADS * length**2 * 4)
                label = f"{batch} x {length} {'causal' if causal else 'all'} {kind.__name__}"
                print(f"{label:28}{beside(found)[0]}  {matrices:.2f} matrices", flush=True)


if __name__ == "__main__":
    main()
