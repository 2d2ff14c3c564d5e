"""The order in which reductions fold their elements, vectorised in NumPy: bit-identical to compiled code.

In: an array, the axes to fold, a combining function and its identity. The order is a function of shape and axes only
(docs/architecture.md, "One semantics"): unit dimensions are dropped first; where the last remaining axis is reduced, 64
lanes per chunk of 4096; where it is kept, chains of 64 rows. Partial results are combined pairwise. Next: `reduce.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from flambeau.dialects.orders import CHAIN, CHUNK, LANES
from flambeau.dialects.size import Int

Combine = Callable[[np.ndarray, np.ndarray], np.ndarray]


def is_inner(shape: Sequence[Int], axes: Sequence[int]) -> bool:
    """Whether the last axis that is not a unit dimension is reduced."""
    wide = [axis for axis, n in enumerate(shape) if n != 1]
    return bool(wide) and wide[-1] in axes


def fold(x: np.ndarray, axes: Sequence[int], combine: Combine, identity: float | int | bool) -> np.ndarray:
    """Reduce `axes` of x; the result drops them."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    shape = tuple(x.shape[axis] for axis in kept)
    count = math.prod(x.shape[axis] for axis in axes)
    if is_inner(x.shape, axes):
        rows = x.transpose(*kept, *axes).reshape(math.prod(shape), count)
        return _fold_inner(rows, combine, identity).reshape(shape)
    rows = x.transpose(*axes, *kept).reshape(count, math.prod(shape))
    return _fold_outer(rows, combine, identity).reshape(shape)


def _fold_inner(rows: np.ndarray, combine: Combine, identity: float | int | bool) -> np.ndarray:
    """Fold the second axis of (rows, count): lanes within chunks, lanes in halves, chunks in pairs.

    Padding with the identity changes nothing: a lane that started from it is not changed by it again.
    """
    height, count = rows.shape
    if count == 0:
        return np.full(height, identity, rows.dtype)
    lanes = min(LANES, 1 << (count - 1).bit_length())  # lanes beyond these hold the identity
    steps = -(-count // lanes)
    if steps * lanes != count:
        padded = np.full((height, steps * lanes), identity, rows.dtype)
        padded[:, :count] = rows
        rows = padded
    rows = rows.reshape(height, steps, lanes)
    chunks = -(-steps // (CHUNK // LANES))
    lane = np.full((height, chunks, lanes), identity, rows.dtype)
    for step in range(min(steps, CHUNK // LANES)):
        elements = rows[:, step :: CHUNK // LANES]
        lane[:, : elements.shape[1]] = combine(lane[:, : elements.shape[1]], elements)
    while lanes > 1:
        lanes //= 2
        lane = combine(lane[..., :lanes], lane[..., lanes:])
    return _combine_pairs(np.moveaxis(lane[..., 0], 1, 0), combine)


def _fold_outer(rows: np.ndarray, combine: Combine, identity: float | int | bool) -> np.ndarray:
    """Fold the first axis of (count, columns): chains of 64 rows in order, chains in pairs."""
    count, columns = rows.shape
    if count == 0:
        return np.full(columns, identity, rows.dtype)
    chains = np.full((-(-count // CHAIN), columns), identity, rows.dtype)
    for step in range(min(count, CHAIN)):
        elements = rows[step::CHAIN]
        chains[: len(elements)] = combine(chains[: len(elements)], elements)
    return _combine_pairs(chains, combine)


def _combine_pairs(parts: np.ndarray, combine: Combine) -> np.ndarray:
    """Combine neighbours along the first axis until one is left; an odd last one is carried over unchanged."""
    while len(parts) > 1:
        even = len(parts) // 2 * 2
        pairs = combine(parts[0:even:2], parts[1:even:2])
        parts = np.concatenate([pairs, parts[even:]]) if even < len(parts) else pairs
    return parts[0]
