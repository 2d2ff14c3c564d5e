"""Devices: `device("cpu")` is where tensors live; others are objects with a name, and say what is missing where a tensor is placed
there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from flambeau.declarations import Unsampled, declared
from flambeau.runtime import _binding as runtime

#: What devices may be called.
TYPES = ("cpu", "cuda", "meta", "mps", "xpu")


@dataclass(frozen=True, init=False)
class device:
    """Where a tensor lives: `device("cpu")`, or `device("cuda", 1)` and such, where none can live so far. Compares and prints as
    PyTorch's does. Raises RuntimeError for names that no device has.
    """

    type: str
    index: int | None

    def __init__(self, type: str | device, index: int | None = None) -> None:
        name, colon, number = str(type).partition(":")
        if (colon and not number.isdecimal()) or (index is not None and (colon or index < 0)):
            raise RuntimeError(f"[device] '{type}' is no device. Write its number after the colon, as in '{name}:0'.")
        if name not in TYPES:
            raise RuntimeError(f"[device] '{type}' is no device. Use one of {', '.join(TYPES)}: tensors live on 'cpu'.")
        object.__setattr__(self, "type", name)
        object.__setattr__(self, "index", int(number) if number else index)

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{index})"


def _cuda_reason(number: int) -> str:
    """Why tensors cannot live on an NVIDIA GPU."""
    try:
        found = runtime.cuda_device(None, number)
    except RuntimeError as e:
        return str(e)
    return f"tensors cannot live on {found['name']} yet, kernels can be compiled for it only. Use device('cpu')."


#: How functions take a device; None is the CPU.
Device: TypeAlias = "str | device | None"

CPU = device("cpu")


def check_device(given: str | device | None) -> None:
    """Raise RuntimeError unless `given`, where a tensor is to be placed, is None or the CPU."""
    if given is None or given is CPU:
        return
    place = device(given)
    if place.type == "cuda":
        raise RuntimeError(f"[device] '{place}' is not available: {_cuda_reason(place.index or 0)}")
    if place.type != "cpu":
        raise RuntimeError(f"[device] '{place}' is not available: tensors live on 'cpu' only. Use device('cpu').")


@declared(free="flambeau", samples=Unsampled("takes no tensors"))
def get_default_device() -> device:
    """Where new tensors live: the CPU."""
    return CPU
