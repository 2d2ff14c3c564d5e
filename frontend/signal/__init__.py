"""`flambeau.signal`: as `torch.signal`, it has windows."""

from flambeau.signal import windows

__all__ = ["windows"]
