"""An emitter that computes with NumPy at once: runs the records' lowerings without a compiler.

It offers the operations that `compiler/codegen/arithmetic.py` does, with the same meaning; values are arrays.
"""

import numpy as np
from flambeau.dialects.dtypes import by_mlir, from_numpy
from flambeau.dialects.tape.elementwise import maximum, minimum, saturate
from fused import fma

_COMPARE = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal}
_COMPARE |= {"gt": np.greater, "ge": np.greater_equal}


class Val:
    """An array with the attributes of an emitter's value."""

    def __init__(self, array) -> None:
        self.array = np.asarray(array)
        self.dtype = from_numpy(self.array.dtype)
        self.type, self.bits = self.dtype.mlir, self.dtype.bits
        self.is_float, self.is_signed = self.dtype.is_floating_point, self.dtype.is_signed
        self.lanes = 1


def _arrays(operands) -> list:
    """Numbers take the type of the first operand that is none."""
    model = next((x.array.dtype for x in operands if isinstance(x, Val)), None)
    return [x.array if isinstance(x, Val) else np.asarray(x).astype(model or None) for x in operands]


def _method(function):
    return lambda self, *operands: Val(function(*_arrays(operands)))


def _unsigned(x: np.ndarray) -> np.ndarray:
    return x.view(f"u{x.dtype.itemsize}")


class NumpyEmitter:
    """`indices` are the coordinates that sources see."""

    def __init__(self, indices=()) -> None:
        self.indices = indices

    def const(self, number, like) -> Val:
        return Val(np.asarray(number).astype(by_mlir(like if isinstance(like, str) else like.type).numpy))

    add, sub, mul, div = (_method(f) for f in (np.add, np.subtract, np.multiply, np.true_divide))
    neg, abs, sqrt, floor, ceil = (_method(f) for f in (np.negative, np.abs, np.sqrt, np.floor, np.ceil))
    is_nan = _method(np.isnan)
    trunc, round_even, copysign = (_method(f) for f in (np.trunc, np.rint, np.copysign))
    and_, or_, xor, not_ = (_method(f) for f in (np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.bitwise_not))
    shl, shr = _method(np.left_shift), _method(np.right_shift)
    shru = _method(lambda x, count: np.right_shift(_unsigned(x), _unsigned(count)).view(x.dtype))
    maximum, minimum = _method(maximum.reference), _method(minimum.reference)
    int_div_floor, int_rem_floor = _method(np.floor_divide), _method(np.remainder)

    def bit_length(self, x: Val) -> Val:
        return Val(
            np.vectorize(lambda n: int(n).bit_length(), otypes=[x.array.dtype])(x.array.view(f"u{x.array.itemsize}"))
        )

    def fma(self, x: Val, y: Val, z: Val) -> Val:
        return Val(fma(x.array, y.array, z.array))

    def unify(self, *operands) -> list:
        """Arrays are as wide as they are."""
        return list(operands)

    def repeat(self, carried, condition, body, at_most: int) -> list:
        while at_most and condition(*carried).array.any():
            carried, at_most = body(*carried), at_most - 1
        return list(carried)

    def select(self, condition: Val, x, y) -> Val:
        return Val(np.where(condition.array, *_arrays([x, y])))

    def bitcast(self, x: Val, type: str) -> Val:
        return Val(x.array.view(by_mlir(type).numpy))

    def cmp(self, predicate: str, x, y) -> Val:
        return Val(_COMPARE[predicate](*_arrays([x, y])))

    def cast(self, x: Val, type: str) -> Val:
        return Val(saturate(x.array, by_mlir(type)))

    def index(self, dim: int) -> Val:
        return Val(self.indices[dim])
