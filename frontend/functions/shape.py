"""Views: reshape, flatten, squeeze and relatives share storage with their input.

In: a tensor and static sizes or dims. Out: a tensor on the same storage; writing to it writes to the input. Every view is
made of the records reshape, permute and broadcast. Next: `permutations.py`, `expansion.py`; `indexing.py` for windows,
`assemble.py` for copies.
"""

from __future__ import annotations

import math
from typing import Any

from flambeau import layout
from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import DType, bool_, of_python
from flambeau.dialects.size import Size
from flambeau.function import Sizes, Static, Tensor_, function, view
from flambeau.functions.common import canonical_dim, canonical_dims, ops
from flambeau.host import check_supported, exported, is_whole, shared
from flambeau.memory_format import in_format
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, unary


def solve_shape(op: str, size: int, shape: tuple[int, ...], found: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` with its -1, if any, replaced so that it holds `size` elements. Raises RuntimeError if none fits."""
    wanted = tuple(n if isinstance(n, Size) else n.__index__() for n in shape)
    known = math.prod(n for n in wanted if n != -1)
    holes = wanted.count(-1)
    if holes > 1 or any(n < -1 for n in wanted):
        raise RuntimeError(f"[{op}] shape {wanted} is not valid. Use sizes of at least 0 and at most one -1.")
    if holes and known == 0:
        raise RuntimeError(f"[{op}] shape {wanted} leaves -1 open for {size} elements. Replace the -1.")
    result = tuple(size // known if n == -1 else n for n in wanted) if holes else wanted
    if math.prod(result) != size:
        raise RuntimeError(
            f"[{op}] shape {wanted} does not fit the {size} elements of shape {found}. Give sizes whose product is {size}."
        )
    return result


def _sizes(shape: Any) -> tuple[int, ...]:
    """The sizes of a variadic argument: `f(2, 3)`, `f((2, 3))` and `f([2, 3])` are alike."""
    if isinstance(shape, tuple) and len(shape) == 1 and isinstance(shape[0], tuple | list):
        return tuple(shape[0])
    return tuple(shape) if isinstance(shape, tuple | list) else (shape,)


def _one_shape(op: str, written: tuple[Any, ...], named: Any) -> tuple[Any, ...]:
    """A shape that is given as positional arguments or by name."""
    if named is None:
        return written
    if written:
        raise TypeError(f"[{op}] the shape was given twice, as {written} and as {named}. Give it once.")
    return (tuple(named) if isinstance(named, tuple | list) else named,)


def _unreshape(base: Value, new: Value, **_: Any) -> Value:
    return ops.reshape(new, shape=base.shape)


def _reshaped(op: str, x: Value, shape: Any) -> Value:
    """`x` in the shape that users wrote."""
    return ops.reshape(x, shape=solve_shape(op, math.prod(x.shape), _sizes(shape), x.shape))


@view(name="reshape", variadic=True, put=_unreshape)
def _reshape_view(input: Tensor_, shape: Sizes):
    """The same elements in another shape, sharing storage."""
    return _reshaped("reshape", input, shape)


@view(name="view", variadic=True, put=_unreshape)
def _view(input: Tensor_, shape: Sizes):
    return _reshaped("view", input, shape)


@function(name="reshape", variadic=True)
def _reshape_copy(input: Tensor_, shape: Sizes):
    """The same elements in another shape, copied."""
    return _reshaped("reshape", input, shape)


def _shares(tensor: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether `tensor` in the valid new shape can share its storage: always, unless it is a view with gaps or reordered."""
    found = tensor.shape
    return layout.fits(found, layout.strides(tensor), solve_shape("reshape", math.prod(found), shape, found))


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(2, 6), 3, -1),
            call(data(2, 6), (12,)),
            call(data(0, 3), 3, 0),
            call(data(4), 3, error=(RuntimeError, "does not fit")),
        ]
    ),
    recalled="operand",
)
def reshape(input: Tensor, *sizes: Any, shape: Any = None) -> Tensor:
    """The same elements in row-major order in another shape; one size may be -1. A view where strides allow, else a copy.

    Raises RuntimeError if the shape holds another number of elements. Example: `x.reshape(2, -1)`, `x.reshape([2, -1])`.
    """
    given = sizes if shape is None else _one_shape("reshape", sizes, shape)
    if is_whole(input) or _shares(input, _sizes(given)):
        return _reshape_view(input, *given)
    return _reshape_copy(input, *given)


@declared(
    method="view",
    samples=calls(lambda: [call(data(2, 6), 3, -1), call(data(4), 3, error=(RuntimeError, "does not fit"))]),
    recalled="operand",
)
def view_as(input: Tensor, *sizes: Any, size: Any = None, dtype: DType | None = None) -> Tensor:
    """The same elements in another shape, sharing storage: `x.view(2, -1)`. The same memory as elements of another dtype:
    `x.view(dtype)`, see `view_as_dtype`.

    Raises RuntimeError if the shape holds another number of elements, or if strides do not allow a view.
    """
    if dtype is None and len(sizes) == 1 and isinstance(of_python(sizes[0]), DType):
        dtype, sizes = of_python(sizes[0]), ()
    if dtype is not None:
        if sizes or size is not None:
            raise TypeError("[view] both a shape and a dtype were given. Give one: x.view(dtype).view(shape).")
        return view_as_dtype(input, dtype)
    given = sizes if size is None else _one_shape("view", sizes, size)
    if is_whole(input) or _shares(input, _sizes(given)):
        return _view(input, *given)
    raise RuntimeError(
        f"[view] shape {_sizes(given)} cannot be a view of a tensor of shape {input.shape} and strides "
        f"{layout.strides(input)}. Use reshape, which copies."
    )


def view_as_dtype(input: Tensor, dtype: DType) -> Tensor:
    """The memory of `input` as elements of another dtype, sharing storage; without gradient history, as bits have none.

    Sizes of elements that differ scale the last dimension. The value is computed, and from then on shared, as with NumPy.
    Raises RuntimeError where the last dimension is not a multiple, for elements that do not lie row by row, and for bools,
    whose bytes are 0 and 1 only.
    """
    if dtype is input.dtype:
        return _view(input, input.shape)
    if dtype is bool_:
        raise RuntimeError("[view] bytes of other dtypes are no bools. Use x != 0 or x.bool().")
    size, wanted = input.dtype.itemsize, check_supported("view", dtype).itemsize
    if size != wanted and (not input.ndim or input.shape[-1] * size % wanted):
        raise RuntimeError(
            f"[view] the last dimension of shape {input.shape} has no whole number of elements of {wanted} bytes, for those of "
            f"{size}. Choose a dtype of that size."
        )
    if not layout.is_dense(input.shape, layout.strides(input)):
        raise RuntimeError(
            f"[view] the elements of shape {input.shape} do not lie row by row, strides {layout.strides(input)}. "
            "Use x.contiguous().view(dtype)."
        )
    shape = input.shape if size == wanted else (*input.shape[:-1], input.shape[-1] * size // wanted)
    return shared(exported(input.detach()).reshape(-1).view(dtype.numpy).reshape(shape))


def _flat_shape(shape: tuple[int, ...], start_dim: int, end_dim: int) -> tuple[int, ...]:
    start, end = canonical_dim("flatten", start_dim, len(shape)), canonical_dim("flatten", end_dim, len(shape))
    if start > end:
        raise RuntimeError(f"[flatten] start_dim {start_dim} comes after end_dim {end_dim}. Swap them.")
    return (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


@view(name="flatten", put=_unreshape)
def _flatten_view(input: Tensor_, start_dim: Static, end_dim: Static):
    return ops.reshape(input, shape=_flat_shape(input.shape, start_dim, end_dim))


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(2, 3, 4)),
            call(data(2, 3, 4), 1),
            call(data()),
            call(data(2, 3), 1, 0, error=(RuntimeError, "comes after")),
        ]
    ),
    recalled="operand",
)
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions `start_dim` to `end_dim` (included) merged into one; a 0-d tensor becomes one element.

    A view where strides allow, else a copy; the tensor itself if it has one dimension already.
    """
    if input.ndim == 1:
        _flat_shape(input.shape, start_dim, end_dim)  # checks the dimensions
        return input
    if is_whole(input) or _shares(input, _flat_shape(input.shape, start_dim, end_dim)):
        return _flatten_view(input, start_dim, end_dim)
    return _reshape_copy(input, _flat_shape(input.shape, start_dim, end_dim))


@declared(method=True, samples=unary(), recalled="operand")
def contiguous(input: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor itself if its elements lie row by row, or in the order of a memory format, else a copy in which they do."""
    if memory_format is not None:
        return in_format("contiguous", input, memory_format)
    if is_whole(input) or layout.is_dense(input.shape, layout.strides(input)):
        return input
    return _reshape_copy(input, input.shape)


@view(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(2, 6), 1, (2, 3)),
            call(data(6), 0, (-1, 2)),
            call(data(6), 0, (4, 2), error=(RuntimeError, "does not fit")),
        ]
    ),
    put=_unreshape,
)
def unflatten(input: Tensor_, dim: Static, sizes: Sizes):
    """Dimension `dim` split into `sizes`, of which one may be -1."""
    dim = canonical_dim("unflatten", dim, len(input.shape))
    shape = input.shape
    split = solve_shape("unflatten", shape[dim], _sizes(sizes), (shape[dim],))
    return ops.reshape(input, shape=(*shape[:dim], *split, *shape[dim + 1 :]))


@view(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(1, 3, 1)),
            call(data(1, 3, 1), 0),
            call(data(1, 3, 1), (0, 2)),
            call(data(1, 3), ()),
            call(data()),
            call(data(1), 3, error=(IndexError, "dim 3 is out of range")),
        ]
    ),
    variadic=True,
    put=_unreshape,
)
def squeeze(input: Tensor_, dim: Static = None):
    """Without the dimensions of size 1, or without those of `dim` (ints or a tuple) that have size 1."""
    named = None if dim is None or dim == (None,) else _sizes(dim)
    dims: Any = (
        range(len(input.shape))
        if named is None
        else canonical_dims("squeeze", named, len(input.shape))
        if named
        else ()
    )
    return ops.reshape(input, shape=tuple(n for d, n in enumerate(input.shape) if n != 1 or d not in dims))


@view(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(2, 3), 0),
            call(data(2, 3), -1),
            call(data(), 0),
            call(data(2), 3, error=(IndexError, "dim 3 is out of range")),
        ]
    ),
    put=_unreshape,
)
def unsqueeze(input: Tensor_, dim: Static):
    """With a new dimension of size 1 at `dim`. Raises IndexError for dims outside of the result."""
    rank = len(input.shape) + 1
    dim = canonical_dim("unsqueeze", dim, rank)
    return ops.reshape(input, shape=(*input.shape[:dim], 1, *input.shape[dim:]))
