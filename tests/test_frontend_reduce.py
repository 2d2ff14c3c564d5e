"""Reductions against NumPy and PyTorch: values, shapes, dtypes, gradients, errors."""

import math

import flambeau as fb
import numpy as np
import pytest
from support import against_numpy, against_torch, arrays, gradients_against_torch

X = arrays(4, 5, 3)
DIMS = [None, 0, 1, -1, (0, 2), (1,), (0, 1, 2), (-1, 0)]


@pytest.mark.accept("RED-01", "RED-02", "RED-03", "RED-04")
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("name", ["sum", "mean"])
def test_sum_and_mean(name, dim, keepdim):
    wanted = getattr(np, name)(X.astype(np.float64), axis=dim, keepdims=keepdim)
    for result in (
        getattr(fb, name)(fb.tensor(X), dim, keepdim),
        getattr(fb.tensor(X), name)(dim=dim, keepdim=keepdim),
    ):
        assert result.shape == wanted.shape
        np.testing.assert_allclose(result.numpy(), wanted, rtol=1e-5, atol=1e-6)
    gradients_against_torch(lambda m, x: getattr(m, name)(x, dim, keepdim), X)


@pytest.mark.accept("RED-01", "RED-03")
def test_sum_and_mean_of_everything_without_arguments():
    gradients_against_torch(lambda m, x: x.sum(), X)
    gradients_against_torch(lambda m, x: m.mean(x), X)


@pytest.mark.accept("RED-01", "RED-15")
@pytest.mark.parametrize("dtype", [np.bool_, np.int32, np.int64, np.float64])
def test_dtypes_of_sum_and_prod(dtype):
    data = np.array([[1, 0, 3], [1, 2, 1]]).astype(dtype)
    for op in (
        lambda m, x: x.sum(), lambda m, x: x.sum(0), lambda m, x: x.prod(), lambda m, x: x.prod(1), lambda m, x: x.any(),
        lambda m, x: x.sum(1, dtype=m.float64), lambda m, x: x.all(), lambda m, x: m.count_nonzero(x), lambda m, x: x.amax(0),
        lambda m, x: x.max(), lambda m, x: x.min(), lambda m, x: m.count_nonzero(x, 0),
    ):  # fmt: skip
        against_torch(op, data)


@pytest.mark.accept("RED-05")
@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_prod_and_its_gradient_beside_zeros(zeros):
    data = np.abs(X[0]) + 0.5
    data.reshape(-1)[[0, 4][:zeros]] = 0
    gradients_against_torch(lambda m, x: m.prod(x), data)
    gradients_against_torch(lambda m, x: x.prod(1, keepdim=True), data)


@pytest.mark.accept("RED-06")
def test_full_max_and_min():
    for op in (lambda m, x: x.max(), lambda m, x: m.min(x)):
        gradients_against_torch(op, X)
        gradients_against_torch(op, np.array([1.0, 2.0, 2.0, 1.0], np.float32))
        assert np.isnan(op(fb, fb.tensor([1.0, float("nan"), 2.0])).item())
    with pytest.raises(RuntimeError, match=r"\[max\] the tensor of shape \(0,\) has no elements"):
        fb.zeros(0).max()


@pytest.mark.accept("RED-07", "RED-08")
@pytest.mark.parametrize("name", ["max", "min"])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_extreme_along_a_dim_gives_values_and_indices(name, dim):
    data = X.copy()
    data[1, 2] = np.nan
    data[0] = 1.0
    for keepdim in (False, True):
        against_torch(lambda m, x, k=keepdim: getattr(m, name)(x, dim, k).values, data)
        against_torch(lambda m, x, k=keepdim: getattr(x, name)(dim, keepdim=k)[1], data)
    gradients_against_torch(lambda m, x: getattr(m, name)(x, dim)[0], data[2:])
    values, indices = getattr(fb.tensor([True, False]), name)(0)
    assert values.item() is (name == "max") and indices.item() == (0 if name == "max" else 1)


@pytest.mark.parametrize("name", ["amax", "amin"])
@pytest.mark.parametrize("dim", [(), 0, (0, 2)])
def test_amax_shares_gradient_among_ties(name, dim):
    gradients_against_torch(lambda m, x: getattr(m, name)(x, dim), np.round(X))


@pytest.mark.accept("RED-09")
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_argmax_is_the_first(name):
    data = np.round(X)
    for dim, keepdim in ((None, False), (0, False), (-1, True)):
        against_numpy(getattr(fb.tensor(data), name)(dim, keepdim), getattr(np, name)(data, axis=dim, keepdims=keepdim))
    against_torch(lambda m, x: getattr(m, name)(x), np.array([1.0, np.nan, 5.0, np.nan], np.float32))
    against_torch(lambda m, x: getattr(m, name)(x, 0), np.array([3, 1, 3, 1]))


def test_any_and_all_over_dims():
    data = X > 0.5
    for dim in DIMS:
        against_numpy(fb.any(fb.tensor(data), dim), data.any(axis=dim))
        against_numpy(fb.all(fb.tensor(~data), dim, keepdim=True), (~data).all(axis=dim, keepdims=True))


@pytest.mark.parametrize("dim", [None, 1, (0, 2)])
@pytest.mark.parametrize("name", ["var", "std"])
def test_moments(name, dim):
    for correction in (0, 1):
        gradients_against_torch(
            lambda m, x, c=correction: getattr(m, name)(x, dim, correction=c, keepdim=True), X, rtol=1e-5
        )


FAR_SHAPES = [
    ((64, 5), 0),
    ((5, 64), 1),
    ((700, 9), 0),
    ((3, 5000), 1),
    ((4, 130, 6), (0, 2)),
    ((5, 66, 7), 1),
    ((41, 37), None),
]


@pytest.mark.parametrize(("shape", "dim"), FAR_SHAPES)
@pytest.mark.parametrize(("dtype", "offset"), [(np.float32, 1e3), (np.float32, 1e6), (np.float64, 1e14)])
def test_moments_of_a_mean_that_is_far_larger_than_the_distances(shape, dim, dtype, offset):
    """As exact along every dim as if there were no mean; and so are the gradients, of which the second ones are constant."""
    data = (arrays(*shape, dtype=np.float64) * 2 + offset).astype(dtype)
    exact, eps = (
        data.astype(np.longdouble) - data.ravel()[0],
        float(np.finfo(dtype).eps),
    )  # a difference without rounding
    wanted = exact.var(axis=dim, ddof=1)
    x = fb.tensor(data, requires_grad=True)
    np.testing.assert_allclose(x.var(dim).detach().numpy(), wanted.astype(np.float64), rtol=8 * eps)
    np.testing.assert_allclose(x.std(dim).detach().numpy(), np.sqrt(wanted).astype(np.float64), rtol=8 * eps)
    count = data.size // wanted.size
    (gradient,) = fb.autograd.grad(x.var(dim).sum(), [x], create_graph=True)
    slope = 2 * (exact - exact.mean(axis=dim, keepdims=True)) / (count - 1)
    np.testing.assert_allclose(gradient.detach().numpy(), slope.astype(np.float64), rtol=0, atol=32 * eps / (count - 1))
    cotangent = arrays(*shape, seed=1, dtype=dtype)
    (second,) = fb.autograd.grad(gradient, [x], fb.tensor(cotangent))
    curved = 2 * (cotangent - cotangent.mean(axis=dim, keepdims=True, dtype=np.float64)) / (count - 1)
    np.testing.assert_allclose(second.numpy(), curved, rtol=0, atol=32 * eps / (count - 1))


@pytest.mark.parametrize(("shape", "dim"), FAR_SHAPES)
def test_equal_numbers_have_no_variance(shape, dim):
    for number in (0.1, 1e6 + 0.3, -1e-30, 16777215.0):
        for dtype in (np.float32, np.float64):
            assert not fb.tensor(np.full(shape, number, dtype)).var(dim).numpy().any(), number


def test_variances_are_not_negative():
    """With more elements than integers fit a mantissa, the correction leaves a rounding error below 0 here."""
    x = fb.tensor(np.full(17_000_001, 3.3, np.float32))
    assert x.var().item() == 0 and x.std().item() == 0


@pytest.mark.accept("RED-11", "RED-12")
def test_logsumexp_and_norm():
    gradients_against_torch(lambda m, x: m.logsumexp(x, (0, 2)), X, rtol=1e-5)
    assert fb.logsumexp(fb.tensor([1000.0, 1000.0]), 0).item() == pytest.approx(1000 + np.log(2))
    assert fb.logsumexp(fb.tensor([-np.inf, -np.inf]), 0).item() == -np.inf
    for p in (2.0, 1.0, np.inf, 3.0, 0):
        against_torch(lambda m, x, p=p: m.norm(x, p), X, ulp=16)
    gradients_against_torch(lambda m, x: m.norm(x), X)
    x = fb.zeros(3, requires_grad=True)
    x.norm().backward()
    assert x.grad.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "any", "all"])
def test_of_nothing(name):
    against_torch(lambda m, x: getattr(m, name)(x), np.zeros((0, 3), np.float32))
    against_torch(lambda m, x: getattr(m, name)(x, 0), np.zeros((0, 3), np.float32))
    against_torch(lambda m, x: getattr(m, name)(x, 1), np.zeros((0, 3), np.float32))


def test_of_0d():
    for name in ("sum", "mean", "max", "argmax", "prod", "amax"):
        against_torch(lambda m, x, n=name: getattr(m, n)(x), np.float32(3.5))
    for name in ("sum", "mean", "argmax", "amax"):
        against_torch(lambda m, x, n=name: getattr(m, n)(x, 0), np.float32(3.5))
    against_torch(lambda m, x: m.max(x, -1).indices, np.float32(3.5))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: fb.ones(2, 3).sum(2),
            IndexError,
            r"\[sum\] dim 2 is out of range for a tensor of 2 dimensions. Use -2 to 1",
        ),
        (lambda: fb.ones(2, 3).sum((0, 0)), RuntimeError, r"\[sum\] dims \(0, 0\) name a dimension twice"),
        (lambda: fb.ones(2, 3).sum(1.5), TypeError, r"\[sum\] dim is 1.5, a float"),
        (lambda: fb.tensor([1, 2]).mean(), RuntimeError, r"\[mean\] input has dtype flambeau.int64"),
        (lambda: fb.ones(0, 3).amax(0), IndexError, r"\[amax\] dimension 0 of shape \(0, 3\) is empty"),
        (lambda: fb.ones(0, 3).max(0), IndexError, r"\[argmax\] dimension 0 of shape \(0, 3\) is empty"),
        (lambda: fb.ones(0).argmax(), IndexError, r"\[argmax\] dimension 0 of shape \(0,\) is empty"),
    ],
)
def test_bad_reductions(call, error, text):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("function", [fb.var, fb.std])
def test_gradient_of_a_variance_without_degrees_of_freedom_requires_grad(function):
    """It is NaN by the formula, whose derivatives are NaN again; PyTorch's of `var` has no history."""
    x = fb.tensor([2.0], requires_grad=True)
    (g,) = fb.autograd.grad(function(x), [x], create_graph=True)
    assert g.requires_grad and math.isnan(g.item())
    (second,) = fb.autograd.grad(g.sum(), [x])
    assert math.isnan(second.item())


@pytest.mark.parametrize("name", ["relu", "relu6", "leaky_relu", "hardtanh", "hardsigmoid"])
def test_gradients_that_choose_have_history_through_their_cotangent_only(name):
    """PyTorch's have one to the operand as well, which gives zeros."""
    function = getattr(fb.nn.functional, name)
    x, ct = fb.tensor([-4.0, 0.5], requires_grad=True), fb.ones(2, requires_grad=True)
    (plain,) = fb.autograd.grad(function(x).sum(), [x], create_graph=True)
    assert not plain.requires_grad
    (g,) = fb.autograd.grad(function(x), [x], ct, create_graph=True)
    second = fb.autograd.grad(g.sum(), [x, ct], allow_unused=True)
    assert second[0] is None and second[1].tolist() == plain.tolist()
