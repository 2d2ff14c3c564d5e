"""Loading data, Flambeau's DataLoader beside PyTorch's: images in memory with 2 workers, and NumPy items without.

    python benchmarks/loading.py [quick]

Both are in one process and take turns; medians of epochs in milliseconds, and how many times faster Flambeau is. With workers,
starting them is not counted: they persist, and one epoch goes before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import flambeau as fb
import flambeau.data as ours
import numpy as np
from turns import beside, find_torch, medians

ITEMS, IMAGES, BATCH = 20_000, 2_000, 64


class Items:
    """Pairs of an array and a label, or arrays."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def epoch(loader: Any) -> Callable[[], None]:
    def run() -> None:
        for _ in loader:
            pass

    run()
    return run


def main() -> None:
    fb.set_num_threads(1)
    torch = find_torch()
    modules = {"Flambeau": ours, **({"PyTorch": torch.utils.data} if torch else {})}
    turns = 3 if "quick" in sys.argv else 9
    chance = np.random.default_rng(0)
    small = [chance.standard_normal(16, dtype=np.float32) for _ in range(ITEMS)]
    images = [(chance.integers(0, 256, (3, 96, 96), np.uint8), i % 10) for i in range(IMAGES)]
    cases: list[tuple[str, list[Any], dict[str, Any]]] = [
        (f"{ITEMS} arrays, no workers", small, {}),
        (f"{ITEMS} pairs, no workers", [(x, i) for i, x in enumerate(small)], {}),
        (f"{IMAGES} images, no workers", images, {}),
        (f"{IMAGES} images, 2 workers", images, {"num_workers": 2, "persistent_workers": True}),
    ]
    for name, items, options in cases:
        steps = {k: epoch(m.DataLoader(Items(items), batch_size=BATCH, **options)) for k, m in modules.items()}
        print(f"{name:28}{beside(medians(steps, dict.fromkeys(steps, 1), turns))[0]}", flush=True)


if __name__ == "__main__":
    main()
