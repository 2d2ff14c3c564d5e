"""Values that a gradient reads and that were overwritten in place meanwhile: the gradient is refused, wherever the trace was cut.

Each program is run with looks at every choice of its places, and, where PyTorch is, in PyTorch.
"""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps

import flambeau as fb
import pytest
from support import for_users, rounds

REFUSED = "refused"
NUMBERS = [0.1, 0.2, 0.3]
PROGRAMS = {}


def program(run):
    """`run(T, look)` gives a gradient from library T; `look(tensors)` may look at them. Its docstring: what PyTorch does."""
    PROGRAMS[run.__name__] = run
    return run


def numbers(T):
    return T.tensor(NUMBERS, dtype=T.float64, requires_grad=True)


def ones(T):
    return T.ones(3, dtype=T.float64)


def gradient(a, y):
    y.sum().backward()
    return a.grad


@program
def a_result(T, look):
    """refused"""
    a = numbers(T)
    look(h := a.sin())
    look(y := h * h)
    look(h.mul_(2))
    return gradient(a, y)


@program
def a_part_of_a_result(T, look):
    """refused"""
    a = numbers(T)
    look(h := a.sin())
    look(y := h * h)
    h[0].mul_(2)
    look(h)
    return gradient(a, y)


@program
def a_result_read_through_a_view(T, look):
    """refused"""
    a = numbers(T)
    look(h := a.sin())
    v = h[1:]
    look(y := v * v)
    look(h.mul_(2))
    return gradient(a, y)


@program
def a_factor(T, look):
    """refused"""
    a = numbers(T)
    look(c := ones(T))
    look(y := a * c)
    look(c.mul_(2))
    return gradient(a, y)


@program
def a_factor_that_was_computed(T, look):
    """refused"""
    a = numbers(T)
    look(c := ones(T))
    d = c + 1
    look(y := a * d)
    look(d.mul_(2))
    return gradient(a, y)


@program
def a_term(T, look):
    """not read: allowed"""
    a = numbers(T)
    look(c := ones(T))
    look(y := a + c)
    look(c.mul_(2))
    return gradient(a, y)


@program
def a_result_that_its_own_gradient_reads(T, look):
    """refused"""
    a = numbers(T)
    look(y := a.tanh())
    look(z := y * 2)
    look(y.mul_(2))
    return gradient(a, z)


@program
def before_it_is_read(T, look):
    """allowed"""
    a = numbers(T)
    look(h := a * 3)
    look(h.mul_(2))
    look(y := h * h)
    return gradient(a, y)


@program
def before_it_is_read_without_history(T, look):
    """allowed"""
    a = numbers(T)
    look(h := a * 3)
    with T.no_grad():
        h.mul_(2)
    look(h)
    look(y := h * h)
    return gradient(a, y)


@program
def before_and_after_it_is_read(T, look):
    """refused"""
    a = numbers(T)
    h = a * 3
    with T.no_grad():
        h.mul_(2)
    look(h)
    look(y := h * h)
    with T.no_grad():
        h.mul_(2)
    look(h)
    return gradient(a, y)


@program
def a_leaf(T, look):
    """refused"""
    a = numbers(T)
    look(y := a * a)
    with T.no_grad():
        a.mul_(2)
    look(a)
    return gradient(a, y)


@program
def a_leaf_read_by_several(T, look):
    """refused"""
    a = numbers(T)
    look(y := a.sin())
    look(z := y * a)
    with T.no_grad():
        a.mul_(2)
    look(a)
    return gradient(a, z)


@program
def after_a_backward_that_kept_the_graph(T, look):
    """refused"""
    a = numbers(T)
    h = a.sin()
    look(y := h * h)
    y.sum().backward(retain_graph=True)
    look(a.grad)
    look(h.mul_(2))
    return gradient(a, y)


@program
def between_derivatives(T, look):
    """refused"""
    a = numbers(T)
    look(h := a.sin())
    y = h * h * h
    (g,) = T.autograd.grad(y.sum(), a, create_graph=True)
    look(g)
    look(h.mul_(2))
    return gradient(a, g)


@program
def a_cotangent(T, look):
    """refused"""
    a = numbers(T)
    look(ct := ones(T))
    look(y := a * a)
    (g,) = T.autograd.grad(y, a, ct, create_graph=True)
    look(g)
    look(ct.mul_(2))
    return gradient(a, g)


@program
def by_a_copy(T, look):
    """refused"""
    a = numbers(T)
    look(h := a.sin())
    look(y := h * h)
    look(h.copy_(a))
    return gradient(a, y)


@program
def by_the_call_that_reads_it(T, look):
    """allowed: it had the old value"""
    a = numbers(T)
    look(h := a * 2)
    look(other := a.cos())
    look(h.mul_(other))
    return gradient(a, h)


@program
def what_a_call_in_place_reads(T, look):
    """refused"""
    a = numbers(T)
    look(h := a * 2)
    other = a.cos()
    look(h.mul_(other))
    look(other.mul_(2))
    return gradient(a, h)


@program
def an_index(T, look):
    """refused"""
    a = numbers(T)
    look(i := T.tensor([0, 2]))
    look(y := a.index_select(0, i))
    look(i.zero_())
    return gradient(a, y)


@program
def a_mask(T, look):
    """refused"""
    a = numbers(T)
    look(m := T.tensor([True, False, True]))
    look(y := T.where(m, a, a * 2))
    look(m.logical_not_())
    return gradient(a, y)


@program
def a_result_with_a_hook(T, look):
    """refused"""
    a = numbers(T)
    h = a.sin()
    h.register_hook(lambda g: g * 1.0)
    look(h)
    look(y := h * h)
    look(h.mul_(2))
    return gradient(a, y)


@program
def through_an_alias_without_history(T, look):
    """refused"""
    a = numbers(T)
    look(h := a.sin())
    look(y := h * h)
    h.detach().mul_(2)
    look(h)
    return gradient(a, y)


@program
def running_statistics(T, look):
    """allowed: no gradient reads them"""
    a = numbers(T)
    look(r := ones(T))
    look(y := (a - r) * a)
    look(r.mul_(0.9).add_(a.detach() * 0.1))
    return gradient(a, y.detach() + a * 2)


@program
def a_factor_of_two_products(T, look):
    """refused"""
    a = numbers(T)
    c = ones(T)
    look(y := a * c)
    look(z := y * c)
    look(c.add_(1))
    return gradient(a, z)


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
