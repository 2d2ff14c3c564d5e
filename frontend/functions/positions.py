"""Places of a tensor told by index tensors: what reading and writing there share. On values of rules.

In: a tensor, index tensors that broadcast, and for each the first of the dimensions it counts along and how many. Out: elements, or
the tensor with others stored or combined there. Dimensions of several are counted through row by row: masks do so. Indices are
checked when values are computed; the error names which one and its bound. Next: `gathering.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_, int32, int64, uint8
from flambeau.functions.common import canonical_dim, flat, ops

#: The ways in which a scatter combines what is there with an update.
STORE, ADD, MULTIPLY, LARGEST, SMALLEST = "scatter", "scatter_add", "scatter_mul", "scatter_max", "scatter_min"


def whole(op: str, index: Value, what: str = "index", error: type[Exception] = RuntimeError) -> Value:
    """Positions as int64. Raises `error` for other dtypes."""
    if index.dtype not in (int32, int64):  # PyTorch takes no smaller ones for positions: uint8 once was a mask
        raise error(f"[{op}] {what} has dtype {index.dtype}. Convert it with .long().")
    return index.cast(int64)


def vector_along(
    op: str, input: Value, dim: Any, index: Value, error: type[Exception] = RuntimeError
) -> tuple[int, Value]:
    """The dimension from the front, and the positions along it as a vector. Raises IndexError for what is no vector, `error` for
    what is of another dtype."""
    index = whole(op, index, error=error)
    dim = canonical_dim(op, dim, len(input.shape))
    if len(index.shape) > 1:
        raise IndexError(f"[{op}] index has shape {index.shape}. Pass a vector of positions.")
    return dim, flat(index)


def same_dtype(op: str, x: Value, what: str, other: Value) -> None:
    """Raise RuntimeError unless what is written has the dtype of the input."""
    if other.dtype is not x.dtype:
        raise RuntimeError(f"[{op}] {what} is {other.dtype}, the input {x.dtype}. Convert one with .to().")


def from_front(op: str, index: Value, size: Any, what: str = "index") -> Value:
    """Positions counted from the front, which may be negative and count from the end, checked when values are computed."""
    index = ops.check_index(index, size=size, op=op, what=what, negative=True)
    return ops.select(index < 0, index + size, index)


def spread(index: Value, dim: int, shape: tuple[Any, ...]) -> Value:
    """A vector of positions along `dim` of `shape`, repeated over the other dimensions."""
    unit = tuple(index.shape[0] if d == dim else 1 for d in range(len(shape)))
    full = tuple(index.shape[0] if d == dim else n for d, n in enumerate(shape))
    return ops.reshape(index, shape=unit).expand(full)


def combine(way: str, x: Value, index: Value, updates: Value, axis: int) -> Value:
    """The scatter that combines in this way. Bools are numbers meanwhile."""
    if x.dtype is bool_ and way != STORE:
        return combine(way, x.cast(uint8), index, updates.cast(uint8), axis).cast(bool_)
    return getattr(ops, way)(x, index, updates, axis=axis)


class Places(NamedTuple):
    """Where an index points to in a tensor of `shape`.

    `lead` and `rest` are the dimensions before and behind the indexed ones, if these lie side by side: `numbers`, of the shape
    `own` flattened, then count through all the indexed ones, `count` places. Otherwise `lead` is None and they are
    numbers of elements of the whole tensor for each place in own + rest.
    """

    shape: tuple[Any, ...]
    own: tuple[Any, ...]
    lead: tuple[Any, ...] | None
    rest: tuple[Any, ...]
    count: Any
    numbers: Value

    @property
    def result(self) -> tuple[Any, ...]:
        """The shape of what is read there."""
        return (*(self.lead or ()), *self.own, *self.rest)

    def _lines(self) -> tuple[Any, ...]:
        """The tensor with its indexed dimensions in one."""
        if self.lead is None:
            return (1, self.count, 1)
        return (math.prod(self.lead), self.count, math.prod(self.rest))

    def _spread(self) -> Value:
        return spread(self.numbers, 1, self._lines())

    def read(self, x: Value) -> Value:
        """The elements there."""
        found = ops.gather(ops.reshape(x, shape=self._lines()), self._spread(), axis=1)
        return ops.reshape(found, shape=self.result)

    def write(self, x: Value, values: Value, way: str = STORE) -> Value:
        """`x` with `values`, of the shape of what is read there, combined with its elements."""
        lines, index = ops.reshape(x, shape=self._lines()), self._spread()
        made = combine(way, lines, index, ops.reshape(values, shape=index.shape), 1)
        return ops.reshape(made, shape=self.shape)


def places(
    op: str, x: Value, indices: Sequence[Value], spans: Sequence[tuple[int, int]], names: Sequence[str | None]
) -> Places:
    """The places of `x` where `indices` point; index k counts along spans[k] = (first dimension, how many), in ascending order.
    names[k] is what errors call it, None for one that is known to be in range and not negative."""
    shape = x.shape
    own = common_shape(op, [i.shape for i in indices])
    found = []
    for index, (dim, n), name in zip(indices, spans, names, strict=True):
        found.append(index if name is None else from_front(op, index, math.prod(shape[dim : dim + n]), name))
    found = [i.expand(own) for i in found]
    first, end = spans[0][0], sum(spans[-1])
    if sum(n for _, n in spans) == end - first:
        total = found[0]
        for index, (dim, n) in zip(found[1:], spans[1:], strict=True):
            total = total * math.prod(shape[dim : dim + n]) + index
        return Places(shape, own, shape[:first], shape[end:], math.prod(shape[first:end]), flat(total))
    taken = {d for dim, n in spans for d in range(dim, dim + n)}
    rest = tuple(n for d, n in enumerate(shape) if d not in taken)
    return Places(shape, own, None, rest, math.prod(shape), flat(_elements(x, found, spans, own, rest)))


def _elements(
    x: Value, indices: Sequence[Value], spans: Sequence[tuple[int, int]], own: tuple[Any, ...], rest: tuple[Any, ...]
) -> Value:
    """The numbers of the elements of `x`, of shape own + rest."""
    shape, full = x.shape, (*own, *rest)
    steps = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
    unit = own + (1,) * len(rest)
    total = None
    for index, (dim, n) in zip(indices, spans, strict=True):
        part = ops.reshape(index * steps[dim + n - 1], shape=unit).expand(full)
        total = part if total is None else total + part
    assert total is not None
    taken = {d for dim, n in spans for d in range(dim, dim + n)}
    for k, d in enumerate(d for d in range(len(shape)) if d not in taken):
        along = ops.iota(shape=full, dim=len(own) + k, dtype=int64, builder=x.builder)
        total = total + along * steps[d]
    return total


def common_shape(op: str, shapes: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """The shape that index tensors stretch to. Raises IndexError where they do not."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(s)) + tuple(s) for s in shapes]
    result = []
    for extents in zip(*padded, strict=True):
        wanted = [n for n in extents if n != 1]
        if any(n != wanted[0] for n in wanted):
            shown = ", ".join(str(tuple(s)) for s in shapes)
            raise IndexError(f"[{op}] index tensors of shapes {shown} do not broadcast. Make them equal or 1.")
        result.append(wanted[0] if wanted else 1)
    return tuple(result)


def stretched(op: str, values: Value, shape: tuple[Any, ...]) -> Value:
    """`values` broadcast to `shape`; leading dimensions of size 1 are dropped where there are more than that has. Raises
    RuntimeError where that does not work."""
    given = values.shape
    while len(given) > len(shape) and given[0] == 1:
        given = given[1:]
    padded = (1,) * (len(shape) - len(given)) + tuple(given)
    if len(given) > len(shape) or any(n not in (1, want) for n, want in zip(padded, shape)):
        raise RuntimeError(
            f"[{op}] values of shape {values.shape} do not broadcast to the shape {shape} of what is indexed. Reshape them."
        )
    return ops.reshape(values, shape=padded).expand(shape)
