"""Conversions: `.to`, `.float()`, `.long()` and so on.

In: a tensor. Out: a copy in another dtype, or the tensor itself if it has that dtype already. Next: `methods.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau import host
from flambeau.declarations import declare, declared
from flambeau.device import check_device, device
from flambeau.dialects import dtypes
from flambeau.dialects.dtypes import DType
from flambeau.function import Static, Tensor_, function
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, points


@function(name="to")
def cast(input: Tensor_, dtype: Static):
    """`input` converted to `dtype`: float to int truncates and saturates, NaN becomes 0, anything but 0 is true."""
    return input.cast(dtype)


def convert(input: Tensor, dtype: DType, copy: bool = False) -> Tensor:
    """`input` as `dtype`; itself if it is so already, unless `copy`."""
    if input.dtype is dtype:
        return input.clone() if copy else input
    return cast(input, host.check_supported("to", dtype))


def parse_to(op: str, *args: Any, **kwargs: Any) -> tuple[Any, DType | None]:
    """(device, dtype) of the arguments of `to`: a dtype, a device, both, or a tensor to follow."""
    found_device, found_dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
    kwargs.pop("non_blocking", None)
    for name in kwargs:
        if name != "copy":
            raise TypeError(f"[{op}] there is no argument '{name}'. Use dtype, device and copy.")
    for value in args:
        if isinstance(value, DType):
            found_dtype = value
        elif isinstance(value, (str, device)):
            found_device = value
        elif isinstance(value, Tensor):
            found_dtype = value.dtype
        elif value is not None and not isinstance(value, bool):
            raise TypeError(
                f"[{op}] got an argument of type {type(value).__name__}. Pass a dtype, a device or a tensor."
            )
    check_device(found_device)
    return found_device, found_dtype


@declared(
    method=True,
    samples=calls(
        lambda: [
            *(call(points(), dtype, gradient=False) for dtype in dtypes.SUPPORTED),
            call(data(2, 3), "cpu", dtypes.float64),
            call(data(2, 3), copy=True),
            call(data(2), 3, error=(TypeError, "Pass a dtype, a device or a tensor")),
        ]
    ),
)
def to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """`to(dtype)`, `to(device)`, `to(device, dtype)` or `to(other)`: the tensor converted, or itself if nothing changes."""
    if len(args) == 1 and not kwargs and isinstance(args[0], DType):
        return convert(self, args[0])
    copy = bool(kwargs.get("copy", False))
    _, dtype = parse_to("to", *args, **kwargs)
    return convert(self, dtype or self.dtype, copy)


_CONVERTED = calls(lambda: [call(points(), gradient=False), call(data(3, 7), gradient=False)])


def _named(name: str, dtype: DType) -> None:
    def method(self: Tensor) -> Tensor:
        return convert(self, dtype)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"`to({dtype!r})`."
    declare(method, name, method=True, samples=_CONVERTED)


for _name, _dtype in (
    ("float", dtypes.float32),
    ("double", dtypes.float64),
    ("int", dtypes.int32),
    ("long", dtypes.int64),
    ("bool", dtypes.bool_),
):
    _named(_name, _dtype)


@declared(method="type", samples=calls(lambda: [call(data(2, 3), dtypes.int64, gradient=False), call(data(2))]))
def type_(self: Tensor, dtype: DType | None = None) -> Any:
    """Converted to `dtype`; without it, the name of the tensor's type."""
    if dtype is None:
        names = {"float32": "Float", "float64": "Double", "int64": "Long", "int32": "Int", "bool": "Bool"}
        return f"flambeau.{names[self.dtype.name]}Tensor"
    return convert(self, dtype)
