"""Optimizers: SGD, Adam, AdamW, ..., those that the files beside this one define. Start with `optimizer.py`."""

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.declarations import classes as _classes
from flambeau.optim import lr_scheduler, swa_utils
from flambeau.optim.optimizer import Optimizer

_CLASSES = _classes(__name__, __path__, Optimizer)
del _CLASSES["Counted"]  # a base of ours
globals().update(_CLASSES)
__all__ = [*_CLASSES, "lr_scheduler", "swa_utils"]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.optim")
