"""Compiler processes: they compile, go when idle, die alone, and never take the program with them."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import workers
from flambeau.compiler import driver, kernel_cache, pool
from flambeau.compiler.build import Build
from flambeau.compiler.generic import to_array
from flambeau.compiler.kernel import KernelSource
from flambeau.compiler.options import Options
from flambeau.compiler.pool import Pool
from flambeau.dialects import reference
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float32
from flambeau.dialects.record import find
from random_graphs import same_bits
from workers import sabotage, wait_until

BACKGROUND = Options(mode="background")
X = np.arange(12, dtype=np.float32) / 5


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    yield from workers.without(tmp_path, monkeypatch)


def chain(n=3):
    """A program of exact ops, so that the generic tier needs no worker."""
    builder = GraphBuilder()
    x = builder.input(Aval((12,), float32))
    for k in range(n):
        x = x * x.like(k + 0.5) - x
    builder.graph.outputs = [x.id]
    return builder.graph


def alive(pid):
    """Whether a process exists and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def started(graph=None):
    """A program whose build has been given to a worker."""
    executable = driver.compile(graph or chain(), BACKGROUND)
    executable([X])
    return executable


# ---- the ordinary case


def test_a_worker_compiles_into_the_caches_and_the_parent_only_links(fresh):
    graph = chain()
    executable = started(graph)
    assert executable.wait(60) is not None
    assert same_bits(to_array(executable([X])[0], Aval((12,), float32)), reference.run(graph, [X])[0])
    assert kernel_cache.shared().statistics.compiled == 0
    assert [p for p in (fresh / "plans").rglob("*") if p.is_file()]
    assert [p for p in (fresh / "kernels").rglob("*") if p.is_file()]


def test_without_a_disk_cache_objects_travel_in_the_replies(fresh, monkeypatch):
    fresh.parent.joinpath("file").write_text("")
    monkeypatch.setenv("FLAMBEAU_CACHE", str(fresh.parent / "file"))
    with pytest.warns(RuntimeWarning, match=r"\[cache\]"):
        executable = started()
        assert executable.wait(60) is not None
    assert same_bits(to_array(executable([X])[0], Aval((12,), float32)), reference.run(chain(), [X])[0])


def test_workers_are_niced_and_hear_no_ctrl_c(fresh):
    started().wait(60)
    (pid,) = pool.processes()
    assert os.getpriority(os.PRIO_PROCESS, pid) >= 10
    assert os.getpgid(pid) != os.getpgid(0)
    os.kill(pid, signal.SIGINT)
    other = started(chain(5))
    assert other.wait(60) is not None and pool.processes() == [pid]


def test_kernels_of_a_big_program_compile_in_parallel(fresh):
    two = Pool(most=2)
    try:
        texts = [_kernel(k + 1.5) for k in range(6)]
        jobs = [two.submit("kernel", KernelSource(t, "k"), Options()) for t in texts]
        assert all(job.wait(60) and job.error is None and job.result for job in jobs)
        assert len(two.processes()) == two.started == 2
    finally:
        two.close()


def _kernel(number):
    builder = GraphBuilder()
    x = builder.input(Aval((12,), float32))
    builder.graph.outputs = [(x * x.like(number)).id]
    from flambeau.compiler import stages

    return stages.run(builder.graph, Options()).program.kernels[0].text


def test_an_error_in_a_worker_is_reported_with_its_text(fresh):
    job = pool.shared().submit("kernel", KernelSource("this is not MLIR", "bad"), Options())
    assert job.wait(60) and job.crash is None
    assert "[compile] kernel 'bad' failed at stage 'parse'" in job.error


# ---- coming and going


def test_a_worker_goes_when_idle_and_leaves_no_zombie(fresh, monkeypatch):
    monkeypatch.setattr(pool, "IDLE", 0.2)
    started().wait(60)
    wait_until(lambda: pool.processes() == [] and not _children())
    executable = started(chain(4))
    assert executable.wait(60) is not None


def _children():
    """Processes whose parent is this one, zombies included, the test's own helpers excluded."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    fields = file.read().rsplit(")", 1)[1].split()
                with open(f"/proc/{entry}/cmdline") as file:
                    command = file.read()
            except OSError:
                continue
            if int(fields[1]) == os.getpid() and ("flambeau" in command or not command):
                found.append(int(entry))
    return found


def test_shutdown_reaps_every_worker(fresh):
    started().wait(60)
    (pid,) = pool.processes()
    pool.shutdown()
    assert not alive(pid) and pid not in _children()


PARENT = """
import os, sys, time
sys.path.insert(0, {tests!r})
import numpy as np
from flambeau.compiler import pool
from test_worker import started
executable = started()
executable.wait(60)
print(*pool.processes(), flush=True)
{ending}
"""


def run_parent(tmp_path, ending):
    code = PARENT.format(tests=os.path.dirname(__file__), ending=ending)
    env = {**os.environ, "FLAMBEAU_CACHE": str(tmp_path / "cache")}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env)
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 1
    return parent, pids[0]


def test_workers_go_when_the_parent_is_killed(tmp_path):
    parent, pid = run_parent(tmp_path, "time.sleep(60)")
    assert alive(pid)
    parent.kill()
    parent.wait()
    wait_until(lambda: not alive(pid))


def test_workers_go_when_the_parent_ends(tmp_path):
    parent, pid = run_parent(tmp_path, "")
    assert parent.wait(20) == 0
    wait_until(lambda: not alive(pid))


def test_a_forked_child_has_workers_of_its_own(fresh):
    started().wait(60)
    (pid,) = pool.processes()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert pool.processes() == []
            executable = started(chain(6))
            assert executable.wait(60) is not None
            assert pool.processes() and pool.processes() != [pid]
            pool.shutdown()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pool.processes() == [pid]
    assert started(chain(7)).wait(60) is not None


def test_work_that_a_fork_left_behind_is_asked_for_again(fresh):
    executable = started()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            build = executable.compiled._build
            assert build.lost or build.done
            executable([X])
            executable([X])
            assert executable.wait(60) is not None
            pool.shutdown()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ---- crashes and hangs


def crashes(executable, match):
    """The build fails with one warning; the program still runs, op by op, and asks for nothing more."""
    with pytest.warns(RuntimeWarning, match=match) as caught:
        executable.wait(60)
        for _ in range(3):
            outputs = executable([X])
    assert len([w for w in caught if "was not compiled" in str(w.message)]) == 1
    assert same_bits(to_array(outputs[0], Aval((12,), float32)), reference.run(executable.graph, [X])[0])
    assert executable.report.tier == "generic" and executable.report.error
    with open(executable.report.reproducer) as file:
        assert "tape.mul" in file.read()


@pytest.mark.parametrize("name", ["SIGABRT", "SIGSEGV", "SIGKILL"])
def test_a_worker_that_crashes_costs_one_program_its_fusion(fresh, monkeypatch, name):
    sabotage(monkeypatch, f"import os, signal\nw._do = lambda request: os.kill(os.getpid(), signal.{name})")
    crashes(started(), f"the compiler process was killed by {name}.* It runs op by op. To reproduce: flambeau-opt")
    monkeypatch.undo()
    monkeypatch.setenv("FLAMBEAU_CACHE", str(fresh))
    assert started(chain(5)).wait(60) is not None, "a new worker serves the others"


def test_what_a_dying_worker_said_is_in_the_report(fresh, monkeypatch):
    sabotage(monkeypatch, "import os, sys\nw._do = lambda request: (os.write(2, b'LLVM ERROR: no'), os.abort())")
    crashes(started(), "was killed by SIGABRT: LLVM ERROR: no")


def test_a_worker_that_hangs_is_ended_by_its_alarm(fresh, monkeypatch):
    monkeypatch.setattr(pool, "LIMIT", 1.0)
    sabotage(monkeypatch, "import time\nw._do = lambda request: time.sleep(60)")
    start = time.monotonic()
    crashes(started(), "the compiler process took too long")
    assert time.monotonic() - start < 15


def test_a_worker_that_cannot_be_woken_is_killed(fresh, monkeypatch):
    monkeypatch.setattr(pool, "LIMIT", 0.5)
    sabotage(monkeypatch, "import os, signal\nw._do = lambda request: os.kill(os.getpid(), signal.SIGSTOP)")
    crashes(started(), "the compiler process took too long")


def test_a_worker_that_never_comes_up_is_reported(fresh, monkeypatch):
    real = subprocess.Popen
    monkeypatch.setattr(
        pool.subprocess, "Popen", lambda c, **k: real([sys.executable, "-c", "raise SystemExit(3)"], **k)
    )
    crashes(started(), "the compiler process exited with code 3")


def test_a_process_that_cannot_be_started_is_reported(fresh, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no more processes")

    monkeypatch.setattr(pool.subprocess, "Popen", refuse)
    crashes(started(), r"the compiler process did not start \(no more processes\)")


def test_a_killed_worker_does_not_stop_the_generic_tier(fresh, monkeypatch):
    """An op that needs a kernel gets a second worker when the first one dies."""
    builder = GraphBuilder()
    builder.graph.outputs = [find("exp")(builder.input(Aval((12,), float32))).id]
    marker = fresh.parent / "died"
    sabotage(
        monkeypatch,
        f"""
        import os
        do = w._do
        def once(request):
            if not os.path.exists({str(marker)!r}):
                open({str(marker)!r}, "w").close()
                os.abort()
            return do(request)
        w._do = once
        """,
    )
    executable = driver.compile(builder.graph, BACKGROUND)
    np.testing.assert_allclose(to_array(executable([X])[0], Aval((12,), float32)), np.exp(X), rtol=1e-6)
    assert marker.exists()


def test_closing_the_pool_fails_what_waits(fresh, monkeypatch):
    sabotage(monkeypatch, "import time\nw._do = lambda request: time.sleep(60)")
    build = Build(chain(), BACKGROUND)
    wait_until(lambda: pool.processes())
    pool.shutdown()
    assert build.wait(5) and "were shut down" in build.error


def test_the_messages_of_a_build_are_complete(fresh):
    build = Build(chain(), BACKGROUND)
    assert build.wait(60) and build.error is None and not build.lost
    assert set(build.objects) == {k.text for k in build.program.kernels}
    assert all(isinstance(address, int) for address in build.link())
    again = Build(chain(), BACKGROUND, build.program)
    assert again.done and not again.objects
