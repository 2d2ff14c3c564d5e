"""What rules share: promotion and broadcasting of operands, and checks of dimensions.

In: `builder.Value`s and the arguments users wrote. Out: values that records accept, or the user's error.
Next: `arithmetic.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import DType, bool_, complex128, float64, int64, uint64
from flambeau.dialects.size import Size
from flambeau.dialects.tape.common import ops
from flambeau.engine import Weak
from flambeau.promotion import get_default_dtype, number_dtype, result_dtype

#: Dimensions that a function takes which is told which of them to go along, as in PyTorch.
MOST_DIMENSIONS = 64

__all__ = [  # `ops` among them
    "as_value",
    "broadcast_shapes",
    "by_number",
    "canonical_dim",
    "canonical_dims",
    "check_between",
    "check_floating",
    "common_dtype",
    "fitted",
    "flat",
    "floating",
    "matched",
    "moved",
    "numbers",
    "ops",
    "part",
    "promoted",
    "promoted_floats",
    "repeated",
    "size_of",
    "without_slope",
]


def common_dtype(op: str, *values: Value) -> DType:
    """The dtype the operands of `op` are computed in; refuses calls without any tensor."""
    if all(v.weak for v in values):
        raise TypeError(f"[{op}] no operand is a tensor. Pass at least one tensor.")
    return result_dtype(values)


def broadcast_shapes(op: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that all `shapes` stretch to. Raises RuntimeError where extents differ and none is 1."""
    if shapes.count(shapes[0]) == len(shapes):
        return tuple(shapes[0])
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(s)) + s for s in shapes]
    result = []
    for dim, extents in enumerate(zip(*padded, strict=True)):
        wanted = [n for n in extents if n != 1]
        if any(n != wanted[0] for n in wanted):
            found = " and ".join(str(s) for s in shapes)
            sizes = " and ".join(map(str, sorted(set(map(int, wanted)))))
            raise RuntimeError(
                f"[{op}] shapes {found} do not broadcast: sizes {sizes} at dimension {dim - rank}. "
                "Make them equal or one of them 1."
            )
        result.append(wanted[0] if wanted else 1)
    return tuple(result)


def matched(op: str, dtype: DType, *values: Value) -> list[Value]:
    """`values` as `dtype`, broadcast to their common shape."""
    shape = broadcast_shapes(op, *(v.shape for v in values))
    return [v.cast(dtype).expand(shape) for v in values]


def promoted(op: str, *values: Value, float_only: bool = False, number_only: bool = False) -> list[Value]:
    """The operands in their common dtype and shape. `float_only`: integers become the default dtype;
    `number_only`: refuses booleans."""
    dtype = common_dtype(op, *values)
    if float_only and dtype.is_integral:
        dtype = get_default_dtype()
    if number_only and dtype is bool_:
        raise RuntimeError(f"[{op}] is not defined for bool tensors. Use logical_not, ^ or cast them first.")
    return matched(op, dtype, *values)


def promoted_floats(op: str, *values: Value) -> list[Value]:
    """The operands in their common dtype and shape. Raises RuntimeError for integers."""
    found = promoted(op, *values)
    check_floating(op, found[0])
    return found


def without_slope(result: Value, *operands: Value) -> Value:
    """`result`, whose gradient with respect to `operands` is 0: neither none, nor 0 times an infinite slope of what made it."""
    result = ops.stop_gradient(result)
    nowhere = result.builder.constant(False, bool_, result.shape)
    for operand in operands:
        result = ops.select(nowhere, operand, result)
    return result


def floating(x: Value) -> Value:
    """`x`, converted to the default dtype unless it is floating-point."""
    return x.cast(get_default_dtype()) if x.dtype.is_integral else x


def check_floating(
    op: str, x: Value, what: str = "input", error: type[RuntimeError] = NotImplementedError, complex: bool = False
) -> None:
    """Raise `error` for another dtype: as in PyTorch NotImplementedError, which is a RuntimeError, where a kernel is what refuses
    it, and RuntimeError where a function does before it comes to one. `complex`: complex dtypes are right, too."""
    if not (x.dtype.is_inexact if complex else x.dtype.is_floating_point):
        wanted = "a floating-point or complex one" if complex else "a floating-point one"
        raise error(f"[{op}] {what} has dtype {x.dtype}, expected {wanted}. Cast it first.")


def by_number(x: Value, number: Any) -> Value:
    """`x` divided by a number; of complex numbers each part."""
    if not x.dtype.is_complex:
        return x / number
    return ops.complex(ops.real(x) / number, ops.imag(x) / number)


def check_between(
    op: str, what: str, x: Value, low: float, high: float, text: str, error: str = "RuntimeError"
) -> Value:
    """`x`, whose elements must lie in low..high, as no NaN does: RuntimeError (or ValueError) "[op] what[place] text" where the
    values are known, at run time."""
    wide = x.cast(float64) if x.dtype.is_integral else x
    checked = ops.check_range(wide, low=low, high=high, op=op, what=what, text=text, error=error)
    return Weak(checked.builder, checked.id, checked.aval) if x.weak else checked.cast(x.dtype)


def fitted(op: str, what: str, number: Any, dtype: DType) -> Any:
    """A number that is to be converted to `dtype`: RuntimeError where that is of integers and does not hold it; at once, or where
    it is known at run time only, then. Unsigned dtypes count numbers below 0 from their other end, as PyTorch's do."""
    if isinstance(number, Value) and not number.weak:
        return number
    kind = number.dtype if isinstance(number, Value) else number_dtype(number)
    if kind.is_complex and not dtype.is_complex:
        raise RuntimeError(f"[{op}] {what} is complex, which is no value of {dtype.name}. Use its real part.")
    if not dtype.is_integer:
        return number
    low, high = least_stored(dtype, kind.is_floating_point), dtype.greatest
    text = f"is no value of {dtype.name}. Use {dtype.least}..{dtype.greatest}."
    if not isinstance(number, Value):
        if not low - 1 < number < high + 1:
            raise RuntimeError(f"[{op}] {what} is {number}, which {text}")
        return number
    if kind is uint64 and dtype is not uint64:  # a constant beyond int64
        raise RuntimeError(f"[{op}] {what} {text}")
    if kind in (bool_, uint64) or (dtype in (int64, uint64) and not kind.is_floating_point):
        return number
    below = min(float(low), math.nextafter(low - 1, 0))  # float64 holds -2**63, but not the number before it
    checked = check_between(op, what, number, below, math.nextafter(high + 1, 0), text)
    checked = checked.cast(number.dtype)
    return Weak(checked.builder, checked.id, checked.aval)


def least_stored(dtype: DType, is_float: bool) -> int:
    """The least number that is stored in an integer dtype: unsigned ones count ints below 0 from their end, but no floats."""
    return int(dtype.least if dtype.least or is_float else -dtype.greatest)


def as_value(like: Value, number: Any) -> Value:
    """`number`, which may already be a Value, as a weak 0-d value beside `like`; floats in full, as operands are."""
    if isinstance(number, Value):
        return number
    full = float64 if isinstance(number, float) else complex128 if isinstance(number, complex) else number_dtype(number)
    made = like.builder.constant(number, full)
    return Weak(made.builder, made.id, made.aval)


def canonical_dim(op: str, dim: Any, rank: int) -> int:
    """`dim` counted from the front. Raises IndexError outside [-rank, rank), TypeError unless it is an int, or stands for one as
    NumPy's do."""
    dim = integer(op, "dim", dim)
    extent = max(rank, 1)
    if rank > MOST_DIMENSIONS:
        raise RuntimeError(f"[{op}] the tensor has {rank} dimensions. Use at most {MOST_DIMENSIONS}, or reshape it.")
    if not -extent <= dim < extent:
        raise IndexError(
            f"[{op}] dim {dim} is out of range for a tensor of {rank} dimensions. Use {-extent} to {extent - 1}."
        )
    return dim % extent


def integer(op: str, what: str, given: Any) -> Any:
    """An int, of what stands for one; a size as it is. Raises TypeError for anything else."""
    if type(given) is int or isinstance(given, Size):
        return given
    if isinstance(given, bool) or not hasattr(given, "__index__"):
        raise TypeError(f"[{op}] {what} is {given!r}, a {type(given).__name__}. Pass an int.")
    return given.__index__()


def canonical_dims(op: str, dims: Any, rank: int) -> tuple[int, ...]:
    """Sorted dims counted from the front; None and () mean all. Raises RuntimeError for one named twice."""
    if dims is None or (isinstance(dims, (tuple, list)) and not dims):
        return tuple(range(rank))
    given = dims if isinstance(dims, (tuple, list)) else (dims,)
    found = [canonical_dim(op, d, rank) for d in given]
    if len(set(found)) < len(found):
        raise RuntimeError(f"[{op}] dims {tuple(given)} name a dimension twice. Name each once.")
    return tuple(sorted(d for d in found if d < rank))


def flat(x: Value) -> Value:
    """All elements in one dimension."""
    return ops.reshape(x, shape=(math.prod(x.shape),))


def part(x: Value, axis: int, start: Any, count: Any) -> Value:
    """`count` elements along an axis from `start` on."""
    starts = tuple(start if d == axis else 0 for d in range(len(x.shape)))
    sizes = tuple(count if d == axis else n for d, n in enumerate(x.shape))
    return ops.slice(x, starts=starts, sizes=sizes, steps=(1,) * len(sizes))


def moved(rank: int, source: int, target: int) -> tuple[int, ...]:
    """The permutation that moves dimension `source` to position `target`."""
    order = [d for d in range(rank) if d != source]
    order.insert(target, source)
    return tuple(order)


def repeated(given: Any, count: int) -> tuple[Any, ...]:
    """What a layer keeps of something for each of `count` dimensions that was given once, or one by one. Calls check it."""
    return tuple(given) if isinstance(given, Iterable) else (given,) * count


def numbers(op: str, what: str, given: Any, rank: int, least: int | None = None) -> tuple[int, ...]:
    """One int for every spatial dimension, of an int, or of a sequence of one or of `rank`. Raises TypeError for other kinds,
    RuntimeError for other counts and for ints below `least`, if there is one."""
    each = tuple(given) if isinstance(given, tuple | list) else (given,)
    if any(isinstance(n, bool) or not hasattr(n, "__index__") for n in each):
        raise TypeError(f"[{op}] {what} is {given!r}. Give an int, or {rank} of them.")
    if len(each) not in (1, rank):
        raise RuntimeError(
            f"[{op}] {what} is {given!r}, and there are {rank} spatial dimensions. Give 1 or {rank} ints."
        )
    found = tuple(n.__index__() for n in each) * (rank if len(each) == 1 else 1)
    if least is not None and any(n < least for n in found):
        raise RuntimeError(f"[{op}] {what} is {given!r}. Give at least {least}.")
    return found


def size_of(op: str, size: Sequence[Any]) -> tuple[Any, ...]:
    """A shape given as ints or as one sequence of ints. Raises for negative extents and other types."""
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = size[0]
    if all([type(n) is int and n >= 0 for n in size]):
        return tuple(size)
    for n in size:
        if isinstance(n, bool) or not hasattr(n, "__index__"):
            raise TypeError(f"[{op}] size {tuple(size)} has an entry of type {type(n).__name__}. Pass ints.")
    result = tuple(n if isinstance(n, Size) else n.__index__() for n in size)
    if any(n < 0 for n in result):
        raise RuntimeError(f"[{op}] size {result} has a negative entry. Pass sizes of at least 0.")
    return result
