"""Normalization of channels: batch_norm, instance_norm, group_norm, rms_norm, local_response_norm.

In: [batch, channels, spatial...]. Out: the same shape. Sums go over a channel's elements of each sample first, then over samples;
variances are those of centred elements. Next: `nn/batch_norm.py`.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau.autograd import no_grad
from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.function import Operand, Optional_, Sizes, Static, Tensor_, function, inplace
from flambeau.functions.assemble import pad
from flambeau.functions.average_pool import avg_pool2d, avg_pool3d
from flambeau.functions.common import check_floating, ops
from flambeau.functions.normalize import inverse_deviation, last_axes
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data


def _spread(v: Value, shape: tuple[Any, ...], axis: int = 1) -> Value:
    """A number per channel (or per what leads up to `axis`) in all places of `shape`."""
    rank = len(v.shape)
    start = axis if rank == 1 else 0
    kept = tuple(n if start <= k < start + rank else 1 for k, n in enumerate(shape))
    return ops.reshape(v, shape=kept).expand(shape)


def _affine(op: str, x: Value, weight: Value | None, bias: Value | None) -> Value:
    """Times `weight`, plus `bias`, of which there is one number per channel."""
    for name, extra in (("weight", weight), ("bias", bias)):
        if extra is None:
            continue
        if extra.shape != (x.shape[1],):
            raise RuntimeError(
                f"[{op}] {name} has shape {extra.shape} for {x.shape[1]} channels. Pass one number per channel."
            )
        spread = _spread(extra.cast(x.dtype), x.shape)
        x = x * spread if name == "weight" else x + spread
    return x


def _standardized(x: Value, mean: Value, variance: Value, eps: Value) -> Value:
    return (x - _spread(mean, x.shape)) * _spread(inverse_deviation(variance, eps), x.shape)


def _mean_of_channels(x: Value) -> Value:
    total = x
    if len(x.shape) > 2:
        total = ops.sum(total, axes=tuple(range(2, len(x.shape))))
    return ops.sum(total, axes=(0,)) / math.prod(n for k, n in enumerate(x.shape) if k != 1)


@function(name="batch_norm")
def _batch_norm(input: Tensor_, weight: Optional_, bias: Optional_, eps: Operand):
    """The result, and mean and unbiased variance of every channel."""
    check_floating("batch_norm", input)
    count = math.prod(n for k, n in enumerate(input.shape) if k != 1)
    mean = _mean_of_channels(input)
    centred = input - _spread(mean, input.shape)
    variance = _mean_of_channels(centred * centred)
    scale = inverse_deviation(variance, eps)
    result = _affine("batch_norm", centred * _spread(scale, input.shape), weight, bias)
    return result, mean, variance * (count / (count - 1))


@function(name="batch_norm")
def _batch_norm_by(input: Tensor_, mean: Tensor_, variance: Tensor_, weight: Optional_, bias: Optional_, eps: Operand):
    """By means and variances that are given."""
    check_floating("batch_norm", input)
    for name, stat in (("running_mean", mean), ("running_var", variance)):
        if stat.shape != (input.shape[1],):
            raise RuntimeError(
                f"[batch_norm] {name} has shape {stat.shape} for {input.shape[1]} channels. Pass one number each."
            )
    found = _standardized(input, mean.cast(input.dtype), variance.cast(input.dtype), eps)
    return _affine("batch_norm", found, weight, bias)


@inplace(name="batch_norm", writes=2)
def _track(running_mean: Tensor_, running_var: Tensor_, mean: Tensor_, variance: Tensor_, momentum: Operand):
    """Move running statistics towards those of a batch."""
    found = []
    for running, now in ((running_mean, mean), (running_var, variance)):
        if running.shape != now.shape:
            raise RuntimeError(
                f"[batch_norm] running statistics have shape {running.shape}, a batch {now.shape}. Make them agree."
            )
        m = momentum.cast(running.dtype).expand(running.shape)
        found.append(now.cast(running.dtype) * m + running * (m.like(1.0) - m))
    return tuple(found)


def _follow(running_mean: Tensor | None, running_var: Tensor | None, mean: Tensor, variance: Tensor, by: float) -> None:
    """Move the running statistics, where both are given, towards those of a batch."""
    if running_mean is not None and running_var is not None:
        with no_grad():
            _track(running_mean, running_var, mean.detach(), variance.detach(), by)


def _check_channels(op: str, shape: tuple[int, ...]) -> None:
    if len(shape) < 2:
        raise RuntimeError(f"[{op}] input has shape {shape}. Pass [batch, channels, ...].")


@declared(
    free="nn.functional",
    samples=calls(
        lambda: [
            call(data(3, 4), None, None, training=True),
            call(data(2, 3, 4), None, None, data(3), data(3), training=True),
            call(data(2, 3, 2, 2), data(3), data(3, low=0.5), data(3), data(3), eps=0.1),
            call(data(1, 3), None, None, training=True, error=(ValueError, "more than one value per channel")),
            call(data(2, 3), None, None, error=(RuntimeError, "running_mean and running_var")),
        ]
    ),
)
def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-05,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) for every channel, times `weight`, plus `bias`. In `training` mean and variance are those of the
    batch, and the running ones, where given, move towards them by `momentum` (the variance unbiased); else they are the
    running ones. Ioffe and Szegedy (2015). Raises ValueError for one value per channel and, in training, for an `eps` that is not
    above 0, RuntimeError for shapes that do not fit."""
    shape = tuple(input.shape)
    if shape == (0,):  # PyTorch takes an empty vector for no samples of no channels
        return input.clone()
    _check_channels("batch_norm", shape)
    if not training:
        if running_mean is None or running_var is None:
            raise RuntimeError(
                "[batch_norm] evaluation takes running_mean and running_var. Pass both, or training=True."
            )
        return _batch_norm_by(input, running_mean, running_var, weight, bias, eps)
    if math.prod(shape) == shape[1]:
        raise ValueError(
            f"[batch_norm] input of shape {shape}: it takes more than one value per channel. Use more samples."
        )
    if not isinstance(eps, Tensor) and not eps > 0:
        raise ValueError(f"[batch_norm] eps is {eps}. In training use a number above 0.")
    result, mean, variance = _batch_norm(input, weight, bias, eps)
    if 0 not in shape:  # nothing says nothing of the mean
        _follow(running_mean, running_var, mean, variance, momentum)
    return result


@function(name="instance_norm")
def _instance_norm(input: Tensor_, weight: Optional_, bias: Optional_, eps: Operand):
    check_floating("instance_norm", input)
    axes, count = tuple(range(2, len(input.shape))), math.prod(input.shape[2:])

    def mean(v: Value) -> Value:
        return ops.sum(v, axes=axes) / count

    middle = mean(input)
    centred = input - _spread(middle, input.shape)
    variance = mean(centred * centred)
    scale = inverse_deviation(variance, eps)
    result = _affine("instance_norm", centred * _spread(scale, input.shape), weight, bias)
    samples = input.shape[0]
    return result, ops.sum(middle, axes=(0,)) / samples, ops.sum(variance * (count / (count - 1)), axes=(0,)) / samples


@declared(
    free="nn.functional",
    samples=calls(
        lambda: [
            call(data(2, 3, 4)),
            call(data(2, 3, 2, 2), weight=data(3), bias=data(3)),
            call(data(2, 3, 2), data(3), data(3, low=0.5), use_input_stats=False),
            call(data(2, 3, 1), error=(ValueError, "more than one spatial element")),
        ]
    ),
)
def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-05,
) -> Tensor:
    """`batch_norm` of every sample by itself; running statistics move towards the means of the samples'. Without `use_input_stats`
    it is `batch_norm` by the running ones. Raises ValueError for one spatial element."""
    shape = tuple(input.shape)
    _check_channels("instance_norm", shape)
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise RuntimeError(
                "[instance_norm] without use_input_stats it takes running_mean and running_var. Pass both."
            )
        return _batch_norm_by(input, running_mean, running_var, weight, bias, eps)
    if math.prod(shape[2:]) == 1:
        raise ValueError(
            f"[instance_norm] input of shape {shape}: it takes more than one spatial element. Use evaluation."
        )
    result, mean, variance = _instance_norm(input, weight, bias, eps)
    _follow(running_mean, running_var, mean, variance, momentum)
    return result


@function(
    free="nn.functional",
    samples=calls(
        lambda: [
            call(data(2, 4, 3), 2),
            call(data(2, 4), 2, data(4), data(4)),
            call(data(2, 3, 2), 2, error=(RuntimeError, "3 channels")),
            call(data(3), 1, error=(RuntimeError, "input has shape (3,)")),
        ]
    ),
)
def group_norm(
    input: Tensor_, num_groups: Static, weight: Optional_ = None, bias: Optional_ = None, eps: Operand = 1e-05
):
    """Mean 0 and variance 1 over each of `num_groups` groups of channels of a sample; then times `weight`, plus `bias`, per
    channel. Wu and He (2018). Raises RuntimeError for shapes that do not fit."""
    x = input
    check_floating("group_norm", x)
    _check_channels("group_norm", x.shape)
    if num_groups < 1 or x.shape[1] % num_groups:
        raise RuntimeError(
            f"[group_norm] {x.shape[1]} channels are no {num_groups} groups. Use a number that divides them."
        )
    count = math.prod(x.shape[1:]) // num_groups
    grouped = ops.reshape(x, shape=(x.shape[0] * num_groups, count))

    def mean(v: Value) -> Value:
        return ops.reshape(ops.sum(v, axes=(1,)) / count, shape=(grouped.shape[0], 1))

    centred = grouped - mean(grouped).expand(grouped.shape)
    found = centred * inverse_deviation(mean(centred * centred), eps).expand(grouped.shape)
    return _affine("group_norm", ops.reshape(found, shape=x.shape), weight, bias)


@function(
    free="flambeau nn.functional",
    samples=calls(
        lambda: [
            call(data(3, 4), (4,)),
            call(data(2, 3, 4), (3, 4), data(3, 4), eps=0.1),
            call(data(3, 4), (3,), error=(RuntimeError, "(3,)")),
        ]
    ),
)
def rms_norm(input: Tensor_, normalized_shape: Sizes, weight: Optional_ = None, eps: Static = None):
    """x / sqrt(mean(x * x) + eps) over the last dimensions, which have `normalized_shape`; then times `weight`. `eps` is the
    distance from 1 to the next number of the dtype if left out. Zhang and Sennrich (2019). Raises RuntimeError for other shapes."""
    x = input
    check_floating("rms_norm", x)
    shape, axes = last_axes("rms_norm", x, normalized_shape)
    mean = ops.sum(x * x, axes=axes) / math.prod(shape)
    mean = ops.reshape(mean, shape=(*mean.shape, *(1 for _ in axes)))
    result = x * ops.rsqrt(mean + (2.0**-x.dtype.mantissa if eps is None else eps)).expand(x.shape)
    if weight is None:
        return result
    if weight.shape != shape:
        raise RuntimeError(f"[rms_norm] weight has shape {weight.shape}. Pass {shape}.")
    return result * weight.cast(x.dtype).expand(x.shape)


@declared(
    free="nn.functional",
    samples=calls(
        lambda: [
            call(data(2, 4, 3), 2),
            call(data(1, 5, 2, 2), 3, 0.5, 0.6, 1.5),
            call(data(3, 2), 2, error=(ValueError, "input has shape (3, 2)")),
        ]
    ),
)
def local_response_norm(input: Tensor, size: int, alpha: float = 0.0001, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """x / (k + alpha * mean of the squares of `size` neighbouring channels) ** beta, where channels that do not exist count as 0.
    Krizhevsky et al. (2012). Raises ValueError for less than three dimensions."""
    shape = tuple(input.shape)
    if len(shape) < 3:
        raise ValueError(f"[local_response_norm] input has shape {shape}. Pass [batch, channels, spatial...].")
    square, margins = input.mul(input).unsqueeze(1), (size // 2, (size - 1) // 2)
    if len(shape) == 3:
        mean = avg_pool2d(pad(square, (0, 0, *margins)), (size, 1), stride=1).squeeze(1)
    else:
        planes = square.reshape(shape[0], 1, shape[1], shape[2], math.prod(shape[3:]))
        mean = avg_pool3d(pad(planes, (0, 0, 0, 0, *margins)), (size, 1, 1), stride=1).squeeze(1).reshape(shape)
    return input / mean.mul(alpha).add(k).pow(beta)
