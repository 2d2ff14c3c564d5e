"""`flambeau.data` under the name that PyTorch programs use."""

from flambeau import missing as _missing
from flambeau.data import *  # noqa: F403
from flambeau.data import __all__  # noqa: F401

__getattr__ = _missing.module_getattr("flambeau.utils.data")
