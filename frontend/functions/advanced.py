"""Indices with tensors among them: integer positions, masks, lists and arrays, mixed with ints, slices, None and `...`.

In: what stands between the brackets. Out: `Advanced`: a basic index, which gives a view, and the tensors that then pick from it,
each with the dimensions of the view that it counts along. Next: `positions.py`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from flambeau.declarations import declared
from flambeau.dialects.aval import CPU
from flambeau.dialects.dtypes import bool_, int32, int64, uint8
from flambeau.function import Operand, Static, Tensor_, Tensors, function, inplace, stored
from flambeau.functions.common import fitted, flat, ops
from flambeau.functions.from_data import as_tensor
from flambeau.functions.masks import numbers_of, taken_in_order
from flambeau.functions.positions import ADD, STORE, places, stretched, whole
from flambeau.functions.transfer import moved
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, index, truth
from flambeau.unread import is_unread

KNOWN = "Use ints, slices, None, ..., bools, and tensors, arrays or lists of these."


class Picker(NamedTuple):
    """One tensor of an index: positions, or a mask. It counts along `span` dimensions of the view from `dim` on; `of` is the first
    of these in the tensor that was indexed, for errors to name."""

    tensor: Tensor
    dim: int
    span: int
    of: int

    @property
    def is_mask(self) -> bool:
        return self.tensor.dtype is bool_


class Advanced(NamedTuple):
    """An index with tensors: `basic` gives a view of a tensor, of which `pickers` pick."""

    basic: tuple[Any, ...]
    pickers: tuple[Picker, ...]


def is_index(item: Any) -> bool:
    return isinstance(item, (int, np.integer)) and not isinstance(item, bool)


def is_bool(item: Any) -> bool:
    return isinstance(item, (bool, np.bool_))


def standing(tensor: Tensor, item: Any) -> Any:
    """One item of an index as an int, a bool, a slice, None, `...` or a tensor of positions or bools.

    A 0-d tensor of an integer is read, as in PyTorch, so that what it selects is a view; but not where values must not be read.
    Raises TypeError or IndexError for anything else.
    """
    if item is None or item is Ellipsis or isinstance(item, (bool, int, slice, np.integer)):
        return item
    if isinstance(item, np.bool_):
        return bool(item)
    if isinstance(item, (Tensor, np.ndarray, list, range)):
        return _tensor(tensor, item)
    if hasattr(item, "__index__"):
        return item.__index__()
    raise (TypeError if isinstance(item, (str, bytes)) else IndexError)(
        f"[getitem] a tensor cannot be indexed by {type(item).__name__}. {KNOWN}"
    )


def _tensor(tensor: Tensor, item: Any) -> Any:
    if isinstance(item, (list, range)):
        item = list(item)
        if not all(isinstance(i, (int, bool, list, np.generic, np.ndarray, Tensor)) for i in item):
            raise TypeError(f"[getitem] a tensor cannot be indexed by the list {item}. {KNOWN}")
    found = as_tensor(item, int64 if isinstance(item, list) and not item else None)  # no positions are positions
    if found.dtype not in (bool_, uint8, int32, int64):
        raise IndexError(f"[getitem] an index tensor has dtype {found.dtype}. Use int64, int32 or bool: x.long().")
    if found._place == CPU:  # positions may come from there, as in PyTorch
        found = moved(found, tensor._place)
    if found.ndim == 0 and found.dtype in (int32, int64) and not is_unread():
        return found.item()
    return found.to(bool_) if found.dtype is uint8 else found  # uint8 was a mask before there were bools


def split(tensor: Tensor, items: tuple[Any, ...]) -> Advanced:
    """An index, whose items are as `standing` gives them. Raises IndexError for too many of them."""
    basic: list[Any] = []
    pickers: list[tuple[Tensor, int]] = []  # with the item of `basic` where each begins
    for item in items:
        if is_bool(item) and any(isinstance(i, Tensor) for i in items):
            item = _bool_tensor(tensor, item)
        if not isinstance(item, Tensor):
            basic.append(item)
            continue
        pickers.append((item.reshape(1) if item.dtype is bool_ and not item.ndim else item, len(basic)))
        one_more = item.dtype is bool_ and not item.ndim
        basic += [None] if one_more else [slice(None)] * (item.ndim if item.dtype is bool_ else 1)
    used = sum(1 for i in basic if i is not None and i is not Ellipsis)
    if used > tensor.ndim:
        raise IndexError(
            f"[getitem] {used} indices for a tensor of {tensor.ndim} dimensions. Remove {used - tensor.ndim}."
        )
    widths = [tensor.ndim - used if i is Ellipsis else 0 if is_index(i) else 1 for i in basic]
    starts = [sum(widths[:k]) for k in range(len(widths))]
    taken = [0 if i is None else tensor.ndim - used if i is Ellipsis else 1 for i in basic]
    return Advanced(
        tuple(basic),
        tuple(Picker(t, starts[at], t.ndim if t.dtype is bool_ else 1, sum(taken[:at])) for t, at in pickers),
    )


def _bool_tensor(tensor: Tensor, item: bool) -> Tensor:
    return tensor.new_tensor(item, dtype=bool_)


def _check_masks(view: Tensor, pickers: tuple[Picker, ...]) -> None:
    for p in pickers:
        own = tuple(view.shape[p.dim : p.dim + p.span])
        if p.is_mask and tuple(p.tensor.shape) != own:
            raise IndexError(
                f"[getitem] dimension {p.of}: the mask of shape {tuple(p.tensor.shape)} stands for dimensions of shape {own}. "
                "Make it of their shape."
            )


def _numbered(pickers: tuple[Picker, ...]) -> tuple[list[Tensor], tuple[tuple[int, int], ...], tuple[str | None, ...]]:
    """Positions, the dimensions that they count along, and what errors call them: those of masks are in range. Reads how often
    masks hold."""
    tensors = [numbers_of(p.tensor) if p.is_mask else p.tensor for p in pickers]
    return (
        tensors,
        tuple((p.dim, p.span) for p in pickers),
        tuple(None if p.is_mask else f"dimension {p.of}: index" for p in pickers),
    )


# ---- reading --------------------------------------------------------------------------------------------------


@function(name="getitem", fallible=True)
def _read(input: Tensor_, indices: Tensors, spans: Static, names: Static):
    found = [whole("getitem", i, error=IndexError) for i in indices]
    return places("getitem", input, found, spans, names).read(input)


def read(view: Tensor, pickers: tuple[Picker, ...]) -> Tensor:
    """The elements of a view that tensors pick, a copy."""
    _check_masks(view, pickers)
    return _read(view, *_numbered(pickers))


# ---- writing --------------------------------------------------------------------------------------------------


def _check_values(op: str, x: Any, values: Any) -> Any:
    """The values in the dtype of `x`: numbers are converted. Raises RuntimeError for tensors of another."""
    if values.weak:
        return fitted(op, "the value", values, x.dtype).cast(x.dtype)
    if values.dtype is not x.dtype:
        raise RuntimeError(f"[{op}] the values are {values.dtype}, the tensor {x.dtype}. Convert them with .to().")
    return values


def _put_at(op: str, x: Any, indices: list[Any], values: Any, spans: Any, names: Any, accumulate: Any) -> Any:
    found = places(op, x, [whole(op, i) for i in indices], spans, names)
    values = stretched(op, _check_values(op, x, values), found.result)
    return found.write(x, values, ADD if accumulate else STORE)


@function(name="index_put", fallible=True)
def put_at(input: Tensor_, indices: Tensors, values: Operand, spans: Static, names: Static, accumulate: Static = False):
    """`input` with values where index tensors point."""
    return _put_at("index_put", input, indices, values, spans, names, accumulate)


_put_at_ = stored(put_at, fallible=True)


def _pointed(op: str, input: Tensor, indices: Any) -> tuple[Picker, ...]:
    """The tensors of an index that are given one by one, for the first dimensions."""
    if not isinstance(indices, (tuple, list)) or not all(isinstance(i, Tensor) for i in indices) or not indices:
        raise TypeError(f"[{op}] indices are {indices!r:.60}. Pass a tuple of tensors, one for each dimension.")
    found: list[Picker] = []
    dim = 0
    for given in indices:
        tensor = moved(given.to(bool_) if given.dtype is uint8 else given, input._place)
        span = tensor.ndim if tensor.dtype is bool_ else 1
        found.append(Picker(tensor, dim, span, dim))
        dim += span
    if dim > input.ndim:
        raise IndexError(f"[{op}] {dim} indices for a tensor of {input.ndim} dimensions. Remove {dim - input.ndim}.")
    _check_masks(input, tuple(found))
    return tuple(found)


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(4, 3), (index(4, 2),), data(2, 3)),
            call(data(4, 3), (index(4, 5), index(3, 5)), data(5), accumulate=True),
            call(data(4, 3), [1], data(3), error=(TypeError, "Pass a tuple of tensors")),
        ]
    ),
)
def index_put_(input: Tensor, indices: Any, values: Any, accumulate: bool = False) -> Tensor:
    """`input[indices] = values` with a tuple of tensors, or `+=` with `accumulate`, where equal places add up in order."""
    tensors, spans, names = _numbered(_pointed("index_put_", input, indices))
    return _put_at_(input, tensors, values, spans, names, accumulate)


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(4, 3), (index(4, 2),), data(2, 3)),
            call(data(4, 3), (index(4, 5), index(3, 5)), data(5), accumulate=True),
            call(data(4, 3), (index(4, 2, 1), index(3, 2)), data()),
            call(data(4, 3), (truth(4),), data(3)),
            call(data(4, 3), (index(4, 2),), data(3, 3), error=(RuntimeError, "do not broadcast")),
        ]
    ),
)
def index_put(input: Tensor, indices: Any, values: Any, accumulate: bool = False) -> Tensor:
    """`input` with `values`, which broadcast, at the places that a tuple of index tensors, or masks, points to:
    `x[indices] = values` in a copy. `accumulate` adds them to what is there, in order; otherwise the last one of equal places
    stays.

    Raises TypeError for other indices, RuntimeError for values of another dtype or shape, IndexError for positions outside (when
    a value is read).
    """
    tensors, spans, names = _numbered(_pointed("index_put", input, indices))
    return put_at(input, tensors, values, spans, names, accumulate)


@inplace(name="setitem", fallible=True)
def _set_at(
    input: Tensor_, indices: Tensors, values: Operand, spans: Static, names: Static, accumulate: Static = False
):
    """`input[indices] = values`."""
    return _put_at("setitem", input, indices, values, spans, names, accumulate)


@inplace(name="setitem", fallible=True)
def _set_masked(input: Tensor_, mask: Tensor_, values: Operand, dim: Static):
    """`input[:, ..., mask] = values` with a mask of the dimensions from `dim` on. Reads nothing: it is checked when values are
    computed whether there are as many slices of values as the mask picks."""
    shape, end = input.shape, dim + len(mask.shape)
    values = _check_values("setitem", input, values)
    given = values.shape
    rank = len(shape) - len(mask.shape) + 1
    while len(given) > rank and given[0] == 1:
        given = given[1:]
    values, count = ops.reshape(values, shape=given), 1
    if len(given) > len(shape) - end:
        count = given[len(given) - 1 - (len(shape) - end)]
    values = stretched("setitem", values, (*shape[:dim], count, *shape[end:]))
    if count == 1:
        unit = (1,) * dim + mask.shape + (1,) * (len(shape) - end)
        here = (*shape[:dim], *(1,) * len(mask.shape), *shape[end:])
        return ops.select(
            ops.reshape(mask, shape=unit).expand(shape), ops.reshape(values, shape=here).expand(shape), input
        )
    lead, rest = math.prod(shape[:dim]), math.prod(shape[end:])
    lines = ops.reshape(input, shape=(lead, math.prod(mask.shape), rest))
    text = f"does not pick as many places as there are values: {count}. Give one for each, or one for all."
    made = taken_in_order("setitem", lines, flat(mask), ops.reshape(values, shape=(lead, count, rest)), count, text)
    return ops.reshape(made, shape=shape)


def write(view: Tensor, pickers: tuple[Picker, ...], values: Any) -> None:
    """Store values where tensors pick from a view."""
    _check_masks(view, pickers)
    if len(pickers) == 1 and pickers[0].is_mask:
        _set_masked(view, pickers[0].tensor, values, pickers[0].dim)
    else:
        tensors, spans, names = _numbered(pickers)
        _set_at(view, tensors, values, spans, names)
