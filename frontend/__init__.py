"""Flambeau: an array framework with PyTorch's API in which every operation is compiled."""

from flambeau import hooks  # noqa: F401

__version__ = "0.1.0"
