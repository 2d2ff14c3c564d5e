"""Where PyTorch programs look for `utils.data` and `utils.checkpoint`."""

from flambeau import missing as _missing
from flambeau.utils import checkpoint, data

__all__ = ["checkpoint", "data"]

__getattr__ = _missing.module_getattr("flambeau.utils")
