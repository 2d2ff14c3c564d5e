"""Windows of signals: bartlett, blackman, hamming, hann, kaiser; and logspace, range, empty_permuted, empty_strided.

In: sizes and numbers. Out: new tensors, computed in float64 and rounded once. Next: `random.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from flambeau import host
from flambeau.declarations import declare, declared
from flambeau.device import Device, place
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import DType, float64
from flambeau.function import Operand, Sizes, Static, builder, function
from flambeau.functions.common import ops, size_of
from flambeau.functions.create import _ramp, _spaced, empty
from flambeau.functions.from_data import with_grad
from flambeau.functions.shape import permute
from flambeau.promotion import get_default_dtype
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data

# ---- windows ----------------------------------------------------------------------------------------------


def _cosines(*weights: float) -> Callable[[Value, Any], Value]:
    """weights[0] - weights[1] cos(2 pi i / n) + weights[2] cos(4 pi i / n) - ..."""

    def formula(place: Value, last: Any) -> Value:
        total = place.like(weights[0])
        for k, weight in enumerate(weights[1:], 1):
            term = ops.cos(place * (2.0 * math.pi * k) / last) * weight
            total = total - term if k % 2 else total + term
        return total

    return formula


def _triangle(place: Value, last: Any) -> Value:
    return 1.0 - ops.abs(place * 2.0 / last - 1.0)


def _bessel(x: Value, beta: float) -> Value:
    """The modified Bessel function of order 0 of 0 <= x <= beta, by its series, whose terms are all positive."""
    terms, size = 1, 1.0
    while size > 1e-20 or terms < beta:
        size *= (beta / 2) ** 2 / terms**2
        terms += 1
    square = x * x * 0.25
    total = x.like(1.0)
    for k in range(terms, 0, -1):
        total = total * square / float(k * k) + 1.0
    return total


def _kaiser(beta: float) -> Callable[[Value, Any], Value]:
    def formula(place: Value, last: Any) -> Value:
        side = place * 2.0 / last - 1.0
        root = ops.sqrt(ops.maximum(1.0 - side * side, side.like(0.0)))
        return _bessel(root * beta, beta) / _bessel(place.like(beta), beta)

    return formula


@function(name="hann_window")
def _windowed(kind: Static, size: Sizes, periodic: Static, dtype: Static, numbers: Static):
    if size == 0 or size == 1:
        return builder().constant(1.0, dtype, (size,))
    at = ops.iota(shape=(size,), dim=0, dtype=float64, builder=builder())
    return _KINDS[kind](*numbers)(at, at.like(1.0) * (size if periodic else size - 1)).cast(dtype)


_KINDS: dict[str, Callable[..., Callable[[Value, Any], Value]]] = {
    "bartlett": lambda: _triangle,
    "blackman": lambda: _cosines(0.42, 0.5, 0.08),
    "hamming": lambda alpha, beta: _cosines(alpha, beta),
    "hann": lambda: _cosines(0.5, 0.5),
    "kaiser": _kaiser,
}


def _window(
    kind: str, length: int, periodic: bool, dtype: DType | None, device: Device, grad: bool, *numbers: float
) -> Tensor:
    name = f"{kind}_window"
    there = place(device)
    if length < 0:
        raise RuntimeError(f"[{name}] the length is {length}. Use at least 0.")
    dtype = host.check_supported(name, dtype or get_default_dtype())
    if not dtype.is_floating_point:
        raise RuntimeError(f"[{name}] dtype {dtype} is not floating point. Use one such as float32.")
    made = _windowed(kind, size_of(name, (length,))[0], bool(periodic), dtype, tuple(map(float, numbers)))
    return with_grad(made, grad, there)


_LENGTHS = calls(
    lambda: [call(6), call(5, False, dtype=float64), call(1), call(0), call(-1, error=(RuntimeError, "0"))]
)


@declared(free="flambeau", samples=_LENGTHS)
def bartlett_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """A triangle from 0 to 1 to 0; `periodic`: without its last 0, to be repeated."""
    return _window("bartlett", window_length, periodic, dtype, device, requires_grad)


@declared(free="flambeau", samples=_LENGTHS)
def blackman_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """Blackman's window, 0.42 - 0.5 cos(2 pi i / n) + 0.08 cos(4 pi i / n); `periodic`: without its last, to be repeated."""
    return _window("blackman", window_length, periodic, dtype, device, requires_grad)


@declared(free="flambeau", samples=_LENGTHS)
def hamming_window(
    window_length: int,
    periodic: bool = True,
    alpha: float = 0.54,
    beta: float = 0.46,
    *,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """Hamming's window, alpha - beta cos(2 pi i / n); `periodic`: without its last, to be repeated."""
    return _window("hamming", window_length, periodic, dtype, device, requires_grad, alpha, beta)


@declared(free="flambeau", samples=_LENGTHS)
def hann_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """Hann's window, 0.5 - 0.5 cos(2 pi i / n); `periodic`: without its last 0, to be repeated."""
    return _window("hann", window_length, periodic, dtype, device, requires_grad)


@declared(free="flambeau", samples=_LENGTHS)
def kaiser_window(
    window_length: int,
    periodic: bool = True,
    beta: float = 12.0,
    *,
    dtype: DType | None = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """Kaiser's window, I0(beta sqrt(1 - (2 i / n - 1)^2)) / I0(beta); `periodic`: without its last, to be repeated."""
    return _window("kaiser", window_length, periodic, dtype, device, requires_grad, beta)


# ---- ramps ------------------------------------------------------------------------------------------------


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
    steps."""
    there = place(device)
    if steps < 0:
        raise RuntimeError(f"[logspace] steps is {steps}. Use at least 0.")
    dtype = host.check_supported("logspace", dtype or get_default_dtype())
    return with_grad(_powers_of(steps, dtype, float(start), float(end), float(base)), requires_grad, there)


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
    samples=calls(lambda: [call((0, 3), (3, 1)), call((2, 3), (5, 1), error=(NotImplementedError, "no gaps"))]),
)
def empty_strided(
    size: Any, stride: Any, *, dtype: DType | None = None, device: Device = None, requires_grad: bool = False
) -> Tensor:
    """A tensor whose elements are not set, and lie so many elements apart along each dimension.

    Raises RuntimeError for other than one stride for each dimension, NotImplementedError for strides with gaps or overlaps.
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
            raise NotImplementedError(
                f"[empty_strided] strides {steps} of size {shape} have gaps. Use ones that have no gaps."
            )
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
