"""Devices by name: what code they run, and how this process reaches their memory.

In: a device's name, as types have it. Out: `Device`. Devices are opened when something is first to lie or to run there, and stay
open. `register` adds one. Next: `compiler/plans/devices.py`, which compiles for them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from flambeau.runtime import _binding as runtime


@dataclass(frozen=True)
class Device:
    """`target` is what code for it is compiled for; `handle` is how the runtime reaches it."""

    name: str
    target: str
    handle: Any


_known: dict[str, Device] = {}
_refused = ""


def register(device: Device) -> None:
    """Make a device known under its name."""
    _known[device.name] = device


def kinds() -> set[str]:
    """What devices that were registered are called, without their numbers."""
    return {name.partition(":")[0] for name in _known}


def refuse(why: str) -> None:
    """Let this process use no device from now on."""
    global _refused
    _refused = why


def find(name: str) -> Device:
    """The device of that name. Raises RuntimeError where there is none, or none may be used."""
    if _refused:
        raise RuntimeError(f"[device] '{name}': {_refused}")
    found = _known.get(name)
    if found is None:
        number = re.fullmatch(r"cuda:(\d+)", name)
        if number is None:
            raise RuntimeError(f"[device] there is no device '{name}'. Use 'cpu', or 'cuda:0' and such.")
        handle = runtime.Device(None, int(number[1]))
        major, minor = handle.capability
        found = Device(name, f"sm_{major}{minor}", handle)
        register(found)
    return found
