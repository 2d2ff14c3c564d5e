"""Connectionist temporal classification: `ctc_loss`.

In: log-probabilities of classes at every step, and labels without alignment. Out: the negative log-probability of the labels,
summed over all alignments. Graves and others, "Connectionist temporal classification" (2006), formulas 5 to 15, in log space. Both
recursions are loops of the program (`while_loop`), one turn per step, so that neither the number of steps nor the lengths change
what is compiled; unrolled, a hundred steps would be thousands of ops. The second one runs in the backward only. Next: `labels.py`.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau.autograd import is_grad_enabled
from flambeau.autograd.function import Function, once_differentiable
from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_, float32, float64, int64
from flambeau.function import Static, Tensor_, function
from flambeau.functions.assemble import cat
from flambeau.functions.common import check_between, check_floating, ops, part
from flambeau.functions.control import while_loop
from flambeau.functions.create import full
from flambeau.functions.from_data import as_tensor
from flambeau.functions.positions import whole
from flambeau.functions.ramps import arange
from flambeau.functions.reduction import check_reduction, reduce_loss
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, index

#: Stands for the logarithm of 0: what is added to it, or multiplied by a slope, stays a number.
_NEVER = -1e30


def _column(x: Value, count: Any) -> Value:
    """[N] as [N, count]."""
    return ops.reshape(x, shape=(x.shape[0], 1)).expand((x.shape[0], count))


def _states(targets: Value, lengths: Value, blank: int, classes: int) -> tuple[Value, Value]:
    """The labels with a blank before, between and after them, [N, 2 S + 1]; and which of them may be reached past a blank."""
    n, s = targets.shape
    known = ops.iota(shape=(n, s), dim=1, dtype=int64, builder=targets.builder) < _column(lengths, s)
    labels = ops.select(known, targets, targets.like(0))
    labels = ops.check_index(labels, size=classes, op="ctc_loss", what="targets", negative=False)
    blanks = labels.like(blank)
    pairs = ops.concat(*(ops.reshape(x, shape=(n, s, 1)) for x in (blanks, labels)), dim=2)
    last = targets.builder.constant(blank, int64, (n, 1))
    states = ops.concat(ops.reshape(pairs, shape=(n, 2 * s)), last, dim=1)
    if s < 2:
        return states, states.builder.constant(False, bool_, states.shape)
    differs = part(states, 1, 2, 2 * s - 1).ne(part(states, 1, 0, 2 * s - 1))
    none = states.builder.constant(False, bool_, (n, 2))
    return states, ops.concat(none, differs, dim=1)


def _moved(x: Value, by: int) -> Value:
    """The state `by` before in the place of each, or behind where that is negative; none beyond the first and the last."""
    n, count = x.shape
    none = x.builder.constant(_NEVER, x.dtype, (n, abs(by)))
    rest = part(x, 1, max(-by, 0), count - abs(by))
    return ops.concat(*((none, rest) if by > 0 else (rest, none)), dim=1)


def _added(*terms: Value) -> Value:
    """log(sum(exp(terms)))."""
    peak = terms[0]
    for x in terms[1:]:
        peak = ops.maximum(peak, x)
    peak = ops.stop_gradient(peak)
    total = ops.exp(terms[0] - peak)
    for x in terms[1:]:
        total = total + ops.exp(x - peak)
    return ops.log(total) + peak


# ---- parts of the program -------------------------------------------------------------------------------------------


@function(name="ctc_loss", fallible=True)
def _prepared(log_probs: Tensor_, targets: Tensor_, input_lengths: Tensor_, target_lengths: Tensor_, blank: Static):
    """What the recursions need: log-probabilities of the states [T, N, states], the classes of these, which of them may be reached
    past a blank, and both lengths, checked."""
    check_floating("ctc_loss", log_probs, "log_probs")
    real = float64 if log_probs.dtype is float64 else float32
    steps, n, classes = log_probs.shape
    s = targets.shape[1]
    if not 0 <= blank < classes:
        raise RuntimeError(f"[ctc_loss] blank is {blank}, and there are {classes} classes. Use 0..{classes - 1}.")
    bounds = (("input_lengths", input_lengths, steps, "steps"), ("target_lengths", target_lengths, s, "targets"))
    inputs, labels = (
        check_between(
            "ctc_loss", name, whole("ctc_loss", x, name), 0, most, f"is negative, or more than there are {what}."
        )
        for name, x, most, what in bounds
    )
    states, skips = _states(whole("ctc_loss", targets, "targets"), labels, blank, classes)
    count = states.shape[1]
    at = ops.reshape(states, shape=(1, n, count)).expand((steps, n, count))
    emitted = ops.gather(log_probs.cast(real), at, axis=2)
    emitted = ops.maximum(emitted, emitted.like(_NEVER))  # of classes that are impossible
    place = ops.iota(shape=(n, count), dim=1, dtype=int64, builder=emitted.builder)
    first = ops.reshape(part(emitted, 0, 0, 1), shape=(n, count))
    first = ops.select(place < 2, first, first.like(_NEVER))
    ends = _column(labels * 2, count)
    is_end = ops.or_(place.eq(ends), place.eq(ends - 1))
    last = ops.select(is_end, first.like(0), first.like(_NEVER))
    return emitted, states, skips, inputs, labels, first, last


@function(name="ctc_loss")
def _onwards(state: Tensor_, row: Tensor_, skips: Tensor_, is_on: Tensor_):
    """Log-probabilities of beginnings, one step on; as they are where the input has ended."""
    two = ops.select(skips, _moved(state, 2), state.like(_NEVER))
    found = _added(state, _moved(state, 1), two) + ops.reshape(row, shape=state.shape)
    return ops.select(_column(is_on, state.shape[1]), found, state)


@function(name="ctc_loss")
def _backwards(state: Tensor_, row: Tensor_, skips: Tensor_, is_on: Tensor_):
    """Log-probabilities of what comes after, one step back; as they are where the input has not begun to end."""
    after = state + ops.reshape(row, shape=state.shape)
    two = _moved(ops.select(skips, after, after.like(_NEVER)), -2)
    return ops.select(_column(is_on, state.shape[1]), _added(after, _moved(after, -1), two), state)


@function(name="ctc_loss")
def _total(state: Tensor_, last: Tensor_, inputs: Tensor_, labels: Tensor_):
    """[N]: the negative log-probability of all that end as they may, infinite where nothing does."""
    ended = state + last
    peak = ops.max(ended, axes=(1,))
    total = ops.log(ops.sum(ops.exp(ended - _column(peak, state.shape[1])), axes=(1,))) + peak
    of_nothing = ops.select(labels.eq(0), total.like(0), total.like(_NEVER))
    total = ops.select(inputs.eq(0), of_nothing, total)
    return ops.select(total < _NEVER / 2, total.like(math.inf), -total)


@function(name="ctc_loss")
def _slope(
    ct: Tensor_,
    log_probs: Tensor_,
    before: Tensor_,
    after: Tensor_,
    states: Tensor_,
    inputs: Tensor_,
    loss: Tensor_,
    zero_infinity: Static,
):
    """PyTorch's gradient: probabilities minus those of the states given the labels. It is that of a loss of what `log_softmax`
    gives, whose own gradient takes away the difference to the slope of this function alone."""
    steps, n, count = before.shape
    spread = lambda x, k: ops.reshape(x, shape=(1, n, 1)).expand((steps, n, k))  # noqa: E731
    endless = loss.eq(math.inf)
    finite = ops.select(endless, loss.like(0), loss)
    held = ops.exp(before + after + spread(finite, count))
    at = ops.reshape(states, shape=(1, n, count)).expand(before.shape)
    classes = log_probs.shape[2]
    nothing = held.builder.constant(0, held.dtype, log_probs.shape)
    found = ops.exp(log_probs.cast(held.dtype)) - ops.scatter_add(nothing, at, held, axis=2)
    broken = found.like(0.0 if zero_infinity else math.nan)
    found = ops.select(spread(endless, classes), broken, found * spread(ct, classes))
    place = ops.iota(shape=log_probs.shape, dim=0, dtype=int64, builder=found.builder)
    return ops.select(place < spread(inputs, classes), found, found.like(0)).cast(log_probs.dtype)


@function(name="ctc_loss")
def _reduced(loss: Tensor_, target_lengths: Tensor_, reduction: Static, zero_infinity: Static, dtype: Static):
    if zero_infinity:
        loss = ops.select(loss.eq(math.inf), loss.like(0), loss)
    if reduction == "mean":
        count = target_lengths.cast(int64)
        loss = loss / ops.maximum(count, count.like(1)).cast(loss.dtype)
    return reduce_loss("ctc_loss", loss, reduction).cast(dtype)


# ---- the recursions ---------------------------------------------------------------------------------------------------


def _forward(emitted: Tensor, skips: Tensor, inputs: Tensor, first: Tensor, keep: bool) -> tuple[Tensor, ...]:
    """The log-probabilities of beginnings after the last step; and after each, if they are to be kept."""
    steps = emitted.shape[0]

    def body(t: Tensor, state: Tensor, *rows: Tensor) -> tuple[Tensor, ...]:
        at = t.reshape(1)
        state = _onwards(state, emitted.index_select(0, at), skips, inputs > t)
        return t + 1, state, *(r.index_copy(0, at, state.unsqueeze(0)) for r in rows)

    rows = [cat([first.unsqueeze(0), emitted[1:]])] if keep else []
    return while_loop(lambda t, *_: t < steps, body, (full((), 1, device=emitted.device), first, *rows))[1:]


def _after(emitted: Tensor, skips: Tensor, inputs: Tensor, last: Tensor) -> Tensor:
    """[T, N, states]: the log-probabilities of what comes after each step."""

    def body(t: Tensor, state: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
        next_ = (t + 1).reshape(1)
        state = _backwards(state, emitted.index_select(0, next_), skips, inputs > t + 1)
        return t - 1, state, rows.index_copy(0, t.reshape(1), state.unsqueeze(0))

    rows = cat([emitted[1:], last.unsqueeze(0)])
    carried = full((), emitted.shape[0] - 2, device=emitted.device), last, rows
    return while_loop(lambda t, *_: t >= 0, body, carried)[2]


class _Losses(Function):
    """The losses [N], with a gradient to the first operand."""

    @staticmethod
    def forward(ctx: Any, log_probs: Tensor, targets: Tensor, lengths: tuple[Tensor, Tensor], *options: Any) -> Tensor:
        blank, zero_infinity, keep = options
        emitted, states, skips, inputs, labels, first, last = _prepared(log_probs, targets, *lengths, blank)
        state, *before = _forward(emitted, skips, inputs, first, keep)
        loss = _total(state, last, inputs, labels)
        ctx.zero_infinity = zero_infinity
        ctx.save_for_backward(log_probs, emitted, states, skips, inputs, last, loss, *before)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cts: Any) -> Any:
        log_probs, emitted, states, skips, inputs, last, loss, before = ctx.saved_tensors
        after = _after(emitted, skips, inputs, last)
        found = _slope(cts[0], log_probs, before, after, states, inputs, loss, ctx.zero_infinity)
        return found, None, None, None, None, None


# ---- what users call --------------------------------------------------------------------------------------------------


def _lengths(name: str, given: Any, n: int) -> Tensor:
    found = as_tensor(given)
    if found.dtype.is_floating_point or found.dtype is bool_:
        raise RuntimeError(f"[ctc_loss] {name} are {found.dtype}. Pass ints.")
    if tuple(found.shape) != (n,):
        raise RuntimeError(f"[ctc_loss] {name} have shape {tuple(found.shape)}, and the batch is {n}. Pass [{n}].")
    return found.long()


def _padded(targets: Tensor, lengths: Tensor) -> Tensor:
    """Targets that follow one another as [N, longest]. How long that is is read from the lengths."""
    most = max(max(lengths.tolist(), default=0), 1)
    if not targets.numel():
        return full((lengths.shape[0], most), 0, device=targets.device)
    first = lengths.cumsum(0) - lengths
    at = first.unsqueeze(1) + arange(most, device=targets.device)
    return targets[at.clamp(0, targets.numel() - 1)]


@declared(
    free="flambeau nn.functional",
    samples=calls(
        lambda: [
            call(data(4, 2, 3), index(2, 2, 2) + 1, index(1, 2) + 4, index(1, 2) + [2, 1], gradient=False),
            call(data(5, 2, 3), index(2, 3) + 1, [5, 3], [2, 1], 0, "sum", gradient=False),
            call(data(4, 3), index(2, 2) + 1, index(1) + 4, index(1) + 2, 0, "none", gradient=False),
            call(data(2, 1, 3), index(2, 1, 2), [2], [2], 2, "none", True, gradient=False),
            call(data(4, 2, 3), index(2, 2, 2), [4, 4], [2, 1], 3, error=(RuntimeError, "blank is 3")),
            call(data(4, 2, 3), index(2, 2, 2) + 1, [4, 5], [2, 1], error=(RuntimeError, "more than there are steps")),
            call(data(4, 2, 3), index(2, 2, 2) + 2, [4, 4], [2, 2], error=(IndexError, "out of range")),
            call(data(4, 2, 3), index(2, 2, 2), [4], [2, 1], error=(RuntimeError, "input_lengths have shape (1,)")),
        ]
    ),
)
def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """The negative log-probability of `targets` under `log_probs` [T, N, C] (or [T, C]), what `log_softmax` gives, over all ways to
    lay the targets along the steps, with blanks between them.

    `targets` (int64) are [N, S], padded, or those of all samples one after the other; `input_lengths` and `target_lengths` [N] say
    how many steps and targets count. "mean" divides by the target lengths first. A loss that nothing gives is infinite, or 0 with a
    gradient of 0 with `zero_infinity`. The gradient has one order, as PyTorch's, whose formula it is.

    Raises RuntimeError for shapes and lengths that do not fit, IndexError for targets that are no class, both also when a value is
    read; ValueError for another reduction.
    """
    check_reduction("ctc_loss", reduction)
    is_batched = log_probs.ndim == 3
    if log_probs.ndim not in (2, 3) or 0 in log_probs.shape:
        raise RuntimeError(f"[ctc_loss] log_probs have shape {tuple(log_probs.shape)}. Pass [T, N, C] or [T, C].")
    x = log_probs if is_batched else log_probs.unsqueeze(1)
    n = x.shape[1]
    inputs, labels = (
        _lengths(name, as_tensor(given) if is_batched else as_tensor(given).reshape(-1), n).to(x.device)
        for name, given in (("input_lengths", input_lengths), ("target_lengths", target_lengths))
    )
    if targets.ndim == 1:
        targets = _padded(targets, labels)
    elif targets.ndim != 2 or targets.shape[0] != n:
        raise RuntimeError(f"[ctc_loss] targets have shape {tuple(targets.shape)}. Pass [{n}, S], or a vector.")
    elif not targets.shape[1]:
        targets = full((n, 1), 0, device=targets.device)
    keep = is_grad_enabled() and x.requires_grad
    losses = _Losses.apply(x, targets, (inputs, labels), int(blank), bool(zero_infinity), keep)
    found = _reduced(losses, labels, reduction, bool(zero_infinity), x.dtype)
    return found if is_batched or reduction != "none" else found.reshape(())
