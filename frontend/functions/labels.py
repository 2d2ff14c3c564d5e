"""Losses of one label or several: multi_margin, multilabel_margin, soft_margin, multilabel_soft_margin.

In: scores and labels; `reduction` is "mean", "sum" or "none". Out: a 0-d tensor, or one loss per sample. Formulas are those of
PyTorch's documentation. Next: `likelihoods.py`.
"""

from __future__ import annotations

from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import int64
from flambeau.function import Operand, Optional_, Static, Tensor_
from flambeau.functions.activation import log_sigmoid
from flambeau.functions.assemble import one_hot_mask
from flambeau.functions.common import as_value, check_between, check_floating, ops, promoted
from flambeau.functions.loss import weight_along
from flambeau.functions.margins import SIGNS, last_sum
from flambeau.functions.reduction import check_reduction, loss, reduce_loss
from flambeau.samples import call, calls, data, index


def _above_zero(x: Value) -> Value:
    """max(x, 0), whose gradient at 0 is 0; 0 where x is NaN."""
    return ops.select(x > 0, x, x.like(0))


def _rows(op: str, x: Value, target: Value, of_target: int) -> tuple[Value, Value]:
    """x as [N, C] and the target with `of_target` dimensions less than that; both may come without N, and a number is one class.
    Raises RuntimeError for other shapes, for no classes, and for targets other than int64."""
    check_floating(op, x)
    if x.shape == target.shape == ():
        x, target = (v if v is target and of_target else ops.reshape(v, shape=(1,)) for v in (x, target))
    fits = len(x.shape) in (1, 2) and target.shape == x.shape[: len(x.shape) - of_target]
    if not fits and not (len(x.shape) == 1 and of_target == 1 and target.shape == (1,)):
        wanted = "[N]" if of_target else "[N, C]"
        raise RuntimeError(
            f"[{op}] input has shape {x.shape}, target {target.shape}. Pass [N, C] and {wanted}, or both without N."
        )
    if x.shape[-1] == 0:
        raise RuntimeError(f"[{op}] input has shape {x.shape}, which has no classes. Pass at least one.")
    if target.dtype is not int64:
        raise RuntimeError(f"[{op}] target has dtype {target.dtype}, expected flambeau.int64. Cast it first.")
    if len(x.shape) == 2:
        return x, target
    return ops.reshape(x, shape=(1, *x.shape)), ops.reshape(target, shape=(1,) if of_target else (1, *target.shape))


def _per_sample(op: str, x: Value, sums: Value, reduction: str) -> Value:
    """Sums [N], without N where x had none."""
    return reduce_loss(op, ops.reshape(sums, shape=x.shape[:-1]), reduction)


@loss(
    samples=calls(
        lambda: [
            call(data(4, 3), index(3, 4)),
            call(data(4, 3), index(3, 4), p=2, margin=0.7, weight=data(3, low=0.5, high=2), reduction="none"),
            call(data(3), index(3, 1).reshape(()), reduction="sum"),
            call(data(4, 3), index(3, 4), p=3, error=(ValueError, "p is 3")),
            call(data(4, 3), index(3, 5), error=(RuntimeError, "target (5,)")),
            call(data(4, 0), index(3, 4), error=(RuntimeError, "has no classes")),
            call(data(4, 3), data(4), error=(RuntimeError, "target has dtype")),
            call(data(4, 3), index(3, 4), weight=data(4, 3), error=(ValueError, "weight has shape (4, 3)")),
        ]
    ),
    fallible=True,
)
def multi_margin_loss(
    input: Tensor_,
    target: Tensor_,
    p: Static = 1,
    margin: Operand = 1.0,
    weight: Optional_ = None,
    reduction: Static = "mean",
):
    """The sum over classes i other than the target y of max(0, margin - x[y] + x[i])**p, times `weight`[y], divided by the number
    of classes: `input` [N, C] or [C], `target` [N] or 0-d, int64. Raises ValueError for another `p` than 1 and 2 and for a
    `weight` of other than one dimension, RuntimeError for shapes that do not fit, and for other targets (when the value is
    read)."""
    op = "multi_margin_loss"
    if p not in (1, 2):
        raise ValueError(f"[{op}] p is {p}. Use 1 or 2.")
    if weight is not None and len(weight.shape) != 1:
        raise ValueError(f"[{op}] weight has shape {weight.shape}. Give one weight for each class.")
    check_reduction(op, reduction)
    x, y = _rows(op, input, target, 1)
    n, count = x.shape
    y = check_between(op, "target", y, 0, count - 1, f"is no class. Use 0..{count - 1}.")
    mask = one_hot_mask(y, count)
    own = ops.reshape(last_sum(ops.select(mask, x, x.like(0))), shape=(n, 1)).expand(x.shape)
    short = _above_zero(as_value(x, margin).cast(x.dtype).expand(x.shape) - own + x)
    short = short * short if p == 2 else short
    if weight is not None:
        weights = ops.select(mask, weight_along(op, x, weight, 1), x.like(0))
        short = short * ops.reshape(last_sum(weights), shape=(n, 1)).expand(x.shape)
    sums = last_sum(ops.select(mask, x.like(0), short)) / count
    return _per_sample(op, input, sums, reduction)


@loss(
    samples=calls(
        lambda: [
            call(data(3, 4), index(4, 3, 4).clip(max=[[3, 3, -1, 3], [3, 3, 3, -1], [-1, 3, 3, 3]])),
            call(data(4), index(4, 4).clip(max=[3, 3, -1, 3]), reduction="sum"),
            call(data(3, 4), index(4, 3, 4), reduction="none"),
            call(data(3, 4), index(4, 3), error=(RuntimeError, "target (3,)")),
            call(data(0), index(1, 0), error=(RuntimeError, "has no classes")),
            call(data(3, 4), data(3, 4), error=(RuntimeError, "target has dtype")),
        ]
    ),
    fallible=True,
)
def multilabel_margin_loss(input: Tensor_, target: Tensor_, reduction: Static = "mean"):
    """The sum over targets j and over classes i that are no target of max(0, 1 - (x[j] - x[i])), divided by the number of classes:
    `input` [N, C] or [C], and `target` of that shape holds the classes that are targets, and -1 after the last of them. Raises
    RuntimeError for shapes that do not fit, and for other targets (when the value is read)."""
    op = "multilabel_margin_loss"
    check_reduction(op, reduction)
    x, y = _rows(op, input, target, 0)
    n, count = x.shape
    text = f"is no class. Use 0..{count - 1}, and -1 after the last one."
    y = check_between(op, "target", y, -1, count - 1, text)
    given = ops.cumprod((y >= 0).cast(int64), axis=1, reverse=False).ne(0)
    chosen = ops.and_(one_hot_mask(y, count), ops.reshape(given, shape=(n, count, 1)).expand((n, count, count)))
    own = ops.reshape(x, shape=(n, 1, count)).expand(chosen.shape)
    of_target = ops.reshape(last_sum(ops.select(chosen, own, own.like(0))), shape=(n, count, 1)).expand(chosen.shape)
    is_target = ops.any(chosen, axes=(1,))
    counts = ops.and_(
        ops.reshape(given, shape=(n, count, 1)).expand(chosen.shape),
        ops.not_(ops.reshape(is_target, shape=(n, 1, count)).expand(chosen.shape)),
    )
    short = ops.select(counts, _above_zero(1.0 - (of_target - own)), own.like(0))
    return _per_sample(op, input, ops.sum(short, axes=(1, 2)) / count, reduction)


@loss(
    samples=calls(
        lambda: [
            *(call(data(6), SIGNS, reduction=r) for r in ("mean", "sum", "none")),
            call(data(2), data(3), error=(RuntimeError, "do not broadcast")),
        ]
    )
)
def soft_margin_loss(input: Tensor_, target: Tensor_, reduction: Static = "mean"):
    """log(1 + exp(-target * input)), stable; targets are 1 or -1."""
    x, y = promoted("soft_margin_loss", input, target, float_only=True)
    return reduce_loss("soft_margin_loss", -log_sigmoid(y * x), reduction)


@loss(
    samples=calls(
        lambda: [
            call(data(4, 3), data(4, 3, low=0, high=1)),
            call(data(4, 3), data(4, 3, low=0, high=1), weight=data(3, low=0.5, high=2), reduction="none"),
            call(data(3), data(3, low=0, high=1), reduction="sum"),
            call(data(), data(), error=(RuntimeError, "input is 0-d")),
        ]
    )
)
def multilabel_soft_margin_loss(input: Tensor_, target: Tensor_, weight: Optional_ = None, reduction: Static = "mean"):
    """The mean over classes, the last dimension, of the binary cross entropy of scores; `weight` scales classes. Raises
    RuntimeError for a 0-d input."""
    op = "multilabel_soft_margin_loss"
    if not input.shape:
        raise RuntimeError(f"[{op}] input is 0-d. Pass [..., classes].")
    x, y = promoted(op, input, target, float_only=True)
    found = -(y * log_sigmoid(x) + (1.0 - y) * log_sigmoid(-x))
    if weight is not None:
        found, factor = promoted(op, found, weight)
        found = found * factor
    return reduce_loss(op, last_sum(found) / found.shape[-1], reduction)
