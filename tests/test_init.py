"""Initial values: truncated, orthogonal, sparse and Dirac kernels, and the old names."""

import math

import flambeau as fb
import flambeau.nn as nn
import numpy as np
import pytest

init = nn.init


@pytest.mark.accept("INI-03")
@pytest.mark.parametrize(
    "mean,std,a,b", [(0, 1, -2, 2), (1, 2, 0, 0.5), (0, 1, 3, 9), (0, 0.02, -2, 2), (0, 1, -9, -4)]
)
def test_truncated_normal_numbers_follow_the_density_between_the_bounds(mean, std, a, b):
    x = fb.empty(40, 500, dtype=fb.float64)
    assert init.trunc_normal_(x, mean, std, a, b, generator=fb.Generator().manual_seed(3)) is x
    found = np.sort(x.numpy().ravel())
    assert a <= found[0] and found[-1] <= b
    grid = np.linspace(max(a, mean - 9 * std), min(b, mean + 9 * std), 200001)
    density = np.exp(-(((grid - mean) / std) ** 2) / 2)
    below = np.cumsum(density) / density.sum()
    wanted = np.interp(found, grid, below)
    assert np.abs(wanted - (np.arange(found.size) + 0.5) / found.size).max() < 1.63 / math.sqrt(
        found.size
    )  # Kolmogorov, 1 %


def test_truncated_normal_numbers_of_narrow_dtypes_and_far_bounds():
    x = init.trunc_normal_(fb.empty(1000, dtype=fb.bfloat16))
    assert x.dtype is fb.bfloat16 and -2 <= x.min().item() < -1.5 and 1.5 < x.max().item() <= 2
    with pytest.warns(UserWarning, match=r"\[trunc_normal_\] mean 0.0 is more than 2 deviations from"):
        assert init.trunc_normal_(fb.empty(9), a=4.0, b=5.0).min().item() >= 4


@pytest.mark.accept("INI-03")
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 2, 3, 1), (3, 3)])
def test_orthogonal(shape):
    x = fb.empty(*shape, requires_grad=True)
    assert init.orthogonal_(x, gain=2) is x and x.requires_grad
    flat = x.detach().numpy().reshape(shape[0], -1)
    product = flat @ flat.T if flat.shape[0] <= flat.shape[1] else flat.T @ flat
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=2e-6)
    again = [init.orthogonal_(fb.empty(*shape), generator=fb.Generator().manual_seed(5)).tolist() for _ in range(2)]
    assert again[0] == again[1]
    assert init.orthogonal_(fb.empty(0, 3)).shape == (0, 3)
    with pytest.raises(ValueError, match=r"\[orthogonal_\] the tensor has 1 dim"):
        init.orthogonal_(fb.empty(3))


@pytest.mark.parametrize("shape,groups", [((3, 2, 3), 1), ((2, 4, 3, 5), 1), ((6, 2, 3, 3, 3), 2), ((6, 4, 2), 3)])
def test_dirac_kernels_give_back_their_input(shape, groups):
    x = init.dirac_(fb.full(shape, 7.0), groups)
    found = x.numpy()
    wanted = np.zeros(shape)
    for group in range(groups):
        for channel in range(min(shape[0] // groups, shape[1])):
            wanted[(group * (shape[0] // groups) + channel, channel, *(n // 2 for n in shape[2:]))] = 1
    np.testing.assert_array_equal(found, wanted)
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(found, torch.nn.init.dirac_(torch.empty(shape), groups).numpy())


def test_dirac_refuses_what_is_no_kernel():
    with pytest.raises(ValueError, match=r"\[dirac_\] the tensor has 2 dimensions"):
        init.dirac_(fb.empty(2, 2))
    with pytest.raises(ValueError, match=r"\[dirac_\] 3 output channels are no multiple of 2 groups"):
        init.dirac_(fb.empty(3, 2, 2), 2)


def test_sparse_columns_have_their_zeros():
    x = init.sparse_(fb.empty(30, 7), 0.31, std=2.0)
    found = x.numpy()
    assert ((found == 0).sum(0) == math.ceil(0.31 * 30)).all() and 1 < found[found != 0].std() < 3
    assert len({tuple(column) for column in (found == 0).T}) > 1
    with pytest.raises(ValueError, match=r"\[sparse_\] the tensor has 1 dim"):
        init.sparse_(fb.empty(3), 0.1)


@pytest.mark.accept("INI-02")
@pytest.mark.parametrize("name", ["uniform", "normal", "constant", "eye", "dirac", "orthogonal", "sparse", "xavier_uniform",
    "xavier_normal", "kaiming_uniform", "kaiming_normal"])  # fmt: skip
def test_old_names_warn_and_do_the_same(name):
    more = {"constant": (3.0,), "sparse": (0.5,)}.get(name, ())
    shape = (4, 4, 3) if name == "dirac" else (4, 4)
    fb.manual_seed(1)
    with pytest.warns(FutureWarning, match=f"nn.init.{name} is now nn.init.{name}_"):
        found = getattr(init, name)(fb.empty(shape), *more)
    fb.manual_seed(1)
    assert found.tolist() == getattr(init, name + "_")(fb.empty(shape), *more).tolist()
