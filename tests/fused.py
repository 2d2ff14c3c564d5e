"""Fused multiply-add on arrays, rounded once, for every number of float32 and float64."""

import ctypes

import contraction_order
import numpy as np

_libm = ctypes.CDLL("libm.so.6")
_libm.fma.restype, _libm.fma.argtypes = ctypes.c_double, [ctypes.c_double] * 3
_one = np.vectorize(_libm.fma, otypes=[np.float64])


def fma(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """x * y + z; the quick way is right for numbers of ordinary magnitude only."""
    result = np.asarray(contraction_order.fma(x, y, z))
    if result.dtype == np.float64:
        x, y, z = np.broadcast_arrays(x, y, z)
        sizes = np.abs([x, y, z, result])
        nothing = (x == 0) | (y == 0)
        result = np.where(nothing, x * y + z, result)
        odd = ~np.all((sizes < 1e150) & ((sizes > 1e-130) | (sizes == 0)), axis=0) | (result == 0) & ~nothing
        result[odd] = _one(x[odd], y[odd], z[odd]) if odd.any() else 0
    return result
