"""What benchmarks of Flambeau beside PyTorch have in common: turns of about the same length, and a peer that may be missing.

In: functions to time. Out: microseconds a call, columns of them. Nothing here loads Flambeau: some benchmarks time a process from
its start.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from types import ModuleType

Step = Callable[[], object]
#: Seconds; `time.process_time` on a machine that does other things.
clock = time.perf_counter


def count(step: Step, length: float, tries: int = 20) -> int:
    """How many calls make a turn of so many seconds."""
    return max(1, int(length / (turn(step, tries) / 1e6)))


def turn(step: Step, n: int) -> float:
    """Microseconds of one of `n` calls."""
    began = clock()
    for _ in range(n):
        step()
    return (clock() - began) / n * 1e6


def medians(steps: Mapping[str, Step], counts: Mapping[str, int], turns: int) -> dict[str, float]:
    """Microseconds of a call of each: the medians of so many turns, which they take one after the other."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        for name, step in steps.items():
            times[name].append(turn(step, counts[name]))
    return {name: statistics.median(each) for name, each in times.items()}


def beside_peers(
    name: str,
    called: Callable[[ModuleType, str], Step],
    compiled: Callable[[ModuleType, str], Step],
    modules: tuple[ModuleType, ModuleType | None, ModuleType | None],
    length: float,
    turns: int,
) -> dict[str, float]:
    """Microseconds of a task for Flambeau and PyTorch, which `called` calls, and for JAX, where they are there."""
    ours, torch, jax = modules
    steps = {"Flambeau": called(ours, name)}
    if torch:
        steps["PyTorch"] = called(torch, name)
    if jax:
        steps["JAX"] = compiled(jax, name)
    return medians(steps, {k: count(step, length, tries=3) for k, step in steps.items()}, turns)


def flushed(m: ModuleType, run: Callable[[], object]) -> Step:
    """`run`, and what Flambeau has only recorded by then; done three times now. `m` is one of the two modules."""
    flush = getattr(m, "flush", None)

    def step() -> None:
        found = run()
        if flush:
            flush()
        del found

    for _ in range(3):
        step()
    return step


def beside(found: Mapping[str, float]) -> tuple[str, float | None]:
    """Columns of Flambeau's milliseconds, and, where PyTorch is there, of its own and how many times faster Flambeau is."""
    ours, theirs = found["Flambeau"], found.get("PyTorch")
    if theirs is None:
        return f"{ours / 1e3:10.3f}", None
    return f"{ours / 1e3:10.3f}{theirs / 1e3:10.3f}{theirs / ours:8.2f}", theirs / ours


def find_torch() -> ModuleType | None:
    """PyTorch on one thread, if it is installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    return torch
