"""Devices: `device("cpu")`, the only one so far; what is missing for `device("cuda")` is said when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from flambeau.runtime import _binding as runtime


@dataclass(frozen=True, init=False)
class device:
    """Where a tensor lives. `device("cpu")` compares equal to itself and prints as PyTorch's does.

    Raises RuntimeError for devices that this build has no code for.
    """

    type: str
    index: int | None

    def __init__(self, type: str | device, index: int | None = None) -> None:
        name, _, number = str(type).partition(":")
        if number and not number.isdecimal():
            raise RuntimeError(f"[device] '{type}' is no device. Write its number after the colon, as in '{name}:0'.")
        if name == "cuda":
            raise RuntimeError(f"[device] '{type}' is not available: {_cuda_reason(int(number or index or 0))}")
        if name != "cpu":
            raise RuntimeError(f"[device] '{type}' is not available: this build runs on 'cpu' only. Use device('cpu').")
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
    """Raise RuntimeError unless `given` is None or the CPU."""
    if given is not None and given is not CPU:
        device(given)
