"""Random numbers by rejection, in a loop of the program: `poisson`, `binomial`, logarithms of gamma distributed ones.

In: parameters and a generator. Out: exact samples. A round proposes a number for every element, and the loop ends when each has
taken one. How many rounds there are is not known before, so the numbers come from a stream of their own, whose seed is drawn from
the generator. Parameters without a distribution give NaN. Next: `distributions/gamma.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from flambeau import generator as generators
from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import DType, float64, int64
from flambeau.dialects.region import build
from flambeau.function import Stream_, Tensor_, builder, function
from flambeau.functions.common import broadcast_shapes, check_between, check_floating, common_dtype, ops
from flambeau.functions.random import uniform_unit
from flambeau.generator import Generator
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data

#: Nobody needs as many rounds: one refuses less than half of the proposals.
_MOST_ROUNDS = 1000


class Round:
    """Where the proposals of one round get their numbers from."""

    def __init__(self, seed: Value, start: Value, shape: tuple[int, ...], dtype: DType) -> None:
        self.seed, self.at, self.shape, self.dtype = seed, start, shape, dtype

    def uniform(self) -> Value:
        """Uniform numbers in (0, 1]."""
        drawn = uniform_unit(self.seed, self.at, self.shape, self.dtype)
        self.at = self.at + math.prod(self.shape) * 2
        return 1.0 - drawn

    def normal(self) -> Value:
        """Normal numbers, by Box and Muller's formula."""
        radius, turn = self.uniform(), self.uniform()
        return ops.sqrt(ops.log(radius) * -2.0) * ops.cos(turn * (2.0 * math.pi))


def _own_seed(generator: Any) -> Value:
    """A seed of 64 bits, drawn from the generator after what the rule has drawn."""
    seed, offset = generator
    start = builder().draws
    builder().draws += 2
    words = (ops.random_bits(seed.cast(int64), offset.cast(int64) + start + n, shape=()).cast(int64) for n in (0, 1))
    high, low = words
    return ops.or_(ops.shl(high, high.like(32)), ops.and_(low, low.like(2**32 - 1)))


#: From numbers, the state and the parameters to (the new state, whether an element has its number).
Step = Callable[[Round, list[Value], list[Value]], tuple[list[Value], Value]]


def repeat(
    generator: Any, step: Step, uniforms: int, done: Value, state: list[Value], fixed: list[Value]
) -> list[Value]:
    """`step` on the elements that are not done, until all are; a round takes `uniforms` numbers per element."""
    shape, dtype = done.shape, fixed[0].dtype
    seed = _own_seed(generator)
    zero = seed * 0
    carried = [zero, done, *state]
    operands = [*carried, seed, *fixed]
    types, count = [v.aval for v in operands], len(state)

    def goes_on(i: Value, done: Value, *rest: Value) -> list[Value]:
        some = ops.any(ops.not_(done), axes=tuple(range(len(shape)))) if shape else ops.not_(done)
        return [ops.and_(i < _MOST_ROUNDS, some)]

    def body(i: Value, done: Value, *rest: Value) -> list[Value]:
        old, seed, fixed = list(rest[:count]), rest[count], list(rest[count + 1 :])
        numbers = Round(seed, i * (math.prod(shape) * 2 * uniforms), shape, dtype)
        new, accepted = step(numbers, old, fixed)
        kept = [ops.select(done, before, after) for before, after in zip(old, new, strict=True)]
        return [i + 1, ops.or_(done, accepted), *kept]

    found = ops.while_loop(*operands, goes_on=build(types, goes_on), body=build(types, body))
    return list(found[2:])


# ---- gamma ------------------------------------------------------------------------------------------------


def _propose_gamma(numbers: Round, state: list[Value], fixed: list[Value]) -> tuple[list[Value], Value]:
    """Marsaglia and Tsang (2000): d (1 + x / sqrt(9 d))**3 for a normal x, accepted by the ratio of the densities, as at least 95 %
    are. Logarithms of it."""
    (d,) = fixed
    x, accept = numbers.normal(), numbers.uniform()
    root = 1.0 + x / ops.sqrt(d * 9.0)
    good = root > 0.0
    log_v = ops.log(ops.select(good, root, root.like(1.0))) * 3.0
    limit = x * x * 0.5 + d * (1.0 - ops.exp(log_v) + log_v)
    return [ops.log(d) + log_v], ops.and_(good, ops.log(accept) < limit)


@function(name="Gamma")
def log_of_gamma(concentration: Tensor_, generator: Stream_ = generators.default_generator):
    """Logarithms of gamma distributed numbers of scale 1, which do not vanish as small ones would. For a concentration below 1:
    of one that is larger by 1, plus log(u) / concentration. Without gradient."""
    check_floating("Gamma", concentration)
    wide = concentration.cast(concentration.dtype.accumulation)
    valid = ops.and_(wide > 0.0, wide < math.inf)
    alpha = ops.select(valid, wide, wide.like(1.0))
    small = alpha < 1.0
    d = ops.select(small, alpha + 1.0, alpha) - 1.0 / 3.0
    (found,) = repeat(generator, _propose_gamma, 3, ops.not_(valid), [d * 0.0], [d])
    seed, offset = generator
    unit = 1.0 - uniform_unit(seed, offset.cast(int64) + 2, alpha.shape, alpha.dtype)  # after the seed
    builder().draws += 2 * math.prod(alpha.shape)
    lowered = found + ops.select(small, ops.log(unit) / alpha, alpha.like(0.0))
    return ops.select(valid, lowered, wide.like(math.nan)).cast(concentration.dtype)


# ---- counts -----------------------------------------------------------------------------------------------


def _log_factorial(k: Value) -> Value:
    return ops.lgamma(k + 1.0)


def _multiply(numbers: Round, state: list[Value], fixed: list[Value]) -> tuple[list[Value], Value]:
    """The number of factors u of a product until it is below exp(-mean), a factor a round (Knuth, 1969)."""
    (count, product), (least,) = state, fixed
    product = product * numbers.uniform()
    over = product < least
    return [ops.select(over, count, count + 1.0), product], over


def _propose_poisson(numbers: Round, state: list[Value], fixed: list[Value]) -> tuple[list[Value], Value]:
    """Hoermann's transformed rejection with squeeze for means from 10 (PTRS, 1993)."""
    (mean,) = fixed
    u, v = numbers.uniform(), numbers.uniform()
    b = ops.sqrt(mean) * 2.53 + 0.931
    a = b * 0.02483 - 0.059
    moved = u - 0.5
    us = 0.5 - ops.abs(moved)
    k = ops.floor((a * 2.0 / us + b) * moved + mean + 0.43)
    inside = ops.and_(k >= 0.0, ops.or_(us >= 0.013, v <= us))
    k_in = ops.maximum(k, k.like(0.0))
    inverse = 1.1239 + 1.1328 / (b - 3.4)
    ratio = ops.log(v) + ops.log(inverse / (a / (us * us) + b))
    return [k], ops.and_(inside, ratio <= k_in * ops.log(mean) - mean - _log_factorial(k_in))


#: From this mean on counts are proposed; below, they are counted up.
_LARGE = 10.0


@function(name="poisson", fallible=True)
def _poisson(input: Tensor_, generator: Stream_ = generators.default_generator):
    check_floating("poisson", input)
    mean = check_between("poisson", "input", input.cast(float64), 0, math.inf, "is negative. Use at least 0.")
    endless, large = mean.eq(mean.like(math.inf)), mean >= _LARGE
    zero = ops.select(large, mean.like(0.0), mean) * 0.0
    least = ops.exp(ops.select(large, zero, mean) * -1.0)
    counted, _ = repeat(generator, _multiply, 1, large, [zero, zero + 1.0], [least])
    wide = ops.select(ops.and_(large, ops.not_(endless)), mean, zero + _LARGE)
    (proposed,) = repeat(generator, _propose_poisson, 2, ops.or_(endless, ops.not_(large)), [zero], [wide])
    return ops.select(endless, mean, ops.select(large, proposed, counted)).cast(input.dtype)


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call(data(2, 3, low=0, high=40), gradient=False),
            call(np.array([1.0, -1.0]), error=(RuntimeError, "is negative")),
        ]
    ),
)
def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Numbers that are Poisson distributed with the means `input`, in its dtype.

    Raises RuntimeError for a mean below 0 (when the value is read).
    """
    return _poisson(input.detach(), generator)


def _wait(numbers: Round, state: list[Value], fixed: list[Value]) -> tuple[list[Value], Value]:
    """Waiting times log(u) / log(1 - p), one a round, until they exceed n (Devroye, 1986)."""
    (count, waited), (n, log_failing) = state, fixed
    waited = waited + ops.ceil(ops.log(numbers.uniform()) / log_failing)
    over = ops.or_(waited > n, log_failing.eq(log_failing.like(0.0)))
    return [ops.select(over, count, count + 1.0), waited], over


def _propose_binomial(numbers: Round, state: list[Value], fixed: list[Value]) -> tuple[list[Value], Value]:
    """Hoermann's transformed rejection for means n p from 10 and p up to 1/2 (BTRS, 1993)."""
    n, p, log_odds, mode, at_mode = fixed
    u, v = numbers.uniform(), numbers.uniform()
    deviation = ops.sqrt(n * p * (1.0 - p))
    b = deviation * 2.53 + 1.15
    a = b * 0.0248 + p * 0.01 - 0.0873
    alpha = (2.83 + 5.1 / b) * deviation
    moved = u - 0.5
    us = 0.5 - ops.abs(moved)
    k = ops.floor((a * 2.0 / us + b) * moved + n * p + 0.5)
    inside = ops.and_(k >= 0.0, k <= n)
    k_in = ops.minimum(ops.maximum(k, k.like(0.0)), n)
    limit = at_mode - _log_factorial(k_in) - _log_factorial(n - k_in) + (k_in - mode) * log_odds
    return [k], ops.and_(inside, ops.log(v * alpha / (a / (us * us) + b)) <= limit)


@function(name="binomial", fallible=True)
def _binomial(count: Tensor_, prob: Tensor_, generator: Stream_ = generators.default_generator):
    dtype = common_dtype("binomial", count, prob)
    shape = broadcast_shapes("binomial", count.shape, prob.shape)
    n = check_between("binomial", "count", count.cast(float64), 0, math.inf, "is negative. Use at least 0.")
    p = check_between("binomial", "prob", prob.cast(float64), 0, 1, "is not between 0 and 1. Use a probability.")
    n, p = ops.floor(n).expand(shape), p.expand(shape)
    flipped = p > 0.5
    rare = ops.select(flipped, 1.0 - p, p)
    large = n * rare >= _LARGE
    zero = n * 0.0
    counted, _ = repeat(generator, _wait, 1, large, [zero, zero], [n, ops.log1p(rare * -1.0)])
    wide_n, wide_p = ops.select(large, n, n.like(20.0)), ops.select(large, rare, rare.like(0.5))
    mode = ops.floor((wide_n + 1.0) * wide_p)
    at_mode = _log_factorial(mode) + _log_factorial(wide_n - mode)
    fixed = [wide_n, wide_p, ops.log(wide_p) - ops.log1p(wide_p * -1.0), mode, at_mode]
    (proposed,) = repeat(generator, _propose_binomial, 2, ops.not_(large), [zero], fixed)
    found = ops.select(large, proposed, counted)
    return ops.select(flipped, n - found, found).cast(dtype)


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call(np.array([5.0, 60.0, 0.0]), data(2, 3, low=0, high=1), gradient=False),
            call(np.array([5.0]), np.array([1.5]), error=(RuntimeError, "is not between 0 and 1")),
        ]
    ),
)
def binomial(count: Tensor, prob: Tensor, generator: Generator | None = None) -> Tensor:
    """How many of `count` trials succeed, each with probability `prob`; they broadcast, and the dtype is the common one.

    Raises RuntimeError for a count below 0 and a probability outside [0, 1] (when the value is read).
    """
    return _binomial(count.detach(), prob.detach(), generator)
