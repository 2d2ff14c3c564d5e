"""Programs that are not compiled yet: op by op, without Python once their ops have plans, and to the same bits all along."""

import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import flambeau as fb
import numpy as np
import pytest
from flambeau import programs
from flambeau.compiler import driver, stages
from flambeau.compiler.baseline import one_op, op_by_op, op_plans
from flambeau.compiler.baseline.waiting import Waiting
from flambeau.compiler.compiled import Compiled
from flambeau.compiler.options import Options
from flambeau.dialects import dtypes
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.record import find
from flambeau.dialects.size import symbol
from flambeau.dialects.size_guards import scope
from flambeau.dialects.size_rows import ExprTable
from flambeau.runtime import _binding

COMPILER = str(Path(driver.__file__).parent)
X = np.linspace(0.25, 2, 24, dtype=np.float32).reshape(4, 6)


@pytest.fixture
def held_back(monkeypatch):
    """Workers make one-op programs, at once, and nothing larger; nothing is known of earlier tests, no op is small and
    no trace is walked."""
    monkeypatch.setattr(one_op, "small_op", lambda *args: None)
    monkeypatch.setattr(programs, "walker", lambda: None)
    monkeypatch.setattr(Compiled, "_start_build", lambda *args: None)
    monkeypatch.setattr(Compiled, "_from_disk", lambda *args: False)
    monkeypatch.setattr(one_op, "LOOK", 0.0)
    monkeypatch.setattr(one_op, "ASK", 0.0)
    for module, name in ((one_op, "_known"), (op_plans, "_asked"), (op_plans, "_plans"), (driver, "_compiled")):
        monkeypatch.setattr(module, name, type(getattr(module, name))())
    with fb.compiler_options(mode="background"):
        yield


def entered(run) -> set[str]:
    """The compiler's Python functions that a call runs through."""
    found = set()

    def profile(frame, event, argument):
        if event == "call" and frame.f_code.co_filename.startswith(COMPILER):
            found.add(frame.f_code.co_name)

    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(None)
    return found


def until(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"


def without_python(run) -> None:
    """Run until nothing is left to do for Python."""
    until(lambda: not entered(run))


def elementwise(x, y):
    z = (x + y) * x - y / x
    z = fb.maximum(z.abs().sqrt(), y).exp()
    return fb.where(z > y, z, -z)


def folds(x, y):
    return (x * y).sum(0) + x.max(0).values - y.mean()


def products(x, y):
    return (x @ y.T).softmax(-1)


def moves(x, y):
    return fb.cat([x[1:3], y[:2].flip(0)], 1).reshape(4, 6).T + fb.arange(4)


@pytest.mark.parametrize("program", [elementwise, folds, products, moves], ids=lambda f: f.__name__)
def test_ops_with_plans_run_without_python_and_give_the_same_bits(held_back, program):
    x, y = fb.tensor(X), fb.tensor(X[::-1] - 1)
    found = []
    without_python(lambda: found.append(program(x, y).numpy().tobytes()))
    with fb.compiler_options(mode="blocking"):
        assert set(found) == {program(x, y).numpy().tobytes()}


@pytest.mark.runtime
def test_extents_too_small_for_symbols_are_left_to_others():
    """A plan with symbols is for extents of two at least, also where these follow from other extents."""
    b, table = GraphBuilder(), ExprTable()
    with scope((5,)):
        b.graph.outputs = [find("exp")(b.input(Aval((symbol(0),), dtypes.float32))).id]
    (plan,) = op_plans.OpPlans(Options())([replace(b.graph, sizes=(5,))])
    rest = [table.add(symbol(0) - 1)]
    exp = lambda sizes, x: [np.exp(np.frombuffer(x, np.float32))]  # noqa: E731
    row = (plan, exp, [0], [1], [0], rest)
    op_list = _binding.OpList(2, 1, (row,), [1], lambda number, error, sizes: error, 1, table.exprs)
    for n, calls in ((6, 0), (3, 0), (2, 1)):
        (found,) = op_list.run([np.ones(n - 1, np.float32)], (n,))
        assert np.frombuffer(found, np.float32) == pytest.approx(np.full(n - 1, np.e)) and op_list.calls == calls


def test_an_op_of_many_extents_has_a_plan_like_any_other(held_back):
    parts = [fb.tensor(np.full((2, n), n, np.float32)) for n in range(2, 80)]
    run = lambda: fb.cat(parts, 1).sum().item()  # noqa: E731
    without_python(run)
    assert run() == sum(2 * n * n for n in range(2, 80))


class Listed:
    """A list that has taken so many nanoseconds."""

    ns = 0


def test_what_replaced_lists_have_cost_counts():
    waiting, first, second = Waiting(1), Listed(), Listed()
    waiting.add(first)
    waiting.count()
    first.ns = 3_000_000_000
    waiting.add(second)
    second.ns = 1_000_000_000
    waiting.count()
    waiting.count()
    assert waiting.seconds == 4.0


def test_what_cannot_have_another_plan_is_not_asked_about_again_and_again():
    b = GraphBuilder()
    b.graph.outputs = [find("sum")(b.input(Aval((4,), dtypes.float32)), axes=(0,)).id]
    program = one_op.OneOp(b.graph, op_plans.OpPlans(Options(mode="background")))
    program.plans.append(object())
    program.waiting.seconds = 1.0
    program.look(())
    assert not program.is_slow


def test_sizes_that_change_need_no_new_plans(held_back, monkeypatch):
    planned = []
    real = stages.run
    monkeypatch.setattr(stages, "run", lambda graph, *rest: planned.append(graph) or real(graph, *rest))
    rows = [(fb.tensor(np.ones((n, m), np.float32)), n * m) for n in range(2, 12) for m in (70, 90)]
    for x, size in rows:
        assert x.exp().sum().item() == pytest.approx(np.e * size)
    assert len(planned) <= 3, "exp, and sums over few and over many rows"


def test_a_step_that_fails_names_the_op_and_leaves_what_was_there(held_back):
    x, index = fb.tensor(X), fb.tensor([0, 1])
    run = lambda: x.index_select(0, index).exp().sum().item()  # noqa: E731
    wanted = run()
    without_python(run)
    index.copy_(fb.tensor([0, 9]))
    with pytest.raises(IndexError, match=r"\[gather\] index\[1, 0\] is out of range for axis 0"):
        run()
    index.copy_(fb.tensor([0, 1]))
    assert run() == wanted and (x.numpy() == X).all()


def test_memory_that_runs_out_is_an_error_with_a_line(held_back):
    x = fb.tensor(X)
    run = lambda: (x * 2 + 1).exp().sum().item()  # noqa: E731
    without_python(run)
    wanted, failures = run(), 0
    for nth in range(1, 12):
        _binding._refuse_memory(nth)
        try:
            assert run() == wanted
        except fb.OutOfMemory as error:
            failures += 1
            assert "recorded at" in str(error) or any("recorded at" in n for n in error.__notes__)
        finally:
            _binding._refuse_memory(0)
        assert run() == wanted
    assert failures >= 3


def test_an_interrupt_comes_between_two_ops_and_the_value_is_still_to_be_had(held_back):
    x = fb.tensor(X)
    run = lambda: (x * 2 + 1).exp().sum()  # noqa: E731
    wanted = run().item()
    without_python(lambda: run().item())

    def handle(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        y = run()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        signal.raise_signal(signal.SIGUSR1)
        with pytest.raises(KeyboardInterrupt):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
            y.item()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert y.item() == wanted


def test_a_list_that_is_told_asks_once(held_back):
    x = fb.tensor(X)
    run = lambda: (x + 1).sum().item()  # noqa: E731
    without_python(run)
    lists = [each for c in driver._compiled.values() for each in c.waiting._lists]
    assert lists
    for op_list in lists:
        op_list.is_stale = True
    assert "ready" in entered(run), "its owner looked for a plan"
    assert not entered(run)


def test_what_runs_once_is_listed_once():
    b = GraphBuilder()
    x = b.input(Aval((4, 6), dtypes.float32))
    b.graph.outputs = [(x + x).id]
    program = op_by_op.Interpreter(b.graph, op_plans.linker(Options(mode="off")))
    program([X])
    first = program.lent()
    assert not first.is_stale
    (found,) = program._ops._optional.values()
    found.program.plans.append(object())  # somebody has found one
    try:
        assert program.lent() is first and first.is_stale, "it asks before it runs again"
    finally:
        found.program.plans.pop()
    assert program.op_list() is first


def test_no_worker_is_asked_for_what_has_run_once(held_back, monkeypatch):
    built = []
    monkeypatch.setattr(Compiled, "_start_build", lambda *args: built.append(args))
    monkeypatch.setattr(one_op, "ASK", 60.0)
    x = fb.tensor(X)
    run = lambda: ((x + 1) * x).sum().item()  # noqa: E731
    run()
    assert not built
    until(lambda: run() and built)


def test_another_thread_may_drop_what_is_being_made(monkeypatch):
    """It does so once there is a plan, at any time: here while the first asks what making it has taken."""
    b = GraphBuilder()
    b.graph.outputs = [find("exp")(b.input(Aval((3,), dtypes.float32))).id]
    executable = driver.compile(b.graph, Options(mode="off"))

    def now():
        executable.settle()
        return time.perf_counter()

    monkeypatch.setattr(driver, "perf_counter", now)
    (found,) = executable([np.zeros(3, np.float32)])
    assert np.array_equal(np.frombuffer(found, np.float32), [1, 1, 1])


def test_lists_that_are_gone_are_told_nothing():
    waiting, op_list = Waiting(1), _binding.OpList(1, 1, (), [0], None)
    waiting.add(op_list)
    waiting.add(op_list)
    assert list(waiting._lists) == [op_list] and not op_list.is_stale
    waiting.tell()
    assert op_list.is_stale
    del op_list
    waiting.tell()
    assert not waiting._lists


def nothing(sizes, *operands):
    return operands


def test_sizes_that_are_equal_at_the_time_are_not_one_for_good():
    b = GraphBuilder()
    s, t = symbol(0), symbol(1)
    sums = [find("sum")(b.input(Aval(shape, dtypes.float32)), axes=(0,)) for shape in ((s, t), (s, s), (t, s))]
    b.graph.outputs = [x.id for x in sums]
    with scope((7, 7)):
        found = one_op.OneOps(replace(b.graph, sizes=(7, 7)), op_plans.OpPlans(Options(mode="background")))
    one, both, other = (found.optional(k) for k in range(3))
    assert one is other and one is not both


@pytest.mark.runtime
@pytest.mark.parametrize(
    "ops, outputs, message",
    [
        (((None, nothing, [1], [2], [], []),), [2], "reads what is not there"),
        (((None, nothing, [0], [0], [], []),), [0], "reads what is not there"),
        (((None, nothing, [0], [2], [2], []),), [2], "reads what is not there"),
        (((None, nothing, [0], [3], [], []),), [0], "no number 3 among 3"),
        (((None, nothing, [0], [2], [], [0]),), [2], "no number 0 among 0"),
        (((None, nothing, [0], [2], []),), [2], r"an op is \(plan, call"),
    ],
)
def test_lists_that_make_no_sense_are_refused(ops, outputs, message):
    with pytest.raises((ValueError, TypeError), match=message):
        _binding.OpList(3, 1, ops, outputs, lambda number, error, sizes: error)


@pytest.mark.runtime
def test_a_list_gives_what_its_ops_give():
    rows = ((None, lambda sizes, x: [np.frombuffer(x, np.int64) + 1], [0], [1], [0], []),)
    op_list = _binding.OpList(2, 1, rows, [1, 1], lambda number, error, sizes: error)
    found = op_list.run([41])
    assert [np.frombuffer(b, np.int64)[0] for b in found] == [42, 42] and op_list.calls == 1
    with pytest.raises(RuntimeError, match="has 1 inputs, got 0"):
        op_list.run([])
    wrong = _binding.OpList(2, 1, ((None, nothing, [0, 0], [1], [], []),), [1], lambda *args: args[1])
    with pytest.raises(ValueError, match="gave 2 results, it has 1"):
        wrong.run([1])


@pytest.mark.runtime
def test_lists_run_one_after_the_other():
    def calls(function):
        return _binding.OpList(2, 1, ((None, function, [0], [1], [0], []),), [1], lambda number, error, sizes: error)

    def add(sizes, x):
        return [np.frombuffer(x, np.int64) + 1]

    def fail(sizes, x):
        raise ZeroDivisionError

    one, zero = calls(add), calls(fail)

    def run(links, entered, inputs, outputs):
        return _binding.join_op_lists(links, entered, outputs).run(inputs)

    found = run([(one, [7], [-2]), (one, (-2,), (9,)), (one, [-2], [4])], [7], [40], [9, 4])
    assert [np.frombuffer(b, np.int64)[0] for b in found] == [42, 42]
    live = _binding.memory_stats()["live_bytes"]
    with pytest.raises(ZeroDivisionError):
        run([(one, [0], [1]), (zero, [1], [2])], [0], [1], [2])
    for links, entered, outputs, words in (
        ([(one, [1], [2])], [0], [2], "what is not there"),
        ([(one, [0], [2])], [0], [1], "was not made"),
        ([(one, [0, 0], [2])], [0], [2], "list of 1 values is given 2"),
        ([(_binding.OpList(1, 1, (), [0], None, 1), [0], [2])], [0], [2], "with symbols"),
    ):
        with pytest.raises(ValueError, match=words):
            run(links, entered, [1], outputs)
    with pytest.raises(RuntimeError, match="has 2 inputs, got 1"):
        run([(one, [0], [2])], [0, 1], [1], [2])
    with pytest.raises(TypeError):
        run([(None, [0], [1])], [0], [1], [1])
    assert _binding.memory_stats()["live_bytes"] == live
