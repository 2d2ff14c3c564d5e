"""Gradients that nobody reads: what a backward costs does not depend on what else waits in the trace, and loops that read
nothing come to run what they have recorded before."""

from contextlib import contextmanager

import flambeau as fb
import numpy as np
import pytest
from counting import calls
from flambeau.dialects import autodiff
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float32
from flambeau.expansions import Problem
from flambeau.runtime import recorder

DEFAULTS = {"max_ops": 10_000, "soft_ops": 1000, "max_ns": 10_000_000_000, "soft_ns": 50_000_000, "soft_backwards": 3}


@contextmanager
def one_trace():
    """Nothing is cut inside."""
    recorder.flush()
    recorder.set_limits(max_ops=1 << 30, soft_ops=1 << 30, max_ns=1 << 62, soft_ns=1 << 62, soft_backwards=1 << 30)
    try:
        yield
    finally:
        recorder.set_limits(**DEFAULTS)


# ---- programs: each returns what makes one more round -------------------------------------------------------------------


def micro_batches(size=2):
    fb.manual_seed(0)
    model = fb.nn.Sequential(fb.nn.Linear(3, 4), fb.nn.ReLU(), fb.nn.Linear(4, 1))
    x = fb.randn(size, 3)

    def step():
        model(x).square().mean().backward()

    return step, lambda: [p.grad for p in model.parameters()]


def rows_of_a_hessian(size=4):
    x = fb.arange(float(size)).requires_grad_()
    (g,) = fb.autograd.grad((x.sin() * x).sum() ** 2, x, create_graph=True)
    found = []

    def step():
        found.append(fb.autograd.grad(g[len(found) % size], x, retain_graph=True)[0])

    return step, lambda: found


def losses_differentiated_three_times(size=3):
    x = fb.arange(1.0, 1.0 + size).requires_grad_()
    found = []

    def step():
        y = (x.sin() * x).sum()
        for last in (False, False, True):
            (g,) = fb.autograd.grad(y, x, create_graph=not last)
            y = (g * x).sum()
        found.append(g)

    return step, lambda: found


def penalty(size=2):
    fb.manual_seed(1)
    w = fb.randn(6, 1).requires_grad_()

    def step():
        x = fb.randn(size, 6, requires_grad=True)
        (gx,) = fb.autograd.grad((x @ w).tanh().norm(), [x], create_graph=True)
        w.grad = None
        gx.norm().backward()
        with fb.no_grad():
            w.sub_(0.001 * w.grad)

    return step, lambda: [w.detach()]


def hooks(size=2, create_graph=False):
    w = fb.arange(6.0).reshape(2, 3).clone().requires_grad_()
    x = fb.ones(size, 2)

    def step():
        h = x @ w
        h.register_hook(lambda g: g * 2)
        h.sum().backward(create_graph=create_graph)
        if create_graph:
            w.grad = None

    return step, lambda: [] if create_graph else [w.grad]


def hooks_and_graphs(size=2):
    return hooks(size, create_graph=True)


def hooks_on_views(size=2):
    w = fb.arange(3.0 * size).reshape(size, 3).clone().requires_grad_()

    def step():
        h = (w * w)[0]
        h.register_hook(lambda g: g * 2)
        h.sum().backward()

    return step, lambda: [w.grad]


PROGRAMS = [
    micro_batches,
    rows_of_a_hessian,
    losses_differentiated_three_times,
    penalty,
    hooks,
    hooks_and_graphs,
]


def work(program, n, sizes=()):
    """The calls of Python and C functions in n rounds that have not been recorded before, in one trace. If `sizes` are given, the
    last one is a symbol there: it has been all of them before."""
    recorder.clear()
    for size in sizes[:-1]:
        step, _ = program(size)
        with one_trace():
            step()
            recorder.flush()
    step, results = program(*sizes[-1:])
    with one_trace():
        count = calls(lambda: [step() for _ in range(n)])
        values = [t.numpy() for t in results()]
    return count, values


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_recording_and_differentiating_is_linear(program):
    work(program, 2)  # what is remembered by types is known from here on
    first, second, third = (work(program, n)[0] for n in (6, 12, 24))
    assert third - second <= 1.15 * 2 * (second - first)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_so_it_is_where_sizes_have_become_symbols(program):
    sizes = 5, 6, 7
    work(program, 2, sizes)
    first, second, third = (work(program, n, sizes)[0] for n in (6, 12, 24))
    assert third - second <= 1.15 * 2 * (second - first)


@pytest.mark.parametrize("sizes", [(), (5, 6, 7)], ids=["of-one-size", "of-symbols"])
def test_hooks_on_views_are_linear(sizes):
    """Such a trace is assembled anew by each backward, and ends before that costs more than it should."""
    work(hooks_on_views, 2, sizes)
    first, second, third = (work(hooks_on_views, n, sizes)[0] for n in (32, 64, 128))
    assert third - second <= 1.15 * 2 * (second - first)


def views_of_one_tensor(n):
    w = fb.arange(1.0 * n).requires_grad_()
    h, rows, hooked = w * 2, [], []
    for i in range(n):
        v = h[i]
        v.register_hook(lambda g: hooked.append(1))
        rows.append(v * 3)
    count = calls(fb.stack(rows).sum().backward)
    assert len(hooked) == n and w.grad.tolist() == [6.0] * n
    return count


def test_many_views_with_hooks_of_one_tensor_are_linear():
    with one_trace():
        views_of_one_tensor(2)
        first, second, third = map(views_of_one_tensor, (16, 32, 64))
    assert third - second <= 1.15 * 2 * (second - first)


@pytest.mark.parametrize("program", [*PROGRAMS, hooks_on_views], ids=lambda p: p.__name__)
def test_what_waits_in_a_trace_changes_no_gradient(program):
    _, together = work(program, 5)
    step, results = program()
    for _ in range(5):
        step()
        recorder.flush()
    for a, b in zip(together, results(), strict=True):
        np.testing.assert_array_equal(a, b.numpy())


@pytest.mark.parametrize("program", [micro_batches, penalty, hooks, hooks_and_graphs], ids=lambda p: p.__name__)
def test_a_loop_that_reads_nothing_is_known_after_a_while(program):
    recorder.set_limits(soft_ops=100)
    try:
        step, _ = program()
        for _ in range(60):
            step()
        before = recorder.stats()
        for _ in range(60):
            step()
        after = recorder.stats()
    finally:
        recorder.set_limits(**DEFAULTS)
    assert after["flushes"] > before["flushes"]
    assert (after["misses"], after["builds"]) == (before["misses"], before["builds"])


# ---- equal backwards are worked out once ---------------------------------------------------------------------------------


@pytest.fixture
def differentiated(monkeypatch):
    """A list with an element for each graph that was differentiated."""
    found, real = [], autodiff.vjp

    def vjp(*args):
        found.append(args)
        return real(*args)

    monkeypatch.setattr(autodiff, "vjp", vjp)
    return found


@pytest.mark.parametrize("sizes", [(), (5, 6, 7)], ids=["of-one-size", "of-symbols"])
@pytest.mark.parametrize("program", [micro_batches, rows_of_a_hessian], ids=lambda p: p.__name__)
def test_equal_backwards_are_differentiated_once(program, sizes, differentiated):
    work(program, 2, sizes)
    before = len(differentiated)
    work(program, 20, sizes)
    inline = 1 if program is rows_of_a_hessian else 0  # the graph that is created
    assert len(differentiated) - before <= len(sizes) * (1 + inline) + 3 + inline


def square(x, y):
    return (x * y).sum()


def test_what_was_worked_out_before_is_still_refused_where_it_must_be():
    x = fb.arange(3.0).requires_grad_()
    with one_trace():
        for k in range(4):
            y = x.exp()
            loss = square(y, y)
            if k == 2:
                y.mul_(2)
                with pytest.raises(RuntimeError, match="modified in place by mul_"):
                    loss.backward()
                continue
            loss.backward()
            with pytest.raises(RuntimeError, match="freed by an earlier backward"):
                loss.backward()
        inner = x.exp()
        square(inner, inner).backward()
        with pytest.raises(RuntimeError, match="freed by an earlier backward"):
            square(inner, inner).backward()


def test_gradients_given_kept_and_added_to_views_are_told_apart():
    """Backwards of one structure that differ in what surrounds it, together and one by one."""

    def gradients(cut):
        recorder.clear()
        fb.manual_seed(3)
        x, z = fb.randn(4, 3, requires_grad=True), fb.randn(4, 3, requires_grad=True)
        seeds = fb.randn(4, 3)
        found = []
        for k in range(3):
            for seed in (None, seeds, seeds.T.reshape(4, 3), seeds[k % 2 : k % 2 + 1].expand(4, 3)):
                for other in (x, z):
                    y = (x * other).sin()
                    y.sum().backward() if seed is None else y.backward(seed, retain_graph=bool(k % 2))
                    if cut:
                        recorder.flush()
                found.append(x.grad.clone())
            x.grad = fb.zeros(8, 3)[::2] if k == 0 else None  # a view
        return [f.numpy() for f in found] + [z.grad.numpy()]

    with one_trace():
        together = gradients(cut=False)
    for a, b in zip(together, gradients(cut=True), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("a", "b"), [(0.0, -0.0), (1, True), (1, 1.0)])
def test_problems_with_other_attributes_are_not_equal(a, b):
    def problem(value):
        made = GraphBuilder()
        result = made.constant(value, float32, (2,)) * made.input(Aval((2,), float32))
        graph = made.graph
        graph.nodes[0] = graph.nodes[0]._replace(attrs=(value, *graph.nodes[0].attrs[1:]))
        return Problem("backward", graph, [result.id], [None], [1], [])

    assert problem(a) == problem(a) and hash(problem(a)) == hash(problem(a))
    assert problem(a) != problem(b)
