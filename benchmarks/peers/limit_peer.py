"""The machine's limits, measured in turns with the peers: independent multiply-adds in registers, and reading much memory.

As a peer its steps take as long as the workload's operations or bytes would at that rate. `threads` of them work at once.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import counts
import numpy as np
from workloads import Case, Unsupported

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

#: Bytes that are read, more than caches hold.
READ = 256 << 20


def load(variant, threads):
    global gemm, pool, T
    import gemm

    T = threads
    pool = ThreadPoolExecutor(threads)
    return {}


def at_once(calls):
    """Run them on threads; kernels leave the interpreter's lock."""
    return lambda: [done.result() for done in [pool.submit(call) for call in calls]]


def make(name):
    if (flops := counts.flops(name)) is not None:
        each = gemm.PEAK_STEPS * gemm.PEAK_CHAINS * gemm.TARGET.lanes(4) * 2 * T
        return Case(at_once([gemm.peak() for _ in range(T)]), inner=each / flops)
    if (needed := counts.read_bytes(name)) is not None:
        parts = np.array_split(np.ones(READ // 8), T)
        return Case(at_once([gemm.reading(part) for part in parts]), inner=READ / needed)
    raise Unsupported("neither arithmetic of products nor memory limits it")
