"""GPU kernels: the same bits as CPU kernels in a lock-step simulator, PTX that assembles without spills, clear refusals.

In: clusters built by hand and the records' samples. The text of kernels is checked in lit_tests/targets.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import execute
import flambeau as fb
import gpu_device
import gpu_simulator
import numpy as np
import pytest
from flambeau.compiler import backend, stage_text, stages, targets
from flambeau.compiler.codegen.gpu_emitter import GpuEmitter
from flambeau.compiler.kernel import Cluster, Launch, Operand
from flambeau.compiler.options import Options
from flambeau.compiler.targets import nvptx
from flambeau.dialects import dtypes, reference
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import REGISTRY, Kind, find
from flambeau.dialects.tape.reduce import restore
from flambeau.runtime import _binding

PTXAS = shutil.which("ptxas") or shutil.which("ptxas", path="/usr/local/cuda/bin")
needs_ptxas = pytest.mark.skipif(not PTXAS, reason="needs ptxas, in PATH or in /usr/local/cuda/bin")
needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler for the fake driver")
C_TESTS = Path(__file__).parent / "c"


def floats(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


# ---- programs -------------------------------------------------------------------------------------------------


def softmax(x):
    m = restore(find("max")(x, axes=(1,)), x.shape, (1,))
    e = find("exp")(x - m)
    return e / restore(find("sum")(e, axes=(1,)), x.shape, (1,))


def layer_norm(x):
    mean = find("sum")(x, axes=(1,)) / float(x.shape[1])
    centred = x - restore(mean, x.shape, (1,))
    variance = find("sum")(centred * centred, axes=(1,)) / float(x.shape[1])
    return [centred / restore(find("sqrt")(variance + 1e-5), x.shape, (1,)), mean]


def permute(*perm):
    return lambda x: find("permute")(x, perm=perm)


def matmul(x, y):
    return find("matmul")(x, y)


def layer(x, w, bias):
    y = matmul(x, permute(1, 0)(w))
    return find("maximum")(y + bias.expand(y.shape), y.like(0.0))


def noise(x, seed, offset):
    bits = find("random_bits")(seed, offset, shape=x.shape)
    return x * bits.cast(dtypes.float32) + find("iota")(shape=x.shape, dim=1, dtype=dtypes.float32, builder=x.builder)


ELEMENTWISE = {
    "add": (lambda x, y: x + y, floats(1000), floats(1000, seed=1)),
    "one element": (lambda x: x + 1.0, floats(1)),
    "0-d": (lambda x: find("exp")(x), np.float32(2)),
    "bias": (lambda x, y: find("tanh")(x + y.expand(x.shape)), floats(37, 70), floats(70)),
    "column": (lambda x, y: x * y.expand(x.shape), floats(37, 70), floats(37, 1)),
    "middle": (lambda x, y: x * y.expand(x.shape), floats(3, 5, 7), floats(3, 1, 7)),
    "scalar": (lambda x, y: x / y.expand(x.shape), floats(300), np.float32(3)),
    "several results": (lambda x: [x * 2.0, (x < 0.0), x.cast(dtypes.int64)], floats(513)),
    "bools": (lambda x, y: find("select")(x, y, -y), floats(300) > 0, floats(300, seed=1)),
    "f64": (lambda x: find("log")(find("exp")(x) + 1.0), floats(300).astype(np.float64)),
    "slices": (
        lambda x: find("slice")(x, starts=(1, 3), sizes=(4, 5), steps=(2, 3)) + find("flip")(
            find("slice")(x, starts=(0, 0), sizes=(4, 5), steps=(1, 1)), axes=(1,)
        ),
        floats(9, 20),
    ),
    "noise": (noise, floats(9, 33), np.int64(7), np.int64(100)),
}  # fmt: skip
ROWS = {
    "sum": (lambda x: find("sum")(x * x, axes=(1,)), floats(37, 700)),
    "sum of all": (lambda x: find("sum")(x, axes=(0, 1)), floats(9, 11)),
    "short rows": (lambda x: find("max")(x, axes=(1,)), floats(300, 3)),
    "one chunk": (lambda x: find("sum")(x, axes=(1,)), floats(3, 4096)),
    "a chunk and one": (lambda x: find("sum")(x, axes=(1,)), floats(3, 4097)),
    "many chunks": (lambda x: find("sum")(x * x, axes=(1,)), floats(2, 45000)),
    "several folds": (lambda x: [find("sum")(x, axes=(1,)), find("min")(x, axes=(1,))], floats(5, 100)),
    "integers": (lambda x: find("sum")(x.cast(dtypes.int64), axes=(1,)), floats(5, 100) * 9),
    "f64": (lambda x: find("sum")(x, axes=(1,)), floats(5, 100).astype(np.float64)),
    "argmax": (lambda x: find("argmax")(x, axes=(1,)), floats(5, 100)),
    "softmax": (softmax, floats(37, 100)),
    "long softmax": (softmax, floats(3, 5000)),
    "layer norm": (layer_norm, floats(9, 130)),
    "stretched inside": (lambda x, y: find("sum")(x * y.expand(x.shape), axes=(1, 2)), floats(3, 5, 64), floats(5, 1)),
}
COLUMNS = {
    "columns": (lambda x: find("sum")(x * x, axes=(0,)), floats(700, 70)),
    "few rows": (lambda x: find("max")(x, axes=(0,)), floats(5, 70)),
    "middle": (lambda x: [find("sum")(x * x, axes=(1,)), x * x], floats(3, 70, 37)),
    "stretched inside": (lambda x, y: find("sum")(x * y.expand(x.shape), axes=(0, 1)), floats(6, 5, 7), floats(5, 1)),
}
TRANSPOSE = {
    "transpose": (permute(1, 0), floats(67, 130)),
    "narrow": (permute(1, 0), floats(2, 33)),
    "batched": (lambda x, y: permute(0, 2, 1)(x) * 2.0 + y, floats(3, 67, 35), floats(3, 35, 67)),
    "two": (lambda x, y: permute(1, 0)(x) - find("exp")(permute(1, 0)(y)), floats(40, 33), floats(40, 33, seed=1)),
    "rotated": (permute(2, 0, 1), floats(4, 5, 6)),
    "f64": (permute(1, 0), floats(33, 40).astype(np.float64)),
}
PRODUCTS = {
    "matmul": (matmul, floats(70, 300), floats(300, 90)),
    "one tile": (matmul, floats(64, 16), floats(16, 64)),
    "small": (matmul, floats(2, 3), floats(3, 5)),
    "layer": (layer, floats(33, 30), floats(65, 30), floats(65)),
    "left transposed": (lambda x, y: matmul(permute(1, 0)(x), y), floats(30, 33), floats(30, 65)),
    "batched": (matmul, floats(3, 33, 20), floats(3, 20, 17)),
    "nothing along k": (matmul, floats(3, 0), floats(0, 4)),
    "f64": (matmul, floats(20, 30).astype(np.float64), floats(30, 20).astype(np.float64)),
    "vector": (matmul, floats(1, 300), floats(300, 90)),
    "long dot": (matmul, floats(1, 9000), floats(9000, 1)),
    "batched vectors": (matmul, floats(3, 40, 70), floats(3, 70, 1)),
    "computed operands": (lambda x, y: matmul(x * 0.5, permute(1, 0)(-y)), floats(33, 30), floats(40, 30)),
    "computed matrix": (lambda x, y: matmul(find("exp")(x), y), floats(40, 70), floats(70, 1)),
}
FAMILIES = {"elementwise": ELEMENTWISE, "rows": ROWS, "columns": COLUMNS, "transpose": TRANSPOSE, "matmul": PRODUCTS}
PROGRAMS = {f"{family}: {name}": case for family, cases in FAMILIES.items() for name, case in cases.items()}
#: One of each kind, for what is asked of every architecture.
KINDS = [f"{family}: {name}" for family, name in (
    ("elementwise", "bias"), ("rows", "softmax"), ("rows", "many chunks"), ("columns", "columns"),
    ("transpose", "batched"), ("matmul", "matmul"), ("matmul", "layer"), ("matmul", "long dot"),
)]  # fmt: skip


@cache
def program(name: str) -> tuple[Graph, list[np.ndarray]]:
    function, *arrays = PROGRAMS[name]
    return graph_of(function, arrays), [np.asarray(a) for a in arrays]


def graph_of(function, arrays) -> Graph:
    builder = GraphBuilder()
    results = function(*(builder.input(reference.aval_of(np.asarray(a))) for a in arrays))
    builder.graph.outputs = [v.id for v in (results if isinstance(results, list) else [results])]
    return builder.graph


def launches(graph: Graph, target: str = "sm_90") -> list[Launch]:
    kind = "contraction" if any(n.op.kind is Kind.CONTRACTION for n in graph.nodes) else "loops"
    return stages.lower(Cluster(kind, graph), target).calls


def run(graph: Graph, arrays, execute_launch) -> list[np.ndarray]:
    """The outputs of `graph`, where `execute_launch(launch, operands)` runs its one kernel."""
    memory = {v: np.array(x, order="C") for v, x in zip(graph.inputs, arrays, strict=True)}
    memory.update({v: np.full(graph.avals[v].shape, 77, graph.avals[v].dtype.numpy) for v in graph.outputs})
    for launch in launches(graph):
        execute_launch(launch, [memory[o.index] for o in launch.operands])
    return [memory[v] for v in graph.outputs]


def ptx(launch: Launch, target: str) -> str:
    return backend.compile_assembly(launch.source, Options(target=target))


def assert_same_bits(results, wanted) -> None:
    for x, y in zip(results, wanted, strict=True):
        assert x.shape == y.shape and x.dtype == y.dtype
        np.testing.assert_array_equal(x.view(f"u{x.itemsize}"), y.view(f"u{y.itemsize}"))


# ---- numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROGRAMS)
def test_simulated_kernels_give_the_bits_of_cpu_kernels(name):
    graph, arrays = program(name)
    assert_same_bits(run(graph, arrays, gpu_simulator.run), execute.run_graph(graph, arrays, Options()))


def _elementwise_records():
    return sorted(r.name for r in REGISTRY.values() if r.kind is Kind.ELEMENTWISE and not r.fallible)


def _samples(record):
    """The good calls of at least a few elements, data in each of its dtypes."""
    for sample in record.samples():
        if sample.error is None and all(np.size(x) >= 8 for x in sample.operands):
            for dtype in record.dtypes:
                yield (
                    sample,
                    [find("cast").reference(x, dtype) if x.dtype == np.float64 else x for x in sample.operands],
                )
            return


@pytest.mark.parametrize("name", _elementwise_records())
def test_every_elementwise_op_keeps_its_meaning(name):
    record = find(name)
    seen = 0
    for sample, arrays in _samples(record):
        graph = graph_of(lambda *xs, a=sample.attrs: record(*xs, **a), arrays)
        (result,) = run(graph, arrays, gpu_simulator.run)
        (wanted,) = execute.run_graph(graph, arrays, Options())
        np.testing.assert_array_equal(result, wanted)
        (launch,) = launches(graph)
        assert ".extern" not in ptx(launch, "sm_75")
        seen += 1
    assert seen


# ---- text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", nvptx.TARGETS)
def test_ptx_says_its_architecture_and_rounds_as_told(target):
    for name in KINDS:
        for launch in launches(program(name)[0]):
            text = ptx(launch, target)
            assert f".target {target}\n" in text and ".visible .entry kernel(" in text and ".extern" not in text
            assert not re.search(r"\.(approx|ftz|full)\b", text)
            assert not re.search(r"\b(add|sub|mul|fma)\.f(32|64)\b", text), "ptxas may contract what has no .rn"


@needs_ptxas
@pytest.mark.parametrize("target", nvptx.TARGETS)
def test_ptx_assembles_without_spills(target, tmp_path):
    for k, name in enumerate(KINDS):
        for launch in launches(program(name)[0]):
            path = tmp_path / f"{k}.ptx"
            path.write_text(ptx(launch, target))
            command = [PTXAS, "-v", f"-arch={target}", str(path), "-o", str(tmp_path / "kernel.cubin")]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, f"{name}: {done.stderr}"
            assert "0 bytes spill stores, 0 bytes spill loads" in done.stderr, f"{name}: {done.stderr}"


@needs_ptxas
def test_titles_are_comments_of_ptx(tmp_path):
    """What `flambeau-opt --to assembly` prints for a GPU goes into ptxas as it is."""
    text = stage_text.convert(f"module {{ {GRAPHS} }}", [], "tape", "assembly", Options(target="sm_90"))
    parts = stage_text.split(text)
    assert [p.strip().splitlines()[0] for p in parts] == ["// kernel 0 of @f: neg", "// kernel 0 of @g: abs"]
    assert stage_text.separator("assembly", "sm_90") == "// -----\n" and stage_text.separator("assembly") == "# -----\n"
    for part in parts:
        (tmp_path / "kernel.ptx").write_text(part)
        command = [PTXAS, "-arch=sm_90", str(tmp_path / "kernel.ptx"), "-o", str(tmp_path / "kernel.cubin")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


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


def test_ptx_is_no_object_and_no_plan():
    graph, _ = program("elementwise: add")
    with pytest.raises(backend.CompileError, match="code for sm_90 is PTX text"):
        backend.compile_object(launches(graph)[0].source, Options(target="sm_90"))
    with pytest.raises(ValueError, match=r"\[plan\] plans run on CPUs, and sm_90 is none"):
        stages.run(graph, Options(target="sm_90"))


# ---- the simulator itself -------------------------------------------------------------------------------------


def _exchange(barrier: bool, distance: int = 1) -> Launch:
    """Every thread reads what its neighbour wrote."""
    b = GpuEmitter(64)
    out, shared = b.pointer(True), b.shared(64, "i64")
    b.store(b.thread(), shared, b.thread())
    if barrier:
        b.barrier()
    b.store(b.load(shared, b.xor(b.thread(), distance), "i64"), out, b.thread())
    return Launch(b.source("exchange"), (Operand("value"),), (), 1, 1, (0,), block=(64, 1, 1))


def test_the_simulator_sees_missing_barriers():
    out = np.zeros(64, np.int64)
    gpu_simulator.run(_exchange(True), [out])
    assert out.tolist() == [t ^ 1 for t in range(64)]
    with pytest.raises(AssertionError, match="before the barrier"):
        gpu_simulator.run(_exchange(False), [out])


def test_the_simulator_sees_accesses_outside():
    with pytest.raises(AssertionError, match="outside of an operand"):
        gpu_simulator.run(_exchange(True), [np.zeros(63, np.int64)])
    with pytest.raises(AssertionError, match="outside of shared"):
        gpu_simulator.run(_exchange(True, 64), [np.zeros(64, np.int64)])


def test_the_simulator_sees_barriers_that_some_threads_miss():
    b = GpuEmitter(64)
    with b.if_(b.cmp("lt", b.thread(), 32)):
        b.barrier()
    with pytest.raises(AssertionError, match="only some threads of a block"):
        gpu_simulator.run(Launch(b.source("partial"), (), (), 1, 1, (), block=(64, 1, 1)), [])


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
        fb.device("cuda")
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
