"""Cross entropy of scores that are a product with the weight of a last layer: `linear_cross_entropy`.

In: features, the weight, targets. Out: a 0-d tensor, or one loss per target. PyTorch's `options` say how many scores exist at a
time; here that is for the compiler to decide. Next: `../nn/linear_loss.py`.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau.declarations import declared
from flambeau.functions.linear import linear
from flambeau.functions.loss import cross_entropy
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, index


@declared(
    free="nn.functional",
    samples=calls(
        lambda: [
            call(data(4, 3), data(5, 3), index(5, 4)),
            call(data(4, 3), data(5, 2, 3), index(5, 4, 2), linear_bias=data(5, 2), reduction="none"),
            call(data(3), data(5, 3), data(5, low=0, high=1), weight=data(5, low=0.5, high=2), label_smoothing=0.1),
            call(data(4, 3), data(5, 3), index(5, 4), ignore_index=1, reduction="sum"),
            call(data(4, 3), data(5, 2), index(5, 4), error=(RuntimeError, "last sizes")),
        ]
    ),
)
def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Tensor:
    """`cross_entropy` of `linear(input, linear_weight, linear_bias)`: `input` [N, K] or [K], `linear_weight` [C, ..., K],
    `linear_bias` [C, ...]; targets as those of scores [N, C, ...]. `options` change nothing.

    Raises RuntimeError for shapes that do not fit and for an `ignore_index` of probabilities, and what `cross_entropy` raises.
    """
    (*batch, width), (classes, *places, _) = _shapes(input, linear_weight, linear_bias)
    shape = (*batch, classes, *places)
    if ignore_index is not None and tuple(target.shape) == shape:
        raise RuntimeError(
            "[linear_cross_entropy] ignore_index is of class indices, not of probabilities. Leave it out."
        )
    rows = linear_weight.reshape(math.prod(places, start=classes), width) if places else linear_weight
    bias = linear_bias.reshape(-1) if linear_bias is not None and places else linear_bias
    scores = linear(input, rows, bias)
    return cross_entropy(
        scores.reshape(shape) if places else scores,
        target,
        weight,
        ignore_index=-100 if ignore_index is None else ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )


def _shapes(input: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Those of input and weight. Raises RuntimeError where they do not fit."""
    op, x, w = "linear_cross_entropy", tuple(input.shape), tuple(weight.shape)
    if len(x) not in (1, 2) or len(w) < 2 or (len(w) > 2 and len(x) == 1):
        raise RuntimeError(
            f"[{op}] input has shape {x}, linear_weight {w}. Pass [N, features] or [features], and [classes, ..., features]; "
            "places between need a batch."
        )
    if x[-1] != w[-1]:
        raise RuntimeError(f"[{op}] input has shape {x}, linear_weight {w}. Make the last sizes equal.")
    if bias is not None and tuple(bias.shape) != w[:-1]:
        raise RuntimeError(
            f"[{op}] linear_bias has shape {tuple(bias.shape)}, linear_weight {w}. Give it shape {w[:-1]}."
        )
    return x, w
