"""Where PyTorch programs look for the accelerator at hand: NVIDIA GPUs, where the driver is there.

In: nothing. Out: devices and counts. Next: `cuda.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau import border as _border
from flambeau import cuda
from flambeau import missing as _missing
from flambeau.device import device
from flambeau.runtime.recorder import flush


def is_available() -> bool:
    """Whether there is a GPU."""
    return cuda.is_available()


def device_count() -> int:
    """How many GPUs there are."""
    return cuda.device_count()


def current_accelerator(check_available: bool = False) -> device | None:
    """`device("cuda")` where there is a GPU, else None."""
    return device("cuda") if is_available() else None


def _needed(op: str) -> None:
    if not is_available():
        raise RuntimeError(f"[accelerator.{op}] there is no accelerator. Ask accelerator.is_available() first.")


def current_device_index() -> int:
    """0: the first GPU. Raises RuntimeError where there is none."""
    _needed("current_device_index")
    return 0


def set_device_index(device: Any) -> None:
    """Raises RuntimeError where there is no GPU, NotImplementedError for another one than the first: pass `device=` instead."""
    _needed("set_device_index")
    if getattr(device, "index", device) not in (None, 0):
        raise NotImplementedError(
            f"[accelerator.set_device_index] the device is {device}. Pass device= where tensors are made."
        )


def synchronize(device: Any = None) -> None:
    """Run what was recorded, and wait for it. Raises RuntimeError where there is no GPU."""
    _needed("synchronize")
    flush()


__all__ = [
    "current_accelerator",
    "current_device_index",
    "device_count",
    "is_available",
    "set_device_index",
    "synchronize",
]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.accelerator")
