"""Running sums and products along an axis: a family of ops with loops of its own."""

from flambeau_toy.functions import cumprod, cumsum

__all__ = ["cumprod", "cumsum"]
