#!/usr/bin/env python3
"""Time per element of each math function on arrays that stay in the second-level cache, beside NumPy and PyTorch.

    python benchmarks/math_functions.py [function ...]

Compiled kernels handle four vector registers per iteration, as fused kernels do. Medians of interleaved rounds.
"""

from __future__ import annotations

import ctypes
import statistics
import sys
from collections.abc import Callable
from time import perf_counter

import numpy as np
from flambeau.compiler import targets
from flambeau.compiler.backend import loader, object_code
from flambeau.compiler.codegen.emitter import Emitter
from flambeau.compiler.options import Options
from flambeau.dialects.tape import approximations

COUNT, CALLS, ROUNDS, REGISTERS = 16384, 20, 15, 4
TYPES = {"f32": np.float32, "f64": np.float64}
NUMPY = {name: getattr(np, name) for name in ("exp", "expm1", "log", "log1p", "tanh", "sin", "cos")}
NUMPY["pow"] = np.power
_KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


def compile_map(name: str, element: str) -> Callable[[ctypes.Array], None]:
    """A kernel over COUNT elements: bufs are the operands, then the result."""
    b, function = Emitter(), getattr(approximations, name)
    operands = 2 if name == "pow" else 1
    lanes = targets.find("host").lanes(4 if element == "f32" else 8)
    pointers = [b.buffer(k) for k in range(operands + 1)]
    with b.loop(b.lo, b.hi, lanes * REGISTERS) as loop:
        for r in range(REGISTERS):
            at = b.add(loop.index, r * lanes)
            b.store(function(b, *(b.load(p, at, element, lanes) for p in pointers[:-1])), pointers[-1], at)
    entry = _KERNEL(loader.load(object_code.compile_object(b.source(name), Options())))
    return lambda bufs: entry(bufs, None, 0, COUNT, None)


def candidates(name: str, element: str) -> dict[str, Callable[[], object]]:
    """What to time, by column."""
    rng = np.random.default_rng(0)
    operands = [rng.uniform(0.1, 4.0, COUNT).astype(TYPES[element]) for _ in range(2 if name == "pow" else 1)]
    out = np.empty_like(operands[0])
    kernel = compile_map(name, element)
    bufs = (ctypes.c_void_p * 3)(*(a.ctypes.data for a in (*operands, out)))
    found: dict[str, Callable[[], object]] = {"flambeau": lambda: kernel(bufs)}
    if name in NUMPY:
        found["numpy"] = lambda: NUMPY[name](*operands, out=out)
    if torch := _torch():
        tensors = [torch.from_numpy(x) for x in operands]
        result, function = torch.from_numpy(out), getattr(torch, name)
        found["torch"] = lambda: function(*tensors, out=result)
    return found


def _torch():
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    return torch


def nanoseconds(functions: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median time per element of each, in interleaved rounds."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(ROUNDS):
        for name, function in functions.items():
            start = perf_counter()
            for _ in range(CALLS):
                function()
            times[name].append((perf_counter() - start) / CALLS / COUNT * 1e9)
    return {name: statistics.median(t) for name, t in times.items()}


def main() -> None:
    names = sys.argv[1:] or [n for n in approximations.__all__ if n != "philox"]
    print(f"ns per element, {COUNT} elements, one thread\n{'':14}{'flambeau':>10}{'numpy':>10}{'torch':>10}")
    for name in names:
        for element in TYPES:
            result = nanoseconds(candidates(name, element))
            cells = "".join(
                f"{result[c]:10.3f}" if c in result else f"{'-':>10}" for c in ("flambeau", "numpy", "torch")
            )
            print(f"{name:8}{element:6}{cells}", flush=True)


if __name__ == "__main__":
    main()
