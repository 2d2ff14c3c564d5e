"""Conversions: `.to`, `.float()`, `.long()` and so on.

In: a tensor. Out: a copy in another dtype, or the tensor itself if it has that dtype already. Next: `methods.py`.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from flambeau import host
from flambeau.declarations import declare, declared
from flambeau.device import device, place
from flambeau.dialects import dtypes
from flambeau.dialects.dtypes import DType, of_python
from flambeau.function import Static, Tensor_, function
from flambeau.functions.transfer import moved
from flambeau.memory_format import in_format
from flambeau.runtime.recorder import Tensor, not_recalled
from flambeau.samples import call, calls, data, points
from flambeau.tensor_types import dtype_of


@function(name="to")
def cast(input: Tensor_, dtype: Static):
    """`input` converted to `dtype`: float to int truncates and saturates, NaN becomes 0, anything but 0 is true."""
    return input.cast(host.check_supported("to", dtype))


def convert(input: Tensor, dtype: DType, copy: bool = False) -> Tensor:
    """`input` as `dtype`; itself if it is so already, unless `copy`."""
    if input.dtype is dtype:
        return input.clone() if copy else input
    if input.dtype.is_complex and not dtype.is_complex and not dtype.is_bool:
        warnings.warn("[to] casting complex values to real discards the imaginary part. Use x.real.", stacklevel=2)
        not_recalled()  # it warns each time
    return cast(input, dtype)


class ToArguments(NamedTuple):
    """What the arguments of `to` ask for: a device by the name that types have for it."""

    device: str | None = None
    dtype: DType | None = None
    copy: bool = False
    memory_format: Any = None


def parse_to(op: str, *args: Any, **kwargs: Any) -> ToArguments:
    """What is asked for by a dtype, a device, both, or a tensor to follow; then `non_blocking` and `copy`, as bools."""
    wanted = {name: kwargs.pop(name, None) for name in ("device", "dtype", "copy", "memory_format")}
    other = kwargs.pop("other", None)
    kwargs.pop("non_blocking", None)
    for name in kwargs:
        raise TypeError(f"[{op}] there is no argument '{name}'. Use dtype, device, copy and memory_format.")
    flags = 0
    for value in (*args, *(() if other is None else (other,))):
        if isinstance(of_python(value), DType):
            wanted["dtype"] = of_python(value)
        elif isinstance(value, (str, device)) or type(value) is int:
            wanted["device"] = value
        elif isinstance(value, Tensor):
            wanted.update(dtype=value.dtype, device=value._place)
        elif isinstance(value, bool) and flags < 2:
            flags += 1
            wanted["copy"] = value if flags == 2 else wanted["copy"]
        elif value is not None:
            raise TypeError(
                f"[{op}] got an argument of type {type(value).__name__}. Pass a dtype, a device or a tensor."
            )
    if wanted["device"] is not None:
        wanted["device"] = place(wanted["device"])
    wanted["copy"] = bool(wanted["copy"])
    return ToArguments(**wanted)


@declared(
    method=True,
    samples=calls(
        lambda: [
            *(call(points(), dtype, gradient=False) for dtype in dtypes.SUPPORTED),
            call(data(2, 3), "cpu", dtypes.float64),
            call(data(2, 3), copy=True),
            call(data(2), 3.0, error=(TypeError, "Pass a dtype, a device or a tensor")),
        ]
    ),
    recalled="operand",
)
def to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """`to(dtype)`, `to(device)`, `to(device, dtype)` or `to(other)`: the tensor converted and moved, or itself if nothing changes;
    then `non_blocking`, which changes nothing, and `copy`. `memory_format` says how the elements are to lie. Raises RuntimeError
    for a device that is not there."""
    if len(args) == 1 and not kwargs and isinstance(args[0], DType):
        return (
            cast(self, args[0]) if self.dtype is not args[0] and not self.dtype.is_complex else convert(self, args[0])
        )
    wanted = parse_to("to", *args, **kwargs)
    there = wanted.device or self._place
    made = moved(convert(self, wanted.dtype or self.dtype, wanted.copy and there == self._place), there)
    return in_format("to", made, wanted.memory_format)


@declared(
    method=True,
    samples=calls(
        lambda: [call(points(), data(2), gradient=False), call(points(), np.zeros(1, np.int64), gradient=False)]
    ),
    recalled="types",
)
def type_as(self: Tensor, other: Tensor) -> Tensor:
    """Converted to the dtype of `other`."""
    return convert(self, other.dtype)


_CONVERTED = calls(lambda: [call(points(), gradient=False), call(data(3, 7), gradient=False)])


def _named(name: str, dtype: DType) -> None:
    def method(self: Tensor, memory_format: Any = None) -> Tensor:
        if memory_format is None and not self.dtype.is_complex:
            return self if self.dtype is dtype else cast(self, dtype)
        made = convert(self, dtype)
        return made if memory_format is None else in_format(name, made, memory_format)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"`to({dtype!r})`."
    declare(method, name, method=True, samples=_CONVERTED, recalled="operand")


for _dtype in (d for d in dtypes.SUPPORTED if d.has_classes):
    _named(_dtype.aliases[0] if _dtype.is_complex else _dtype.tensor.lower(), _dtype)  # that of LongTensor is long


@declared(
    method="type",
    samples=calls(
        lambda: [
            call(data(2, 3), dtypes.int64, gradient=False),
            call(data(2, 3), "flambeau.IntTensor", gradient=False),
            call(data(2)),
            call(data(2), "number", error=(TypeError, "is no dtype")),
        ]
    ),
    recalled="operand",
)
def type_(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """Converted to `dtype`, which may also be a type such as `LongTensor`, or the name of one; without it, the name of the tensor's
    type. Raises TypeError for what names no dtype."""
    if dtype is None:
        return f"flambeau.{self.dtype.tensor}Tensor"
    wanted = dtype_of(dtype)
    if not isinstance(wanted, DType):
        raise TypeError(f"[type] {dtype!r} is no dtype. Use one such as flambeau.int64, or 'flambeau.LongTensor'.")
    return convert(self, wanted)
