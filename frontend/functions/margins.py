"""Losses of margins between pairs: margin_ranking, hinge_embedding, cosine_embedding, triplet_margin.

In: predictions and targets; `reduction` is "mean", "sum" or "none". Out: a 0-d tensor, or one loss per sample. Formulas are
those of PyTorch's documentation. Next: `labels.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.function import Operand, Optional_, Static, Tensor_, function
from flambeau.functions.choose import clamp_min
from flambeau.functions.common import as_value, ops, promoted
from flambeau.functions.distances import pairwise_distance
from flambeau.functions.reduction import check_reduction, loss, reduce_loss
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, index

SIGNS = index(2, 6) * 2 - 1


def _not_below_zero(x: Value) -> Value:
    """max(x, 0), with the gradient of clamp: 1 at 0, none where x is NaN."""
    return clamp_min.rule(x, as_value(x, 0))


def _check_ranks(op: str, *ranks: int) -> None:
    """Raise RuntimeError unless three operands have as many dimensions."""
    if len(set(ranks)) > 1:
        raise RuntimeError(f"[{op}] operands have {ranks[0]}, {ranks[1]} and {ranks[2]} dimensions. Give all as many.")


def last_sum(x: Value) -> Value:
    """The sum along the last dimension."""
    return ops.sum(x, axes=(len(x.shape) - 1,))


# ---- margins ----------------------------------------------------------------------------------------------------


@loss(
    samples=calls(
        lambda: [
            *(call(data(6), data(6)[::-1].copy(), SIGNS, margin=0.3, reduction=r) for r in ("mean", "sum", "none")),
            call(data(2, 3), data(2, 3)[::-1].copy(), data(2, 3)),
            call(data(3), data(2, 3), data(3), error=(RuntimeError, "[margin_ranking_loss] operands have 1, 2 and 1")),
        ]
    )
)
def margin_ranking_loss(
    input1: Tensor_, input2: Tensor_, target: Tensor_, margin: Operand = 0, reduction: Static = "mean"
):
    """max(0, -target * (input1 - input2) + margin): whether the first should rank above the second (1) or below (-1). Raises
    RuntimeError where the numbers of dimensions differ."""
    _check_ranks("margin_ranking_loss", *(len(x.shape) for x in (input1, input2, target)))
    a, b, y, m = promoted("margin_ranking_loss", input1, input2, target, as_value(input1, margin))
    return reduce_loss("margin_ranking_loss", _not_below_zero(-y * (a - b) + m), reduction)


@loss(
    samples=calls(
        lambda: [
            *(call(data(6), SIGNS, margin=0.8, reduction=r) for r in ("mean", "sum", "none")),
            call(data(2, 3), SIGNS.reshape(2, 3)),
            call(data(2), data(2), reduction="most", error=(ValueError, "reduction")),
        ]
    )
)
def hinge_embedding_loss(input: Tensor_, target: Tensor_, margin: Operand = 1.0, reduction: Static = "mean"):
    """The input, a distance, where the target is 1; max(0, margin - input) where it is -1."""
    x, y, m = promoted("hinge_embedding_loss", input, target, as_value(input, margin))
    far = ops.select(y.ne(1), _not_below_zero(m - x), x.like(0))
    near = ops.select(y.ne(-1), x, x.like(0))
    return reduce_loss("hinge_embedding_loss", far + near, reduction)


@loss(
    samples=calls(
        lambda: [
            *(call(data(6, 4), data(6, 4)[::-1].copy(), SIGNS, margin=0.2, reduction=r) for r in ("mean", "none")),
            call(data(4), data(4)[::-1].copy(), SIGNS[1:2].reshape(()), reduction="sum"),
            call(data(2, 3), data(2, 3), data(3, 2), error=(RuntimeError, "needs a target of shape (2,)")),
        ]
    )
)
def cosine_embedding_loss(
    input1: Tensor_, input2: Tensor_, target: Tensor_, margin: Operand = 0, reduction: Static = "mean"
):
    """1 - cos of vectors [N, D] or [D] where the target, [N] or 0-d, is 1; max(0, cos - margin) where it is -1. Squared norms grow
    by 1e-12. Raises RuntimeError for shapes that do not fit."""
    a, b = promoted("cosine_embedding_loss", input1, input2, float_only=True)
    if len(a.shape) not in (1, 2) or target.shape != a.shape[:-1]:
        raise RuntimeError(
            f"[cosine_embedding_loss] input of shape {a.shape} needs a target of shape {a.shape[:-1]}, got {target.shape}. "
            "Pass [N, D] and [N], or [D] and a 0-d target."
        )
    cosine = last_sum(a * b) / ops.sqrt((last_sum(a * a) + 1e-12) * (last_sum(b * b) + 1e-12))
    y, m = target.cast(cosine.dtype), as_value(cosine, margin).cast(cosine.dtype).expand(cosine.shape)
    alike = ops.select(y.eq(1), 1.0 - cosine, cosine.like(0))
    apart = ops.select(y.eq(-1), _not_below_zero(cosine - m), cosine.like(0))
    return reduce_loss("cosine_embedding_loss", alike + apart, reduction)


@loss(
    samples=calls(
        lambda: [
            call(data(4, 3), data(4, 3)[::-1].copy(), data(4, 3) * 0.7),
            call(data(4, 3), data(4, 3)[::-1].copy(), data(4, 3) * 0.7, swap=True, margin=2.0, reduction="none"),
            call(data(3), data(3)[::-1].copy(), data(3) * 0.7, p=1.0, reduction="sum"),
            call(data(4, 3), data(4, 3)[::-1].copy(), data(4, 3) * 0.7, p=3.0),
            call(data(4, 3), data(3), data(3), error=(RuntimeError, "have 2, 1 and 1 dimensions")),
            call(data(3), data(3), data(3), margin=0.0, error=(ValueError, "margin is 0")),
        ]
    )
)
def triplet_margin_loss(
    anchor: Tensor_,
    positive: Tensor_,
    negative: Tensor_,
    margin: Static = 1.0,
    p: Static = 2,
    eps: Operand = 1e-6,
    swap: Static = False,
    reduction: Static = "mean",
):
    """max(0, margin + d(anchor, positive) - d(anchor, negative)) of vectors [..., D]; d is the p-norm of the difference + eps.
    `swap`: the negative may be compared with the positive, if that is nearer. Raises RuntimeError where the numbers of dimensions
    differ, ValueError for a margin that is not above 0."""
    op = "triplet_margin_loss"
    check_margin(op, margin)
    _check_ranks(op, *(len(x.shape) for x in (anchor, positive, negative)))
    a, b, c = promoted(op, anchor, positive, negative, float_only=True)
    eps = as_value(a, eps)
    near, far = (pairwise_distance.rule(a, other, p, eps) for other in (b, c))
    if swap:
        far = ops.minimum(far, pairwise_distance.rule(b, c, p, eps))
    return reduce_loss(op, _not_below_zero(near - far + margin), reduction)


def check_margin(op: str, margin: float) -> None:
    """Raise ValueError for a margin that is not above 0."""
    if not margin > 0:
        raise ValueError(f"[{op}] margin is {margin}. Use a number above 0.")


@function(name="triplet_margin_with_distance_loss")
def _triplet(near: Tensor_, far: Tensor_, swapped: Optional_, margin: Static, reduction: Static):
    op = "triplet_margin_with_distance_loss"
    near, far = promoted(op, near, far)
    if swapped is not None:
        far = ops.minimum(far, swapped.cast(far.dtype).expand(far.shape))
    return reduce_loss(op, _not_below_zero(near - far + margin), reduction)


@declared(
    free="nn.functional",
    samples=calls(
        lambda: [
            call(data(4, 3), data(4, 3)[::-1].copy(), data(4, 3) * 0.7),
            call(data(4, 3), data(4, 3)[::-1].copy(), data(4, 3) * 0.7, swap=True, margin=2.0, reduction="none"),
            call(data(3), data(3), data(3), margin=0.0, error=(ValueError, "margin is 0")),
        ]
    ),
)
def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """`triplet_margin_loss` with a distance of your own: a function of two tensors. Raises ValueError for a margin that is not
    above 0, RuntimeError where the numbers of dimensions differ."""
    op = "triplet_margin_with_distance_loss"
    check_margin(op, margin)
    check_reduction(op, reduction)
    _check_ranks(op, *(x.dim() for x in (anchor, positive, negative)))
    distance = distance_function or pairwise_distance
    swapped = distance(positive, negative) if swap else None
    return _triplet(distance(anchor, positive), distance(anchor, negative), swapped, float(margin), reduction)
