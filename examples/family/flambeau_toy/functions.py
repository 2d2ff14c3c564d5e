"""What users call. Next: `ops.py`, the ops behind it."""

from __future__ import annotations

from flambeau.function import Static, Tensor_, function

from flambeau_toy import ops


@function()
def cumsum(x: Tensor_, dim: Static = 0):
    """The sums of the elements up to each place along `dim`, added one after the other."""
    return ops.cumsum(x, axis=dim, reverse=False)


@function()
def cumprod(x: Tensor_, dim: Static = 0):
    """The products of the elements up to each place along `dim`; elements must not be 0 where a gradient is taken."""
    return ops.cumprod(x, axis=dim, reverse=False)
