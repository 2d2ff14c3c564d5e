"""Samples of classes that have gradients: `gumbel_softmax`.

In: scores of classes. Out: probabilities, or one class each. Next: `dropout.py`.
"""

from __future__ import annotations

import warnings

import numpy as np
from flambeau import generator as generators
from flambeau.declarations import declared
from flambeau.dialects.dtypes import int64
from flambeau.function import Operand, Static, Stream_, Tensor_, function
from flambeau.functions.activation import softmax
from flambeau.functions.common import canonical_dim, check_floating, ops
from flambeau.functions.random import _uniform
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data


@function(name="gumbel_softmax")
def _gumbel(
    logits: Tensor_, tau: Operand, hard: Static, dim: Static, generator: Stream_ = generators.default_generator
):
    check_floating("gumbel_softmax", logits)
    x = logits.cast(logits.dtype.accumulation)
    axis = canonical_dim("gumbel_softmax", dim, len(x.shape))
    unit = _uniform(generator, x.shape, x.dtype)
    # -log(1 - u) is drawn from the exponential distribution; it is held above 0, whose logarithm would be infinite.
    waited = -ops.log1p(-unit)
    noise = -ops.log(ops.maximum(waited, waited.like(float(np.finfo(x.dtype.numpy).tiny))))
    soft = softmax.rule(((x + noise) / tau.cast(x.dtype).expand(x.shape)), axis)
    if not hard or not x.shape:
        return soft.cast(logits.dtype)
    kept = tuple(1 if d == axis else n for d, n in enumerate(x.shape))
    first = ops.reshape(ops.argmax(ops.stop_gradient(soft), axes=(axis,)), shape=kept).expand(x.shape)
    chosen = ops.iota(shape=x.shape, dim=axis, dtype=int64, builder=x.builder).eq(first).cast(x.dtype)
    return ((chosen - ops.stop_gradient(soft)) + soft).cast(logits.dtype)


@declared(
    free="nn.functional",
    samples=calls(
        lambda: [
            call(data(3, 4)),
            call(data(3, 4), 0.5, dim=0),
            call(data(3, 4), 2.0, True, gradient=False),
            call(data(3, 4), dim=2, error=(IndexError, "dim 2 is out of range")),
        ]
    ),
)
def gumbel_softmax(logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """softmax((logits + noise) / tau) along `dim`, with noise drawn from Gumbel's distribution; with `hard` 1 for the largest and
    0 for the others, with the gradient of the softmax. `eps` is an argument of old. Jang and others (2017)."""
    if eps != 1e-10:
        warnings.warn("[gumbel_softmax] eps is an argument of old and changes nothing.", stacklevel=2)
    return _gumbel(logits, tau, bool(hard), dim)
