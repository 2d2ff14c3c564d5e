"""Looking at values: an element, a row, a loop that reads a number in every step; Flambeau beside PyTorch and NumPy.

    python benchmarks/looking.py [name ...]

All three are in one process, on one thread, and take turns of a millisecond or so: medians of the turns, in microseconds, and how
many times faster Flambeau is than each of the others. Blocking compilation; everything was done twenty times before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import flambeau as fb
import numpy as np
from turns import Step, count, find_torch, medians

TURN, TURNS = 1e-3, 41


def array(m: ModuleType, data: Any) -> Any:
    return np.array(data, np.float32) if m is np else m.tensor(data)


def eight(m: ModuleType) -> Any:
    return array(m, [float(i) for i in range(8)])


def table(m: ModuleType) -> Any:
    return array(m, [[float(i + j) for i in range(4)] for j in range(3)])


def shown(m: ModuleType, x: Any) -> Any:
    """The elements as a NumPy array that shares their memory."""
    return x[:] if m is np else x.numpy()


def there(make: Callable[[ModuleType], Any], look: Callable[[ModuleType, Any], object]) -> Callable[[ModuleType], Step]:
    def case(m: ModuleType) -> Step:
        x = make(m)
        return lambda: look(m, x)

    return case


def computed(look: Callable[[Any], object]) -> Callable[[ModuleType], Step]:
    def case(m: ModuleType) -> Step:
        x = eight(m)
        return lambda: look(x * 2 + 1)

    return case


def loop(m: ModuleType) -> Step:
    """Eight numbers, ten operations, one look a step."""
    q = eight(m)

    def step() -> float:
        nonlocal q
        for _ in range(5):
            q = q * 0.99 + 0.01
        return float(q[0])

    return step


def rows(m: ModuleType) -> Step:
    """A computed row, written into a table; every 64 rows its sum is read."""
    x, out, at = eight(m), m.zeros((64, 8), dtype=m.float32), 0

    def step() -> None:
        nonlocal at
        out[at % 64] = x * 2 + 1
        at += 1
        if at % 64 == 0:
            out.sum().item()

    return step


CASES: dict[str, Callable[[ModuleType], Step]] = {
    "x[0].item()": there(eight, lambda m, x: x[0].item()),
    "float(x[3])": there(eight, lambda m, x: float(x[3])),
    "m[1, 2].item()": there(table, lambda m, x: x[1, 2].item()),
    "x[2:5].tolist()": there(eight, lambda m, x: x[2:5].tolist()),
    "m[1].numpy()": there(table, lambda m, x: shown(m, x[1])),
    "list(x), 8 elements": there(eight, lambda m, x: list(x)),
    "tensor(3.).item()": lambda m: lambda: array(m, 3.0).item(),
    "tensor([1., 2.])": lambda m: lambda: array(m, [1.0, 2.0]),
    "(x * 2 + 1)[0].item()": computed(lambda x: x[0].item()),
    "(x * 2 + 1).sum().item()": computed(lambda x: x.sum().item()),
    "(x * 2 + 1).tolist()": computed(lambda x: x.tolist()),
    "out[i] = x * 2 + 1": rows,
    "8 numbers, 10 ops, 1 look": loop,
}


def peers() -> dict[str, ModuleType]:
    found: dict[str, ModuleType] = {"Flambeau": fb}
    if torch := find_torch():
        found["PyTorch"] = torch
    else:
        print("PyTorch is not installed: without it.")
    return {**found, "NumPy": np}


def measure(case: Callable[[ModuleType], Step], modules: dict[str, ModuleType]) -> dict[str, float]:
    steps = {name: case(m) for name, m in modules.items()}
    for step in steps.values():
        for _ in range(20):
            step()
    return medians(steps, {name: count(step, TURN) for name, step in steps.items()}, TURNS)


def main() -> None:
    fb.set_num_threads(1)
    modules = peers()
    others = [name for name in modules if name != "Flambeau"]
    print(f"{'us':26s}" + "".join(f"{name:>10s}" for name in modules) + "".join(f"{'x ' + n:>10s}" for n in others))
    for name in sys.argv[1:] or CASES:
        with fb.compiler_options(mode="blocking"):
            found = measure(CASES[name], modules)
        ratios = "".join(f"{found[n] / found['Flambeau']:10.2f}" for n in others)
        print(f"{name:26s}" + "".join(f"{us:10.2f}" for us in found.values()) + ratios)


if __name__ == "__main__":
    main()
