"""Bessel's and Airy's functions and orthogonal polynomials: values beside SciPy and NumPy, edges, gradients, PyTorch."""

import math

import flambeau as fb
import numpy as np
import pytest
import scipy.special
from flambeau.special import bessel_j0, bessel_j1, bessel_y0, bessel_y1, modified_bessel_k0, modified_bessel_k1

pytestmark = pytest.mark.filterwarnings(r"error:\[compile\]:RuntimeWarning")

NAMES = {
    "bessel_j0": "j0", "bessel_j1": "j1", "bessel_y0": "y0", "bessel_y1": "y1", "modified_bessel_i0": "i0",
    "modified_bessel_i1": "i1", "modified_bessel_k0": "k0", "modified_bessel_k1": "k1", "scaled_modified_bessel_k0": "k0e",
    "scaled_modified_bessel_k1": "k1e",
}  # fmt: skip
KINDS = {
    "chebyshev_polynomial_t": np.polynomial.chebyshev.chebval,
    "hermite_polynomial_h": np.polynomial.hermite.hermval,
    "hermite_polynomial_he": np.polynomial.hermite_e.hermeval,
    "laguerre_polynomial_l": np.polynomial.laguerre.lagval,
    "legendre_polynomial_p": np.polynomial.legendre.legval,
}
POSITIVE = np.concatenate([np.linspace(0.05, 30, 90), [1e-6, 100.0]])


@pytest.mark.accept("PW-08")
@pytest.mark.parametrize("name", NAMES)
def test_values_are_those_of_scipy(name):
    wanted = getattr(scipy.special, NAMES[name])(POSITIVE)
    found = getattr(fb.special, name)(fb.tensor(POSITIVE)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=4e-14, atol=2e-15)
    np.testing.assert_allclose(
        fb.special.airy_ai(fb.tensor(POSITIVE - 20)).numpy(), scipy.special.airy(POSITIVE - 20)[0], 1e-12, 1e-14
    )


def test_edges():
    x = fb.tensor([0.0, -0.0, -1.0, math.inf, -math.inf, math.nan], dtype=fb.float64)
    for call, wanted in (
        (bessel_j0, [1, 1, 0.7651976865579666, 0, 0, math.nan]),
        (bessel_j1, [0, 0, -0.4400505857449335, 0, 0, math.nan]),
        (bessel_y0, [-math.inf, -math.inf, math.nan, 0, math.nan, math.nan]),
        (bessel_y1, [-math.inf, -math.inf, math.nan, 0, math.nan, math.nan]),
        (modified_bessel_k0, [math.inf, math.inf, math.nan, 0, math.nan, math.nan]),
        (modified_bessel_k1, [math.inf, math.inf, math.nan, 0, math.nan, math.nan]),
        (fb.special.airy_ai, [0.35502805388781724, 0.35502805388781724, 0.5355608832923521, 0, 0, math.nan]),
        (fb.special.spherical_bessel_j0, [1, 1, math.sin(1.0), 0, 0, math.nan]),
    ):
        np.testing.assert_allclose(call(x).numpy(), wanted, 1e-15, 1e-300)


@pytest.mark.parametrize("name", [n for n in NAMES if "_i" not in n])
def test_gradients_are_slopes(name):
    call, x = getattr(fb.special, name), fb.tensor([0.7, 1.9, 5.0, 11.0], dtype=fb.float64, requires_grad=True)
    (slope,) = fb.autograd.grad(call(x).sum(), x, create_graph=True)
    (second,) = fb.autograd.grad(slope.sum(), x)
    h = 1e-4
    with fb.no_grad():
        near = [call(x + k * h) for k in (-1, 0, 1)]
    np.testing.assert_allclose(slope.detach().numpy(), ((near[2] - near[0]) / (2 * h)).numpy(), 1e-6, 1e-7)
    np.testing.assert_allclose(second.numpy(), ((near[2] - 2 * near[1] + near[0]) / h**2).numpy(), 1e-4, 1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_polynomials_are_those_of_numpy(name):
    x = np.linspace(-2, 2, 9)
    call, degrees = getattr(fb.special, name), np.arange(12)[:, None]
    found = call(fb.tensor(x), fb.tensor(degrees)).numpy()
    for n in range(12):
        np.testing.assert_allclose(found[n], KINDS[name](x, [0] * n + [1]), 1e-12, 1e-13)
    assert call(fb.tensor(x), -1).tolist() == [0.0] * 9
    with pytest.raises(RuntimeError, match=r"has no gradient"):
        call(fb.tensor(x, requires_grad=True), 3).sum().backward()


def test_kinds_of_chebyshev():
    angle = np.linspace(0.1, 3.0, 20)
    x, n = fb.tensor(np.cos(angle)), np.arange(8)[:, None]
    half, s = angle / 2, fb.special
    for call, shifted, wanted in (
        (s.chebyshev_polynomial_t, s.shifted_chebyshev_polynomial_t, np.cos(n * angle)),
        (s.chebyshev_polynomial_u, s.shifted_chebyshev_polynomial_u, np.sin((n + 1) * angle) / np.sin(angle)),
        (s.chebyshev_polynomial_v, s.shifted_chebyshev_polynomial_v, np.cos((n + 0.5) * angle) / np.cos(half)),
        (s.chebyshev_polynomial_w, s.shifted_chebyshev_polynomial_w, np.sin((n + 0.5) * angle) / np.sin(half)),
    ):
        np.testing.assert_allclose(call(x, fb.tensor(n)).numpy(), wanted, 1e-11, 1e-12)
        np.testing.assert_allclose(shifted((x + 1) / 2, fb.tensor(n)).numpy(), wanted, 1e-11, 1e-12)


def test_they_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    x = np.concatenate([np.linspace(-9, 20, 60), [0.0, 1.0, -1.0, 0.5]])
    for name in (*NAMES, "spherical_bessel_j0", "airy_ai"):
        theirs = getattr(torch.special, name)(torch.from_numpy(x)).numpy()
        found = getattr(fb.special, name)(fb.tensor(x)).numpy()
        np.testing.assert_allclose(found, theirs, 1e-4, 1e-5, err_msg=name)  # its J0 and Ai have few digits in places
    degrees = np.arange(-1, 7)[:, None] * np.ones(64)
    for name in [n for n in fb.special.__all__ if "polynomial" in n]:
        theirs = getattr(torch.special, name)(torch.from_numpy(x / 9), torch.from_numpy(degrees)).numpy()
        found = getattr(fb.special, name)(fb.tensor(x / 9), fb.tensor(degrees)).numpy()
        np.testing.assert_allclose(found, theirs, 1e-9, 1e-10, err_msg=name)
