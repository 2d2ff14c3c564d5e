"""Windows of signals: bartlett, blackman, hamming, hann, kaiser.

In: lengths and numbers. Out: vectors, computed in float64 and rounded once. Next: `random.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from flambeau.declarations import declared
from flambeau.device import Device, place
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import DType, float64
from flambeau.function import Sizes, Static, builder, function
from flambeau.functions.common import ops, size_of
from flambeau.functions.from_data import floating_dtype, with_grad
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls


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
_WINDOWS = {kind: function(name=f"{kind}_window")(_windowed) for kind in _KINDS}


def _window(
    kind: str, length: int, periodic: bool, dtype: DType | None, device: Device, grad: bool, *numbers: float
) -> Tensor:
    name = f"{kind}_window"
    there = place(device)
    if length < 0:
        raise RuntimeError(f"[{name}] the length is {length}. Use at least 0.")
    dtype = floating_dtype(name, dtype)
    made = _WINDOWS[kind](kind, size_of(name, (length,))[0], bool(periodic), dtype, tuple(map(float, numbers)))
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
