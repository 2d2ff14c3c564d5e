"""Threads that evaluate one model at once, against one thread: how much more work is done in the same time.

Every kernel runs on the thread that asks for it (`set_num_threads(1)`), and a call of the model takes about 5 ms in kernels.
On two cores with nothing else to do the ratio is close to 2. Where other programs run, the machine may give many threads no more
processor than one, whatever they do: so threads that hash memory, which need no lock at all, take turns with the model, and their
ratio is printed beside it. What counts is the one ratio over the other, in turns in which the machine did give more.

    python benchmarks/threads.py [--check]      --check: exit with 1 if the ratio is too low for what the machine gave
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
    options = parser.parse_args()
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
