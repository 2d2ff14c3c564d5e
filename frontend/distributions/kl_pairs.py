"""Kullback and Leibler's divergence of pairs of distributions.

In: p and q. Out: the divergence. Most are -entropy(p) - mean of log q, which asks few means of p: those of x, of log x, of
exp(-x / s). A pair that is not of one type says so: where p has values that q has not, the divergence is infinite.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau.distributions.bernoulli import Bernoulli, ContinuousBernoulli, Geometric
from flambeau.distributions.categorical import Categorical, OneHotCategorical
from flambeau.distributions.continuous import Cauchy, Exponential, Laplace, Uniform
from flambeau.distributions.counts import Binomial, Poisson
from flambeau.distributions.dirichlet import Beta, Dirichlet
from flambeau.distributions.distribution import ExponentialFamily
from flambeau.distributions.extremes import Gumbel, Pareto
from flambeau.distributions.gamma import Gamma
from flambeau.distributions.kl import kl_divergence, register_kl
from flambeau.distributions.multivariate import (
    LowRankMultivariateNormal,
    MultivariateNormal,
    half_log_det,
    squared_length,
)
from flambeau.distributions.normal import HalfNormal, Normal
from flambeau.distributions.transformed import Independent, TransformedDistribution
from flambeau.distributions.utils import EULER, fb, sum_rightmost
from flambeau.runtime.recorder import Tensor


def _infinite(p: Any, q: Any) -> Tensor:
    shape = fb.broadcast_shapes(tuple(p.batch_shape), tuple(q.batch_shape))
    return fb.full(shape, math.inf, dtype=p.mean.dtype, device=p.mean.device)


# ---- means under p ----------------------------------------------------------------------------------------


def _mean_of_log(p: Any) -> Tensor:
    """E log x."""
    if isinstance(p, Gamma):
        return p.concentration.digamma() - p.rate.log()
    if isinstance(p, Beta):
        return p.concentration1.digamma() - p._total.digamma()
    if isinstance(p, Exponential):
        return -EULER - p.rate.log()
    if isinstance(p, Pareto):
        return p.scale.log() + p.alpha.reciprocal()
    return (fb.xlogy(p.high, p.high) - fb.xlogy(p.low, p.low)) / (p.high - p.low) - 1


def _mean_of_exp(p: Any, scale: Tensor) -> Tensor:
    """E exp(-x / scale)."""
    if isinstance(p, Normal):
        return (0.5 * (p.scale / scale).square() - p.loc / scale).exp()
    if isinstance(p, Gumbel):
        return (-p.loc / scale + (1 + p.scale / scale).lgamma()).exp()
    if isinstance(p, Gamma):
        return (1 + 1 / (p.rate * scale)) ** (-p.concentration)
    if isinstance(p, Exponential):
        return p.rate / (p.rate + 1 / scale)
    return scale / (p.high - p.low) * ((-p.low / scale).exp() - (-p.high / scale).exp())


# ---- means of log q ---------------------------------------------------------------------------------------


def _to_normal(p: Any, q: Any) -> Tensor:
    square = (p.variance + (p.mean - q.loc).square()) / q.scale.square()
    return 0.5 * square + q.scale.log() + 0.5 * math.log(2 * math.pi) - p.entropy()


def _to_exponential(p: Any, q: Any) -> Tensor:
    return q.rate * p.mean - q.rate.log() - p.entropy()


def _to_gamma(p: Any, q: Any) -> Tensor:
    a = q.concentration
    mean = a * q.rate.log() + (a - 1) * _mean_of_log(p) - q.rate * p.mean - a.lgamma()
    return -mean - p.entropy()


def _to_gumbel(p: Any, q: Any) -> Tensor:
    z = (p.mean - q.loc) / q.scale
    return z + (q.loc / q.scale).exp() * _mean_of_exp(p, q.scale) + q.scale.log() - p.entropy()


def _to_continuous_bernoulli(p: Any, q: Any) -> Tensor:
    mean = q._log_constant() + p.mean * q.logits + (-q.probs).log1p()
    return -mean - p.entropy()


def _to_pareto(p: Any, q: Any) -> Tensor:
    mean = q.alpha.log() + q.alpha * q.scale.log() - (q.alpha + 1) * _mean_of_log(p)
    return -mean - p.entropy()


def _to_uniform(p: Any, q: Any) -> Tensor:
    return (q.high - q.low).log() - p.entropy()


def _to_beta(p: Any, q: Any) -> Tensor:
    """Of p within 0 and 1: E log(1 - x) is the E log x of what is symmetric to it."""
    a, b = q.concentration1, q.concentration0
    if isinstance(p, Beta):
        other = p.concentration0.digamma() - p._total.digamma()
    else:
        other = _mean_of_log(Uniform(1 - p.high, 1 - p.low, validate_args=False))
    return q._log_beta() - (a - 1) * _mean_of_log(p) - (b - 1) * other - p.entropy()


_type: Any
for _type in (Normal, Beta, ContinuousBernoulli, Exponential, Gamma, Gumbel, Laplace, Pareto, Uniform):
    register_kl(_type, Normal)(_to_normal)
for _type in (Exponential, Beta, ContinuousBernoulli, Gamma, Pareto):
    register_kl(_type, Exponential)(_to_exponential)
for _type in (Gamma, Beta, Exponential, Pareto):
    register_kl(_type, Gamma)(_to_gamma)
for _type in (Gumbel, Exponential, Gamma, Normal, Uniform):
    register_kl(_type, Gumbel)(_to_gumbel)
for _type in (ContinuousBernoulli, Beta):
    register_kl(_type, ContinuousBernoulli)(_to_continuous_bernoulli)
register_kl(Beta, Beta)(_to_beta)

# ---- where the support decides ----------------------------------------------------------------------------


def _within(formula: Any, inside: Any) -> Any:
    """The formula where p lies inside of the support of q, infinite elsewhere."""
    return lambda p, q: fb.where(inside(p, q), formula(p, q), math.inf)


def _in_unit(p: Any, q: Any) -> Tensor:
    return (p.low >= 0) & (p.high <= 1)


def _above_zero(p: Any, q: Any) -> Tensor:
    return p.low >= 0


register_kl(Uniform, Uniform)(_within(_to_uniform, lambda p, q: (q.low <= p.low) & (q.high >= p.high)))
for _type in (Beta, ContinuousBernoulli):
    register_kl(_type, Uniform)(_within(_to_uniform, lambda p, q: (q.low <= 0) & (q.high >= 1)))
register_kl(Uniform, Beta)(_within(_to_beta, _in_unit))
register_kl(Uniform, ContinuousBernoulli)(_within(_to_continuous_bernoulli, _in_unit))
register_kl(Uniform, Exponential)(_within(_to_exponential, _above_zero))
register_kl(Uniform, Gamma)(_within(_to_gamma, _above_zero))
register_kl(Uniform, Pareto)(_within(_to_pareto, lambda p, q: p.low >= q.scale))
register_kl(Pareto, Pareto)(_within(_to_pareto, lambda p, q: p.scale >= q.scale))

_UNIT, _HALF_LINE = (Beta, ContinuousBernoulli, Uniform), (Exponential, Gamma)
for _type, _others in {
    Beta: (Pareto,),
    ContinuousBernoulli: (Pareto,),
    Exponential: (Beta, ContinuousBernoulli, Pareto, Uniform),
    Gamma: (Beta, ContinuousBernoulli, Pareto, Uniform),
    Gumbel: (*_UNIT, *_HALF_LINE, Pareto),
    Laplace: (*_UNIT, *_HALF_LINE, Pareto),
    Normal: (*_UNIT, *_HALF_LINE, Pareto),
    Pareto: _UNIT,
    Poisson: (Bernoulli, Binomial),
}.items():
    for _other in _others:
        register_kl(_type, _other)(_infinite)

# ---- of one type, by other means --------------------------------------------------------------------------


@register_kl(Laplace, Laplace)
def _laplace(p: Any, q: Any) -> Tensor:
    ratio, distance = p.scale / q.scale, (p.loc - q.loc).abs()
    return -ratio.log() + distance / q.scale + ratio * (-distance / p.scale).exp() - 1


@register_kl(Normal, Laplace)
def _normal_laplace(p: Any, q: Any) -> Tensor:
    z = (p.loc - q.loc) / p.scale
    mean_distance = p.scale * (math.sqrt(2 / math.pi) * (-0.5 * z.square()).exp() + z * fb.erf(math.sqrt(0.5) * z))
    return mean_distance / q.scale + (2 * q.scale).log() - p.entropy()


@register_kl(Cauchy, Cauchy)
def _cauchy(p: Any, q: Any) -> Tensor:
    """Chyzak and Nielsen (2019)."""
    return (((p.scale + q.scale).square() + (p.loc - q.loc).square()) / (4 * p.scale * q.scale)).log()


@register_kl(HalfNormal, HalfNormal)
def _half_normal(p: Any, q: Any) -> Tensor:
    return _to_normal(p.base_dist, q.base_dist)


@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p: Any, q: Any) -> Tensor:
    yes = _chosen(p.probs, q.probs)
    return yes + _chosen(1 - p.probs, 1 - q.probs)


def _chosen(p: Tensor, q: Tensor) -> Tensor:
    """p log(p / q), 0 where p is, infinite where only q is 0."""
    return fb.where(p == 0, 0.0, fb.where(q == 0, math.inf, p * (p.log() - q.log())))


@register_kl(Binomial, Binomial)
def _binomial(p: Any, q: Any) -> Tensor:
    found = p.total_count * _bernoulli(p, q)
    return fb.where(p.total_count > q.total_count, math.inf, found)


@register_kl(Categorical, Categorical)
@register_kl(OneHotCategorical, OneHotCategorical)
def _categorical(p: Any, q: Any) -> Tensor:
    terms = p.probs * (p.logits - q.logits)
    terms = fb.where((q.probs == 0).expand(terms.shape), math.inf, terms)
    return fb.where((p.probs == 0).expand(terms.shape), 0.0, terms).sum(-1)


@register_kl(Dirichlet, Dirichlet)
def _dirichlet(p: Any, q: Any) -> Tensor:
    a, b = p.concentration, q.concentration
    mean_of_log = a.digamma() - a.sum(-1, True).digamma()
    return q._log_normalizer(b) - p._log_normalizer(a) + ((a - b) * mean_of_log).sum(-1)


@register_kl(Geometric, Geometric)
def _geometric(p: Any, q: Any) -> Tensor:
    return -p.entropy() - (-q.probs).log1p() * (1 / p.probs - 1) - q.probs.log()


@register_kl(Poisson, Poisson)
def _poisson(p: Any, q: Any) -> Tensor:
    return fb.xlogy(p.rate, p.rate) - fb.xlogy(p.rate, q.rate) - (p.rate - q.rate)


@register_kl(Bernoulli, Poisson)
def _bernoulli_poisson(p: Any, q: Any) -> Tensor:
    return -p.entropy() - fb.xlogy(p.probs, q.rate) + q.rate


@register_kl(ExponentialFamily, ExponentialFamily)
def _of_family(p: Any, q: Any) -> Tensor:
    """The Bregman divergence of the log normalizer, for two of one type."""
    if type(p) is not type(q):
        names = f"{type(p).__name__} and {type(q).__name__}"
        raise NotImplementedError(f"[kl_divergence] there is no formula for {names}. Register one with register_kl.")
    of_p = [x.detach().requires_grad_() for x in p._natural_params]
    normalizer = p._log_normalizer(*of_p)
    gradients = fb.autograd.grad(normalizer.sum(), of_p, create_graph=True)
    found = q._log_normalizer(*q._natural_params) - normalizer
    for x, y, gradient in zip(of_p, q._natural_params, gradients):
        found = found - sum_rightmost((y - x) * gradient, len(q.event_shape))
    return found


@register_kl(TransformedDistribution, TransformedDistribution)
def _transformed(p: Any, q: Any) -> Tensor:
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise NotImplementedError("[kl_divergence] the transforms differ. Compare distributions with equal ones.")
    return kl_divergence(p.base_dist, q.base_dist)


@register_kl(Independent, Independent)
def _independent(p: Any, q: Any) -> Tensor:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError("[kl_divergence] the events have different dimensions. Make them alike.")
    return sum_rightmost(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)


@register_kl(MultivariateNormal, MultivariateNormal)
@register_kl(MultivariateNormal, LowRankMultivariateNormal)
@register_kl(LowRankMultivariateNormal, MultivariateNormal)
@register_kl(LowRankMultivariateNormal, LowRankMultivariateNormal)
def _multivariate(p: Any, q: Any) -> Tensor:
    """Half of log det Q - log det P + trace(Q^-1 P) + the distance of the means in Q - n. Raises ValueError for vectors of other
    lengths."""
    if p.event_shape != q.event_shape:
        raise ValueError(f"[kl_divergence] vectors have lengths {p.event_shape} and {q.event_shape}. Make them equal.")
    n = p.event_shape[0]
    of_p, of_q = p.scale_tril, q.scale_tril
    shape = (*fb.broadcast_shapes(tuple(of_p.shape[:-2]), tuple(of_q.shape[:-2])), n, n)
    inner = fb.linalg.solve_triangular(of_q.expand(shape), of_p.expand(shape), upper=False)
    distance = squared_length(of_q, q.loc - p.loc)
    return half_log_det(of_q) - half_log_det(of_p) + 0.5 * (inner.square().sum((-2, -1)) + distance - n)
