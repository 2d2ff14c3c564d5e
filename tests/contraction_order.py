"""matmul to the bit: the order of docs/architecture.md with emulated fused multiply-adds, vectorised over outputs.

`matmul(a, b)` is what compiled code must give, for float32 and float64 of ordinary magnitude.
"""

from __future__ import annotations

import numpy as np
from flambeau.dialects.orders import BLOCK, CHUNK, LANES


def _two_sum(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rounded sum and its error (Knuth)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def _split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Halves of a float64's bits (Veltkamp)."""
    scaled = x * 134217729.0
    high = scaled - (scaled - x)
    return high, x - high


def _two_product(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rounded product and its error (Dekker)."""
    product = x * y
    (x1, x2), (y1, y2) = _split(x), _split(y)
    return product, ((x1 * y1 - product) + x1 * y2 + x2 * y1) + x2 * y2


def _add_to_odd(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x + y rounded to odd: rounding it again, to fewer bits, is then as good as rounding once."""
    total, error = _two_sum(x, y)
    whole = total.view(np.int64)
    # The odd neighbour of an even number lies one step of its magnitude up or down.
    step = np.where(np.signbit(error) == np.signbit(total), 1, -1)
    step *= error != 0
    step *= ~whole & 1
    return np.where(np.isfinite(total), (whole + step).view(np.float64), total)


_AT_ONCE = 8192  #: elements: what they need on the way stays in a cache


def fma(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """x * y + z rounded once (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008)."""
    x, y, z = np.broadcast_arrays(x, y, z)
    flat, result = [v.ravel() for v in (x, y, z)], np.empty(x.size, x.dtype)
    with np.errstate(all="ignore"):
        for start in range(0, x.size, _AT_ONCE):
            at = slice(start, start + _AT_ONCE)
            result[at] = _fma(*(v[at] for v in flat))
    return result.reshape(x.shape)


def _fma(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    if x.dtype == np.float32:
        return _add_to_odd(x.astype(np.float64) * y.astype(np.float64), z.astype(np.float64)).astype(np.float32)
    high, low = _two_product(x, y)
    upper, lower = _two_sum(z, low)
    total, rest = _two_sum(high, upper)
    return total + _add_to_odd(lower, rest)


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[*batch, M, K] times [*batch, K, N]."""
    if a.dtype.kind != "f":
        return np.matmul(a, b)
    rows, columns, depth = a.shape[-2], b.shape[-1], a.shape[-1]
    batch = a.shape[:-2]
    left = a.reshape(-1, rows, depth) if a.size else a.reshape(int(np.prod(batch)), rows, depth)
    right = b.reshape(left.shape[0], depth, columns)
    multiply = _dot if rows == 1 or columns == 1 else blocks
    return multiply(left, right).reshape(*batch, rows, columns)


def blocks(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Chains of fused multiply-adds over blocks of 256 along k, from 0; block results added in order."""
    total = np.zeros((a.shape[0], a.shape[1], b.shape[2]), a.dtype)
    for start in range(0, a.shape[2], BLOCK):
        block = np.zeros_like(total)
        for k in range(start, min(start + BLOCK, a.shape[2])):
            block = fma(a[:, :, k, None], b[:, k, None, :], block)
        total = block if start == 0 else total + block
    return total


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Every output uses the lanes of an inner reduction, with one fused multiply-add per element."""
    batch, rows, depth = a.shape
    columns = b.shape[2]
    x = np.broadcast_to(a[:, :, None, :], (batch, rows, columns, depth))
    y = np.broadcast_to(np.swapaxes(b, 1, 2)[:, None], (batch, rows, columns, depth))
    steps = CHUNK // LANES
    parts = []
    for start in range(0, depth, CHUNK):
        lanes = np.zeros((batch, rows, columns, LANES), a.dtype)
        for step in range(steps):
            low = start + step * LANES
            width = min(LANES, depth - low)
            if width <= 0:
                break
            lanes[..., :width] = fma(x[..., low : low + width], y[..., low : low + width], lanes[..., :width])
        while lanes.shape[-1] > 1:
            half = lanes.shape[-1] // 2
            lanes = lanes[..., :half] + lanes[..., half:]
        parts.append(lanes[..., 0])
    while len(parts) > 1:
        pairs = [parts[i] + parts[i + 1] for i in range(0, len(parts) - 1, 2)]
        parts = pairs + parts[len(pairs) * 2 :]
    return parts[0] if parts else np.zeros((batch, rows, columns), a.dtype)
