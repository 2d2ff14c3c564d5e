"""Threads that evaluate one model at once, against one thread: how much more work is done in the same time.

Every kernel runs on the thread that asks for it (`set_num_threads(1)`), and a call of the model takes about 5 ms in kernels.
On two cores with nothing else to do the ratio is close to 2. Where other programs run, the machine may give many threads no more
processor than one, whatever they do: so threads that hash memory, which need no lock at all, take turns with the model, and their
ratio is printed beside it. What counts is the one ratio over the other, in turns in which the machine did give more.

    python benchmarks/threads.py [--check]      --check: exit with 1 if the ratio is too low for what the machine gave
    python benchmarks/threads.py --branches     one model with branches, each too small to be split, by one thread and by two

With --branches times are microseconds, the least of many calls in turns; where other programs run, a second thread is often late.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable

import flambeau as fb

WANTED = 1.6
SECONDS = 0.5  # of each measurement


def make(width: int) -> fb.nn.Module:
    fb.manual_seed(0)
    return fb.nn.Sequential(*(m for _ in range(3) for m in (fb.nn.Linear(width, width), fb.nn.ReLU())))


class Joined(fb.nn.Module):
    """Branches on one input, whose results are joined."""

    def __init__(self, branches: list[fb.nn.Module], join: Callable[[list[fb.Tensor]], fb.Tensor]) -> None:
        super().__init__()
        self.branches, self.join = fb.nn.ModuleList(branches), join

    def forward(self, x: fb.Tensor) -> fb.Tensor:
        return self.join([branch(x) for branch in self.branches])


def convolved(width: int) -> fb.nn.Module:
    """A block of an Inception: 1x1, 3x3 and 5x5 convolutions behind a narrowing one, and one behind pooling."""
    nn, narrow = fb.nn, width // 2
    layers = [[nn.Conv2d(width, narrow, 1), nn.ReLU(), nn.Conv2d(narrow, narrow, k, padding=k // 2)] for k in (1, 3, 5)]
    pooled = [nn.MaxPool2d(3, 1, 1), nn.Conv2d(width, narrow, 1)]
    return Joined([nn.Sequential(*branch) for branch in (*layers, pooled)], lambda found: fb.cat(found, 1))


def ensemble(width: int, members: int) -> fb.nn.Module:
    return Joined([make(width) for _ in range(members)], lambda found: fb.stack(found).mean(0))


NETS: dict[str, Callable[[], tuple[fb.nn.Module, fb.Tensor]]] = {
    "ensemble of 4 perceptrons, 64 wide, batch 64": lambda: (ensemble(64, 4), fb.randn(64, 64)),
    "ensemble of 8 perceptrons, 96 wide, batch 16": lambda: (ensemble(96, 8), fb.randn(16, 96)),
    "block of an Inception, 32 channels of 8x8, batch 1": lambda: (convolved(32), fb.randn(1, 32, 8, 8)),
}


def microseconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return 1e6 * (time.perf_counter() - began)


def show_branches(turns: int) -> None:
    for name, build in NETS.items():
        model, x = build()
        optimizer = fb.optim.SGD(model.parameters(), lr=1e-3)

        def evaluate(model: fb.nn.Module = model, x: fb.Tensor = x) -> float:
            with fb.no_grad():
                return model(x).sum().item()

        def train(model: fb.nn.Module = model, x: fb.Tensor = x, optimizer: fb.optim.Optimizer = optimizer) -> float:
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            return loss.item()

        for what, call in (("forward", evaluate), ("training step", train)):
            times: dict[int, list[float]] = {1: [], 2: []}
            for _ in range(turns):
                for threads, found in times.items():
                    fb.set_num_threads(threads)
                    found += [microseconds(call) for _ in range(100)]
            one, two = (min(found) for found in times.values())
            print(f"{name}, {what}: {one:.0f} us by one thread, {two:.0f} by two: {one / two:.2f}")


def calls_per_second(call: Callable[[], object], threads: int) -> float:
    """Of all threads together."""
    counts = [0] * threads
    start = threading.Barrier(threads + 1)
    stop = threading.Event()

    def work(k: int) -> None:
        with fb.no_grad():
            call()
            start.wait()
            while not stop.is_set():
                call()
                counts[k] += 1

    running = [threading.Thread(target=work, args=(k,)) for k in range(threads)]
    for t in running:
        t.start()
    start.wait()
    began = time.perf_counter()
    time.sleep(SECONDS)
    found = sum(counts) / (time.perf_counter() - began)
    stop.set()
    for t in running:
        t.join()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--branches", action="store_true")
    options = parser.parse_args()
    if options.branches:
        with fb.compiler_options(mode="blocking"):
            show_branches(options.turns)
        return 0
    fb.set_num_threads(1)
    model, x, memory = make(640), fb.randn(128, 640), bytes(8 << 20)
    ratios, given = [], []
    with fb.compiler_options(mode="blocking"), fb.no_grad():
        for _ in range(5):
            model(x).sum().item()
        for _ in range(options.turns):
            one, many = (calls_per_second(lambda: model(x).sum().item(), n) for n in (1, options.threads))
            alone, all_ = (calls_per_second(lambda: hashlib.sha256(memory).digest(), n) for n in (1, options.threads))
            ratios.append(many / one)
            given.append(all_ / alone)
            print(
                f"model: {one:5.0f} calls/s by 1 thread ({1000 / one:.1f} ms), {many:5.0f} by {options.threads}: "
                f"ratio {ratios[-1]:.2f}   hashing: ratio {given[-1]:.2f}"
            )
    ratio, possible = statistics.median(ratios), statistics.median(given)
    print(f"medians on {len(os.sched_getaffinity(0))} cores: {ratio:.2f} for the model, {possible:.2f} for hashing")
    if not options.check or ratio >= WANTED:
        return 0
    if possible < 2 * WANTED / 1.8:
        print("not judged: other programs left many threads hardly more of the processor than one")
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
