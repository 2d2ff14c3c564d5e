"""Copies in a new arrangement: cat, stack, pad, flip, roll, repeat, and one_hot.

In: tensors. Out: new tensors that share nothing. Next: `joining.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_, int64
from flambeau.function import Operand, Sizes, Static, Tensor_, Tensors, function
from flambeau.functions.common import canonical_dim, canonical_dims, fitted, flat, integer, ops, part
from flambeau.functions.shape import _sizes
from flambeau.promotion import result_dtype
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, index


def joined(op: str, tensors: list[Value], dim: int, kind: type[Exception] = RuntimeError) -> Value:
    """What `cat` gives, for the function `op`, which raises `kind` for no tensors."""
    if not tensors:
        raise kind(f"[{op}] got no tensors. Pass at least one.")
    dtype = result_dtype(tensors)
    first = next((x for x in tensors if x.shape != (0,)), tensors[0])
    if not first.shape:
        raise RuntimeError(f"[{op}] 0-d tensors cannot be concatenated. Use stack, or give them a dimension first.")
    dim = canonical_dim(op, dim, len(first.shape))
    empty = (*first.shape[:dim], 0, *first.shape[dim + 1 :])
    used = [ops.reshape(x, shape=empty) if x.shape == (0,) else x for x in tensors]  # they get a gradient, too
    for x in used:
        if len(x.shape) != len(first.shape) or any(
            d != dim and m != n for d, (m, n) in enumerate(zip(first.shape, x.shape))
        ):
            raise RuntimeError(
                f"[{op}] shapes {first.shape} and {x.shape} differ outside of dimension {dim}. Make the other sizes equal."
            )
    values = [x.cast(dtype) for x in used]
    return ops.concat(*values, dim=dim)


@function(
    free="flambeau",
    aliases="concat concatenate",
    samples=calls(
        lambda: [
            call([data(2, 3), data(1, 3)]),
            call([data(2, 3), data(2, 1), data(2, 0)], dim=1),
            call([data(2), index(4, 3)], 0, gradient=False),
            call([], error=(ValueError, "got no tensors")),
            call([data(2, 3), data(2, 2)], error=(RuntimeError, "differ outside of dimension 0")),
        ]
    ),
)
def cat(tensors: Tensors, dim: Static = 0):
    """The tensors one after the other along `dim`; all other sizes must agree. Dtype: the promoted one.

    Raises ValueError for no tensors, RuntimeError for sizes that differ; one-dimensional empty tensors fit anywhere, as in PyTorch.
    """
    return joined("cat", tensors, dim, ValueError)


def stacked(op: str, tensors: list[Value], dim: int) -> Value:
    """What `stack` gives, for the function `op`."""
    if not tensors:
        raise RuntimeError(f"[{op}] got no tensors. Pass at least one.")
    shape = tensors[0].shape
    for x in tensors:
        if x.shape != shape:
            raise RuntimeError(f"[{op}] shapes {shape} and {x.shape} differ. Stack tensors of one shape.")
    dim = canonical_dim(op, dim, len(shape) + 1)
    dtype = result_dtype(tensors)
    unit = (*shape[:dim], 1, *shape[dim:])
    return ops.concat(*(ops.reshape(x.cast(dtype), shape=unit) for x in tensors), dim=dim)


@function(
    free="flambeau",
    samples=calls(
        lambda: [
            call([data(2, 3), data(2, 3)]),
            call([data(2, 3), data(2, 3)], dim=-1),
            call([data(2), data(3)], error=(RuntimeError, "differ")),
        ]
    ),
)
def stack(tensors: Tensors, dim: Static = 0):
    """Tensors of one shape joined along a new dimension `dim`. Raises RuntimeError for no tensors or differing shapes."""
    return stacked("stack", tensors, dim)


@function(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(2, 3), (0,)),
            call(data(2, 3, 2), (0, -1)),
            call(data(2), (3,), error=(IndexError, "dim 3 is out of range")),
        ]
    ),
    variadic=True,
)
def flip(input: Tensor_, dims: Static):
    """With the order along each of `dims` (ints or a tuple) reversed. A copy."""
    named = _sizes(dims)
    dims = canonical_dims("flip", named, len(input.shape)) if named else ()
    return ops.flip(input, axes=dims) if dims else input


def _rolled(x: Value, shift: int, dim: int) -> Value:
    extent = x.shape[dim]
    shift = integer("roll", "shift", shift) % extent if extent else 0
    if not shift:
        return x
    return ops.concat(part(x, dim, extent - shift, shift), part(x, dim, 0, extent - shift), dim=dim)


@function(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(2, 3), 1),
            call(data(2, 3), (1, -2), (0, 1)),
            call(data(2, 3), (1, 2), 0, error=(RuntimeError, "Give one shift per dimension")),
        ]
    ),
)
def roll(input: Tensor_, shifts: Sizes, dims: Static = ()):
    """Elements shifted by `shifts` along `dims`, those that leave at the end enter at the start; flattened if no dims."""
    if not _sizes(shifts):
        raise RuntimeError("[roll] there are no shifts. Pass at least one.")
    if dims is None or (dims == () and len(_sizes(shifts)) == 1):
        if 0 in input.shape:
            return input
        return ops.reshape(_rolled(flat(input), _sizes(shifts)[0], 0), shape=input.shape)
    shifts, dims = _sizes(shifts), _sizes(dims)
    if len(shifts) != len(dims):
        raise RuntimeError(f"[roll] {len(shifts)} shifts for {len(dims)} dims. Give one shift per dimension.")
    x = input
    for shift, dim in zip(shifts, dims):
        x = _rolled(x, shift, canonical_dim("roll", dim, len(x.shape)))
    return x


@function(
    method=True,
    samples=calls(
        lambda: [
            call(data(2, 3), 2, 1),
            call(data(3), (2, 2)),
            call(data(2, 3), 2, error=(RuntimeError, "do not fit the shape")),
        ]
    ),
    variadic=True,
)
def repeat(input: Tensor_, repeats: Sizes):
    """The tensor laid out `repeats[d]` times along each dimension d; new dimensions go in front.

    Raises RuntimeError for fewer repeats than dimensions.
    """
    return _tiled("repeat", input, _sizes(repeats), strict=True)


@function(
    free="flambeau", method=True, samples=calls(lambda: [call(data(2, 3), (2,)), call(data(3), (2, 2))]), variadic=True
)
def tile(input: Tensor_, dims: Sizes):
    """`repeat`, with missing repeats in front taken as 1."""
    return _tiled("tile", input, _sizes(dims), strict=False)


def _tiled(op: str, x: Value, repeats: tuple[int, ...], strict: bool) -> Value:
    rank = len(x.shape)
    if any(n < 0 for n in repeats) or (strict and len(repeats) < rank):
        raise RuntimeError(
            f"[{op}] repeats {repeats} do not fit the shape {x.shape}. Give one of at least 0 per dimension."
        )
    repeats = (1,) * (rank - len(repeats)) + tuple(repeats)
    shape = (1,) * (len(repeats) - rank) + x.shape
    between = tuple(n for extent in shape for n in (1, extent))
    stretched = tuple(n for count, extent in zip(repeats, shape) for n in (count, extent))
    x = ops.broadcast(ops.reshape(x, shape=between), shape=stretched)
    return ops.reshape(x, shape=tuple(count * extent for count, extent in zip(repeats, shape)))


def _margins(op: str, pad: tuple[int, ...], rank: int) -> tuple[list[int], list[int]]:
    """Margins per dimension from PyTorch's list, which starts at the last dimension."""
    if len(pad) % 2 or len(pad) > 2 * rank:
        raise RuntimeError(
            f"[{op}] pad {pad} has {len(pad)} entries for {rank} dimensions. Give (low, high) pairs, last first."
        )
    low, high = [0] * rank, [0] * rank
    for i in range(0, len(pad), 2):
        low[rank - 1 - i // 2], high[rank - 1 - i // 2] = pad[i], pad[i + 1]
    return low, high


@declared(
    free="flambeau",
    samples=calls(lambda: [call(data(2, 3), (1, 2)), call(data(2, 3), (-1, 1, 0, 2), 1)]),
    recalled="operand",
)
def constant_pad_nd(input: Tensor, pad: Any, value: float = 0) -> Tensor:
    """`nn.functional.pad(input, pad, value=value)`."""
    return _pad_constant(input, tuple(pad), value)


@function(name="pad", fallible=True)
def _pad_constant(input: Tensor_, pad: Sizes, value: Operand = 0.0):
    low, high = _margins("pad", pad, len(input.shape))
    x = input
    cut_low, cut_high = [max(-n, 0) for n in low], [max(-n, 0) for n in high]
    if any(cut_low) or any(cut_high):
        sizes = tuple(n - a - b for n, a, b in zip(x.shape, cut_low, cut_high))
        if any(n < 0 for n in sizes):
            raise RuntimeError(f"[pad] pad {pad} leaves a negative size of shape {x.shape}. Use smaller margins.")
        x = ops.slice(x, starts=tuple(cut_low), sizes=sizes, steps=(1,) * len(sizes))
    value = fitted("pad", "value", value, x.dtype)
    return ops.pad(x, value.cast(x.dtype), low=tuple(max(n, 0) for n in low), high=tuple(max(n, 0) for n in high))


def _mirrored(x: Value, dim: int, low: int, high: int, mode: str) -> Value:
    """x with margins along one dimension taken from x itself."""
    extent = x.shape[dim]

    def edge(start: int, count: int) -> Value:
        return ops.broadcast(
            part(x, dim, start, 1), shape=tuple(count if d == dim else n for d, n in enumerate(x.shape))
        )

    if mode == "reflect":
        before, after = (
            lambda: ops.flip(part(x, dim, 1, low), axes=(dim,)),
            lambda: ops.flip(part(x, dim, extent - 1 - high, high), axes=(dim,)),
        )
    elif mode == "replicate":
        before, after = lambda: edge(0, low), lambda: edge(extent - 1, high)
    else:
        before, after = lambda: part(x, dim, extent - low, low), lambda: part(x, dim, 0, high)
    parts = [*([before()] if low else []), x, *([after()] if high else [])]
    return ops.concat(*parts, dim=dim) if len(parts) > 1 else x


@function(name="pad")
def _pad_self(input: Tensor_, pad: Sizes, mode: Static):
    low, high = _margins("pad", pad, len(input.shape))
    limit = {"reflect": -1, "replicate": 1 << 62, "circular": 0}[mode]
    x, wraps = input, mode == "circular"
    for dim, (a, b) in enumerate(zip(low, high)):
        if a == b == 0:
            continue
        left, right = max(-a, 0), max(-b, 0)
        kept = x.shape[dim] - (left + right if wraps else 0)
        most = max(a, b)
        if kept < 0 or most > kept + limit or (most > 0 and kept == 0) or x.shape[dim] + a + b < 0:
            raise RuntimeError(
                f"[pad] {mode} margins ({a}, {b}) do not fit dimension {dim} of shape {input.shape}. Use smaller margins."
            )
        if wraps:  # what is left of the dimension goes round; mirrors and edges are those of all of it
            x = part(x, dim, left, kept) if left or right else x
        x = _mirrored(x, dim, max(a, 0), max(b, 0), mode)
        if not wraps and (left or right):
            x = part(x, dim, left, x.shape[dim] - left - right)
    return x


@declared(
    free="nn.functional",
    samples=calls(
        lambda: [
            call(data(2, 3), (1, 2)),
            call(data(2, 3), (-1, 1, 0, 2), value=1),
            *(call(data(4, 3), (1, 2, 2, 0), mode) for mode in ("reflect", "replicate", "circular")),
            *(call(data(4, 3), (-1, 1, 2, -1), mode) for mode in ("reflect", "replicate", "circular")),
            call(data(2), (1,), error=(RuntimeError, "Give (low, high) pairs")),
        ]
    ),
    recalled="operand",
)
def pad(input: Any, pad: tuple[int, ...], mode: str = "constant", value: float | None = None) -> Any:
    """`input` with margins: `pad` has (low, high) pairs for the last dimension, the one before, ...; negative ones crop.

    `mode`: "constant" (filled with `value`, default 0), "reflect", "replicate" or "circular". Raises RuntimeError for
    margins that do not fit.
    """
    if mode == "constant":
        return _pad_constant(input, tuple(pad), 0 if value is None else value)
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"[pad] mode {mode!r} is unknown. Use constant, reflect, replicate or circular.")
    if value is not None and value != 0:
        raise ValueError(f"[pad] mode {mode!r} takes no value, got {value}. Leave it out.")
    return _pad_self(input, tuple(pad), mode)


def one_hot_mask(index: Value, count: Any) -> Value:
    """Which of `count` classes, along a new last dimension, each int64 element names."""
    shape = (*index.shape, count)
    classes = ops.iota(shape=shape, dim=len(index.shape), dtype=int64, builder=index.builder)
    return classes.eq(ops.reshape(index, shape=(*index.shape, 1)).expand(shape))


@function(name="one_hot")
def _one_hot(input: Tensor_, num_classes: Sizes):
    return one_hot_mask(input, num_classes).cast(int64)


def triangle(x: Value, diagonal: int, lower: bool) -> Value:
    """x with zeros above (`lower`) or below its diagonal number `diagonal`."""
    if len(x.shape) < 2:
        raise RuntimeError(
            f"[{'tril' if lower else 'triu'}] the tensor has {len(x.shape)} dimensions. It takes at least 2."
        )
    rank = len(x.shape)
    row = ops.iota(shape=x.shape, dim=rank - 2, dtype=int64, builder=x.builder)
    column = ops.iota(shape=x.shape, dim=rank - 1, dtype=int64, builder=x.builder)
    offset = column - row
    keep = offset <= diagonal if lower else offset >= diagonal
    return ops.and_(x, keep) if x.dtype is bool_ else ops.select(keep, x, x.like(0))


@function(
    free="flambeau",
    method=True,
    in_place=True,
    samples=calls(
        lambda: [call(data(3, 4)), call(data(2, 3, 3), 1), call(data(3), error=(RuntimeError, "takes at least 2"))]
    ),
)
def tril(input: Tensor_, diagonal: Sizes = 0):
    """The lower triangle: zeros above diagonal number `diagonal` (0 the main one)."""
    return triangle(input, diagonal, True)


@function(
    free="flambeau",
    method=True,
    in_place=True,
    samples=calls(
        lambda: [call(data(3, 4)), call(data(2, 3, 3), -1), call(data(3), error=(RuntimeError, "takes at least 2"))]
    ),
)
def triu(input: Tensor_, diagonal: Sizes = 0):
    """The upper triangle: zeros below diagonal number `diagonal` (0 the main one)."""
    return triangle(input, diagonal, False)
