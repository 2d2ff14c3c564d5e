"""Exported programs: how large, how soon, how fast, beside ONNX Runtime's.

    python benchmarks/export.py

Exports the digits example's network for every target: seconds of an export (beginning with what the process and the
linker have not seen), bytes of object file and executable. What runs here, or in an emulator (marked), is timed: from
process start to the end of the first prediction, and one prediction in a loop. ONNX Runtime, if it is installed, runs
the same network on one thread.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import flambeau as fb
import numpy as np
from flambeau.compiler.targets.platforms import PLATFORMS

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
from digits import Classifier

ORT = """
import sys, time
import numpy as np, onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
x = np.frombuffer(open(sys.argv[2], "rb").read(), np.float32).reshape(1, 64)
y = session.run(None, {"x": x})
best = []
for _ in range(int(sys.argv[3])):
    start = time.perf_counter_ns()
    session.run(None, {"x": x})
    best.append(time.perf_counter_ns() - start)
print(sorted(best)[len(best) // 2] if best else 0)
"""


def to_onnx(model: Classifier, path: Path) -> None:
    """The network as an ONNX model, three Gemm and two Relu."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, at = [], [], "x"
    layers = [layer for layer in model.layers if hasattr(layer, "weight")]
    for k, layer in enumerate(layers):
        weights += [
            numpy_helper.from_array(np.array(t.detach().numpy()), f"{n}{k}") for n, t in layer.named_parameters()
        ]
        nodes.append(helper.make_node("Gemm", [at, f"weight{k}", f"bias{k}"], [f"h{k}"], transB=1))
        at = f"h{k}"
        if k < len(layers) - 1:
            nodes.append(helper.make_node("Relu", [at], [f"r{k}"]))
            at = f"r{k}"
    ends = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s])] for n, s in (("x", 64), (at, 10))]
    graph = helper.make_graph(nodes, "digits", *ends, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def seconds(command: list, runs: int) -> float:
    """The median duration of a process."""
    durations = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL)
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def printed(command: list) -> float:
    return float(subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout)


def row(name: str, *cells: str) -> None:
    print(f"{name:24s}" + "".join(f"{c:>14s}" for c in cells), flush=True)


def milliseconds(value: float) -> str:
    return f"{value * 1e3:.2f} ms"


def measure_target(model: Classifier, target: str, folder: Path, sample: Path, runs: int) -> None:
    x = fb.tensor(np.fromfile(sample, np.float32).reshape(1, 64))
    first = fb.export(model, (x,), folder / target / "digits", target=target, executable=True)
    again = fb.export(model, (x,), folder / target / "digits", target=target, executable=True)
    platform = PLATFORMS[target]
    launcher = [] if platform.is_here else [platform.emulator]
    cells = [f"{first.seconds:.2f} s", f"{again.seconds:.2f} s"]
    cells += [f"{p.stat().st_size / 1024:.0f} KiB" for p in (again.object_file, again.executable)]
    if launcher and not shutil.which(launcher[0]):
        row(target, *cells, "-", "-")
        return
    subprocess.run([*launcher, str(again.executable), "--check"], check=True, stdout=subprocess.DEVNULL)
    start = seconds([*launcher, again.executable, sample], runs)
    latency = min(printed([*launcher, again.executable, "--threads", 1, "--time", 20000]) for _ in range(5))
    row(target + (" (qemu)" if launcher else ""), *cells, milliseconds(start), f"{latency / 1e3:.2f} us")


def measure_onnx_runtime(model: Classifier, folder: Path, sample: Path, runs: int) -> None:
    path = folder / "digits.onnx"
    try:
        to_onnx(model, path)
        command = [sys.executable, "-c", ORT, path, sample]
        start = seconds([*command, 0], runs)
        latency = min(printed([*command, 20000]) for _ in range(3))
    except (ImportError, subprocess.CalledProcessError) as error:
        print(f"ONNX Runtime: not measured ({error})")
        return
    row(
        "ONNX Runtime (Python)",
        "-",
        "-",
        f"{path.stat().st_size / 1024:.0f} KiB",
        "-",
        milliseconds(start),
        f"{latency / 1e3:.2f} us",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", nargs="*", default=[*PLATFORMS], choices=[*PLATFORMS])
    parser.add_argument("--runs", type=int, default=10, help="process starts per figure")
    options = parser.parse_args()
    fb.manual_seed(0)
    model = Classifier().eval()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sample = folder / "sample"
        np.random.default_rng(0).random((1, 64), np.float32).tofile(sample)
        row("", "first export", "export again", "object", "executable", "start", "batch 1")
        for target in options.targets:
            if "v4" in target and "avx512f" not in Path("/proc/cpuinfo").read_text():
                continue
            measure_target(model, target, folder, sample, options.runs)
        measure_onnx_runtime(model, folder, sample, options.runs)


if __name__ == "__main__":
    os.environ.pop("OPENBLAS_CORETYPE", None)
    main()
