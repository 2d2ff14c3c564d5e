"""Long chains of views: those that come back to where they were stay short, and are views like others."""

import flambeau as fb
import numpy as np
import pytest
from counting import calls

START = np.arange(6, dtype=np.float32).reshape(2, 3)
CHAINS = {
    "unsqueeze and squeeze": lambda y: y.unsqueeze(0).squeeze(0),
    "reshape there and back": lambda y: y.reshape(3, 2).reshape(2, 3),
    "reshape and all of it": lambda y: y.reshape(3, 2)[:].reshape(2, 3),
    "transposed twice": lambda y: y.t().t(),
    "permuted three times": lambda y: (
        y.unsqueeze(0).permute(1, 2, 0).permute(1, 2, 0).permute(1, 2, 0).squeeze(-1).reshape(2, 3)
    ),
}


def chain(name, y, rounds):
    for _ in range(rounds):
        y = CHAINS[name](y)
    return y


@pytest.mark.parametrize("name", CHAINS)
def test_a_long_chain_costs_what_a_short_one_costs_per_view(name):
    x = fb.tensor(START)
    chain(name, x, 40)
    first, second = (calls(lambda n=n: chain(name, x, n)) for n in (40, 80))
    more = calls(lambda: chain(name, x, 160))
    assert more - second <= 2 * (second - first)  # nothing is learnt any more


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("start", ["all", "part", "detached"])
def test_a_long_chain_shows_shares_and_differentiates(name, start):
    base = fb.zeros(4, 2, 3)
    base[1] = fb.tensor(START)
    x = {"all": fb.tensor(START), "part": base[1], "detached": base[1].detach()}[start]
    y = chain(name, x, 30)
    np.testing.assert_array_equal(y.numpy(), START)
    y[1, 2] = 50.0
    assert x[1, 2].item() == 50.0
    x[0, 0] = -1.0
    assert y[0, 0].item() == -1.0
    w = fb.tensor(START).requires_grad_()
    z = chain(name, w * 2, 30)
    (z * fb.tensor(START)).sum().backward()
    np.testing.assert_array_equal(w.grad.numpy(), 2 * START)


def test_a_chain_that_moves_elements_is_followed():
    """Rotations come back only after three of them; windows move on and never do."""
    x = fb.arange(30).reshape(2, 3, 5)
    y, wanted = x, x.numpy()
    for k in range(40):
        y, wanted = y.permute(1, 2, 0), wanted.transpose(1, 2, 0)
        np.testing.assert_array_equal(y.numpy(), wanted, err_msg=str(k))
    y, wanted = fb.arange(60), np.arange(60)
    for _ in range(40):
        y, wanted = y[1:], wanted[1:]
    np.testing.assert_array_equal(y.numpy(), wanted)
