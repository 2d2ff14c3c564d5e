"""Times of the loop kernels on one thread, without the plan runner: `python benchmarks/loop_kernels.py [name ...]`.

Each workload is a graph built from op records, clustered and compiled as the compiler does; the kernels are called
through ctypes. Prints the best and median milliseconds, bytes moved per second, the number of kernels and compile time.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable

import flambeau.dialects.tape  # noqa: F401
import numpy as np
from flambeau.compiler.backend import loader, object_code
from flambeau.compiler.groups import generate
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import cluster
from flambeau.compiler.schedules.choose import choose
from flambeau.compiler.targets import find as find_target
from flambeau.dialects import autodiff
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.dtypes import float32, int64
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find

KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


def op(name: str, *args, **attrs) -> Value:
    return find(name)(*args, **attrs)


def rows(x: Value, shape: tuple[int, ...]) -> Value:
    """A value per row, stretched over the columns."""
    return op("broadcast", op("reshape", x, shape=(shape[0], 1)), shape=shape)


def chain(b: GraphBuilder, n: int) -> list[Value]:
    x = b.input(Aval((n,), float32))
    relu = op("maximum", x, x.like(0.0))
    y = op("tanh", x * 2.0 + 1.0) * op("sigmoid", x) - relu * relu
    return [op("sum", y, axes=(0,))]


def with_gradient(make: Callable[..., list[Value]]) -> Callable[..., list[Value]]:
    """The first output of a workload and its gradient for the first input."""

    def build(b: GraphBuilder, *sizes: int) -> list[Value]:
        forward = GraphBuilder()
        out = make(forward, *sizes)[0]
        forward.graph.outputs = [n.results[0] for n in forward.graph.nodes]
        inputs = [b.input(forward.graph.avals[v]) for v in forward.graph.inputs]
        made = b.graph.inline(forward.graph, [v.id for v in inputs])
        values = dict(zip(forward.graph.inputs, inputs, strict=True))
        values |= {v: b.value(to) for v, to in zip(forward.graph.outputs, made, strict=True)}
        ct = b.constant(1.0, float32, out.shape) if not out.shape else b.input(out.aval)
        wrt = forward.graph.inputs[:1]
        return [values[out.id], *autodiff.vjp(b, forward.graph, values, {out.id: ct}, wrt)]

    return build


def softmax(b: GraphBuilder, n: int, m: int) -> list[Value]:
    x = b.input(Aval((n, m), float32))
    e = op("exp", x - rows(op("max", x, axes=(1,)), x.shape))
    return [e / rows(op("sum", e, axes=(1,)), x.shape)]


def layer_norm(b: GraphBuilder, n: int, m: int) -> list[Value]:
    x, w, bias = b.input(Aval((n, m), float32)), b.input(Aval((m,), float32)), b.input(Aval((m,), float32))
    mean = op("sum", x, axes=(1,)) * (1.0 / m)
    centred = x - rows(mean, x.shape)
    variance = op("sum", centred * centred, axes=(1,)) * (1.0 / m)
    y = centred * rows(op("rsqrt", variance + 1e-5), x.shape)
    return [y * w.expand(x.shape) + bias.expand(x.shape)]


def cross_entropy(b: GraphBuilder, n: int, m: int) -> list[Value]:
    x, target = b.input(Aval((n, m), float32)), b.input(Aval((n,), int64))
    shifted = x - rows(op("max", x, axes=(1,)), x.shape)
    total = op("sum", op("exp", shifted), axes=(1,))
    logp = shifted - rows(op("log", total), x.shape)
    picked = op("gather", logp, op("reshape", target, shape=(n, 1)), axis=1)
    hit = op("iota", shape=x.shape, dim=1, dtype=int64, builder=b).eq(rows(target, x.shape))
    gradient = (op("exp", logp) - hit.cast(float32)) * (1.0 / n)
    return [op("sum", picked, axes=(0, 1)) * (-1.0 / n), gradient]


def adam(b: GraphBuilder, n: int) -> list[Value]:
    p, m, v, g = (b.input(Aval((n,), float32)) for _ in range(4))
    step = b.input(Aval((), float32)).expand((n,))
    m2, v2 = m * 0.9 + g * 0.1, v * 0.999 + g * g * 0.001
    return [p - step * m2 / (op("sqrt", v2) + 1e-8), m2, v2]


def add(b: GraphBuilder, n: int) -> list[Value]:
    return [b.input(Aval((n,), float32)) + b.input(Aval((n,), float32))]


def bias_gradient(b: GraphBuilder, n: int, m: int) -> list[Value]:
    return [op("sum", b.input(Aval((n, m), float32)), axes=(0,))]


def transposed(b: GraphBuilder, n: int, m: int) -> list[Value]:
    x, y = b.input(Aval((n, m), float32)), b.input(Aval((m, n), float32))
    return [op("permute", x, perm=(1, 0)) + y]


def embedding(b: GraphBuilder, n: int, m: int) -> list[Value]:
    table, index = b.input(Aval((1000, m), float32)), b.input(Aval((n, 1), int64))
    return [op("gather", table, index.expand((n, m)), axis=0)]


WORKLOADS: dict[str, tuple[Callable[..., list[Value]], tuple[int, ...]]] = {
    "chain 1e5": (chain, (100_000,)),
    "chain 1e7": (chain, (10_000_000,)),
    "chain+gradient 1e5": (with_gradient(chain), (100_000,)),
    "chain+gradient 1e7": (with_gradient(chain), (10_000_000,)),
    "softmax+gradient 4096x1024": (with_gradient(softmax), (4096, 1024)),
    "layernorm+gradient 4096x1024": (with_gradient(layer_norm), (4096, 1024)),
    "softmax 4096x1024": (softmax, (4096, 1024)),
    "softmax 64x10": (softmax, (64, 10)),
    "layernorm 4096x1024": (layer_norm, (4096, 1024)),
    "cross-entropy 512x10": (cross_entropy, (512, 10)),
    "cross-entropy 512x1000": (cross_entropy, (512, 1000)),
    "adam 1e6": (adam, (1_000_000,)),
    "adam 1e4": (adam, (10_000,)),
    "add 1e3": (add, (1000,)),
    "add 1e7": (add, (10_000_000,)),
    "bias gradient 512x1024": (bias_gradient, (512, 1024)),
    "bias gradient 4096x4096": (bias_gradient, (4096, 4096)),
    "transposed 1024": (transposed, (1024, 1024)),
    "embedding 4096x256": (embedding, (4096, 256)),
}


class Compiled:
    """The kernels of a graph with buffers of their own."""

    def __init__(self, graph: Graph) -> None:
        self.keep: list[np.ndarray] = []
        self.calls = []
        start = time.perf_counter()
        memory = {v: self.buffer(graph.avals[v]) for v in graph.inputs}
        for part in cluster(graph, Options()):
            machine = find_target("host")
            cut = generate.cut_cluster(part, machine)
            lowered = cut.lower([choose(unit, machine) for unit in cut.units], machine)
            for v, p in zip(part.graph.outputs, part.results, strict=True):
                if v not in lowered.aliases:
                    memory[p] = self.buffer(graph.avals[p])
            names = dict(zip([*part.graph.inputs, *part.graph.outputs], [*part.operands, *part.results], strict=True))
            for v, to in lowered.aliases.items():
                memory[names[v]] = memory[names[to]]
            temps = [self.bytes(n) for n in lowered.temps]
            for call in lowered.calls:
                self.add(call, {v: memory[p] for v, p in names.items()}, temps)
        self.milliseconds = (time.perf_counter() - start) * 1e3
        self.moved = sum(graph.avals[v].nbytes for v in [*graph.inputs, *graph.outputs])

    def bytes(self, size: int) -> int:
        self.keep.append(np.zeros(size + 64, np.uint8))
        return -(-self.keep[-1].ctypes.data // 64) * 64

    def buffer(self, aval: Aval) -> int:
        address = self.bytes(aval.nbytes)
        data = (ctypes.c_byte * aval.nbytes).from_address(address)
        if aval.dtype.is_floating_point:
            np.frombuffer(data, aval.dtype.numpy)[...] = np.random.default_rng(0).random(aval.size)
        return address

    def add(self, call, memory: dict[int, int], temps: list[int]) -> None:
        status = self.bytes(8)
        where = {"value": memory, "temp": temps, "status": {0: status}}
        pointers = np.array([where[o.kind][o.index] + o.offset for o in call.operands], np.uint64)
        dims = np.array([*call.dims, 0], np.int64)
        self.keep += [pointers, dims]
        kernel = KERNEL(loader.load(object_code.compile_object(call.source, Options(target="host"))))
        self.calls.append((kernel, pointers.ctypes.data, dims.ctypes.data, 0, call.n, self.bytes(call.scratch)))

    def run(self) -> None:
        for kernel, *args in self.calls:
            kernel(*args)


def measure(compiled: Compiled, seconds: float = 0.3) -> list[float]:
    """Milliseconds per run, sorted."""
    compiled.run()
    times, stop = [], time.perf_counter() + seconds
    while time.perf_counter() < stop or len(times) < 5:
        start = time.perf_counter()
        compiled.run()
        times.append((time.perf_counter() - start) * 1e3)
    return sorted(times)


def main(wanted: list[str]) -> None:
    for name, (make, sizes) in WORKLOADS.items():
        if wanted and not any(w in name for w in wanted):
            continue
        b = GraphBuilder()
        b.graph.outputs = [v.id for v in make(b, *sizes)]
        compiled = Compiled(b.graph)
        times = measure(compiled)
        best, median = times[0], times[len(times) // 2]
        rate = compiled.moved / best / 1e6
        print(
            f"{name:26} best {best:8.4f} ms  median {median:8.4f} ms  {rate:6.1f} GB/s"
            f"  {len(compiled.calls)} kernels, compiled in {compiled.milliseconds:.0f} ms"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
