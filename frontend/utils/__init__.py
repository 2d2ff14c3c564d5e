"""Where PyTorch programs look for `utils.data`."""

from flambeau import missing as _missing
from flambeau.utils import data

__all__ = ["data"]

__getattr__ = _missing.module_getattr("flambeau.utils")
