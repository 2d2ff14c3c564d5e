"""Abstract values: what is known of a tensor before it is computed.

In: a shape, a dtype and a device. Out: `Aval`, compared and hashed by value. Next: `graph.py`.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from flambeau.dialects.dtypes import DType
from flambeau.dialects.size import Size, repr_of, same

#: The device whose memory this process reads and writes itself. It goes unprinted.
CPU = "cpu"


class Aval(NamedTuple):
    """Shape (a tuple of ints or `Size`s, outermost first) and element type of a value stored row-major and dense, and the name
    of the device whose memory it lies in."""

    shape: tuple[Any, ...]
    dtype: DType
    device: str = CPU

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def is_same(self, other: Aval) -> bool:
        """Whether the two are one type for all values of the symbols; asks nothing."""
        if self is other:
            return True
        shape, others = self.shape, other.shape
        if self.dtype is not other.dtype or self.device != other.device or len(shape) != len(others):
            return False
        return shape is others or all(map(same, shape, others))

    def on(self, device: str) -> Aval:
        """The same on a device."""
        return self if self.device == device else self._replace(device=device)

    @property
    def mlir(self) -> str:
        """The tensor's type in MLIR: unknown extents are `?`, and their expressions follow as the type's encoding, in which a
        device other than the CPU is named, too."""
        extents = ["?" if isinstance(d, Size) else str(d) for d in self.shape]
        unknown = ", ".join(f'"{repr_of(d)}"' for d in self.shape if isinstance(d, Size))
        encoding = f"[{unknown}]" if unknown else ""
        if self.device != CPU:
            encoding = f'{{device = "{self.device}"{f", sizes = {encoding}" if unknown else ""}}}'
        return f"tensor<{'x'.join([*extents, self.dtype.mlir])}{f', {encoding}' if encoding else ''}>"

    def __str__(self) -> str:
        place = "" if self.device == CPU else f" on {self.device}"
        return "x".join([*map(str, self.shape), self.dtype.mlir]) + place
