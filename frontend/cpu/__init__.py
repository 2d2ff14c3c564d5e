"""Where PyTorch programs look for what is of the CPU.

In: nothing. Out: what there is. Next: `amp.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.cpu import amp
from flambeau.runtime.recorder import flush


def is_available() -> bool:
    """Whether there is a CPU: there is."""
    return True


def device_count() -> int:
    """1."""
    return 1


def current_device() -> str:
    """ "cpu"."""
    return "cpu"


def synchronize(device: Any = None) -> None:
    """Run what was recorded."""
    flush()


__all__ = ["amp", "current_device", "device_count", "is_available", "synchronize"]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.cpu")
