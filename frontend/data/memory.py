"""Where batches are put: memory of this process, or, in a worker, blocks that the loading process reads where they are.

In: a shape and a dtype. Out: a buffer and an array on it, to be filled. A worker replaces what gives them (`give_from`). Next:
`collate.py`, which asks; `blocks.py`, which gives in workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flambeau import host
from flambeau.dialects.aval import CPU
from flambeau.dialects.dtypes import DType, from_numpy
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor

_Allocate = Callable[[tuple[int, ...], DType], tuple[Any, np.ndarray]]
_allocate: _Allocate = host.empty_array


def give_from(allocate: _Allocate) -> None:
    """Let batches be put where `allocate(shape, dtype)` says."""
    global _allocate
    _allocate = allocate


def stacked(arrays: Sequence[np.ndarray]) -> Tensor:
    """A tensor with arrays of one shape and dtype along a new first dimension, copied once."""
    first = arrays[0]
    dtype = host.check_supported("stack", from_numpy(first.dtype))
    buffer, target = _allocate((len(arrays), *first.shape), dtype)
    if first.ndim:
        np.concatenate(arrays, out=target.reshape(-1, *first.shape[1:]))
    else:
        target[...] = arrays
    return recorder.tensor_from_buffer(buffer, target.shape, dtype)


def rows(tensor: Tensor, indices: Sequence[int]) -> Tensor:
    """The rows of a tensor at `indices`, copied on the host: nothing is recorded, so nothing is compiled."""
    if tensor.requires_grad or tensor._place != CPU:
        return tensor[list(indices)]
    source = host.array_of(tensor)
    buffer, target = _allocate((len(indices), *tensor.shape[1:]), tensor.dtype)
    np.take(source, np.asarray(indices, np.int64), axis=0, out=target)
    return recorder.tensor_from_buffer(buffer, target.shape, tensor.dtype)
