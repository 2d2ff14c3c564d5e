"""What a gradient costs that goes through many traces: their number, and not copies of each within the next."""

import flambeau as fb
import pytest
from flambeau.assembly import Assembly
from flambeau.runtime import recorder


def numbers(n):
    return fb.tensor([0.1 * i for i in range(1, n + 1)], dtype=fb.float64, requires_grad=True)


def steps_of_a_learner(n, rounds, look):
    """Each step is differentiated through by those after it, as where the rule of learning is learnt."""
    x, first = numbers(n).detach(), numbers(n)
    w = first
    for _ in range(rounds):
        loss = ((x * w).sin() ** 2).sum()
        look(loss)
        (g,) = fb.autograd.grad(loss, w, create_graph=True)
        w = w - 0.1 * g
    ((x * w).sin() ** 2).sum().backward()
    return first.grad


def a_recurrence(n, rounds, look):
    """A state that is carried on, and looked at; each graph is kept."""
    a = numbers(n)
    h, total = a, 0.0
    for _ in range(rounds):
        h = (h * a).sin()
        y = h * h
        look(y)
        h = h * 2.0
        (g,) = fb.autograd.grad(y.sum(), a, create_graph=True, retain_graph=True)
        total = total + g.detach()
    return total


def a_recurrence_that_grows(n, rounds, look):
    """As that of a sequence to which something is added in every round."""
    a = numbers(n)
    h, total = a, 0.0
    for _ in range(rounds):
        h = fb.cat([(h * h.sum()).sin(), a])
        y = (h * h).sum()
        look(y)
        (g,) = fb.autograd.grad(y, a, create_graph=True, retain_graph=True)
        total = total + g.detach()
    return total


def gradients_that_are_refused(n, rounds, look):
    """What a backward that raises had imported waits in the trace."""
    a = numbers(n)
    h = a
    for _ in range(rounds):
        h = (h * a).sin()
        y = h * h
        look(y)
        h.mul_(2.0)
        with pytest.raises(RuntimeError, match="modified in place"):
            fb.autograd.grad(y.sum(), a, create_graph=True)
        look(h)
    return h


PROGRAMS = {
    f.__name__: f for f in (steps_of_a_learner, a_recurrence, a_recurrence_that_grows, gradients_that_are_refused)
}
#: One size only; or others before it, so that it is a symbol.
SIZES = {"of one size": (3,), "of changing sizes": (3, 4, 5, 6)}


@pytest.fixture
def entries(monkeypatch):
    """A list that grows by one for each entry of a trace that is made part of a graph."""
    seen = []
    read = Assembly._entries
    monkeypatch.setattr(
        Assembly, "_entries", lambda self, export, *rest: (seen.extend(export), read(self, export, *rest))
    )
    with fb.compiler_options(mode="off"):
        yield seen


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_looks_between_make_no_copies_of_copies(name, sizes, entries):
    """Every gradient goes through all traces before it, and reads them whole: up to eight times as much for twice the rounds,
    and not 2 ** 5 times."""
    counts = []
    for rounds in (5, 10):
        for n in SIZES[sizes]:
            entries.clear()
            PROGRAMS[name](n, rounds, lambda t: t.tolist())
        counts.append(len(entries))
    assert 0 < counts[1] < 12 * counts[0]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_their_gradients_have_the_bits_of_one_trace(name, sizes, entries):
    for n in SIZES[sizes]:
        looked, unseen = (PROGRAMS[name](n, 5, look).tolist() for look in (lambda t: t.tolist(), lambda t: None))
        assert looked == unseen


def test_states_that_are_dropped_meanwhile_are_made_again(entries):
    """Of traces with symbols, too, for which equal words are no equal states."""
    expected = [steps_of_a_learner(n, 5, lambda t: t.tolist()).tolist() for n in (3, 4, 5, 6, 7)]

    def drop(t):
        t.tolist()
        states = recorder.stats()["states"]
        recorder.set_limits(max_states=1)
        fb.zeros(2).tolist()
        recorder.set_limits(max_states=1 << 20)
        dropped.append(states - recorder.stats()["states"])

    for n, gradient in enumerate(expected, 3):
        for _ in range(2):
            dropped = []
            assert steps_of_a_learner(n, 5, drop).tolist() == gradient
            assert max(dropped) > 0
