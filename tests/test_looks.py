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
