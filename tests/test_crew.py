"""Blocking compilation by this process and its workers together: same code, same caches, same errors, only sooner."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import workers
from flambeau.compiler import driver
from flambeau.compiler.backend.object_code import CompileError
from flambeau.compiler.baseline.op_by_op import to_array
from flambeau.compiler.caches import kernel_cache
from flambeau.compiler.kernel import KernelSource
from flambeau.compiler.options import Options
from flambeau.compiler.workers import crew, pool, worker
from flambeau.compiler.workers.crew import Crew
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float32
from flambeau.dialects.record import find
from random_graphs import same_bits
from workers import clear, sabotage, wait_until

BLOCKING = Options(mode="blocking")
X = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)


def program():
    """Four matrix products with different epilogues: four kernels that take long, and some that do not."""
    builder = GraphBuilder()
    x = builder.input(Aval((8, 8), float32))
    for name in ("neg", "abs", "tanh", "sqrt"):
        x = find(name)(find("matmul")(x, x))
    builder.graph.outputs = [x.id, find("sum")(x, axes=(0,)).id]
    return builder.graph


def results(executable):
    return [
        to_array(o, executable.graph.avals[v]) for o, v in zip(executable([X]), executable.graph.outputs, strict=True)
    ]


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    yield from workers.without(tmp_path, monkeypatch)


@pytest.fixture
def cores(monkeypatch):
    """Two cores, whatever this machine has. Call it for another number."""

    def have(n):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(n)))

    have(2)
    return have


@pytest.fixture
def adopted(monkeypatch):
    """The labels of the kernels that came from workers."""
    labels, real = [], kernel_cache.KernelCache.adopt

    def adopt(self, source, options, code):
        labels.append(source.label)
        return real(self, source, options, code)

    monkeypatch.setattr(kernel_cache.KernelCache, "adopt", adopt)
    return labels


def warm():
    """A worker that waits for work."""
    job = pool.shared().submit("object", KernelSource("not MLIR", "warm"), BLOCKING, nice=0)
    assert job.wait(60) and "[compile] kernel 'warm' failed" in job.error


def forget(folder):
    """Empty the caches."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()
    driver._compiled.clear()
    kernel_cache.shared.cache_clear()


def stored(folder):
    """The kernels and plans in a cache: what LLVM says of the CPU is asked and kept once in a process."""
    return {p.name: p.read_bytes() for kind in ("kernels", "plans") for p in (folder / kind).rglob("*") if p.is_file()}


# ---- the ordinary case


def test_together_they_make_what_one_process_makes(fresh, cores, adopted, monkeypatch, tmp_path):
    warm()
    together = driver.compile(program(), BLOCKING)
    assert together.ready() and adopted and len(adopted) < len(together.report.kernels)
    assert together.report.tier == "fused" and together.report.origin == "compiled" and together.report.seconds > 0
    assert kernel_cache.shared().statistics == kernel_cache.Statistics(compiled=len(together.report.kernels))
    shared = results(together), stored(fresh), list(adopted)
    clear()
    cores(1)
    monkeypatch.setenv("FLAMBEAU_CACHE", str(tmp_path / "alone"))
    alone = driver.compile(program(), BLOCKING)
    assert alone.ready() and adopted == shared[2] and pool.processes() == []
    assert all(map(same_bits, results(alone), shared[0]))
    assert stored(tmp_path / "alone") == shared[1]


@pytest.mark.parametrize(("start", "workers"), [(crew.START, 1), (60.0, 0)])
def test_a_worker_is_started_for_a_long_program_only(fresh, cores, monkeypatch, start, workers):
    monkeypatch.setattr(crew, "START", start)
    assert driver.compile(program(), BLOCKING).ready() and len(pool.processes()) == workers


def test_lost_kernels_of_a_known_program_are_compiled_together(fresh, cores, adopted):
    assert driver.compile(program(), BLOCKING).ready()
    forget(fresh / "kernels")
    adopted.clear()
    warm()
    again = driver.compile(program(), BLOCKING)
    assert again.report.origin == "disk" and adopted


def test_a_dump_is_written_by_this_process(fresh, cores, adopted, tmp_path):
    warm()
    executable = driver.compile(program(), Options(mode="blocking", dump=str(tmp_path / "dump")))
    assert executable.ready() and not adopted
    assert len(list((tmp_path / "dump").glob("*.4-assembly.s"))) == len(executable.report.kernels)


def test_nobody_waits_for_a_worker_that_is_slow_to_come_up(fresh, cores, adopted, monkeypatch):
    sabotage(monkeypatch, "import time\ntime.sleep(60)")
    start = time.monotonic()
    assert driver.compile(program(), BLOCKING).ready() and not adopted
    assert len(pool.processes()) == 1 and time.monotonic() - start < 20


def test_a_worker_that_somebody_waits_for_is_not_niced(fresh, cores):
    warm()
    (pid,) = pool.processes()
    assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0)


# ---- failures


def fails(match):
    """The program compiles all the same, with one warning."""
    with pytest.warns(RuntimeWarning, match=match) as caught:
        executable = driver.compile(program(), BLOCKING)
        assert executable.ready()
    assert len(caught) == 1, [str(w.message) for w in caught]
    assert executable.report.tier == "fused" and executable.report.error is None
    assert all(np.isfinite(r).any() for r in results(executable))


@pytest.mark.parametrize("name", ["SIGABRT", "SIGSEGV", "SIGKILL"])
def test_a_kernel_that_a_worker_dies_over_is_left_to_this_process(fresh, cores, adopted, monkeypatch, name):
    sabotage(monkeypatch, f"import os, signal\nw._do = lambda request: os.kill(os.getpid(), signal.{name})")
    monkeypatch.setattr(Crew, "_withdraw", lambda self: None)
    fails(rf"\[compile\] the compiler process was killed by {name}. Kernel 'matmul.*' is compiled by this process.")
    assert not adopted


def test_a_kernel_that_a_worker_hangs_over_is_left_to_this_process(fresh, cores, monkeypatch):
    sabotage(monkeypatch, "import time\nw._do = lambda request: time.sleep(60)")
    monkeypatch.setattr(crew, "LIMIT", 1.0)
    monkeypatch.setattr(crew, "PATIENCE", 60.0)
    monkeypatch.setattr(Crew, "_withdraw", lambda self: None)
    fails("the compiler process took too long. Kernel 'matmul.*' is compiled by this process.")


def test_nobody_waits_for_a_worker_that_is_stopped(fresh, cores, adopted, monkeypatch):
    """What it was given comes back into the queue, and it gets no more."""
    sabotage(monkeypatch, "import os, signal\nw._do = lambda request: os.kill(os.getpid(), signal.SIGSTOP)")
    monkeypatch.setattr(crew, "PATIENCE", 0.2)
    monkeypatch.setattr(pool, "STALLED", 1000.0)
    monkeypatch.setattr(Crew, "_withdraw", lambda self: None)
    executable = driver.compile(program(), BLOCKING)
    assert executable.ready() and not adopted and len(pool.processes()) == 1
    assert all(np.isfinite(r).any() for r in results(executable))


def test_a_process_that_cannot_be_started_is_reported(fresh, cores, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    fails(r"the compiler process did not start \(no more processes\). Kernel 'matmul.*' is compiled by this process.")


def test_the_first_kernel_that_does_not_compile_is_the_one_reported(fresh, cores):
    warm()
    sources = [KernelSource(f"not MLIR {'x' * 10000 * n}", f"bad{n}") for n in (3, 9, 1, 8)]
    with (
        Crew(BLOCKING) as together,
        pytest.raises(CompileError, match=r"\[compile\] kernel 'bad3' failed at stage 'parse'"),
    ):
        together.addresses(sources)


def test_what_was_handed_out_is_taken_back_when_lowering_fails(fresh, cores, monkeypatch):
    sabotage(monkeypatch, "import time\ntime.sleep(60)")
    sources = [KernelSource(f"not MLIR {n} {'x' * 200_000}", f"k{n}") for n in range(3)]
    with pytest.raises(ZeroDivisionError), Crew(BLOCKING) as together:
        for source in sources:
            together.offer(source)
        wait_until(pool.processes)
        assert together._out
        raise ZeroDivisionError
    assert not together._out and not together._queue and not pool.shared()._waiting


AT_EXIT = """
import atexit, sys
sys.path.insert(0, {tests!r})
import os
os.sched_getaffinity = lambda pid: {{0, 1}}
import test_crew as t
atexit.register(lambda: print(t.driver.compile(t.program(), t.BLOCKING).ready() is not None))
"""


def test_programs_compile_while_python_ends(tmp_path):
    env = {**os.environ, "FLAMBEAU_CACHE": str(tmp_path / "cache")}
    code = AT_EXIT.format(tests=os.path.dirname(__file__))
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n" and "[compile]" not in done.stderr, done.stderr


# ---- what a worker imports

FRONTEND = """
import json, runpy, sys
runpy.run_path({path!r}, run_name="started")["_Frontend"]()
import flambeau.compiler.stages, flambeau.compiler.caches.kernel_cache
before = [m for m in sys.modules if m.startswith(("flambeau.engine", "flambeau.functions", "flambeau.nn"))]
{use}
print(json.dumps([before, value]))
"""


@pytest.mark.parametrize(
    "use",
    [
        "import flambeau as fb; value = fb.ones(3).sum().item()",
        "from flambeau import ones; value = ones(3).sum().item()",
        "from flambeau import nn; value = float(nn.Linear(3, 3).weight.numel() / 3)",
        "import flambeau.nn.functional as F, flambeau; value = F.relu(flambeau.ones(3)).sum().item()",
    ],
)
def test_a_worker_imports_the_frontend_when_a_plugin_asks_for_it(use):
    code = FRONTEND.format(path=worker.__file__, use=use)
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[], 3.0]


def test_a_started_worker_has_no_frontend():
    command = [sys.executable, "-X", "importtime", "-P", worker.__file__, "0"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}
    assert "flambeau.compiler.backend.object_code" in imported
    assert not {"flambeau", "flambeau.hooks", "flambeau.engine", "flambeau.functions"} & imported
