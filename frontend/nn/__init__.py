"""Neural networks: `Module`, layers, losses, `functional` and `init`. Start with `module.py`.

The layers are those that the files beside this one define: a file put here, or a class put into one, is found by itself.
"""

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.declarations import classes as _classes
from flambeau.nn import functional, init, modules, parameter, utils
from flambeau.nn.linear_loss import LinearCrossEntropyOptions
from flambeau.nn.module import Module
from flambeau.nn.parameter import Buffer, Parameter

_CLASSES = _classes(__name__, __path__, Module, Parameter, Buffer)
globals().update(_CLASSES)
__all__ = [*_CLASSES, "LinearCrossEntropyOptions", "functional", "init", "modules", "parameter", "utils"]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.nn")
