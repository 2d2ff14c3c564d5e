"""Diagonals: diagonal (a view), diag, diag_embed, diagflat, diagonal_scatter, trace, and the places of triangles.

In: tensors. Out: `diagonal` and `diag` of a matrix as views, all else as new tensors. Next: `rearranging.py`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from flambeau import host, layout
from flambeau.declarations import declare, declared
from flambeau.device import Device, place
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import DType, bool_, int32, int64, of_python
from flambeau.function import Operand, Sizes, Static, Tensor_, function, inplace, view
from flambeau.functions.common import canonical_dim, flat, integer, ops
from flambeau.functions.from_data import with_grad
from flambeau.functions.reduce import accumulating
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data


class _Diagonal:
    """Where a diagonal lies: `order` puts its two dimensions last; in these, laid flat, it starts at `start`, has `size`
    elements and goes on by `step`."""

    def __init__(self, op: str, shape: tuple[int, ...], offset: int, dim1: int, dim2: int) -> None:
        rank = len(shape)
        if rank < 2:
            raise RuntimeError(f"[{op}] the tensor has {rank} dimensions. It takes at least 2.")
        row, column = canonical_dim(op, dim1, rank), canonical_dim(op, dim2, rank)
        if row == column:
            raise RuntimeError(f"[{op}] dim1 {dim1} and dim2 {dim2} are the same dimension. Name two.")
        self.order = (*(d for d in range(rank) if d not in (row, column)), row, column)
        self.rest = tuple(shape[d] for d in self.order[:-2])
        self.rows, self.columns = shape[row], shape[column]
        self.size = max(
            0, min(self.rows, self.columns - offset) if offset >= 0 else min(self.rows + offset, self.columns)
        )
        self.start = (offset if offset >= 0 else -offset * self.columns) if self.size else 0
        self.step = self.columns + 1 if self.size > 1 else 1

    def flat(self, x: Value) -> Value:
        return ops.reshape(ops.permute(x, perm=self.order), shape=(*self.rest, self.rows * self.columns))

    def unflat(self, x: Value) -> Value:
        back = tuple(self.order.index(d) for d in range(len(self.order)))
        return ops.permute(ops.reshape(x, shape=(*self.rest, self.rows, self.columns)), perm=back)

    def read(self, x: Value) -> Value:
        rank = len(self.rest)
        return ops.slice(
            self.flat(x),
            starts=(*(0,) * rank, self.start),
            sizes=(*self.rest, self.size),
            steps=(*(1,) * rank, self.step),
        )

    def put(self, x: Value, new: Value) -> Value:
        rank = len(self.rest)
        starts = [x.builder.constant(n, int64) for n in (*(0,) * rank, self.start)]
        return self.unflat(ops.update_slice(self.flat(x), new, *starts, steps=(*(1,) * rank, self.step)))


@view(
    name="diagonal",
    put=lambda base, new, offset, dim1, dim2: _Diagonal("diagonal", base.shape, offset, dim1, dim2).put(base, new),
)
def _diagonal(input: Tensor_, offset: Sizes, dim1: Static, dim2: Static):
    return _Diagonal("diagonal", input.shape, offset, dim1, dim2).read(input)


_DIAGONAL = calls(
    lambda: [
        call(data(3, 4)),
        call(data(3, 4), 2),
        call(data(4, 3), -2),
        call(data(2, 3, 4), 1, -1, 0),
        call(data(2, 3), 5, gradient=False),
        call(data(3), error=(RuntimeError, "takes at least 2")),
        call(data(2, 3), 0, 1, -1, error=(RuntimeError, "the same dimension")),
    ]
)


@declared(free="flambeau", method=True, samples=_DIAGONAL, recalled="operand")
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of dimensions `dim1` and `dim2` as the last dimension of a view; `offset` counts diagonals to the right of the
    main one, negative ones to the left.

    Raises RuntimeError for fewer than two dimensions, or the same one twice, TypeError for an offset that is no int.
    """
    rank, offset = input.ndim, integer("diagonal", "offset", offset)
    if rank > 1 and type(dim1) is type(dim2) is int and -rank <= min(dim1, dim2) and max(dim1, dim2) < rank:
        steps, shape = layout.strides(input), input.shape
        if steps[dim1] != shape[dim2] * steps[dim2] and steps[dim2] == shape[dim1] * steps[dim1]:
            return _diagonal(
                input, -offset, dim2, dim1
            )  # the same, found where neighbours lie: its strides can be told
    return _diagonal(input, offset, dim1, dim2)


def _linalg_diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """`flambeau.diagonal` of the last two dimensions, unless others are named. A view."""
    return diagonal(A, offset, dim1, dim2)


declare(
    _linalg_diagonal,
    "diagonal",
    free="linalg",
    samples=calls(lambda: [call(data(2, 3, 4), offset=1), call(data(2, 3), dim1=1, dim2=0)]),
)


def embedded(op: str, x: Value, offset: int, dim1: int, dim2: int) -> Value:
    """Zeros with the last dimension of x on a diagonal of two new dimensions."""
    if not x.shape:
        raise RuntimeError(f"[{op}] a 0-d tensor has no diagonal. Give it a dimension first.")
    rank, n = len(x.shape) + 1, x.shape[-1]
    row, column = canonical_dim(op, dim1, rank), canonical_dim(op, dim2, rank)
    if row == column:
        raise RuntimeError(f"[{op}] dim1 {dim1} and dim2 {dim2} are the same dimension. Name two.")
    side = n + abs(offset)
    rest = list(x.shape[:-1])
    shape = [0] * rank
    for d in range(rank):
        shape[d] = side if d in (row, column) else rest.pop(0)
    place = _Diagonal(op, tuple(shape), offset, dim1, dim2)
    return place.put(x.builder.constant(0, x.dtype, tuple(shape)), x)


@function(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(3)),
            call(data(2, 3), 1),
            call(data(2, 3), -1, 0, 2),
            call(data(), error=(RuntimeError, "has no diagonal")),
        ]
    ),
)
def diag_embed(input: Tensor_, offset: Sizes = 0, dim1: Static = -2, dim2: Static = -1):
    """Zeros with the last dimension of `input` on diagonal number `offset` of two new dimensions, which become `dim1` and
    `dim2`."""
    return embedded("diag_embed", input, offset, dim1, dim2)


@function(name="diag")
def _diag_embed(input: Tensor_, diagonal: Sizes):
    return embedded("diag", input, diagonal, 0, 1)


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(3)),
            call(data(3), -1),
            call(data(3, 4), 1),
            call(data(2, 2, 2), error=(RuntimeError, "Pass a vector or a matrix")),
        ]
    ),
    recalled="operand",
)
def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """Of a matrix, diagonal number `diagonal` (0 the main one) as a copy; of a vector, the matrix that has it there.

    Raises RuntimeError for other tensors.
    """
    if input.ndim not in (1, 2):
        raise RuntimeError(f"[diag] the tensor has shape {input.shape}. Pass a vector or a matrix.")
    return _diag_embed(input, diagonal) if input.ndim == 1 else diagonal_copy(input, diagonal)


@function(free="flambeau", method=True, samples=calls(lambda: [call(data(2, 2)), call(data(), 1), call(data(2), -1)]))
def diagflat(input: Tensor_, offset: Sizes = 0):
    """The matrix that has all elements of `input`, in row-major order, on diagonal number `offset`, zeros elsewhere."""
    return embedded("diagflat", flat(input), offset, 0, 1)


@function(free="flambeau", samples=calls(lambda: [call(data(3, 4), 1), call(data(2, 3, 4), -1, 1, 2)]))
def diagonal_copy(input: Tensor_, offset: Sizes = 0, dim1: Static = 0, dim2: Static = 1):
    """A copy of what `diagonal` shows."""
    return _Diagonal("diagonal_copy", input.shape, offset, dim1, dim2).read(input)


@function(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(3, 4), data(3)),
            call(data(2, 3, 3), data(2, 2), 1, 1, 2),
            call(data(3, 3), data(2), error=(RuntimeError, "does not fit the diagonal")),
        ]
    ),
)
def diagonal_scatter(input: Tensor_, src: Tensor_, offset: Sizes = 0, dim1: Static = 0, dim2: Static = 1):
    """A copy of `input` with `src` on a diagonal, see `diagonal`. Raises RuntimeError for another shape than that has."""
    place = _Diagonal("diagonal_scatter", input.shape, offset, dim1, dim2)
    if src.shape != (*place.rest, place.size):
        raise RuntimeError(
            f"[diagonal_scatter] src of shape {src.shape} does not fit the diagonal of shape {(*place.rest, place.size)}."
        )
    return place.put(input, src.cast(input.dtype))


def _of_calls(input: Any) -> Any:
    """The function, whose calls print what they record."""
    if not callable(input):
        raise TypeError(f"[trace] argument 'input' must be a Tensor or a function, got {type(input).__name__}.")
    return import_module("flambeau.tracing").Tracing(input)


@function(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(3, 3)),
            call(data(2, 4)),
            call(data(0, 2), gradient=False),
            call(data(3), error=(RuntimeError, "Pass a matrix")),
        ]
    ),
    otherwise=_of_calls,
)
def trace(input: Tensor_):
    """The sum of the main diagonal of a matrix; of integers int64. Raises RuntimeError for other tensors.

    `trace(fn)(*args)` prints what `fn(*args)` records, as Python with types; nothing is run.
    """
    if len(input.shape) != 2:
        raise RuntimeError(f"[trace] the tensor has shape {input.shape}. Pass a matrix.")
    if input.dtype is bool_:
        raise NotImplementedError("[trace] is not defined for bool tensors. Cast them first.")
    return ops.sum(accumulating(_Diagonal("trace", input.shape, 0, 0, 1).read(input), None), axes=(0,))


# ---- places of triangles ----------------------------------------------------------------------------------


@inplace(
    method=True,
    samples=calls(
        lambda: [
            call(data(3, 4), 2),
            call(data(7, 2), 0.5, wrap=True),
            call(data(7, 2), data(), False),
            call(data(2, 2, 2), 1),
            call(data(3), 1, error=(RuntimeError, "takes at least 2")),
            call(data(2, 3, 2), 1, error=(RuntimeError, "Make all sizes equal")),
        ]
    ),
)
def fill_diagonal_(input: Tensor_, fill_value: Operand, wrap: Static = False):
    """Set the elements whose indices are all equal to a number, in place; with `wrap` the diagonal of a tall matrix begins again
    below its end, one row further down. Raises RuntimeError for less than 2 dimensions, and for sizes of more that differ."""
    shape = input.shape
    if len(shape) < 2 or fill_value.shape:
        raise RuntimeError(
            f"[fill_diagonal_] shapes are {shape} and {fill_value.shape}. It takes at least 2 dimensions, and a number."
        )
    if len(shape) > 2 and any(n != shape[0] for n in shape):
        raise RuntimeError(f"[fill_diagonal_] the tensor has shape {shape}. Make all sizes equal, or pass a matrix.")
    at = [ops.iota(shape=shape, dim=d, dtype=int64, builder=input.builder) for d in range(len(shape))]
    if wrap and len(shape) == 2:
        at[0] = ops.int_rem(at[0], at[0].like(shape[1] + 1))
    here = at[0].eq(at[1])
    for other in at[2:]:
        here = ops.and_(here, at[0].eq(other))
    return ops.select(here, fill_value.cast(input.dtype).expand(shape), input)


def _indices(
    op: str, row: int, col: int, offset: int, dtype: DType, device: Device, requires_grad: bool, lower: bool
) -> Tensor:
    there, dtype = place(device), of_python(dtype)
    if row < 0 or col < 0:
        raise RuntimeError(f"[{op}] a matrix of {row} rows and {col} columns was asked for. Use at least 0.")
    if dtype not in (int32, int64):
        raise NotImplementedError(f"[{op}] dtype is {dtype}. Use int64 or int32.")
    line, column = np.arange(row, dtype=np.int64)[:, None], np.arange(col, dtype=np.int64)
    keep = column - line <= offset if lower else column - line >= offset
    return with_grad(host.copied(np.stack(np.nonzero(keep)), dtype, there=there), requires_grad)


_PLACES = calls(
    lambda: [call(3, 3), call(3, 4, 1), call(4, 2, -1), call(0, 2), call(-1, 2, error=(RuntimeError, "at least 0"))]
)


@declared(free="flambeau", samples=_PLACES)
def tril_indices(
    row: int,
    col: int,
    offset: int = 0,
    *,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """Rows and columns, [2, n], of the elements of a [row, col] matrix on and below diagonal number `offset`, row by row."""
    return _indices("tril_indices", row, col, offset, dtype or int64, device, requires_grad, True)


@declared(free="flambeau", samples=_PLACES)
def triu_indices(
    row: int,
    col: int,
    offset: int = 0,
    *,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """Rows and columns, [2, n], of the elements of a [row, col] matrix on and above diagonal number `offset`, row by row."""
    return _indices("triu_indices", row, col, offset, dtype or int64, device, requires_grad, False)
