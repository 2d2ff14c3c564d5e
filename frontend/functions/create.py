"""Creation of tensors from nothing: zeros, full, empty, eye, ...; one_hot, clone.

In: sizes and numbers. Out: tensors. Constants are recorded like any op, so they fold into what uses them.
Next: `ramps.py`.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from flambeau import host
from flambeau.declarations import declare, declared
from flambeau.device import Device, place
from flambeau.dialects.aval import CPU
from flambeau.dialects.dtypes import DType, bool_, float64, int64, uint64
from flambeau.function import Default, Number, Sizes, Static, Tensor_, builder, function
from flambeau.functions.assemble import _one_hot
from flambeau.functions.common import check_between, fitted, ops, size_of
from flambeau.functions.from_data import alike, laid_alike, with_grad
from flambeau.functions.permutations import permute
from flambeau.memory_format import checked, laid_out, preserve_format
from flambeau.promotion import get_default_dtype, number_dtype, result_dtype
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, index, truth, unary

# ---- constants --------------------------------------------------------------------------------------------


@function(name="full")
def _full(size: Sizes, dtype: Static, value: Number):
    text = f"is no value of {dtype.name}. Use a float dtype."
    if isinstance(value, float) and dtype.is_integer and not math.isfinite(value):
        raise RuntimeError(f"[full] fill_value {text}")
    if hasattr(value, "aval") and value.dtype.is_complex and not dtype.is_complex:
        raise RuntimeError(f"[full] a complex fill_value is no value of {dtype.name}. Use a complex dtype.")
    value = fitted("full", "fill_value", value, dtype)
    if isinstance(value, int) and value < 0 and dtype.is_integer and dtype.least == 0:
        value += dtype.greatest + 1
    scalar = value if hasattr(value, "aval") else builder().constant(value, dtype)
    if (
        scalar.dtype.is_floating_point and dtype.is_integer
    ):  # a number that has changed so often that it is read at run time
        scalar = check_between("full", "fill_value", scalar, -sys.float_info.max, sys.float_info.max, text)
    return scalar.cast(dtype).expand(size)


def _constant(op: str, size: Any, value: Any, dtype: DType | None, device: Device, requires_grad: bool) -> Tensor:
    there = place(device)
    dtype = host.check_supported(op, dtype or get_default_dtype())
    return with_grad(_full(size_of(op, size), dtype, value), requires_grad, there)


def _zeros(
    *args: Any, size: Any = (), dtype: DType | None = None, device: Device = None, requires_grad: bool = False
) -> Tensor:
    return _constant("zeros", args or size, 0, dtype, device, requires_grad)


@function(
    free="flambeau",
    samples=calls(lambda: [call(2, 3), call((2, 3), dtype=int64), call(), call(-1, error=(RuntimeError, "negative"))]),
    variadic=True,
    otherwise=_zeros,
)
def zeros(size: Sizes = (), *, dtype: Static = None, device: Static = None, requires_grad: Default = False):
    """A tensor of zeros: `zeros(2, 3)` or `zeros((2, 3))`. Dtype: the default one."""
    return _filled("zeros", size, 0, dtype or get_default_dtype())


def _ones(
    *args: Any, size: Any = (), dtype: DType | None = None, device: Device = None, requires_grad: bool = False
) -> Tensor:
    return _constant("ones", args or size, 1, dtype, device, requires_grad)


@function(
    free="flambeau",
    samples=calls(lambda: [call(2, 3), call((2, 3), dtype=bool_), call(), call(-1, error=(RuntimeError, "negative"))]),
    variadic=True,
    otherwise=_ones,
)
def ones(size: Sizes = (), *, dtype: Static = None, device: Static = None, requires_grad: Default = False):
    """A tensor of ones: `ones(2, 3)` or `ones((2, 3))`. Dtype: the default one."""
    return _filled("ones", size, 1, dtype or get_default_dtype())


def _filled(op: str, size: Any, value: Any, dtype: DType) -> Any:
    """What `_constant` records, inside a rule."""
    return _full.rule(size_of(op, size), host.check_supported(op, dtype), value)


def _full_with(
    size: Any, fill_value: Any, *, dtype: DType | None = None, device: Device = None, requires_grad: bool = False
) -> Tensor:
    if isinstance(fill_value, Tensor):
        fill_value = fill_value.item()
    return _constant("full", (size,), fill_value, dtype or number_dtype(fill_value), device, requires_grad)


@function(
    free="flambeau",
    samples=calls(
        lambda: [
            call((2, 3), 2.5),
            call((2,), True),
            call((3,), 7, dtype=float64),
            call((-1,), 0, error=(RuntimeError, "negative")),
        ]
    ),
    otherwise=_full_with,
)
def full(
    size: Sizes,
    fill_value: Number,
    *,
    dtype: Static = None,
    device: Static = None,
    requires_grad: Default = False,
):
    """A tensor of shape `size` filled with a number. Dtype: that of the number."""
    if dtype is None:
        dtype = result_dtype([fill_value]) if hasattr(fill_value, "aval") else number_dtype(fill_value)
        if dtype is uint64:
            raise RuntimeError("[full] fill_value is beyond int64. Pass dtype=uint64, or a floating-point one.")
    return _filled("full", (size,), fill_value, dtype)


@declared(
    free="flambeau",
    samples=calls(lambda: [call(0, 3), call((2, 0), dtype=int64), call(-1, error=(RuntimeError, "negative"))]),
)
def empty(
    *size: Any,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """A tensor whose elements are not set; `memory_format` says how they are to lie."""
    if memory_format is not None:
        return laid_alike("empty", empty(*size, dtype=dtype, device=device), memory_format, requires_grad)
    if place(device) != CPU:  # what is never read is never made
        return zeros(*size, dtype=dtype, device=device, requires_grad=requires_grad)
    dtype = host.check_supported("empty", dtype or get_default_dtype())
    shape = size_of("empty", size)
    buffer, array = host.empty_array(shape, dtype)
    if dtype is bool_:
        array[...] = False
    return with_grad(recorder.tensor_from_buffer(buffer, shape, dtype, unset=True), requires_grad)


@declared(
    free="flambeau",
    samples=calls(lambda: [call(data(2, 3)), call(data()), call(data(0, 3), dtype=float64)]),
    recalled="operand",
)
def zeros_like(
    input: Tensor,
    *,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """Zeros in the shape and dtype of `input`, on its device."""
    return alike(
        "zeros_like",
        zeros,
        input,
        input.shape,
        dtype=dtype,
        device=device,
        requires_grad=requires_grad,
        memory_format=memory_format,
    )


@declared(
    free="flambeau",
    samples=calls(lambda: [call(data(2, 3)), call(data()), call(data(0, 3), dtype=float64)]),
    recalled="operand",
)
def ones_like(
    input: Tensor,
    *,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """Ones in the shape and dtype of `input`, on its device."""
    return alike(
        "ones_like",
        ones,
        input,
        input.shape,
        dtype=dtype,
        device=device,
        requires_grad=requires_grad,
        memory_format=memory_format,
    )


@declared(
    free="flambeau",
    samples=calls(lambda: [call(data(2, 3), 1), call(data(), 1), call(data(0, 3), 1, dtype=float64)]),
    recalled="operand",
)
def full_like(
    input: Tensor,
    fill_value: Any,
    *,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """`fill_value` in the shape and dtype of `input`, on its device."""
    return alike(
        "full_like",
        full,
        input,
        input.shape,
        fill_value,
        dtype=dtype,
        device=device,
        requires_grad=requires_grad,
        memory_format=memory_format,
    )


@declared(free="flambeau", samples=calls(lambda: [call(data(0, 3), gradient=False)]))
def empty_like(
    input: Tensor,
    *,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """An unset tensor in the shape and dtype of `input`, on its device."""
    return alike(
        "empty_like",
        empty,
        input,
        input.shape,
        dtype=dtype,
        device=device,
        requires_grad=requires_grad,
        memory_format=memory_format,
    )


# ---- order of elements ------------------------------------------------------------------------------------


@declared(
    free="flambeau",
    samples=calls(
        lambda: [call((0, 2, 3), (2, 0, 1)), call((2, 3), (0, 0), error=(RuntimeError, "Name each dimension once"))]
    ),
)
def empty_permuted(
    size: Any, physical_layout: Any, *, dtype: DType | None = None, device: Device = None, requires_grad: bool = False
) -> Tensor:
    """A tensor whose elements are not set, and lie in the order of dimensions `physical_layout`, the outermost first.

    Raises RuntimeError for what is no order of the dimensions.
    """
    shape, order = size_of("empty_permuted", (tuple(size),)), tuple(n.__index__() for n in physical_layout)
    if sorted(order) != list(range(len(shape))):
        raise RuntimeError(
            f"[empty_permuted] {order} is no order of {len(shape)} dimensions. Name each dimension once."
        )
    made = permute(
        empty([shape[d] for d in order], dtype=dtype, device=device), tuple(order.index(d) for d in range(len(shape)))
    )
    return with_grad(made, requires_grad)


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call((0, 3), (3, 1)),
            call((2, 0), (5, 1)),
            call((2, 3), (5,), error=(RuntimeError, "differ in length")),
        ]
    ),
)
def empty_strided(
    size: Any, stride: Any, *, dtype: DType | None = None, device: Device = None, requires_grad: bool = False
) -> Tensor:
    """A tensor whose elements are not set, and lie so many elements apart along each dimension.

    Raises RuntimeError for other than one stride for each dimension, and for negative ones.
    """
    shape, steps = size_of("empty_strided", (tuple(size),)), tuple(n.__index__() for n in stride)
    if len(shape) != len(steps):
        raise RuntimeError(
            f"[empty_strided] size {shape} and stride {steps} differ in length. Give one for each dimension."
        )
    order = sorted(range(len(shape)), key=lambda d: (-steps[d], d))
    wanted = 1
    for d in reversed(order):
        if 0 not in shape and shape[d] != 1 and steps[d] != wanted:
            span = 1 + sum((n - 1) * s for n, s in zip(shape, steps))
            whole = empty(max(span, 0), dtype=dtype, device=device)  # there are gaps, or elements that share memory
            return with_grad(whole.as_strided(shape, steps), requires_grad)
        wanted *= shape[d]
    return empty_permuted(shape, order, dtype=dtype, device=device, requires_grad=requires_grad)


def _new_empty_strided(
    self: Tensor,
    size: Any,
    stride: Any,
    *,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """`empty_strided` in the dtype of this tensor, on its device."""
    there = self.device if device is None else device
    return empty_strided(size, stride, dtype=dtype or self.dtype, device=there, requires_grad=requires_grad)


declare(
    _new_empty_strided,
    "new_empty_strided",
    method=True,
    samples=calls(lambda: [call(data(2), (0, 3), (3, 1), gradient=False)]),
)


# ---- ones among zeros --------------------------------------------------------------------------------------


@function(name="eye")
def _eye(n: Sizes, m: Sizes, dtype: Static):
    row, column = (ops.iota(shape=(n, m), dim=d, dtype=int64, builder=builder()) for d in (0, 1))
    return row.eq(column).cast(dtype)


@declared(free="flambeau", samples=calls(lambda: [call(3), call(2, 4, dtype=int64), call(0)]))
def eye(
    n: int, m: int | None = None, *, dtype: DType | None = None, device: Device = None, requires_grad: bool = False
) -> Tensor:
    """An [n, m] matrix with ones on the diagonal; `m` is n unless given."""
    there = place(device)
    shape = size_of("eye", (n, n if m is None else m))
    return with_grad(_eye(*shape, host.check_supported("eye", dtype or get_default_dtype())), requires_grad, there)


def identity(n: int, like: Tensor) -> Tensor:
    """The [n, n] matrix of the dtype of `like` and where that is."""
    return with_grad(_eye(n, n, like.dtype), False, None if like._place == CPU else like._place)


@declared(
    free="nn.functional",
    samples=calls(
        lambda: [
            call(index(4, 5)),
            call(index(4, 2, 3), 6),
            call(index(4, 5), 2, error=(RuntimeError, "do not fit 2 classes")),
            call(truth(2), error=(RuntimeError, "Convert it with .long()")),
        ]
    ),
)
def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """1 where the last, new dimension equals the element, else 0 (int64). `num_classes` -1 reads the largest element.

    Raises RuntimeError for other dtypes than int64 and for elements outside of 0..num_classes-1.
    """
    if tensor.dtype is not int64:
        raise RuntimeError(f"[one_hot] the tensor has dtype {tensor.dtype}. Convert it with .long().")
    largest = int(tensor.max().item()) if 0 not in tensor.shape else -1
    least = int(tensor.min().item()) if 0 not in tensor.shape else 0
    if num_classes == -1:
        num_classes = largest + 1
    if least < 0 or largest >= num_classes or num_classes < 1:
        raise RuntimeError(f"[one_hot] elements from {least} to {largest} do not fit {num_classes} classes.")
    return _one_hot(tensor, num_classes)


def _clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    if memory_format is None or checked("clone", memory_format) is preserve_format:
        return clone(input)
    return laid_out("clone", input, memory_format)


@function(free="flambeau", method=True, samples=unary(), otherwise=_clone)
def clone(input: Tensor_, *, memory_format: Default = None):
    """A copy with its own storage, through which gradients flow; `memory_format` says how its elements are to lie."""
    return input
