"""Normal vectors: probabilities, moments, samples, gradients and divergences, against SciPy, formulas and PyTorch."""

import flambeau as fb
import numpy as np
import pytest
from flambeau import distributions
from scipy import stats

rng = np.random.default_rng(0)
LOC = rng.normal(size=(2, 3))
FACTOR = np.tril(rng.normal(size=(3, 3)), -1) + np.diag([0.7, 1.5, 1.1])
COVARIANCE = FACTOR @ FACTOR.T
W, D = rng.normal(size=(3, 2)), np.array([0.5, 1.0, 0.8])
WAYS = {
    "covariance_matrix": COVARIANCE,
    "precision_matrix": np.linalg.inv(COVARIANCE),
    "scale_tril": FACTOR,
}


def double(x):
    return fb.tensor(x, dtype=fb.float64)


def close(found, wanted, rtol=1e-9):
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=rtol, atol=1e-11)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_give_a_covariance_is_the_same_distribution(way):
    d = distributions.MultivariateNormal(double(LOC), **{way: double(WAYS[way])})
    assert tuple(d.batch_shape) == (2,) and tuple(d.event_shape) == (3,)
    x = rng.normal(size=(4, 2, 3))
    wanted = np.stack([stats.multivariate_normal(m, COVARIANCE).logpdf(x[:, k]) for k, m in enumerate(LOC)], 1)
    close(d.log_prob(double(x)), wanted)
    close(d.entropy(), [stats.multivariate_normal(m, COVARIANCE).entropy() for m in LOC])
    close(d.scale_tril, np.broadcast_to(FACTOR, (2, 3, 3)))
    close(d.covariance_matrix, np.broadcast_to(COVARIANCE, (2, 3, 3)))
    close(d.precision_matrix, np.broadcast_to(np.linalg.inv(COVARIANCE), (2, 3, 3)))
    close(d.variance, np.broadcast_to(np.diag(COVARIANCE), (2, 3)))
    close(d.expand((5, 2)).log_prob(double(x[:1])), np.broadcast_to(wanted[:1], (5, 2)))


@pytest.mark.parametrize("shape", [(3,), (2, 3), (4, 1, 3), (5, 4, 2, 3), (0, 2, 3)], ids=str)
def test_vectors_that_share_a_factor_are_columns_of_one_solve(shape):
    factors = np.stack([FACTOR, 2 * FACTOR + np.eye(3)])
    d = distributions.MultivariateNormal(double(LOC), scale_tril=double(factors))
    x = rng.normal(size=shape)
    wide = np.broadcast_to(x, np.broadcast_shapes(shape, (2, 3)))
    wanted = [
        stats.multivariate_normal(m, f @ f.T).logpdf(wide[..., k, :]) for k, (m, f) in enumerate(zip(LOC, factors))
    ]
    found = d.log_prob(double(x))
    assert tuple(found.shape) == wide.shape[:-1]
    close(found, np.stack(wanted, -1).reshape(wide.shape[:-1]))
    one = distributions.MultivariateNormal(double(LOC[0]), scale_tril=double(FACTOR))
    wanted = stats.multivariate_normal(LOC[0], COVARIANCE).logpdf(x)
    close(one.log_prob(double(x)), np.reshape(wanted, shape[:-1]))


def test_a_low_rank_is_the_distribution_of_its_covariance():
    low = distributions.LowRankMultivariateNormal(double(LOC), double(W), double(D))
    whole = distributions.MultivariateNormal(double(LOC), double(W @ W.T + np.diag(D)))
    x = double(rng.normal(size=(4, 2, 3)))
    for name in ("mean", "variance", "covariance_matrix", "precision_matrix", "scale_tril"):
        found, wanted = getattr(low, name), getattr(whole, name).numpy()
        close(found, wanted if found.ndim == wanted.ndim else wanted[0])
    close(low.log_prob(x), whole.log_prob(x).numpy())
    close(low.entropy(), whole.entropy().numpy())
    assert np.abs(distributions.kl_divergence(low, whole).numpy()).max() < 1e-12


def test_samples_have_the_covariance_and_gradients():
    fb.manual_seed(0)
    for d in (
        distributions.MultivariateNormal(double(LOC[0]), double(COVARIANCE)),
        distributions.LowRankMultivariateNormal(double(LOC[0]), double(W), double(D)),
    ):
        x = d.sample((20000,)).numpy()
        np.testing.assert_allclose(x.mean(0), LOC[0], atol=0.06)
        np.testing.assert_allclose(np.cov(x.T), d.covariance_matrix.numpy(), atol=0.15)
    factor = double(FACTOR).requires_grad_()
    distributions.MultivariateNormal(double(LOC), scale_tril=factor).rsample().sum().backward()
    assert np.isfinite(factor.grad.numpy()).all() and factor.grad.abs().sum().item() > 0


def test_divergences_and_gradients_are_pytorchs():
    torch = pytest.importorskip("torch")
    x, results = rng.normal(size=(2, 3)), []
    for library, module in ((fb, distributions), (torch, torch.distributions)):
        leaves = [library.tensor(v, dtype=library.float64, requires_grad=True) for v in (LOC, COVARIANCE, W, D)]
        whole = module.MultivariateNormal(leaves[0], leaves[1])
        low = module.LowRankMultivariateNormal(leaves[0] * 0.5, leaves[2], leaves[3])
        found = [module.kl_divergence(p, q) for p in (whole, low) for q in (whole, low)]
        value = library.tensor(x)
        total = sum(v.sum() for v in found) + whole.log_prob(value).sum() + low.log_prob(value).sum()
        total.backward()
        results.append([v.detach().numpy() for v in found] + [v.grad.numpy() for v in leaves])
    for found, wanted in zip(*results):
        np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-10)


def test_what_is_no_covariance_is_refused():
    with pytest.raises(ValueError, match=r"\[MultivariateNormal\] loc has 1 dimensions, and 0 of"):
        distributions.MultivariateNormal(fb.zeros(2))
    with pytest.raises(ValueError, match=r"scale_tril\[0, 0\] does not satisfy LowerCholesky"):
        distributions.MultivariateNormal(fb.zeros(2), scale_tril=-fb.eye(2)).sample().tolist()
    with pytest.raises(ValueError, match=r"\[LowRankMultivariateNormal\] loc, cov_factor and cov_diag have shapes"):
        distributions.LowRankMultivariateNormal(fb.zeros(2), fb.ones(3, 1), fb.ones(2))
