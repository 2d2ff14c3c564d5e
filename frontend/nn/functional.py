"""`flambeau.nn.functional`: activations, losses, normalization and layers as functions.

Its names are those that functions declare with `free="nn.functional"`, in `flambeau.functions` and beside layers.
"""

from __future__ import annotations

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.declarations import FUNCTIONAL as _FUNCTIONAL
from flambeau.declarations import names as _names
from flambeau.nn import embedding as _embedding  # noqa: F401  (declares one)

globals().update(_names(_FUNCTIONAL))
__all__ = sorted(_names(_FUNCTIONAL))

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.nn.functional")
