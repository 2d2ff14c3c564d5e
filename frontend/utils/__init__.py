"""Where PyTorch programs look for `utils.data`."""

from flambeau.utils import data

__all__ = ["data"]
