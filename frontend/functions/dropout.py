"""Dropouts: of elements, of whole channels, and those that keep mean and variance of SELU's results.

In: a tensor and a probability. Out: the same shape; the tensor itself unless `training`. Next: `normalize.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau import generator as generators
from flambeau.declarations import declare, declared
from flambeau.dialects.builder import Value
from flambeau.function import Function, Operand, Static, Stream_, Tensor_, function, inplace
from flambeau.functions.common import check_floating, ops
from flambeau.functions.random import _uniform
from flambeau.runtime.recorder import Tensor
from flambeau.samples import Samples, call, calls, data

#: The least value of SELU, negated. Klambauer et al. (2017).
_ALPHA = 1.7580993408473766


def changes_nothing(op: str, p: float, training: bool) -> bool:
    """Whether nothing is dropped. Raises ValueError for what is no probability."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"[{op}] p is {p}. Use a probability from 0 to 1.")
    return not training or p == 0.0


def dropped(input: Value, p: Value, generator: Any) -> Value:
    """`dropout` in a rule, by a generator of that."""
    x = input.cast(input.dtype.accumulation)
    p = p.cast(x.dtype)
    keep = _uniform(generator, x.shape, x.dtype) >= p.expand(x.shape)
    scale = p.like(1.0) / (p.like(1.0) - p)
    kept = ops.select(keep, x, x.like(0.0)) * ops.select(p < 1.0, scale, p.like(0.0)).expand(x.shape)
    return kept.cast(input.dtype)


@function(name="dropout")
def _dropout(input: Tensor_, p: Operand, generator: Stream_ = generators.default_generator):
    check_floating("dropout", input)
    return dropped(input, p, generator)


_dropout_ = inplace(name="dropout")(_dropout.rule)


@declared(
    free="flambeau nn.functional",
    samples=calls(
        lambda: [call(data(3, 4), 0.25), call(data(3, 4), training=False), call(data(2), 1.5, error=(ValueError, ""))]
    ),
    recalled="operand",
)
def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`input` with elements set to 0 with probability `p` and the others divided by 1 - p; itself unless `training`.

    Raises ValueError for p outside of [0, 1].
    """
    if changes_nothing("dropout", p, training):
        return input
    return (_dropout_ if inplace else _dropout)(input, p)


# ---- of channels, and for SELU -----------------------------------------------------------------------------


def _kept(op: str, x: Value, p: Value, generator: Any, channels: bool) -> Value:
    """1 where an element, or all of a channel, stays."""
    if channels and len(x.shape) < 2:
        raise RuntimeError(f"[{op}] input has shape {x.shape}. Pass at least [batch, channels].")
    shape = tuple(n if k < 2 else 1 for k, n in enumerate(x.shape)) if channels else x.shape
    drawn = _uniform(generator, shape, x.dtype) >= p.expand(shape)
    return ops.select(drawn, p.like(1.0).expand(shape), p.like(0.0).expand(shape)).expand(x.shape)


def _by_channel(input: Tensor_, p: Operand, op: Static, generator: Stream_ = generators.default_generator):
    check_floating(op, input)
    x = input.cast(input.dtype.accumulation)
    p = p.cast(x.dtype)
    kept = _kept(op, x, p, generator, True)
    scale = ops.select(p < 1.0, p.like(1.0) / (p.like(1.0) - p), p.like(0.0))
    return (x * kept * scale.expand(x.shape)).cast(input.dtype)


def _alpha(input: Tensor_, p: Operand, op: Static, channels: Static, generator: Stream_ = generators.default_generator):
    check_floating(op, input)
    x = input.cast(input.dtype.accumulation)
    p = p.cast(x.dtype)
    kept = _kept(op, x, p, generator, channels)
    one = p.like(1.0)
    a = ops.select(p < 1.0, one / ops.sqrt((p * (_ALPHA * _ALPHA) + 1.0) * (one - p)), p.like(0.0)).expand(x.shape)
    shift = (kept - 1.0) * (a * _ALPHA) + a * p.expand(x.shape) * _ALPHA
    return (x * kept * a + shift).cast(input.dtype)


def _forms(rule: Any, *names: str) -> dict[str, tuple[Function, Function]]:
    """By name: the function that gives a new tensor, and the one that stores its result in the first operand."""
    return {n: (function(name=n)(rule), inplace(name=n)(rule)) for n in names}


_FORMS = _forms(_by_channel, "dropout1d", "dropout2d", "dropout3d", "feature_dropout") | _forms(
    _alpha, "alpha_dropout", "feature_alpha_dropout"
)


def _dropped(op: str, input: Tensor, p: float, training: bool, inplace: bool, *more: Any) -> Tensor:
    if changes_nothing(op, p, training):
        return input
    return _FORMS[op][1 if inplace else 0](input, p, op, *more)


def _samples(*shape: int) -> Samples:
    return calls(
        lambda: [
            call(data(*shape), 0.25, True),
            call(data(*shape), training=False),
            call(data(*shape), 1.5, error=(ValueError, "p is 1.5")),
        ]
    )


@declared(free="nn.functional", samples=_samples(2, 3, 4), recalled="operand")
def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`dropout` of whole channels of [(batch,) channels, length]. Raises ValueError for p outside of [0, 1], RuntimeError for other
    shapes."""
    if input.ndim not in (2, 3):
        raise RuntimeError(f"[dropout1d] input has shape {tuple(input.shape)}. Pass [(batch,) channels, length].")
    if input.ndim == 3:
        return _dropped("dropout1d", input, p, training, inplace)
    found = _dropped("dropout1d", input.unsqueeze(0), p, training, inplace).squeeze(0)
    return input if inplace else found


@declared(free="nn.functional", samples=_samples(2, 3, 2, 2), recalled="operand")
def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`dropout` of whole channels of [batch, channels, height, width]. Raises ValueError for p outside of [0, 1]."""
    return _dropped("dropout2d", input, p, training, inplace)


@declared(free="nn.functional", samples=_samples(2, 3, 1, 2, 2), recalled="operand")
def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`dropout` of whole channels of [batch, channels, depth, height, width]. Raises ValueError for p outside of [0, 1]."""
    return _dropped("dropout3d", input, p, training, inplace)


@declared(free="nn.functional", samples=_samples(3, 4), recalled="operand")
def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Elements set to the least value of `selu` with probability `p`, and all scaled and shifted so that mean 0 and variance 1
    stay. Raises ValueError for p outside of [0, 1]."""
    return _dropped("alpha_dropout", input, p, training, inplace, False)


@declared(free="nn.functional", samples=_samples(2, 3, 4), recalled="operand")
def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """`alpha_dropout` of whole channels of [batch, channels, ...]. Raises ValueError for p outside of [0, 1]."""
    return _dropped("feature_alpha_dropout", input, p, training, inplace, True)


# ---- in place, as functions ------------------------------------------------------------------------------------


def _stored(name: str, whole: Callable[..., Tensor], *shape: int) -> None:
    def in_place(input: Tensor, p: float, train: bool) -> Tensor:
        return whole(input, p, train, True)

    in_place.__doc__ = f"`{whole.__name__}` in place."
    declare(in_place, name, free="flambeau", samples=_samples_of_training(*shape))


def _samples_of_training(*shape: int) -> Samples:
    return calls(
        lambda: [
            call(data(*shape), 0.25, True, gradient=False),
            call(data(*shape), 0.25, False, gradient=False),
            call(data(*shape), 1.5, True, error=(ValueError, "p is 1.5")),
        ]
    )


def _of_channels(input: Tensor, p: float, train: bool, inplace: bool) -> Tensor:
    return _dropped("feature_dropout", input, p, train, inplace)


_of_channels.__name__ = "feature_dropout"
_stored("dropout_", dropout, 3, 4)
_stored("feature_dropout_", _of_channels, 2, 3, 4)
_stored("alpha_dropout_", alpha_dropout, 3, 4)
_stored("feature_alpha_dropout_", feature_alpha_dropout, 2, 3, 4)
