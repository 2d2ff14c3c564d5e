"""Calls of the host: made once, in order, when the program has succeeded; wherever it was cut, on every tier, in regions."""

import subprocess
import sys

import flambeau as fb
import numpy as np
import pytest
from flambeau.compiler import stages
from flambeau.compiler.options import Options
from flambeau.dialects import irdl
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float32, int64
from flambeau.dialects.record import find
from flambeau.dialects.verify import verify
from flambeau.runtime import recorder
from flambeau.runtime.plan_spec import KERNEL_NOTE

MODES = ["off", "blocking"]


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_calls_are_made_once_in_order_also_of_equal_values(mode, cut):
    seen = []
    with fb.compiler_options(mode=mode):
        x = fb.tensor([1.0, 2.0])
        for k in range(3):
            x = x * 2
            fb.debug.callback(lambda x, k=k: seen.append((k, x.tolist())), x)
            fb.debug.callback(lambda x, k=k: seen.append((k, x.tolist())), x)
            if cut:
                recorder.flush()
        assert bool(seen) == cut, "nothing has run yet, unless it was cut"
        assert x.tolist() == [8.0, 16.0]
    assert seen == [(k, [2.0 ** (k + 1), 2.0 ** (k + 2)]) for k in range(3) for _ in range(2)]


def test_a_call_happens_although_nobody_reads_a_value_and_other_functions_compile_nothing_new():
    seen = []

    def step(k):
        x = fb.ones(3) * 2
        fb.debug.callback(lambda y: seen.append((k, y.sum().item())), x)
        fb.debug.effects_barrier()

    for k in range(2):
        step(k)
    before = recorder.stats()
    for k in range(2, 6):
        step(k)
    after = recorder.stats()
    assert seen == [(k, 6.0) for k in range(6)]
    assert (before["builds"], before["misses"]) == (after["builds"], after["misses"])
    assert not fb.debug.order().calls, "what has been called is forgotten"


@pytest.mark.parametrize("mode", MODES)
def test_what_comes_before_an_op_that_fails_is_called_once_and_what_comes_after_never(mode):
    seen, table = [], fb.tensor([1.0, 2.0])
    with fb.compiler_options(mode=mode):
        fb.debug.callback(lambda x: seen.append(x.tolist()), table * 2)
        picked = table[fb.tensor([5])]
        fb.debug.callback(lambda x: seen.append(x.tolist()), picked)
        with pytest.raises(IndexError):
            picked.tolist()
        assert seen == [[2.0, 4.0]]
        fb.debug.callback(lambda x: seen.append(x.tolist()), table)
        fb.debug.effects_barrier()
    assert seen == [[2.0, 4.0], [1.0, 2.0]]


@pytest.mark.parametrize("mode", MODES)
def test_calls_in_branches_and_loops_follow_what_runs(mode):
    seen = []

    def told(name):
        return lambda x: seen.append((name, x.tolist()))

    def loud(x):
        fb.debug.callback(told("then"), x)
        return x * 2

    def body(i, x):
        fb.debug.callback(told("round"), i)
        return i + 1, fb.cond(i > 0, loud, lambda x: x, (x,))

    with fb.compiler_options(mode=mode):
        x = fb.tensor([1.0])
        fb.debug.callback(told("first"), x)
        i, x = fb.while_loop(lambda i, x: i < 3, body, (fb.tensor(0), x))
        x = fb.cond(i > 99, loud, lambda x: x + 1, (x,))
        fb.debug.callback(told("last"), x)
        assert x.tolist() == [5.0]
    rounds = [("round", 0), ("round", 1), ("then", [1.0]), ("round", 2), ("then", [2.0])]
    assert seen == [("first", [1.0]), *rounds, ("last", [5.0])]


@pytest.mark.parametrize("mode", MODES)
def test_gradients_pass_by_and_do_not_repeat_calls(mode):
    seen = []

    def noisy(x):
        fb.debug.callback(lambda y: seen.append(y.tolist()), x * x)
        return (x * x).exp()

    with fb.compiler_options(mode=mode):
        x = fb.tensor([0.5, 1.0], requires_grad=True)
        y = fb.cond(x.sum() > 0, noisy, lambda x: x, (x,))
        (g,) = fb.autograd.grad(y.sum(), [x], create_graph=True)
        (h,) = fb.autograd.grad(g.sum(), [x])
        e = np.exp(np.float32([0.25, 1.0]))
        np.testing.assert_allclose(h.numpy(), (2 + 4 * np.float32([0.25, 1.0])) * e, rtol=1e-5)
    assert seen == [[0.25, 1.0]]


def test_values_updated_in_place_are_shown_as_they_were():
    seen, w = [], fb.zeros(2)
    for _ in range(2):
        fb.debug.callback(lambda w: seen.append(w.tolist()), w)
        w += 1
    fb.debug.callback(lambda w: seen.append(w.tolist()), w)
    assert w.tolist() == [2.0, 2.0]
    assert seen == [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]


def test_an_exception_in_a_call_is_shown_and_stops_nothing(monkeypatch):
    shown, seen = [], []
    monkeypatch.setattr(sys, "unraisablehook", lambda e: shown.append((e.exc_type, str(e.exc_value))))
    fb.debug.callback(lambda: 1 / 0)
    fb.debug.callback(lambda: seen.append(1))
    fb.debug.effects_barrier()
    assert shown == [(ZeroDivisionError, "division by zero")] and seen == [1]


def test_print_and_what_is_pending_at_the_end_of_a_process():
    code = "import flambeau as fb\nfb.debug.print('a {}', fb.tensor(3) + 1)\nfb.debug.print('b')\nprint('c')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["c", "a 4", "b", ""], done.stderr


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fb.debug.callback(3), "[callback] `function` is a int. Pass something to call."),
        (lambda: fb.debug.callback(len, 3), "[callback] 3 is a int. Pass tensors"),
        (lambda: fb.debug.print(3), "[print] the text is a int. Pass a string"),
        (lambda: fb.debug.print("{}", 3), "[print] 3 is a int. Pass tensors"),
    ],
)
def test_what_cannot_be_called_is_refused(call, words):
    with pytest.raises(TypeError) as found:
        call()
    assert words in str(found.value)


def test_a_condition_must_not_call():
    def loud(i):
        fb.debug.callback(lambda: None)
        return i < 3

    with pytest.raises(RuntimeError, match=r"\[while_loop\] the condition calls the host. Do that in the body."):
        fb.while_loop(loud, lambda i: (i + 1,), (fb.tensor(0),))


# ---- the program

TOKEN, X = Aval((), int64), Aval((4,), float32)


def two_calls(chained):
    b = GraphBuilder()
    token, number, x = b.input(TOKEN), b.input(TOKEN), b.input(X)
    first = find("host_call")(token, number, x)
    second = find("host_call")(first if chained else token, number, x)
    b.graph.outputs = [second.id]
    return b.graph


def test_passes_and_plans_keep_both_calls_in_order():
    graph = two_calls(True)
    text = irdl.print_graph(graph)
    assert irdl.print_graph(irdl.parse_graph(text)) == text
    graph.outputs = []
    work = stages.run(graph, Options(mode="blocking"))
    assert [s[0] for s in work.program.spec.steps].count(KERNEL_NOTE) == 2 == sum(n.op.effect for n in work.graph.nodes)
    assert work.program.spec.n_fallible == len(work.program.spec.steps)


def test_two_calls_after_one_token_are_refused():
    graph = two_calls(False)
    with pytest.raises(ValueError, match=r"\[host_call\] its token is that of an earlier effect, too. Give it the one"):
        verify(graph)
    with pytest.raises(ValueError, match=r"\[host_call\] its token is that of an earlier effect, too. Give it the one"):
        irdl.parse_graph(irdl.print_graph(graph))
