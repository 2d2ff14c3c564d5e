"""`flambeau.linalg`: linear algebra as in `torch.linalg`; its names are those that functions declare with `free="linalg"`."""

from __future__ import annotations

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.declarations import names as _names
from flambeau.dialects.tape.matrices import LinAlgError

globals().update(_names("linalg"))
__all__ = ["LinAlgError", *sorted(_names("linalg"))]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.linalg")
