"""`flambeau.quantization`: networks with weights, and maps, of int8. Start with `weight_only.py`; `calibration.py` for all of int8.

Functions are those that `functions/quantization.py` declares with `free="quantization"`; layers and observers are the classes that
the files beside this one define.
"""

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.declarations import classes as _classes
from flambeau.declarations import names as _names
from flambeau.nn.module import Module as _Module
from flambeau.quantization.calibration import convert, fuse_modules, prepare
from flambeau.quantization.weight_only import Int8WeightOnlyConfig, quantize_

_CLASSES = _classes(__name__, __path__, _Module)
globals().update(_CLASSES | _names("quantization"))
__all__ = [
    *_CLASSES,
    *sorted(_names("quantization")),
    "Int8WeightOnlyConfig",
    "convert",
    "fuse_modules",
    "prepare",
    "quantize_",
]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.quantization")
