"""The driver end to end: modes, sharing, errors, warm starts in a fresh process, damaged caches, dumps, reports."""

import importlib
import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from flambeau.compiler import driver, stages
from flambeau.compiler.baseline import one_op, op_plans
from flambeau.compiler.baseline.op_by_op import to_array
from flambeau.compiler.caches import kernel_cache, plan_cache
from flambeau.compiler.options import Options
from flambeau.compiler.tools import report
from flambeau.compiler.workers import pool
from flambeau.dialects import reference
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float32, int32, int64
from flambeau.dialects.graph import Loc
from flambeau.dialects.record import REGISTRY, find
from flambeau.runtime import _binding as runtime
from random_graphs import program, same_bits

F32 = Aval((3, 4), float32)
I32 = Aval((4,), int32)
X = np.arange(12, dtype=np.float32).reshape(3, 4) / 7


def build(make, *avals, line=1):
    """The graph of `make`; each op is on a line of its own, from `line` on."""
    builder = GraphBuilder()
    inputs = [builder.input(a) for a in avals]
    emit = builder.emit_all

    def on_next_line(op, operands, attrs):
        builder.loc = Loc("user.py", line + len(builder.graph.nodes))
        return emit(op, operands, attrs)

    builder.emit_all = on_next_line
    outputs = make(*inputs)
    builder.graph.outputs = [v.id for v in (outputs if isinstance(outputs, tuple) else (outputs,))]
    return builder.graph


def softmax(x):
    e = find("exp")(x)
    return e / find("broadcast")(find("reshape")(find("sum")(e, axes=(1,)), shape=(3, 1)), shape=(3, 4))


def arrays(graph, outputs):
    return [to_array(x, graph.avals[v]) for x, v in zip(outputs, graph.outputs, strict=True)]


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """Empty caches, in memory and on disk; gives the folder."""
    monkeypatch.setenv("FLAMBEAU_CACHE", str(tmp_path / "cache"))
    for module in (kernel_cache, plan_cache):
        module.shared.cache_clear()
    monkeypatch.setattr(driver, "_compiled", type(driver._compiled)())
    monkeypatch.setattr(op_plans, "_plans", type(op_plans._plans)())
    monkeypatch.setattr(one_op, "_known", {})
    yield tmp_path / "cache"
    pool.shutdown()
    for module in (kernel_cache, plan_cache):
        module.shared.cache_clear()


# ---- modes


def test_blocking_compiles_at_first_sight(fresh):
    graph = build(softmax, F32)
    executable = driver.compile(graph, Options(mode="blocking"))
    assert isinstance(executable.ready(), runtime.Plan)
    assert executable.report.tier == "fused" and executable.report.origin == "compiled"
    np.testing.assert_allclose(arrays(graph, executable([X]))[0], reference.run(graph, [X])[0], rtol=1e-6)


def test_off_never_fuses(fresh):
    graph = build(softmax, F32)
    executable = driver.compile(graph, Options(mode="off"))
    for _ in range(3):
        assert executable([X]) and executable.ready() is None
    assert executable.report.tier == "generic"


def test_background_runs_at_once_and_swaps_when_ready(fresh):
    graph = build(softmax, F32)
    executable = driver.compile(graph, Options(mode="background"))
    first = arrays(graph, executable([X]))
    assert executable.report.tier == "generic"
    second = arrays(graph, executable([X]))
    assert executable.wait(60) is not None
    third = arrays(graph, executable([X]))
    assert executable.report.tier == "fused" and executable.report.origin == "worker"
    assert same_bits(first[0], second[0]) and same_bits(first[0], third[0])


def test_background_compiles_nothing_that_is_seen_once(fresh):
    executable = driver.compile(build(softmax, F32), Options(mode="background"))
    executable([X])
    assert executable.compiled._build is None or executable.wait(0) is None
    assert executable.compiled._requests == 2 or executable.compiled._build is None


def test_inputs_may_be_buffers_arrays_and_numbers(fresh):
    def make(x, s):
        return x * find("broadcast")(find("reshape")(s.cast(float32), shape=(1, 1)), shape=(3, 4))

    from flambeau.dialects.dtypes import float64

    graph = build(make, F32, Aval((), float64))
    buffer = runtime.Buffer.alloc(X.nbytes)
    np.frombuffer(buffer, np.float32)[:] = X.ravel()
    for mode in ("blocking", "off"):
        executable = driver.compile(graph, Options(mode=mode))
        for x in (X, buffer):
            for s in (2.5, np.asarray(2.5)):
                assert same_bits(arrays(graph, executable([x, s]))[0], X * np.float32(2.5))


# ---- sharing


def test_equal_graphs_share_the_plan_and_keep_their_lines(fresh):
    def make(x, y):
        return find("int_div")(x + x, y)

    one, two = (driver.compile(build(make, I32, I32, line=k), Options(mode="blocking")) for k in (1, 100))
    assert one.ready() is two.ready()
    zero = [np.ones(4, np.int32), np.zeros(4, np.int32)]
    for executable, line in ((one, 2), (two, 101)):
        with pytest.raises(RuntimeError) as caught:
            executable(zero)
        assert caught.value.__notes__ == [f"recorded at user.py:{line}"]


def test_equal_layers_are_lowered_once(fresh, monkeypatch):
    monkeypatch.setattr(stages, "_lowered", stages.Shared(100))

    def make(x):
        for _ in range(8):
            x = find("matmul")(softmax(x), find("permute")(x, perm=(1, 0)))
            x = find("slice")(find("concat")(x, x, dim=1), starts=(0, 0), sizes=(3, 4), steps=(1, 1))
        return x

    graph = build(make, F32)
    executable = driver.compile(graph, Options(mode="blocking"))
    executable.ready()
    # those of one layer, and what packs the input of the program, which alone can be kept
    assert len(executable.report.kernels) <= executable.report.steps // 4
    assert len(stages._lowered) <= 8


def test_programs_are_remembered_up_to_a_bound(fresh, monkeypatch):
    monkeypatch.setattr(driver, "_REMEMBERED", 3)
    for n in range(1, 8):
        driver.compile(build(lambda x: x + x, Aval((n,), float32)), Options(mode="off"))
    assert len(driver._compiled) == 3


# ---- errors


def gather(x, index):
    return find("gather")(x + x, index, axis=1)


@pytest.mark.accept("ERR-01")
@pytest.mark.parametrize("mode", ["blocking", "off"])
def test_an_index_out_of_range_names_values_and_line(fresh, mode):
    graph = build(gather, F32, Aval((3, 2), int64))
    executable = driver.compile(graph, Options(mode=mode))
    index = np.array([[0, 1], [2, 3], [4, 0]])
    with pytest.raises(
        IndexError, match=r"\[gather\] index\[2, 0\] is out of range for axis 1 of shape \(3,"
    ) as caught:
        executable([X, index])
    assert caught.value.__notes__ == ["recorded at user.py:2"]
    assert same_bits(arrays(graph, executable([X, index % 4]))[0], np.take_along_axis(X + X, index % 4, 1))


@pytest.mark.parametrize("mode", ["blocking", "off"])
def test_the_first_op_in_program_order_is_the_one_that_fails(fresh, mode):
    def make(x, y, z):
        return find("int_div")(x, y), find("int_rem")(x, z)

    executable = driver.compile(build(make, I32, I32, I32), Options(mode=mode))
    one, zero = np.ones(4, np.int32), np.zeros(4, np.int32)
    with pytest.raises(RuntimeError, match=r"\[floor_divide\] integer division by zero at \[0\]"):
        executable([one, zero, zero])
    with pytest.raises(RuntimeError, match=r"\[remainder\] integer division by zero at \[0\]"):
        executable([one, one, zero])


@pytest.mark.parametrize("mode", ["blocking", "off"])
def test_an_unread_op_still_fails(fresh, mode):
    def make(x, y):
        find("int_div")(x, y)
        return x + x

    executable = driver.compile(build(make, I32, I32), Options(mode=mode))
    with pytest.raises(RuntimeError, match=r"\[floor_divide\] integer division by zero"):
        executable([np.ones(4, np.int32), np.zeros(4, np.int32)])


@pytest.mark.runtime
def test_a_failed_run_leaves_its_inputs_alone(fresh):
    def make(p, x, y):
        return p - p.like(1.0), find("int_div")(x, y)

    graph = build(make, F32, I32, I32)
    graph.updates = {0: 0}
    plan = driver.compile(graph, Options(mode="blocking")).ready()
    buffer = runtime.Buffer.alloc(X.nbytes)
    np.frombuffer(buffer, np.float32)[:] = X.ravel()
    with pytest.raises(runtime.KernelFailed):
        plan.run([buffer, np.ones(4, np.int32), np.zeros(4, np.int32)], donate=[0])
    assert not buffer.donated
    assert same_bits(np.frombuffer(buffer, np.float32).reshape(3, 4), X)


def test_a_prefix_runs_up_to_the_op_that_fails(fresh):
    def make(x, y):
        a = x + x
        b = find("int_div")(a, y)
        return b * b

    graph = build(make, I32, I32)
    executable = driver.compile(graph, Options(mode="blocking"))
    inputs = [np.arange(4, dtype=np.int32), np.zeros(4, np.int32)]
    prefix = executable.run_prefix(inputs, everything=True)
    assert prefix.failed == 1 and "[floor_divide]" in str(prefix.error)
    assert set(prefix.values) == {graph.nodes[0].results[0]}
    assert executable.run_prefix(inputs, stop=1).error is None
    inputs[1] += 3
    whole = executable.run_prefix(inputs)
    assert whole.failed is None and set(whole.values) == set(graph.outputs)
    assert executable.compiled.plan is None, "replaying a prefix must not compile the fused program"


def test_an_op_that_only_a_kernel_computes_fails_like_its_reference(fresh, request):
    record = find("gather")
    request.addfinalizer(lambda: object.__setattr__(record, "exact", True))
    object.__setattr__(record, "exact", False)
    executable = driver.compile(build(gather, F32, Aval((3, 2), int64)), Options(mode="off"))
    index = np.array([[0, 1], [2, 3], [4, 0]])
    with pytest.raises(IndexError, match=r"\[gather\] index\[2, 0\] is out of range for axis 1 of shape") as caught:
        executable([X, index])
    assert caught.value.__notes__ == ["recorded at user.py:2"]


def test_a_wrong_number_of_inputs_is_refused(fresh):
    executable = driver.compile(build(softmax, F32), Options(mode="off"))
    with pytest.raises(RuntimeError, match=r"\[run\] the program has 1 inputs, got 2. Pass one each."):
        executable([X, X])


@pytest.mark.accept("ERR-07")
def test_what_cannot_be_compiled_runs_op_by_op_and_says_so_once(fresh, monkeypatch):
    graph = build(lambda x: x * x - x, F32)
    monkeypatch.setitem(stages.PROGRAM, "cluster", lambda work: 1 // 0)
    executable = driver.compile(graph, Options(mode="blocking"))
    with pytest.warns(RuntimeWarning, match=r"was not compiled: ZeroDivisionError: .* It runs op by op. To reproduce:"):
        outputs = executable([X])
    assert same_bits(arrays(graph, outputs)[0], X * X - X)
    assert executable([X])
    assert executable.report.tier == "generic" and "ZeroDivisionError" in executable.report.error
    monkeypatch.undo()
    with open(executable.report.reproducer) as file:
        text = file.read()
    assert "tape.mul" in text and "// ZeroDivisionError" in text


# ---- warm starts

SCRIPT = """
import json, sys, time
sys.path.insert(0, {tests!r})
import numpy
from flambeau.dialects.graph import Graph
import mlp_step
graph, inputs = mlp_step.step(64), mlp_step.arrays(64)
before = set(sys.modules)
start = time.perf_counter()
from flambeau.compiler import driver
from flambeau.compiler.tools import report
from flambeau.compiler.options import Options
executable = driver.compile(graph, Options(mode={mode!r}))
plan = executable.ready()
seconds = time.perf_counter() - start
loss = float(numpy.frombuffer(executable(inputs)[0], numpy.float32)[0])
kinds = "torch_mlir", "mlir", "llvmlite", "flambeau.compiler", "subprocess", "tempfile"
modules = [m for m in set(sys.modules) - before if m.startswith(kinds)]
print(json.dumps(dict(seconds=seconds, loss=loss, modules=modules, origin=executable.report.origin)))
"""


def in_fresh_process(cache, mode="blocking"):
    code = textwrap.dedent(SCRIPT).format(tests=os.path.dirname(__file__), mode=mode)
    env = {**os.environ, "FLAMBEAU_CACHE": str(cache)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_a_warm_start_needs_no_mlir_and_no_code_generator(tmp_path):
    cold, _ = in_fresh_process(tmp_path / "cache")
    warm, _ = in_fresh_process(tmp_path / "cache")
    background, _ = in_fresh_process(tmp_path / "cache", "background")
    assert cold["origin"] == "compiled" and any(m.startswith("torch_mlir") for m in cold["modules"])
    assert not [
        m for m in cold["modules"] if m.endswith("_ops_gen")
    ]  # MLIR's op classes: long to import, and not needed
    for found in (warm, background):
        assert found["origin"] == "disk" and found["loss"] == cold["loss"]
        heavy = [
            m
            for m in found["modules"]
            if any(
                w in m
                for w in (
                    "mlir",
                    "llvmlite",
                    "codegen",
                    "passes",
                    "plans.plan",
                    "object_code",
                    "subprocess",
                    "tempfile",
                )
            )
        ]
        assert heavy == []


# ---- damaged, foreign and unwritable caches


def entries(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def compiled_again(graph):
    """Run with nothing in memory; returns where the plan came from."""
    driver._compiled.clear()
    plan_cache.shared.cache_clear()
    kernel_cache.shared.cache_clear()
    executable = driver.compile(graph, Options(mode="blocking"))
    assert same_bits(arrays(graph, executable([X]))[0], X * X - X)
    return executable.report.origin


@pytest.mark.parametrize("damage", [b"", b"junk", None], ids=["empty", "junk", "cut short"])
def test_a_damaged_plan_is_compiled_again(fresh, damage):
    graph = build(lambda x: x * x - x, F32)
    assert compiled_again(graph) == "compiled"
    assert compiled_again(graph) == "disk"
    (path,) = entries(fresh / "plans")
    path.write_bytes(path.read_bytes()[:-7] if damage is None else damage)
    assert compiled_again(graph) == "compiled"
    assert compiled_again(graph) == "disk"


def test_a_plan_of_another_layout_is_discarded(fresh):
    import marshal

    graph = build(lambda x: x * x - x, F32)
    compiled_again(graph)
    cache = plan_cache.shared()
    key = plan_cache.key(graph, Options(mode="blocking"))
    for content in ((1, 2), ((1,), (), ()), 5):
        cache.store.write(key, marshal.dumps(content, 2))
        assert cache.find(key) is None


def test_a_lost_kernel_is_compiled_again_for_a_known_plan(fresh):
    graph = build(lambda x: x * x - x, F32)
    compiled_again(graph)
    for path in entries(fresh / "kernels"):
        path.unlink()
    assert compiled_again(graph) == "disk"
    assert len(entries(fresh / "kernels")) == 1


def test_a_cache_that_others_may_write_is_not_used(fresh):
    (fresh / "plans").mkdir(parents=True)
    (fresh / "plans").chmod(0o777)
    graph = build(lambda x: x * x - x, F32)
    with pytest.warns(RuntimeWarning, match=r"\[cache\] .*plans can be written by others \(mode 0777\)"):
        assert compiled_again(graph) == "compiled"
    assert entries(fresh / "plans") == []


def test_a_cache_that_cannot_be_made_leaves_everything_in_memory(fresh, monkeypatch):
    fresh.parent.joinpath("file").write_text("")
    monkeypatch.setenv("FLAMBEAU_CACHE", str(fresh.parent / "file"))
    graph = build(lambda x: x * x - x, F32)
    with pytest.warns(RuntimeWarning, match=r"\[cache\] .* cannot be made"):
        assert compiled_again(graph) == "compiled"


def test_options_target_and_sources_are_part_of_the_key(fresh, monkeypatch):
    graph = build(softmax, F32)
    base = plan_cache.key(graph, Options())
    assert plan_cache.key(graph, Options(mode="off")) == base
    assert plan_cache.key(graph, Options(fuse=False)) != base
    assert plan_cache.key(graph, Options(max_cluster_ops=5)) != base
    assert plan_cache.key(graph, Options(target="x86-64-v3")) != base
    monkeypatch.setattr(plan_cache, "toolchain", lambda: "other sources")
    assert plan_cache.key(graph, Options()) != base


def test_an_op_of_another_package_brings_its_source_into_the_key(fresh, tmp_path, monkeypatch):
    source = """
from dataclasses import replace
from flambeau.dialects.record import REGISTRY, find
REGISTRY.pop("twice", None)
twice = replace(find("neg"), name="twice", lower=lambda b, x: b.add(x, x), reference=lambda x: x + x)
"""
    keys = []
    monkeypatch.syspath_prepend(tmp_path)
    for n, text in enumerate((source, source + "# changed")):
        (tmp_path / f"other_ops_{n}.py").write_text(text)
        graph = build(importlib.import_module(f"other_ops_{n}").twice, F32)
        keys.append(plan_cache.key(graph, Options()))
        assert same_bits(arrays(graph, driver.compile(graph, Options(mode="blocking"))([X]))[0], X + X)
    REGISTRY.pop("twice")
    assert keys[0] != keys[1]


# ---- stages, dumps, reports


def test_a_dump_holds_every_stage(fresh, tmp_path):
    graph = build(softmax, F32)
    driver.compile(graph, Options(mode="blocking", dump=str(tmp_path / "dump"))).ready()
    names = {path.name for path in (tmp_path / "dump").glob("program-*/*")}
    assert names == {f"{k:02}-{name}.mlir" for k, name in enumerate(stages.PROGRAM)}
    assert list((tmp_path / "dump").glob("*.s")), "the kernels' stages are written by the backend"


def test_the_report_says_what_runs_and_where_it_came_from(fresh):
    graph = build(softmax, F32)
    executable = driver.compile(graph, Options(mode="blocking"))
    executable.ready()
    found = report.programs()[-1]
    assert found is executable.report
    assert (found.ops, found.inputs, found.outputs, found.mode, found.tier) == (5, 1, 1, "blocking", "fused")
    assert found.seconds > 0 and found.steps == len(found.kernels) == 1 and "exp" in found.kernels[0]
    totals = report.totals()
    assert totals["plan_cache_misses"] == 1 and totals["kernels_compiled"] == 1 and totals["fused"] >= 1


def test_a_random_program_survives_the_disk(fresh):
    graph, inputs = program(7, n_nodes=30)
    options = Options(mode="blocking")
    wanted = arrays(graph, driver.compile(graph, options)(inputs))
    driver._compiled.clear()
    plan_cache.shared.cache_clear()
    executable = driver.compile(graph, options)
    found = arrays(graph, executable(inputs))
    assert executable.report.origin == "disk"
    assert all(same_bits(x, y) for x, y in zip(wanted, found, strict=True))
