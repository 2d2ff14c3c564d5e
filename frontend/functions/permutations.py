"""Views with dimensions in another order: permute, transpose, movedim and the attributes that transpose.

In: a tensor and static dims. Out: a tensor on the same storage; writing to it writes to the input. All are made of the record
permute. Next: `expansion.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.declarations import attribute
from flambeau.dialects.builder import Value
from flambeau.function import Static, Tensor_, view
from flambeau.functions.common import canonical_dim, ops
from flambeau.functions.shape import _sizes
from flambeau.samples import call, calls, data


def _permuted(x: Value, order: tuple[int, ...]) -> Value:
    return x if order == tuple(range(len(order))) else ops.permute(x, perm=order)


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(order.index(d) for d in range(len(order)))


def permutation(op: str, dims: Any, rank: int) -> tuple[int, ...]:
    """`dims` counted from the front. Raises RuntimeError unless each dimension is named once."""
    dims = _sizes(dims)
    if len(dims) != rank:
        raise RuntimeError(
            f"[{op}] dims {dims} name {len(dims)} dimensions of a tensor that has {rank}. Name each once."
        )
    order = tuple(canonical_dim(op, d, rank) for d in dims)
    if len(set(order)) != rank:
        raise RuntimeError(f"[{op}] dims {dims} name a dimension twice. Name each once.")
    return order


def _unpermute(base: Value, new: Value, dims: Any) -> Value:
    return _permuted(new, _inverse(permutation("permute", dims, len(base.shape))))


@view(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(2, 3, 4), (2, 0, 1)),
            call(data(2, 3), (-1, 0)),
            call(data(2, 3), (0,), error=(RuntimeError, "Name each once")),
        ]
    ),
    variadic=True,
    put=_unpermute,
)
def permute(input: Tensor_, dims: Static):
    """Dimension i of the result is dimension `dims[i]` of the input."""
    return _permuted(input, permutation("permute", dims, len(input.shape)))


def _swapped(op: str, rank: int, dim0: int, dim1: int) -> tuple[int, ...]:
    order = list(range(rank))
    if rank:
        a, b = canonical_dim(op, dim0, rank), canonical_dim(op, dim1, rank)
        order[a], order[b] = order[b], order[a]
    return tuple(order)


def _transposed(rank: int, dim0: Any, dim1: int | None) -> tuple[int, ...]:
    if dim0 is None and dim1 is None:  # numpy.transpose(x)
        return tuple(reversed(range(rank)))
    if dim1 is None:
        return permutation("transpose", dim0, rank)
    canonical_dim("transpose", dim0, rank), canonical_dim("transpose", dim1, rank)
    return _swapped("transpose", rank, dim0, dim1)


def _swap(base: Value, new: Value, dim0: Any, dim1: int | None = None) -> Value:
    return _permuted(new, _inverse(_transposed(len(base.shape), dim0, dim1)))


@view(
    free="flambeau",
    method=True,
    aliases="swapaxes swapdims",
    samples=calls(
        lambda: [
            call(data(2, 3, 4), 0, 2),
            call(data(2, 3), -1, 0),
            call(data(2, 3, 4), (2, 0, 1)),
            call(data(2, 3, 4), None),
            call(data(2, 3), 0, 3, error=(IndexError, "dim 3 is out of range")),
        ]
    ),
    put=_swap,
)
def transpose(input: Tensor_, dim0: Static, dim1: Static = None):
    """With two dimensions swapped; as NumPy takes it, with a tuple of all dimensions in that order, with None in reverse order."""
    return _permuted(input, _transposed(len(input.shape), dim0, dim1))


def _untranspose(base: Value, new: Value) -> Value:
    return _permuted(new, tuple(reversed(range(len(base.shape)))))


@view(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [call(data(2, 3)), call(data(3)), call(data(2, 3, 4), error=(RuntimeError, "at most 2 are allowed"))]
    ),
    put=_untranspose,
)
def t(input: Tensor_):
    """The transposed matrix; a tensor of fewer dimensions as it is. Raises RuntimeError for more than two."""
    rank = len(input.shape)
    if rank > 2:
        raise RuntimeError(f"[t] the tensor has {rank} dimensions, at most 2 are allowed. Use transpose(dim0, dim1).")
    return _permuted(input, tuple(reversed(range(rank))))


@attribute("T")
@view(put=_untranspose, name="T")
def reversed_dims(input: Tensor_):
    """All dimensions in reverse order: `Tensor.T`."""
    return _permuted(input, tuple(reversed(range(len(input.shape)))))


@attribute("mT")
@view(put=lambda base, new: _swap(base, new, -2, -1), name="mT")
def matrix_transpose(input: Tensor_):
    """The last two dimensions swapped: `Tensor.mT`. Raises RuntimeError for fewer than two."""
    rank = len(input.shape)
    if rank < 2:
        raise RuntimeError(f"[mT] the tensor has {rank} dimensions. It takes at least 2.")
    return _permuted(input, _swapped("mT", rank, -2, -1))


def _moves(rank: int, source: Any, destination: Any) -> tuple[int, ...]:
    sources = [canonical_dim("movedim", d, rank) for d in _sizes(source)]
    targets = [canonical_dim("movedim", d, rank) for d in _sizes(destination)]
    if len(sources) != len(targets) or len(set(sources)) != len(sources) or len(set(targets)) != len(targets):
        raise RuntimeError(
            f"[movedim] cannot move {source} to {destination}. Name as many dimensions on both sides, each once."
        )
    rest = iter([d for d in range(rank) if d not in sources])
    placed = dict(zip(targets, sources, strict=True))
    return tuple(placed[d] if d in placed else next(rest) for d in range(rank))


@view(
    free="flambeau",
    method=True,
    aliases="moveaxis",
    samples=calls(
        lambda: [
            call(data(2, 3, 4), 0, 2),
            call(data(2, 3, 4), (0, 1), (-1, 0)),
            call(data(2, 3), (0, 1), 0, error=(RuntimeError, "each once")),
        ]
    ),
    put=lambda base, new, source, destination: _permuted(new, _inverse(_moves(len(base.shape), source, destination))),
)
def movedim(input: Tensor_, source: Static, destination: Static):
    """With dimensions `source` moved to positions `destination`; the others keep their order."""
    return _permuted(input, _moves(len(input.shape), source, destination))
