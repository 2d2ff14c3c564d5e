"""Distributions: probabilities, moments and samples of every class, against SciPy and PyTorch."""

import distribution_cases as dc
import flambeau as fb
import numpy as np
import pytest
from flambeau import distributions
from scipy import stats

every = pytest.mark.parametrize("case", dc.CASES, ids=dc.IDS)
in_scipy = pytest.mark.parametrize(
    "case", [c for c in dc.CASES if c.scipy], ids=[i for c, i in zip(dc.CASES, dc.IDS) if c.scipy]
)
N = 4000


@pytest.fixture(autouse=True)
def not_compiled():
    """Every call is another program: most are made of ops whose kernels other tests compile."""
    with fb.compiler_options(mode="off"):
        yield


def double(x):
    return fb.tensor(x, dtype=fb.float64)


def made(case):
    return case.make(distributions, double)


@in_scipy
def test_probabilities_and_moments_are_those_of_scipy(case):
    d, reference = made(case), case.scipy(**case.parameters)
    fb.manual_seed(1)
    x = d.sample((5,))
    wanted = (reference.logpmf if case.discrete else reference.logpdf)(x.numpy())
    np.testing.assert_allclose(d.log_prob(x).numpy(), wanted, rtol=1e-7, atol=1e-9)
    if case.name in ("VonMises", "Cauchy"):  # the moments of angles, none
        return
    mean, variance = reference.stats("mv")
    np.testing.assert_allclose(d.mean.numpy(), np.broadcast_to(mean, d.batch_shape), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(d.variance.numpy(), np.broadcast_to(variance, d.batch_shape), rtol=1e-9)
    np.testing.assert_allclose(d.stddev.numpy() ** 2, d.variance.numpy(), rtol=1e-12)
    if has(d, "cdf", x) is not None:
        np.testing.assert_allclose(d.cdf(x).numpy(), reference.cdf(x.numpy()), rtol=1e-6, atol=1e-9)
    if case.name not in ("Poisson", "NegativeBinomial", "Geometric", "FisherSnedecor"):
        np.testing.assert_allclose(d.entropy().numpy(), reference.entropy() + np.zeros(d.batch_shape), rtol=1e-6)


def has(d, name, *arguments):
    try:
        return getattr(d, name)(*arguments)
    except NotImplementedError:
        return None


@every
def test_samples_have_the_moments(case):
    d = made(case)
    fb.manual_seed(3)
    x = d.sample((N,))
    assert x.shape == (N, *d.batch_shape, *d.event_shape) and not x.requires_grad
    fb.manual_seed(3)
    assert d.sample((N,)).numpy().tobytes() == x.numpy().tobytes()
    if case.name in ("Cauchy", "HalfCauchy", "Categorical", "Pareto", "VonMises", "InverseGamma", "StudentT"):
        return  # no moments, or moments that few samples show
    mean, variance = has_moments(d)
    if mean is None:
        return
    error = np.abs(x.numpy().mean(0) - mean) / np.sqrt(variance / N)
    assert error.max() < 4.5, error


def has_moments(d):
    try:
        return d.mean.numpy(), d.variance.numpy()
    except NotImplementedError:
        return None, None


@in_scipy
def test_samples_follow_the_distribution(case):
    d, reference = made(case), case.scipy(**case.parameters)
    fb.manual_seed(7)
    x = d.sample((N,)).numpy()
    if case.name == "VonMises":  # angles, from the middle
        loc = case.parameters["loc"]
        x = (x - loc + np.pi) % (2 * np.pi) - np.pi + loc
    shares, x = reference.cdf(x).reshape(N, -1), x.reshape(N, -1)
    for k in range(x.shape[1]):
        if not case.discrete:
            assert stats.kstest(shares[:, k], "uniform").pvalue > 1e-4
            continue
        values, counts = np.unique(x[:, k], return_counts=True)
        grid = np.broadcast_to(values.reshape(-1, *(1,) * len(d.batch_shape)), (len(values), *d.batch_shape))
        wanted = reference.pmf(grid).reshape(len(values), -1)[:, k] * N
        often = wanted > 8
        z = (counts - wanted)[often] / np.sqrt(wanted[often])
        assert np.abs(z).max() < 4.5, z


@every
def test_it_is_pytorchs(case):
    torch = pytest.importorskip("torch")
    if case.name == "GeneralizedPareto":  # takes no float64 there
        return
    ours, theirs = made(case), case.make(torch.distributions, lambda x: torch.tensor(x, dtype=torch.float64))
    assert tuple(ours.batch_shape) == theirs.batch_shape and tuple(ours.event_shape) == theirs.event_shape
    for name in ("mean", "variance", "stddev", "mode", "probs", "logits"):
        wanted = attribute(theirs, name)
        if wanted is not None and name not in case.lacks:
            close(attribute(ours, name), wanted, name)
    fb.manual_seed(2)
    x = ours.sample((4,)).numpy()
    close(ours.log_prob(fb.tensor(x)), theirs.log_prob(torch.tensor(x)), "log_prob")
    if (wanted := has(theirs, "entropy")) is not None:
        close(ours.entropy(), wanted, "entropy")
        close(ours.perplexity(), theirs.perplexity(), "perplexity")
    if not case.discrete and not case.parameters.keys() & {"temperature"}:
        if (wanted := has(theirs, "cdf", torch.tensor(x))) is not None and "cdf" not in case.lacks:
            close(ours.cdf(fb.tensor(x)), wanted, "cdf")
        share = np.full(ours.batch_shape, 0.3)
        if (wanted := has(theirs, "icdf", torch.tensor(share))) is not None:
            close(ours.icdf(fb.tensor(share)), wanted, "icdf")
    shape = (5, *ours.batch_shape)
    assert tuple(ours.expand(shape).sample().shape) == (*shape, *ours.event_shape)
    close(ours.expand(shape).log_prob(fb.tensor(x[:1])), theirs.expand(shape).log_prob(torch.tensor(x[:1])), "expand")
    assert ours.has_rsample == theirs.has_rsample and ours.has_enumerate_support == theirs.has_enumerate_support
    if theirs.has_enumerate_support:
        for expand in (True, False):
            wanted = theirs.enumerate_support(expand)
            assert ours.enumerate_support(expand).numpy().tolist() == wanted.numpy().tolist()


def attribute(d, name):
    try:
        return getattr(d, name, None)
    except NotImplementedError:
        return None


def close(found, wanted, what):
    found, wanted = found.detach().numpy(), wanted.detach().numpy()
    assert found.shape == wanted.shape, (what, found.shape, wanted.shape)
    np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-9, err_msg=what)


@every
def test_gradients_of_log_prob_are_pytorchs(case):
    torch = pytest.importorskip("torch")
    if case.name == "GeneralizedPareto":
        return
    fb.manual_seed(4)
    x = made(case).sample((3,)).numpy()
    results = []
    for library, module in ((fb, distributions), (torch, torch.distributions)):
        leaves = []

        def leaf(array, library=library, leaves=leaves):
            leaves.append(library.tensor(array, dtype=library.float64, requires_grad=True))
            return leaves[-1]

        d = case.make(module, leaf)
        value = library.tensor(x, requires_grad=not case.discrete)
        d.log_prob(value).sum().backward()
        inputs = leaves + ([] if case.discrete else [value])
        results.append([x.grad.numpy() for x in inputs if x.grad is not None])
    assert len(results[0]) == len(results[1])
    for found, wanted in zip(*results):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-8)


# ---- divergences ------------------------------------------------------------------------------------------


def pairs():
    """Cases of which PyTorch has divergences, by position."""
    from flambeau.distributions import kl, kl_pairs  # noqa: F401

    types = {c.name: getattr(distributions, c.name) for c in dc.CASES}
    known = {(p.__name__, q.__name__) for p, q in kl._formulas}
    for i, p in enumerate(dc.CASES):
        for k, q in enumerate(dc.CASES):
            if (p.name, q.name) in known or (p.name == q.name and kl._found(types[p.name], types[p.name])):
                yield i, k


def test_divergences_are_pytorchs():
    torch = pytest.importorskip("torch")
    count = 0
    for i, k in pairs():
        p, q = dc.CASES[i], dc.CASES[k]
        theirs = [c.make(torch.distributions, lambda x: torch.tensor(x, dtype=torch.float64)) for c in (p, q)]
        if {p.name, q.name} == {"Uniform", "ContinuousBernoulli"}:  # infinite there where the bounds are equal
            continue
        if (wanted := has(torch.distributions.kl, "kl_divergence", *theirs)) is not None:
            found = distributions.kl_divergence(made(p), made(q))
            close(found, wanted.expand(tuple(found.shape)), f"{dc.IDS[i]} {dc.IDS[k]}")
            count += 1
    assert count > 80


def test_divergences_are_means_of_differences():
    names = ["Normal", "Gamma", "Beta", "Exponential", "Uniform", "Gumbel", "Laplace", "Pareto"]
    fb.manual_seed(0)
    for i, k in pairs():
        if dc.CASES[i].name not in names:
            continue
        p, q = made(dc.CASES[i]), made(dc.CASES[k])
        wanted = distributions.kl_divergence(p, q).numpy()
        if not np.isfinite(wanted).all():
            continue
        p = p.expand(wanted.shape)
        x = p.sample((N,))
        q._validate_args = False
        drawn = (p.log_prob(x) - q.log_prob(x)).numpy()
        error = np.abs(drawn.mean(0) - wanted) / (drawn.std(0) / N**0.5 + 1e-9)
        assert np.median(error) < 3, (dc.IDS[i], dc.IDS[k], error)


# ---- what is refused --------------------------------------------------------------------------------------


def test_parameters_and_values_outside_are_refused_when_they_are_computed():
    with pytest.raises(
        ValueError, match=r"\[Distribution\] Normal.scale\[1\] does not satisfy GreaterThan\(lower_bound=0.0\)"
    ):
        distributions.Normal(fb.zeros(2), fb.tensor([1.0, -1.0])).sample().tolist()
    with pytest.raises(ValueError, match=r"\[Distribution\] Exponential.value\[0\] does not lie in the support"):
        distributions.Exponential(1.0).log_prob(fb.tensor([-1.0])).tolist()
    with pytest.raises(ValueError, match=r"\[Distribution\] Uniform.high is not above low"):
        distributions.Uniform(1.0, 0.0).mean.item()
    with pytest.raises(ValueError, match=r"value has shape .* which does not broadcast"):
        distributions.Normal(fb.zeros(2), 1.0).log_prob(fb.zeros(3))
    with pytest.raises(ValueError, match=r"\[Bernoulli\] neither of probs and logits"):
        distributions.Bernoulli()
    unchecked = distributions.Normal(0.0, -1.0, validate_args=False)
    assert unchecked.mean.item() == 0
    with pytest.raises(NotImplementedError, match=r"\[Cauchy\] there is no _natural_params|no formula"):
        distributions.kl_divergence(distributions.Cauchy(0.0, 1.0), distributions.Normal(0.0, 1.0))


# ---- gradients of samples ---------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [[0, np.nan], [np.inf, 0], [-np.inf, -np.inf], [np.inf, -np.inf]])
@pytest.mark.parametrize("name", ["Categorical", "OneHotCategorical", "Multinomial"])
def test_logits_that_normalize_to_no_numbers_are_refused_in_their_row(name, row):
    """Where the log of a row's sum is finite all of the row's normalized logits are numbers, or -inf."""
    make = lambda rows, **how: getattr(distributions, name)(logits=double(rows), **how)  # noqa: E731
    bad = make([[1.0, 2.0], row])
    with pytest.raises(ValueError, match=rf"{name}\.logits\[1, 0\].* does not satisfy .*Pass parameters that do"):
        bad.logits.numpy()
    with pytest.raises(ValueError, match="does not satisfy"):
        bad.entropy().sum().item()
    assert np.isnan(make([row], validate_args=False).logits.numpy()).any()
    np.testing.assert_array_equal(make([[-np.inf, 2.0], [0.0, -np.inf]]).logits.numpy(), [[-np.inf, 0], [0, -np.inf]])


@pytest.mark.parametrize("concentration", [0.01, 0.4, 1.0, 3.0, 50.0, 2000.0])
def test_gradients_of_gamma_samples_are_implicit_ones(concentration):
    """d x / d a = -(dF / da) / f, dF / da by differences."""
    a = fb.full((6,), concentration, dtype=fb.float64, requires_grad=True)
    x = distributions.Gamma(a, 1.0).rsample()
    (slope,) = fb.autograd.grad(x.sum(), a)
    step = 1e-4 * concentration
    at = x.detach().numpy()
    above, below = (stats.gamma(concentration + h).cdf(at) for h in (step, -step))
    wanted = -(above - below) / (2 * step) / stats.gamma(concentration).pdf(at)
    np.testing.assert_allclose(slope.numpy(), wanted, rtol=2e-4, atol=1e-12)


def test_gradients_of_samples_are_those_of_means():
    fb.manual_seed(0)
    a = fb.tensor([0.7, 2.0, 5.0], dtype=fb.float64, requires_grad=True)
    d = distributions.Dirichlet(a)
    (found,) = fb.autograd.grad((d.rsample((20000,)) ** 2).mean(0)[0], a, retain_graph=True)
    (wanted,) = fb.autograd.grad(d.variance[0] + d.mean[0] ** 2, a)
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=0.05, atol=2e-3)
    logits = fb.zeros(3, requires_grad=True)
    straight = distributions.OneHotCategoricalStraightThrough(logits=logits).rsample()
    assert sorted(straight.tolist()) == [0, 0, 1]
    straight[0].backward()
    assert abs(logits.grad[0].item() - 2 / 9) < 1e-6


# ---- factors of correlations ------------------------------------------------------------------------------


def test_factors_of_correlation_matrices():
    d = distributions.LKJCholesky(4, double([0.7, 3.0]))
    fb.manual_seed(0)
    x = d.sample((3000,)).numpy()
    assert bool(d.support.check(fb.tensor(x)).all())
    correlation = (x @ x.transpose(0, 1, 3, 2))[:, :, 3, 1]  # 2 Beta(a, a) - 1 of a = concentration - 1 + dim / 2
    np.testing.assert_allclose(correlation.var(0), 1 / (2 * (np.array([0.7, 3.0]) + 1) + 1), rtol=0.12)
    assert np.abs(correlation.mean(0)).max() < 0.04
    plane = distributions.LKJCholesky(2, double(2.0))  # the density of r = sin t, by the angle's factor
    r = np.linspace(-0.9, 0.9, 5)
    factors = np.array([[[1, 0], [v, (1 - v * v) ** 0.5]] for v in r])
    wanted = stats.beta(2, 2, -1, 2).logpdf(r)
    np.testing.assert_allclose(plane.log_prob(double(factors)).numpy(), wanted, rtol=1e-9)
    torch = pytest.importorskip("torch")
    theirs = torch.distributions.LKJCholesky(4, torch.tensor([0.7, 3.0], dtype=torch.float64))
    close(d.log_prob(fb.tensor(x[:5])), theirs.log_prob(torch.tensor(x[:5])), "log_prob")
    assert tuple(d.expand((3, 2)).sample().shape) == (3, 2, 4, 4)


def test_drawing_again_compiles_nothing_and_does_not_repeat_itself():
    from flambeau.runtime import recorder

    scale, drawn = fb.tensor([0.5, 3.0], requires_grad=True), []
    for k in range(6):
        before = recorder.stats()
        gamma = distributions.Gamma(scale * (1 + 0.1 * k), 2.0)
        loss = gamma.log_prob(gamma.rsample((3,))).sum() + distributions.Poisson(scale.detach()).sample().sum()
        loss.backward()
        drawn.append(loss.item())
        scale.grad = None
        after = recorder.stats()
    assert after["misses"] == before["misses"] and after["builds"] == before["builds"]
    assert len(set(drawn)) == 6


def test_classes_of_users():
    """What PyTorch's users call in subclasses: an instance for `expand`, and checks of values that are used as they are."""

    class Shifted(distributions.Normal):
        def __init__(self, loc, by):
            super().__init__(loc + by, 1.0)
            self.by = by

    class Expanded(Shifted):
        def expand(self, batch_shape, _instance=None):
            made = self._get_checked_instance(Expanded, _instance)
            made.by = self.by
            return super().expand(batch_shape, made)

    made = Expanded(fb.tensor(1.0), 2.0).expand((3,))
    assert type(made) is Expanded and made.by == 2.0 and made.mean.tolist() == [3.0] * 3
    with pytest.raises(
        NotImplementedError, match=r"\[expand\] Shifted has an __init__ of its own. Define Shifted.expand"
    ):
        Shifted(fb.tensor(1.0), 2.0)._get_checked_instance(distributions.Normal)
    distributions.HalfNormal(1.0)._validate_sample(fb.tensor([0.0, 2.0]))
    with pytest.raises(ValueError, match=r"HalfNormal\.value\[1\] does not lie in the support"):
        distributions.HalfNormal(1.0)._validate_sample(fb.tensor([1.0, -1.0]))
    with pytest.raises(ValueError, match=r"\[HalfNormal\] value is a float"):
        distributions.HalfNormal(1.0)._validate_sample(1.0)


def test_divergences_of_bases_that_are_no_distributions():
    class Base:
        pass

    class Mine(distributions.Normal, Base):
        pass

    distributions.register_kl(Mine, Base)(lambda p, q: fb.tensor(7.0))
    assert distributions.kl_divergence(Mine(0.0, 1.0), Mine(0.0, 1.0)).item() == 7.0
    with pytest.raises(TypeError, match=r"\[register_kl\] 3 is no class"):
        distributions.register_kl(Mine, 3)


def test_constraints_have_pytorchs_public_names():
    from flambeau.distributions import constraints

    classes = {n for n, v in vars(constraints).items() if v.__class__ in (type, constraints.Constraint.__class__)}
    assert {"Constraint", "greater_than", "dependent_property"} <= classes & set(constraints.__all__)
    assert len(constraints.__all__) == 32 and all(hasattr(constraints, name) for name in constraints.__all__)
    assert not {"Tensor", "Any", "fb"} & set(constraints.__all__)
