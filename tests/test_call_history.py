"""backward() through traces that looks have cut: call by call, whatever their number, with the bits of the whole."""

import random

import flambeau as fb
import numpy as np
import pytest
from call_programs import counted, data, same_bits_in_every_mode
from flambeau import call_gradients, sizing
from flambeau import walk as walking
from flambeau.dialects import autodiff
from flambeau.dialects.size import Size, symbol
from flambeau.dialects.size_equations import solved
from flambeau.dialects.size_guards import scope
from flambeau.dialects.size_rows import program
from flambeau.runtime import recorder

F = fb.nn.functional


@pytest.fixture
def background():
    with fb.compiler_options(mode="background"):
        yield


OPS = [
    lambda z, y, x, w: z * w,
    lambda z, y, x, w: fb.maximum(z, y * w),
    lambda z, y, x, w: (z * 0.1).exp() + y,
    lambda z, y, x, w: z @ w.T @ x,
    lambda z, y, x, w: F.softmax(z, -1) + w.mean(0),
    lambda z, y, x, w: F.layer_norm(z, (5,), w[0], y[1]),
    lambda z, y, x, w: z.T.reshape(5, 4).T + z,
    lambda z, y, x, w: z.detach() * w + z,
    lambda z, y, x, w: F.dropout(z, 0.3) - y,
    lambda z, y, x, w: (z + 0).mul_(w).add_(y),
    lambda z, y, x, w: fb.where(z > 0, z, w),
]


def gradients(seed):
    """Operations with looks between them, on what is carried on (z), what was before (y), data and leaves."""
    chance = random.Random(seed)
    fb.manual_seed(seed)
    w, v = (fb.tensor(data(seed + k, 4, 5), requires_grad=True) for k in range(2))
    x, y, z = fb.tensor(data(seed + 3, 4, 5)), w * 0.5, v * 0.5
    losses = [z.mean()]
    for _ in range(chance.randint(1, 6)):
        y, z = z, chance.choice(OPS)(z, y, x, chance.choice([v, w]))
        if chance.random() < 0.7:
            z.sum().item()
        if chance.random() < 0.5:
            losses.append(z.sin().mean())
        if chance.random() < 0.3:
            w.grad = fb.tensor(data(seed + 2, 4, 5))
        if chance.random() < 0.2:
            losses[-1].backward(retain_graph=True)
        if chance.random() < 0.2:
            with fb.no_grad():
                x = x * 0.5
    fb.stack([*losses, z.sum()]).sum().backward()
    return [z.detach().numpy().tobytes(), *(None if t.grad is None else t.grad.numpy().tobytes() for t in (w, v))]


@pytest.mark.parametrize("part", range(4))
def test_random_programs_with_looks_have_the_bits_of_blocking_mode(part, background, monkeypatch):
    seeds = range(part * 30, part * 30 + 30)
    same_bits_in_every_mode(gradients, seeds, len(seeds), monkeypatch)


def episode(n, w, v):
    """A loss of every step, each of which is looked at."""
    losses = []
    for k in range(n):
        p = F.log_softmax(F.relu(fb.tensor(data(k, 4)) @ w) @ v, -1)
        chosen = 0 if float(p[0]) > float(p[1]) else 1
        losses.append(-p[chosen] * (k % 3 - 1.0))
    return fb.stack(losses).sum()


def expected(n, w, v):
    """The gradients of `episode` by formula, in float64."""
    gw, gv = np.zeros(w.shape), np.zeros(v.shape)
    for k in range(n):
        x = data(k, 4).astype(np.float64)
        h = np.maximum(x @ w, 0)
        z = h @ v
        p = np.exp(z - np.log(np.exp(z).sum()))
        ct = (p - np.eye(2)[0 if p[0] > p[1] else 1]) * (k % 3 - 1.0)
        gv += np.outer(h, ct)
        gw += np.outer(x, (v @ ct) * (h > 0))
    return gw, gv


def test_an_episode_of_a_new_length_is_not_differentiated_as_a_whole(background, monkeypatch):
    w, v = fb.tensor(data(1, 4, 6), requires_grad=True), fb.tensor(data(2, 6, 2), requires_grad=True)
    for n in (5, 6, 7, 5, 6, 7):
        episode(n, w, v).backward()
        w.grad.tolist()
    made, builds = counted(monkeypatch), recorder.stats()["builds"]
    for n in (19, 31, 12, 43):
        w.grad = v.grad = None
        episode(n, w, v).backward()
        for gradient, wanted in zip((w.grad, v.grad), expected(n, w.detach().numpy(), v.detach().numpy()), strict=True):
            assert gradient.numpy() == pytest.approx(wanted, rel=2e-4, abs=2e-5)
    assert made == {"fragments": 0, "deferred": 4}
    assert recorder.stats()["builds"] - builds <= 8  # of the last look and the gradients of each


def weighted(n, w, v):
    """As `episode`, with weights that are made of as many numbers as there are steps, and the loss in hand."""
    losses = []
    for k in range(n):
        h = F.relu(fb.tensor(data(k, 4)) @ w) @ v
        losses.append(h.tanh().sum() if h.sum().item() > 0 else h.sin().sum())
    weights = fb.tensor([k % 3 - 1.0 for k in range(n)])
    weights = weights - weights.mean()
    loss = (fb.stack(losses) * weights).sum()
    loss.backward()
    return loss, [t.grad.numpy().tobytes() for t in (w, v)]


def test_sizes_that_follow_the_number_of_steps_ask_for_no_fragment(background, monkeypatch):
    w, v = fb.tensor(data(1, 4, 6), requires_grad=True), fb.tensor(data(2, 6, 2), requires_grad=True)
    got = {}

    def run(n):
        w.grad = v.grad = None
        return weighted(n, w, v)[1]

    for n in range(5, 14):  # either branch as the last one: every op has its plans
        run(n)
    made = counted(monkeypatch)
    for n in (19, 31, 14, 23):
        got[n] = run(n)
    assert made["fragments"] == 0
    with fb.compiler_options(mode="blocking"):
        for n, bits in got.items():
            assert run(n) == bits


def carried(n, w, v):
    """A loss of every step, each of which is looked at and goes on to the next one: gradients come to it on two ways."""
    h, loss = fb.zeros(4), 0.0
    for k in range(n):
        h = (fb.tensor(data(k, 4)) @ w + h * 0.5).tanh()
        y = (h @ v).sum()
        y.item()
        loss = loss + y * (k % 3 - 1.0)
    return loss


@pytest.mark.parametrize("program, most", [(episode, 5), (carried, 10)])
def test_equal_steps_are_differentiated_once_and_looked_up_as_one(program, most, background, monkeypatch):
    w, v = fb.tensor(data(1, 4, 4), requires_grad=True), fb.tensor(data(2, 4, 2), requires_grad=True)

    def run(n):
        w.grad = v.grad = None
        program(n, w, v).backward()
        return w.grad.numpy().tobytes(), v.grad.numpy().tobytes()

    for n in (5, 6, 7, 8, 9):
        run(n)
    made, worked_out, steps = counted(monkeypatch), [], []
    real, deferred = autodiff.vjp, call_gradients.Deferred.__init__
    monkeypatch.setattr(autodiff, "vjp", lambda *args: worked_out.append(1) or real(*args))
    monkeypatch.setattr(
        call_gradients.Deferred,
        "__init__",
        lambda d, name, of, *args: steps.append(len(of)) or deferred(d, name, of, *args),
    )
    got = {n: run(n) for n in (19, 29)}
    assert made == {"fragments": 0, "deferred": 2} and len(worked_out) <= 4  # stacks of so many losses
    assert steps[1] - steps[0] <= 10 * most
    with fb.compiler_options(mode="blocking"):
        assert {n: run(n) for n in got} == got


def test_an_episode_is_assembled_once_it_came_often(background, monkeypatch):
    w, v = fb.tensor(data(1, 4, 6), requires_grad=True), fb.tensor(data(2, 6, 2), requires_grad=True)
    for n in (5, 6, 7):
        weighted(n, w, v)
    made, results = counted(monkeypatch), []
    for share, n in ((float("inf"), 12), (0.0, 1000)):
        monkeypatch.setattr(walking, "SHARE", share)
        while made["fragments"] == 0 and n > 0:
            w.grad = v.grad = None
            results.append(weighted(9, w, v)[1])
            n -= 1
        assert made["fragments"] == (share == 0)
    assert all(r == results[0] for r in results)


def test_what_imports_say_of_sizes_is_what_their_assembly_says(monkeypatch):
    w = fb.tensor(data(1, 4, 4), requires_grad=True)
    answers = []

    def both(export):
        values = recorder.trace_sizes()
        with scope(values):
            asm = sizing.assembled(export)
            zeros = [*sizing._zeros(recorder.trace_equations(0)[1]), *asm.zeros]
            wanted = solved(zeros, len(values))
        found = sizing.equations(export)
        assert found == [program(zero) for i, size in enumerate(wanted) if isinstance(zero := symbol(i) - size, Size)]
        answers.append(len(values))
        return found

    before = recorder.set_hooks(equations=both)
    try:
        for n in (3, 5, 6, 9, 4):
            x, h = fb.ones(n, 4), fb.ones(4)
            y = (x @ w).tanh()
            y.sum().item()
            z = (y * 0.5).exp()[: n - 1]
            loss = z.mean() + (h * w).sum()
            loss.backward(retain_graph=True)
            kept = z * y[1:]
            kept.sum().item()
            (kept.sum() + loss).backward()
            assert np.isfinite(w.grad.numpy()).all()
    finally:
        recorder.set_hooks(**before)
    assert any(answers)


def test_what_was_written_or_used_up_since_is_refused(background):
    for _ in range(3):
        w = fb.tensor(data(5, 4, 5), requires_grad=True)
        h = w * 2
        y = h.exp()
        y.sum().item()
        loss = (y * y).sum()
        loss.item()
        loss.backward(retain_graph=True)
        assert w.grad.numpy() == pytest.approx(4 * np.exp(4 * data(5, 4, 5)), rel=1e-5)
        loss.backward()
        assert w.grad.numpy() == pytest.approx(8 * np.exp(4 * data(5, 4, 5)), rel=1e-5)
        with pytest.raises(RuntimeError, match="freed by an earlier backward"):
            y.sum().backward()
        h = w * 2
        y = h.exp()
        y.sum().item()
        y.mul_(2)
        with pytest.raises(RuntimeError, match="modified in place"):
            y.sum().backward()


def test_a_gradient_with_history_reads_what_an_earlier_trace_had():
    """Its calls are the trace's own, and their operands are values of the trace that was run before."""

    def gradients(look):
        a, b = fb.tensor([1.0, 2.0, 3.0], requires_grad=True), fb.tensor([2.0, 1.0, 3.0], requires_grad=True)
        y = fb.minimum(a, b)
        look()
        found = fb.autograd.grad((y * 0.5).sum(), [a, b], create_graph=True)
        look()
        return [g.tolist() for g in found]

    with fb.compiler_options(mode="off"):
        assert gradients(fb.flush) == gradients(lambda: None) == [[0.5, 0.0, 0.25], [0.0, 0.5, 0.25]]


def test_what_was_overwritten_within_a_joined_call_is_still_refused(background):
    """`exp` needs its result for its gradient, and what reads that later on is another trace's."""
    a = fb.tensor([0.1, 0.2, 0.3], requires_grad=True)
    x = a.sin().exp()
    fb.flush()
    x.detach().add_(0.1)
    fb.flush()
    y = fb.nn.functional.gelu(x)
    fb.flush()
    with pytest.raises(RuntimeError, match=r"\[backward\] a tensor needed for the gradient was modified in place"):
        (y * y).mean().backward(retain_graph=True)
    fb.flush()
    assert a.grad is None
