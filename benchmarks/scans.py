"""Running sums and the like of a million numbers, Flambeau beside PyTorch.

    python benchmarks/scans.py [name ...]

Both are in one process, on one thread, and take turns; medians in milliseconds, and how many times faster Flambeau is. Blocking
compilation; everything was done three times before.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import flambeau as fb
import numpy as np
from turns import Step, beside, count, find_torch, flushed, medians

NAMES = ("cumsum", "cumprod", "cummax", "logcumsumexp")
#: Shapes, and the dim that is scanned.
SHAPES = (((1_000_000,), 0), ((1000, 1000), 1), ((1000, 1000), 0), ((64, 100, 156), 1))
TURN, TURNS = 0.05, 15


def scan(m: ModuleType, name: str, data: Any, dim: int) -> Step:
    x = m.tensor(data)
    return flushed(m, lambda: getattr(m, name)(x, dim))


def main() -> None:
    fb.set_num_threads(1)
    torch = find_torch()
    modules = {"Flambeau": fb, **({"PyTorch": torch} if torch else {})}
    for name in sys.argv[1:] or NAMES:
        for shape, dim in SHAPES:
            data = np.random.default_rng(0).uniform(0.5, 1.5, shape).astype(np.float32)
            with fb.compiler_options(mode="blocking"):
                steps = {k: scan(m, name, data, dim) for k, m in modules.items()}
                counts = {k: count(step, TURN, tries=3) for k, step in steps.items()}
                found = medians(steps, counts, TURNS)
            print(f"{name:14}{shape!s:18}{dim}{beside(found)[0]}", flush=True)


if __name__ == "__main__":
    main()
