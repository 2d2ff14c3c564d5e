"""What `divide-once` is worth: a matrix whose rows and columns are made to add up to 1 in turn (Sinkhorn, 1964).

python examples/plugin/sinkhorn.py [SIZE]     # with this package installed; prints microseconds of both, and the ratio
"""

from __future__ import annotations

import sys
from statistics import median
from time import perf_counter

import flambeau as fb


def balanced(x: fb.Tensor, rounds: int = 20) -> fb.Tensor:
    for _ in range(rounds):
        x = x / x.sum(1, keepdim=True)
        x = x / x.sum(0, keepdim=True)
    return x


def seconds(x: fb.Tensor, repeats: int = 20) -> float:
    """The best of several runs, compiled beforehand."""
    times = []
    for _ in range(repeats):
        start = perf_counter()
        balanced(x).numpy()
        times.append(perf_counter() - start)
    return min(times[1:])


def main(size: int = 256) -> None:
    fb.set_num_threads(1)
    x = fb.rand(size, size, dtype=fb.float64)
    found: dict[str, list[float]] = {"with": [], "without": []}
    for _ in range(7):  # interleaved, so that whatever else the machine does meets both
        for name, without in (("with", ()), ("without", ("divide-once",))):
            with fb.compiler_options(mode="blocking", without=without):
                found[name].append(seconds(x))
    with_it, without_it = median(found["with"]), median(found["without"])
    print(
        f"{1e6 * with_it:.0f} us with divide-once, {1e6 * without_it:.0f} us without: {without_it / with_it:.2f} times as fast"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
