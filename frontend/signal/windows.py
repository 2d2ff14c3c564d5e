"""`flambeau.signal.windows`: as `torch.signal.windows`.

In: how many samples, and numbers that say which window. Out: vectors, computed in float64 on the host and rounded once. Next:
`functions/signal_windows.py`, the older functions that go by periods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from flambeau import border as _border
from flambeau import host
from flambeau import missing as _missing
from flambeau.declarations import declared
from flambeau.declarations import names as _names
from flambeau.device import Device, place
from flambeau.dialects.dtypes import DType, float32, float64
from flambeau.functions.from_data import with_grad
from flambeau.out import strided
from flambeau.promotion import get_default_dtype
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls

_Formula = Callable[[np.ndarray, int], np.ndarray]


def _made(
    name: str,
    M: int,
    formula: _Formula,
    sym: bool,
    dtype: DType | None,
    layout: Any,
    device: Device,
    requires_grad: bool,
) -> Tensor:
    """`formula(n, last)` at n = 0, ..., M - 1, where last is the last place of a symmetric window, one more of a periodic one."""
    if M < 0:
        raise ValueError(f"[{name}] M is {M}. Give at least 0.")
    dtype = dtype or get_default_dtype()
    if dtype not in (float32, float64):
        raise ValueError(f"[{name}] dtype is {dtype!r}. Use float32 or float64.")
    if layout not in (None, strided):
        raise ValueError(f"[{name}] layout is {layout!r}. Use flambeau.strided.")
    last = M - 1 if sym else M
    window = formula(np.arange(M, dtype=np.float64), last) if M > 1 else np.ones(M)
    return with_grad(host.copied(window, dtype, there=place(device)), requires_grad)


def _sum_of_cosines(weights: Iterable[float]) -> _Formula:
    """weights[0] - weights[1] cos(2 pi n / last) + weights[2] cos(4 pi n / last) - ..."""

    def formula(n: np.ndarray, last: int) -> np.ndarray:
        terms = [(-1) ** k * w * np.cos(2 * np.pi * k * n / last) for k, w in enumerate(weights)]
        return np.sum(terms, axis=0)

    return formula


def _samples(*more: Any, **options: Any) -> Any:
    return calls(
        lambda: [
            call(7, *more, **options),
            call(8, *more, sym=False, **options),
            *(call(n, *more, **options) for n in (0, 1, 2)),
            call(-1, *more, error=(ValueError, "Give at least 0"), **options),
        ]
    )


def _positive(name: str, what: str, value: float) -> None:
    if value <= 0:
        raise ValueError(f"[{name}] {what} is {value}. Give a number above 0.")


@declared(free="signal.windows", samples=_samples())
def bartlett(
    M: int,
    *,
    sym: bool = True,
    dtype: DType | None = None,
    layout: Any = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """A triangle from 0 to 1 and back to 0.

    Raises ValueError for a negative `M`, other layouts and dtypes of integers.
    """
    return _made("bartlett", M, lambda n, last: 1 - np.abs(2 * n / last - 1), sym, dtype, layout, device, requires_grad)


@declared(free="signal.windows", samples=_samples())
def blackman(
    M: int,
    *,
    sym: bool = True,
    dtype: DType | None = None,
    layout: Any = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """0.42 - 0.5 cos(2 pi n / last) + 0.08 cos(4 pi n / last).

    Raises ValueError for a negative `M`, other layouts and dtypes of integers.
    """
    return _made("blackman", M, _sum_of_cosines((0.42, 0.5, 0.08)), sym, dtype, layout, device, requires_grad)


@declared(free="signal.windows", samples=_samples())
def cosine(
    M: int,
    *,
    sym: bool = True,
    dtype: DType | None = None,
    layout: Any = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """Half a period of the sine, without the zeros at its ends.

    Raises ValueError for a negative `M`, other layouts and dtypes of integers.
    """
    return _made(
        "cosine", M, lambda n, last: np.sin(np.pi * (n + 0.5) / (last + 1)), sym, dtype, layout, device, requires_grad
    )


@declared(free="signal.windows", samples=_samples())
def exponential(
    M: int,
    *,
    center: float | None = None,
    tau: float = 1.0,
    sym: bool = True,
    dtype: DType | None = None,
    layout: Any = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """exp(-|n - center| / tau), around the middle unless a window that is not `sym` has a `center`.

    Raises ValueError for a negative `M`, other layouts, dtypes of integers, a `tau` that is not positive, a `center` beside `sym`.
    """
    _positive("exponential", "tau", tau)
    if sym and center is not None:
        raise ValueError(f"[exponential] center is {center}, and the window is symmetric. Leave out one of them.")

    def formula(n: np.ndarray, last: int) -> np.ndarray:
        return np.exp(-np.abs(n - (last / 2 if center is None else center)) / tau)

    return _made("exponential", M, formula, sym, dtype, layout, device, requires_grad)


@declared(free="signal.windows", samples=_samples())
def gaussian(
    M: int,
    *,
    std: float = 1.0,
    sym: bool = True,
    dtype: DType | None = None,
    layout: Any = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """exp(-((n - middle) / std)**2 / 2).

    Raises ValueError for a negative `M`, other layouts, dtypes of integers, a `std` that is not positive.
    """
    _positive("gaussian", "std", std)
    return _made(
        "gaussian",
        M,
        lambda n, last: np.exp(-(((n - last / 2) / std) ** 2) / 2),
        sym,
        dtype,
        layout,
        device,
        requires_grad,
    )


@declared(free="signal.windows", samples=_samples(a=(0.5, 0.3, 0.2)))
def general_cosine(
    M: int,
    *,
    a: Iterable[float],
    sym: bool = True,
    dtype: DType | None = None,
    layout: Any = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """a[0] - a[1] cos(2 pi n / last) + a[2] cos(4 pi n / last) - ...

    Raises ValueError for a negative `M`, other layouts, dtypes of integers, no weights.
    """
    weights = tuple(a)
    if not weights:
        raise ValueError("[general_cosine] a is empty. Give at least one weight.")
    return _made("general_cosine", M, _sum_of_cosines(weights), sym, dtype, layout, device, requires_grad)


@declared(free="signal.windows", samples=_samples())
def general_hamming(
    M: int,
    *,
    alpha: float = 0.54,
    sym: bool = True,
    dtype: DType | None = None,
    layout: Any = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """alpha - (1 - alpha) cos(2 pi n / last).

    Raises ValueError for a negative `M`, other layouts and dtypes of integers.
    """
    return _made("general_hamming", M, _sum_of_cosines((alpha, 1 - alpha)), sym, dtype, layout, device, requires_grad)


@declared(free="signal.windows", samples=_samples())
def hamming(
    M: int,
    *,
    sym: bool = True,
    dtype: DType | None = None,
    layout: Any = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """0.54 - 0.46 cos(2 pi n / last).

    Raises ValueError for a negative `M`, other layouts and dtypes of integers.
    """
    return _made("hamming", M, _sum_of_cosines((0.54, 0.46)), sym, dtype, layout, device, requires_grad)


@declared(free="signal.windows", samples=_samples())
def hann(
    M: int,
    *,
    sym: bool = True,
    dtype: DType | None = None,
    layout: Any = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """0.5 - 0.5 cos(2 pi n / last).

    Raises ValueError for a negative `M`, other layouts and dtypes of integers.
    """
    return _made("hann", M, _sum_of_cosines((0.5, 0.5)), sym, dtype, layout, device, requires_grad)


@declared(free="signal.windows", samples=_samples())
def kaiser(
    M: int,
    *,
    beta: float = 12.0,
    sym: bool = True,
    dtype: DType | None = None,
    layout: Any = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """I0(beta sqrt(1 - (2 n / last - 1)**2)) / I0(beta), with the modified Bessel function of order 0.

    Raises ValueError for a negative `M`, other layouts, dtypes of integers, a negative `beta`.
    """
    if beta < 0:
        raise ValueError(f"[kaiser] beta is {beta}. Give at least 0.")

    def formula(n: np.ndarray, last: int) -> np.ndarray:
        return np.i0(beta * np.sqrt(np.maximum(1 - (2 * n / last - 1) ** 2, 0))) / np.i0(beta)

    return _made("kaiser", M, formula, sym, dtype, layout, device, requires_grad)


@declared(free="signal.windows", samples=_samples())
def nuttall(
    M: int,
    *,
    sym: bool = True,
    dtype: DType | None = None,
    layout: Any = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """Four cosines, weighted so that side lobes are least.

    Raises ValueError for a negative `M`, other layouts and dtypes of integers.
    """
    return _made(
        "nuttall",
        M,
        _sum_of_cosines((0.3635819, 0.4891775, 0.1365995, 0.0106411)),
        sym,
        dtype,
        layout,
        device,
        requires_grad,
    )


__all__ = sorted(_names("signal.windows"))

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.signal.windows")
