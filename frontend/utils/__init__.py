"""Where PyTorch programs look for `utils.data`, `utils.checkpoint` and `utils.tensorboard`; and `utils.stopping`."""

from flambeau import missing as _missing
from flambeau.utils import checkpoint, data, stopping, tensorboard

__all__ = ["checkpoint", "data", "stopping", "tensorboard"]

__getattr__ = _missing.module_getattr("flambeau.utils")
