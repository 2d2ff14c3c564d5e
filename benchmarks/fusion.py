"""What fusing a value into its reader gains: `taskset -c 1 python benchmarks/fusion.py [name ...]`, on one thread.

Each case is compiled twice: as it is, and with the value in question returned as well, so that it has to be stored and
its reader reads it. The two take turns; medians in milliseconds, and how many kernels each has.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from flambeau.compiler import driver
from flambeau.compiler.options import Options
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.dtypes import DType, float32
from flambeau.runtime import _binding as runtime
from loop_kernels import op, rows


class Case(NamedTuple):
    """The results of a program, and the values between its ops that may be fused away."""

    results: list[Value]
    between: list[Value]


def array(b: GraphBuilder, *shape: int, dtype: DType = float32) -> Value:
    return b.input(Aval(shape, dtype))


def turned(x: Value) -> Value:
    rank = len(x.shape)
    return op("permute", x, perm=(*range(rank - 2), rank - 1, rank - 2))


def relu(x: Value) -> Value:
    return op("maximum", x, x.like(0.0))


# ---- elementwise into products ----------------------------------------------------------------------------------


def relu_left(b: GraphBuilder, m: int, n: int, k: int) -> Case:
    y = relu(array(b, m, k))
    return Case([op("matmul", y, array(b, k, n))], [y])


def relu_left_turned(b: GraphBuilder, m: int, n: int, k: int) -> Case:
    """The right operand is read in place of its transpose, as a layer's weights are."""
    y = relu(array(b, m, k))
    return Case([op("matmul", y, turned(array(b, n, k)))], [y])


def normed(b: GraphBuilder, m: int, n: int, k: int) -> Case:
    x = array(b, m, k)
    y = (x - rows(array(b, m), x.shape)) * rows(array(b, m), x.shape)
    return Case([op("matmul", y, array(b, k, n))], [y])


def gelu_left(b: GraphBuilder, m: int, n: int, k: int) -> Case:
    x = array(b, m, k)
    y = x * (op("erf", x * 0.70710678) + 1.0) * 0.5
    return Case([op("matmul", y, array(b, k, n))], [y])


def masked_right(b: GraphBuilder, m: int, n: int, k: int) -> Case:
    """The gradient of a layer's weights: x.T @ (dy * mask)."""
    dy, h = array(b, k, n), array(b, k, n)
    y = op("select", h > h.like(0.0), dy, dy.like(0.0))
    return Case([op("matmul", turned(array(b, k, m)), y)], [y])


def masked_left(b: GraphBuilder, m: int, n: int, k: int) -> Case:
    """The gradient of a layer's input: (dy * mask) @ w."""
    dy, h = array(b, m, k), array(b, m, k)
    y = op("select", h > h.like(0.0), dy, dy.like(0.0))
    return Case([op("matmul", y, array(b, k, n))], [y])


def masked_left_turned(b: GraphBuilder, m: int, n: int, k: int) -> Case:
    """The gradient of a layer's weights, transposed: (dy * mask).T @ x."""
    dy, h = array(b, k, m), array(b, k, m)
    y = op("select", h > h.like(0.0), dy, dy.like(0.0))
    return Case([op("matmul", turned(y), array(b, k, n))], [y])


def scores(b: GraphBuilder, heads: int, n: int, k: int) -> Case:
    """(q * scale) @ k.T of every head."""
    y = array(b, heads, n, k) * 0.125
    return Case([op("matmul", y, turned(array(b, heads, n, k)))], [y])


def scaled_keys(b: GraphBuilder, heads: int, n: int, k: int) -> Case:
    y = array(b, heads, n, k) * 0.125
    return Case([op("matmul", array(b, heads, n, k), turned(y))], [y])


def matvec(b: GraphBuilder, m: int, k: int) -> Case:
    y = relu(array(b, m, k))
    return Case([op("matmul", y, array(b, k, 1))], [y])


def vecmat(b: GraphBuilder, n: int, k: int) -> Case:
    y = relu(array(b, k, n))
    return Case([op("matmul", array(b, 1, k), y)], [y])


# ---- into concats -----------------------------------------------------------------------------------------------


def rotated(b: GraphBuilder, n: int, k: int) -> Case:
    """cat([-x2, x1], -1), as rotary embeddings do."""
    x = array(b, n, k)
    first, second = (op("slice", x, starts=(0, at), sizes=(n, k // 2), steps=(1, 1)) for at in (0, k // 2))
    y = op("neg", second)
    return Case([op("concat", y, first, dim=1)], [y])


def columns_joined(b: GraphBuilder, n: int, k: int) -> Case:
    parts = [relu(array(b, n, k)), array(b, n, k) * 2.0]
    return Case([op("concat", *parts, dim=1)], parts)


def rows_joined(b: GraphBuilder, n: int, k: int) -> Case:
    parts = [relu(array(b, n, k)), array(b, n, k) * 2.0]
    return Case([op("concat", *parts, dim=0)], parts)


def products_joined(b: GraphBuilder, m: int, n: int, k: int) -> Case:
    parts = [op("matmul", array(b, m, k), array(b, k, n)) for _ in range(2)]
    return Case([op("concat", *parts, dim=0)], parts)


# ---- into reductions --------------------------------------------------------------------------------------------


def squared_error(b: GraphBuilder, n: int, k: int) -> Case:
    """The sum of (x - target)^2 with a target per row, over all axes."""
    x = array(b, n, k)
    y = x - rows(array(b, n), x.shape)
    square = y * y
    return Case([op("sum", square, axes=(0, 1))], [square])


def weighted_rows(b: GraphBuilder, n: int, m: int, k: int) -> Case:
    """Sums over two outer axes of values with a weight along one of them."""
    x = array(b, n, m, k)
    y = x * op("broadcast", array(b, n, 1, 1), shape=x.shape)
    return Case([op("sum", y, axes=(0, 1))], [y])


def small_weights(b: GraphBuilder, n: int, k: int) -> Case:
    x = array(b, n, k)
    w = op("tanh", array(b, k))
    stretched = op("broadcast", op("reshape", w, shape=(1, k)), shape=x.shape)
    return Case([op("sum", x * stretched, axes=(1,))], [w])


CASES: dict[str, tuple[Callable[..., Case], tuple[int, ...]]] = {
    "relu(x) @ w 64x512x784": (relu_left, (64, 512, 784)),
    "relu(x) @ w 512x512x784": (relu_left, (512, 512, 784)),
    "relu(x) @ w.T 512x512x784": (relu_left_turned, (512, 512, 784)),
    "relu(x) @ w 512x10x256": (relu_left, (512, 10, 256)),
    "relu(x) @ w 4096x64x1024": (relu_left, (4096, 64, 1024)),
    "relu(x) @ w 8x1024x1024": (relu_left, (8, 1024, 1024)),
    "normed @ w 1024x1024x1024": (normed, (1024, 1024, 1024)),
    "normed @ w 4096x256x256": (normed, (4096, 256, 256)),
    "gelu(x) @ w 512x256x1024": (gelu_left, (512, 256, 1024)),
    "x.T @ masked 784x512x512": (masked_right, (784, 512, 512)),
    "x.T @ masked 784x512x64": (masked_right, (784, 512, 64)),
    "masked @ w 512x784x512": (masked_left, (512, 784, 512)),
    "masked.T @ x 512x784x512": (masked_left_turned, (512, 784, 512)),
    "(q/8) @ k.T 96x128x64": (scores, (96, 128, 64)),
    "q @ (k/8).T 96x128x64": (scaled_keys, (96, 128, 64)),
    "(q/8) @ k.T 8x1024x64": (scores, (8, 1024, 64)),
    "relu(x) @ v 2048x2048": (matvec, (2048, 2048)),
    "v @ relu(x) 2048x2048": (vecmat, (2048, 2048)),
    "relu(x) @ w 16x16x16": (relu_left, (16, 16, 16)),
    "cat([-x2, x1], 1) 12288x64": (rotated, (12288, 64)),
    "cat([relu, 2y], 1) 4096x512": (columns_joined, (4096, 512)),
    "cat([relu, 2y], 0) 4096x512": (rows_joined, (4096, 512)),
    "cat([a@b, c@d], 0) 512x512x64": (products_joined, (512, 512, 64)),
    "sum((x-t)^2) 1024x1024": (squared_error, (1024, 1024)),
    "sum((x-t)^2) 64x512": (squared_error, (64, 512)),
    "sum(x*w, (0,1)) 64x32x512": (weighted_rows, (64, 32, 512)),
    "sum(x*tanh(w), 1) 8x64": (small_weights, (8, 64)),
}


def random(shape: tuple[int, ...]) -> np.ndarray:
    """Numbers between 0 and 1 that begin on a cache line, as buffers do."""
    room = np.empty(4 * math.prod(shape) + 64, np.uint8)
    start = -room.ctypes.data % 64
    x = room[start : start + 4 * math.prod(shape)].view(np.float32).reshape(shape)
    x[...] = np.random.default_rng(0).random(shape)
    return x


class Compiled:
    """The fused plan of a program; `run` runs it on inputs that all programs of a case share."""

    def __init__(self, make: Callable[..., Case], sizes: tuple[int, ...], stores: bool, like: Compiled | None) -> None:
        b = GraphBuilder()
        case = make(b, *sizes)
        b.graph.outputs = [v.id for v in (*case.results, *(case.between if stores else ()))]
        self.inputs = like.inputs if like else [random(b.graph.avals[v].shape) for v in b.graph.inputs]
        self.executable = driver.compile(b.graph, Options(mode="blocking"))
        self.run()
        self.steps = self.executable.report.steps

    def run(self) -> None:
        self.executable(self.inputs)


def medians(contestants: list[Compiled], seconds: float) -> list[float]:
    """Milliseconds of processor time of each, taking turns of about a millisecond."""
    times: list[list[float]] = [[] for _ in contestants]
    counts = []
    for c in contestants:
        c.run()
        begin = time.process_time()
        c.run()
        counts.append(max(1, int(1e-3 / (time.process_time() - begin))))
    end = time.process_time() + seconds
    while time.process_time() < end or len(times[0]) < 5:
        for c, found, count in zip(contestants, times, counts, strict=True):
            begin = time.process_time()
            for _ in range(count):
                c.run()
            found.append((time.process_time() - begin) / count * 1e3)
    return [sorted(found)[len(found) // 2] for found in times]


def main(wanted: list[str]) -> None:
    runtime.set_num_threads(1)
    for name, (make, sizes) in CASES.items():
        if wanted and not any(w in name for w in wanted):
            continue
        plain = Compiled(make, sizes, False, None)
        pair = [plain, Compiled(make, sizes, True, plain)]
        fused, apart = medians(pair, 1.0)
        kernels = " and ".join(str(c.steps) for c in pair)
        print(
            f"{name:28} fused {fused:8.4f} ms  apart {apart:8.4f} ms  x{apart / fused:5.2f}  {kernels} kernels",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
