"""Sorting, the first k, different elements, searches and counts of a million numbers, Flambeau beside PyTorch.

    python benchmarks/sorting.py [--threads N] [name ...]

Both are in one process and take turns; medians in milliseconds, how many times faster Flambeau is, and the geometric mean of that.
PyTorch's sort is the faster one that is not stable. Blocking compilation; everything was done three times before.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import flambeau as fb
import numpy as np
from turns import beside, count, find_torch, flushed, medians

N = 1_000_000
#: Shapes, and the dim along which they are sorted.
SHAPES = (((N,), 0), ((1000, 1000), 1), ((1000, 1000), 0))
DTYPES = (np.float32, np.int64)
TURN, TURNS = 0.05, 9

Call = Callable[[ModuleType, Any, int], Any]
ALONG: dict[str, Call] = {
    "sort": lambda m, x, dim: m.sort(x, dim=dim),
    "argsort": lambda m, x, dim: m.argsort(x, dim=dim),
    **{f"topk {k}": lambda m, x, dim, k=k: m.topk(x, k, dim) for k in (10, 100, 1000)},  # type: ignore[misc]
}
WHOLE: dict[str, Call] = {
    "unique": lambda m, x, dim: m.unique(x),
    "unique inverse": lambda m, x, dim: m.unique(x, return_inverse=True),
}


def cases() -> list[tuple[str, Callable[[ModuleType], Callable[[], Any]]]]:
    """Names, and what makes a call of a module's function."""
    rng, found = np.random.default_rng(0), []
    for dtype in DTYPES:
        for shape, dim in SHAPES:
            data = (rng.normal(size=shape) * 1e6).astype(dtype)
            calls = {**ALONG, **(WHOLE if len(shape) == 1 else {})}
            found += [(_label(n, dtype, shape, dim), _call(f, data, dim)) for n, f in calls.items()]
        line = (rng.normal(size=N) * 1e6).astype(dtype)
        found.append((_label("searchsorted", dtype, (N,), 0), _search(np.sort(line), line)))
    for bins in (1000, 100_000):
        places = rng.integers(0, bins, N)
        found.append((_label(f"bincount {bins}", np.int64, (N,), 0), _call(lambda m, x, dim: m.bincount(x), places, 0)))
    return found


def _label(name: str, dtype: Any, shape: tuple[int, ...], dim: int) -> str:
    return f"{name:16}{np.dtype(dtype).name:9}{'x'.join(map(str, shape)):10}{dim}"


def _call(function: Call, data: np.ndarray, dim: int) -> Callable[[ModuleType], Callable[[], Any]]:
    def make(m: ModuleType) -> Callable[[], Any]:
        x = m.tensor(data)
        return lambda: function(m, x, dim)

    return make


def _search(ordered: np.ndarray, values: np.ndarray) -> Callable[[ModuleType], Callable[[], Any]]:
    def make(m: ModuleType) -> Callable[[], Any]:
        x, v = m.tensor(ordered), m.tensor(values)
        return lambda: m.searchsorted(x, v)

    return make


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("names", nargs="*")
    given = arguments.parse_args()
    fb.set_num_threads(given.threads)
    torch = find_torch()
    if torch:
        torch.set_num_threads(given.threads)
    modules = {"Flambeau": fb, **({"PyTorch": torch} if torch else {})}
    ratios = []
    for label, make in cases():
        if given.names and not any(label.startswith(name) for name in given.names):
            continue
        with fb.compiler_options(mode="blocking"):
            steps = {k: flushed(m, make(m)) for k, m in modules.items()}
            counts = {k: count(step, TURN, tries=2) for k, step in steps.items()}
            found = medians(steps, counts, TURNS)
        columns, ratio = beside(found)
        ratios += [] if ratio is None else [ratio]
        print(f"{label:40}{columns}", flush=True)
    if ratios:
        print(f"geometric mean of {len(ratios)}: {math.exp(sum(map(math.log, ratios)) / len(ratios)):.2f}")


if __name__ == "__main__":
    main()
