"""Windows of signals, ramps, orders of elements, and random numbers of further distributions."""

import flambeau as fb
import numpy as np
import pytest

WINDOWS = ("bartlett", "blackman", "hamming", "hann", "kaiser")


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("length", [2, 7, 8])
def test_windows_are_those_of_numpy_and_pytorch(name, length):
    call = getattr(fb, f"{name}_window")
    found = call(length, False, dtype=fb.float64).numpy()
    reference = {"hann": "hanning"}.get(name, name)
    wanted = np.kaiser(length, 12.0) if name == "kaiser" else getattr(np, reference)(length)
    np.testing.assert_allclose(found, wanted, atol=1e-15, rtol=1e-13)
    longer = call(length + 1, False, dtype=fb.float64)
    assert call(length, dtype=fb.float64).tolist() == longer[:-1].tolist()
    torch = pytest.importorskip("torch")
    wanted = getattr(torch, f"{name}_window")(length, dtype=torch.float64).numpy()
    np.testing.assert_allclose(call(length, dtype=fb.float64).numpy(), wanted, atol=1e-15, rtol=1e-12)


@pytest.mark.accept("CRE-14")
def test_ramps():
    np.testing.assert_allclose(fb.logspace(-1, 2, 7).numpy(), np.logspace(-1, 2, 7, dtype=np.float32), rtol=1e-6)
    assert fb.logspace(0, 4, 5, base=2, dtype=fb.int64).tolist() == [1, 2, 4, 8, 16]
    assert fb.range(1, 4).tolist() == [1, 2, 3, 4] and fb.range(0, 1, 0.25).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert fb.range(4, 1, -2).tolist() == [4, 2]


def test_orders_of_elements():
    x = fb.empty_permuted((2, 3, 4), (2, 0, 1))
    assert x.shape == (2, 3, 4) and x.stride() == (3, 1, 6)
    assert fb.empty_strided((2, 3), (1, 2)).stride() == (1, 2)
    assert fb.ones(1, dtype=fb.int64).new_empty_strided((2, 3), (3, 1)).dtype is fb.int64
    assert fb.empty_strided((2, 3), (5, 1)).stride() == (5, 1)


N = 20000
MOMENTS = {
    "exponential_": (lambda x: x.exponential_(2.0), 0.5, 0.5),
    "geometric_": (lambda x: x.geometric_(0.25), 4.0, 12**0.5),
    "log_normal_": (lambda x: x.log_normal_(0.0, 0.25), 1.0317, 0.2620),
    "random_": (lambda x: x.random_(2, 7), 4.0, 2**0.5),
    "normal": (lambda x: fb.normal(x * 0 + 1, x * 0 + 3), 1.0, 3.0),
    "normal of numbers": (lambda x: fb.normal(-1.0, 2.0, (N,), dtype=fb.float64), -1.0, 2.0),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_moments(name):
    draw, mean, std = MOMENTS[name]
    fb.manual_seed(5)
    x = draw(fb.zeros(N, dtype=fb.float64)).numpy()
    assert abs(x.mean() - mean) < 5 * std / N**0.5 and abs(x.std() / std - 1) < 0.06
    fb.manual_seed(5)
    assert draw(fb.zeros(N, dtype=fb.float64)).numpy().tobytes() == x.tobytes()


def test_cauchy_by_its_quartiles():
    x = fb.zeros(N, dtype=fb.float64).cauchy_(1.0, 2.0).numpy()
    assert np.abs(np.quantile(x, [0.25, 0.5, 0.75]) - [-1, 1, 3]).max() < 0.15


def test_random_integers_of_every_dtype():
    assert set(fb.zeros(200, dtype=fb.bool).random_().tolist()) == {False, True}
    assert fb.zeros(2000, dtype=fb.uint8).random_().max().item() > 240
    x = fb.zeros(2000, dtype=fb.int64).random_()
    assert x.min().item() >= 0 and x.max().item() > 2**62 and (x % 2).sum().item() > 900
    assert set(fb.zeros(100).random_(3).tolist()) == {0.0, 1.0, 2.0}
    with pytest.raises(RuntimeError, match=r"\[random_\] there is no integer from 3 to 3 - 1"):
        fb.zeros(1).random_(3, 3)


@pytest.mark.accept("CRE-18")
@pytest.mark.parametrize("replacement", [True, False])
def test_positions_are_drawn_in_proportion(replacement):
    weights = fb.tensor([1.0, 0.0, 3.0, 4.0]).expand(N // 4, 4)
    first = fb.multinomial(weights, 2, replacement).numpy()
    share = np.bincount(first[:, 0], minlength=4) / len(first)
    assert np.abs(share - np.array([1, 0, 3, 4]) / 8).max() < 0.03 and share[1] == 0
    assert replacement or (first[:, 0] != first[:, 1]).all()
    if not replacement:  # the second one is drawn among those that are left
        after = np.bincount(first[first[:, 0] == 3, 1], minlength=4)
        assert abs(after[2] / after.sum() - 0.75) < 0.04


@pytest.mark.accept("CRE-18")
def test_weights_that_are_none():
    for weights, replacement in (
        ([0.0, 0.0], True),
        ([1.0, -1.0], True),
        ([1.0, float("nan")], False),
        ([0.0, 1.0], False),
    ):
        with pytest.raises(RuntimeError, match=r"\[multinomial\]"):
            fb.multinomial(fb.tensor(weights), 2, replacement).tolist()
    with pytest.raises(RuntimeError, match=r"3 positions of 2 cannot be drawn without replacement"):
        fb.multinomial(fb.ones(2), 3)
    assert fb.ones(5).multinomial(5).sort().values.tolist() == [0, 1, 2, 3, 4] if hasattr(fb.Tensor, "sort") else True


_F, _INIT = fb.nn.functional, fb.nn.init
_REFUSED = {
    "randint": lambda: fb.randint(0, 3, (2,), requires_grad=True),
    "randperm": lambda: fb.randperm(3, requires_grad=True),
    "normal of no number": lambda: fb.normal("1", 1.0, (2,)),
    "normal of no deviation": lambda: fb.normal(None, 1.0, (2,)),
    "normal of integers": lambda: fb.normal(0.0, 1.0, (2,), dtype=fb.int64),
    "bernoulli": lambda: fb.bernoulli(fb.ones(2, dtype=fb.int64)),
    "multinomial": lambda: fb.multinomial(fb.ones(2), 3),
    "dropout": lambda: _F.dropout(fb.ones(2), 2.0),
    "dropout in place": lambda: _F.dropout(fb.ones(2, requires_grad=True), 0.5, inplace=True),
    "uniform_": lambda: fb.ones(1).expand(3).uniform_(),
    "attention": lambda: _F.scaled_dot_product_attention(*(fb.ones(2, 3, n) for n in (4, 5, 4)), dropout_p=0.5),
    "windows": lambda: _F.fractional_max_pool2d(fb.ones(2, 3, 4), 3, 9),
    "windows of integers": lambda: _F.fractional_max_pool2d(fb.ones(2, 5, 5, dtype=fb.int64), 2, 2),
    "windows of volumes": lambda: _F.fractional_max_pool3d(fb.ones(2, 3, 4, 4), 3, 9),
    "windows of a layer": lambda: fb.nn.FractionalMaxPool2d(3, output_size=9)(fb.ones(1, 4, 4)),
    "svd_lowrank": lambda: fb.svd_lowrank(fb.ones(3, 3, dtype=fb.bfloat16), 2),
    "pca_lowrank": lambda: fb.pca_lowrank(fb.ones(3, 3, dtype=fb.float16), 2),
    "sparse_": lambda: _INIT.sparse_(fb.ones(3), 0.1),
    "orthogonal_": lambda: _INIT.orthogonal_(fb.ones(3)),
}


@pytest.mark.parametrize("name", list(_REFUSED))
def test_nothing_is_drawn_for_what_is_refused(name):
    fb.manual_seed(3)
    before = fb.get_rng_state().tolist()
    with pytest.raises((RuntimeError, TypeError, ValueError), match=r"^\["):
        _REFUSED[name]()
    assert fb.get_rng_state().tolist() == before
