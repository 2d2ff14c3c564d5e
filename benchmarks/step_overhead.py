"""The Python cost of a training step: its time minus the time its compiled program runs.

    python benchmarks/step_overhead.py

Runs the MLP step of W1 (batch 64) with blocking compilation; the recorder counts the nanoseconds of every program. Also
1,000 further steps, to see memory stay flat.
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
from flambeau import programs
from flambeau.runtime import recorder


def resident_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


def main() -> None:
    built: list = []
    build = programs.build_program

    def remember(*args: object) -> object:
        built.append(build(*args))
        return built[-1]

    peer.load("", 1)
    recorder.set_hooks(build_program=remember)
    case = peer.make("W1_b64")
    for _ in range(20):
        case.step()
    times, inside = [], []
    for _ in range(300):
        before = sum(p.ns for p in built)
        t = time.perf_counter()
        case.step()
        times.append(time.perf_counter() - t)
        inside.append((sum(p.ns for p in built) - before) * 1e-9)
    step, plan = statistics.median(times), statistics.median(inside)
    overhead = statistics.median(a - b for a, b in zip(times, inside))
    print(f"step {step * 1e6:.0f} us, plan {plan * 1e6:.0f} us, Python and recorder {overhead * 1e6:.1f} us")
    rss, stats = resident_kb(), recorder.stats()
    for _ in range(1000):
        case.step()
    after = recorder.stats()
    print(
        f"1,000 steps: RSS {rss} -> {resident_kb()} KB, programs {stats['builds']} -> {after['builds']}, "
        f"trie states {stats['states']} -> {after['states']}, misses {after['misses'] - stats['misses']}"
    )


if __name__ == "__main__":
    main()
