"""Abstract values: what is known of a tensor before it is computed.

In: a shape and a dtype. Out: `Aval`, compared and hashed by value. Next: `graph.py`.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from flambeau.dialects.dtypes import DType
from flambeau.dialects.size import Size, repr_of


class Aval(NamedTuple):
    """Shape (a tuple of ints or `Size`s, outermost first) and element type of a value stored row-major and dense."""

    shape: tuple[Any, ...]
    dtype: DType

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def mlir(self) -> str:
        """The tensor's type in MLIR: unknown extents are `?`, and their expressions follow as the type's encoding."""
        extents = ["?" if isinstance(d, Size) else str(d) for d in self.shape]
        unknown = ", ".join(f'"{repr_of(d)}"' for d in self.shape if isinstance(d, Size))
        return f"tensor<{'x'.join([*extents, self.dtype.mlir])}{f', [{unknown}]' if unknown else ''}>"

    def __str__(self) -> str:
        return "x".join([*map(str, self.shape), self.dtype.mlir])
