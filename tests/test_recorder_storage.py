"""Cells and views: aliasing, writes, donation, shared memory, failed runs, threads, fork."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import recorder_toy as T
from flambeau.runtime import Buffer, OutOfMemory
from flambeau.runtime import recorder as R


@pytest.fixture(autouse=True)
def toy():
    with T.installed():
        yield


def address(t):
    return R.realize(t).address


# ---- views and writes -----------------------------------------------------------------------------------------


def test_views_see_writes_and_writes_through_views_reach_the_base():
    x = T.tensor(np.arange(6).reshape(3, 2))
    flat, row = x.reshape(6), x.rows((1,), 1)
    row.add_(10.0)
    np.testing.assert_array_equal(T.value(x), [[0, 1], [12, 13], [4, 5]])
    flat.mul_(2.0)
    np.testing.assert_array_equal(T.value(row), [[24, 26]])
    assert x._version == flat._version == 2
    corner = flat.rows((3,), 2).reshape(1, 2)
    corner += 1.0
    np.testing.assert_array_equal(T.value(x), [[0, 2], [24, 27], [9, 10]])


def test_starts_are_operands_and_are_checked():
    x = T.tensor(np.arange(8))
    for start in range(6):
        assert T.value(x.rows((start,), 2).sum()) == 2 * start + 1
    assert T.counts["expand"] == 2 and T.counts["build"] == 1
    for start in (-1, 7):
        with pytest.raises(IndexError, match=rf"\[rows\] start {start} is out of range. It must be in \[0, 6\]."):
            x.rows((start,), 2)


def test_making_a_view_records_nothing():
    x = T.tensor(np.arange(8))
    x.reshape(2, 4)
    before = R.stats()
    views = [x.reshape(2, 4) for _ in range(10)]
    assert R.stats()["pending_ops"] == before["pending_ops"] == 0
    assert all(R.same_storage(v, x) for v in views) and R.stats()["views"] == before["views"]
    assert R.view_info(views[0])[1] == (8,)


def test_detach_and_data_share_storage():
    w = T.tensor([1.0, 2.0], requires_grad=True)
    d = w.detach()
    assert not d.requires_grad and d.is_leaf and R.same_storage(d, w)
    d.add_(1.0)
    np.testing.assert_array_equal(T.value(w), [2, 3])
    assert w._version == 1 and w.is_leaf and w.requires_grad
    R.set_cell(w, T.tensor([5.0, 6.0]))
    np.testing.assert_array_equal(T.value(w), [5, 6])
    np.testing.assert_array_equal(T.value(d), [2, 3])
    with pytest.raises(RuntimeError, match="a leaf that requires grad"):
        w.add_(1.0)
    old = R.set_mode(0)
    w.add_(1.0)
    assert not w.reshape(2, 1).requires_grad
    R.set_mode(old)
    assert w.reshape(2, 1).requires_grad
    np.testing.assert_array_equal(T.value(w), [6, 7])


def test_only_whole_tensors_become_leaves():
    x = T.tensor(np.arange(4))
    with pytest.raises(ValueError, match="Clone it first"):
        R.set_requires_grad(x.reshape(2, 2), True)
    d = x.detach()
    assert R.set_requires_grad(d, True) is d and d.is_leaf and not x.requires_grad
    assert not R.set_requires_grad(d, False).requires_grad
    rows = R.make_leaf(x.rows((1,), 2), False)
    np.testing.assert_array_equal(T.value(rows), [1, 2])
    with pytest.raises(ValueError, match="Clone it first"):
        R.make_leaf(rows, True)
    with pytest.raises(RuntimeError, match="only leaf tensors"):
        R.set_requires_grad(R.set_requires_grad(x, True) + 1.0, False)


def test_old_values_donate_their_buffers():
    asked = []
    x, y = T.tensor(np.ones(1000)), T.tensor(np.ones(1000))
    x.add_(y)
    R.flush()

    def build(export, live, history):
        program = T.build_program(export, live, history)
        inner = program.executable
        program.executable = lambda inputs, donate: asked.append(donate) or inner(inputs, donate)
        return program

    R.clear()
    R.set_hooks(build_program=build)
    x.add_(y)
    R.flush()
    assert asked == [[True, False]]  # only x was overwritten
    kept = R.realize(x)
    x.add_(y)
    R.flush()
    assert asked[1] == [False, False]  # somebody looks at it
    del kept
    z = x + y
    del x
    R.flush()
    assert asked[2] == [True, False]  # nobody can reach x any more
    np.testing.assert_array_equal(T.value(z), np.full(1000, 5))


# ---- shared memory --------------------------------------------------------------------------------------------


def test_shared_memory_is_read_when_recorded_not_when_run():
    a = np.ones(4, np.float32)
    x = T.shared(a)
    y = x + 1.0
    a[:] = 10
    z = x + 1.0
    a[:] = 20
    np.testing.assert_array_equal(T.value(y), [2] * 4)
    np.testing.assert_array_equal(T.value(z), [11] * 4)
    np.testing.assert_array_equal(T.value(x), [20] * 4)


def test_views_of_shared_memory_copy_only_what_they_show():
    a = np.arange(100_000, dtype=np.float32)
    part = T.shared(a).rows((500,), 10) + 0.0
    a[:] = 0
    np.testing.assert_array_equal(T.value(part), np.arange(500, 510))
    assert ("input", 0, (10,), T.f32, False, False, "cpu") in T.last_export


def test_writes_to_shared_memory_are_seen_by_its_owner_at_once():
    a = np.arange(4, dtype=np.float32)
    x = T.shared(a)
    x.rows((1,), 2).add_(10.0)
    np.testing.assert_array_equal(a, [0, 11, 12, 3])
    x.mul_(x)
    np.testing.assert_array_equal(a, [0, 121, 144, 9])


def test_exported_memory_stays_shared_until_it_is_let_go():
    x = T.tensor([1.0, 2.0])
    R.set_shared(x, True)
    array = np.frombuffer(R.realize(x), np.float32)
    x.add_(1.0)
    np.testing.assert_array_equal(array, [2, 3])
    before = address(x)
    del array
    y = x + 1.0
    assert not R.is_shared(x)
    np.testing.assert_array_equal(T.value(y), [3, 4])
    assert address(x) == before


# ---- failures -------------------------------------------------------------------------------------------------


def replay(export, slots, inputs, error):
    """Interpret until a call fails."""
    env, values, machine = {}, iter(v for _, v in inputs), T.Machine(export)
    for entry in export:
        if entry[0] == "input":
            env[entry[1]] = machine.array(next(values), (entry[2], entry[3]))
        elif entry[0] == "scalar":
            env[entry[1]] = next(values)
        elif entry[0] == "call":
            try:
                machine.call(entry, env)
            except IndexError as failed:
                file, line = entry[5]
                error = IndexError(f"{failed} [{Path(file).name}:{line}]")
                break
    return {s: T.to_buffer(env[s], np.float32) for s in slots if s in env}, error, entry[3][0]


def test_a_failing_op_leaves_what_eager_execution_would_have_left():
    R.set_hooks(replay=replay)
    x, w = T.tensor([1.0, -1.0]), T.tensor([1.0, 1.0])
    for _ in range(3):
        before = T.value(w)
        w.add_(1.0)
        first = x * 2.0
        later = x.checked() + 1.0
        line = sys._getframe().f_lineno - 1
        w.add_(100.0)
        for _ in range(2):
            with pytest.raises(IndexError, match=rf"a value is negative. \[test_recorder_storage.py:{line}\]"):
                T.value(later)
        np.testing.assert_array_equal(T.value(w), before + 1)
        np.testing.assert_array_equal(T.value(first), [2, -2])
        with pytest.raises(IndexError):
            later + 1.0
    assert R.stats()["failures"] == 3


def test_without_a_replay_cells_keep_their_committed_values():
    x, w = T.tensor([1.0, -1.0]), T.tensor([1.0, 1.0])
    w.add_(1.0)
    y = x.checked()
    w.add_(1.0)
    with pytest.raises(IndexError, match="negative"):
        T.value(w)
    np.testing.assert_array_equal(T.value(w), [1, 1])
    with pytest.raises(IndexError, match="negative"):
        T.value(y)
    np.testing.assert_array_equal(T.value(w + 1.0), [2, 2])


def failing_runs(error, times=1):
    """Executables raise `error` in the next runs."""
    raising = [error("stop") for _ in range(times)]

    def build(export, live, history):
        program = T.build_program(export, live, history)
        inner = program.executable

        def execute(inputs, donate):
            if raising:
                raise raising.pop()
            return inner(inputs, donate)

        program.executable = execute
        return program

    R.set_hooks(build_program=build)


def test_an_interrupt_leaves_the_trace_pending():
    failing_runs(KeyboardInterrupt)
    w = T.tensor([1.0, 1.0])
    w.add_(1.0)
    with pytest.raises(KeyboardInterrupt):
        T.value(w)
    assert R.stats()["pending_ops"] == 2
    w.add_(1.0)
    np.testing.assert_array_equal(T.value(w), [3, 3])


def test_interrupts_do_not_pile_up_work():
    """What was interrupted runs before anything else is recorded, or that call is interrupted, too."""
    failing_runs(KeyboardInterrupt, times=20)
    w = T.tensor([1.0, 1.0])
    done = interrupted = 0
    while done < 3:
        try:
            w.add_(1.0)
            T.value(w)
            done += 1
        except KeyboardInterrupt:
            interrupted += 1
        assert R.stats()["pending_ops"] <= 2
    assert interrupted == 20
    np.testing.assert_array_equal(T.value(w), [5, 5])  # the first addition, and the three that were not interrupted


def test_bounds_hold_across_interrupts():
    R.set_limits(max_ops=8)
    failing_runs(KeyboardInterrupt, times=30)
    w = T.tensor([1.0, 1.0])
    for _ in range(60):
        with contextlib.suppress(KeyboardInterrupt):
            w.add_(1.0)
        assert R.stats()["pending_ops"] <= 8


@pytest.mark.parametrize("error", [OutOfMemory, MemoryError])
def test_what_ran_out_of_memory_is_dropped_whole(error):
    w = T.tensor([1.0, 1.0])
    w.add_(1.0)
    R.flush()
    failing_runs(error)
    version = w._version
    w.add_(1.0)
    w.add_(1.0)
    y = w * 2.0
    with pytest.raises(OutOfMemory, match="stop"):
        T.value(y)
    assert R.stats()["pending_ops"] == 0
    assert w._version == version
    np.testing.assert_array_equal(T.value(w), [2, 2])
    for _ in range(2):
        with pytest.raises(OutOfMemory, match="stop"):
            T.value(y)
    w.add_(1.0)
    np.testing.assert_array_equal(T.value(w), [3, 3])


def test_a_compiler_that_fails_costs_the_trace_only():
    def build(export, live, history):
        raise RuntimeError("no")

    x = T.tensor([1.0])
    before = R.set_hooks(build_program=build)
    y = x + 1.0
    with pytest.raises(RuntimeError, match="no"):
        T.value(y)
    R.set_hooks(**before)
    assert T.value(x + 1.0) == 2
    with pytest.raises(RuntimeError, match="no"):
        T.value(y)


@pytest.mark.runtime
@pytest.mark.parametrize("answer", [lambda live: None, lambda live: R.Program(lambda i, d: [], ()), lambda live: 3])
def test_a_wrong_program_is_refused(answer):
    R.set_hooks(build_program=lambda export, live, history: answer(live))
    y = T.tensor([1.0]) + 1.0
    with pytest.raises(TypeError, match="must return a Program with all asked outputs"):
        R.flush()
    del y


@pytest.mark.runtime
def test_executables_that_return_too_little_are_refused():
    for wrong in ([], [Buffer.alloc(0)], [3], None):
        R.clear()
        R.set_hooks(build_program=lambda export, live, history, wrong=wrong: R.Program(lambda i, d: wrong, live))
        y = T.tensor([1.0]) + 1.0
        with pytest.raises((TypeError, ValueError)):
            R.flush()
        del y


# ---- threads and processes ------------------------------------------------------------------------------------


def run(fn):
    result = []

    def target():
        try:
            result.append(fn())
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    return result[0]


def test_tensors_cross_threads():
    x = T.tensor([1.0])
    y = x + 1.0
    np.testing.assert_array_equal(run(lambda: T.value(y * 3.0)), [6])
    z = run(lambda: x * 10.0)
    assert T.value(z + y) == 12
    assert run(R.get_mode) == 1
    kept = [x + 1.0 for _ in range(3)]
    run(kept.clear)
    R.flush()
    assert T.counts["runs"] == 4


def test_recorders_of_ended_threads_are_reused():
    x = T.tensor([1.0])
    run(lambda: x + 1.0)
    values = [run(lambda: x + 2.0) for _ in range(20)]
    np.testing.assert_array_equal([T.value(v)[0] for v in values], [3] * 20)


def test_threads_train_side_by_side():
    def loop():
        w = T.tensor(np.zeros(8))
        for _ in range(200):
            w.add_(1.0)
            T.value(w.sum())
        return T.value(w)

    results = [None] * 4

    def work(i):
        results[i] = loop()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for r in results:
        np.testing.assert_array_equal(r, np.full(8, 200))
    assert T.counts["build"] <= 3


def test_the_child_of_a_fork_continues():
    x = T.tensor([1.0])
    y = x + 1.0
    pid = os.fork()
    if pid == 0:
        ok = T.value(y) == 2 and T.value(y * 2.0) == 4 and run(lambda: T.value(x + 1.0)) == 2
        os._exit(0 if ok else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert T.value(y) == 2
