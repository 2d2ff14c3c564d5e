"""What threads may do at once (docs/differences.md, "Threads"): `thread_scenarios.py` in processes of their own, so that a
crash is one failed test and shows where every thread stood; and what a single thread can show of the rules."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import flambeau as fb
import pytest
import thread_scenarios
from flambeau.runtime import recorder
from support import rounds

SCRIPT = Path(thread_scenarios.__file__)


def play(*options):
    command = [sys.executable, str(SCRIPT), *map(str, options)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=1200, cwd=SCRIPT.parent)
    assert run.returncode == 0, f"{run.stdout}{run.stderr}"


def test_a_few_threads_that_switch_all_the_time():
    for seed in range(rounds(1, 3, 20)):
        play("--threads", 8, "--rounds", rounds(8, 32, 64), "--seed", seed)


def test_many_threads():
    for seed in range(rounds(1, 1, 5)):
        play("--threads", 64, "--rounds", rounds(1, 8, 16), "--switch", 1e-4, "--seed", seed)


# ---- the rules, without chance ----------------------------------------------------------------------------


def elsewhere(work):
    """What `work()` gives in another thread, once that has ended."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def flushes(work):
    before = recorder.stats()["flushes"]
    work()
    return recorder.stats()["flushes"] - before


@pytest.fixture
def no_switches():
    """The interpreter takes no thread's turn away: others run only where it is given up."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(100.0)
    yield
    sys.setswitchinterval(before)


def test_kernels_run_beside_each_other(no_switches):
    """While one thread waits for a long kernel, another one evaluates the same model, again and again."""
    model = fb.nn.Linear(1500, 1500).double()
    small, large = (fb.randn(n, 1500, dtype=fb.float64) for n in (1, 1500))
    done, ends = [], threading.Event()

    def evaluate():
        with fb.no_grad():
            while not ends.is_set():
                done.append(model(small).sum().item())
                time.sleep(0)

    with fb.no_grad():
        for x in (small, large):  # compiles
            model(x).sum().item()
    other = threading.Thread(target=evaluate)
    other.start()
    while not done:
        time.sleep(0.001)
    with fb.no_grad():
        y = model(large).sum()
        before = len(done)
        y.item()
        meanwhile = len(done) - before
    ends.set()
    other.join()
    assert meanwhile >= 2


def test_reading_what_another_trace_reads_runs_nothing():
    """Two traces have the same inputs and leaves: each keeps its own."""
    w, x = fb.tensor([1.0, 2.0], requires_grad=True), fb.tensor([3.0, 4.0])
    mine = w * x
    before = recorder.stats()["flushes"]
    theirs = elsewhere(lambda: w * x + x)
    assert recorder.stats()["flushes"] == before
    assert recorder.stats()["pending_ops"] > 0
    assert (theirs.tolist(), mine.tolist()) == ([6.0, 12.0], [3.0, 8.0])


def test_a_trace_keeps_what_it_has_read_when_another_thread_writes():
    x = fb.tensor([1.0, 2.0])
    before = x + 0.0
    elsewhere(lambda: x.mul_(10.0))
    after = x + 0.0
    assert (before.tolist(), after.tolist(), x.tolist()) == ([1.0, 2.0], [10.0, 20.0], [10.0, 20.0])


def test_what_an_ended_thread_left_is_computed_once_by_who_reads_it():
    x = fb.tensor([1.0, 2.0])
    y = elsewhere(lambda: x * 3.0)
    assert flushes(lambda: y.tolist()) == 1
    assert y.tolist() == [3.0, 6.0]
    assert flushes(lambda: y.tolist()) == 0


def test_gradients_of_a_shared_leaf_go_to_whoever_asks():
    w = fb.tensor([1.0, 2.0], requires_grad=True)
    mine = (w * w).sum()
    (theirs,) = elsewhere(lambda: fb.autograd.grad((w * 3.0).sum(), [w]))
    (own,) = fb.autograd.grad(mine, [w])
    assert (theirs.tolist(), own.tolist()) == ([3.0, 3.0], [2.0, 4.0])


def test_a_history_can_be_gone_through_by_two_traces_at_once():
    """Both import the same flushed trace; the one that does not retain the graph ends it for later ones."""
    w = fb.tensor([1.0, 2.0], requires_grad=True)
    h = fb.exp(w)
    h.tolist()
    (mine,) = fb.autograd.grad((h * 2.0).sum(), [w], retain_graph=True)
    (theirs,) = elsewhere(lambda: fb.autograd.grad((h * 3.0).sum(), [w]))
    assert mine.tolist() == (fb.exp(w) * 2.0).tolist()
    assert theirs.tolist() == (fb.exp(w) * 3.0).tolist()
    with pytest.raises(RuntimeError, match="retain_graph"):
        fb.autograd.grad(h.sum(), [w])


def test_memory_given_to_numpy_is_read_by_no_trace_any_more():
    x = fb.tensor([1.0, 2.0])
    mine, theirs = x + 1.0, elsewhere(lambda: x + 2.0)
    array = x.numpy()
    array[:] = 50.0
    assert (mine.tolist(), theirs.tolist(), (x + 0.0).tolist()) == ([2.0, 3.0], [3.0, 4.0], [50.0, 50.0])


def test_the_error_of_another_threads_trace_names_its_line_and_stays():
    table, index = fb.tensor([[1.0], [2.0]]), fb.tensor([5])
    bad = elsewhere(lambda: fb.nn.functional.embedding(index, table))
    for _ in range(2):
        with pytest.raises(IndexError):
            bad.tolist()
    assert (table + 1.0).tolist() == [[2.0], [3.0]]


def test_gradient_hooks_may_look_at_values():
    w = fb.tensor([1.0, 2.0], requires_grad=True)
    seen = []
    h = w * 2.0
    h.register_hook(lambda g: seen.append((g.tolist(), h.tolist())))
    (h * h).sum().backward()
    assert seen == [([4.0, 8.0], [2.0, 4.0])]
    assert w.grad.tolist() == [8.0, 16.0]
