"""What equal parts of a program cost to compile: layers, and micro-batches of one step.

    python benchmarks/equal_parts.py [--runs 3]

Each figure is of a fresh process with an empty cache, on one core and blocking, without the import: seconds of the processor
(other programs do not count) to full speed, the least of `--runs`, and how many kernels were compiled. `layers`: forward,
backward and Adam of residual blocks of width 64; `micro-batches`: backward calls of a small MLP that nobody reads, then Adam.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile

LAYERS = """
class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.a, self.b = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        return x + self.b(nn.functional.gelu(self.a(self.norm(x))))

model, x = nn.Sequential(*[Block(64) for _ in range(n)]), fb.randn(16, 64)
optimizer = fb.optim.Adam(model.parameters(), lr=1e-3)

def step():
    optimizer.zero_grad()
    (model(x) ** 2).mean().backward()
    optimizer.step()
"""
MICRO_BATCHES = """
model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = fb.optim.Adam(model.parameters(), lr=1e-3)
batches = [fb.randn(8, 20) for _ in range(n)]

def step():
    optimizer.zero_grad()
    for x in batches:
        (model(x).square().mean() / n).backward()
    optimizer.step()
"""
CHILD = """
import json, os, time
import flambeau as fb
from flambeau import nn
from flambeau.compiler.caches import kernel_cache
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
n = {n}
begin = time.process_time()
{program}
for _ in range(4):
    step()
fb.flush()
print(json.dumps([time.process_time() - begin, kernel_cache.shared().statistics.compiled]))
"""
ROWS = {"layers": (LAYERS, (2, 24)), "micro-batches": (MICRO_BATCHES, (2, 128))}


def cost(program: str, n: int) -> tuple[float, int]:
    """Seconds of a fresh process, and kernels compiled."""
    with tempfile.TemporaryDirectory() as cache:
        child = subprocess.run(
            [sys.executable, "-c", CHILD.format(program=program, n=n)],
            env={**os.environ, "FLAMBEAU_CACHE": cache, "FLAMBEAU_COMPILE": "blocking", "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
    seconds, kernels = json.loads(child.stdout)
    return seconds, kernels


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--runs", type=int, default=3)
    args = p.parse_args()
    for name, (program, counts) in ROWS.items():
        few, many = (min(cost(program, n) for _ in range(args.runs)) for n in counts)
        print(
            f"{name}: {counts[0]} {few[0]:.2f} s, {few[1]} kernels; {counts[1]} {many[0]:.2f} s, {many[1]} kernels; "
            f"ratio {many[0] / few[0]:.2f}"
        )


if __name__ == "__main__":
    main()
