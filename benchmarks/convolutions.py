"""Convolutions and both gradients on one thread beside torch and the peak: `python benchmarks/convolutions.py [cnn gan ...]
[--target x86-64-v3]`, for vectors of 256 bits, whose own peak is then the limit.

Kernels are called through ctypes, without the plan runner. Ours and torch (one thread, if it is installed) take turns; the least
processor time of each counts. The peak is that of independent multiply-adds, measured in the same run; useful ones count: zeros
around maps that are multiplied are loss. Pin the process to one core (`taskset -c 1`).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import NamedTuple

import gemm
import numpy as np
from flambeau.compiler import targets
from flambeau.compiler.groups import generate
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import cluster
from flambeau.compiler.schedules.choose import choose
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float32
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find
from turns import find_torch

#: What is computed: forward, the gradient by the maps, that by the kernel.
OPS = {"f": "convolution", "d": "convolution_input", "w": "convolution_weight"}


#: Seconds of a contestant's turn, at least.
TURN = 2e-3


class Layer(NamedTuple):
    """A convolution of square maps: channels in and out, extents of kernel and map, stride, padding, images, groups."""

    inputs: int
    outputs: int
    kernel: int
    map: int
    stride: int
    padding: int
    batch: int
    groups: int = 1

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        size = (self.map + 2 * self.padding - self.kernel) // self.stride + 1
        return {
            "x": (self.batch, self.inputs, self.map, self.map),
            "w": (self.outputs, self.inputs // self.groups, self.kernel, self.kernel),
            "y": (self.batch, self.outputs, size, size),
        }

    @property
    def flops(self) -> float:
        return 2.0 * math.prod(self.shapes["y"]) * math.prod(self.shapes["w"][1:])

    def __str__(self) -> str:
        groups = f" g{self.groups}" if self.groups > 1 else ""
        return (
            f"{self.inputs}-{self.outputs} {self.kernel}x{self.kernel}s{self.stride} {self.map} b{self.batch}{groups}"
        )


GROUPS = {
    "cnn": [Layer(1, 32, 3, 28, 1, 0, 64), Layer(32, 64, 3, 26, 1, 0, 64)],
    "gan": [Layer(a, b, 4, n, 2, 1, 16) for a, b, n in ((3, 32, 64), (32, 64, 32), (64, 128, 16), (128, 256, 8))],
    "resnet": [
        Layer(3, 64, 7, 224, 2, 3, 8), Layer(64, 64, 1, 56, 1, 0, 8), Layer(64, 64, 3, 56, 1, 1, 8),
        Layer(64, 256, 1, 56, 1, 0, 8), Layer(256, 64, 1, 56, 1, 0, 8), Layer(256, 128, 1, 56, 1, 0, 8),
        Layer(128, 128, 3, 56, 2, 1, 8), Layer(128, 512, 1, 28, 1, 0, 8), Layer(256, 512, 1, 56, 2, 0, 8),
        Layer(512, 128, 1, 28, 1, 0, 8), Layer(128, 128, 3, 28, 1, 1, 8), Layer(512, 256, 1, 28, 1, 0, 8),
        Layer(256, 256, 3, 28, 2, 1, 8), Layer(256, 1024, 1, 14, 1, 0, 8), Layer(512, 1024, 1, 28, 2, 0, 8),
        Layer(1024, 256, 1, 14, 1, 0, 8), Layer(256, 256, 3, 14, 1, 1, 8), Layer(1024, 512, 1, 14, 1, 0, 8),
        Layer(512, 512, 3, 14, 2, 1, 8), Layer(512, 2048, 1, 7, 1, 0, 8), Layer(1024, 2048, 1, 14, 2, 0, 8),
        Layer(2048, 512, 1, 7, 1, 0, 8), Layer(512, 512, 3, 7, 1, 1, 8),
    ],
    "depthwise": [
        Layer(c, c, 3, n, s, 1, 8, c) for c, n, s in (
            (32, 112, 1), (96, 112, 2), (144, 56, 1), (144, 56, 2), (192, 28, 1), (192, 28, 2),
            (384, 14, 1), (576, 14, 2), (960, 7, 1),
        )
    ],
    "convnext": [Layer(c, c, 7, n, 1, 3, 8, c) for c, n in ((96, 56), (192, 28), (384, 14), (768, 7))],
    "resnext": [Layer(c, c, 3, n, 1, 1, 8, 32) for c, n in ((128, 56), (256, 28))],
}  # fmt: skip


def graph_of(layer: Layer, op: str) -> Graph:
    shapes, b = layer.shapes, GraphBuilder()
    first, second, result = {"f": "xwy", "d": "ywx", "w": "xyw"}[op]
    given = [b.input(Aval(shapes[name], float32)) for name in (first, second)]
    pair = (layer.stride, layer.padding, 1)
    stride, padding, dilation = ((n, n) for n in pair)
    attrs = dict(sizes=shapes[result][2:], stride=stride, padding=padding, dilation=dilation, groups=layer.groups)
    b.graph.outputs = [find(OPS[op])(*given, **attrs).id]
    return b.graph


def ours(graph: Graph, arrays: list[np.ndarray]) -> gemm.Ours:
    (part,) = cluster(graph, Options())
    found = generate.cut(generate.group_of(part), gemm.TARGET)  # type: ignore[arg-type]
    lowered = found.lower([choose(unit, gemm.TARGET) for unit in found.units], gemm.TARGET)
    return gemm.Ours(lowered.graph or part.graph, lowered, arrays)


def theirs(layer: Layer, op: str, arrays: list[np.ndarray]) -> Callable[[], object] | None:
    if (torch := find_torch()) is None:
        return None
    a, b = map(torch.from_numpy, arrays)
    how = dict(stride=layer.stride, padding=layer.padding, groups=layer.groups)
    gradient = torch.nn.grad
    if op == "f":
        return lambda: torch.nn.functional.conv2d(a, b, **how)
    if op == "d":
        return lambda: gradient.conv2d_input(layer.shapes["x"], b, a, **how)
    return lambda: gradient.conv2d_weight(a, layer.shapes["w"], b, **how)


def best_times(contestants: list[Callable[[], object]], seconds: float) -> list[float]:
    """The least processor time per call of each, taking turns: what else runs on the core counts as little as can be. Short ones
    are called until a turn is long, so that the core has settled on what they need."""
    best = [math.inf] * len(contestants)
    for call in contestants:
        call()
    end = time.perf_counter() + seconds * len(contestants)
    while time.perf_counter() < end:
        for k, call in enumerate(contestants):
            for _ in range(max(1, int(TURN / best[k]))):
                begin = time.thread_time()
                call()
                best[k] = min(best[k], time.thread_time() - begin)
    return best


def measured(layer: Layer, op: str, seconds: float) -> str:
    graph = graph_of(layer, op)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(graph.avals[v].shape).astype(np.float32) for v in graph.inputs]
    mine, other = ours(graph, arrays), theirs(layer, op, arrays)
    contestants: list[Callable[[], object]] = [gemm.peak(), mine, *([other] if other else [])]
    peak, *times = best_times(contestants, seconds)
    flops = gemm.PEAK_STEPS * gemm.PEAK_CHAINS * gemm.TARGET.lanes(4) * 2 / peak
    shares = [layer.flops / t / flops for t in times]
    beside = f" torch {shares[1]:5.2f}, {times[1] / times[0]:5.2f}x" if other else ""
    return f"{layer!s:28} {op}: {times[0] * 1e3:8.2f} ms, of peak {shares[0]:5.2f}{beside}"


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*", help=", ".join(GROUPS))
    p.add_argument("--target", default="host")
    args = p.parse_args()
    gemm.TARGET = targets.find(args.target)
    for name in args.names or list(GROUPS):
        for layer in GROUPS[name]:
            for op in OPS:
                print(measured(layer, op, 0.4), flush=True)


if __name__ == "__main__":
    main()
