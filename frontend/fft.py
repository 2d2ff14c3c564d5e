"""`flambeau.fft`: Fourier transforms as in `torch.fft`; its names are those that functions declare with `free="fft"`."""

from __future__ import annotations

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.declarations import names as _names

globals().update(_names("fft"))
__all__ = sorted(_names("fft"))

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.fft")
