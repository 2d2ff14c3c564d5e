"""Traces that are new and short run call by call: nothing is assembled for what may never come again."""

import gc
import itertools
import weakref

import flambeau as fb
import numpy as np
import pytest
from flambeau import walk as walking
from flambeau.runtime import _binding, recorder
from flambeau.walk import Assembling

OPS = {
    "add": lambda z, x: z + x,
    "sub": lambda z, x: z - x * 2,
    "exp": lambda z, x: (z * 0.1).exp(),
    "maximum": lambda z, x: fb.maximum(z, x),
    "abs": lambda z, x: abs(z),
    "row": lambda z, x: z + x[1],
    "back": lambda z, x: z.T.contiguous().T - x,
}


@pytest.fixture
def background():
    with fb.compiler_options(mode="background"):
        yield


@pytest.fixture
def patient(monkeypatch):
    """Assemble nothing that can be walked, whatever the clock says."""
    monkeypatch.setattr(walking, "SHARE", float("inf"))


def until_assembled(step, monkeypatch):
    """Run until a trace that has been walked is assembled, as it is when it next asks once that is cheaper; gives the results."""
    monkeypatch.setattr(walking, "SHARE", 0.0)
    before, found = recorder.stats()["builds"], []
    while recorder.stats()["builds"] == before:
        found.append(step())
        assert len(found) < 10_000
    assert recorder.stats()["builds"] == before + 1
    return found


def run(names, x):
    z = x
    for name in names:
        z = OPS[name](z, x)
    return z


def data(*shape):
    return np.linspace(-1, 2, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def test_new_programs_of_known_calls_are_not_assembled(background):
    chains = [(*c, last) for c in itertools.permutations(OPS, 3) for last in OPS]
    for name in OPS:  # plans of ops, and expansions
        run((name,), fb.tensor(data(4, 5))).sum().item()
    before = recorder.stats()["builds"]
    wanted, got = [], []
    for k, names in enumerate(chains):
        x = data(4 + k % 3, 5)
        got.append(run(names, fb.tensor(x)).numpy())
        wanted.append((names, x))
    assert recorder.stats()["builds"] - before < len(chains) // 20
    with fb.compiler_options(mode="blocking"):
        for (names, x), y in zip(wanted[::29], got[::29], strict=True):
            assert run(names, fb.tensor(x)).numpy().tobytes() == y.tobytes(), names


def test_what_comes_again_is_run_without_python_and_then_assembled(background, patient, monkeypatch):
    x = fb.tensor(data(3, 4))
    calls = []
    monkeypatch.setattr(walking, "join_op_lists", lambda *args: calls.append(args) or _binding.join_op_lists(*args))

    def step():
        y = (x * 3 + 1).abs()
        return (y - x)[0, 0].item()

    before = recorder.stats()["builds"]
    assert len({step() for _ in range(50)}) == 1
    assert recorder.stats()["builds"] == before
    assert len(calls) == 1
    assert set(until_assembled(step, monkeypatch)) == {step()}


def test_gradients_of_what_is_walked_again_are_the_same(background, patient, monkeypatch):
    """To the bit; then as one program."""
    w, x = fb.tensor(data(4, 3), requires_grad=True), fb.tensor(data(2, 4))

    def step():
        w.grad = None
        ((x @ w).abs() * 3).sum().backward()
        return w.grad.numpy().tobytes()

    before = recorder.stats()["builds"]
    found = {step() for _ in range(50)}
    assert recorder.stats()["builds"] == before
    found |= {*until_assembled(step, monkeypatch), step()}
    assert len(found) == 1


def test_what_comes_at_other_sizes_is_walked_anew(background, patient):
    """A trace whose sizes are symbols by now is one trace, whose list is for one size."""

    def step(n):
        x = fb.tensor(data(n, 3))
        return ((x + 1).abs() - x).sum().item()

    wanted = {n: ((np.abs(data(n, 3) + 1)) - data(n, 3)).sum() for n in range(2, 12)}
    for n in (2, 3, 4, 5, 6, 6, 6, 7, 6, 7, 8, 9, 10, 11, 2, 3):
        assert step(n) == pytest.approx(wanted[n], rel=1e-5)


@pytest.fixture
def joined(monkeypatch):
    """The lists that have been made of walked traces."""
    calls = []
    monkeypatch.setattr(walking, "join_op_lists", lambda *args: calls.append(args) or _binding.join_op_lists(*args))
    return calls


def alternating(n):
    """A trace whose sizes are symbols once it has come at three of them."""
    x = fb.tensor(data(n, 3), requires_grad=True)
    (((x + 1).abs() - x * 2) * x).sum().backward()
    return x.grad.numpy().tobytes()


@pytest.mark.parametrize("n_sizes", [2, 8, 16])
def test_sizes_that_take_turns_are_walked_once_each(background, patient, joined, n_sizes):
    """Lists of several sizes stay, and give what they gave."""
    sizes = range(5, 5 + n_sizes)
    for _ in range(3):
        wanted = [alternating(n) for n in sizes]
    joined.clear()
    before = recorder.stats()["builds"]
    for _ in range(5):
        assert [alternating(n) for n in sizes] == wanted
    assert [alternating(n) for n in reversed(sizes)] == wanted[::-1]
    assert not joined
    assert recorder.stats()["builds"] == before


def test_few_sizes_are_kept_and_those_that_come_longest_ago_go_first(background, patient, joined):
    kept = 16  # the latest, and FB_MOST_EARLIER
    for n in range(5, 9):
        alternating(n)
    for n in range(20, 20 + kept):
        alternating(n)
    alternating(20)  # comes first again
    joined.clear()
    alternating(99)
    assert joined
    joined.clear()
    alternating(20)
    assert not joined
    alternating(21)
    assert joined


def test_lists_of_all_sizes_are_let_go_when_their_trace_is_assembled(background, patient, monkeypatch):
    made = []
    monkeypatch.setattr(walking, "join_op_lists", lambda *args: made.append(_binding.join_op_lists(*args)) or made[-1])
    for n in range(5, 9):  # now there are symbols
        alternating(n)
    made.clear()
    wanted = [[alternating(n) for n in range(20, 24)] for _ in range(2)][-1]
    assert len(made) == 4
    kept = [weakref.ref(x) for x in made]
    made.clear()
    monkeypatch.setattr(walking, "SHARE", 0.0)
    before = recorder.stats()["builds"]
    for _ in range(10_000):
        assert [alternating(n) for n in range(20, 24)] == wanted
        if recorder.stats()["builds"] > before:
            break
    assert recorder.stats()["builds"] > before
    gc.collect()
    assert not any(x() for x in kept)


def test_what_costs_little_at_many_sizes_is_never_compiled(background):
    """However many sizes there are: assembling it would have workers compile it, which takes longer than all of this."""
    before = recorder.stats()["builds"]
    for k in range(60):
        assert fb.ones(2 + k % 20, 3).sum().item() == 3 * (2 + k % 20)
    assert recorder.stats()["builds"] == before


def test_a_walked_program_keeps_no_steps(background, patient):
    """Python's collector looked at all of their objects again and again, a sixth of the time of many small programs."""

    def program(order):
        x = fb.tensor(data(3, 5), requires_grad=True)
        run(order, x).sum().backward()
        return x.grad[0, 0].item()

    def kept():
        gc.collect()
        return sum(type(x) is walking._Steps for x in gc.get_objects())

    orders = list(
        itertools.product(("add", "sub", "exp"), repeat=5)
    )  # C does all of their ops, and of their gradients'
    for order in orders[:50]:
        program(order)
    before = kept()
    for order in orders[50:150]:
        program(order)
    assert kept() <= before


def test_more_results_that_are_alive_are_walked_anew(background, patient):
    x, kept = fb.tensor(data(3, 5)), []
    for k in range(6):
        y = x * 3 - 1
        z = y.abs()
        if k == 3:
            kept.append(y)
        total = (z - x).sum().item()
        assert total == pytest.approx((np.abs(data(3, 5) * 3 - 1) - data(3, 5)).sum(), rel=1e-5)
        del y
    assert np.array_equal(kept[0].numpy(), data(3, 5) * 3 - 1)


def test_a_trace_is_assembled_once_running_it_has_cost_a_share_of_that(background, monkeypatch):
    x = fb.tensor(data(3, 5))

    def step():
        return ((x * 3 - 1).abs() - x).sum().item()

    monkeypatch.setattr(walking.assembling, "each", 1e12)
    before = recorder.stats()["builds"]
    for _ in range(300):
        step()
    assert recorder.stats()["builds"] == before
    monkeypatch.setattr(walking.assembling, "each", 0.0)
    monkeypatch.setattr(walking, "COMPILING", 0.0)
    for _ in range(10_000):
        step()
        if recorder.stats()["builds"] > before:
            break
    assert recorder.stats()["builds"] == before + 1


def test_what_assembling_costs_is_about_the_median_of_what_it_has_cost(monkeypatch):
    took = iter([0, 10, 0, 10**9, 0, 1, 0, 9, 0, 1])
    monkeypatch.setattr(walking, "thread_time_ns", lambda: next(took))
    price = Assembling(5.0)
    export = [("call", None), ("input", 0)]
    for _ in range(5):
        price.learn(export)()
    assert price.each == pytest.approx(5.0 * walking.STEP)


def test_an_error_in_a_new_trace_names_its_line_and_loses_nothing(background):
    x, i = fb.tensor(data(3, 4)), fb.tensor([0, 7])
    y = x + 1
    y.sum().item()
    z, w = y * 2, x - 1
    bad = fb.index_select(z, 0, i)
    with pytest.raises(IndexError, match=r"test_walk\.py"):
        bad.numpy()
    assert np.array_equal(z.numpy(), (data(3, 4) + 1) * 2) and np.array_equal(w.numpy(), data(3, 4) - 1)


def test_writes_and_drawn_numbers_in_new_traces(background):
    def drawn():
        fb.manual_seed(3)
        x = fb.zeros(4, 5)
        x[1] = fb.rand(5)
        x[:, 2] += 1
        return x

    one, other = drawn().numpy(), drawn()[1].numpy()
    assert np.array_equal(one[1], other)


def test_equal_calls_on_changing_sizes_are_expanded_once(background):
    asked = []

    def rows(n):
        x = fb.ones(n, 7)
        y = x
        for _ in range(6):
            y = y + x
        return y.sum().item()

    for n in (3, 5, 7):
        rows(n)
    from flambeau import engine, sizing

    real = sizing.expand
    sizing.expand = lambda *args: asked.append(args[0].name) or real(*args)
    try:
        for n in (11, 13):
            y = fb.ones(n, 7)
            for _ in range(9):
                y = y + y
                y = y * 2 - y
            y.sum().item()
    finally:
        sizing.expand = real
    assert engine.expand is real
    assert all(asked.count(name) <= 3 for name in asked), asked


def test_a_new_trace_keeps_no_more_than_it_needs(background):
    x = fb.tensor(data(100, 100))
    (x + x).sum().item()
    gc.collect()
    before, builds = _binding.memory_stats()["live_bytes"], recorder.stats()["builds"]
    _binding.reset_peak()
    y = x
    for _ in range(300):
        y = y + x
    y.sum().item()
    assert recorder.stats()["builds"] == builds
    assert _binding.memory_stats()["peak_bytes"] - before < 10 * x.nbytes


def test_the_frontend_is_not_asked_again_about_calls_on_changing_sizes(background, monkeypatch):
    from flambeau import sizing

    def chain(n, names):
        return run(names, fb.tensor(data(n, 5))).sum().item()

    names = ("add", "exp", "abs", "maximum")
    for order in itertools.permutations(names, 2):
        for n in (3, 4, 6, 7, 9):
            chain(n, order)
    asked = []
    real = sizing._question
    monkeypatch.setattr(
        sizing, "_question", lambda function, *rest: asked.append(function.name) or real(function, *rest)
    )
    for k, order in enumerate(itertools.permutations(names, 4)):
        x = data(5 + k, 5)
        got = run(order, fb.tensor(x)).numpy()
        with fb.compiler_options(mode="off"):
            wanted = run(order, fb.tensor(x)).numpy()
        assert got.tobytes() == wanted.tobytes()
    assert len(asked) <= 60, asked


def test_calls_that_are_used_stay_and_those_without_sizes_are_found_for_all(monkeypatch):
    from flambeau.compiler.baseline import calls as module
    from flambeau.compiler.options import Options
    from flambeau.dialects import dtypes
    from flambeau.dialects.aval import Aval
    from flambeau.dialects.builder import GraphBuilder

    def graph(n):
        b = GraphBuilder()
        x = b.input(Aval((n,), dtypes.float32))
        b.graph.outputs = [(x + x).id]
        return b.graph

    monkeypatch.setattr(module, "_REMEMBERED", 8)
    calls = module.CallRunner(Options(mode="background"))
    hot, others = graph(3), [graph(4) for _ in range(40)]
    found = calls.find(hot, (5,))
    for k, other in enumerate(others):
        assert calls.find(hot, (k,)) is found
        calls.find(other, ())
    assert len(calls._known) <= 8
    forgotten = calls.find(others[0], ())
    assert forgotten is calls.find(others[0], ())
