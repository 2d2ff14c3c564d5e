"""Copies of what views show: `permute_copy` and its kin, and with a part replaced: `select_scatter` and `slice_scatter`.

In: a tensor and the arguments of the view. Out: new tensors that share nothing. Next: `inplace_views.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.declarations import declare, declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import DType, int64
from flambeau.function import Static, Tensor_, function
from flambeau.functions import expansion, indexing, permutations, shape, windows
from flambeau.functions.common import canonical_dim, ops
from flambeau.functions.complex import numbers
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data


def _copying(view: Any, *arguments: Any, variadic: bool = False) -> None:
    """Declare `<view>_copy`, which computes with the view's rule."""
    samples = calls(lambda: [call(data(2, 1, 3) if view.name != "t" else data(2, 3), *arguments)])
    function(free="flambeau", samples=samples, name=view.name + "_copy", variadic=variadic)(view.rule)


_copying(permutations.permute, (2, 0, 1))
_copying(permutations.transpose, 0, 2)
_copying(permutations.t)
_copying(shape.unsqueeze, 1)
_copying(expansion.expand, (2, 4, 3))
_copying(shape.squeeze, 1, variadic=True)
_copying(windows.unfold, 2, 2, 1)


@function(free="flambeau", samples=calls(lambda: [call(numbers(2, 3), gradient=False)]))
def view_as_real_copy(input: Tensor_):
    """A copy of what `view_as_real` shows."""
    return ops.view_as_real(input)


@function(free="flambeau", samples=calls(lambda: [call(data(3, 2), gradient=False)]))
def view_as_complex_copy(input: Tensor_):
    """A copy of what `view_as_complex` shows."""
    return ops.view_as_complex(input)


@function(name="alias_copy")
def _copied(input: Tensor_):
    return input


def _whole(name: str, detached: bool) -> None:
    def copied(input: Tensor) -> Tensor:
        return _copied(input.detach() if detached else input)

    copied.__name__ = copied.__qualname__ = name
    copied.__doc__ = f"A copy of the tensor{', without gradient history' if detached else ''}."
    declare(copied, name, free="flambeau", samples=calls(lambda: [call(data(2, 3))]))


_whole("alias_copy", False)
_whole("detach_copy", True)


@declared(
    free="flambeau", samples=calls(lambda: [call(data(2, 3), (3, 2)), call(data(2), data, error=(TypeError, ""))])
)
def view_copy(input: Tensor, *sizes: Any, size: Any = None, dtype: DType | None = None) -> Tensor:
    """A copy of what `view` shows."""
    return _copied(shape.view_as(input, *sizes, size=size, dtype=dtype))


@declared(free="flambeau", samples=calls(lambda: [call(data(3, 4), 1, 2)]))
def select_copy(input: Tensor, dim: int, index: int) -> Tensor:
    """A copy of what `select` shows."""
    return _copied(indexing.select(input, dim, index))


@declared(free="flambeau", method=True, samples=calls(lambda: [call(data(3, 4), 1, 1, 2)]))
def narrow_copy(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """A copy of what `narrow` shows."""
    if dim >= max(input.ndim, 1):
        raise RuntimeError(f"[narrow_copy] dim {dim} is out of range for {input.ndim} dimensions. Name one of them.")
    return _copied(indexing.narrow(input, dim, start, length))


@declared(free="flambeau", samples=calls(lambda: [call(data(3, 4), 1, 0, 4, 2), call(data(3, 4))]))
def slice_copy(input: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Tensor:
    """A copy of every `step`-th slice from `start` to before `end` along `dim`."""
    dim = canonical_dim("slice_copy", dim, input.ndim)
    return _copied(indexing._along(input, dim, slice(start, end, step)))


@declared(free="flambeau", samples=calls(lambda: [call(data(5, 2), 2, 0)]))
def split_copy(input: Tensor, split_size: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Copies of what `split` shows."""
    return tuple(map(_copied, indexing.split(input, split_size, dim)))


@declared(free="flambeau", samples=calls(lambda: [call(data(5, 2), (2, 3), 0)]))
def split_with_sizes_copy(input: Tensor, split_sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Copies of what `split` shows, in pieces of the given sizes."""
    return tuple(map(_copied, indexing.split(input, list(split_sizes), dim)))


@declared(free="flambeau", samples=calls(lambda: [call(data(3, 2), 1)]))
def unbind_copy(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Copies of what `unbind` shows."""
    return tuple(map(_copied, indexing.unbind(input, dim)))


# ---- copies with a part replaced --------------------------------------------------------------------------


def _replaced(op: str, x: Value, src: Value, dim: int, start: int, size: int, step: int, wanted: Any) -> Value:
    """x with `src` at `size` places from `start` along `dim`, which show the shape `wanted`."""
    if src.shape != tuple(wanted):
        raise RuntimeError(f"[{op}] src of shape {src.shape} does not fit the place of shape {tuple(wanted)}.")
    full = tuple(size if d == dim else n for d, n in enumerate(x.shape))
    starts = [x.builder.constant(start if d == dim else 0, int64) for d in range(len(full))]
    steps = tuple(step if d == dim else 1 for d in range(len(full)))
    return ops.update_slice(x, ops.reshape(src.cast(x.dtype), shape=full), *starts, steps=steps)


@function(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(3, 4), data(3), 1, -1),
            call(data(3, 4), data(3), 0, 1, error=(RuntimeError, "does not fit the place")),
            call(data(3, 4), data(3), 1, 4, error=(IndexError, "out of range")),
        ]
    ),
)
def select_scatter(input: Tensor_, src: Tensor_, dim: Static, index: Static):
    """A copy of `input` with `src` at position `index` along `dim`. Raises RuntimeError for another shape than `select` gives."""
    dim = canonical_dim("select_scatter", dim, len(input.shape))
    extent = input.shape[dim] if input.shape else 0
    if not -extent <= index < extent:
        raise IndexError(
            f"[select_scatter] index {index} is out of range for dimension {dim} of shape {input.shape}. Use less than {extent}."
        )
    wanted = (*input.shape[:dim], *input.shape[dim + 1 :])
    return _replaced("select_scatter", input, src, dim, index % extent, 1, 1, wanted)


@function(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(5, 2), data(2, 2), 0, 1, 5, 2),
            call(data(2, 3), data(2, 3)),
            call(data(3, 4), data(3), error=(RuntimeError, "does not fit the place")),
        ]
    ),
)
def slice_scatter(
    input: Tensor_, src: Tensor_, dim: Static = 0, start: Static = None, end: Static = None, step: Static = 1
):
    """A copy of `input` with `src` at every `step`-th slice from `start` to before `end` along `dim`.

    Raises RuntimeError for another shape than those slices have.
    """
    dim = canonical_dim("slice_scatter", dim, len(input.shape))
    if step <= 0:
        raise ValueError(f"[slice_scatter] step is {step}. Use at least 1.")
    extent = input.shape[dim]
    first, last, _ = slice(start, end, step).indices(extent)
    size = max(0, -(-(last - first) // step))
    wanted = tuple(size if d == dim else n for d, n in enumerate(input.shape))
    return _replaced("slice_scatter", input, src, dim, first if size else 0, size, step if size > 1 else 1, wanted)
