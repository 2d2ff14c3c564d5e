"""Threads that evaluate one model at once, against one thread: how much more work is done in the same time.

Every kernel runs on the thread that asks for it (`set_num_threads(1)`), and a call of the model takes about 5 ms in kernels.
One thread and eight threads take turns; the ratio of each turn is printed, and the median. On two cores with nothing
else to do it is close to 2. Where other programs run, the share of the processor that the threads got is printed beside it:
`used` is seconds of processor per second; many threads cannot do more work than they get processor.

    python benchmarks/threads.py [--check]      --check: exit with 1 if the median is below 1.6, and the cores were free
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import threading
import time

import flambeau as fb

WANTED = 1.6
SECONDS = 1.0  # of each measurement


def make(width: int) -> fb.nn.Module:
    fb.manual_seed(0)
    return fb.nn.Sequential(*(m for _ in range(3) for m in (fb.nn.Linear(width, width), fb.nn.ReLU())))


def calls_in(model: fb.nn.Module, x: fb.Tensor, threads: int) -> tuple[float, float]:
    """Calls per second of all threads together, and processor seconds per second."""
    counts = [0] * threads
    start = threading.Barrier(threads + 1)
    stop = threading.Event()

    def work(k: int) -> None:
        with fb.no_grad():
            model(x).sum().item()
            start.wait()
            while not stop.is_set():
                model(x).sum().item()
                counts[k] += 1

    running = [threading.Thread(target=work, args=(k,)) for k in range(threads)]
    for t in running:
        t.start()
    start.wait()
    began, used = time.perf_counter(), time.process_time()
    time.sleep(SECONDS)
    stop.set()
    for t in running:
        t.join()
    elapsed = time.perf_counter() - began
    return sum(counts) / elapsed, (time.process_time() - used) / elapsed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    fb.set_num_threads(1)
    model, x = make(640), fb.randn(128, 640)
    with fb.compiler_options(mode="blocking"), fb.no_grad():
        for _ in range(5):
            model(x).sum().item()
        ratios, shares = [], []
        for _ in range(options.turns):
            one, share_of_one = calls_in(model, x, 1)
            many, share = calls_in(model, x, options.threads)
            ratios.append(many / one)
            shares.append(share / share_of_one)
            print(
                f"1 thread: {one:6.1f} calls/s ({1000 / one:.1f} ms, used {share_of_one:.2f})   "
                f"{options.threads} threads: {many:6.1f} calls/s (used {share:.2f})   ratio {many / one:.2f}"
            )
    ratio, share = statistics.median(ratios), statistics.median(shares)
    cores = len(os.sched_getaffinity(0))
    print(f"median ratio {ratio:.2f} on {cores} cores; the threads used {share:.2f} times the processor of one")
    if not options.check or ratio >= WANTED:
        return 0
    if share < WANTED:
        print(f"not judged: other programs left the threads less than {WANTED} times the processor of one")
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
