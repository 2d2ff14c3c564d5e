"""Panels of weights are packed once: from run to run while the weights stay the same, and before a loop whose turns all read them.

In: products with the panels that are kept and without, weights that change, loops whose body is a product. Out: the same bits, and
memory that is counted. `test_kept_results.py` says how long what is kept lasts.
"""

import contraction_order
import flambeau as fb
import flambeau.nn.functional as F
import numpy as np
import pytest
from flambeau.programs import compiler_options
from support import arrays
from test_kept_results import RUNS, kept_after

#: Rows, columns and length of products: borders in all directions, several blocks of k, whole panels.
SIZES = [(5, 100, 70), (20, 64, 300), (197, 48, 33), (9, 700, 520)]


@pytest.fixture(autouse=True)
def blocking():
    with compiler_options(mode="blocking"):
        yield


def weights(n, k, turned):
    return fb.tensor(arrays(n, k, seed=1) if turned else arrays(k, n, seed=1))


def product(w, turned):
    def run(x):
        with fb.no_grad():
            return F.linear(x, w) if turned else x @ w

    return run


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("m, n, k", SIZES)
def test_products_of_kept_panels_have_the_bits_of_the_order(m, n, k, turned):
    x, w = fb.tensor(arrays(m, k)), weights(n, k, turned)
    run = product(w, turned)
    b = np.array(w.tolist(), np.float32)
    wanted = contraction_order.matmul(arrays(m, k), b.T.copy() if turned else b)
    got = [np.array(run(x).numpy()) for _ in range(RUNS)]
    assert all(y.tobytes() == wanted.tobytes() for y in got)


def test_panels_are_kept_while_weights_stay_and_packed_again_when_they_change():
    x, w = fb.tensor(arrays(20, 300)), weights(64, 300, turned=True)
    run = product(w, turned=True)
    run(x).numpy()
    assert kept_after(run, x) >= 64 * 300 * 4
    assert kept_after(run, x) == 0
    for k in range(3):
        w[k].add_(1.0)
        for _ in range(RUNS):
            fresh = F.linear(x, fb.tensor(np.array(w.tolist(), np.float32)))
            assert run(x).numpy().tobytes() == fresh.numpy().tobytes()


def test_products_that_share_weights_share_panels():
    x, w = fb.tensor(arrays(20, 64)), weights(64, 64, turned=False)

    def run(x):
        with fb.no_grad():
            return ((x @ w).tanh() @ w).tanh() @ w

    run(x).numpy()
    assert 64 * 64 * 4 <= kept_after(run, x) < 2 * 64 * 64 * 4


def test_panels_that_save_little_are_not_kept():
    x, w = fb.tensor(arrays(3000, 64)), weights(64, 64, turned=True)
    run = product(w, turned=True)
    run(x).numpy()
    assert kept_after(run, x) == 0


def test_training_keeps_no_panels():
    x, layer = fb.tensor(arrays(20, 64)), fb.nn.Linear(64, 64)
    opt = fb.optim.SGD(layer.parameters(), lr=0.01)

    def step(x):
        with fb.enable_grad():
            opt.zero_grad()
            loss = layer(x).square().mean()
            loss.backward()
        opt.step()
        return loss.detach()

    for _ in range(RUNS):
        step(x).numpy()
    assert kept_after(step, x) == 0


@pytest.mark.parametrize("steps", [1, 7])
def test_loops_read_panels_that_are_packed_before_with_the_same_bits(steps):
    xs, h0 = fb.tensor(arrays(steps, 9, 70)), fb.tensor(arrays(9, 70, seed=2))
    v = fb.tensor(arrays(70, 70, seed=4))

    def body(w):
        return lambda h, x: ((F.linear(h, w) @ v * 0.05 + x).tanh(),) * 2

    def looped(w):
        return fb.scan(body(w), h0, xs)[1]

    def unrolled(w):
        h, ys = h0, []
        for x in xs:
            h, _ = body(w)(h, x)
            ys.append(h)
        return fb.stack(ys)

    found = []
    for function in (looped, unrolled):
        w = weights(70, 70, turned=True).requires_grad_()
        for _ in range(RUNS):
            w.grad = None
            y = function(w)
            y.sum().backward()
            found.append((np.array(y.detach().numpy()).tobytes(), np.array(w.grad.numpy())))
    assert len({y for y, _ in found}) == 1
    for _, gradient in found:
        np.testing.assert_allclose(gradient, found[0][1], rtol=1e-4, atol=1e-5)


def test_weights_that_a_loop_changes_are_packed_in_every_turn():
    xs = fb.tensor(arrays(4, 9, 70))
    w0 = arrays(70, 70, seed=3)

    def turn(w, x):
        y = x @ w
        return w * 0.5, y

    given = fb.scan(turn, fb.tensor(w0), xs)[1].numpy()
    for k in range(4):
        wanted = contraction_order.matmul(arrays(4, 9, 70)[k], w0 * np.float32(0.5**k))
        assert given[k].tobytes() == wanted.tobytes()
