"""Values that a gradient reads and that were overwritten in place meanwhile: the gradient is refused, wherever the trace was cut.

Each program is run with looks at every choice of its places, and, where PyTorch is, in PyTorch.
"""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps

import flambeau as fb
import pytest
from overwritten_programs import NUMBERS, PROGRAMS, REFUSED, gradient, numbers
from support import for_users, rounds


def outcome(name, T, places=()):
    """The gradient, or that it was refused; `places`: at which looks to look."""
    fb.flush()
    count = itertools.count()

    def look(t):
        if next(count) in places:
            t.tolist()

    try:
        return PROGRAMS[name](T, look).tolist()
    except RuntimeError as error:
        if T is fb:
            for_users(error)
        assert "modified" in str(error)
        return REFUSED


def in_the_mode_of_the_caller(method):
    """A method whose calls may be handed to other threads."""

    @wraps(method)
    def call(enabled, *args, **kwargs):
        with fb.set_grad_enabled(enabled):
            return method(*args, **kwargs)

    return call


@pytest.fixture
def writes_elsewhere(monkeypatch):
    """Every call in place is made by another thread."""
    with ThreadPoolExecutor(1) as other:
        for name in ("mul_", "add_", "copy_", "zero_", "logical_not_"):
            run = partial(other.submit, in_the_mode_of_the_caller(getattr(fb.Tensor, name)))
            monkeypatch.setattr(
                fb.Tensor, name, lambda *args, run=run, **kwargs: run(fb.is_grad_enabled(), *args, **kwargs).result()
            )
        yield


def check_wherever_it_is_looked_at(name):
    expected = REFUSED if PROGRAMS[name].__doc__ == REFUSED else outcome(name, fb)
    choices = [p for k in range(5) for p in itertools.combinations(range(4), k)]
    with fb.compiler_options(mode="off"):
        for places in choices if rounds(0, 1, 1) else [(), *choices[1:5], (0, 1), (0, 2), (1, 2), (0, 1, 2, 3)]:
            assert outcome(name, fb, places) == expected, places


@pytest.mark.parametrize("name", PROGRAMS)
def test_refused_wherever_it_was_looked_at(name):
    check_wherever_it_is_looked_at(name)


@pytest.mark.parametrize("name", PROGRAMS)
def test_refused_also_where_another_thread_has_written(name, writes_elsewhere):
    check_wherever_it_is_looked_at(name)


@pytest.mark.parametrize("name", PROGRAMS)
def test_refused_as_pytorch_does(name):
    torch = pytest.importorskip("torch")
    expected, found = outcome(name, torch), outcome(name, fb)
    assert (found == REFUSED) == (expected == REFUSED) == (PROGRAMS[name].__doc__ == REFUSED)
    if expected != REFUSED:
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("places", [(), (0,), (1,), (0, 1)])
def test_a_leaf_changed_through_its_data_keeps_the_gradient_of_what_was_there(places):
    """PyTorch would use the new values."""
    a = numbers(fb)
    y = a * a
    if 0 in places:
        y.tolist()
    a.data.mul_(2)
    if 1 in places:
        a.tolist()
    assert gradient(a, y).tolist() == [2 * x for x in NUMBERS]


def lasting(a, look):
    """A leaf that a derivative has been taken of."""
    h = a.mean()
    look(h)
    (g,) = fb.autograd.grad(h.sin(), a, create_graph=True)
    look(g)


@pytest.mark.parametrize("before", [lambda a, look: None, lasting])
def test_where_a_trace_was_cut_makes_no_difference_to_a_leaf_changed_through_its_data(before):
    def run(places):
        count = itertools.count()

        def look(t):
            if next(count) in places:
                t.tolist()

        a = numbers(fb)
        before(a, look)
        look(y := 1.0 / (1.0 + a * a))
        look(a.data.mul_(0.9))
        look(z := y.tanh() * y)
        return gradient(a, z).tolist()

    expected = run(())
    with fb.compiler_options(mode="off"):
        for places in itertools.chain(*(itertools.combinations(range(5), k) for k in range(1, 4))):
            assert run(places) == expected, places


def test_what_another_thread_has_overwritten_is_no_longer_what_a_gradient_goes_to():
    """While it waits there; its history from before must not be taken for the one that it has."""
    a = numbers(fb)
    h = a.sin()
    y = (h * 2.0).sum()
    y.item()
    h.zero_()  # waits
    with ThreadPoolExecutor(1) as other:
        find = partial(fb.autograd.grad, y, [h], allow_unused=True, create_graph=True)
        assert other.submit(find).result() == (None,)


def test_a_thread_is_told_what_others_have_overwritten():
    """The history is imported by one trace before another thread writes."""
    a = numbers(fb)
    h = a.sin()
    y = h * h
    y.tolist()
    y.sum().backward(retain_graph=True)  # this thread's trace knows the history from now on
    writer = threading.Thread(target=lambda: h.mul_(2).tolist())
    writer.start()
    writer.join()
    with pytest.raises(RuntimeError, match="modified in place"):
        y.sum().backward()
