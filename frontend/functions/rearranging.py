"""Elements in another order: ravel, rot90, fliplr, flipud, repeat_interleave, unravel_index, vander, sum_to_size.

In: tensors. Out: new tensors; `ravel` gives a view where strides allow. Next: `copies.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flambeau import host
from flambeau.declarations import declare, declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_, int32, int64
from flambeau.function import Sizes, Static, Tensor_, function
from flambeau.functions.common import canonical_dim, flat, ops
from flambeau.functions.gathering import index_select
from flambeau.functions.reduce import accumulating, reduced
from flambeau.functions.scan import cumprod
from flambeau.functions.shape import _sizes, flatten
from flambeau.runtime.recorder import Size as Shape
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, index


@declared(
    free="flambeau",
    method=True,
    samples=calls(lambda: [call(data(2, 3)), call(data()), call(data(3))]),
    recalled="operand",
)
def ravel(input: Tensor) -> Tensor:
    """All elements in row-major order as one dimension: a view where strides allow, else a copy."""
    return flatten(input)


# ---- turned and mirrored ----------------------------------------------------------------------------------


def _mirrored(op: str, x: Value, dim: int) -> Value:
    if len(x.shape) <= dim:
        raise RuntimeError(f"[{op}] the tensor has {len(x.shape)} dimensions. It takes at least {dim + 1}.")
    return ops.flip(x, axes=(dim,))


@function(
    free="flambeau",
    method=True,
    samples=calls(lambda: [call(data(2, 3)), call(data(3), error=(RuntimeError, "least 2"))]),
)
def fliplr(input: Tensor_):
    """With the order along the second dimension reversed, copied. Raises RuntimeError for fewer than two dimensions."""
    return _mirrored("fliplr", input, 1)


@function(
    free="flambeau",
    method=True,
    samples=calls(lambda: [call(data(2, 3)), call(data(), error=(RuntimeError, "least 1"))]),
)
def flipud(input: Tensor_):
    """With the order along the first dimension reversed, copied. Raises RuntimeError for 0-d tensors."""
    return _mirrored("flipud", input, 0)


@function(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            *(call(data(2, 3), k) for k in range(4)),
            call(data(2, 3, 2), -1, (2, 0)),
            call(data(2, 3), 1, (0, -2), error=(RuntimeError, "Name two")),
            call(data(3), error=(RuntimeError, "at least 2")),
        ]
    ),
)
def rot90(input: Tensor_, k: Static = 1, dims: Static = (0, 1)):
    """Turned by 90 degrees `k` times, from the first of two `dims` towards the second. A copy.

    Raises RuntimeError for other than two different dims.
    """
    rank = len(input.shape)
    if rank < 2:
        raise RuntimeError(f"[rot90] the tensor has {rank} dimensions. It takes at least 2.")
    pair = [canonical_dim("rot90", d, rank) for d in _sizes(dims)]
    if len(pair) != 2 or pair[0] == pair[1]:
        raise RuntimeError(f"[rot90] dims {dims} are not two dimensions of the tensor. Name two.")
    first, second = pair
    order = list(range(rank))
    order[first], order[second] = second, first
    turned = k % 4
    if turned == 0:
        return input
    if turned == 1:
        return ops.permute(ops.flip(input, axes=(second,)), perm=tuple(order))
    if turned == 2:
        return ops.flip(input, axes=tuple(sorted(pair)))
    return ops.flip(ops.permute(input, perm=tuple(order)), axes=(second,))


# ---- repeated ---------------------------------------------------------------------------------------------


@function(name="repeat_interleave")
def _repeat_each(input: Tensor_, repeats: Sizes, dim: Static):
    x = flat(input) if dim is None else input
    dim = 0 if dim is None else canonical_dim("repeat_interleave", dim, len(x.shape))
    x = ops.reshape(x, shape=(1,)) if not x.shape else x
    shape = (*x.shape[: dim + 1], repeats, *x.shape[dim + 1 :])
    wide = ops.reshape(x, shape=(*x.shape[: dim + 1], 1, *x.shape[dim + 1 :])).expand(shape)
    return ops.reshape(wide, shape=(*x.shape[:dim], x.shape[dim] * repeats, *x.shape[dim + 1 :]))


def _counts(repeats: Tensor) -> np.ndarray:
    if repeats.ndim > 1 or repeats.dtype not in (int32, int64):
        raise RuntimeError(
            f"[repeat_interleave] repeats are {repeats.dtype.name} of shape {repeats.shape}. Pass an int, or a vector of int64."
        )
    found = host.array_of(repeats.detach())
    if (found < 0).any():
        raise RuntimeError(f"[repeat_interleave] repeats has {found.min()}. Use at least 0.")
    return found


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(2, 3), 2),
            call(data(2, 3), 3, 1),
            call(data(2, 3), np.array([0, 2]), dim=0),
            call(np.array([2, 0, 1])),
            call(data(), 2),
            call(data(3), -1, error=(RuntimeError, "Use at least 0")),
            call(data(3), np.array([1, 2]), error=(RuntimeError, "Give one for each")),
        ]
    ),
)
def repeat_interleave(
    input: Tensor, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """Each slice along `dim` (of all elements in order, if None) `repeats` times, which is an int or a vector of int64 with one
    number for each slice. Without `repeats`: position i as often as `input`, such a vector, says.

    Numbers in a tensor are read. Raises RuntimeError for negative numbers and for other than one for each slice.
    """
    if repeats is None:
        counts = _counts(input)
        if counts.ndim != 1:
            raise RuntimeError(f"[repeat_interleave] repeats has shape {counts.shape}. Pass a vector.")
        return host.copied(np.repeat(np.arange(counts.size, dtype=np.int64), counts), input.dtype, there=input._place)
    if isinstance(repeats, tuple | list):
        repeats = host.copied(np.array(repeats, np.int64), int64)
    if isinstance(repeats, Tensor):
        counts = _counts(repeats)
        if counts.size == 1:
            repeats = int(counts.reshape(-1)[0])
    if not isinstance(repeats, Tensor):
        if repeats < 0:
            raise RuntimeError(f"[repeat_interleave] repeats is {repeats}. Use at least 0.")
        return _repeat_each(input, repeats.__index__(), dim)
    x = flatten(input) if dim is None else input
    dim = 0 if dim is None else canonical_dim("repeat_interleave", dim, x.ndim)
    if counts.size != x.shape[dim]:
        raise RuntimeError(
            f"[repeat_interleave] there are {counts.size} repeats for {x.shape[dim]} slices along dimension {dim}. Give one "
            "for each."
        )
    places = host.copied(np.repeat(np.arange(counts.size, dtype=np.int64), counts), int64, there=input._place)
    return index_select(x, dim, places)


# ---- places, powers, sums ---------------------------------------------------------------------------------


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call(index(12, 4), (3, 4)),
            call(index(5, 2, 2), 5),
            call(data(2), (2, 2), error=(TypeError, "Pass integers")),
            call(index(3, 2), (-1, 3), error=(ValueError, "at least 0")),
        ]
    ),
)
def unravel_index(indices: Tensor, shape: Any) -> tuple[Tensor, ...]:
    """Positions in the flattened tensor of a `shape` as one tensor of coordinates for each dimension.

    Raises TypeError for other than integers, ValueError for negative sizes.
    """
    if indices.dtype.is_floating_point or indices.dtype is bool_:
        raise TypeError(f"[unravel_index] indices are {indices.dtype.name}. Pass integers.")
    sizes = [n.__index__() for n in (shape if isinstance(shape, tuple | list) else (shape,))]
    if any(n < 0 for n in sizes):
        raise ValueError(f"[unravel_index] shape is {tuple(sizes)}. Use sizes of at least 0.")
    found, inner = [], 1
    for n in reversed(sizes):
        found.append((indices // inner) % n)
        inner *= n
    return tuple(reversed(found))


@function(name="vander")
def _powers(x: Tensor_, count: Sizes, increasing: Static):
    x = accumulating(x, None)
    ones = x.builder.constant(1, x.dtype, (*x.shape, 1))
    if not count:
        return ops.slice(ones, starts=(0,) * len(ones.shape), sizes=(*x.shape, 0), steps=(1,) * len(ones.shape))
    base = ops.reshape(x, shape=(*x.shape, 1)).expand((*x.shape, count - 1))
    powers = ops.concat(ones, cumprod.rule(base, -1), dim=len(x.shape)) if count > 1 else ones
    return powers if increasing else ops.flip(powers, axes=(len(x.shape),))


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call(data(3)),
            call(data(3), 2, True),
            call(data(2), 0, gradient=False),
            call(data(2, 2), error=(RuntimeError, "Pass a vector")),
        ]
    ),
    recalled="operand",
)
def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """The powers of the elements of a vector as rows, [n, N], the highest first unless `increasing`; N is n by default.

    Raises RuntimeError for other than vectors and for a negative N.
    """
    if x.ndim != 1:
        raise RuntimeError(f"[vander] the tensor has shape {x.shape}. Pass a vector.")
    count = x.shape[0] if N is None else N
    if count < 0:
        raise RuntimeError(f"[vander] N is {count}. Use at least 0.")
    return _powers(x, count, bool(increasing))


def _linalg_vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """The powers of the elements along the last dimension, [..., n, N], from 0 up; N is n by default. Raises RuntimeError
    for an N below 1."""
    x = x if x.ndim else x.unsqueeze(0)
    count = x.shape[-1] if N is None else N
    if N is not None and N < 1:
        raise RuntimeError(f"[vander] N is {N}. Use at least 1.")
    return _powers(x, count, True)


declare(
    _linalg_vander,
    "vander",
    free="linalg",
    samples=calls(
        lambda: [
            call(data(3)),
            call(data(2, 3), N=2),
            call(data(), N=2),
            call(data(2), N=0, error=(RuntimeError, "Use at least 1")),
        ]
    ),
)


@function(name="sum_to_size")
def _summed(input: Tensor_, size: Sizes):
    new = len(input.shape) - len(size)
    axes = tuple(d for d, n in enumerate(input.shape) if d < new or (size[d - new] == 1 and n != 1))
    return ops.reshape(reduced("sum", input, axes, False), shape=size) if axes else input


@declared(
    method=True,
    samples=calls(
        lambda: [
            call(data(2, 3), 1, 3),
            call(data(4, 2, 3), (2, 1)),
            call(data(2, 3), (2, 3)),
            call(data(2, 3), (2, 2), error=(RuntimeError, "does not expand")),
        ]
    ),
    recalled="operand",
)
def sum_to_size(input: Tensor, *size: Any) -> Tensor:
    """Summed to the shape `size`, from which the tensor's own shape is what `expand` makes; itself if it has that shape.

    Raises RuntimeError for other sizes.
    """
    wanted = tuple(n.__index__() for n in _sizes(size))
    shape = input.shape
    new = len(shape) - len(wanted)
    if new < 0 or any(n not in (1, shape[d + new]) for d, n in enumerate(wanted)):
        raise RuntimeError(f"[sum_to_size] size {Shape(wanted)} does not expand to the shape {shape}.")
    return input if wanted == shape else _summed(input, wanted)
