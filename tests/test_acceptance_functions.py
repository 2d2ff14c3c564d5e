"""Functions of the acceptance table by what their rows say, in NumPy or plain formulas: values, gradients, what is refused."""

import math

import flambeau as fb
import flambeau.nn.functional as F
import numpy as np
import pytest
from support import arrays

X = arrays(2, 3, 4, dtype=np.float64)
INF, NAN = math.inf, math.nan


def leaf(array):
    return fb.tensor(array, requires_grad=True)


def weights(shape):
    """A cotangent of which no two elements are equal."""
    return np.cos(np.arange(math.prod(shape)) + 1.0).reshape(shape)


def pull_back(result, *leaves):
    """The gradients of `(weights * result).sum()`."""
    found = fb.autograd.grad((result * fb.tensor(weights(result.shape))).sum(), leaves)
    return [g.numpy() for g in found]


def close(found, wanted, rtol=1e-12, atol=1e-14):
    np.testing.assert_allclose(found, wanted, rtol, atol)


# ---- element by element -------------------------------------------------------------------------------------------

#: Name -> NumPy's function, its derivative, bounds of the points.
ANGLES = {
    "sin": (np.sin, np.cos, -9, 9),
    "cos": (np.cos, lambda x: -np.sin(x), -9, 9),
    "tan": (np.tan, lambda x: 1 + np.tan(x) ** 2, -1.5, 1.5),
    "asin": (np.arcsin, lambda x: 1 / np.sqrt(1 - x * x), -0.99, 0.99),
    "acos": (np.arccos, lambda x: -1 / np.sqrt(1 - x * x), -0.99, 0.99),
    "atan": (np.arctan, lambda x: 1 / (1 + x * x), -50, 50),
    "sinh": (np.sinh, np.cosh, -9, 9),
    "cosh": (np.cosh, np.sinh, -9, 9),
    "asinh": (np.arcsinh, lambda x: 1 / np.sqrt(1 + x * x), -50, 50),
    "acosh": (np.arccosh, lambda x: 1 / np.sqrt(x * x - 1), 1.01, 50),
    "atanh": (np.arctanh, lambda x: 1 / (1 - x * x), -0.99, 0.99),
}


@pytest.mark.accept("PW-09")
def test_angles_and_their_inverses():
    for name, (function, slope, low, high) in ANGLES.items():
        points = np.linspace(low, high, 41)
        x = leaf(points)
        y = getattr(fb, name)(x)
        close(y.detach().numpy(), function(points), 1e-14, 1e-15)
        close(pull_back(y, x)[0], weights((41,)) * slope(points))
    for name in ("asin", "acos", "acosh", "atanh"):
        assert np.isnan(getattr(fb.tensor([-7.0]), name)().item()), name
    a, b = np.meshgrid([-2.0, -0.0, 0.0, 1.0, INF], [-3.0, -0.0, 0.0, 0.5, -INF])
    np.testing.assert_array_max_ulp(fb.atan2(fb.tensor(a), fb.tensor(b)).numpy(), np.arctan2(a, b), 1)
    y, x = leaf(X[0]), leaf(X[1])
    by_y, by_x = pull_back(fb.atan2(y, x), y, x)
    squares = X[0] ** 2 + X[1] ** 2
    close(by_y, weights((3, 4)) * X[1] / squares)
    close(by_x, -weights((3, 4)) * X[0] / squares)


@pytest.mark.accept("PW-12")
@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float64])
def test_signs_of_remainders(dtype):
    """`fmod` has the sign of what is divided, `remainder` that of the divisor; with numbers as with tensors."""
    x = np.array([7, -7, 7, -7, 6, -6, 0]).astype(dtype)
    y = np.array([3, 3, -3, -3, 3, -3, 5]).astype(dtype)
    assert fb.fmod(fb.tensor(x), fb.tensor(y)).tolist() == np.fmod(x, y).tolist() == [1, -1, 1, -1, 0, 0, 0]
    assert fb.remainder(fb.tensor(x), fb.tensor(y)).tolist() == np.mod(x, y).tolist() == [1, 2, -2, -1, 0, 0, 0]
    assert (fb.tensor(x) % -3).tolist() == np.mod(x, -3).tolist() == [-2, -1, -2, -1, 0, 0, 0]
    assert fb.fmod(fb.tensor(x), -3).tolist() == np.fmod(x, -3).tolist()
    if dtype != np.int64:
        a, b = leaf(x + dtype(0.5)), leaf(y)
        assert [g.tolist() for g in fb.autograd.grad((a % b).sum(), (a, b))] == [
            [1] * 7,
            (-np.floor((x + 0.5) / y)).tolist(),
        ]
        assert np.isnan(fb.fmod(a, 0.0).detach().numpy()).all()


@pytest.mark.accept("PW-13")
def test_lerp_addcmul_addcdiv_by_their_formulas():
    x, y, z = leaf(X[0]), leaf(X[1]), leaf(arrays(4, seed=3, dtype=np.float64) + 4)
    w, rows = weights((3, 4)), z.detach().numpy()
    close(fb.lerp(x, y, 0.25).detach().numpy(), X[0] + 0.25 * (X[1] - X[0]))
    close(fb.lerp(x, y, z).detach().numpy(), X[0] + rows * (X[1] - X[0]), 1e-11)
    close(pull_back(fb.lerp(x, y, z), z)[0], (w * (X[1] - X[0])).sum(0))
    close(fb.addcmul(x, y, z, value=0.5).detach().numpy(), X[0] + 0.5 * X[1] * rows)
    assert [g.shape for g in pull_back(fb.addcmul(x, y, z), x, y, z)] == [(3, 4), (3, 4), (4,)]
    close(pull_back(fb.addcmul(x, y, z, value=2), z)[0], (2 * w * X[1]).sum(0))
    close(fb.addcdiv(x, y, z, value=3).detach().numpy(), X[0] + 3 * X[1] / rows)
    close(pull_back(fb.addcdiv(x, y, z), z)[0], (-w * X[1] / rows**2).sum(0))
    with pytest.raises(RuntimeError, match=r"\[addcdiv\] "):
        fb.addcdiv(fb.tensor([1]), fb.tensor([1]), fb.tensor([1]))


@pytest.mark.accept("PW-15", "T-03")
def test_heaviside_is_a_step():
    x = fb.tensor([-3.0, -0.0, 0.0, 2.0, INF, -INF, NAN])
    found = fb.heaviside(x, fb.tensor(0.5))
    assert found.tolist()[:6] == np.heaviside([-3.0, -0.0, 0.0, 2.0, INF, -INF], 0.5).tolist() == [0, 0.5, 0.5, 1, 1, 0]
    assert x.tolist()[:4] == [-3.0, 0.0, 0.0, 2.0] and found.tolist() != x.tolist()
    assert fb.heaviside(fb.tensor([-1, 0, 1]), fb.tensor([7, 8, 9])).tolist() == [0, 8, 1]
    assert x.clone().heaviside_(fb.zeros(())).tolist()[:4] == [0, 0, 0, 1]


@pytest.mark.accept("PW-22")
def test_whether_all_is_finite_is_one_kernel():
    x = fb.tensor(arrays(60, 40))
    before = fb.explain().reports
    with fb.compiler_options(mode="blocking"):
        assert x.isfinite().all().item() is True
    (program,) = [r for r in fb.explain().reports if r not in before]
    assert program.tier == "fused" and len(program.kernels) == 1
    for wrong in (NAN, INF, -INF):
        y = x.clone()
        y[59, 39] = wrong
        assert y.isfinite().all().item() is False


@pytest.mark.accept("PW-23")
def test_whole_tensors_are_compared():
    x = fb.tensor(X)
    assert fb.equal(x, x.clone()) and not fb.equal(x, x + 1e-12) and not fb.equal(x, x[0])
    for rtol, atol in ((1e-5, 1e-8), (0.0, 1e-3), (1e-2, 0.0)):
        for change in (1e-9, 5e-4, 5e-3):
            y = X * (1 + change)
            assert fb.allclose(fb.tensor(y), x, rtol, atol) is np.allclose(y, X, rtol, atol)
    assert not fb.allclose(fb.tensor([NAN]), fb.tensor([NAN])) and fb.allclose(*[fb.tensor([NAN])] * 2, equal_nan=True)
    with pytest.raises(RuntimeError, match=r"\[allclose\] input is \S+64 and other \S+32"):
        fb.allclose(x, x.float())


@pytest.mark.accept("PW-25")
def test_masked_fill_takes_numbers_and_0d_tensors():
    mask = X[0] > 0
    for value in (-1.5, fb.tensor(-1.5, dtype=fb.float64)):
        x = leaf(X)
        y = x.masked_fill(fb.tensor(mask), value)
        assert np.array_equal(y.detach().numpy(), np.where(mask, -1.5, X))
        close(pull_back(y, x)[0], np.where(mask, 0, weights(X.shape)))
    value = leaf(np.float64(2.0))
    close(pull_back(fb.tensor(X).masked_fill(fb.tensor(mask), value), value)[0], weights(X.shape)[:, mask].sum())
    x = fb.tensor(X)
    assert x.masked_fill_(fb.tensor(mask), 7) is x and (x.numpy()[:, mask] == 7).all()


SIGMOID = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
SELU = 1.0507009873554805, 1.6732632423543772
#: Name -> arguments, value and derivative.
ACTIVATIONS = {
    "leaky_relu": ((0.1,), lambda x: np.where(x > 0, x, 0.1 * x), lambda x: np.where(x > 0, 1, 0.1)),
    "silu": ((), lambda x: x * SIGMOID(x), lambda x: SIGMOID(x) * (1 + x * (1 - SIGMOID(x)))),
    "elu": ((0.7,), lambda x: np.where(x > 0, x, 0.7 * np.expm1(x)), lambda x: np.where(x > 0, 1, 0.7 * np.exp(x))),
    "selu": (
        (),
        lambda x: SELU[0] * np.where(x > 0, x, SELU[1] * np.expm1(x)),
        lambda x: SELU[0] * np.where(x > 0, 1, SELU[1] * np.exp(x)),
    ),
    "softplus": ((), lambda x: np.log1p(np.exp(x)), SIGMOID),
    "mish": (
        (),
        lambda x: x * np.tanh(np.log1p(np.exp(x))),
        lambda x: np.tanh(np.log1p(np.exp(x))) + x * SIGMOID(x) / np.cosh(np.log1p(np.exp(x))) ** 2,
    ),
    "hardsigmoid": ((), lambda x: np.clip(x / 6 + 0.5, 0, 1), lambda x: (abs(x) < 3) / 6),
    "hardswish": (
        (),
        lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
        lambda x: np.where(abs(x) < 3, x / 3 + 0.5, (x > 0).astype(float)),
    ),
}


@pytest.mark.accept("PW-30", "PW-33", "PW-34")
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_by_their_formulas(name):
    arguments, function, slope = ACTIVATIONS[name]
    points = np.linspace(-7.3, 7.4, 50)
    x = leaf(points)
    y = getattr(F, name)(x, *arguments)
    close(y.detach().numpy(), function(points), 1e-9, 1e-13)
    close(pull_back(y, x)[0], weights((50,)) * slope(points), 1e-9, 1e-13)
    far = getattr(F, name)(fb.tensor([-1e4, 1e4]), *arguments).numpy()
    assert np.isfinite(far).all() and (far[1] >= 1)


@pytest.mark.accept("PW-34")
def test_prelu_has_a_weight_for_each_channel():
    x, w = leaf(X), leaf([0.1, 0.2, 0.3])
    y = F.prelu(x, w.double())
    slopes = np.where(X > 0, 1, np.array([0.1, 0.2, 0.3], np.float32)[:, None])
    close(y.detach().numpy(), X * slopes)
    by_x, by_w = pull_back(y, x, w)
    close(by_x, weights(X.shape) * slopes)
    close(by_w, (weights(X.shape) * np.where(X > 0, 0, X)).sum((0, 2)), 1e-6)


# ---- reductions ---------------------------------------------------------------------------------------------------


@pytest.mark.accept("RED-11")
@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 3.0, INF, -INF, 0.0])
def test_norms_have_the_gradient_0_at_0(p):
    close(fb.tensor(X).norm(p, (0, 2)).numpy(), [np.linalg.norm(X[:, k].ravel(), p) for k in range(3)])
    data = X[0].copy()
    data[1] = 0
    x = leaf(data)
    norms = x.norm(p, 1, keepdim=True)
    assert norms.shape == (3, 1)
    close(norms.detach().numpy(), [[np.linalg.norm(row, p)] for row in data])
    if p == 0:  # a count: nothing depends on it
        assert fb.autograd.grad(norms.sum(), x, allow_unused=True) == (None,)
        return
    found = pull_back(norms, x)[0]
    assert not found[1].any()
    if p in (1.0, 2.0, 3.0):
        rows, size = data[[0, 2]], np.linalg.norm(data[[0, 2]], p, 1, True)
        close(found[[0, 2]], weights((3, 1))[[0, 2]] * np.sign(rows) * (abs(rows) / size) ** (p - 1))


@pytest.mark.accept("RED-12")
def test_logsumexp_does_not_overflow():
    x = leaf(X + 1e4)
    found = x.logsumexp((0, 2))
    close(found.detach().numpy(), 1e4 + np.log(np.exp(X).sum((0, 2))))
    close(pull_back(found, x)[0], weights((3,))[:, None] * np.exp(X) / np.exp(X).sum((0, 2))[:, None], 1e-10)
    edges = fb.tensor([[-INF, -INF], [INF, 1.0], [-1e30, 0.0], [NAN, 0.0]]).logsumexp(1, keepdim=True)
    np.testing.assert_array_equal(edges.numpy(), [[-INF], [INF], [0.0], [NAN]])


@pytest.mark.accept("RED-15")
def test_count_nonzero_counts_nan():
    x = np.round(X)
    x[0, 0] = [0.0, -0.0, NAN, 1e-300]
    for dim in (None, 0, -1, (0, 2)):
        found = fb.count_nonzero(fb.tensor(x), dim)
        assert (
            found.dtype is fb.int64 and found.tolist() == np.count_nonzero(x, axis=dim).tolist()
            if dim is not None
            else (found.item() == np.count_nonzero(x))
        )
    assert fb.count_nonzero(fb.tensor([True, False, True])).item() == 2


@pytest.mark.accept("RED-20")
def test_the_truth_of_one_element():
    for value, truth in ((0.0, False), (-0.0, False), (NAN, True), (3, True), (False, False), (0j, False), (1j, True)):
        x = fb.tensor([[value]])
        assert bool(x) is truth is fb.is_nonzero(x)
    x = leaf([2.0])
    y = x * 3  # is computed when it is asked for, and keeps its history
    assert y > 5 and not y > 7
    y.backward()
    assert x.grad.tolist() == [3.0]
    for shape in ((2,), (0,)):
        with pytest.raises(RuntimeError, match=r"\[bool\] "):
            bool(fb.ones(shape))


# ---- matrices -----------------------------------------------------------------------------------------------------


@pytest.mark.accept("LIN-04", "T-05")
def test_adjoints_are_of_each_matrix_of_a_batch():
    z = X + 1j * X[::-1]
    for array in (X, z):
        x = leaf(array)
        wanted = array.conj().swapaxes(-1, -2)
        for found in (fb.adjoint(x), x.mH, x.adjoint()):
            assert found.shape == (2, 4, 3) and np.array_equal(found.detach().numpy(), wanted)
        w = weights((2, 4, 3))
        (gradient,) = fb.autograd.grad((fb.adjoint(x).real * fb.tensor(w)).sum(), x)
        assert np.array_equal(gradient.numpy(), w.swapaxes(-1, -2))
    with pytest.raises(RuntimeError, match=r"\[adjoint\] "):
        fb.adjoint(fb.ones(3))


@pytest.mark.accept("LIN-05", "LIN-06")
@pytest.mark.parametrize("name", ["triu", "tril"])
def test_triangles_of_each_matrix(name):
    for k in (-5, -1, 0, 1, 2, 9):
        x = leaf(X)
        y = getattr(fb, name)(x, k)
        assert np.array_equal(y.detach().numpy(), getattr(np, name)(X, k))
        assert np.array_equal(pull_back(y, x)[0], getattr(np, name)(weights(X.shape), k))
    assert getattr(fb.ones(2, 2, dtype=fb.bool), name)().dtype is fb.bool
    with pytest.raises(RuntimeError, match=rf"\[{name}\] "):
        getattr(fb, name)(fb.ones(3))


@pytest.mark.accept("LIN-07")
def test_diagonals_are_views():
    for offset, one, other in ((0, 0, 1), (1, -2, -1), (-1, 2, 0), (7, 0, 1)):
        x = leaf(X)
        y = x.diagonal(offset, one, other)
        assert np.array_equal(y.detach().numpy(), X.diagonal(offset, one, other))
        wanted = np.zeros_like(X)
        places = np.arange(X.size).reshape(X.shape).diagonal(offset, one, other)
        wanted.ravel()[places] = weights(y.shape)
        assert np.array_equal(pull_back(y, x)[0], wanted)
    square = fb.zeros(3, 3)
    square.diagonal().fill_(5.0)
    assert square.tolist() == (5 * np.eye(3)).tolist()
    assert fb.diag_embed(fb.tensor([1.0, 2.0])).tolist() == fb.diag(fb.tensor([1.0, 2.0])).tolist() == [[1, 0], [0, 2]]


@pytest.mark.accept("LIN-08")
def test_distances_and_directions():
    a, b = X[0], arrays(5, 4, seed=1, dtype=np.float64)
    gaps = a[:, None] - b
    for p in (1.0, 2.0, 3.0, INF):
        close(fb.cdist(fb.tensor(a), fb.tensor(b), p).numpy(), np.linalg.norm(gaps, p, 2), 1e-11)
    x = leaf(a)
    distances = np.linalg.norm(gaps, axis=2)
    close(
        pull_back(fb.cdist(x, fb.tensor(b)), x)[0],
        (weights((3, 5))[..., None] * gaps / distances[..., None]).sum(1),
        1e-10,
    )
    x, lengths = leaf(a), np.linalg.norm(a, axis=1, keepdims=True)
    close(F.normalize(x).detach().numpy(), a / lengths)
    w, unit = weights((3, 4)), a / lengths
    close(pull_back(F.normalize(x), x)[0], (w - unit * (w * unit).sum(1, keepdims=True)) / lengths, 1e-11)
    wanted = (a * b[:3]).sum(1) / (lengths[:, 0] * np.linalg.norm(b[:3], axis=1))
    close(fb.cosine_similarity(x, fb.tensor(b[:3])).detach().numpy(), wanted)
    assert (
        F.normalize(fb.zeros(2), dim=0).tolist() == [0, 0]
        and fb.cosine_similarity(fb.zeros(2), fb.ones(2), 0).item() == 0
    )


@pytest.mark.accept("LIN-09")
def test_bilinear_forms():
    a, b, m = X[0], arrays(3, 2, seed=1, dtype=np.float64), arrays(5, 4, 2, seed=2, dtype=np.float64)
    x, y, w, c = leaf(a), leaf(b), leaf(m), leaf(np.arange(5.0))
    found = F.bilinear(x, y, w, c)
    close(found.detach().numpy(), np.einsum("ni,oij,nj->no", a, m, b) + np.arange(5))
    v = weights((3, 5))
    by_x, by_y, by_w, by_c = pull_back(found, x, y, w, c)
    close(by_x, np.einsum("no,oij,nj->ni", v, m, b))
    close(by_y, np.einsum("no,oij,ni->nj", v, m, a))
    close(by_w, np.einsum("no,ni,nj->oij", v, a, b))
    close(by_c, v.sum(0))
    with pytest.raises(RuntimeError, match=r"\[bilinear\] "):
        F.bilinear(y, x, w)


@pytest.mark.accept("LIN-10")
def test_tensordot_and_outer():
    a, b = X, arrays(4, 3, 5, seed=1, dtype=np.float64)
    x, y = leaf(a), leaf(b)
    found = fb.tensordot(x, y, ([1, 2], [1, 0]))
    close(found.detach().numpy(), np.tensordot(a, b, ([1, 2], [1, 0])))
    by_x, by_y = pull_back(found, x, y)
    close(by_x, np.einsum("ao,kjo->ajk", weights((2, 5)), b))
    close(by_y, np.einsum("ao,ajk->kjo", weights((2, 5)), a))
    assert np.array_equal(fb.outer(x[0, 0], y[0, 0]).detach().numpy(), np.outer(a[0, 0], b[0, 0]))
    with pytest.raises(RuntimeError, match=r"\[tensordot\] "):
        fb.tensordot(x, y, ([0], [0]))


# ---- shapes -------------------------------------------------------------------------------------------------------

PLACES = np.arange(24).reshape(2, 3, 4)
#: Rows, what is called, and NumPy's; each gives a tensor or several.
MOVES = {
    "movedim": ("SHP-05", lambda x: fb.movedim(x, 0, -1), lambda a: np.moveaxis(a, 0, -1)),
    "movedim of several": ("SHP-05", lambda x: x.movedim((0, 1), (1, 2)), lambda a: np.moveaxis(a, (0, 1), (1, 2))),
    "repeat": ("SHP-10", lambda x: x.repeat(2, 1, 1, 3), lambda a: np.tile(a, (2, 1, 1, 3))),
    "tile": ("SHP-10", lambda x: fb.tile(x, (2, 3)), lambda a: np.tile(a, (1, 2, 3))),
    "split": ("SHP-14", lambda x: x.split(3, 2), lambda a: np.split(a, [3], 2)),
    "split by sizes": ("SHP-14", lambda x: fb.split(x, [1, 2, 1], -1), lambda a: np.split(a, [1, 3], -1)),
    "chunk": ("SHP-14", lambda x: x.chunk(2, 1), lambda a: np.split(a, [2], 1)),
    "unbind": ("SHP-14", lambda x: x.unbind(1), lambda a: [a[:, k] for k in range(3)]),
    "flip": ("SHP-17", lambda x: x.flip(0, -1), lambda a: np.flip(a, (0, 2))),
    "roll": ("SHP-17", lambda x: x.roll((1, -2), (0, 2)), lambda a: np.roll(a, (1, -2), (0, 2))),
    "roll of all": ("SHP-17", lambda x: x.roll(5), lambda a: np.roll(a, 5)),
}


@pytest.mark.accept("SHP-05", "SHP-10", "SHP-14", "SHP-17")
@pytest.mark.parametrize("name", MOVES)
def test_elements_are_moved_and_so_are_gradients(name):
    _, call, reference = MOVES[name]
    x, wanted = leaf(X), reference(PLACES)
    found, wanted = ([v] if not isinstance(v, list | tuple) else v for v in (call(x), wanted))
    gradient = np.zeros(24)
    total = 0
    for k, (part, places) in enumerate(zip(found, wanted, strict=True)):
        assert np.array_equal(part.detach().numpy(), X.ravel()[places])
        w = weights(places.shape) * (k + 1)
        total = total + (part * fb.tensor(w)).sum()
        np.add.at(gradient, places, w)
    close(fb.autograd.grad(total, x)[0].numpy().ravel(), gradient)


@pytest.mark.accept("SHP-15")
def test_a_tensor_in_batches():
    """`split` gives views of n rows, the last one of what is left; a loader gives them in an order of its own."""
    x = fb.arange(10.0).reshape(5, 2)
    parts = x.split(2)
    assert [p.tolist() for p in parts] == [[[0, 1], [2, 3]], [[4, 5], [6, 7]], [[8, 9]]]
    parts[1].zero_()
    assert x[2:4].tolist() == [[0, 0], [0, 0]]
    loader = fb.utils.data.DataLoader(x, batch_size=2, shuffle=True, generator=fb.Generator().manual_seed(1))
    batches = list(loader)
    assert [len(b) for b in batches] == [2, 2, 1] == [len(b) for b in loader]
    assert sorted(fb.cat(batches).tolist()) == sorted(x.tolist())
    assert [len(b) for b in fb.utils.data.DataLoader(x, 2, drop_last=True)] == [2, 2]


@pytest.mark.accept("SHP-19")
def test_networks_take_channels_last():
    net = fb.nn.Sequential(fb.nn.Conv2d(3, 4, 3), fb.nn.BatchNorm2d(4), fb.nn.ReLU(), fb.nn.MaxPool2d(2))
    found = []
    for memory_format in (fb.contiguous_format, fb.channels_last):
        x = leaf(arrays(2, 3, 6, 6))
        laid = x.to(memory_format=memory_format)
        assert laid.is_contiguous(memory_format=memory_format)
        y = net.train()(laid)
        y.square().sum().backward()
        found.append((y.detach().numpy(), x.grad.numpy()))
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


#: Name -> a call that is wrong for n = 3, on one line; the function that says so, and what it says then.
WRONG = {
    "operator": (lambda n: fb.ones(2, n) + fb.ones(n + 1), "add", r"shapes \(2, 3\) and \(4,\)"),
    "method": (lambda n: fb.ones(2, n).reshape(7), "reshape", r"shape \(7,\) does not fit the 6 elements"),
    "product": (lambda n: fb.ones(2, n) @ fb.ones(2, n), "matmul", r"\(2, 3\)"),
    "function": (lambda n: fb.cat([fb.ones(2, n), fb.ones(n)]), "cat", r"shapes \(2, 3\) and \(3,\) differ"),
    "layer": (lambda n: fb.nn.Linear(n + 1, 2)(fb.ones(2, n)), "linear", r"\(2, 3\)"),
    "in place": (lambda n: fb.ones(n).add_(fb.ones(2, n)), "add_", r"\(2, 3\)"),
}


@pytest.mark.accept("SHP-21")
@pytest.mark.parametrize("name", WRONG)
def test_wrong_shapes_are_told_where_the_call_stands(name):
    """Before anything is computed, also where the sizes differ from call to call."""
    call, function, message = WRONG[name]
    pending = fb.ones(3) * 2
    for n in (5, 6, 7, 3):
        with pytest.raises(RuntimeError, match=rf"\[{function}\] " + (f".*{message}" if n == 3 else "")) as caught:
            call(n)
        mine = [entry for entry in caught.traceback if str(entry.path) == __file__]
        assert mine[-1].lineno + 1 == call.__code__.co_firstlineno
    assert pending.tolist() == [2.0, 2.0, 2.0]


# ---- what is drawn ------------------------------------------------------------------------------------------------


@pytest.mark.accept("CRE-14")
@pytest.mark.parametrize("base", [10.0, 2.0, math.e])
def test_powers_at_equal_steps(base):
    close(fb.logspace(-2, 3, 11, base, dtype=fb.float64).numpy(), np.logspace(-2, 3, 11, base=base), 1e-13)
    assert fb.logspace(1, 2, 1).tolist() == [10.0] and fb.logspace(0, 1, 0).shape == (0,)
    with pytest.raises(RuntimeError, match=r"\[logspace\] "):
        fb.logspace(0, 1, -1)


@pytest.mark.accept("CRE-25")
def test_one_generator_serves_pythons_own_data_code():
    """Orders, choices and noise, in Python and in loaders, go on from a saved state; the default generator is left alone."""
    data = [f"item {k}" for k in range(9)]
    generator = fb.Generator().manual_seed(4)

    def epoch():
        order = fb.randperm(9, generator=generator).tolist()
        picked = [data[k] for k in fb.randint(0, 9, (4,), generator=generator).tolist()]
        noise = fb.randn(2, generator=generator).tolist()
        train, rest = fb.utils.data.random_split(data, [6, 3], generator)
        loader = fb.utils.data.DataLoader(train, 2, shuffle=True, generator=generator)
        return order, picked, noise, list(rest), list(loader)

    fb.manual_seed(9)
    before = fb.default_generator.get_state().tolist()
    first, state = epoch(), generator.get_state()
    second = epoch()
    generator.set_state(state)
    assert epoch() == second != first
    generator.manual_seed(4)
    assert epoch() == first
    assert (
        sorted(first[0]) == list(range(9))
        and sorted([*first[3], *(item for batch in first[4] for item in batch)]) == data
    )
    assert fb.default_generator.get_state().tolist() == before


@pytest.mark.accept("T-04", "RED-18")
def test_argwhere_gives_places():
    for array in (np.array([0.0, 5.0, 0.0, 7.0]), np.round(X), np.float64(3.0), np.zeros((2, 0))):
        found = fb.argwhere(fb.tensor(array))
        assert found.dtype is fb.int64 and found.shape == np.argwhere(array).shape
        assert found.tolist() == np.argwhere(array).tolist()
