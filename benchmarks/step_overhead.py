"""The Python cost of a training step: its time minus the time its compiled program runs.

    python benchmarks/step_overhead.py

Runs the MLP step of W1 (batch 64) with blocking compilation; the recorder counts the nanoseconds of every program. Also
1,000 further steps, to see memory stay flat. Then W4's net with width 8 and one token, beside PyTorch's eager step where that is
installed: there is next to nothing to compute, so that step is what PyTorch's Python and dispatch cost.
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("FLAMBEAU_COMPILE", "blocking")
sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

import flambeau_peer as peer
import workloads
from flambeau import programs
from flambeau.runtime import recorder
from turns import find_torch
from workloads import Case

SMALL = {"d": 8, "T": 1, "B": 1}


class Inside:
    """The nanoseconds that programs ran; from `watch` on."""

    def __init__(self) -> None:
        self.built: list = []
        self.build = programs.build_program

    def watch(self) -> None:
        recorder.set_hooks(build_program=self.remember)

    def remember(self, *args: object) -> object:
        self.built.append(self.build(*args))
        return self.built[-1]

    def ns(self) -> int:
        return sum(p.ns for p in self.built)


def resident_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


def step_times(case: Case, inside: Inside, steps: int) -> tuple[list[float], list[float]]:
    """Seconds of each step, and those of them in programs."""
    times, within = [], []
    for _ in range(steps):
        before = inside.ns()
        t = time.perf_counter()
        case.step()
        times.append(time.perf_counter() - t)
        within.append((inside.ns() - before) * 1e-9)
    return times, within


def outside(times: list[float], within: list[float]) -> float:
    """Microseconds: the median of what a step takes beside its programs."""
    return statistics.median(a - b for a, b in zip(times, within)) * 1e6


def of_perceptron(inside: Inside) -> None:
    case = peer.make("W1_b64")
    for _ in range(20):
        case.step()
    times, within = step_times(case, inside, 300)
    step, plan = statistics.median(times), statistics.median(within)
    print(
        f"step {step * 1e6:.0f} us, plan {plan * 1e6:.0f} us, Python and recorder {outside(times, within):.1f} us",
        flush=True,
    )
    rss, stats = resident_kb(), recorder.stats()
    for _ in range(1000):
        case.step()
    after = recorder.stats()
    print(
        f"1,000 steps: RSS {rss} -> {resident_kb()} KB, programs {stats['builds']} -> {after['builds']}, "
        f"trie states {stats['states']} -> {after['states']}, misses {after['misses'] - stats['misses']}"
    )


def of_small_gpt(inside: Inside, turns: int = 15) -> None:
    """In turns with PyTorch, which runs on one thread."""
    workloads.GPT.update(SMALL)
    case, other = peer.make("W4"), None
    if find_torch():
        import torch_peer

        torch_peer.load("eager", 1)
        other = torch_peer.make("W4")
    losses = [(case.step(), other.step() if other else None) for _ in range(20)]
    if other and abs(losses[-1][0] - losses[-1][1]) > 1e-3:
        sys.exit(f"the loss is {losses[-1][0]} here and {losses[-1][1]} in PyTorch")
    ours, whole, theirs = [], [], []
    for _ in range(turns):
        times, within = step_times(case, inside, 100)
        ours.append(outside(times, within))
        whole.append(statistics.median(times) * 1e6)
        if other:
            theirs.append(outside(*step_times(other, inside, 20)))
    cost = statistics.median(ours)
    print(f"W4, width 8, one token: step {statistics.median(whole):.0f} us, Python and recorder {cost:.1f} us", end="")
    if theirs:
        print(
            f"; PyTorch eager {statistics.median(theirs):.0f} us, ratio {cost / statistics.median(theirs):.3f}", end=""
        )
    print()


def main() -> None:
    peer.load("", 1)
    inside = Inside()
    inside.watch()
    of_perceptron(inside)
    of_small_gpt(inside)


if __name__ == "__main__":
    main()
