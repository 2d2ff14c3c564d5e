"""The package `onnx`, imported when it is needed, and what of it concerns dtypes.

In: nothing. Out: the package, or an ImportError that names the extra. Next: `program.py`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from flambeau import host
from flambeau.dialects.dtypes import DType


@cache
def onnx() -> Any:
    """The package. Raises ImportError without it."""
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise ImportError("[onnx] ONNX files need the package onnx. Install flambeau[onnx].") from error
    return onnx


def dtype_of(number: int, op: str) -> DType:
    """Our dtype for ONNX's number of one. Raises NotImplementedError where there is none (strings, floats of 8 bits)."""
    try:
        found = host.from_numpy(np.dtype(onnx().helper.tensor_dtype_to_np_dtype(number)))
        host.check_supported(op, found)
    except (KeyError, TypeError, RuntimeError) as error:
        name = onnx().TensorProto.DataType.Name(number)
        raise NotImplementedError(f"[onnx] {op} makes {name}, a dtype that Flambeau does not have.") from error
    return found


def number_of(dtype: DType) -> int:
    """ONNX's number of a dtype of ours."""
    return int(onnx().helper.np_dtype_to_tensor_dtype(np.dtype(dtype.numpy)))
