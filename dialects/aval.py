"""Abstract values: what is known of a tensor before it is computed.

In: a shape and a dtype. Out: `Aval`, compared and hashed by value. Next: `graph.py`.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from flambeau.dialects.dtypes import DType


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

    def __str__(self) -> str:
        return "x".join([*map(str, self.shape), self.dtype.mlir])
