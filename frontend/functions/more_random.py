"""Random numbers of other distributions: normal, multinomial, and in place exponential_, geometric_, cauchy_, log_normal_, random_.

In: parameters, and a generator. Out: numbers made from those of `random.py`; equal seeds give equal bits on every machine. Next:
`inplace.py`.
"""

from __future__ import annotations

import math
import sys
from numbers import Number
from typing import Any

from flambeau import generator as generators
from flambeau.declarations import declared
from flambeau.device import Device
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import DType, bool_, float64, int64
from flambeau.function import Operand, Sizes, Static, Stream_, Tensor_, builder, function, inplace
from flambeau.functions.common import broadcast_shapes, check_between, check_floating, ops
from flambeau.functions.random import _draws, _moved, _normal, _randint, _uniform, check_drawn, randn
from flambeau.generator import Generator
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data

# ---- new tensors ------------------------------------------------------------------------------------------


@function(name="normal", fallible=True)
def _normal_of(mean: Operand, std: Operand, generator: Stream_ = generators.default_generator):
    tensor = mean if not mean.weak else std
    check_floating("normal", tensor, "the tensor")
    shape = broadcast_shapes("normal", mean.shape, std.shape)
    if not std.weak:
        std = check_between("normal", "std", std, 0, math.inf, "is negative. Use at least 0.")
    return _moved(_normal(generator, shape, tensor.dtype), mean, std).cast(tensor.dtype)


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call(data(2, 3), data(3, low=0.5, high=2), gradient=False),
            call(data(2, 3), gradient=False),
            call(0.5, data(3, low=0.5, high=2), gradient=False),
            call(1.0, 2.0, (2, 3)),
            call(0.0, -1.0, (2,), error=(RuntimeError, "Use at least 0")),
        ]
    ),
    recalled="types",
)
def normal(
    mean: Any,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """Normally distributed numbers, of means and deviations that are tensors, which broadcast, or of two numbers and a `size`.

    Raises RuntimeError for a negative deviation.
    """
    if not isinstance(std, Tensor) and not std >= 0:
        raise RuntimeError(f"[normal] std is {std}. Use at least 0.")
    if isinstance(mean, Tensor) or isinstance(std, Tensor):
        if size is not None:
            raise TypeError("[normal] a size goes with two numbers. Leave it out beside tensors.")
        return _normal_of(mean, std, generator)
    if size is None:
        raise TypeError("[normal] argument 'size' is missing. Pass it with two numbers, or pass a tensor.")
    for what, number in (("mean", mean), ("std", std)):
        if not isinstance(number, Number):
            raise TypeError(f"[normal] {what} is a {type(number).__name__}. Pass a number or a tensor.")
    made = randn(size, generator=generator, dtype=dtype, device=device) * std + mean
    return made.requires_grad_() if requires_grad else made


def _checked(weights: Value) -> Value:
    check_floating("multinomial", weights, error=RuntimeError)
    if len(weights.shape) not in (1, 2):
        raise RuntimeError(f"[multinomial] the tensor has shape {weights.shape}. Pass a vector or rows of weights.")
    if weights.shape[-1] == 0:
        raise RuntimeError("[multinomial] there are no weights. Pass at least one.")
    wide = weights.cast(float64)
    text = "is no weight. Use finite numbers of at least 0."
    return check_between("multinomial", "input", wide, 0, sys.float_info.max, text)


@function(name="multinomial", fallible=True)
def _with_replacement(input: Tensor_, count: Sizes, generator: Stream_ = generators.default_generator):
    weights = _checked(input)
    axis, shape = len(weights.shape) - 1, (*weights.shape[:-1], count, weights.shape[-1])
    sums = ops.cumsum(weights, axis=axis, reverse=False)
    total = ops.sum(weights, axes=(axis,))
    total = check_between("multinomial", "sum", total, 5e-324, math.inf, "of weights is 0. Use some above 0.")
    place = ops.reshape(total, shape=(*total.shape, 1)).expand(shape[:-1]) * _uniform(generator, shape[:-1], float64)
    below = ops.reshape(sums, shape=(*sums.shape[:-1], 1, sums.shape[-1])).expand(shape) <= ops.reshape(
        place, shape=(*place.shape, 1)
    ).expand(shape)
    found = ops.sum(below.cast(int64), axes=(axis + 1,))
    position = ops.iota(shape=weights.shape, dim=axis, dtype=int64, builder=weights.builder)
    last = ops.max(ops.select(weights > 0.0, position, position.like(0)), axes=(axis,))
    return ops.minimum(found, ops.reshape(last, shape=(*last.shape, 1)).expand(found.shape))


@function(name="multinomial", fallible=True)
def _without_replacement(input: Tensor_, count: Static, generator: Stream_ = generators.default_generator):
    """Exponential clocks, of which the fastest are taken."""
    weights = _checked(input)
    axis = len(weights.shape) - 1
    enough = ops.sum((weights > 0.0).cast(int64), axes=(axis,))
    text = f"weights are above 0, for {count} positions. Draw fewer, or with replacement."
    enough = check_between("multinomial", "of the input only this number of", enough, max(count, 1), math.inf, text)
    clocks = weights / (ops.log(1.0 - _uniform(generator, weights.shape, float64)) * -1.0 + 5e-324)
    nothing = ops.reshape(enough * 0, shape=(*enough.shape, 1)).expand(weights.shape).cast(float64)
    speed = ops.select(weights > 0.0, clocks + nothing, clocks.like(-1.0))
    position = ops.iota(shape=weights.shape, dim=axis, dtype=int64, builder=weights.builder)
    found = []
    for _ in range(count):
        fastest = ops.argmax(speed, axes=(axis,))
        found.append(ops.reshape(fastest, shape=(*fastest.shape, 1)))
        speed = ops.select(position.eq(found[-1].expand(weights.shape)), speed.like(-2.0), speed)
    return ops.concat(*found, dim=axis)


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(2, 4, low=0.5, high=2), 3, gradient=False),
            call(data(4, low=0.5, high=2), 6, True, gradient=False),
            call(data(4, low=0.5, high=2), 5, error=(RuntimeError, "without replacement")),
        ]
    ),
    recalled="operand",
)
def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """`num_samples` positions (int64) for each row of weights, drawn in proportion to these, each once or with `replacement`.

    Raises RuntimeError for more positions than there are weights without replacement, and for weights that are negative, not finite
    or all 0 (when a value is read).
    """
    if num_samples <= 0:
        raise RuntimeError(f"[multinomial] num_samples is {num_samples}. Use at least 1.")
    if replacement:
        return _with_replacement(input, num_samples, generator)
    if input.ndim and num_samples > input.shape[-1]:
        raise RuntimeError(
            f"[multinomial] {num_samples} positions of {input.shape[-1]} cannot be drawn without replacement. Draw fewer."
        )
    return _without_replacement(input, num_samples, generator)


# ---- in place ---------------------------------------------------------------------------------------------


def _open(generator: Any, x: Value) -> Value:
    """Uniform numbers in (0, 1], in the accumulation dtype."""
    unit = _uniform(generator, x.shape, x.dtype)
    return 1.0 - unit.cast(unit.dtype.accumulation)


@inplace(name="exponential_")
def _exponential_(input: Tensor_, rate: Operand, generator: Stream_ = generators.default_generator):
    check_floating("exponential_", input, error=RuntimeError)
    unit = _open(generator, input)
    return ops.log(unit) * -1.0 / rate.cast(unit.dtype).expand(input.shape)


@inplace(name="geometric_")
def _geometric_(input: Tensor_, p: Operand, generator: Stream_ = generators.default_generator):
    unit = 1.0 - _uniform(generator, input.shape, float64)
    drawn = ops.ceil(ops.log(unit) / ops.log1p(p.cast(float64) * -1.0).expand(input.shape))
    return ops.maximum(drawn, drawn.like(1.0)).cast(input.dtype)


@inplace(name="cauchy_")
def _cauchy_(input: Tensor_, median: Operand, sigma: Operand, generator: Stream_ = generators.default_generator):
    check_floating("cauchy_", input, error=RuntimeError)
    angle = (_open(generator, input) - 0.5) * math.pi
    median, sigma = (v.cast(angle.dtype).expand(input.shape) for v in (median, sigma))
    return median + sigma * (ops.sin(angle) / ops.cos(angle))


@inplace(name="log_normal_")
def _log_normal_(input: Tensor_, mean: Operand, std: Operand, generator: Stream_ = generators.default_generator):
    check_floating("log_normal_", input)
    return ops.exp(_moved(_normal(generator, input.shape, input.dtype), mean, std))


@inplace(name="random_")
def _random_(input: Tensor_, low: Operand, high: Operand, generator: Stream_ = generators.default_generator):
    return _randint.rule(input.shape, input.dtype if input.dtype is not bool_ else int64, low, high, generator).cast(
        input.dtype
    )


@inplace(name="random_")
def _random_bits_(input: Tensor_, generator: Stream_ = generators.default_generator):
    """63 random bits."""
    seed, offset = generator
    count = _draws(input.shape, int64)
    builder().draws += 2 * count
    drawn = (ops.random_bits(seed.cast(int64), offset.cast(int64) + n, shape=input.shape) for n in (0, count))
    high, low = (ops.and_(bits.cast(int64), bits.cast(int64).like(2**32 - 1)) for bits in drawn)
    return ops.or_(ops.shl(high, high.like(31)), ops.shr(low, low.like(1)))


@declared(method=True, samples=calls(lambda: [call(data(3, 4), 2.0, gradient=False)]), recalled="operand")
def exponential_(input: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with exponentially distributed numbers of rate `lambd`. Raises RuntimeError for a rate that is not positive."""
    if not lambd > 0:
        raise RuntimeError(f"[exponential_] lambd is {lambd}. Use a positive number.")
    return _exponential_(input, lambd, generator)


@declared(method=True, samples=calls(lambda: [call(data(3, 4), 0.25, gradient=False)]), recalled="operand")
def geometric_(input: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fill with the number of trials, each of which succeeds with probability `p`, up to the first success.

    Raises RuntimeError for p outside of (0, 1).
    """
    if not 0 < p < 1:
        raise RuntimeError(f"[geometric_] p is {p}. Use a probability between 0 and 1.")
    return _geometric_(input, p, generator)


@declared(method=True, samples=calls(lambda: [call(data(3, 4), 1.0, 2.0, gradient=False)]), recalled="operand")
def cauchy_(input: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers of a Cauchy distribution. Raises RuntimeError for a sigma that is not positive."""
    if not sigma > 0:
        raise RuntimeError(f"[cauchy_] sigma is {sigma}. Use a positive number.")
    return _cauchy_(input, median, sigma, generator)


@declared(method=True, samples=calls(lambda: [call(data(3, 4), 0.0, 0.5, gradient=False)]), recalled="operand")
def log_normal_(input: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers whose logarithms are normally distributed. Raises RuntimeError for a std that is not positive."""
    if not std > 0:
        raise RuntimeError(f"[log_normal_] std is {std}. Use a positive number.")
    return _log_normal_(input, mean, std, generator)


@declared(
    method=True,
    samples=calls(
        lambda: [call(data(3, 4), 2, 7, gradient=False), call(data(3), 5, 5, error=(RuntimeError, "larger"))]
    ),
    recalled="operand",
)
def random_(input: Tensor, from_: int = 0, to: int | None = None, *, generator: Generator | None = None) -> Tensor:
    """Fill with whole numbers from `from_` to `to` - 1; `random_(to)` starts at 0; without bounds, up to the largest that the dtype
    holds, of floats up to which it holds all. Raises RuntimeError for an empty range."""
    low, high = (0, from_) if to is None and from_ else (from_, to)
    if high is None:
        if input.dtype is int64:
            return _random_bits_(input, generator)
        largest = 2 ** (input.dtype.mantissa + 1) if input.dtype.is_floating_point else input.dtype.greatest
        high = int(largest) + 1
    if high <= low:
        raise RuntimeError(f"[random_] there is no integer from {low} to {high} - 1. Make the upper bound larger.")
    check_drawn("random_", input.dtype, low, high)
    return _random_(input, low, high, generator)
