"""Transforms and constraints of distributions, against PyTorch and by differences."""

import flambeau as fb
import numpy as np
import pytest
from flambeau.distributions import constraints, transforms


@pytest.fixture(autouse=True)
def not_compiled():
    """Every call is another program: most are made of ops whose kernels other tests compile."""
    with fb.compiler_options(mode="off"):
        yield


def double(x):
    return fb.tensor(x, dtype=fb.float64)


#: Name -> how it is made of the module and of a function that makes tensors.
TRANSFORMS = {
    "Exp": lambda t, tensor: t.ExpTransform(),
    "Sigmoid": lambda t, tensor: t.SigmoidTransform(),
    "Tanh": lambda t, tensor: t.TanhTransform(),
    "Softplus": lambda t, tensor: t.SoftplusTransform(),
    "Affine": lambda t, tensor: t.AffineTransform(1.5, tensor([2.0, -1.0, 0.5])),
    "Power": lambda t, tensor: t.ComposeTransform([t.ExpTransform(), t.PowerTransform(tensor(1.5))]),
    "inverse": lambda t, tensor: t.ComposeTransform([t.SigmoidTransform(), t.TanhTransform().inv]),
    "StickBreaking": lambda t, tensor: t.StickBreakingTransform(),
    "CorrCholesky": lambda t, tensor: t.CorrCholeskyTransform(),
    "Softmax": lambda t, tensor: t.SoftmaxTransform(),
    "Reshape": lambda t, tensor: t.ReshapeTransform((3,), (3, 1)),
    "Independent": lambda t, tensor: t.IndependentTransform(t.ExpTransform(), 1),
    "Stack": lambda t, tensor: t.StackTransform([t.ExpTransform(), t.TanhTransform(), t.ExpTransform()], -1),
    "Cat": lambda t, tensor: t.CatTransform([t.ExpTransform(), t.SigmoidTransform()], -1, [1, 2]),
    "Compose": lambda t, tensor: t.ComposeTransform([t.AffineTransform(0.0, 2.0), t.StickBreakingTransform()]),
}
X = np.random.default_rng(0).uniform(-1.5, 1.5, (4, 3))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_have_their_inverses_and_volumes(name):
    transform = TRANSFORMS[name](transforms, double)
    x = double(X)
    y = transform(x)
    assert tuple(y.shape) == tuple(transform.forward_shape(x.shape))
    assert bool(transform.codomain.check(y).all())
    if name == "Softmax":
        return
    assert tuple(transform.inverse_shape(y.shape)) == tuple(x.shape)
    np.testing.assert_allclose(transform.inv(y).numpy(), X, rtol=1e-9, atol=1e-12)
    found = transform.log_abs_det_jacobian(x, y).numpy()
    np.testing.assert_allclose(found.reshape(4, -1).sum(1), volumes(name, transform), rtol=1e-6, atol=1e-8)
    back = transform.inv.log_abs_det_jacobian(y, x).numpy()
    np.testing.assert_allclose(back, -found, rtol=1e-9, atol=1e-12)


def volumes(name, transform, step=1e-6):
    """log |det dy / dx| of each row, by differences of what y is made of."""

    def free(x):
        y = transform(double(x))
        if name == "CorrCholesky":  # the elements below the diagonal; that follows
            return np.stack([y.numpy()[:, i, k] for i, k in ((1, 0), (2, 0), (2, 1))], 1)
        return y.numpy().reshape(4, -1)[:, :3]

    columns = [(free(X + step * np.eye(3)[k]) - free(X - step * np.eye(3)[k])) / (2 * step) for k in range(3)]
    return np.log(np.abs(np.linalg.det(np.stack(columns, -1))))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_are_pytorchs(name):
    torch = pytest.importorskip("torch")

    def there(x):
        return torch.tensor(x, dtype=torch.float64)

    ours, theirs = TRANSFORMS[name](transforms, double), TRANSFORMS[name](torch.distributions.transforms, there)
    x, wanted_x = double(X), there(X)
    y, wanted = ours(x), theirs(wanted_x)
    np.testing.assert_allclose(y.numpy(), wanted.numpy(), rtol=1e-9)
    assert ours.bijective == theirs.bijective and ours.domain.event_dim == theirs.domain.event_dim
    assert ours.codomain.event_dim == theirs.codomain.event_dim
    if ours.bijective:
        found, wanted = ours.log_abs_det_jacobian(x, y), theirs.log_abs_det_jacobian(wanted_x, wanted)
        assert tuple(found.shape) == tuple(wanted.shape)
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-7, atol=1e-9)


def test_transforms_are_equal_by_their_parameters_and_keep_their_last_value():
    assert transforms.AffineTransform(0.0, 2.0) == transforms.AffineTransform(0.0, 2.0)
    assert transforms.AffineTransform(0.0, 2.0) != transforms.AffineTransform(0.0, 3.0)
    assert transforms.ExpTransform().inv == transforms.ExpTransform().inv != transforms.ExpTransform()
    cached = transforms.ExpTransform(cache_size=1)
    x = double(X)
    assert cached.inv(cached(x)) is x and transforms.ExpTransform().with_cache()(x) is not x
    with pytest.raises(ValueError, match=r"\[ReshapeTransform\] shapes"):
        transforms.ReshapeTransform((2,), (3,))
    with pytest.raises(ValueError, match=r"\[CorrCholeskyTransform\] no matrix has 4"):
        transforms.CorrCholeskyTransform().forward_shape((4,))


#: Name -> (the constraint of a module, values that it holds for and does not).
CONSTRAINTS = {
    "real": (lambda c: c.real, [1.0, np.nan]),
    "positive": (lambda c: c.positive, [1.0, 0.0]),
    "nonnegative": (lambda c: c.nonnegative, [0.0, -1.0]),
    "greater_than": (lambda c: c.greater_than(2.0), [2.5, 2.0]),
    "less_than": (lambda c: c.less_than(2.0), [1.5, 2.0]),
    "unit_interval": (lambda c: c.unit_interval, [1.0, 1.5]),
    "interval": (lambda c: c.interval(-1.0, 3.0), [-1.0, 3.5]),
    "half_open_interval": (lambda c: c.half_open_interval(-1.0, 3.0), [-1.0, 3.0]),
    "boolean": (lambda c: c.boolean, [1.0, 2.0]),
    "nonnegative_integer": (lambda c: c.nonnegative_integer, [0.0, 0.5]),
    "positive_integer": (lambda c: c.positive_integer, [1.0, 0.0]),
    "integer_interval": (lambda c: c.integer_interval(1, 3), [3.0, 4.0]),
    "simplex": (lambda c: c.simplex, [[0.25, 0.75], [0.5, 0.75]]),
    "one_hot": (lambda c: c.one_hot, [[0.0, 1.0], [1.0, 1.0]]),
    "multinomial": (lambda c: c.multinomial(3), [[1.0, 2.0], [2.0, 2.0]]),
    "real_vector": (lambda c: c.real_vector, [[1.0, 2.0], [np.nan, 1.0]]),
    "lower_triangular": (lambda c: c.lower_triangular, [[[1.0, 0.0], [2.0, -1.0]], [[1.0, 1.0], [0.0, 1.0]]]),
    "lower_cholesky": (lambda c: c.lower_cholesky, [[[1.0, 0.0], [2.0, 1.0]], [[1.0, 0.0], [2.0, -1.0]]]),
    "corr_cholesky": (lambda c: c.corr_cholesky, [[[1.0, 0.0], [0.6, 0.8]], [[1.0, 0.0], [1.0, 1.0]]]),
    "symmetric": (lambda c: c.symmetric, [[[1.0, 2.0], [2.0, 1.0]], [[1.0, 2.0], [0.0, 1.0]]]),
    "cat": (lambda c: c.cat([c.positive, c.real], -1, [1, 1]), [[1.0, -1.0], [-1.0, 1.0]]),
    "stack": (lambda c: c.stack([c.positive, c.real], -1), [[1.0, -1.0], [-1.0, 1.0]]),
}


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_constraints_hold_where_they_should(name):
    make, values = CONSTRAINTS[name]
    found = make(constraints).check(double(np.array(values))).numpy()
    assert found[0].all() and not found[1].all()
    torch = pytest.importorskip("torch")
    wanted = make(torch.distributions.constraints)
    assert wanted.check(torch.tensor(values, dtype=torch.float64)).tolist() == found.tolist()
    assert wanted.event_dim == make(constraints).event_dim and wanted.is_discrete == make(constraints).is_discrete


@pytest.mark.parametrize("registry", ["biject_to", "transform_to"])
def test_registries_lead_to_the_constraint(registry):
    to = getattr(fb.distributions, registry)
    for name, (make, _) in CONSTRAINTS.items():
        constraint = make(constraints)
        if constraint.is_discrete or name in ("lower_triangular", "symmetric"):
            with pytest.raises(NotImplementedError, match="Register one"):
                to(constraint)
        elif not (registry == "biject_to" and name == "lower_cholesky"):
            x = double(np.linspace(-1, 1, 4).reshape(2, 2) if "lower" in name else [-0.5, 0.75])
            x = x[:1] if name == "corr_cholesky" else x
            assert bool(constraint.check(to(constraint)(x)).all()), name
