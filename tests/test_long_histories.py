"""What a gradient costs that goes through many traces: their number, and not copies of each within the next."""

import flambeau as fb
import pytest
from flambeau.assembly import Assembly

NUMBERS = [0.1, 0.2, 0.3]


def numbers():
    return fb.tensor(NUMBERS, dtype=fb.float64, requires_grad=True)


def steps_of_a_learner(rounds, look):
    """Each step is differentiated through by those after it, as where the rule of learning is learnt."""
    x, first = numbers().detach(), numbers()
    w = first
    for _ in range(rounds):
        loss = ((x * w).sin() ** 2).sum()
        look(loss)
        (g,) = fb.autograd.grad(loss, w, create_graph=True)
        w = w - 0.1 * g
    ((x * w).sin() ** 2).sum().backward()
    return first.grad


def a_recurrence(rounds, look):
    """A state that is carried on, and looked at; each graph is kept."""
    a = numbers()
    h, total = a, 0.0
    for _ in range(rounds):
        h = (h * a).sin()
        y = h * h
        look(y)
        h = h * 2.0
        (g,) = fb.autograd.grad(y.sum(), a, create_graph=True, retain_graph=True)
        total = total + g.detach()
    return total


def gradients_that_are_refused(rounds, look):
    """What a backward that raises had imported waits in the trace."""
    a = numbers()
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


PROGRAMS = {f.__name__: f for f in (steps_of_a_learner, a_recurrence, gradients_that_are_refused)}


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


@pytest.mark.parametrize("name", PROGRAMS)
def test_looks_between_make_no_copies_of_copies(name, entries):
    """Every gradient goes through all traces before it, and reads them whole: up to eight times as much for twice the rounds,
    and not 2 ** 6 times."""
    counts = []
    for rounds in (6, 12):
        entries.clear()
        PROGRAMS[name](rounds, lambda t: t.tolist())
        counts.append(len(entries))
    assert counts[1] < 12 * counts[0]


@pytest.mark.parametrize("name", PROGRAMS)
def test_their_gradients_have_the_bits_of_one_trace(name, entries):
    looked, unseen = (PROGRAMS[name](5, look).tolist() for look in (lambda t: t.tolist(), lambda t: None))
    assert looked == unseen
