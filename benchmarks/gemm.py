"""Matrix products on one thread beside peers and the peak: `python benchmarks/gemm.py [square|mlp|vector ...]`.

Kernels are called through ctypes, without the plan runner. All contestants take turns; the best time of each counts.
The peak is a generated kernel of independent multiply-adds in registers. Pin the process to one core
(`taskset -c 1`); OpenBLAS's tuning variables are removed, they would halve NumPy's speed.
"""

from __future__ import annotations

import os

for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_name, None)
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import ctypes  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402

import numpy as np  # noqa: E402
from flambeau.compiler import targets  # noqa: E402
from flambeau.compiler.backend import loader, object_code  # noqa: E402
from flambeau.compiler.codegen.emitter import Emitter  # noqa: E402
from flambeau.compiler.codegen.products import cut as gemm  # noqa: E402
from flambeau.compiler.kernel import Cluster, KernelSource, Lowered  # noqa: E402
from flambeau.compiler.options import Options  # noqa: E402
from flambeau.compiler.schedules.choose import choose  # noqa: E402
from flambeau.dialects.aval import Aval  # noqa: E402
from flambeau.dialects.builder import GraphBuilder, Value  # noqa: E402
from flambeau.dialects.dtypes import float32  # noqa: E402
from flambeau.dialects.graph import Graph  # noqa: E402
from flambeau.dialects.record import find  # noqa: E402

KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
TARGET = targets.find("host")
#: Rounds, and independent multiply-adds of each: they fill the latency, and fit 16 registers with what they multiply by.
PEAK_STEPS, PEAK_CHAINS = 100_000, 12


def mlp(batch: int) -> list[tuple[int, int, int, str]]:
    """The products of one training step of the 784-512-256-10 MLP: forward, weight and input gradients."""
    shapes = []
    for inputs, outputs in ((784, 512), (512, 256), (256, 10)):
        shapes += [(batch, outputs, inputs, "nt"), (outputs, inputs, batch, "tn"), (batch, inputs, outputs, "nn")]
    return shapes


#: (M, N, K, stored forms of A and B: n as used, t transposed)
GROUPS = {
    "square": [(n, n, n, "nn") for n in (256, 512, 1024, 2048)],
    "mlp": mlp(64) + mlp(512),
    "vector": [(1, 512, 784, "nt"), (1, 2048, 2048, "nt"), (1, 2048, 2048, "nn"), (2048, 1, 2048, "nn")],
}


def product(m: int, n: int, k: int, form: str) -> Graph:
    b = GraphBuilder()
    sides = []
    for shape, stored in (((m, k), form[0]), ((k, n), form[1])):
        x = b.input(Aval(shape if stored == "n" else shape[::-1], float32))
        sides.append(x if stored == "n" else _transposed(x))
    b.graph.outputs = [find("matmul")(*sides).id]
    return b.graph


def _transposed(x: Value) -> Value:
    return find("permute")(x, perm=(1, 0))


def compiled(source: KernelSource) -> Callable[..., None]:
    return KERNEL(loader.load(object_code.compile_object(source, Options())))


class Ours:
    """A product bound to its operands; call it to run all its kernels over their whole domains."""

    def __init__(self, graph: Graph, lowered: Lowered, arrays: list[np.ndarray]) -> None:
        memory = dict(zip(graph.inputs, arrays, strict=True))
        self.out = memory[graph.outputs[0]] = np.empty(graph.avals[graph.outputs[0]].shape, np.float32)
        temps = [np.empty(size, np.uint8) for size in lowered.temps]
        self.kept: list[object] = [memory, temps]
        self.calls = []
        begin = time.perf_counter()
        kernels = [compiled(call.source) for call in lowered.calls]
        self.compile_ms = (time.perf_counter() - begin) * 1e3
        for kernel, call in zip(kernels, lowered.calls, strict=True):
            places = [memory[o.index] if o.kind == "value" else temps[o.index] for o in call.operands]
            pointers = np.array([p.ctypes.data + o.offset for p, o in zip(places, call.operands, strict=True)])
            dims, scratch = np.array(call.dims, np.int64), np.empty(call.scratch + 64, np.uint8)
            aligned = scratch.ctypes.data + -scratch.ctypes.data % 64
            self.kept += [pointers, dims, scratch]
            arguments = [ctypes.c_void_p(p) for p in (pointers.ctypes.data, dims.ctypes.data, aligned)]
            self.calls.append((kernel, arguments[0], arguments[1], call.n, arguments[2]))

    def __call__(self) -> None:
        for kernel, pointers, dims, n, scratch in self.calls:
            kernel(pointers, dims, 0, n, scratch)


def peak() -> Callable[[], None]:
    """`PEAK_STEPS` rounds of independent vector multiply-adds."""
    b = Emitter()
    lanes = TARGET.lanes(4)
    scale = b.splat(b.load(b.buffer(0), 0, "f32"), lanes)
    with b.loop(b.lo, b.hi, 1, [b.const(i, "f32", lanes) for i in range(PEAK_CHAINS)]) as steps:
        steps.carry([b.fma(x, scale, scale) for x in steps.args])
    total = steps.results[0]
    for x in steps.results[1:]:
        total = b.add(total, x)
    b.store(total, b.buffer(0), 0)
    kernel = compiled(b.source("peak"))
    memory = np.full(lanes, 0.5, np.float32)
    pointers = np.array([memory.ctypes.data])

    def run(keep: np.ndarray = memory) -> None:
        kernel(pointers.ctypes.data, None, 0, PEAK_STEPS, None)

    return run


def reading(memory: np.ndarray) -> Callable[[], None]:
    """Read a large array once, vector by vector."""
    b = Emitter()
    lanes = TARGET.lanes(4)
    near = range(0, 8 * lanes, lanes)
    with b.loop(b.lo, b.hi, 8 * lanes, [b.const(0, "f32", lanes) for _ in near]) as steps:
        steps.carry(
            [b.add(x, b.load(b.buffer(0), b.add(steps.index, k), "f32", lanes)) for x, k in zip(steps.args, near)]
        )
    total = steps.results[0]
    for x in steps.results[1:]:
        total = b.add(total, x)
    b.store(total, b.buffer(1), 0)
    kernel = compiled(b.source("reading"))
    sums = np.zeros(lanes, np.float32)
    pointers = np.array([memory.ctypes.data, sums.ctypes.data])

    def run(keep: tuple[np.ndarray, np.ndarray] = (memory, sums)) -> None:
        kernel(pointers.ctypes.data, None, 0, memory.nbytes // 4 // (8 * lanes) * (8 * lanes), None)

    return run


def peers(a: np.ndarray, b: np.ndarray, form: str) -> dict[str, Callable[[], object]]:
    """NumPy, and JAX and torch where they are installed, on the same operands."""
    x, y = (v if stored == "n" else v.T for v, stored in zip((a, b), form, strict=True))
    out = np.empty((x.shape[0], y.shape[1]), np.float32)
    found: dict[str, Callable[[], object]] = {"numpy": lambda: np.matmul(x, y, out=out)}
    try:
        import jax
    except ImportError:
        pass
    else:
        left, right = jax.numpy.asarray(a), jax.numpy.asarray(b)
        sides = [lambda v: v if form[0] == "n" else v.T, lambda v: v if form[1] == "n" else v.T]
        run = jax.jit(lambda p, q: sides[0](p) @ sides[1](q))
        found["jax"] = lambda: run(left, right).block_until_ready()
    try:
        import torch
    except ImportError:
        pass
    else:
        torch.set_num_threads(1)
        tx, ty = (torch.from_numpy(v) if stored == "n" else torch.from_numpy(v).t() for v, stored in zip((a, b), form))
        target = torch.empty(tx.shape[0], ty.shape[1])
        found["torch"] = lambda: torch.mm(tx, ty, out=target)
    return found


def best_times(contestants: list[Callable[[], object]], seconds: float) -> list[float]:
    """The least seconds per call of each, taking turns of about 2 ms until `seconds` per contestant are used up."""
    best = [float("inf")] * len(contestants)
    for f in contestants:
        f()
    end = time.perf_counter() + seconds * len(contestants)
    while time.perf_counter() < end:
        for i, f in enumerate(contestants):
            begin = time.perf_counter()
            f()
            once = time.perf_counter() - begin
            count = max(1, int(2e-3 / once))
            begin = time.perf_counter()
            for _ in range(count):
                f()
            best[i] = min(best[i], (time.perf_counter() - begin) / count, once)
    return best


def measure(m: int, n: int, k: int, form: str, seconds: float, flops_of_peak: Callable[[], None]) -> str:
    graph = product(m, n, k, form)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(graph.avals[v].shape, np.float32) for v in graph.inputs)
    cut = gemm.cut(Cluster("contraction", graph))
    ours = Ours(graph, cut.lower([choose(unit, TARGET) for unit in cut.units], TARGET), [a, b])
    others = peers(a, b, form)
    *times, at_peak = best_times([ours, *others.values(), flops_of_peak], seconds)
    peak_flops = PEAK_STEPS * PEAK_CHAINS * TARGET.lanes(4) * 2 / at_peak
    ratios = [2.0 * m * n * k / t / peak_flops for t in times]
    columns = [
        f"{name} {t * 1e3:9.4f} ms {r:5.2f}" for name, t, r in zip(["ours", *others], times, ratios, strict=True)
    ]
    versus = min(times[1:]) / times[0]
    return f"{m:5} {n:5} {k:5} {form}  {'  '.join(columns)}  x{versus:.2f}  compiled in {ours.compile_ms:.0f} ms"


def main(names: list[str]) -> None:
    at_peak = peak()
    print("M N K form: milliseconds and share of the multiply-add peak; x is the best peer's time over ours")
    for name in names or ["square", "mlp", "vector"]:
        for shape in GROUPS[name]:
            print(measure(*shape, 0.3, at_peak), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
