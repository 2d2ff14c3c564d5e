"""Creation of tensors from nothing: zeros, full, arange, eye, ...; clone.

In: sizes and numbers. Out: tensors. Constants are recorded like any op, so they fold into what uses them.
Next: `random.py`.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from flambeau import host
from flambeau.declarations import declared
from flambeau.device import Device, place
from flambeau.dialects.aval import CPU
from flambeau.dialects.dtypes import DType, bool_, float64, int64
from flambeau.dialects.size import Size
from flambeau.function import Default, Number, Operand, Sizes, Static, Tensor_, builder, function
from flambeau.functions.assemble import _one_hot
from flambeau.functions.common import check_between, ops, size_of
from flambeau.functions.from_data import alike, laid_alike, with_grad
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


@declared(free="flambeau", samples=calls(lambda: [call(data(2, 3)), call(data()), call(data(0, 3), dtype=float64)]))
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


@declared(free="flambeau", samples=calls(lambda: [call(data(2, 3)), call(data()), call(data(0, 3), dtype=float64)]))
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
    free="flambeau", samples=calls(lambda: [call(data(2, 3), 1), call(data(), 1), call(data(0, 3), 1, dtype=float64)])
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


# ---- ramps ------------------------------------------------------------------------------------------------


@function(name="arange")
def _ramp(size: Sizes, dtype: Static, start: Operand, step: Operand):
    """start + i * step, in float64 or int64, rounded once to `dtype`."""
    wide = start.dtype if start.dtype is step.dtype else float64
    position = ops.iota(shape=(size,), dim=0, dtype=wide, builder=start.builder)
    first, stride = start.cast(wide).expand((size,)), step.cast(wide).expand((size,))
    return (first + position * stride).cast(dtype)


def _whole(start: Any, end: Any, step: Any) -> bool:
    return all(isinstance(n, int | Size) for n in (start, end, step))


def _steps(start: Any, end: Any, step: Any, inclusive: bool) -> int:
    """How many elements a range has; exact for ints."""
    if step == 0:
        raise RuntimeError("[arange] step is 0. Use a step towards end.")
    if (end - start) * (1 if step > 0 else -1) < 0:
        raise RuntimeError(
            f"[arange] from {start} to {end} with step {step} goes the wrong way. Change the sign of step."
        )
    if _whole(start, end, step):
        return (end - start) // step + 1 if inclusive else -((start - end) // step)
    if not (math.isfinite(start) and math.isfinite(end) and math.isfinite(step)):
        raise RuntimeError(f"[arange] start {start}, end {end} and step {step} must be finite.")
    count = (end - start) / step
    return math.floor(count) + 1 if inclusive else math.ceil(count)


def _arange(
    start: Any,
    end: Any = None,
    step: Any = 1,
    *,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
    inclusive: bool = False,
) -> Tensor:
    there = place(device)
    if end is None:
        start, end = 0, start
    if not (whole := _whole(start, end, step)):
        start, end, step = [v.item() if isinstance(v, (Tensor, np.generic)) else v for v in (start, end, step)]
        whole = _whole(start, end, step)
    dtype = host.check_supported("arange", dtype or (int64 if whole else get_default_dtype()))
    if not whole:
        start, step = float(start), float(step)
    return with_grad(_ramp(_steps(start, end, step, inclusive), dtype, start, step), requires_grad, there)


@function(
    free="flambeau",
    samples=calls(
        lambda: [
            call(5),
            call(1, 9, 3),
            call(0.0, 1.0, 0.25),
            call(5, dtype=float64),
            call(1, 3, inclusive=True),
            call(1, 0, 1, error=(RuntimeError, "the wrong way")),
        ]
    ),
    otherwise=_arange,
)
def arange(
    start: Sizes,
    end: Default = None,
    step: Default = 1,
    *,
    dtype: Static = None,
    device: Static = None,
    requires_grad: Default = False,
    inclusive: Default = False,
):
    """start, start + step, ... up to `end`, which is left out unless `inclusive`; `arange(n)` starts at 0.

    Dtype: int64 if all three are ints, else the default one. Raises RuntimeError for a step of 0 or away from `end`.
    """
    if not isinstance(start, int | float | Size):
        raise TypeError(f"[arange] {start!r} is not a number. Pass an int or a float.")
    whole = isinstance(start, int | Size)
    dtype = host.check_supported("arange", dtype or (int64 if whole else get_default_dtype()))
    first, stride = (builder().constant(n, int64 if whole else float64) for n in (0, 1))
    return _ramp.rule(_steps(0, start, 1, False), dtype, first, stride)


@function(name="linspace")
def _spaced(steps: Sizes, dtype: Static, start: Operand, end: Operand):
    """From both ends to the middle, so that the last element is `end` exactly."""
    wide = float64
    first, last = start.cast(wide).expand((steps,)), end.cast(wide).expand((steps,))
    if steps == 1:
        return first.cast(dtype)
    position = ops.iota(shape=(steps,), dim=0, dtype=wide, builder=start.builder)
    stride = (last - first) / (steps - 1)
    from_end = (position.like(steps - 1) - position) * stride
    return ops.select(position * 2.0 < steps, first + position * stride, last - from_end).cast(dtype)


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call(0, 1, 5),
            call(-2.0, 2.0, 8, dtype=float64),
            call(3, 4, 1),
            call(0, 1, 0),
            call(0, 1, -1, error=(RuntimeError, "Use at least 0")),
        ]
    ),
)
def linspace(
    start: Any, end: Any, steps: int, *, dtype: DType | None = None, device: Device = None, requires_grad: bool = False
) -> Tensor:
    """`steps` numbers from `start` to `end`, both included, evenly spaced; one step gives `start`.

    Raises RuntimeError for negative steps.
    """
    there = place(device)
    if steps < 0:
        raise RuntimeError(f"[linspace] steps is {steps}. Use at least 0.")
    dtype = host.check_supported("linspace", dtype or get_default_dtype())
    return with_grad(_spaced(steps, dtype, float(start), float(end)), requires_grad, there)


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
