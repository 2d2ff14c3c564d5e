"""backward() in traces that are new: worked out call by call, to the bit what the fragment of the whole trace gives."""

import random

import flambeau as fb
import numpy as np
import pytest
from call_programs import counted, data, same_bits_in_every_mode
from flambeau import call_derivatives
from flambeau.runtime import _binding, recorder

F = fb.nn.functional
OPS = [
    lambda z, x, w: z + x,
    lambda z, x, w: z * w,
    lambda z, x, w: x - z,
    lambda z, x, w: fb.maximum(z, x * w),
    lambda z, x, w: (z * 0.1).exp(),
    lambda z, x, w: z.tanh() + w.mean(0),
    lambda z, x, w: z @ w.T @ x,
    lambda z, x, w: F.softmax(z, -1),
    lambda z, x, w: F.gelu(z) + z,
    lambda z, x, w: F.layer_norm(z, (5,), w[0], w[1]),
    lambda z, x, w: z * z,
    lambda z, x, w: z.T.reshape(5, 4).T + z,
    lambda z, x, w: fb.cat([z, x * w])[2:6],
    lambda z, x, w: z.detach() * w + z,
    lambda z, x, w: fb.where(z > 0, z, w),
    lambda z, x, w: F.dropout(z, 0.3),
    lambda z, x, w: z.sort(-1)[0].cumsum(0),
]


@pytest.fixture
def background():
    with fb.compiler_options(mode="background"):
        yield


def gradients(seed):
    """A program of a few operations on 4 x 5 numbers, its loss and gradients."""
    chance = random.Random(seed)
    fb.manual_seed(seed)
    w, v = (fb.tensor(data(seed + k, 4, 5), requires_grad=True) for k in range(2))
    if chance.random() < 0.3:
        w.grad = fb.tensor(data(seed + 2, 4, 5))
    x, z = fb.tensor(data(seed + 3, 4, 5)), v * 0.5
    for operation in chance.choices(OPS, k=chance.randint(1, 5)):
        z = operation(z, x, w)
    if chance.random() < 0.3:
        z.backward(x)
    else:
        z = z.sum() if chance.random() < 0.5 else F.mse_loss(z, x)
        z.backward()
    return [z.detach().numpy().tobytes(), *(None if t.grad is None else t.grad.numpy().tobytes() for t in (w, v))]


@pytest.mark.parametrize("part", range(4))
def test_random_programs_have_the_bits_of_blocking_mode(part, background, monkeypatch):
    seeds = range(part * 30, part * 30 + 30)
    same_bits_in_every_mode(gradients, seeds, len(seeds) // 2, monkeypatch)


def test_changing_sizes_share_programs(background, monkeypatch):
    def step(n):
        w, b = fb.tensor(data(1, 5, 3), requires_grad=True), fb.tensor(data(2, 3), requires_grad=True)
        h = F.relu(fb.tensor(data(n, n, 5)) @ w + b)
        (h * h + h.sum(1, keepdim=True)).mean().backward()
        return w.grad.numpy().tobytes(), b.grad.numpy().tobytes()

    sizes, new = [3, 4, 5, 6, 7, 9, 4, 6, 11, 12], [13, 15]
    with fb.compiler_options(mode="off"):
        wanted, expected = [step(n) for n in sizes], [step(n) for n in new]
    for _ in range(3):
        assert [step(n) for n in sizes] == wanted
    made, builds = counted(monkeypatch), recorder.stats()["builds"]
    assert [step(n) for n in new] == expected
    assert made["fragments"] == 0 and recorder.stats()["builds"] == builds


def test_gradients_share_no_memory(background):
    for _ in range(3):
        v, w = (fb.ones(2, 3, requires_grad=True) for _ in range(2))
        seed = fb.full((2, 3), 2.0)
        (v + w).backward(seed)
        v.grad.numpy()[:] = 7
        w.grad += 1
        assert (
            seed.tolist() == [[2.0] * 3] * 2
            and w.grad.tolist() == [[3.0] * 3] * 2
            and v.grad.tolist() == [[7.0] * 3] * 2
        )


def test_a_graph_is_gone_after_its_backward_and_stays_where_it_is_kept(background):
    w = fb.tensor(data(5, 4, 5), requires_grad=True)
    for keep in (False, True, False):
        w.grad = None
        y = (w * w).exp()
        loss = y.tanh().sum()
        loss.backward(retain_graph=keep)
        first = w.grad.numpy().copy()
        loss.item()
        if keep:
            loss.backward()
            assert np.array_equal(w.grad.numpy(), first + first)
        with pytest.raises(RuntimeError, match="freed by an earlier backward"):
            loss.backward()
        with pytest.raises(RuntimeError, match="freed by an earlier backward"):
            y.sum().backward()


def test_what_was_put_off_is_there_for_more_of_the_trace(background):
    """A second backward of the trace, and a failing call, need the first one's fragment."""
    w, v = fb.tensor(data(6, 4, 5), requires_grad=True), fb.tensor(data(7, 4, 5), requires_grad=True)
    with fb.compiler_options(mode="off"):
        ((w * v).sum() * 2).backward()
        (w * 3 - v).exp().sum().backward()
        wanted = w.grad.tolist(), v.grad.tolist()
    w.grad = v.grad = None
    ((w * v).sum() * 2).backward()
    (w * 3 - v).exp().sum().backward()
    assert (w.grad.tolist(), v.grad.tolist()) == wanted
    w.grad = None
    (w * w).sum().backward()
    bad = fb.index_select(v.detach(), 0, fb.tensor([0, 9]))
    with pytest.raises(IndexError, match=r"test_call_gradients\.py"):
        bad.numpy()
    assert np.array_equal(w.grad.numpy(), 2 * data(6, 4, 5))


def test_traces_of_known_calls_are_differentiated_without_asking_rules(background, monkeypatch):
    """Whatever their order; more than two terms of a cotangent are put in order."""
    w = fb.tensor(data(1, 4, 5), requires_grad=True)

    def gradient(steps, n):
        w.grad, x = None, fb.tensor(data(n, n, 5))
        z = (x * w[0]).sum() * w
        for operation in steps:
            z = OPS[operation](z, w, w)
        z.sum().backward()
        return w.grad.numpy().tobytes()

    for n in (3, 4, 5):
        gradient(range(6), n)
        gradient([5, 4, 3, 2, 1, 0, 1], n)
    asked, made = [], counted(monkeypatch)
    real = call_derivatives.derivative
    monkeypatch.setattr(call_derivatives, "derivative", lambda *args: asked.append(args) or real(*args))
    new = [([0, 2, 4, 1, 3, 0, 1, 2, 5, 3], 5), ([1, 1, 3, 3, 0, 0, 2, 2], 3)]
    got = [gradient(*program) for program in new]
    assert made == {"fragments": 0, "deferred": 2} and not asked
    with fb.compiler_options(mode="blocking"):
        assert [gradient(*program) for program in new] == got


class Held:
    """As `CallHistory` and a walk in one, of a trace without calls."""

    def __init__(self, **changes):
        self.makers, self.given, self.data, self.links, self.overwritten = {}, {}, {}, {}, {}
        self.freed, self.own, self.steps, self.avals, self.joined = set(), set(), [], [], ()
        self.__dict__.update(changes)

    def seed(self):
        return 7


def test_going_back_refuses_what_is_no_trace():
    def back(root, leaves, **changes):
        held = Held(**changes)
        return _binding.pass_back(held, held, root, leaves, {}, None, None)

    assert back(3, (3, 5)) == ([7, None], (), 0, 0)
    assert back(3, (5,)) == ([None], (), 0, 0)
    assert back(3, (5,), links={3: 4}, given={4: 5}) == ([None], (), 0, 0)  # who asks has followed them
    with pytest.raises(ValueError, match="-2 is no slot"):
        back(-2, (3,))
    with pytest.raises(TypeError, match="makers is no dict"):
        back(3, (3,), makers=[])
    with pytest.raises(TypeError):
        back(3, ("x",))
    with pytest.raises(AttributeError):
        back(3, (5,), makers={3: ((None, None, (), (3,)), 0, 1)})


def test_an_op_without_gradient_is_named_with_its_line(background):
    w = fb.ones(3, requires_grad=True)
    y = fb.special.airy_ai(w * 2).sum()
    with pytest.raises(RuntimeError, match=r"airy_ai.*test_call_gradients\.py"):
        y.backward()


def test_traces_that_go_on_differently_after_one_backward(background):
    w = fb.tensor(data(8, 4, 5), requires_grad=True)
    for n in range(1, 5):
        w.grad = None
        ((w * 1.5).exp() * w).sum().backward()
        y = w.grad
        for _ in range(n):
            y = y * 2
        expected = np.exp(1.5 * data(8, 4, 5)) * (1 + 1.5 * data(8, 4, 5))
        assert y.numpy() == pytest.approx(2**n * expected, rel=1e-5)
