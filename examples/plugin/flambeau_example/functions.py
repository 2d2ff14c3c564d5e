"""What users call: `fma(x, y, z)`. Next: `ops.py`, the op behind it."""

from __future__ import annotations

from flambeau.function import Tensor_, function

from flambeau_example import ops


@function()
def fma(x: Tensor_, y: Tensor_, z: Tensor_):
    """x * y + z with a single rounding; three tensors of one shape and one floating-point dtype."""
    return ops.fma(x, y, z)
