"""Gradients of `while_loop`: beside those of its turns one after the other, of lengths below and above what is kept, nested."""

import flambeau as fb
import numpy as np
import pytest
from flambeau.runtime import recorder


def looped(x, w, times):
    """A loop whose turns differ, and the same one in Python."""
    return fb.while_loop(lambda i, h: i < times, lambda i, h: (i + 1, (h * w).sin() + h * 0.9), (fb.tensor(0), x))[1]


def looped_by_python(x, w, times):
    for _ in range(times):
        x = (x * w).sin() + x * 0.9
    return x


def derivatives(function, times, mode):
    with fb.compiler_options(mode=mode):
        x, w = (fb.tensor(v, requires_grad=True) for v in ([0.3, 0.5, -0.2], [0.7, 0.1, 0.9]))
        y = function(x, w, times)
        first = fb.autograd.grad((y * y).sum(), (x, w), create_graph=True)
        second = fb.autograd.grad(sum((g * g).sum() for g in first), (x, w))
        return [t.tolist() for t in (y, *first, *second)]


@pytest.mark.accept("GRB-11", "GRB-12")
@pytest.mark.parametrize(("mode", "times"), [("off", 3), ("blocking", 1), ("blocking", 33)])
def test_a_loop_has_the_gradients_of_its_turns_one_after_the_other(mode, times):
    assert derivatives(looped, times, mode)[:3] == derivatives(looped_by_python, times, mode)[:3]
    np.testing.assert_allclose(
        np.array(derivatives(looped, times, mode)[3:]), np.array(derivatives(looped_by_python, times, mode)[3:]), 1e-5
    )


@pytest.mark.parametrize("times", [0, 1024, 1025, 3000])
def test_a_gradient_of_a_long_loop_computes_again_what_it_keeps_no_room_for(times):
    x = fb.tensor([0.3, 0.5], dtype=fb.float64, requires_grad=True)
    w = fb.tensor([0.999, 1.0], dtype=fb.float64, requires_grad=True)
    y = fb.while_loop(lambda i, h: i < times, lambda i, h: (i + 1, h * w + 1e-3), (fb.tensor(0), x))[1]
    y.sum().backward()
    a, u, h = np.array([0.3, 0.5]), np.array([0.999, 1.0]), [np.array([0.3, 0.5])]
    for _ in range(times):
        h.append(h[-1] * u + 1e-3)
    ct, sums = np.ones(2), np.zeros(2)
    for before in reversed(h[:-1]):
        sums, ct = sums + ct * before, ct * u
    assert a.tolist() == x.detach().tolist() and y.tolist() == h[-1].tolist()
    assert x.grad.tolist() == ct.tolist() and w.grad.tolist() == sums.tolist()


def test_loops_within_loops_branches_and_batches_have_gradients():
    def halved(x, limit):
        return fb.while_loop(lambda h: h.abs().sum() > limit, lambda h: (h * 0.5,), (x,))[0]

    x = fb.tensor([4.0, 3.0], requires_grad=True)
    scanned = fb.scan(lambda h, s: (halved(h + s, 1.0), h), x, fb.tensor([[1.0, 2.0], [8.0, 0.5], [0.0, 0.0]]))[0]
    (g,) = fb.autograd.grad(scanned.sum(), x)
    h, factor = np.array([4.0, 3.0]), 1.0
    for s in ([1.0, 2.0], [8.0, 0.5], [0.0, 0.0]):
        h = h + s
        while np.abs(h).sum() > 1.0:
            h, factor = h * 0.5, factor * 0.5
    assert scanned.tolist() == h.tolist() and g.tolist() == [factor, factor]
    chosen = fb.cond(fb.tensor(True), lambda x: halved(x, 2.0), lambda x: x, (x,))
    assert fb.autograd.grad(chosen.sum(), x)[0].tolist() == [0.25, 0.25]
    rows = fb.tensor([[4.0, 3.0], [0.1, 0.2], [100.0, 1.0]])
    each = fb.func.vmap(fb.func.grad(lambda r: halved(r, 1.0).sum()))(rows)
    assert each.tolist() == [[0.125] * 2, [1.0] * 2, [1 / 128] * 2]
    twice = fb.while_loop(lambda i, h: i < 2, lambda i, h: (i + 1, halved(h * 4, 3.0) * h), (fb.tensor(0), x))[1]
    (g,) = fb.autograd.grad(twice.sum(), x)
    y = fb.tensor([4.0, 3.0], requires_grad=True)
    h = y
    for _ in range(2):
        inner = h * 4
        while inner.abs().sum() > 3.0:
            inner = inner * 0.5
        h = inner * h
    assert twice.tolist() == h.tolist() and g.tolist() == fb.autograd.grad(h.sum(), y)[0].tolist()


def test_what_a_loop_calls_is_not_called_again_for_its_gradient():
    seen = []

    def body(i, h):
        fb.debug.callback(lambda i: seen.append(int(i)), i)
        return i + 1, h * h

    x = fb.tensor([1.1, 0.9], requires_grad=True)
    y = fb.while_loop(lambda i, h: i < 3, body, (fb.tensor(0), x))[1]
    (g,) = fb.autograd.grad(y.sum(), x)
    assert len(g.tolist()) == 2 and seen == [0, 1, 2]


def test_the_length_of_a_loop_changes_nothing_that_is_compiled():
    def step(times):
        x = fb.tensor([0.3, 0.5], requires_grad=True)
        looped(x, fb.tensor([0.7, 0.1]), times).sum().backward()
        return x.grad.tolist()

    with fb.compiler_options(mode="blocking"):
        for times in range(5):
            step(fb.tensor(times))
        before = recorder.stats()
        for times in range(5, 80, 7):
            step(fb.tensor(times))
        after = recorder.stats()
        assert (after["builds"], after["misses"]) == (before["builds"], before["misses"])
