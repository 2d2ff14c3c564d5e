"""Samples to batches: `default_collate` and `default_convert`.

In: a list of samples, or one sample. Out: tensors, in what the samples were made of. What lies on the host is copied there, so
that nothing is recorded. Next: `fetching.py`, `memory.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
from flambeau import host
from flambeau.data import memory
from flambeau.dialects.aval import CPU
from flambeau.dialects.dtypes import float64
from flambeau.functions.assemble import stack
from flambeau.functions.from_data import as_tensor, tensor
from flambeau.runtime.recorder import Tensor

_shape, _dtype = attrgetter("shape"), attrgetter("dtype")


def default_collate(batch: list[Any]) -> Any:
    """Samples stacked: tensors, arrays and numbers along a new first dimension, inside dicts, tuples and lists alike.

    Python floats give float64, in which nothing is lost; ints give int64.
    Raises TypeError for other types, RuntimeError for samples of different lengths or shapes.
    """
    first = batch[0]
    if isinstance(first, np.ndarray):
        return _arrays(batch)
    if isinstance(first, Tensor):
        return _tensors(batch)
    if isinstance(first, np.generic):
        return _arrays([np.asarray(x) for x in batch])
    if isinstance(first, float):
        return tensor(batch, dtype=float64)
    if isinstance(first, (bool, int)):
        return tensor(batch)
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        return _rebuilt(first, {key: default_collate([sample[key] for sample in batch]) for key in first})
    if isinstance(first, (tuple, list)):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError("[default_collate] samples have different lengths. Make them equal, or pass collate_fn.")
        columns = [default_collate(list(column)) for column in zip(*batch)]
        return type(first)(*columns) if hasattr(first, "_fields") else columns
    raise TypeError(f"[default_collate] samples of type {type(first).__name__} cannot be stacked. Pass collate_fn.")


def default_convert(data: Any) -> Any:
    """One sample with its arrays as tensors, inside dicts, tuples and lists alike; all else is as it was."""
    if isinstance(data, Tensor | str | bytes):
        return data
    if isinstance(data, np.ndarray | np.generic):
        return as_tensor(data) if data.dtype.kind in "biuf" else data
    if isinstance(data, Mapping):
        return _rebuilt(data, {key: default_convert(value) for key, value in data.items()})
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*map(default_convert, data))
    if isinstance(data, tuple | list):
        return [default_convert(value) for value in data]
    return data


def _arrays(batch: Sequence[Any]) -> Tensor:
    arrays = batch if all(type(a) is np.ndarray for a in batch) else [np.asarray(a) for a in batch]
    is_even = len(set(map(_shape, arrays))) == 1 and len(set(map(_dtype, arrays))) == 1
    return memory.stacked(arrays) if is_even else stack([as_tensor(a) for a in arrays])


def _tensors(batch: Sequence[Any]) -> Tensor:
    """On the host, where tensors without history lie there; recorded elsewhere."""
    is_plain = all(type(t) is Tensor and not t.requires_grad and t._place == CPU for t in batch)
    if is_plain and len({(t.shape, t.dtype) for t in batch}) == 1:
        return memory.stacked([host.array_of(t) for t in batch])
    return stack(batch)


def _rebuilt(like: Mapping, items: dict[Any, Any]) -> Any:
    """A mapping of the type of `like` with other values; a dict where that type cannot be filled."""
    if type(like) is dict or not isinstance(like, MutableMapping):
        return items
    try:
        made = copy.copy(like)
        made.update(items)
    except TypeError:
        return items
    return made
