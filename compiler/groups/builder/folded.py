"""What nests that fold ask of their operands.

In: how an operand is read. Out: whether MLIR can see the trip counts of folded loops. Next: `families/reduction.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from flambeau.compiler.groups.builder.cluster import Read
from flambeau.compiler.groups.form import Affine


def says_trips(read: Read, axes: Sequence[int]) -> bool:
    """Whether the trip counts of these axes' loops can be seen from the operand: MLIR wants that of folded ones."""
    return not read.is_scalar and all(Affine.of(axis) in read.map for axis in axes)
