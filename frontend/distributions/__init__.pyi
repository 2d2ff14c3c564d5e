"""Written by `python tools/stubs.py` from the declarations of public functions."""

from builtins import bool as _bool, complex as _complex, float as _float, int as _int, type as _type
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Self, overload

import numpy as np
from flambeau import return_types
from flambeau.device import Device, device as _device
from flambeau.dialects.dtypes import DType as _DType
from flambeau.generator import Generator
from flambeau.runtime.recorder import Size, Tensor
from flambeau.distributions.elementwise_transforms import AbsTransform as AbsTransform
from flambeau.distributions.elementwise_transforms import AffineTransform as AffineTransform
from flambeau.distributions.bernoulli import Bernoulli as Bernoulli
from flambeau.distributions.dirichlet import Beta as Beta
from flambeau.distributions.counts import Binomial as Binomial
from flambeau.distributions.multivariate import ByCovariance as ByCovariance
from flambeau.distributions.transform import CatTransform as CatTransform
from flambeau.distributions.categorical import Categorical as Categorical
from flambeau.distributions.continuous import Cauchy as Cauchy
from flambeau.distributions.gamma import Chi2 as Chi2
from flambeau.distributions.transform import ComposeTransform as ComposeTransform
from flambeau.distributions.bernoulli import ContinuousBernoulli as ContinuousBernoulli
from flambeau.distributions.matrix_transforms import CorrCholeskyTransform as CorrCholeskyTransform
from flambeau.distributions.elementwise_transforms import CumulativeDistributionTransform as CumulativeDistributionTransform
from flambeau.distributions.dirichlet import Dirichlet as Dirichlet
from flambeau.distributions.distribution import Distribution as Distribution
from flambeau.distributions.relaxed import ExpRelaxedCategorical as ExpRelaxedCategorical
from flambeau.distributions.elementwise_transforms import ExpTransform as ExpTransform
from flambeau.distributions.continuous import Exponential as Exponential
from flambeau.distributions.distribution import ExponentialFamily as ExponentialFamily
from flambeau.distributions.student import FisherSnedecor as FisherSnedecor
from flambeau.distributions.gamma import Gamma as Gamma
from flambeau.distributions.extremes import GeneralizedPareto as GeneralizedPareto
from flambeau.distributions.bernoulli import Geometric as Geometric
from flambeau.distributions.extremes import Gumbel as Gumbel
from flambeau.distributions.continuous import HalfCauchy as HalfCauchy
from flambeau.distributions.normal import HalfNormal as HalfNormal
from flambeau.distributions.transformed import Independent as Independent
from flambeau.distributions.transform import IndependentTransform as IndependentTransform
from flambeau.distributions.gamma import InverseGamma as InverseGamma
from flambeau.distributions.extremes import Kumaraswamy as Kumaraswamy
from flambeau.distributions.lkj_cholesky import LKJCholesky as LKJCholesky
from flambeau.distributions.continuous import Laplace as Laplace
from flambeau.distributions.normal import LogNormal as LogNormal
from flambeau.distributions.normal import LogisticNormal as LogisticNormal
from flambeau.distributions.relaxed import LogitRelaxedBernoulli as LogitRelaxedBernoulli
from flambeau.distributions.multivariate import LowRankMultivariateNormal as LowRankMultivariateNormal
from flambeau.distributions.matrix_transforms import LowerCholeskyTransform as LowerCholeskyTransform
from flambeau.distributions.transformed import MixtureSameFamily as MixtureSameFamily
from flambeau.distributions.categorical import Multinomial as Multinomial
from flambeau.distributions.multivariate import MultivariateNormal as MultivariateNormal
from flambeau.distributions.counts import NegativeBinomial as NegativeBinomial
from flambeau.distributions.normal import Normal as Normal
from flambeau.distributions.categorical import OneHotCategorical as OneHotCategorical
from flambeau.distributions.categorical import OneHotCategoricalStraightThrough as OneHotCategoricalStraightThrough
from flambeau.distributions.extremes import Pareto as Pareto
from flambeau.distributions.counts import Poisson as Poisson
from flambeau.distributions.matrix_transforms import PositiveDefiniteTransform as PositiveDefiniteTransform
from flambeau.distributions.elementwise_transforms import PowerTransform as PowerTransform
from flambeau.distributions.relaxed import RelaxedBernoulli as RelaxedBernoulli
from flambeau.distributions.relaxed import RelaxedOneHotCategorical as RelaxedOneHotCategorical
from flambeau.distributions.transform import ReshapeTransform as ReshapeTransform
from flambeau.distributions.elementwise_transforms import SigmoidTransform as SigmoidTransform
from flambeau.distributions.matrix_transforms import SoftmaxTransform as SoftmaxTransform
from flambeau.distributions.elementwise_transforms import SoftplusTransform as SoftplusTransform
from flambeau.distributions.transform import StackTransform as StackTransform
from flambeau.distributions.matrix_transforms import StickBreakingTransform as StickBreakingTransform
from flambeau.distributions.student import StudentT as StudentT
from flambeau.distributions.elementwise_transforms import TanhTransform as TanhTransform
from flambeau.distributions.transform import Transform as Transform
from flambeau.distributions.transformed import TransformedDistribution as TransformedDistribution
from flambeau.distributions.continuous import Uniform as Uniform
from flambeau.distributions.von_mises import VonMises as VonMises
from flambeau.distributions.extremes import Weibull as Weibull
from flambeau.distributions.wishart import Wishart as Wishart
from flambeau.distributions import constraints as constraints
from flambeau.distributions.kl import kl_divergence as kl_divergence
from flambeau.distributions.kl import register_kl as register_kl
from flambeau.distributions import transforms as transforms

biject_to: Any
transform_to: Any
