"""`flambeau.masked`: reductions that take a mask, as in `torch.masked`; its names are those that functions declare with
`free="masked"`."""

from __future__ import annotations

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.declarations import names as _names

globals().update(_names("masked"))
__all__ = sorted(_names("masked"))

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.masked")
