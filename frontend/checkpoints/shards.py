"""Weights in parts: a state dict whose tensors are cut along an axis, put together and cut anew.

In: state dicts, and for names of tensors the axis along which they are cut; what has none is the same in all of them. Out: as many
state dicts as are wanted. Next: `manager.py`, which loads slices of what is saved whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flambeau.functions.assemble import cat
from flambeau.functions.cutting import tensor_split


def resharded(states: Sequence[Mapping[str, Any]], axes: Mapping[str, int], count: int) -> list[dict[str, Any]]:
    """The same weights in `count` state dicts instead of `len(states)`: tensors named in `axes` are cut along that axis, into parts
    whose sizes differ by at most one, as `tensor_split` cuts; all else is in each of them.

    Raises ValueError for a count below 1, KeyError where a state dict lacks a name of the first one, or none has one of `axes`.
    """
    if count < 1 or not states:
        raise ValueError(
            f"[resharded] {len(states)} state dicts are to become {count}. Give at least one, and at least 1."
        )
    if absent := [name for name in axes if name not in states[0]]:
        raise KeyError(f"[resharded] the state has no '{absent[0]}'. It has {', '.join(states[0])}.")
    parts = {name: tensor_split(cat([s[name] for s in states], axis), count, axis) for name, axis in axes.items()}
    return [
        {name: parts[name][k] if name in parts else value for name, value in states[0].items()} for k in range(count)
    ]
