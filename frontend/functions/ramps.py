"""Evenly spaced numbers: arange, range, linspace, logspace.

In: ends, and a step or how many there are. Out: vectors, computed in float64 or int64 and rounded once. Next: `signal_windows.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flambeau import host
from flambeau.declarations import declare, declared
from flambeau.device import Device, place
from flambeau.dialects.dtypes import DType, float64, int64
from flambeau.dialects.size import Size
from flambeau.function import Default, Operand, Sizes, Static, Tensor_, builder, function
from flambeau.functions.common import ops
from flambeau.functions.from_data import with_grad
from flambeau.promotion import get_default_dtype
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls

# ---- by a step --------------------------------------------------------------------------------------------


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
    start, end, step = (int(n) if isinstance(n, bool) else n for n in (start, end, step))
    if not (whole := _whole(start, end, step)):
        start, end, step = [v.item() if isinstance(v, (Tensor, np.generic)) else v for v in (start, end, step)]
        whole = _whole(start, end, step)
    dtype = host.check_supported("arange", dtype or (int64 if whole else get_default_dtype()))
    if whole:
        count = _steps(start, end, step, inclusive)
    else:
        count, start, step = _real_ramp(start, end, step, dtype, inclusive)
    return with_grad(_ramp(count, dtype, start, step), requires_grad, there)


def _real_ramp(start: float, end: float, step: float, dtype: DType, inclusive: bool) -> tuple[int, Any, Any]:
    """How many elements, the first one and the step. Integer dtypes cut both first, and int64 the end, too, as PyTorch does."""
    if not dtype.is_integer:
        return _steps(start, end, step, inclusive), float(start), float(step)
    if dtype is int64 and abs(step) >= 1:
        start, end, step = int(start), int(end), int(step)
    elif dtype is int64:
        raise ValueError(f"[arange] step {step} is 0 as {dtype}. Use a floating-point dtype.")
    return _steps(start, end, step, inclusive), int(start), int(step)


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


def _range(
    start: float,
    end: float,
    step: float = 1,
    *,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """start, start + step, ... up to `end`, which is included, of the default dtype. Raises RuntimeError for a step of 0 or away
    from `end`."""
    there = place(device)
    if step == 0 or (end - start) * step < 0:
        raise RuntimeError(f"[range] from {start} to {end} with step {step} goes the wrong way. Change the step.")
    dtype = host.check_supported("range", dtype or get_default_dtype())
    count = math.floor((end - start) / step) + 1
    return with_grad(_ramp(count, dtype, float(start), float(step)), requires_grad, there)


declare(
    _range,
    "range",
    free="flambeau",
    samples=calls(lambda: [call(1, 4), call(0, 1, 0.25), call(1, 0, error=(RuntimeError, "goes the wrong way"))]),
)

# ---- by how many there are --------------------------------------------------------------------------------


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
            call(0, 1 + 2j, 5),
            call(0, 1j, 5, dtype=float64, error=(RuntimeError, "Use a complex dtype")),
            call(0, 1, -1, error=(RuntimeError, "Use at least 0")),
        ]
    ),
)
def linspace(
    start: Any, end: Any, steps: int, *, dtype: DType | None = None, device: Device = None, requires_grad: bool = False
) -> Tensor:
    """`steps` numbers from `start` to `end`, both included, evenly spaced; one step gives `start`.

    Raises RuntimeError for negative steps, and for complex ends of another dtype.
    """
    there = place(device)
    if isinstance(steps, bool) or not isinstance(steps, int | Size):
        raise TypeError(f"[linspace] steps is {steps!r}. Pass an int.")
    if steps < 0:
        raise RuntimeError(f"[linspace] steps is {steps}. Use at least 0.")
    return with_grad(_line("linspace", steps, dtype, start, end), requires_grad, there)


def _line(op: str, steps: int, dtype: DType | None, start: Any, end: Any) -> Tensor:
    """What `linspace` gives; of complex numbers each part is evenly spaced."""
    ends = [x.item() if isinstance(x, Tensor) else x for x in (start, end)]
    default = get_default_dtype()
    if not any(isinstance(x, complex) for x in ends):
        return _spaced(steps, host.check_supported(op, dtype or default), *(float(x) for x in ends))
    dtype = host.check_supported(op, dtype or default.to_complex())
    if not dtype.is_complex:
        raise RuntimeError(f"[{op}] a complex end is no value of {dtype.name}. Use a complex dtype.")
    real, imag = (
        _spaced(steps, dtype.to_real(), *parts) for parts in zip(*((x.real, x.imag) for x in map(complex, ends)))
    )
    return _complex(real, imag)


@function(name="linspace")
def _complex(real: Tensor_, imag: Tensor_):
    return ops.complex(real, imag)


@function(name="logspace")
def _powers_of(steps: Sizes, dtype: Static, start: Operand, end: Operand, base: Operand):
    exponents = _spaced.rule(steps, float64, start, end)
    return ops.pow(base.cast(float64).expand(exponents.shape), exponents).cast(dtype)


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call(0, 2, 5),
            call(-1.0, 1.0, 3, 2.0, dtype=float64),
            call(1, 2, 0),
            call(0, 1, -1, error=(RuntimeError, "Use at least 0")),
        ]
    ),
)
def logspace(
    start: Any,
    end: Any,
    steps: int,
    base: float = 10.0,
    *,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """`base` to the power of `steps` evenly spaced numbers from `start` to `end`, both included. Raises RuntimeError for negative
    steps and for tensors of more than one element."""
    there = place(device)
    if isinstance(steps, bool) or not isinstance(steps, int | Size):
        raise TypeError(f"[logspace] steps is {steps!r}. Pass an int.")
    if steps < 0:
        raise RuntimeError(f"[logspace] steps is {steps}. Use at least 0.")
    dtype = host.check_supported("logspace", dtype or get_default_dtype())
    first, last = (float(x.item() if isinstance(x, Tensor) else x) for x in (start, end))
    return with_grad(_powers_of(steps, dtype, first, last, float(base)), requires_grad, there)
