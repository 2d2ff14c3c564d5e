"""DLPack of elements that NumPy knows no code for, such as bfloat16: NumPy hands them over as integers, and here their code is put
into the capsule, or taken out of it.

In: arrays, and whatever has `__dlpack__`. Out: capsules, arrays. Next: `host.py`.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from flambeau.dialects import dtypes

_UNSIGNED = 1  # DLDataTypeCode, kDLUInt
#: Name of a capsule -> where in its struct the code and the bits of the elements stand (dlpack.h, DLManagedTensor and
#: DLManagedTensorVersioned).
_CODES = {b"dltensor": 20, b"dltensor_versioned": 52}

_name, _pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
_name.restype, _name.argtypes = ctypes.c_char_p, [ctypes.py_object]
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def _type_in(capsule: Any) -> Any:
    """The bytes of a capsule's struct that are code and bits of the elements; None where it is of no kind that is known."""
    try:
        name = _name(capsule)
    except ValueError:
        return None
    return (ctypes.c_uint8 * 2).from_address(_pointer(capsule, name) + _CODES[name]) if name in _CODES else None


def capsule_of(array: np.ndarray, **kwargs: Any) -> Any:
    """A capsule on the memory of an array. `kwargs` are those of `__dlpack__`."""
    dtype = dtypes.from_numpy(array.dtype)
    if not dtype.dlpack:
        return array.__dlpack__(**kwargs)
    capsule = dtypes.exported(array).__dlpack__(**kwargs)
    _type_in(capsule)[0] = dtype.dlpack
    return capsule


class _Lent:
    """An array of others as NumPy can take it: `dtype` is what its elements are, where that is none of NumPy's own."""

    dtype: dtypes.DType | None = None

    def __init__(self, owner: Any) -> None:
        self.owner = owner

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.owner.__dlpack_device__()

    def __dlpack__(self, **kwargs: Any) -> Any:
        capsule = self.owner.__dlpack__(**kwargs)
        found = _type_in(capsule)
        told = found and list(found)
        self.dtype = next((d for d in dtypes.ALL if d.dlpack and [d.dlpack, d.bits] == told), None)
        if self.dtype:
            found[0] = _UNSIGNED
        return capsule


class _Capsule:
    """What a capsule of CPU memory was made of."""

    def __init__(self, capsule: Any) -> None:
        self.capsule = capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.capsule


def array_from(owner: Any) -> np.ndarray:
    """An array on the memory of whatever has `__dlpack__`, or of a capsule that it made."""
    if type(owner) is np.ndarray:
        return owner
    if type(owner).__name__ == "PyCapsule":
        owner = _Capsule(owner)
    lent = _Lent(owner)
    array = np.from_dlpack(lent)
    return array.view(lent.dtype.numpy) if lent.dtype else array
