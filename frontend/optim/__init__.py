"""Optimizers: SGD, Adam, AdamW. Start with `optimizer.py`."""

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.optim.adam import Adam, AdamW
from flambeau.optim.optimizer import Optimizer
from flambeau.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.optim")
