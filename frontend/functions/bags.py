"""Rows of a table picked by index and put together: `embedding_bag`.

In: positions as bags: [bags, rows of each], or a vector and where in it each bag begins. Out: a sum, mean or the largest elements
of the rows of each bag. Bags of a vector are told by a running count of beginnings; their rows are added up where they are read,
in order. Next: `scattering.py`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from flambeau.autograd import no_grad
from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_, int64
from flambeau.function import Optional_, Static, Tensor_, function
from flambeau.functions.common import check_between, check_floating, flat, ops, part
from flambeau.functions.gathering import by_frequency, limit_rows, padding_row
from flambeau.functions.positions import spread, whole
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, index

_MODES = ("sum", "mean", "max")


class _Bags(NamedTuple):
    """Of every row that is picked its bag; of every bag how many rows count; and which rows do."""

    of: Value
    count: Any
    held: Value

    def added(self, rows: Value) -> Value:
        """[bags, features]: the sums of the rows."""
        nothing = rows.builder.constant(0, rows.dtype, (self.count, rows.shape[1]))
        return ops.scatter_add(nothing, self._along(rows), rows, axis=0)

    def sizes(self) -> Value:
        """How many rows count, of each bag."""
        nothing = self.held.builder.constant(0, int64, (self.count,))
        return ops.scatter_add(nothing, self.of, self.held.cast(int64), axis=0)

    def largest(self, rows: Value) -> Value:
        """The first largest elements, or the first NaN, of each bag; 0 where it is empty. They get all of the gradient."""
        x, at = ops.stop_gradient(rows), self._along(rows)
        counts = _column(self.held, rows)
        least = rows.builder.constant(rows.dtype.least, rows.dtype, (self.count, rows.shape[1]))
        peak = ops.scatter_max(least, at, ops.select(counts, x, x.like(rows.dtype.least)), axis=0)
        is_peak = ops.or_(x.eq(ops.gather(peak, at, axis=0)), x.ne(x))
        n = rows.shape[0]
        place = ops.iota(shape=rows.shape, dim=0, dtype=int64, builder=rows.builder)
        none = rows.builder.constant(n, int64, (self.count, rows.shape[1]))
        first = ops.scatter_min(none, at, ops.select(ops.and_(is_peak, counts), place, place.like(n)), axis=0)
        found = ops.gather(rows, ops.minimum(first, first.like(n - 1)), axis=0)
        return ops.select(first < n, found, found.like(0))

    def _along(self, rows: Value) -> Value:
        return _column(self.of, rows)


def _column(vector: Value, rows: Value) -> Value:
    """One number for every row, repeated along it."""
    return ops.reshape(vector, shape=(vector.shape[0], 1)).expand((vector.shape[0], rows.shape[1]))


def _bags(input: Value, offsets: Value | None, include_last_offset: bool) -> tuple[Value, Any]:
    """(the bag of each position, how many bags there are)."""
    n = input.shape[0] if offsets is not None else input.shape[0] * input.shape[1]
    if offsets is None:
        count, size = input.shape
        return flat(ops.iota(shape=(count, size), dim=0, dtype=int64, builder=input.builder)), count
    text = "is negative, or beyond the input. Bags begin within it."
    starts = check_between("embedding_bag", "offsets", offsets, 0, n, text)
    first = check_between(
        "embedding_bag", "offsets", part(starts, 0, 0, 1), 0, 0, "is not 0. Begin with the first one."
    )
    starts = ops.concat(first, part(starts, 0, 1, starts.shape[0] - 1), dim=0)
    count = starts.shape[0] - (1 if include_last_offset else 0)
    begun = input.builder.constant(0, int64, (n + 1,))
    begun = ops.scatter_add(begun, starts, starts.like(1), axis=0)
    number = ops.cumsum(part(begun, 0, 0, n), axis=0, reverse=False) - 1
    return ops.minimum(number, number.like(count - 1)), count


@function(name="embedding_bag", fallible=True)
def _bagged(
    input: Tensor_,
    weight: Tensor_,
    offsets: Optional_,
    per_sample_weights: Optional_,
    mode: Static,
    include_last_offset: Static,
    padding_idx: Static,
    scale_grad_by_freq: Static,
):
    check_floating("embedding_bag", weight, "weight")
    if len(weight.shape) != 2:
        raise RuntimeError(f"[embedding_bag] weight has shape {weight.shape}. Give it two dimensions: rows, features.")
    vector = flat(whole("embedding_bag", input, "input", RuntimeError))
    offsets = None if offsets is None else whole("embedding_bag", offsets, "offsets", RuntimeError)
    of, count = _bags(input, offsets, include_last_offset)
    features = weight.shape[1]
    if isinstance(vector.shape[0], int) and vector.shape[0] == 0:
        return weight.builder.constant(0, weight.dtype, (count, features))
    rows = ops.gather(weight, spread(vector, 0, weight.shape), axis=0)
    if scale_grad_by_freq:
        rows = by_frequency(rows, vector, weight.shape[0])
    held = vector.builder.constant(True, bool_, vector.shape)
    if padding_idx is not None:
        held = vector.ne(padding_row("embedding_bag", padding_idx, weight.shape[0]))
    bags = _Bags(of, count, held)
    if mode == "max":
        return bags.largest(rows)
    if per_sample_weights is not None:
        if per_sample_weights.dtype is not weight.dtype:
            raise RuntimeError(
                f"[embedding_bag] per_sample_weights are {per_sample_weights.dtype}, weight {weight.dtype}. "
                "Convert one with .to()."
            )
        rows = rows * _column(flat(per_sample_weights), rows)
    if padding_idx is not None:
        rows = ops.select(_column(held, rows), rows, rows.like(0))
    if offsets is None:  # rows of a bag lie side by side
        total = ops.sum(ops.reshape(rows, shape=(*input.shape, features)), axes=(1,))
    else:
        total = bags.added(rows)
    if mode == "sum":
        return total
    sizes = bags.sizes()
    return total / _column(ops.maximum(sizes, sizes.like(1)).cast(total.dtype), total)


def _check(input: Tensor, offsets: Any, mode: str, by_freq: bool, weights: Any) -> None:
    op = "embedding_bag"
    if mode not in _MODES:
        raise ValueError(f"[{op}] mode is {mode!r}. Use one of {', '.join(map(repr, _MODES))}.")
    if input.ndim not in (1, 2):
        raise ValueError(
            f"[{op}] input has {input.ndim} dimensions. Pass [bags, rows of each], or a vector and offsets."
        )
    if (input.ndim == 2) != (offsets is None):
        what = "is [bags, rows of each] and offsets are given. Leave" if input.ndim == 2 else "is a vector. Give"
        raise ValueError(f"[{op}] input {what} offsets{' out' if input.ndim == 2 else ', where each bag begins'}.")
    if offsets is not None and (offsets.ndim != 1 or not len(offsets)):
        raise ValueError(f"[{op}] offsets have shape {tuple(offsets.shape)}. Pass a vector of at least one.")
    if mode == "max" and by_freq:
        raise ValueError(f"[{op}] scale_grad_by_freq with mode 'max'. Use another mode.")
    if weights is None:
        return
    if tuple(weights.shape) != tuple(input.shape):
        raise ValueError(
            f"[{op}] per_sample_weights have shape {tuple(weights.shape)}, the input {tuple(input.shape)}. Make them equal."
        )
    if mode != "sum":
        raise NotImplementedError(f"[{op}] per_sample_weights with mode {mode!r}. Use 'sum'.")


def no_sparse(op: str, sparse: bool) -> None:
    """Raise NotImplementedError where sparse gradients are asked for."""
    if sparse:
        raise NotImplementedError(
            f"[{op}] sparse gradients are not there. Use sparse=False: only the rows met are added to."
        )


def limited(input: Tensor, weight: Tensor, max_norm: float | None, norm_type: float) -> None:
    """Scale down rows of `weight` that are at `input` and longer than `max_norm`, which is no business of gradients."""
    if max_norm is not None:
        with no_grad():
            limit_rows(weight, input, float(max_norm), float(norm_type))


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call(data(5, 4), index(5, 2, 3), 1.0, 2.0, gradient=False),
            call(data(5, 4), index(5, 3), 1.5, 1.0, gradient=False),
        ]
    ),
)
def embedding_renorm_(input: Tensor, indices: Tensor, max_norm: float, norm_type: float) -> Tensor:
    """The table with those of its rows scaled down that are at `indices` and whose norm of `norm_type` is above `max_norm`."""
    limited(indices, input, max_norm, norm_type)
    return input


@declared(
    free="nn.functional",
    samples=calls(
        lambda: [
            *(call(index(5, 2, 3), data(5, 4), mode=m) for m in _MODES),
            *(call(index(5, 7), data(5, 4), index(1, 3) + [0, 2, 2], mode=m) for m in _MODES),
            call(index(5, 7), data(5, 4), index(1, 3) + [0, 3, 7], per_sample_weights=data(7), mode="sum"),
            call(index(5, 7), data(5, 4), index(1, 3) + [0, 3, 7], include_last_offset=True),
            *(call(index(5, 2, 3), data(5, 4), mode=m, padding_idx=1, gradient=False) for m in _MODES),
            call(index(5, 7), data(5, 4), error=(ValueError, "Give offsets, where each bag begins")),
            call(index(5, 7), data(5, 4), index(1, 3) + [0, 3, 8], error=(RuntimeError, "beyond the input")),
            call(index(5, 7), data(5, 4), index(1, 3) + [1, 3, 5], error=(RuntimeError, "is not 0")),
        ]
    ),
)
def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Rows of `weight` [count, features], put together by bags: [bags, features].

    `input` (int64) is [bags, rows of each], or a vector, of which bags begin at `offsets`; with `include_last_offset` the last of
    these is where the last bag ends. `mode`: "sum" (of rows times `per_sample_weights`, if given), "mean" or "max"; empty bags
    give 0.
    Rows `padding_idx` do not count. `max_norm`, `norm_type`, `scale_grad_by_freq` as for `embedding`.

    Raises ValueError for arguments that do not go together, IndexError for positions outside of 0..count-1 and RuntimeError for
    wrong offsets (when a value is read), NotImplementedError for `sparse` and for weights with another mode than "sum".
    """
    _check(input, offsets, mode, scale_grad_by_freq, per_sample_weights)
    no_sparse("embedding_bag", sparse)
    limited(input, weight, max_norm, norm_type)
    options = mode, bool(include_last_offset), padding_idx, bool(scale_grad_by_freq)
    return _bagged(input, weight, offsets, per_sample_weights, *options)
