"""Fourier transforms in this process: NumPy's pocketfft, by the addresses of its ufuncs' loops.

Out: the addresses of kernels; the runtime has them (`runtime/binding/fourier.c`), and is handed the loops that they call when one
is first asked for. Next: `families/fourier.py`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from flambeau.runtime import _binding as runtime

_UFUNCS = ("fft", "ifft", "rfft_n_even", "rfft_n_odd", "irfft")
_ADVICE = "Install a NumPy of version 2."


class _Ufunc(ctypes.Structure):
    """The head of NumPy's `PyUFuncObject` (numpy/ufuncobject.h), which its binary interface fixes."""

    _fields_ = [
        ("references", ctypes.c_ssize_t), ("type", ctypes.c_void_p), ("nin", ctypes.c_int), ("nout", ctypes.c_int),
        ("nargs", ctypes.c_int), ("identity", ctypes.c_int), ("functions", ctypes.POINTER(ctypes.c_void_p)),
        ("data", ctypes.POINTER(ctypes.c_void_p)), ("ntypes", ctypes.c_int), ("reserved", ctypes.c_int),
        ("name", ctypes.c_char_p),
    ]  # fmt: skip


@cache
def kernels() -> Mapping[str, Sequence[int]]:
    """The addresses of each kernel, for the dtypes of `addresses.DTYPES`. Raises RuntimeError where NumPy has no
    such loops."""
    try:
        ufuncs: Any = import_module("numpy.fft._pocketfft_umath")
    except ImportError as error:
        raise RuntimeError(f"[fft] NumPy {np.__version__} has no such transforms: {error}. {_ADVICE}") from error
    found = [_loop(getattr(ufuncs, name, None), name, number) for name in _UFUNCS for number in "fd"]
    return runtime.fourier_kernels(tuple(found))


def _loop(ufunc: Any, name: str, number: str) -> tuple[int, int]:
    """The addresses of a loop and of its data: of the type whose factor is `number`, the letter of NumPy's float type."""
    if type(ufunc) is not np.ufunc:
        raise RuntimeError(f"[fft] NumPy {np.__version__} has no ufunc '{name}'. {_ADVICE}")
    head = _Ufunc.from_address(id(ufunc))
    if (head.nin, head.nout, head.nargs, head.ntypes) != (2, 1, 3, ufunc.ntypes) or head.name != name.encode():
        raise RuntimeError(f"[fft] '{name}' of NumPy {np.__version__} is made otherwise. {_ADVICE}")
    at = next((k for k, types in enumerate(ufunc.types) if types[1] == number), None)
    if at is None or not head.functions[at]:
        raise RuntimeError(f"[fft] '{name}' of NumPy {np.__version__} has no loop of type {number}. {_ADVICE}")
    return head.functions[at], (head.data[at] or 0) if head.data else 0
