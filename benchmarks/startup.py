"""Time from process start: import, and the digits-sized MLP of W1 to the end of its third step.

    python benchmarks/startup.py

Each figure is the median of `--runs` fresh processes: import beyond bare Python; three training steps with an empty
cache in background mode, and when compiled speed is reached; the same with a warm cache, and whether MLIR was imported.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent

CHILD = """
import json, sys, time
start = float(sys.argv[1])
sys.path.insert(0, {peers!r})
import flambeau_peer as peer
peer.load("", 1)
case = peer.make("W1_b64")
for _ in range(3):
    loss = case.step()
peer.fb.flush()
third = time.time() - start
best, reached, deadline = None, None, time.time() + {wait}
while time.time() < deadline:
    t = time.perf_counter()
    case.step()
    best = time.perf_counter() - t
    if all(r.tier == "fused" for r in peer.fb.explain().reports[-1:]) and peer.fb.explain().reports:
        reached = time.time() - start
        break
print(json.dumps(dict(third=third, reached=reached, mlir="torch_mlir" in sys.modules, loss=float(case.loss(loss)))))
"""


def run(code: str, **env: str) -> tuple[float, str]:
    """Seconds of a fresh process, and what it printed."""
    environment = {**os.environ, **env, "OPENBLAS_NUM_THREADS": "1"}
    t = time.perf_counter()
    child = subprocess.run(
        [sys.executable, "-c", code, str(time.time())], env=environment, capture_output=True, text=True, check=True
    )
    return time.perf_counter() - t, child.stdout


def median_time(code: str, runs: int) -> float:
    return statistics.median(run(code)[0] for _ in range(runs))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--runs", type=int, default=5)
    args = p.parse_args()
    bare = median_time("pass", args.runs)
    print(f"import beyond bare Python  {median_time('import flambeau', args.runs) - bare:.3f} s (bare {bare:.3f} s)")
    code = CHILD.format(peers=str(HERE / "peers"), wait=20)
    for mode in ("background", "blocking"):
        cold, warm = [], []
        for _ in range(args.runs):
            with tempfile.TemporaryDirectory() as cache:
                for results in (cold, warm):
                    results.append(json.loads(run(code, FLAMBEAU_COMPILE=mode, FLAMBEAU_CACHE=cache)[1]))
        for name, results in (("empty cache", cold), ("warm cache", warm)):
            third = statistics.median(r["third"] for r in results)
            reached = statistics.median(r["reached"] or float("inf") for r in results)
            mlir = any(r["mlir"] for r in results)
            print(f"{mode:10s} {name}: third step {third:.2f} s, compiled speed {reached:.2f} s, MLIR imported: {mlir}")


if __name__ == "__main__":
    main()
