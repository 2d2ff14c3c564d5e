"""Where a call is computed: on the device of its operands, to which numbers follow.

In: what the recorder says of a call's operands. Out: the name of a device; values that were moved there. Records' rules know of no
devices: their types are inferred from operands, and what they make of nothing lies where the builder says. Next: `engine.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from flambeau.device import place
from flambeau.dialects.aval import CPU
from flambeau.dialects.builder import Value
from flambeau.dialects.record import find


def placed(value: Value, device: str) -> Value:
    """The value on a device."""
    return value if value.aval.device == device else find("to_device")(value, device=device)


def place_of(function: Any, infos: Sequence[Any], statics: dict[str, Any]) -> str:
    """The device that a call is computed on: that of its tensors, or the one it names. A number may come from the CPU, be it one of
    Python's or a 0-d tensor; a function that `moves` takes its operands to the first one. Raises RuntimeError for tensors that lie
    apart."""
    tensors = list(_tensors(infos))
    if not tensors:
        return place(statics.get("device"))
    if getattr(function, "moves", False):
        return tensors[0][-1]
    found = dict.fromkeys(info[-1] for info in tensors if info[-1] != CPU or info[1])
    if len(found) > 1:
        raise apart(function.name, (info[-1] for info in tensors))
    return next(iter(found), CPU)


def apart(name: str, places: Iterable[str]) -> RuntimeError:
    """The error for operands on several devices."""
    shown = ", ".join(dict.fromkeys(places))
    return RuntimeError(f"[{name}] operands lie on {shown}. Move them to one device with to(device).")


def _tensors(infos: Sequence[Any]) -> Iterator[tuple]:
    for info in infos:
        if isinstance(info, list):
            yield from _tensors(info)
        elif info is not None and info[0] == "tensor":
            yield info
