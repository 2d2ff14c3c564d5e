"""Tensors cut into views: tensor_split, hsplit, vsplit, dsplit, and the unsafe forms, which are no less safe here.

In: a tensor, a number of parts or the places of the cuts. Out: tuples of views. Next: `diagonals.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from flambeau.declarations import declare, declared
from flambeau.functions.common import canonical_dim, integer
from flambeau.functions.indexing import _along, chunk, split
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data


def _cuts(op: str, given: Any, extent: int) -> list[int]:
    """Where the parts end: those of so many parts, or the ones that were given."""
    if isinstance(given, Tensor):
        if given.ndim > 1 or given.dtype.name != "int64":
            raise RuntimeError(
                f"[{op}] the tensor of cuts is {given.dtype.name} of shape {given.shape}. Pass an int64 number or vector."
            )
        given = given.tolist()
    if isinstance(given, Iterable):
        return [integer(op, f"indices_or_sections[{i}]", n) for i, n in enumerate(given)]
    given = integer(op, "indices_or_sections", given)
    if given <= 0:
        raise RuntimeError(f"[{op}] {given} parts were asked for. Use at least 1.")
    size, larger = divmod(extent, given)
    return [(i + 1) * size + min(i + 1, larger) for i in range(given - 1)]


def _parts(input: Tensor, cuts: list[int], dim: int) -> tuple[Tensor, ...]:
    ends = [None, *cuts, None]
    return tuple(_along(input, dim, slice(a, b)) for a, b in itertools.pairwise(ends))


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(7, 2), 3),
            call(data(2, 7), (1, 4), dim=1),
            call(data(3), (2, 1, 9), gradient=False),
            call(data(3), 0, error=(RuntimeError, "Use at least 1")),
        ]
    ),
    recalled="operand",
)
def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of `input` cut along `dim`: into so many parts, of which the first may be one longer, or before the places given (a
    sequence of ints, or an int64 tensor, which is read).

    Raises RuntimeError for less than one part.
    """
    if not input.ndim:
        raise RuntimeError("[tensor_split] a 0-d tensor cannot be cut. Give it a dimension first.")
    dim = canonical_dim("tensor_split", dim, input.ndim)
    return _parts(input, _cuts("tensor_split", indices_or_sections, input.shape[dim]), dim)


def _named(*given: Any) -> list[Any]:
    return [value for value in given if value is not None]


def _split_along(op: str, input: Tensor, places: tuple[Any, ...], rank: int, dim: int) -> tuple[Tensor, ...]:
    """What `hsplit` and its kin give, which want equal parts."""
    if not places:
        raise TypeError(f"[{op}] argument 'indices_or_sections' is missing. Pass a number of parts, or places.")
    given = places[0] if len(places) == 1 else places
    if input.ndim < rank:
        raise RuntimeError(f"[{op}] the tensor has {input.ndim} dimensions. It takes at least {rank}.")
    extent = input.shape[dim]
    if isinstance(given, int) and (given <= 0 or extent % given):
        raise RuntimeError(f"[{op}] {given} parts do not divide dimension {dim} of size {extent}. Use a divisor of it.")
    return _parts(input, _cuts(op, given, extent), dim)


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(4), 2),
            call(data(2, 4), (1, 3)),
            call(data(2, 4), indices=(1,)),
            call(data(2, 4), 3, error=(RuntimeError, "do not divide dimension 1")),
        ]
    ),
    recalled="operand",
)
def hsplit(input: Tensor, *indices_or_sections: Any, indices: Any = None, sections: Any = None) -> tuple[Tensor, ...]:
    """Views cut along the second dimension (the only one of vectors): into equal parts, or before the places given.

    Raises RuntimeError where the number of parts does not divide the size.
    """
    return _split_along(
        "hsplit", input, (*indices_or_sections, *_named(indices, sections)), 1, 0 if input.ndim < 2 else 1
    )


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [call(data(4, 2), 2), call(data(4, 2), (1, 3)), call(data(4), 2, error=(RuntimeError, "at least 2"))]
    ),
    recalled="operand",
)
def vsplit(input: Tensor, *indices_or_sections: Any, indices: Any = None, sections: Any = None) -> tuple[Tensor, ...]:
    """Views cut along the first of at least two dimensions: into equal parts, or before the places given.

    Raises RuntimeError where the number of parts does not divide the size.
    """
    return _split_along("vsplit", input, (*indices_or_sections, *_named(indices, sections)), 2, 0)


@declared(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(2, 1, 4), 2),
            call(data(2, 1, 4), (1, 3)),
            call(data(4, 2), 2, error=(RuntimeError, "at least 3")),
        ]
    ),
    recalled="operand",
)
def dsplit(input: Tensor, *indices_or_sections: Any, indices: Any = None, sections: Any = None) -> tuple[Tensor, ...]:
    """Views cut along the third of at least three dimensions: into equal parts, or before the places given.

    Raises RuntimeError where the number of parts does not divide the size.
    """
    return _split_along("dsplit", input, (*indices_or_sections, *_named(indices, sections)), 3, 2)


declare(split, "unsafe_split", free="flambeau", method=True, samples=calls(lambda: [call(data(5, 2), 2)]))
declare(chunk, "unsafe_chunk", free="flambeau", method=True, samples=calls(lambda: [call(data(5, 2), 2)]))
