"""Kinds of the fuzzer whose cases are many numbers at once, or many threads: approximations beside exact values, calls of several
threads beside the same calls alone.

Each has a seed and says what is wrong, or None. Next: `fuzz_kinds.py`.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from typing import Any

import flambeau as fb
import numpy as np
import test_approximations as first
import test_approximations_special as further
from flambeau.runtime import recorder
from fuzz_calls import Call, alike
from fuzz_programs import Kind

# ---- approximations ---------------------------------------------------------------------------------------------

#: The tests' bounds are the greatest distances that they have seen; others may lie a little further.
BEYOND = 1.25
RANGES = {"exp": (-100, 88), "expm1": (-40, 88), "log": (1e-3, 9), "log1p": (-0.9, 9), "tanh": (-12, 12), "erf": (-6, 6),
          "sigmoid": (-99, 99), "sin": (-99, 99), "cos": (-99, 99), "rsqrt": (1e-3, 9)}  # fmt: skip


def interval(rng: random.Random, low: float, high: float, count: int) -> np.ndarray:
    """Points of a part of a range: next to a number of any magnitude, or from there to near 0."""
    up = low >= 0 or rng.random() < 0.7
    end = min(high, 10 ** rng.uniform(-3, 3)) if up else max(low, -(10 ** rng.uniform(-3, 3)))
    begin = end * rng.choice((0.1, 0.5, 0.5, 0.99))
    return np.random.default_rng(rng.getrandbits(32)).uniform(min(begin, end), max(begin, end), count)


def accuracy(seed: int) -> str | None:
    """An approximation on intervals that are drawn, within the bound that its tests have for it."""
    rng = random.Random(seed)
    name, dtype = rng.choice([*RANGES, *further.CASES]), rng.choice(("float32", "float64"))
    ranges = RANGES[name] if name in RANGES else further.RANGES[name]
    low, high = ranges if isinstance(ranges, tuple) else ranges[dtype]
    count = 8 if "_k" in name else 60  # exact K takes long
    x = np.concatenate([interval(rng, low, high, count) for _ in range(6)]).astype(dtype)
    x = x[(x > max(low, 0) if low >= 0 else x >= low) & (x <= high)]
    if not x.size:
        return None
    if name in RANGES:
        error, bound, where = first.worst(name, dtype, x), first.ULP[name], None
    else:
        (error, where), bound = further.worst(name, dtype, x), further.CASES[name][2]
    if error <= BEYOND * bound:
        return None
    return f"{name} of {dtype}: {error:.3g} units off, {bound:g} is the bound, at {where} or in {x.min()}..{x.max()}"


# ---- threads ----------------------------------------------------------------------------------------------------


def draws(call: Call) -> bool:
    """Whether a call takes random numbers, which are those of all threads."""
    fb.manual_seed(7)
    before = fb.get_rng_state().tolist()
    call.run()
    return fb.get_rng_state().tolist() != before


def pausing(rng: random.Random, share: float) -> Any:
    """A trace function that lets the other threads go on at a share of the lines of the package: threads meet inside of what the
    interpreter would nearly always run at one go."""
    here, draw = os.path.dirname(fb.__file__) + os.sep, rng.random

    def local(frame: Any, event: str, argument: Any) -> Any:
        if draw() < share:
            time.sleep(1e-4)
        return local

    return lambda frame, event, argument: local if frame.f_code.co_filename.startswith(here) else None


def together(seed: int) -> str | None:
    """Calls that nobody has made before, by several threads at once, then each alone."""
    rng = random.Random(seed)
    names = [[rng.getrandbits(30) for _ in range(rng.choice((2, 6)))] for _ in range(rng.choice((2, 2, 4)))]
    if rng.random() < 0.4:
        names[1:] = [rng.sample(names[0], len(names[0])) for _ in names[1:]]  # the same calls, in another order
    calls = [[Call(n) for n in row] for row in names]
    found: list[list[Any]] = [[] for _ in calls]
    start = threading.Barrier(len(calls))
    pauses = [pausing(random.Random(seed + k), 0.02) if seed % 2 else None for k in range(len(calls))]

    def work(k: int) -> None:
        sys.settrace(pauses[k])
        with fb.compiler_options(mode="off"):
            start.wait()
            for call in calls[k]:
                try:
                    found[k].append(call.run())
                except Exception as error:
                    found[k].append(error)

    recorder.clear()
    before = sys.getswitchinterval()
    sys.setswitchinterval(rng.choice((1e-6, 1e-5, 1e-4)))
    try:
        threads = [threading.Thread(target=work, args=(k,)) for k in range(len(calls))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        sys.setswitchinterval(before)
    with fb.compiler_options(mode="off"):
        for row, results in zip(calls, found, strict=True):
            for call, result in zip(row, results, strict=True):
                if isinstance(result, Exception):
                    return f"beside other threads: {type(result).__name__}: {result}: {call}"
                if not alike(result, wanted := call.run()) and not draws(call):
                    return f"beside other threads: {result} instead of {wanted}: {call}"
    return None


KINDS = {
    "accuracy": Kind(accuracy, None, 0.5),
    "together": Kind(together),
}
