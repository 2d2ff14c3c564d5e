"""Derivatives and regions that are recorded again by the calls of the last time: what they give, and that nothing is worked out."""

import flambeau as fb
import numpy as np
import pytest
from flambeau import along_history, func, inline, regions, replays

RNG = np.random.default_rng(0)


def array(*shape):
    return RNG.normal(size=shape)


class Count:
    """How often a class was called."""

    def __init__(self, made, monkeypatch, module, name):
        self.calls, self.made = 0, made
        monkeypatch.setattr(module, name, self)

    def __call__(self, *args):
        self.calls += 1
        return self.made(*args)


@pytest.fixture
def tapes(monkeypatch):
    fb.flush()
    monkeypatch.setattr(replays, "_known", {})
    return Count(along_history.Tape, monkeypatch, along_history, "Tape")


@pytest.fixture
def programs(monkeypatch):
    fb.flush()
    monkeypatch.setattr(regions, "_programs", {})
    return Count(regions._Region, monkeypatch, regions, "_Region")


def each_time(make, times=5):
    """Call with new values, each in a trace of its own."""
    for k in range(times):
        make(k)
        fb.flush()


@pytest.mark.parametrize("transform", [func.jacrev, func.jacfwd])
def test_a_jacobian_is_worked_out_once(tapes, transform):
    w = array(4, 4)

    def check(k):
        x, scale = array(4), 1.5 + k
        found = transform(lambda x: (fb.tensor(w) @ x * scale).tanh())(fb.tensor(x))
        y = np.tanh(w @ x * scale)
        np.testing.assert_allclose(found.numpy(), (1 - y * y)[:, None] * w * scale, atol=1e-12)

    each_time(check, 8)
    assert 1 <= tapes.calls <= 4  # numbers become operands when they have changed


def test_a_hessian_is_worked_out_once(tapes):
    def check(k):
        x = array(3)
        found = func.hessian(lambda x: (x**3).sum() + x.prod())(fb.tensor(x))
        others = np.array([[0, x[2], x[1]], [x[2], 0, x[0]], [x[1], x[0], 0]])
        np.testing.assert_allclose(found.numpy(), np.diag(6 * x) + others, rtol=1e-10)

    each_time(check)
    calls = tapes.calls
    each_time(check)
    assert tapes.calls == calls > 0


def test_what_is_hooked_elsewhere_has_no_say(tapes, monkeypatch):
    """One hooked weight, or result, anywhere in the process does not have all derivatives worked out op by op."""
    weight = fb.ones(3, requires_grad=True)
    seen = []
    weight.register_hook(seen.append)
    weight.register_post_accumulate_grad_hook(seen.append)
    y = weight * 2
    y.register_hook(seen.append)
    y.retain_grad()
    fb.flush()
    step_by_step = Count(inline.backward, monkeypatch, inline, "backward")

    def check(k):
        x = fb.tensor(array(4), requires_grad=True)
        z = (x * x).sum()
        z.backward()
        np.testing.assert_array_equal(x.grad.numpy(), 2 * x.detach().numpy())
        (g,) = fb.autograd.grad((x**3).sum(), [x])
        np.testing.assert_allclose(g.numpy(), 3 * x.detach().numpy() ** 2)
        found = func.jacrev(lambda x: x.exp() * 2)(x.detach())
        np.testing.assert_allclose(found.numpy(), np.diag(2 * np.exp(x.detach().numpy())))

    each_time(check)
    assert tapes.calls <= 2 and step_by_step.calls == 0 and not seen
    (y.sum() + fb.ones(2).sum()).backward()  # by way of a history that an earlier trace made
    assert step_by_step.calls == 1 and len(seen) == 3
    np.testing.assert_array_equal(y.grad.numpy(), [1, 1, 1])


def test_a_function_that_does_something_else_is_worked_out_again(tapes):
    """What Python decides is another trace; sizes are others, too."""

    def check(k):
        x, is_square = array(2 + k % 3), k % 2
        found = func.jacrev(lambda x: x * x if is_square else x.exp())(fb.tensor(x))
        np.testing.assert_allclose(found.numpy(), np.diag(2 * x if is_square else np.exp(x)), rtol=1e-10)

    each_time(check, 24)
    assert tapes.calls < 20


def test_views_in_and_out(tapes):
    def check(k):
        x = array(3, 2)
        t = fb.tensor(x)
        for shown, expected in (
            (lambda x: (x * x).T, 1),
            (lambda x: (x * x)[k % 3], 2),
            (lambda x: (x * x).reshape(-1), 3),
        ):
            found = func.jacrev(shown)(t)
            like = {1: (x * x).T, 2: (x * x)[k % 3], 3: (x * x).ravel()}[expected]
            at = {1: np.arange(6).reshape(3, 2).T, 2: np.arange(6).reshape(3, 2)[k % 3], 3: np.arange(6)}[expected]
            wanted = np.zeros((*like.shape, 6))
            np.put_along_axis(wanted, at[..., None], (2 * x.ravel())[at][..., None], -1)
            np.testing.assert_allclose(found.numpy(), wanted.reshape(*like.shape, 3, 2), rtol=1e-10)

    each_time(check, 6)


def test_gradients_go_through_what_is_recorded_again(tapes):
    def check(k):
        x = fb.tensor(array(3), requires_grad=True)
        found = func.jacrev(lambda x: x**3)(x)
        found.sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), 6 * x.detach().numpy(), rtol=1e-10)

    each_time(check)
    assert tapes.calls < 5


def test_results_that_are_what_was_given_and_equal_ones(tapes):
    def check(k):
        x = fb.tensor(array(3))
        same, twice = func.jacfwd(lambda x: (x, x * 2))(x)
        assert same.tolist() == np.eye(3).tolist() and twice.tolist() == (2 * np.eye(3)).tolist()
        both = func.jacrev(lambda x, y: x + y, (0, 1))(x, x * 2)
        assert [b.tolist() for b in both] == [np.eye(3).tolist()] * 2
        assert func.jacrev(lambda x: fb.ones(2))(x).tolist() == [[0.0] * 3] * 2

    each_time(check)


def test_narrow_numbers_are_rounded_as_they_were_the_first_time(tapes):
    x = fb.tensor(array(8), dtype=fb.bfloat16)
    found = []
    for _ in range(4):
        found.append(func.hessian(lambda x: (x.tanh() * x.exp()).sum())(x).tolist())
        fb.flush()
    assert found == found[:1] * 4


def test_sizes_that_change_share_a_program(tapes):
    def check(k):
        x = array(3 + k)
        found = func.jacrev(lambda x: (x * x).cumsum(0))(fb.tensor(x))
        np.testing.assert_allclose(found.numpy(), np.tril(np.broadcast_to(2 * x, (len(x),) * 2)), rtol=1e-10)

    each_time(check, 10)
    each_time(check, 10)


def test_hooks_are_called_every_time(tapes):
    seen = []

    def hooked(x):
        y = x * 2
        y.register_hook(lambda g: seen.append(1) or g * 10)
        return y.sum()

    for _ in range(4):
        assert func.jacrev(hooked)(fb.ones(2)).tolist() == [20.0, 20.0]
        fb.flush()
    assert len(seen) == 4


def test_values_from_other_traces_are_as_they_are_now():
    """What is differentiated has a history that was run, and parameters that are written in between."""
    w = fb.tensor(array(3), requires_grad=True)
    for _ in range(5):
        y = w * w
        y.tolist()
        (found,) = along_history.gradients_of_batch("grad", [y * 2], [fb.eye(3, dtype=fb.float64)], [w], 3, False)
        np.testing.assert_allclose(found.numpy(), np.diag(4 * w.detach().numpy()), rtol=1e-10)
        with fb.no_grad():
            w += 1
        fb.flush()


def test_a_batch_of_calls_is_assembled_once(programs):
    def check(k):
        x, y = array(5, 3), array(3)
        found = fb.vmap(lambda x: (x * fb.tensor(y) * (2.0 + k)).sum())(fb.tensor(x))
        np.testing.assert_allclose(found.numpy(), (x * y).sum(1) * (2.0 + k), rtol=1e-10)
        found = fb.vmap(func.grad(lambda x: (x**2).sum() * (2.0 + k)))(fb.tensor(x))
        np.testing.assert_allclose(found.numpy(), 2 * x * (2.0 + k), rtol=1e-10)

    each_time(check, 8)
    calls = programs.calls
    each_time(check)
    assert programs.calls == calls


def test_regions_with_other_branches_sizes_and_draws(programs):
    def check(k):
        x, flag = array(2 + k % 3, 4), k % 2
        found = fb.vmap(lambda x: x.cumsum(0) if flag else x.flip(0))(fb.tensor(x))
        np.testing.assert_allclose(found.numpy(), x.cumsum(1) if flag else x[:, ::-1], rtol=1e-10)
        fb.manual_seed(k)
        first = fb.vmap(lambda x: x + fb.rand(4, dtype=fb.float64), randomness="same")(fb.tensor(x))
        fb.manual_seed(k)
        np.testing.assert_allclose(first.numpy(), x + fb.rand(4, dtype=fb.float64).numpy())

    each_time(check, 12)


def test_errors_of_a_region_name_their_own_line(programs):
    """What may fail is assembled each time: its line is the one that recorded it."""

    def gather(at):
        return fb.vmap(lambda x: x.gather(0, fb.tensor([at])))(fb.ones(2, 3)).tolist()

    for _ in range(4):
        assert gather(0) == [[1.0], [1.0]]
    with pytest.raises(IndexError, match="out of range") as caught:
        gather(7)
    line = gather.__code__.co_firstlineno + 1
    assert f"test_replays.py:{line}" in str(caught.value)
