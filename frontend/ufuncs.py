"""NumPy arrays beside tensors: `array + tensor` is a tensor, `numpy.exp(tensor)` an array.

In: a NumPy ufunc and its inputs, one of which is a tensor. Out: for Python's operators a tensor, recorded like any other; for
other ufuncs what NumPy computes from the values. Next: `methods.py`, which installs it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from flambeau.functions.from_data import as_tensor
from flambeau.runtime.recorder import Tensor

_OPERATORS: dict[Any, Callable[[Any, Any], Any]] = {
    np.add: operator.add,
    np.subtract: operator.sub,
    np.multiply: operator.mul,
    np.true_divide: operator.truediv,
    np.floor_divide: operator.floordiv,
    np.remainder: operator.mod,
    np.power: operator.pow,
    np.matmul: operator.matmul,
    np.bitwise_and: operator.and_,
    np.bitwise_or: operator.or_,
    np.bitwise_xor: operator.xor,
    np.equal: operator.eq,
    np.not_equal: operator.ne,
    np.less: operator.lt,
    np.less_equal: operator.le,
    np.greater: operator.gt,
    np.greater_equal: operator.ge,
}


def _operand(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return as_tensor(x)
    return x.item() if isinstance(x, np.generic) else x


def array_ufunc(self: Tensor, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """What NumPy calls for a ufunc with a tensor among its inputs. Raises RuntimeError for tensors that require grad where
    values have to be read, TypeError for a tensor as destination."""
    if method == "__call__" and ufunc in _OPERATORS and not kwargs:
        return _OPERATORS[ufunc](*map(_operand, inputs))
    if any(isinstance(x, Tensor) for x in kwargs.get("out", ())):
        raise TypeError(f"[numpy] {ufunc.__name__} cannot write to a tensor. Use the function of flambeau.")
    return getattr(ufunc, method)(*(x.numpy() if isinstance(x, Tensor) else x for x in inputs), **kwargs)
