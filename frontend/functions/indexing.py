"""Indexing: `x[...]` and its assignment, select, narrow, split, chunk, unbind.

In: a tensor and what stands between the brackets. Out: for ints and slices a view whose starts are run-time numbers, so that
a moving window never compiles twice; for index tensors a copy. Next: `gathering.py` for index tensors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flambeau.declarations import declared, in_place
from flambeau.dialects.aval import CPU
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_, int64, uint8
from flambeau.function import Sizes, Starts, Static, Tensor_, view
from flambeau.functions import gathering
from flambeau.functions.common import canonical_dim, ops
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


class _Window:
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


def _is_index(item: Any) -> bool:
    return isinstance(item, (int, np.integer)) and not isinstance(item, bool)


def _basic(shape: tuple[int, ...], items: tuple[Any, ...]) -> _Window:
    used = sum(1 for i in items if i is not None and i is not Ellipsis)
    if used > len(shape):
        raise IndexError(
            f"[getitem] {used} indices for a tensor of {len(shape)} dimensions. Remove {used - len(shape)}."
        )
    found = _Window(shape)
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


_UNKNOWN = (
    "[getitem] a tensor cannot be indexed by {}. Use ints, slices, None and ..., or one index tensor; "
    "for masks use where, masked_fill or multiplication."
)


def _split(tensor: Tensor, index: Any) -> tuple[tuple[Any, ...], int | None]:
    """The items of an index, and which one is a tensor (or array, or list). Raises for what is not supported."""
    items = tuple(list(i) if isinstance(i, range) else i for i in (index if isinstance(index, tuple) else (index,)))
    advanced = None
    ellipses = 0
    for i, item in enumerate(items):
        if item is None or isinstance(item, slice) or _is_index(item):
            continue
        if item is Ellipsis:
            ellipses += 1
        elif isinstance(item, (Tensor, np.ndarray, list)):
            if advanced is not None:
                raise NotImplementedError(_UNKNOWN.format("several index tensors"))
            advanced = i
        elif hasattr(item, "__index__") and not isinstance(item, bool):
            continue
        else:
            raise (NotImplementedError if isinstance(item, bool) else TypeError)(_UNKNOWN.format(type(item).__name__))
    if ellipses > 1:
        raise IndexError("[getitem] the index has more than one '...'. Keep one.")
    return items, advanced


def _has_bool(index: Any) -> bool:
    return any(isinstance(i, bool | np.bool_) for i in (index if isinstance(index, tuple) else (index,)))


def _with_bools(tensor: Tensor, index: Any) -> Tensor:
    """Bools in an index stand for one new dimension where the first of them is: of size 1 if all are true, else of size 0."""
    items = index if isinstance(index, tuple) else (index,)
    places = [i for i, item in enumerate(items) if isinstance(item, bool | np.bool_)]
    kept = tuple(None if i == places[0] else item for i, item in enumerate(items) if i not in places[1:])
    found = getitem(tensor, kept)
    if all(items[i] for i in places):
        return found
    before, rest = kept[: places[0]], sum(1 for i in kept[places[0] + 1 :] if i is None or isinstance(i, slice))
    used = sum(1 for i in kept if i is not None and i is not Ellipsis)
    rest += 0 if Ellipsis in before else tensor.ndim - used
    return narrow(found, found.ndim - rest - 1, 0, 0)


def getitem(tensor: Tensor, index: Any) -> Tensor:
    """`tensor[index]`: a view for ints, slices, None, bools and `...`; a copy for one index tensor (or list, or range) of int64
    positions. The recorder makes the usual views itself (`index.c`), and comes here with the rest.

    Raises IndexError for positions outside of the tensor, ValueError for negative steps, NotImplementedError for masks.
    """
    if _has_bool(index):
        return _with_bools(tensor, index)
    items, advanced = _split(tensor, index)
    if advanced is not None:
        return _read_at(tensor, items, advanced)
    found = _basic(tensor.shape, items)
    return window(tensor, tuple(found.starts), tuple(found.sizes), tuple(found.steps), tuple(found.shape))


def setitem(tensor: Tensor, index: Any, value: Any) -> None:
    """`tensor[index] = value` for the indices that give views, and for one bool mask of the tensor's shape with a number.

    Raises RuntimeError for values that do not broadcast to the place.
    """
    from flambeau.functions.from_data import as_tensor
    from flambeau.functions.inplace import copy_, fill_

    items, advanced = ((), None) if _has_bool(index) else _split(tensor, index)
    if advanced is not None:
        mask = moved(as_tensor(items[advanced]), tensor._place)
        mask = mask.to(bool_) if mask.dtype is uint8 else mask  # a mask before PyTorch had bools
        if len(items) > 1 or mask.dtype is not bool_:
            raise NotImplementedError(
                "[setitem] values cannot be assigned at an index tensor yet. Use index_add_, scatter_add_ or where."
            )
        in_place("masked_fill")(tensor, mask, value)
        return
    place = getitem(tensor, index)
    if isinstance(value, Tensor) and _is_same(place, value):
        return  # what `x[i] += y` assigns at last
    if isinstance(value, (bool, int, float)):
        fill_(place, value)
    else:
        source = as_tensor(value, None if isinstance(value, np.ndarray) else tensor.dtype)  # `copy_` moves it
        while source.ndim > place.ndim and source.shape[0] == 1:
            source = source[0]
        copy_(place, source)


def _is_same(x: Tensor, y: Tensor) -> bool:
    """Whether two tensors show the same elements of the same storage."""
    if not recorder.same_storage(x, y):
        return False
    (view, _, starts), (other, _, other_starts) = recorder.view_info(x), recorder.view_info(y)
    return view is other and starts == other_starts


# ---- positions --------------------------------------------------------------------------------------------


def _read_at(tensor: Tensor, items: tuple[Any, ...], advanced: int) -> Tensor:
    """Basic items first, then the index tensor along the dimension where it stands."""
    from flambeau.functions.from_data import as_tensor

    given = items[advanced]
    index = as_tensor(given, int64 if isinstance(given, list) and not given else None)  # no positions are positions
    if index.dtype in (bool_, uint8):
        raise NotImplementedError(_UNKNOWN.format("a bool mask"))
    if index._place == CPU:  # positions may come from there, as in PyTorch
        index = moved(index, tensor._place)
    if any(_is_index(i) for i in items):
        raise NotImplementedError(_UNKNOWN.format("an index tensor together with ints"))
    before = items[:advanced]
    basic = getitem(tensor, (*before, slice(None), *items[advanced + 1 :])) if len(items) > 1 else tensor
    skipped = sum(1 for i in before if i is not Ellipsis)
    if Ellipsis in before:
        used = sum(1 for i in items if i is not None and i is not Ellipsis)
        skipped += tensor.ndim - used
    return gathering.take_along_dim(basic, index, skipped)


# ---- windows by name --------------------------------------------------------------------------------------


def _along(tensor: Tensor, dim: int, item: Any) -> Tensor:
    return tensor[(slice(None),) * dim + (item,)]


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [call(data(3, 4), 0, 1), call(data(3, 4), -1, -2), call(data(3), 0, 3, error=(IndexError, "3"))]
    ),
)
def select(input: Tensor, dim: int, index: int) -> Tensor:
    """The slice at position `index` along `dim`, which the result lacks. A view."""
    dim = canonical_dim("select", dim, input.ndim)
    if not input.ndim:
        raise IndexError("[select] a 0-d tensor has no dimension to select from.")
    extent = input.shape[dim]
    if _is_index(index) and not -extent <= index < extent:
        raise IndexError(
            f"[select] index {index} is out of range for dimension {dim} of shape {input.shape}."
            + (f" Use {-extent} to {extent - 1}." if extent else "")
        )
    return _along(input, dim, index)


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(3, 4), 1, 1, 2),
            call(data(3), 0, 3, 0, gradient=False),
            call(data(3), 0, 2, 2, error=(RuntimeError, "do not fit")),
        ]
    ),
)
def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """`length` slices from position `start` along `dim`. A view. Raises RuntimeError if they leave the tensor."""
    dim = canonical_dim("narrow", dim, input.ndim)
    extent = input.shape[dim]
    first = start + extent if start < 0 else start
    if length < 0 or not 0 <= first <= extent - length:
        raise RuntimeError(
            f"[narrow] {length} slices from {start} do not fit dimension {dim} with size {extent}. Make the window smaller."
        )
    return _along(input, dim, slice(first, first + length))


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
)
def split(tensor: Tensor, split_size_or_sections: int | list[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of `tensor` cut along `dim` into pieces of one size (the last may be smaller) or of the given sizes."""
    dim = canonical_dim("split", dim, tensor.ndim)
    extent = tensor.shape[dim]
    size = split_size_or_sections
    if isinstance(size, int):
        if size < 0 or (size == 0 and extent):
            raise RuntimeError(f"[split] size {size} is not positive. Use at least 1.")
        sizes = [min(size, extent - at) for at in range(0, extent, max(size, 1))] or [0]
    else:
        sizes = list(size)
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
)
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` views of equal size along `dim` (the last may be smaller)."""
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
            call(data(), error=(IndexError, ""))
            if False
            else call(data(3), 1, error=(IndexError, "dim 1 is out of range")),
        ]
    ),
)
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices along `dim`, each without it. Views."""
    dim = canonical_dim("unbind", dim, input.ndim)
    if not input.ndim:
        raise RuntimeError("[unbind] a 0-d tensor has no dimension to unbind.")
    return tuple(input) if dim == 0 else tuple(_along(input, dim, i) for i in range(input.shape[dim]))
