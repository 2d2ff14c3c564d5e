"""Maps read where a grid says, and grids of affine maps: against PyTorch, and against sums written out in NumPy."""

from itertools import product

import flambeau as fb
import flambeau.nn.functional as F
import numpy as np
import pytest

RNG = np.random.default_rng(6)
PLANES = [
    ((2, 3, 4, 5), (2, 3, 6, 2), m, p, a)
    for m in ("bilinear", "nearest", "bicubic")
    for p in ("zeros", "border", "reflection")
    for a in (False, True)
]
SPACES = [((1, 2, 3, 4, 2), (1, 2, 3, 2, 3), *options[2:]) for options in PLANES if options[2] != "bicubic"]


@pytest.mark.accept("NN-50")
def test_values_and_gradients_are_those_of_torch():
    torch = pytest.importorskip("torch")
    for shape, of_grid, *options in PLANES + SPACES:
        arrays = RNG.standard_normal(shape), RNG.uniform(-2.5, 2.5, of_grid)
        ours = [fb.tensor(a, requires_grad=True) for a in arrays]
        theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
        found, wanted = F.grid_sample(*ours, *options), torch.nn.functional.grid_sample(*theirs, *options)
        np.testing.assert_allclose(found.tolist(), wanted.tolist(), rtol=1e-11, atol=1e-12, err_msg=str(options))
        weights = np.cos(np.arange(wanted.numel())).reshape(wanted.shape)
        (found * fb.tensor(weights)).sum().backward()
        (wanted * torch.tensor(weights)).sum().backward()
        for x, y in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(x.grad.tolist(), y.grad.tolist(), rtol=1e-10, atol=1e-10, err_msg=str(options))


@pytest.mark.accept("NN-50")
@pytest.mark.parametrize("aligned", [False, True])
def test_a_plane_by_hand(aligned):
    x, grid = RNG.standard_normal((3, 4)), RNG.uniform(-1.4, 1.4, (7, 2))
    place = lambda g, n: (g + 1) / 2 * (n - 1) if aligned else ((g + 1) * n - 1) / 2  # noqa: E731
    places = [(place(b, 3), place(a, 4)) for a, b in grid]

    def at(i, j):
        return x[i, j] if 0 <= i < 3 and 0 <= j < 4 else 0.0

    def linear(y, z):
        i, j = int(np.floor(y)), int(np.floor(z))
        corners = product((0, 1), (0, 1))
        return sum(abs(1 - a - (y - i)) * abs(1 - b - (z - j)) * at(i + a, j + b) for a, b in corners)

    def sampled(mode, margins="zeros"):
        return (
            F.grid_sample(fb.tensor(x[None, None]), fb.tensor(grid[None, None]), mode, margins, aligned).numpy().ravel()
        )

    np.testing.assert_allclose(sampled("bilinear"), [linear(*p) for p in places], rtol=1e-12, atol=1e-14)
    assert sampled("nearest").tolist() == [at(round(y), round(z)) for y, z in places]
    edge = [linear(np.clip(y, 0, 2), np.clip(z, 0, 3)) for y, z in places]
    np.testing.assert_allclose(sampled("bilinear", "border"), edge, rtol=1e-12, atol=1e-14)


@pytest.mark.accept("NN-50")
def test_the_grid_of_no_change_gives_the_map():
    x = fb.tensor(RNG.standard_normal((2, 3, 4, 5)))
    same = fb.tensor([[[1.0, 0, 0], [0, 1, 0]]] * 2).double()
    for aligned in (False, True):
        grid = F.affine_grid(same, (2, 3, 4, 5), aligned)
        for mode in ("bilinear", "bicubic", "nearest"):
            np.testing.assert_allclose(F.grid_sample(x, grid, mode, "zeros", aligned).numpy(), x.numpy(), atol=1e-12)
    assert F.affine_grid(same, (2, 1, 1, 2), True).tolist() == [[[[-1.0, 0.0], [1.0, 0.0]]]] * 2
    assert F.affine_grid(same, (2, 1, 1, 2), False).tolist() == [[[[-0.5, 0.0], [0.5, 0.0]]]] * 2


def test_affine_grids_are_those_of_torch():
    torch = pytest.importorskip("torch")
    for size, aligned in product([(2, 1, 3, 4), (2, 3, 2, 3, 4), (2, 1, 1, 5)], (False, True)):
        n = len(size) - 2
        theta = RNG.standard_normal((2, n, n + 1))
        x, y = fb.tensor(theta, requires_grad=True), torch.tensor(theta, requires_grad=True)
        found = F.affine_grid(x, size, aligned)
        wanted = torch.nn.functional.affine_grid(y, list(size), align_corners=aligned)
        np.testing.assert_allclose(found.tolist(), wanted.tolist(), rtol=1e-12, atol=1e-13)
        (found**2).sum().backward()
        (wanted**2).sum().backward()
        np.testing.assert_allclose(x.grad.tolist(), y.grad.tolist(), rtol=1e-11, atol=1e-12)


def test_edges():
    x = fb.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    grid = fb.tensor([[[[float("nan"), -1.0], [-1.0, -1.0]]]])
    assert F.grid_sample(x, grid, align_corners=True).tolist() == [[[[1.0, 1.0]]]]
    assert F.grid_sample(x.half(), grid.half(), align_corners=True).dtype is fb.float16
    with pytest.warns(UserWarning, match="align_corners is left out"):
        F.grid_sample(x, grid)
    with pytest.warns(UserWarning, match="align_corners is left out"):
        F.affine_grid(fb.zeros(1, 2, 3), (1, 1, 2, 2))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: F.grid_sample(x, fb.zeros(1, 2, 2, 2), "linear"), ValueError, "mode is 'linear'"),
        (lambda x: F.grid_sample(x, fb.zeros(1, 2, 2, 2), "nearest", "wrap"), ValueError, "padding_mode is 'wrap'"),
        (lambda x: F.grid_sample(x, fb.zeros(2, 2, 2, 2), "nearest", "zeros", True), RuntimeError, "grid (2, 2, 2, 2)"),
        (lambda x: F.grid_sample(x, fb.zeros(1, 2, 2, 2).double(), "nearest", "zeros", True), RuntimeError, "float64"),
        (lambda x: F.grid_sample(x[:, :0], fb.zeros(1, 2, 2, 2), "nearest", "zeros", True), RuntimeError, "is empty"),
        (lambda x: F.affine_grid(fb.zeros(1, 2, 3), (1, 1, 0, 2), True), ValueError, "has a number below 1"),
        (lambda x: F.affine_grid(fb.zeros(1, 2, 3).int(), (1, 1, 2, 2), True), ValueError, "theta has dtype"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, text):
    with pytest.raises(error) as caught:
        call(fb.zeros(1, 1, 3, 3))
    assert text in str(caught.value)
