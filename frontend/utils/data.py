"""`flambeau.data` under the name that PyTorch programs use."""

from flambeau.data import *  # noqa: F403
from flambeau.data import __all__  # noqa: F401
