"""Losses: mse, l1, huber, cross entropy, nll, binary cross entropies, kl_div.

In: predictions and targets; `reduction` is "mean", "sum" or "none". Out: a 0-d tensor, or one loss per element.
Formulas are those of PyTorch's documentation, arranged so that rows stay in one pass. Next: `margins.py`.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import int64, uint8
from flambeau.function import Number, Operand, Optional_, Static, Tensor_, function
from flambeau.functions.activation import log_sigmoid, log_softmax_of
from flambeau.functions.common import as_value, broadcast_shapes, check_between, check_floating, ops, promoted
from flambeau.functions.reduction import check_reduction, loss, reduce_loss, total
from flambeau.samples import call, calls, data, index, losses

_LEAST = math.ulp(0.0)  # the least number above 0


# ---- distances --------------------------------------------------------------------------------------------


def _pair(op: str, input: Value, target: Value) -> list[Value]:
    if input.shape != target.shape:
        warnings.warn(
            f"[{op}] the target's shape {target.shape} differs from the input's {input.shape}; they broadcast, which is "
            "rarely meant. Make the shapes equal.",
            stacklevel=2,
        )
    return promoted(op, input, target)


_WEIGHTED = calls(
    lambda: [
        *(
            call(data(2, 3), data(2, 3), reduction=r, weight=data(2, 3, low=0.5, high=2))
            for r in ("mean", "sum", "none")
        ),
        call(data(2, 3), data(2, 3), weight=data(3), error=(ValueError, "weight has shape (3,)")),
    ]
)


def _multiplied(op: str, loss: Value, input: Value, weight: Value | None) -> Value:
    if weight is None:
        return loss
    if weight.shape != input.shape:
        raise ValueError(f"[{op}] weight has shape {weight.shape}, the input {input.shape}. Make them equal.")
    x, factor = promoted(op, loss, weight.expand(loss.shape))
    return x * factor


def _reduced_by_weight(op: str, loss: Value, input: Value, reduction: str, weight: Value | None) -> Value:
    return reduce_loss(op, _multiplied(op, loss, input, weight), reduction, weight)


@loss(samples=losses() + _WEIGHTED)
def mse_loss(input: Tensor_, target: Tensor_, reduction: Static = "mean", weight: Optional_ = None):
    """The squared difference; times `weight`, of the input's shape, and then the mean is over the weights. Raises ValueError for
    a weight of another shape."""
    x, y = _pair("mse_loss", input, target)
    difference = x - y
    return _reduced_by_weight("mse_loss", difference * difference, input, reduction, weight)


@loss(samples=losses() + _WEIGHTED)
def l1_loss(input: Tensor_, target: Tensor_, reduction: Static = "mean", weight: Optional_ = None):
    """The absolute difference; times `weight`, of the input's shape, and then the mean is over the weights. Raises ValueError for
    a weight of another shape."""
    x, y = _pair("l1_loss", input, target)
    return _reduced_by_weight("l1_loss", ops.abs(x - y), input, reduction, weight)


@loss(samples=losses() + losses(beta=0.5), fallible=True)
def smooth_l1_loss(input: Tensor_, target: Tensor_, reduction: Static = "mean", beta: Operand = 1.0):
    """Half the squared difference over `beta` where it is below `beta`, the absolute one minus beta / 2 elsewhere."""
    x, y = _pair("smooth_l1_loss", input, target)
    beta = check_between("smooth_l1_loss", "beta", beta, 0, math.inf, "is negative or NaN. Use at least 0.")
    difference, bound = promoted("smooth_l1_loss", x - y, beta)
    distance = ops.abs(difference)
    near = ops.and_(ops.not_(distance >= bound), bound > 0)  # NaN is near, as in PyTorch
    inner = ops.select(near, difference, difference.like(0.0))  # the masked side: no infinity in its gradient
    safe = ops.select(near, bound, bound.like(1.0))
    loss = ops.select(near, inner * inner * 0.5 / safe, distance - bound * 0.5)
    return reduce_loss("smooth_l1_loss", loss, reduction)


@function(free="nn.functional", samples=losses() + losses(delta=0.5) + _WEIGHTED, fallible=True)
def huber_loss(
    input: Tensor_,
    target: Tensor_,
    reduction: Static = "mean",
    delta: Operand = 1.0,
    weight: Optional_ = None,
):
    """Half the squared difference up to `delta`, `delta` times the absolute one minus delta / 2 beyond; times `weight`, of the
    input's shape. Raises ValueError for a weight of another shape."""
    x, y = _pair("huber_loss", input, target)
    delta = check_between("huber_loss", "delta", delta, _LEAST, math.inf, "is not above 0. Use a number above 0.")
    difference, bound = promoted("huber_loss", x - y, delta)
    distance = ops.abs(difference)
    near = ops.not_(distance >= bound)  # NaN is near, as in PyTorch
    inner = ops.select(near, difference, difference.like(0.0))  # the masked side: no infinity in its gradient
    loss = ops.select(near, inner * inner * 0.5, bound * (distance - bound * 0.5))
    return reduce_loss("huber_loss", _multiplied("huber_loss", loss, input, weight), reduction)


@loss(
    samples=losses(low=0.1, high=1)
    + losses(low=0.1, high=1, log_target=True)
    + calls(lambda: [call(data(2, 3), data(2, 3), reduction="batchmean", log_target=True)]),
)
def kl_div(input: Tensor_, target: Tensor_, reduction: Static = "mean", log_target: Static = False):
    """target * (log(target) - input), `input` being log-probabilities; "batchmean" divides the sum by the first size."""
    check_reduction("kl_div", reduction, "batchmean")
    x, y = _pair("kl_div", input, target)
    if log_target:
        loss = ops.exp(y) * (y - x)
    else:
        nothing = y.eq(0)
        safe = ops.select(nothing, y.like(1.0), y)
        loss = ops.select(nothing, y.like(0.0), y * ops.log(safe)) - y * x
    if reduction == "batchmean":
        return total(loss) / loss.shape[0]
    return reduce_loss("kl_div", loss, reduction)


# ---- classes ----------------------------------------------------------------------------------------------


def _class_dim(op: str, input: Value, target: Value) -> tuple[int, Value]:
    """Dimension 1, or 0 without a batch, and the class indices, of the shape of the rest; without a batch (1,) will do.

    Raises for class indices of another shape: ValueError where the batches differ, else RuntimeError.
    """
    check_floating(op, input)
    if not input.shape:
        raise RuntimeError(f"[{op}] input is 0-d. Pass [classes], [batch, classes] or [batch, classes, ...].")
    dim = 1 if len(input.shape) > 1 else 0
    rest = (*input.shape[:dim], *input.shape[dim + 1 :])
    if not dim and target.shape == (1,):
        target = ops.reshape(target, shape=())
    if target.shape != rest:
        if target.shape == input.shape and op == "cross_entropy":
            raise RuntimeError(
                f"[{op}] the target has the input's shape {input.shape}, so it is of probabilities, and dtype {target.dtype}. "
                "Convert it to the input's dtype, or give class indices."
            )
        error = ValueError if not dim or target.shape[:1] != input.shape[:1] else RuntimeError
        raise error(
            f"[{op}] input of shape {input.shape} needs class indices of shape {rest}, got {target.shape}. Check the target."
        )
    if target.dtype not in (int64, uint8):
        raise RuntimeError(f"[{op}] class indices have dtype {target.dtype}. Convert the target with .long().")
    return dim, target


def weight_along(op: str, x: Value, weight: Value, dim: int) -> Value:
    """One weight per class, along the class dimension of x and as large as x."""
    count = x.shape[dim]
    if weight.shape != (count,):
        raise RuntimeError(f"[{op}] weight has shape {weight.shape}. Give one weight for each of {count} classes.")
    if weight.dtype is not x.dtype:
        raise RuntimeError(f"[{op}] weight is {weight.dtype}, the input {x.dtype}. Convert it with .to().")
    along = tuple(count if d == dim else 1 for d in range(len(x.shape)))
    return ops.reshape(weight, shape=along).expand(x.shape)


class _CountedClasses:
    """Class indices beside predictions x: which are counted, the mask of the target class, and weights."""

    def __init__(self, op: str, x: Value, target: Value, dim: int, weight: Value | None, ignore_index: Value) -> None:
        self.op, self.dim, target = op, dim, target.cast(int64)
        self.counted = target.ne(ignore_index.expand(target.shape))
        index = ops.select(self.counted, target, target.like(0))
        index = ops.check_index(index, size=x.shape[dim], op=op, what="target", negative=False)
        unit = tuple(1 if d == dim else n for d, n in enumerate(x.shape))
        classes = ops.iota(shape=x.shape, dim=dim, dtype=int64, builder=x.builder)
        self.mask = classes.eq(ops.reshape(index, shape=unit).expand(x.shape))
        self.class_weight = None if weight is None else weight_along(op, x, weight, dim)
        ones = self.counted.cast(x.dtype)
        self.weight = ones if self.class_weight is None else self.pick(self.class_weight) * ones

    def pick(self, x: Value) -> Value:
        """x at the target class."""
        return ops.sum(ops.select(self.mask, x, x.like(0)), axes=(self.dim,))

    def reduce(self, loss: Value, reduction: str) -> Value:
        """Ignored rows count nothing; the mean divides by the sum of weights."""
        check_reduction(self.op, reduction)
        loss = ops.select(self.counted, loss, loss.like(0))
        if reduction == "none":
            return loss
        return total(loss) if reduction == "sum" else total(loss) / total(self.weight)


@loss(
    samples=calls(
        lambda: [
            call(data(4, 3), index(3, 4)),
            call(data(4, 3), index(3, 4), data(3, low=0.5, high=2), reduction="sum"),
            call(data(2, 3, 5), index(3, 2, 5), ignore_index=1, reduction="none"),
            call(data(4, 3), index(3, 5), error=(ValueError, "5")),
        ]
    ),
    fallible=True,
    old_before="ignore_index",
)
def nll_loss(
    input: Tensor_,
    target: Tensor_,
    weight: Optional_ = None,
    ignore_index: Number = -100,
    reduction: Static = "mean",
):
    """The negative log-probability of the target class: `input` [N, C, ...] holds log-probabilities, `target` [N, ...] class
    indices, int64 or uint8; `weight` [C] scales classes; targets equal to `ignore_index` count nothing. The mean is weighted.

    Raises ValueError for batches that differ, RuntimeError for other shapes and dtypes that do not fit, IndexError for a target
    outside 0..C-1 (when the value is read).
    """
    dim, target = _class_dim("nll_loss", input, target)
    classes = _CountedClasses("nll_loss", input, target, dim, weight, as_value(target, ignore_index))
    return classes.reduce(-(classes.pick(input) * classes.weight), reduction)


@loss(
    samples=calls(
        lambda: [
            call(data(4, 3), index(3, 4)),
            call(data(4, 3), index(3, 4), data(3, low=0.5, high=2), label_smoothing=0.1),
            call(data(2, 3, 5), index(3, 2, 5), ignore_index=1, reduction="sum"),
            call(data(4, 3), data(4, 3, low=0.1, high=0.5), reduction="none"),
            call(data(4, 3), index(3, 5), error=(ValueError, "5")),
        ]
    ),
    fallible=True,
    old_before="ignore_index",
)
def cross_entropy(
    input: Tensor_,
    target: Tensor_,
    weight: Optional_ = None,
    ignore_index: Number = -100,
    reduction: Static = "mean",
    label_smoothing: Number = 0.0,
):
    """`nll_loss` of `log_softmax(input)` along the class dimension.

    `input` [N, C, ...] or [C] holds scores; `target` holds class indices [N, ...], or probabilities of the input's shape;
    `weight` [C] scales classes; targets equal to `ignore_index` count nothing; `label_smoothing` in [0, 1] mixes the
    target with the uniform distribution. Raises ValueError for batches that differ, RuntimeError for other shapes and dtypes that
    do not fit and for an `ignore_index` of probabilities, IndexError for a target outside 0..C-1 (when the value is read).
    """
    check_floating("cross_entropy", input)
    smoothing = _smoothing(input, label_smoothing)
    if target.dtype.is_floating_point:
        if isinstance(ignore_index, int) and ignore_index >= 0:
            raise RuntimeError(
                "[cross_entropy] ignore_index is of class indices, and the target has floats. Leave it out."
            )
        return _from_probabilities(input, target, weight, reduction, smoothing)
    dim, target = _class_dim("cross_entropy", input, target)
    classes = _CountedClasses("cross_entropy", input, target, dim, weight, as_value(target, ignore_index))
    log_probability = log_softmax_of(input, dim)
    loss = -(classes.pick(log_probability) * classes.weight)
    if smoothing is not None:
        scaled = log_probability * classes.class_weight if weight is not None else log_probability
        loss = _mixed(loss, -ops.sum(scaled, axes=(dim,)), smoothing, input.shape[dim])
    return classes.reduce(loss, reduction)


def _smoothing(x: Value, label_smoothing: Any) -> Value | None:
    """The share of the uniform distribution, or None for none. Raises RuntimeError outside [0, 1]."""
    if isinstance(label_smoothing, Value):
        return label_smoothing.cast(x.dtype)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"[cross_entropy] label_smoothing is {label_smoothing}. Use a number from 0 to 1.")
    return x.builder.constant(label_smoothing, x.dtype) if label_smoothing else None


def _mixed(at_target: Value, over_classes: Value, smoothing: Value, count: int) -> Value:
    """(1 - smoothing) * at_target + smoothing / count * over_classes; `at_target` itself for smoothing 0, which says nothing
    of classes that are impossible."""
    rest, part = smoothing.like(1.0) - smoothing, smoothing / count
    plain = smoothing.eq(0).expand(at_target.shape)
    over_classes = ops.select(plain, over_classes.like(0), over_classes)
    return at_target * rest.expand(at_target.shape) + over_classes * part.expand(over_classes.shape)


def _from_probabilities(
    x: Value, target: Value, weight: Value | None, reduction: str, smoothing: Value | None
) -> Value:
    check_reduction("cross_entropy", reduction)
    if target.shape != x.shape:
        error = ValueError if target.shape[:1] != x.shape[:1] else RuntimeError
        raise error(
            f"[cross_entropy] input of shape {x.shape} needs probabilities of the same shape, got {target.shape}. "
            "For class indices, pass an int64 target."
        )
    dim = 1 if len(x.shape) > 1 else 0
    count = x.shape[dim]
    target = target.cast(x.dtype)
    if smoothing is not None:
        target = _mixed(target, target.like(1.0), smoothing, count)
    terms = log_softmax_of(x, dim) * target
    if weight is not None:
        terms = terms * weight_along("cross_entropy", x, weight, dim)
    loss = -ops.sum(terms, axes=(dim,))
    if reduction == "none":
        return loss
    return total(loss) if reduction == "sum" else total(loss) / (math.prod(x.shape) // count)


# ---- truth values -----------------------------------------------------------------------------------------


def _same_shape(op: str, input: Value, target: Value) -> None:
    if input.shape != target.shape:
        raise ValueError(f"[{op}] input has shape {input.shape}, target {target.shape}. Make them equal.")


def _weighted(op: str, loss: Value, weight: Value | None) -> Value:
    if weight is None:
        return loss
    if broadcast_shapes(op, loss.shape, weight.shape) != loss.shape:
        raise RuntimeError(
            f"[{op}] weight of shape {weight.shape} does not broadcast to the input's shape {loss.shape}."
        )
    return loss * weight.cast(loss.dtype).expand(loss.shape)


def _held_log(x: Value) -> Value:
    """log(x), or -100 and no gradient where that is larger."""
    held = x <= math.exp(-100.0)
    return ops.select(held, x.like(-100.0), ops.log(ops.select(held, x.like(1.0), x)))


@loss(samples=losses(low=0.1, high=0.9), fallible=True)
def binary_cross_entropy(input: Tensor_, target: Tensor_, weight: Optional_ = None, reduction: Static = "mean"):
    """-(t log(x) + (1 - t) log(1 - x)) of probabilities x; logarithms are held above -100, as in PyTorch.

    Raises ValueError for shapes that differ, RuntimeError for an input or target outside [0, 1] (when the value is read).
    """
    op = "binary_cross_entropy"
    _same_shape(op, input, target)
    x, t = promoted(op, input, target)
    x = check_between(
        op, "input", x, 0, 1, "is not between 0 and 1. Apply sigmoid first, or use binary_cross_entropy_with_logits."
    )
    t = check_between(op, "target", t, 0, 1, "is not between 0 and 1. Pass probabilities.")
    log_x, log_rest = _held_log(x), _held_log(1.0 - x)
    loss = (t - 1.0) * log_rest - t * log_x
    return reduce_loss("binary_cross_entropy", _weighted("binary_cross_entropy", loss, weight), reduction)


@loss(
    samples=losses(low=0.1, high=0.9)
    + calls(
        lambda: [
            call(data(2, 3), data(2, 3, low=0.1, high=0.9), data(3, low=0.5, high=2), pos_weight=data(3, low=1, high=2))
        ]
    ),
)
def binary_cross_entropy_with_logits(
    input: Tensor_,
    target: Tensor_,
    weight: Optional_ = None,
    reduction: Static = "mean",
    pos_weight: Optional_ = None,
):
    """`binary_cross_entropy` of `sigmoid(input)`, stable for large scores; `pos_weight` scales the positive terms.

    Raises ValueError for shapes that differ.
    """
    op = "binary_cross_entropy_with_logits"
    _same_shape(op, input, target)
    x, t = promoted(op, input, target)
    positive = log_sigmoid(x)
    if pos_weight is not None:
        positive = positive * (_weighted(op, t, pos_weight) - t + 1.0)
    loss = (1.0 - t) * x - positive
    return reduce_loss(op, _weighted(op, loss, weight), reduction)
