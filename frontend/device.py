"""Devices as users name them: `device("cpu")`, `device("cuda", 1)`. Where one is missing, placing a tensor there says why.

In: what a user gave. Out: `place`, the name that types have for it. Next: `runtime/devices.py`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeAlias

from flambeau.declarations import Unsampled, declared
from flambeau.runtime import devices

#: What devices may be called.
TYPES = ("cpu", "cuda", "meta", "mps", "xpu")


class device:
    """Where a tensor lives: `device("cpu")`, or `device("cuda", 1)` and such, which need not be there; `device(1)` is `cuda:1`.
    Compares and prints as PyTorch's does. Raises RuntimeError for names that no device has.
    """

    __slots__ = ("index", "type")
    index: int | None
    type: str

    def __init__(self, type: str | device | int, index: int | None = None) -> None:
        if isinstance(type, int) and not isinstance(type, bool) and index is None:
            type = f"cuda:{type}"
        name, colon, number = str(type).partition(":")
        if (colon and not number.isdecimal()) or (index is not None and (colon or index < 0)):
            raise RuntimeError(f"[device] '{type}' is no device. Write its number after the colon, as in '{name}:0'.")
        if name not in TYPES and name not in devices.kinds():
            raise RuntimeError(f"[device] '{type}' is no device. Use one of {', '.join(TYPES)}.")
        object.__setattr__(self, "type", name)
        object.__setattr__(self, "index", int(number) if number else index)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"[device] its {name} stays what it is. Make another device.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __reduce__(self) -> tuple[Any, ...]:
        return device, (self.type, self.index)

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{index})"


#: How functions take a device; None is the CPU.
Device: TypeAlias = "str | device | int | None"

CPU = device("cpu")


def place(given: Device) -> str:
    """The name that types have for a device on which a tensor is to lie; None is the CPU. Raises RuntimeError for one that is not
    there."""
    if given is None or given is CPU:
        return "cpu"
    wanted = device(given)
    if wanted.type == "cpu":
        return "cpu"
    if wanted.type not in ("cuda", *devices.kinds()):
        raise RuntimeError(
            f"[device] '{wanted}' is not available: no tensor can lie there. Use device('cpu') or device('cuda')."
        )
    name = f"{wanted.type}:{wanted.index or 0}"
    try:
        devices.find(name)
    except RuntimeError as e:
        raise RuntimeError(f"[device] '{wanted}' is not available: {e}") from None
    return name


def cuda_place(op: str, given: Device = None) -> str:
    """As `place`, for calls that move to a GPU: None is the first one. Raises RuntimeError for other devices."""
    wanted = device("cuda" if given is None else given)
    if wanted.type != "cuda":
        raise RuntimeError(f"[{op}] '{wanted}' is no CUDA device. Use to('{wanted}').")
    return place(wanted)


@lru_cache(maxsize=64)
def named(place: str) -> device:
    """The device that types name so."""
    return CPU if place == "cpu" else device(place)


@declared(free="flambeau", samples=Unsampled("takes no tensors"))
def get_default_device() -> device:
    """Where new tensors live: the CPU."""
    return CPU
