"""Looking at values between forward and gradient changes no derivative of any order, to the bit."""

import flambeau as fb
import numpy as np
import pytest
from random_derivatives import ROWS, UNARY
from random_training import environment

FORMS = [form for form, _ in (*UNARY, *ROWS)]


def derivatives(form, looks, dtype=np.float64):
    """The first three derivatives of sums of f(x) squared; `looks` says at what is looked: y, or gradient 1 or 2."""
    names = environment(fb)
    x = fb.tensor(np.random.default_rng(3).uniform(0.2, 1.8, (5, 8)).astype(dtype)).requires_grad_()
    y = eval(form.format(x="x"), names, {"x": x})
    found = []
    for order in (1, 2, 3):
        if "y" in looks:
            y.tolist()
        (g,) = fb.autograd.grad((y * y).sum(), [x], create_graph=order < 3, allow_unused=True)
        if g is None or (order < 3 and not g.requires_grad):
            break
        if order in looks:
            g.tolist()
        found.append(g)
        y = g
    return [g.detach().numpy().tobytes() for g in found]


@pytest.fixture(scope="module", autouse=True)
def op_by_op():
    """Where traces are cut is the same on every tier, and this one compiles least."""
    with fb.compiler_options(mode="off"):
        yield


@pytest.mark.parametrize("form", FORMS)
def test_derivatives_do_not_depend_on_looks(form):
    expected = derivatives(form, ())
    for looks in (("y",), (1,), ("y", 1, 2)):
        assert derivatives(form, looks) == expected, f"looked at {looks}"
        assert derivatives(form, looks) == expected, f"looked at {looks}, from the trie"


def test_second_derivative_of_std_after_a_look():
    a = np.array([1.0, 2.0, 4.0])
    c, s = a - a.mean(), a.std(ddof=1)
    # d2 std / dx0 dxi = ((i == 0) - 1/n) / ((n - 1) s) - (x0 - m)(xi - m) / ((n - 1)^2 s^3)
    expected = (np.array([1.0, 0.0, 0.0]) - 1 / 3) / (2 * s) - c[0] * c / (4 * s**3)
    x = fb.tensor(a).requires_grad_()
    v = x.std()
    v.item()
    (g,) = fb.autograd.grad(v, [x], create_graph=True)
    (h,) = fb.autograd.grad(g[0], [x])
    np.testing.assert_allclose(h.numpy(), expected, 1e-12)


@pytest.mark.parametrize("form", ["F.softplus({x})", "{x} * {x}", "T.tanh({x})"])
def test_a_look_by_a_hook_in_the_middle_of_a_gradient(form):
    def second(look, run_before):
        a = fb.tensor(0.125, dtype=fb.float64, requires_grad=True)
        x = a * 0.5
        if run_before:
            x.item()
        y = eval(form.format(x="x"), environment(fb), {"x": x})
        y.register_hook(lambda g: fb.flush() if look else None)
        (g,) = fb.autograd.grad(y.sin(), [a], create_graph=True)
        return fb.autograd.grad(g, [a])[0].item()

    expected = second(False, False)
    assert [second(*case) for case in ((False, True), (True, False), (True, True))] == [expected] * 3


def test_what_was_detached_gives_no_history_to_a_gradient():
    found = []
    for look in (False, True):
        a = fb.tensor([0.5, -0.25], requires_grad=True)
        x = a * 2
        if look:
            x.tolist()
        (g,) = fb.autograd.grad((x * 3 * x.detach()).sum(), [a], create_graph=True)
        found.append(g.requires_grad)
    assert found == [False, False]


@pytest.mark.parametrize("look", [False, True])
@pytest.mark.parametrize("leaf", [False, True])
def test_a_write_through_an_alias_without_history_gives_it_none(look, leaf):
    """PyTorch has a history for every alias; here those that were cut from it stay so, and so does what they are cut from. A copy
    takes one."""
    w, x = fb.tensor([1.0, 2.0], requires_grad=leaf), fb.tensor([3.0, 4.0], requires_grad=True)
    alias, data, copy = w.detach(), w.data, w.detach().clone()
    for written in (alias, data, copy):
        if look:
            written.tolist()
        written[0] = x.sum()
    assert w.tolist() == alias.tolist() == data.tolist() == copy.tolist() == [7.0, 2.0]
    assert (w.is_leaf, w.requires_grad, alias.requires_grad, data.requires_grad) == (True, leaf, False, False)
    (gradient,) = fb.autograd.grad(copy.sum(), [x])
    assert gradient.tolist() == [1.0, 1.0]
    if leaf:
        (gradient,) = fb.autograd.grad((w * 2.0).sum(), [w])
        assert gradient.tolist() == [2.0, 2.0]
