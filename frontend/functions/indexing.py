"""Indexing: `x[...]` and its assignment, select, narrow, split, chunk, unbind.

In: a tensor and what stands between the brackets. Out: for ints and slices a view whose starts are run-time numbers, so that
a moving window never compiles twice; for tensors a copy. Next: `advanced.py` for index tensors.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_
from flambeau.function import Sizes, Starts, Static, Tensor_, view
from flambeau.functions import advanced
from flambeau.functions.common import canonical_dim, integer, ops
from flambeau.functions.from_data import as_tensor
from flambeau.functions.inplace import copy_, fill_
from flambeau.functions.transfer import moved
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data

# ---- windows ----------------------------------------------------------------------------------------------


def _put_window(base: Value, new: Value, starts: list[Value], sizes: Any, steps: Any, shape: Any) -> Value:
    return ops.update_slice(base, ops.reshape(new, shape=sizes), *starts, steps=steps)


@view(put=_put_window, name="getitem")
def window(input: Tensor_, starts: Starts, sizes: Sizes, steps: Static, shape: Sizes):
    """`sizes` elements from `starts`, `steps` apart, in another shape of as many elements."""
    picked = ops.dynamic_slice(input, *starts, sizes=sizes, steps=steps)
    return picked if picked.shape == shape else ops.reshape(picked, shape=shape)


class _IndexWindow:
    """The window that a basic index selects from `shape`, gathered item by item."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.extents = shape
        self.starts: list[int] = []
        self.sizes: list[int] = []
        self.steps: list[int] = []
        self.shape: list[int] = []

    def take(self, start: int, size: int, step: int, keep: bool) -> None:
        self.starts.append(start)
        self.sizes.append(size)
        self.steps.append(step)
        if keep:
            self.shape.append(size)

    def integer(self, index: int) -> None:
        dim = len(self.starts)
        extent = self.extents[dim]
        if not -extent <= index < extent:
            raise IndexError(
                f"[getitem] index {index} is out of range for dimension {dim} with size {extent}. Use {-extent} to {extent - 1}."
                if extent
                else f"[getitem] dimension {dim} of shape {self.extents} is empty and has no element {index}."
            )
        self.take(index + extent if index < 0 else index, 1, 1, False)

    def slice(self, item: slice) -> None:
        extent = self.extents[len(self.starts)]
        start, stop, step = item.indices(extent)
        if step < 0:
            raise ValueError(f"[getitem] step {step} is negative. Use flip, then a positive step.")
        size = max(0, -(-(stop - start) // step))
        self.take(start if size else 0, size, step if size > 1 else 1, True)

    def rest(self, n: int) -> None:
        """The next n dimensions as they are."""
        for extent in self.extents[len(self.starts) : len(self.starts) + n]:
            self.take(0, extent, 1, True)


def _basic(shape: tuple[int, ...], items: tuple[Any, ...]) -> _IndexWindow:
    used = sum(1 for i in items if i is not None and i is not Ellipsis)
    if used > len(shape):
        raise IndexError(
            f"[getitem] {used} indices for a tensor of {len(shape)} dimensions. Remove {used - len(shape)}."
        )
    found = _IndexWindow(shape)
    for item in items:
        if item is None:
            found.shape.append(1)
        elif item is Ellipsis:
            found.rest(len(shape) - used)
        elif isinstance(item, slice):
            found.slice(item)
        else:
            found.integer(item.__index__())
    found.rest(len(shape) - len(found.starts))
    return found


def _with_bools(tensor: Tensor, items: tuple[Any, ...]) -> Tensor:
    """Bools in an index stand for one new dimension where the first of them is: of size 1 if all are true, else of size 0."""
    places = [i for i, item in enumerate(items) if advanced.is_bool(item)]
    kept = tuple(None if i == places[0] else item for i, item in enumerate(items) if i not in places[1:])
    found = getitem(tensor, kept)
    if all(items[i] for i in places):
        return found
    before, rest = kept[: places[0]], sum(1 for i in kept[places[0] + 1 :] if i is None or isinstance(i, slice))
    used = sum(1 for i in kept if i is not None and i is not Ellipsis)
    rest += 0 if Ellipsis in before else tensor.ndim - used
    return narrow(found, found.ndim - rest - 1, 0, 0)


def _items(tensor: Tensor, index: Any) -> tuple[Any, ...]:
    """The items of an index, as `advanced.standing` gives them."""
    items = tuple([advanced.standing(tensor, i) for i in (index if isinstance(index, tuple) else (index,))])
    if sum(1 for i in items if i is Ellipsis) > 1:
        raise IndexError("[getitem] the index has more than one '...'. Keep one.")
    return items


def getitem(tensor: Tensor, index: Any) -> Tensor:
    """`tensor[index]`: a view for ints, slices, None, bools and `...`; a copy where there are tensors, arrays, lists or ranges of
    int64 positions, or masks, among them. Their dimensions are where the first of them stands if they stand side by side, else in
    front; an int beside them selects before, as in PyTorch. Masks are counted at once. The recorder makes the usual views itself
    (`index.c`), and comes here with the rest.

    Raises IndexError for positions outside of the tensor, ValueError for negative steps.
    """
    items = _items(tensor, index)
    if any(isinstance(i, Tensor) for i in items):
        found = advanced.split(tensor, items)
        return advanced.read(_around(tensor, found.basic), found.pickers)
    if any(map(advanced.is_bool, items)):
        return _with_bools(tensor, items)
    return _viewed(tensor, items)


def _around(tensor: Tensor, basic: tuple[Any, ...]) -> Tensor:
    """The view that tensors pick from: often the tensor itself."""
    return tensor if all(isinstance(i, slice) and i == slice(None) for i in basic) else _viewed(tensor, basic)


def _viewed(tensor: Tensor, items: tuple[Any, ...]) -> Tensor:
    found = _basic(tensor.shape, items)
    return window(tensor, tuple(found.starts), tuple(found.sizes), tuple(found.steps), tuple(found.shape))


def setitem(tensor: Tensor, index: Any, value: Any) -> None:
    """`tensor[index] = value` for every index that reads. Of equal positions the last one stays.

    Raises RuntimeError for values that do not broadcast to the place or, at positions and masks, are of another dtype, TypeError
    for None.
    """
    if value is None:
        raise TypeError("[setitem] None is no number and no tensor. Pass one of these, or a list of numbers.")

    items = _items(tensor, index)
    if not isinstance(value, (Tensor, bool, int, float, complex)):
        value = as_tensor(value, None if isinstance(value, np.ndarray) else tensor.dtype)
    if any(isinstance(i, Tensor) for i in items):
        found = advanced.split(tensor, items)
        value = moved(value, tensor._place) if isinstance(value, Tensor) else value
        return advanced.write(_around(tensor, found.basic), found.pickers, value)
    place = _with_bools(tensor, items) if any(map(advanced.is_bool, items)) else _viewed(tensor, items)
    if isinstance(value, Tensor) and _is_same(place, value):
        return None  # what `x[i] += y` assigns at last
    if not isinstance(value, Tensor):
        fill_(place, value)
        return None
    while value.ndim > place.ndim and value.shape[0] == 1:
        value = value[0]
    copy_(place, value)  # which moves it
    return None


def _is_same(x: Tensor, y: Tensor) -> bool:
    """Whether two tensors show the same elements of the same storage."""
    if not recorder.same_storage(x, y):
        return False
    (view, _, starts), (other, _, other_starts) = recorder.view_info(x), recorder.view_info(y)
    return view is other and starts == other_starts


# ---- windows by name --------------------------------------------------------------------------------------


def _along(tensor: Tensor, dim: int, item: Any) -> Tensor:
    return tensor[(slice(None),) * dim + (item,)]


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [call(data(3, 4), 0, 1), call(data(3, 4), -1, -2), call(data(3), 0, 3, error=(IndexError, "3"))]
    ),
    recalled="operand",
)
def select(input: Tensor, dim: int, index: int) -> Tensor:
    """The slice at position `index` along `dim`, which the result lacks. A view."""
    dim = canonical_dim("select", dim, input.ndim)
    if not isinstance(index, Tensor):
        index = integer("select", "index", index)
    if not input.ndim:
        raise IndexError("[select] a 0-d tensor has no dimension to select from.")
    extent = input.shape[dim]
    if advanced.is_index(index) and not -extent <= index < extent:
        raise IndexError(
            f"[select] index {index} is out of range for dimension {dim} of shape {input.shape}."
            + (f" Use {-extent} to {extent - 1}." if extent else "")
        )
    return _along(input, dim, index)


def _start_of(op: str, start: Any) -> int:
    """An int, also of a 0-d tensor of ints."""
    if not isinstance(start, Tensor):
        return start
    if start.ndim or start.dtype is bool_ or start.dtype.is_inexact:
        raise RuntimeError(
            f"[{op}] start is {start.dtype} of shape {start.shape}. Pass an int, or a 0-d tensor of ints."
        )
    return int(start)


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(3, 4), 1, 1, 2),
            call(data(3), 0, 3, 0, gradient=False),
            call(data(3), 0, 2, 2, error=(RuntimeError, "do not fit")),
            call(data(3), 0, -4, 2, error=(IndexError, "Use -3 to 3")),
            call(data(), 0, 0, 1, error=(RuntimeError, "is 0-d")),
        ]
    ),
    recalled="operand",
)
def narrow(input: Tensor, dim: int, start: int | Tensor, length: int) -> Tensor:
    """`length` slices from position `start`, an int or a 0-d tensor of ints, along `dim`. A view. Raises IndexError for a start
    outside, RuntimeError if the slices leave the tensor."""
    if not input.ndim:
        raise RuntimeError("[narrow] the tensor is 0-d. Pass one with a dimension.")
    dim = canonical_dim("narrow", dim, input.ndim)
    extent = input.shape[dim]
    start = _start_of("narrow", start)
    if not -extent <= start <= extent:
        raise IndexError(f"[narrow] start {start} is out of range for a size of {extent}. Use {-extent} to {extent}.")
    first = start + extent if start < 0 else start
    if length < 0 or not 0 <= first <= extent - length:
        raise RuntimeError(
            f"[narrow] {length} slices from {start} do not fit dimension {dim} with size {extent}. Make the window smaller."
        )
    return _along(input, dim, slice(first, first + length))


@declared(
    free="flambeau",
    method=True,
    samples=calls(lambda: [call(data(2, 5), [1, 4], 1), call(data(5), [1, 3], error=(RuntimeError, "do not add up"))]),
    recalled="operand",
)
def split_with_sizes(input: Tensor, split_sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of parts of the given sizes along `dim`, as `split` gives them."""
    return split(input, list(split_sizes), dim)


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(5, 2), 2),
            call(data(2, 5), [1, 4], dim=1),
            call(data(5), [1, 3], error=(RuntimeError, "do not add up")),
        ]
    ),
    recalled="operand",
)
def split(tensor: Tensor, split_size_or_sections: int | list[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of `tensor` cut along `dim` into pieces of one size (the last may be smaller) or of the given sizes."""
    dim = canonical_dim("split", dim, tensor.ndim)
    extent = tensor.shape[dim]
    size = split_size_or_sections
    if not isinstance(size, Iterable):
        size = integer("split", "size", size)
        if size < 0 or (size == 0 and extent):
            raise RuntimeError(f"[split] size {size} is not positive. Use at least 1.")
        sizes = [min(size, extent - at) for at in range(0, extent, max(size, 1))] or [0]
    else:
        sizes = [integer("split", "size", n) for n in size]
        if sum(sizes) != extent or min(sizes, default=0) < 0:
            raise RuntimeError(
                f"[split] sizes {sizes} do not add up to {extent}, dimension {dim} of shape {tensor.shape}."
            )
    pieces, at = [], 0
    for n in sizes:
        pieces.append(_along(tensor, dim, slice(at, at + n)))
        at += n
    return tuple(pieces)


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(5, 2), 2),
            call(data(2, 5), 3, dim=1),
            call(data(5), 0, error=(RuntimeError, "Use at least 1")),
        ]
    ),
    recalled="operand",
)
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` views of equal size along `dim` (the last may be smaller)."""
    chunks = integer("chunk", "chunks", chunks)
    if chunks < 1:
        raise RuntimeError(f"[chunk] chunks is {chunks}. Use at least 1.")
    extent = input.shape[canonical_dim("chunk", dim, input.ndim)]
    return split(input, max(-(-extent // chunks), 1), dim)


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(3, 2)),
            call(data(3, 2), 1),
            call(data(), error=(IndexError, "a 0-d tensor")),
            call(data(3), 1, error=(IndexError, "dim 1 is out of range")),
        ]
    ),
    recalled="operand",
)
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices along `dim`, each without it. Views."""
    dim = canonical_dim("unbind", dim, input.ndim)
    if not input.ndim:
        raise IndexError("[unbind] a 0-d tensor has no dimension to unbind.")
    return tuple(input) if dim == 0 else tuple(_along(input, dim, i) for i in range(input.shape[dim]))
