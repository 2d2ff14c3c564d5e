"""Wishart matrices: probabilities, moments, samples and gradients, against SciPy and PyTorch."""

import flambeau as fb
import numpy as np
import pytest
from flambeau import distributions
from scipy import stats

rng = np.random.default_rng(0)
FACTOR = np.tril(rng.normal(size=(3, 3)), -1) + np.diag([0.7, 1.5, 1.1])
COVARIANCE = FACTOR @ FACTOR.T
WAYS = {
    "covariance_matrix": COVARIANCE,
    "precision_matrix": np.linalg.inv(COVARIANCE),
    "scale_tril": FACTOR,
}
DF = np.array([3.5, 7.0])


@pytest.fixture(autouse=True)
def not_compiled():
    with fb.compiler_options(mode="off"):
        yield


def double(x, **options):
    return fb.tensor(x, dtype=fb.float64, **options)


def close(found, wanted, rtol=1e-9):
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=rtol, atol=1e-11)


@pytest.mark.parametrize("way", WAYS)
def test_probabilities_and_moments(way):
    d = distributions.Wishart(double(DF), **{way: double(WAYS[way])})
    assert tuple(d.batch_shape) == (2,) and tuple(d.event_shape) == (3, 3)
    theirs = [stats.wishart(df, COVARIANCE) for df in DF]
    x = np.stack([w.rvs(4, random_state=k) for k, w in enumerate(theirs)], 1)
    close(d.log_prob(double(x)), np.stack([w.logpdf(x[:, k].transpose(1, 2, 0)) for k, w in enumerate(theirs)], 1))
    close(d.mean, np.stack([w.mean() for w in theirs]))
    close(d.variance, np.stack([w.var() for w in theirs]))
    close(d.entropy(), [w.entropy() for w in theirs])
    close(d.precision_matrix, np.broadcast_to(np.linalg.inv(COVARIANCE), (2, 3, 3)))
    close(d.mode[1], theirs[1].mode())
    assert d.mode[0].isnan().all()
    assert tuple(d.expand((5, 2)).log_prob(double(x[0])).shape) == (5, 2)


def test_samples_and_their_gradients():
    scale = double(FACTOR, requires_grad=True)
    d = distributions.Wishart(double(6.0), scale_tril=scale)
    fb.manual_seed(0)
    x = d.rsample((4000,))
    assert bool(d.support.check(x.detach()).all())
    np.testing.assert_allclose(x.mean(0).detach().numpy(), 6 * COVARIANCE, rtol=0.05, atol=0.1)
    np.testing.assert_allclose(x.var(0).detach().numpy(), d.variance.detach().numpy(), rtol=0.12)
    (found,) = fb.autograd.grad(x.mean(0).trace(), scale, retain_graph=True)
    np.testing.assert_allclose(found.tril().numpy(), 12 * FACTOR, rtol=0.1, atol=0.2)


def test_what_is_no_distribution_is_refused():
    with pytest.raises(ValueError, match="Pass one of the three"):
        distributions.Wishart(double(4.0))
    with pytest.raises(ValueError, match="Pass a matrix"):
        distributions.Wishart(double(4.0), scale_tril=double([1.0]))
    with pytest.raises(ValueError, match="df"):
        distributions.Wishart(double(1.0), double(COVARIANCE)).df.tolist()


def test_as_in_torch():
    torch = pytest.importorskip("torch")
    found = []
    for module in (torch, fb):
        df = module.tensor(DF, dtype=module.float64, requires_grad=True)
        c = module.tensor(COVARIANCE, dtype=module.float64, requires_grad=True)
        d = module.distributions.Wishart(df, covariance_matrix=c)
        value = d.log_prob(module.tensor(COVARIANCE * 3, dtype=module.float64)).sum() + d.entropy().sum()
        found.append([value.item(), *[g.numpy() for g in module.autograd.grad(value, [df, c])]])
    for mine, theirs in zip(found[1], found[0]):
        np.testing.assert_allclose(mine, theirs, rtol=1e-7)
