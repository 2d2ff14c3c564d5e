"""Compiler processes: they compile, go when idle, die alone, and never take the program with them."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import workers
from flambeau.compiler import driver
from flambeau.compiler.baseline import one_op, op_plans
from flambeau.compiler.baseline.op_by_op import to_array
from flambeau.compiler.caches import kernel_cache
from flambeau.compiler.kernel import KernelSource
from flambeau.compiler.options import Options
from flambeau.compiler.workers import pool, process
from flambeau.compiler.workers.build import Build
from flambeau.compiler.workers.pool import Pool
from flambeau.compiler.workers.worker import Request
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
    """A program of exact op_plans, so that the baseline tier needs no worker."""
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


def test_workers_are_niced_and_hear_no_ctrl_c(fresh, monkeypatch):
    monkeypatch.setattr(pool, "GRACE", 0.0)
    started().wait(60)
    (pid,) = pool.processes()
    assert os.getpriority(os.PRIO_PROCESS, pid) >= 10
    assert os.getpgid(pid) != os.getpgid(0)
    os.kill(pid, signal.SIGINT)
    other = started(chain(5))
    assert other.wait(60) is not None and pool.processes() == [pid]


@pytest.mark.parametrize(("grace", "is_niced"), [(1000.0, False), (0.001, True)])
def test_the_first_worker_is_niced_once_it_has_worked_for_a_while(fresh, monkeypatch, grace, is_niced):
    monkeypatch.setattr(pool, "GRACE", grace)
    started().wait(60)
    (pid,) = pool.processes()
    assert (os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)) == is_niced
    assert [bool(w.nice) for w in pool.shared()._workers] == [is_niced]


def test_no_other_worker_is_started_beside_one_that_is_not_niced_yet(fresh, monkeypatch):
    monkeypatch.setattr(pool, "GRACE", 1000.0)
    shared = pool.shared()
    jobs = [shared.submit("kernel", KernelSource(f"{k}", f"{k}"), Options(), heat=lambda: 2.0) for k in range(3)]
    shared.look()
    assert all(job.wait(60) for job in jobs) and shared.started == 1


def test_a_worker_that_a_step_waits_for_is_not_niced(fresh):
    job = pool.shared().submit("kernel", KernelSource("not MLIR", "k"), Options(), urgent=True)
    assert job.wait(60) and job.error
    (pid,) = pool.processes()
    assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0)


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
    before = set(_children())  # of other tests: Python's resource tracker stays as long as this process
    started().wait(60)
    wait_until(lambda: pool.processes() == [] and before.issuperset(_children()))
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
from flambeau.compiler.workers import pool
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


LOOPS = """
import time
from workers import sabotage, wait_until
mark = {mark!r}
class Patch: setattr = staticmethod(setattr)
sabotage(Patch, f"def loop(request):\\n    open({{mark!r}}, 'w').close()\\n    while True: pass\\nw._do = loop", str(os.getpid()))
other = started()
wait_until(lambda: os.path.exists(mark))
print(*pool.processes(), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_go_with_their_parent_whatever_they_run(tmp_path, how):
    code = PARENT.split("executable =")[0].format(tests=os.path.dirname(__file__))
    code += LOOPS.format(mark=str(tmp_path / "mark"))
    env = {**os.environ, "FLAMBEAU_CACHE": str(tmp_path / "cache")}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env)
    (pid,) = map(int, parent.stdout.readline().split())
    assert alive(pid)
    parent.send_signal(how)
    parent.wait()
    wait_until(lambda: not alive(pid))


@pytest.mark.parametrize("kernel", [True, False])
def test_a_process_and_what_it_forks_end_with_their_parent(kernel):
    """Where the kernel does not see to it a thread does."""
    code = f"""
import os, time
from flambeau.compiler.workers import lifeline
lifeline._ask_kernel = lifeline._ask_kernel if {kernel} else lambda: False
parent = os.getpid()
if os.fork() == 0:
    lifeline.die_with(parent)
    if os.fork() == 0:
        print(os.getpid(), os.getppid(), flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2 and all(map(alive, pids))
    parent.kill()
    parent.wait()
    wait_until(lambda: not any(map(alive, pids)))


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


# ---- workers that do not answer


@pytest.fixture
def stopped(fresh, monkeypatch):
    """A worker that came up and was stopped, and that nobody ends."""
    monkeypatch.setattr(pool, "STALLED", 1000.0)
    monkeypatch.setattr(pool, "GRACE", 0.0)
    started().wait(60)
    (pid,) = pool.processes()
    os.kill(pid, signal.SIGSTOP)
    return pid


def test_a_step_does_not_wait_for_a_worker_that_is_stopped(stopped, monkeypatch):
    """The first one loses its patience; for the others nobody is asked."""
    asked, real = [], Pool.submit
    monkeypatch.setattr(Pool, "submit", lambda *args, **words: asked.append(args[1]) or real(*args, **words))
    monkeypatch.setattr(op_plans, "PATIENCE", 0.2)
    monkeypatch.setattr(one_op, "stand_in", lambda *_: None)
    for name, wanted in (("exp", np.exp), ("tanh", np.tanh), ("sin", np.sin)):
        builder = GraphBuilder()
        builder.graph.outputs = [find(name)(builder.input(Aval((12,), float32))).id]
        found = driver.compile(builder.graph, BACKGROUND)([X])[0]
        np.testing.assert_allclose(to_array(found, Aval((12,), float32)), wanted(X), rtol=1e-6)
    assert asked.count("kernel") == 1 and pool.processes() == [stopped]
    assert kernel_cache.shared().statistics.compiled == 3
    pool.shutdown()
    op_plans._plans.clear()
    one_op._known.clear()
    asked.clear()
    builder = GraphBuilder()
    builder.graph.outputs = [find("cos")(builder.input(Aval((12,), float32))).id]
    driver.compile(builder.graph, BACKGROUND)([X])
    assert "kernel" in asked and pool.processes(), "new workers are trusted again"


def test_a_request_that_a_stopped_worker_does_not_read_holds_up_nobody(stopped):
    shared = pool.shared()
    job = shared.submit("kernel", KernelSource("x" * (1 << 22), "big"), Options())
    wait_until(lambda: job not in shared._waiting)
    other = shared.submit("kernel", KernelSource("y", "small"), Options())
    os.kill(stopped, signal.SIGCONT)
    assert job.wait(30) and "kernel 'big' failed" in job.error, "the rest of the request follows"
    assert other.wait(30) and "kernel 'small' failed" in other.error


def test_the_pool_can_be_closed_while_a_worker_does_not_read(stopped):
    shared = pool.shared()
    job = shared.submit("kernel", KernelSource("x" * (1 << 22), "big"), Options())
    wait_until(lambda: job not in shared._waiting)
    pool.shutdown()
    assert not shared._thread.is_alive() and "were shut down" in job.error and not alive(stopped)


def test_what_a_stopped_worker_was_given_another_one_does(stopped, monkeypatch):
    monkeypatch.setattr(pool, "STALLED", 0.3)
    executable = started(chain(5))
    assert executable.wait(60) is not None and executable.report.error is None
    assert not alive(stopped)


def test_what_stops_two_workers_fails(fresh, monkeypatch):
    monkeypatch.setattr(pool, "STALLED", 0.3)
    sabotage(monkeypatch, "import os, signal\nw._do = lambda request: os.kill(os.getpid(), signal.SIGSTOP)")
    crashes(started(), "the compiler process made no progress")


def test_what_a_step_waits_for_goes_first(stopped):
    shared = pool.shared()
    out = shared.submit("kernel", KernelSource("x", "x"), Options())
    wait_until(lambda: out not in shared._waiting)
    jobs = [shared.submit("kernel", KernelSource(f"{k}", "x"), Options(), urgent=k > 1) for k in range(4)]
    assert [shared._next() for _ in range(5)] == [jobs[2], jobs[3], jobs[0], jobs[1], None]


def test_what_has_cost_much_beside_what_it_costs_goes_first(stopped):
    shared = pool.shared()
    out = shared.submit("kernel", KernelSource("x", "x"), Options())
    wait_until(lambda: out not in shared._waiting)
    heats = {"cold": 0.1, "large": 0.3, "hot": 0.2}
    jobs = {k: shared.submit("kernel", KernelSource(k, k), Options(), heat=lambda k=k: heats[k]) for k in heats}
    heats["hot"] = 0.9
    assert [shared._next() for _ in range(3)] == [jobs["hot"], jobs["large"], jobs["cold"]]


def test_what_would_have_paid_for_itself_is_not_held_up(stopped, monkeypatch):
    """Jobs of a worker that gets no processor, and those that wait for it, are done by one of normal priority, each once."""
    given, give = [], process.Process.give
    monkeypatch.setattr(process.Process, "give", lambda self, job, now: given.append(job) or give(self, job, now))
    shared, heat = pool.shared(), [0.0]
    jobs = [shared.submit("kernel", KernelSource(f"{k}", f"{k}"), Options(), heat=lambda: heat[0]) for k in range(3)]
    cold = shared.submit("kernel", KernelSource("cold", "cold"), Options())
    wait_until(lambda: jobs[0] not in shared._waiting)
    shared.look()
    assert not jobs[1].wait(0.3) and shared.processes() == [stopped], "nobody hurries"
    heat[0] = 1.0
    shared.look()
    for job in jobs:
        assert job.wait(60) and f"kernel '{job.request.what.label}' failed" in job.error
    assert len(shared.processes()) == 2, "one beside the one that is held up"
    assert cold.wait(60), "it goes on with what is there"
    assert [w.nice for w in shared._workers] == [10, 0]
    for _ in range(3):
        shared.look()
        time.sleep(0.1)
    assert len(given) == 5 and len(set(given)) == 4, "the first to both workers, and none again"


def test_the_first_answer_counts_where_two_workers_had_a_job():
    told = []
    job = process.Job(Request("kernel", None, Options(), 1.0), lambda job: told.append(job.result))
    job.answer("first", None, 1.0)
    job.answer("second", "no", 2.0)
    job.fail("gone")
    assert (job.result, job.error, job.crash, job.seconds, told) == ("first", None, None, 1.0, ["first"])


def test_a_pause_of_the_whole_machine_makes_no_worker_late(fresh, monkeypatch):
    shared = pool.shared()
    before, now = shared._now, time.monotonic()
    monkeypatch.setattr(pool.time, "monotonic", lambda: now + 3600)
    shared._count()
    monkeypatch.undo()
    assert shared._now - before <= 2 * pool._TICK


def test_a_worker_that_ends_without_an_error_over_a_request_has_crashed(fresh, monkeypatch):
    sabotage(monkeypatch, "import os\nw._do = lambda request: os._exit(0)")
    crashes(started(), "the compiler process exited with code 0")


def test_an_answer_that_cannot_be_read_costs_its_program_alone(fresh, monkeypatch):
    sabotage(monkeypatch, "import os\nw._do = lambda request: os.write(4, w.HEADER.pack(4) + b'none')")
    with pytest.warns(RuntimeWarning, match="the compiler process sent what cannot be read"):
        executable = started()
        executable.wait(60)
    monkeypatch.undo()
    monkeypatch.setenv("FLAMBEAU_CACHE", str(fresh))
    assert started(chain(5)).wait(60) is not None


def test_what_a_worker_says_on_standard_error_is_kept_in_part(fresh, monkeypatch):
    sabotage(
        monkeypatch, "import os\nw._do = lambda request: [os.write(2, b'x' * 65536) for _ in range(100)] and os.abort()"
    )
    with pytest.warns(RuntimeWarning, match="was killed by SIGABRT: x{100}") as caught:
        started().wait(60)
    assert len(str(caught[0].message)) < 4000


def test_a_worker_that_never_comes_up_is_reported(fresh, monkeypatch):
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda c, **k: real([sys.executable, "-c", "raise SystemExit(3)"], **k))
    crashes(started(), "the compiler process exited with code 3")


def test_a_process_that_cannot_be_started_is_reported(fresh, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    crashes(started(), r"the compiler process did not start \(no more processes\)")


def test_a_killed_worker_does_not_stop_the_generic_tier(fresh, monkeypatch):
    """An op that needs a kernel gets a second worker when the first one dies."""
    monkeypatch.setattr(one_op, "stand_in", lambda *_: None)
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
