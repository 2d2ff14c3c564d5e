"""GPU kernels: the same bits as CPU kernels, of their MLIR in a lock-step simulator and of their PTX in an interpreter; PTX
that assembles without spills; clear refusals.

In: clusters built by hand and the records' samples. The text of kernels is checked in lit_tests/targets.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import execute
import flambeau as fb
import gpu_device
import gpu_simulator
import numpy as np
import pytest
from flambeau.compiler import targets
from flambeau.compiler.backend import object_code
from flambeau.compiler.options import Options
from flambeau.compiler.targets import nvptx
from flambeau.compiler.tools import stage_text
from flambeau.dialects import dtypes
from flambeau.dialects.record import find
from flambeau.runtime import _binding
from gpu_programs import (
    KINDS,
    PROGRAMS,
    elementwise_records,
    floats,
    graph_of,
    interpret,
    launches,
    matmul,
    permute,
    program,
    ptx,
    run,
    samples,
)  # fmt: skip
from support import rounds


def find_ptxas() -> str | None:
    """NVIDIA's assembler: in PATH, in a toolkit, or in the package nvidia-cuda-nvcc."""
    packages = Path(sysconfig.get_path("purelib")).glob("nvidia/cu*/bin")
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/cuda/bin", *map(str, packages)])
    return shutil.which("ptxas", path=places)


PTXAS = find_ptxas()
needs_ptxas = pytest.mark.skipif(not PTXAS, reason="needs ptxas: pip install nvidia-cuda-nvcc")
needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler for the fake driver")
C_TESTS = Path(__file__).parent / "c"


def assert_same_bits(results, wanted) -> None:
    """But for NaNs, whose bits are free between machines."""
    for x, y in zip(results, wanted, strict=True):
        assert x.shape == y.shape and x.dtype == y.dtype
        both = np.isnan(x) & np.isnan(y) if x.dtype.kind == "f" else False
        bits = [np.where(both, 0, a.view(f"u{a.itemsize}")) for a in (x, y)]
        np.testing.assert_array_equal(*bits)


def assert_kernels_agree(graph, arrays, architectures) -> None:
    """The MLIR of a kernel, and its PTX for some architectures, compute what the CPU's code does."""
    wanted = execute.run_graph(graph, arrays, Options())
    assert_same_bits(run(graph, arrays, gpu_simulator.run), wanted)
    for target in architectures:
        assert_same_bits(run(graph, arrays, partial(interpret, target), target), wanted)


def some_architectures(turn: int) -> list[str]:
    """One or three, others for each turn; all of them where there is time."""
    every = list(nvptx.TARGETS)
    count = rounds(1, 3, len(every))
    return [every[(turn + k * len(every) // count) % len(every)] for k in range(count)]


# ---- numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROGRAMS)
def test_kernels_give_the_bits_of_cpu_kernels(name):
    assert_kernels_agree(*program(name), some_architectures(list(PROGRAMS).index(name)))


@pytest.mark.parametrize("name", elementwise_records())
def test_every_elementwise_op_keeps_its_meaning(name):
    record = find(name)
    turn = 2 * elementwise_records().index(name)
    found = list(samples(record))
    for k, (sample, arrays) in enumerate(found):
        graph = graph_of(lambda *xs, a=sample.attrs: record(*xs, **a), arrays)
        assert_kernels_agree(graph, arrays, some_architectures(turn + k))
    assert found


@pytest.mark.parametrize("dtype", [dtypes.uint8, dtypes.int8, dtypes.int16], ids=str)
def test_threads_exchange_numbers_narrower_than_a_register(dtype):
    """NVIDIA's shuffle takes 32 bits."""
    x = np.arange(5 * 100, dtype=np.int64).astype(dtype.numpy).reshape(5, 100)
    graph = graph_of(lambda x: find("sum")(x, axes=(1,)), [x])
    assert "gpu.shuffle" in "".join(launch.source.text for launch in launches(graph))
    assert_kernels_agree(graph, [x], some_architectures(dtype.bits))


# ---- text -----------------------------------------------------------------------------------------------------


def every_kernel() -> Iterator[str]:
    """The text of every kernel of this file."""
    for name in PROGRAMS:
        yield from (launch.source.text for launch in launches(program(name)[0]))
    for name in elementwise_records():
        record = find(name)
        for sample, arrays in samples(record):
            graph = graph_of(lambda *xs, record=record, attrs=sample.attrs: record(*xs, **attrs), arrays)
            yield from (launch.source.text for launch in launches(graph))


def test_kernels_are_written_in_the_gpu_dialect():
    """No intrinsic is asked for by name but those that `convert-gpu-to-nvvm` refuses as ops, and the one without an op."""
    named, ops = set(), set()
    for text in every_kernel():
        assert text.startswith("gpu.module @kernels {\n") and "!llvm.ptr<" not in text
        named.update(re.findall(r'"llvm\.([\w.]+?)(?:\.[if]\d+)+"', text))
        ops.update(re.findall(r"\b((?:gpu|nvvm|nvgpu|llvm)\.[a-z_]+)\b", re.sub('"[^"]*"', "", text)))
    assert named == {"fabs", "sqrt", "floor", "ceil", "copysign", "roundeven", "fptosi.sat"}
    threads = {"gpu.thread_id", "gpu.block_id", "gpu.barrier", "gpu.shuffle", "gpu.address_space"}
    assert {op for op in ops if op.startswith("gpu.")} == {"gpu.module", "gpu.func", "gpu.return", *threads}
    assert {op for op in ops if op.startswith("nv")} == {"nvvm.reqntid", "nvvm.minctasm"}
    assert {op for op in ops if op.startswith("llvm.")} == {
        "llvm.ptr", "llvm.noalias", "llvm.align", "llvm.readonly", "llvm.passthrough", "llvm.getelementptr", "llvm.load",
        "llvm.store", "llvm.call_intrinsic", "llvm.mlir", "llvm.array",
    }  # fmt: skip


@pytest.mark.parametrize("target", nvptx.TARGETS)
def test_ptx_says_its_architecture_and_rounds_as_told(target):
    for name in KINDS:
        for launch in launches(program(name)[0]):
            text = ptx(launch, target)
            assert f".target {target}\n" in text and ".visible .entry kernel(" in text and ".extern" not in text
            assert not re.search(r"\.(approx|ftz|full)\b", text)
            assert not re.search(r"\b(add|sub|mul|fma)\.f(32|64)\b", text), "ptxas may contract what has no .rn"


def assemble(text: str, target: str, folder: Path) -> str:
    """What ptxas says of a kernel that it accepts."""
    (folder / "kernel.ptx").write_text(text)
    command = [PTXAS, "-v", f"-arch={target}", str(folder / "kernel.ptx"), "-o", str(folder / "kernel.cubin")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr


@needs_ptxas
@pytest.mark.parametrize("target", nvptx.TARGETS)
def test_ptx_assembles_without_spills(target, tmp_path):
    part = list(PROGRAMS)[list(nvptx.TARGETS).index(target) :: 3]
    for name in rounds(KINDS, part, PROGRAMS):
        for launch in launches(program(name)[0], target):
            told = assemble(ptx(launch, target), target, tmp_path)
            assert "0 bytes spill stores, 0 bytes spill loads" in told, f"{name}: {told}"


@needs_ptxas
@pytest.mark.parametrize("name", elementwise_records())
def test_every_elementwise_op_assembles_without_spills(name, tmp_path):
    record = find(name)
    turn = 2 * elementwise_records().index(name)
    for k, (sample, arrays) in enumerate(samples(record)):
        graph = graph_of(lambda *xs, a=sample.attrs: record(*xs, **a), arrays)
        for target in some_architectures(turn + k):
            for launch in launches(graph, target):
                assert "0 bytes spill stores, 0 bytes spill loads" in assemble(ptx(launch, target), target, tmp_path)


@needs_ptxas
def test_titles_are_comments_of_ptx(tmp_path):
    """What `flambeau-opt --to assembly` prints for a GPU goes into ptxas as it is."""
    text = stage_text.convert(f"module {{ {GRAPHS} }}", [], "tape", "assembly", Options(target="sm_90"))
    parts = stage_text.split(text)
    titles = [f"// kernel 0 of @{name}: {op}+canonical_nan" for name, op in (("f", "neg"), ("g", "abs"))]
    assert [p.strip().splitlines()[0] for p in parts] == titles
    assert stage_text.separator("assembly", "sm_90") == "// -----\n" and stage_text.separator("assembly") == "# -----\n"
    for part in parts:
        assemble(part, "sm_90", tmp_path)


GRAPHS = "".join(
    f'func.func @{name}(%x: tensor<8xf32>) -> tensor<8xf32> {{ %y = "tape.{op}"(%x) : (tensor<8xf32>) -> tensor<8xf32> '
    "return %y : tensor<8xf32> }\n"
    for name, op in (("f", "neg"), ("g", "abs"))
)


def test_kernel_text_serves_other_extents():
    first, second = (graph_of(lambda x: find("exp")(x), [floats(n)]) for n in (10, 5000))
    assert launches(first)[0].source == launches(second)[0].source
    first, second = (graph_of(matmul, [floats(n, 30), floats(30, n)]) for n in (10, 500))
    assert launches(first)[0].source == launches(second)[0].source


# ---- refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "arrays", "message"),
    [
        (matmul, [np.ones((3, 4), np.int64), np.ones((4, 5), np.int64)], r"\[matmul\] int64 has no GPU kernel yet"),
        (
            lambda x, i: find("gather")(x, i, axis=0),
            [floats(5, 4), np.ones((2, 4), np.int64)],
            r"\[gather\] has no GPU kernel yet",
        ),
        (lambda x: find("sum")(x, axes=(0,)), [floats(30000, 2)], r"30000 rows are too many for one kernel"),
        (
            lambda x: permute(0, 2, 1)(x) + 1.0,
            [np.broadcast_to(np.float32(0), (70000, 2, 2))],
            r"needs a grid of \(1, 1, 70000\) blocks",
        ),
    ],
)
def test_what_has_no_kernel_is_refused(function, arrays, message):
    with pytest.raises(ValueError, match=message):
        launches(graph_of(function, arrays))


def test_unknown_architectures_are_refused():
    with pytest.raises(ValueError, match=r"\[target\] unknown target 'sm_42'.*sm_120.*sm_75"):
        targets.find("sm_42")


def test_ptx_is_no_object():
    graph, _ = program("elementwise: add")
    with pytest.raises(object_code.CompileError, match="code for sm_90 is PTX text"):
        object_code.compile_object(launches(graph)[0].source, Options(target="sm_90"))


# ---- devices --------------------------------------------------------------------------------------------------


def _device_reason() -> str | None:
    try:
        _binding.cuda_device()
    except RuntimeError as e:
        return str(e)
    return None


@pytest.mark.skipif(_device_reason() is None, reason="there is a GPU")
def test_cuda_without_a_driver_is_refused_clearly():
    with pytest.raises(RuntimeError, match=r"\[device\] 'cuda' is not available: \[cuda\] .*device\('cpu'\)"):
        fb.zeros(2, device=fb.device("cuda"))
    with pytest.raises(RuntimeError, match=r"\[device\] 'cuda:1' is not available"):
        fb.zeros(2, device="cuda:1")
    with pytest.raises(RuntimeError, match=r"\[device\] 'cuda:x' is no device"):
        fb.device("cuda:x")


@pytest.mark.accept("T-30")
def test_importing_and_computing_opens_no_driver():
    code = (
        "import flambeau as fb; x = (fb.ones(3) + 1).sum().item(); "
        "assert 'libcuda' not in open('/proc/self/maps').read()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.fixture(scope="module")
def fake_driver(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("cuda") / "libfake_cuda.so"
    source = C_TESTS / "fake_cuda.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-std=gnu11", "-o", str(path), str(source), "-lpthread"], check=True)
    return str(path)


@needs_cc
def test_the_binding_describes_a_device(fake_driver):
    found = _binding.cuda_device(fake_driver)
    assert found == {"name": "Fake device 0", "capability": (9, 0), "total_bytes": 1 << 20}
    with pytest.raises(RuntimeError, match="there is no device 5: the driver knows 1"):
        _binding.cuda_device(fake_driver, 5)
    with pytest.raises(RuntimeError, match=r"no driver: /nonexistent\.so"):
        _binding.cuda_device("/nonexistent.so")


@needs_cc
def test_compiled_kernels_load_and_launch_on_the_fake_driver(fake_driver):
    """The fake kernel copies `n` bytes of the first operand to the second."""
    x, out = floats(1000), np.zeros(1000, np.float32)
    (launch,) = launches(graph_of(lambda x: -x, [x]))
    with gpu_device.Device(fake_driver) as device:
        device.run(ptx(launch, "sm_90"), launch, [x, out])
        with pytest.raises(RuntimeError, match="compiling PTX failed with CUDA_ERROR_INVALID_PTX"):
            device.run("nonsense", launch, [x, out])
    np.testing.assert_array_equal(out[:250], x[:250])
    assert not out[250:].any()


@pytest.mark.skipif(_device_reason() is not None, reason=_device_reason() or "")
@pytest.mark.parametrize("name", PROGRAMS)
def test_kernels_give_the_bits_of_cpu_kernels_on_a_gpu(name):
    major, minor = _binding.cuda_device()["capability"]
    known = [t for t in nvptx.TARGETS if int(t[3:]) <= 10 * major + minor]
    graph, arrays = program(name)
    with gpu_device.Device() as device:
        results = run(graph, arrays, lambda launch, operands: device.run(ptx(launch, known[-1]), launch, operands))
    assert_same_bits(results, execute.run_graph(graph, arrays, Options()))
