"""Every dtype beside float32, the machine and PyTorch, as a table of Markdown.

    python benchmarks/dtypes.py [--quick] [--threads N] [part ...]

Parts: `narrow` (elementwise bfloat16 and float16 of 1e7 elements beside float32), `products` (1024, beside a register loop of
multiplications and additions of the same run), `torch` (1e6 elements of every dtype), `compile` (seconds to compile a fused kernel
and a product). Contestants take turns in one process; medians of processor time, so that other programs count little; each row has
its bar, and whether it is met. Blocking compilation; everything was done three times before.
"""

from __future__ import annotations

import os

for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_name, None)

import argparse  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Mapping  # noqa: E402
from types import ModuleType  # noqa: E402
from typing import Any, NamedTuple  # noqa: E402

import flambeau as fb  # noqa: E402
import gemm  # noqa: E402
import numpy as np  # noqa: E402
from flambeau.compiler.backend import object_code  # noqa: E402
from flambeau.compiler.codegen.emitter import Emitter  # noqa: E402
from flambeau.dialects import dtypes  # noqa: E402
from turns import Step, find_torch, flushed  # noqa: E402

LARGE, MIDDLE, SIDE = 10_000_000, 1_000_000, 1024
#: Independent chains of a loop: a multiplication of i32 takes longer than the multiply-add of floats.
CHAINS = {"f32": 12, "f64": 12, "i32": 20}


class Row(NamedTuple):
    """A figure, what it may be at most (or, of shares and speeds, at least), and whether it is."""

    what: str
    figure: float
    bar: float
    least: bool
    detail: str

    @property
    def holds(self) -> bool:
        return self.figure >= self.bar if self.least else self.figure <= self.bar


def processor_medians(steps: Mapping[str, Step], turns: int, length: float) -> dict[str, float]:
    """Milliseconds of processor time of a call of each: medians of turns, which they take one after the other."""
    counts = {}
    for name, step in steps.items():
        began = time.process_time()
        step()
        counts[name] = max(1, int(length / max(time.process_time() - began, 1e-6)))
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        for name, step in steps.items():
            began = time.process_time()
            for _ in range(counts[name]):
                step()
            times[name].append((time.process_time() - began) / counts[name] * 1e3)
    return {name: statistics.median(each) for name, each in times.items()}


def tensor(m: ModuleType, dtype: str, n: int, seed: int = 0) -> Any:
    numbers = np.random.default_rng([seed, n])
    x = numbers.integers(1, 100, n) if "int" in dtype else numbers.uniform(0.1, 2.0, n)
    return m.tensor(x.astype(np.int64 if "int" in dtype else np.float32)).to(getattr(m, dtype))


# ---- elementwise narrow floats ------------------------------------------------------------------------------------


def chain(m: ModuleType, x: Any, y: Any) -> Any:
    z = m.relu(x + y) * y
    z = m.where(z > 1, z, z.abs() * x)
    z = m.sigmoid(m.tanh(m.exp(-z)))
    return m.erf(m.log(z + y))


NARROW: dict[str, tuple[Callable[..., Any], float]] = {
    "a + b": (lambda m, x, y: x + y, 0.55),
    "relu": (lambda m, x, y: m.relu(x), 0.55),
    "chain": (chain, 1.25),
}


def narrow(turns: int, length: float) -> list[Row]:
    rows = []
    for what, (function, bar) in NARROW.items():
        steps = {}
        for dtype in ("float32", "bfloat16", "float16"):
            x, y = (tensor(fb, dtype, LARGE, seed) for seed in (0, 1))
            steps[dtype] = flushed(fb, lambda f=function, x=x, y=y: f(fb, x, y))
        found = processor_medians(steps, turns, length)
        for dtype in ("bfloat16", "float16"):
            share = found[dtype] / found["float32"]
            detail = f"{found[dtype]:.2f} and {found['float32']:.2f} ms"
            rows.append(Row(f"{what}, {dtype} beside float32, 1e7", share, bar, False, detail))
    return rows


# ---- products -----------------------------------------------------------------------------------------------------


def register_loop(dtype: str) -> tuple[Step, float]:
    """Rounds of independent multiplications and additions in registers, and how many of them a call does."""
    b, width = Emitter(), 8 if dtype == "f64" else 4
    lanes, count, rounds = gemm.TARGET.lanes(width), CHAINS[dtype], 100_000
    scale = b.splat(b.load(b.buffer(0), 0, dtype), lanes)
    with b.loop(b.lo, b.hi, 1, [b.const(i, dtype, lanes) for i in range(count)]) as steps:
        turn = (lambda x: b.add(b.mul(x, scale), scale)) if dtype == "i32" else (lambda x: b.fma(x, scale, scale))
        steps.carry([turn(x) for x in steps.args])
    total = steps.results[0]
    for x in steps.results[1:]:
        total = b.add(total, x)
    b.store(total, b.buffer(0), 0)
    kernel = gemm.compiled(b.source(f"peak_{dtype}"))
    memory = np.full(
        lanes, 3 if dtype == "i32" else 0.5, {"f32": np.float32, "f64": np.float64, "i32": np.int32}[dtype]
    )
    pointers = np.array([memory.ctypes.data])

    def run(keep: np.ndarray = memory) -> None:
        kernel(pointers.ctypes.data, None, 0, rounds, None)

    return run, float(rounds * lanes * count)


#: dtype -> the loop that bounds it, the share of it that is to be reached.
PRODUCTS = {
    "float32": ("f32", 0.8), "bfloat16": ("f32", 0.8), "float16": ("f32", 0.8), "float64": ("f64", 0.8), "int32": ("i32", 0.8),
}  # fmt: skip


def products(turns: int, length: float) -> list[Row]:
    steps: dict[str, Step] = {}
    peaks = {}
    for dtype in CHAINS:
        steps[dtype], peaks[dtype] = register_loop(dtype)
    for dtype in PRODUCTS:
        x, y = (tensor(fb, dtype, SIDE * SIDE, seed).reshape(SIDE, SIDE) for seed in (0, 1))
        steps[dtype] = flushed(fb, lambda x=x, y=y: x @ y)
    found = processor_medians(steps, turns, length)
    rows = []
    for dtype, (loop, bar) in PRODUCTS.items():
        rate, peak = SIDE**3 / found[dtype] / 1e6, peaks[loop] / found[loop] / 1e6
        detail = f"{2 * rate:.0f} of {2 * peak:.0f} G/s"
        rows.append(Row(f"matmul {SIDE}, {dtype}, share of a loop of {loop}", rate / peak, bar, True, detail))
    return rows


# ---- beside PyTorch -------------------------------------------------------------------------------------------------

FLOATING = ("float16", "bfloat16", "float32", "float64")
WHOLE = ("uint8", "int8", "int16", "int32", "int64")
BESIDE: dict[str, Callable[..., Any]] = {
    "a + b": lambda m, x, y: x + y,
    "a * b": lambda m, x, y: x * y,
    "maximum": lambda m, x, y: m.maximum(x, y),
    "where": lambda m, x, y: m.where(x > y, x, y),
    "sum": lambda m, x, y: x.sum(),
    "exp": lambda m, x, y: m.exp(x),
    "sigmoid": lambda m, x, y: m.sigmoid(x),
}
OF_FLOATS = ("exp", "sigmoid")


def beside_torch(turns: int, length: float) -> list[Row]:
    torch, rows = find_torch(), []
    if torch is None:
        return rows
    for what, function in BESIDE.items():
        for dtype in FLOATING if what in OF_FLOATS else FLOATING + WHOLE:
            steps = {}
            for name, m in (("ours", fb), ("theirs", torch)):
                x, y = (tensor(m, dtype, MIDDLE, seed) for seed in (0, 1))
                steps[name] = flushed(m, lambda f=function, m=m, x=x, y=y: f(m, x, y))
            found = processor_medians(steps, turns, length)
            detail = f"{found['ours'] * 1e3:.0f} and {found['theirs'] * 1e3:.0f} us"
            speed = found["theirs"] / found["ours"]
            rows.append(Row(f"{what}, {dtype}, 1e6, PyTorch's time over ours", speed, 1.0, True, detail))
    return rows


# ---- compiling ------------------------------------------------------------------------------------------------------


def compiling(turns: int, length: float) -> list[Row]:
    """Milliseconds of processor time that a kernel takes to compile, without what is kept of earlier ones."""
    from flambeau.compiler.options import Options
    from flambeau.dialects.aval import Aval
    from flambeau.dialects.builder import GraphBuilder
    from flambeau.dialects.record import find

    found: dict[str, list[float]] = {"fused": [], "product": []}
    for k in range(max(turns, 7)):
        b = GraphBuilder()
        x, y = (b.input(Aval((1000 + k,), dtypes.float32)) for _ in range(2))
        z = find("tanh")(x * y + 1.0) * find("exp")(y) - find("log")(x * x + 2.0 + k)
        b.graph.outputs = [z.id]
        m = GraphBuilder()
        u, v = (m.input(Aval((256 + 16 * k, 256 + 16 * k), dtypes.float32)) for _ in range(2))
        m.graph.outputs = [find("matmul")(u, v).id]
        for name, graph in (("fused", b.graph), ("product", m.graph)):
            found[name] += _compile_times(graph, Options())
    medians = {name: statistics.median(times) for name, times in found.items()}
    return [
        Row("compiling a fused kernel, ms", medians["fused"], 40.0, False, f"{len(found['fused'])} kernels"),
        Row("compiling a product's kernel, ms", medians["product"], 120.0, False, f"{len(found['product'])} kernels"),
    ]


def _compile_times(graph: Any, options: Any) -> list[float]:
    from flambeau.compiler.groups import generate
    from flambeau.compiler.passes.cluster import cluster
    from flambeau.compiler.schedules.choose import choose

    times = []
    for part in cluster(graph, options):
        began = time.process_time()
        cut = generate.cut(generate.group_of(part), gemm.TARGET)
        lowered = cut.lower([choose(unit, gemm.TARGET) for unit in cut.units], gemm.TARGET)
        for call in lowered.calls:
            object_code.compile_object(call.source, options)
        times.append((time.process_time() - began) * 1e3)
    return times


PARTS: dict[str, Callable[[int, float], list[Row]]] = {
    "narrow": narrow, "products": products, "torch": beside_torch, "compile": compiling,
}  # fmt: skip


def table(rows: list[Row]) -> str:
    lines = ["| what | is | bar | | |", "|---|---|---|---|---|"]
    for row in rows:
        bar = f"at {'least' if row.least else 'most'} {row.bar:g}"
        lines.append(f"| {row.what} | {row.figure:.2f} | {bar} | {'holds' if row.holds else 'misses'} | {row.detail} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter turns")
    given = parser.parse_args()
    fb.set_num_threads(given.threads)
    turns, length = (5, 0.02) if given.quick else (9, 0.06)
    rows: list[Row] = []
    with fb.compiler_options(mode="blocking"):
        for part in given.parts:
            rows += PARTS[part](turns, length)
    print(table(rows))
    print(f"\n{sum(row.holds for row in rows)} of {len(rows)} hold.")


if __name__ == "__main__":
    main()
