"""Distributions with parameters, and what SciPy calls them: what the tests of distributions are generated from."""

from dataclasses import dataclass, field

import numpy as np
from scipy import stats

A, B = np.array([0.7, 1.5, 4.0]), np.array([[2.0], [0.6]])
LOC = np.array([-1.0, 0.0, 2.5])
P = np.array([0.1, 0.45, 0.8])
WEIGHTS = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])


@dataclass
class Case:
    """Parameters by name, numbers among them; `scipy` makes SciPy's distribution of them; `lacks`: what PyTorch has not or gives
    otherwise."""

    name: str
    parameters: dict
    scipy: object = None
    lacks: tuple = ()
    discrete: bool = False
    options: dict = field(default_factory=dict)

    def make(self, module, tensor):
        given = {k: tensor(v) if isinstance(v, np.ndarray) else v for k, v in self.parameters.items()}
        return getattr(module, self.name)(**given, **self.options)


CASES = [
    Case("Normal", {"loc": LOC, "scale": B}, lambda loc, scale: stats.norm(loc, scale)),
    Case("LogNormal", {"loc": LOC, "scale": B / 2}, lambda loc, scale: stats.lognorm(scale, scale=np.exp(loc))),
    Case("HalfNormal", {"scale": A}, lambda scale: stats.halfnorm(scale=scale)),
    Case("Uniform", {"low": LOC, "high": LOC + B}, lambda low, high: stats.uniform(low, high - low)),
    Case("Exponential", {"rate": A}, lambda rate: stats.expon(scale=1 / rate)),
    Case("Laplace", {"loc": LOC, "scale": B}, lambda loc, scale: stats.laplace(loc, scale)),
    Case("Cauchy", {"loc": LOC, "scale": B}, lambda loc, scale: stats.cauchy(loc, scale)),
    Case("HalfCauchy", {"scale": A}, lambda scale: stats.halfcauchy(scale=scale)),
    Case("Gumbel", {"loc": LOC, "scale": B}, lambda loc, scale: stats.gumbel_r(loc, scale)),
    Case("Pareto", {"scale": A, "alpha": B + 2}, lambda scale, alpha: stats.pareto(alpha, scale=scale)),
    Case(
        "GeneralizedPareto",
        {"loc": LOC, "scale": A, "concentration": np.array([[0.0], [0.2], [-0.5]])},
        lambda loc, scale, concentration: stats.genpareto(concentration, loc, scale),
    ),
    Case(
        "Weibull",
        {"scale": A, "concentration": B},
        lambda scale, concentration: stats.weibull_min(concentration, scale=scale),
        lacks=("mode",),  # NaN where it is 0
    ),
    Case("Kumaraswamy", {"concentration1": A, "concentration0": B}, lacks=("mode",)),  # NaN everywhere
    Case(
        "Gamma",
        {"concentration": A, "rate": B},
        lambda concentration, rate: stats.gamma(concentration, scale=1 / rate),
    ),
    Case("Chi2", {"df": A}, lambda df: stats.chi2(df)),
    Case(
        "InverseGamma",
        {"concentration": A + 2, "rate": B},
        lambda concentration, rate: stats.invgamma(concentration, scale=rate),
    ),
    Case(
        "Beta",
        {"concentration1": A, "concentration0": B},
        lambda concentration1, concentration0: stats.beta(concentration1, concentration0),
    ),
    Case("StudentT", {"df": A + 2, "loc": LOC, "scale": B}, lambda df, loc, scale: stats.t(df, loc, scale)),
    Case("FisherSnedecor", {"df1": A, "df2": B + 4}, lambda df1, df2: stats.f(df1, df2)),
    Case("VonMises", {"loc": LOC, "concentration": B}, lambda loc, concentration: stats.vonmises(concentration, loc)),
    Case("ContinuousBernoulli", {"probs": np.array([0.1, 0.5004, 0.9])}),
    Case("Bernoulli", {"probs": P}, lambda probs: stats.bernoulli(probs), discrete=True),
    Case("Bernoulli", {"logits": LOC}, lambda logits: stats.bernoulli(1 / (1 + np.exp(-logits))), discrete=True),
    Case("Geometric", {"probs": P}, lambda probs: stats.geom(probs, loc=-1), discrete=True),
    Case(
        "Binomial",
        {"total_count": 9, "probs": P},
        lambda total_count, probs: stats.binom(total_count, probs),
        discrete=True,
    ),
    Case(
        "NegativeBinomial",
        {"total_count": 3.5, "probs": P},
        lambda total_count, probs: stats.nbinom(total_count, 1 - probs),
        discrete=True,
    ),
    Case("Poisson", {"rate": np.array([0.3, 4.0, 30.0])}, lambda rate: stats.poisson(rate), discrete=True),
    Case("Categorical", {"probs": WEIGHTS}, discrete=True),
    Case("Categorical", {"logits": np.log(WEIGHTS) + 1}, discrete=True),
    Case("OneHotCategorical", {"probs": WEIGHTS * 3}, discrete=True),
    Case("OneHotCategoricalStraightThrough", {"logits": np.log(WEIGHTS)}, discrete=True),
    Case("Multinomial", {"total_count": 5, "probs": WEIGHTS}, discrete=True),
    Case("Dirichlet", {"concentration": np.array([[0.7, 1.5, 4.0], [3.0, 2.0, 2.5]])}),
    Case("LogisticNormal", {"loc": np.array([[0.5, -1.0], [0.0, 2.0]]), "scale": B}),
    Case("RelaxedBernoulli", {"temperature": np.array(0.7), "probs": P}),
    Case("RelaxedOneHotCategorical", {"temperature": np.array(0.7), "probs": WEIGHTS}),
]
IDS = [f"{c.name}({', '.join(c.parameters)})" for c in CASES]
