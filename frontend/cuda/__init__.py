"""Where PyTorch programs look for GPUs: whether there is one, and how many.

In: the driver, asked when one of these is called. Out: numbers. Next: `amp.py`, `device.py`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from flambeau import missing as _missing
from flambeau.border import publish as _publish
from flambeau.runtime import _binding


def is_available() -> bool:
    """Whether tensors can lie on `cuda`."""
    return _is_there(0)


def device_count() -> int:
    """How many GPUs there are: `cuda:0`, `cuda:1` and so on."""
    count = 0
    while _is_there(count):
        count += 1
    return count


def _is_there(number: int) -> bool:
    try:
        _binding.cuda_device(None, number)
    except RuntimeError:
        return False
    return True


__all__ = ["device_count", "is_available"]

_publish(globals(), __all__)


def __getattr__(name: str) -> Any:
    if name == "amp":
        return import_module("flambeau.cuda.amp")
    raise _missing.error("flambeau.cuda", name, sys.modules[__name__])
