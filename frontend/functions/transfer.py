"""Tensors on other devices: what moves them there.

In: a tensor, and the name of a device as types have it. Out: one that lies there, with a gradient that is moved back. Next:
`convert.py`, where users ask for it.
"""

from __future__ import annotations

from flambeau.dialects.tape.transfer import to_device
from flambeau.function import Static, Tensor_, function
from flambeau.runtime.recorder import Tensor


@function(name="to")
def _moved(input: Tensor_, device: Static):
    """The same elements in the memory of a device."""
    return to_device(input, device=device)


def moved(input: Tensor, place: str) -> Tensor:
    """`input` on a device; itself if it lies there."""
    return input if input._place == place else _moved(input, place)
