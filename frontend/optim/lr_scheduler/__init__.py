"""Schedulers of learning rates, those that the files beside this one define. Start with `scheduler.py`."""

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.declarations import classes as _classes
from flambeau.optim.lr_scheduler.scheduler import LRScheduler

_CLASSES = _classes(__name__, __path__, LRScheduler)
globals().update(_CLASSES)
__all__ = [*_CLASSES]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.optim.lr_scheduler")
