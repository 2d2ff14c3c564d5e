"""Fourier transforms of lines, as sums without a factor: of complex numbers, from real ones, and to real ones.

In: float32 or float64; complex numbers are a last axis of 2, as in memory (`view_as_real`). Lines are the last axis but that.
Out: the same. What a line lacks of the length `n` are zeros, what it has beyond is left out. NumPy's pocketfft computes them,
called from the plan. Gradients are transforms themselves. Next: `contraction.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import float32, float64, int64
from flambeau.dialects.record import Kind, OpRecord, Sample
from flambeau.dialects.size import same
from flambeau.dialects.tape.common import check_dtype, ops, quiet, random

REAL = (float32, float64)


def _check(op: str, x: Aval, n: Any, is_complex: bool) -> None:
    check_dtype(op, x, REAL)
    if is_complex and (x.rank < 2 or x.shape[-1] != 2):
        raise RuntimeError(f"[{op}] the operand has shape {x.shape}. Pass numbers in the last axis, of size 2.")
    if not is_complex and x.rank < 1:
        raise RuntimeError(f"[{op}] the operand is 0-d. Pass lines.")
    if isinstance(n, int) and n < 1:
        raise RuntimeError(f"[{op}] the length is {n}. Pass one of at least 1.")


def _complex(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x).view(np.result_type(x.dtype, np.complex64))[..., 0]


def _pairs(z: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.stack([z.real, z.imag], -1).astype(dtype)


def _resized(x: Any, axis: int, size: Any) -> Any:
    """Cut, or filled up with zeros."""
    shape, here = list(x.shape), x.shape[axis]
    if same(here, size):
        return x
    if size <= here:
        shape[axis] = size
        return ops.slice(x, starts=(0,) * len(shape), sizes=tuple(shape), steps=(1,) * len(shape))
    high = [0] * len(shape)
    high[axis] = size - here
    return ops.pad(x, x.builder.constant(0.0, x.dtype), low=(0,) * len(shape), high=tuple(high), value=0.0)


def _weighted(x: Any, n: Any, middle: float) -> Any:
    """Half a spectrum, [..., n//2 + 1, 2], in which what stands for two numbers is weighted."""
    at = ops.iota(shape=tuple(x.shape), dim=len(x.shape) - 2, dtype=int64, builder=x.builder)
    edge = ops.or_(at.eq(0), (at * 2).eq(n))
    return ops.select(edge, x, x * middle)


def _lines(real: bool, attrs: Callable[[int], list[dict[str, Any]]]) -> Callable[[], list[Sample]]:
    def samples() -> list[Sample]:
        shapes = [(1,), (2,), (5,), (8,), (2, 3, 7), (30,), (3, 16), (0, 4), (2, 0, 3)]
        good = [
            Sample((random(s if real else (*s, 2)),), how, gradient=0 not in s) for s in shapes for how in attrs(s[-1])
        ]
        wrong = np.zeros(()) if real else np.zeros((4, 3))
        return [*good, Sample((wrong,), attrs(4)[0], error=(RuntimeError, "Pass lines" if real else "of size 2"))]

    return samples


# ---- complex numbers --------------------------------------------------------------------------------------------


def _infer_complex(x: Aval, n: Any, inverse: bool) -> Aval:
    _check("fourier_complex", x, n, True)
    return x._replace(shape=(*x.shape[:-2], n, 2))


@quiet
def _reference_complex(x: np.ndarray, n: int, inverse: bool) -> np.ndarray:
    z = _complex(x)
    return _pairs(np.fft.ifft(z, n, norm="forward") if inverse else np.fft.fft(z, n), x.dtype)


fourier_complex = OpRecord(
    name="fourier_complex",
    kind=Kind.FOURIER,
    attrs=("n", "inverse"),
    infer=_infer_complex,
    reference=_reference_complex,
    vjp=lambda ct, r, x, n, inverse: (_resized(ops.fourier_complex(ct, n=n, inverse=not inverse), -2, x.shape[-2]),),
    lower=None,
    dtypes=REAL,
    exact=False,
    keep=True,
    samples=_lines(
        False,
        lambda k: [{"n": k, "inverse": False}, {"n": k + 1, "inverse": True}, {"n": (k + 1) // 2, "inverse": False}],
    ),
    doc="The sums of x[j] e^(-2 pi i j k / n) for k = 0 ... n - 1, with `inverse` of x[j] e^(2 pi i j k / n).",
)

# ---- real numbers -----------------------------------------------------------------------------------------------


def _infer_real(x: Aval, n: Any) -> Aval:
    _check("fourier_real", x, n, False)
    return x._replace(shape=(*x.shape[:-1], n // 2 + 1, 2))


def _vjp_real(ct: Any, r: Any, x: Any, n: Any) -> tuple[Any]:
    return (_resized(ops.fourier_to_real(_weighted(ct, n, 0.5), n=n), -1, x.shape[-1]),)


fourier_real = OpRecord(
    name="fourier_real",
    kind=Kind.FOURIER,
    attrs=("n",),
    infer=_infer_real,
    reference=quiet(lambda x, n: _pairs(np.fft.rfft(x, n), x.dtype)),
    vjp=_vjp_real,
    lower=None,
    dtypes=REAL,
    exact=False,
    keep=True,
    samples=_lines(True, lambda k: [{"n": k}, {"n": k + 1}, {"n": (k + 1) // 2}]),
    doc="The first n//2 + 1 sums of real x[j] e^(-2 pi i j k / n): the others are their conjugates.",
)


def _infer_to_real(x: Aval, n: Any) -> Aval:
    _check("fourier_to_real", x, n, True)
    return x._replace(shape=(*x.shape[:-2], n))


def _vjp_to_real(ct: Any, r: Any, x: Any, n: Any) -> tuple[Any]:
    return (_resized(_weighted(ops.fourier_real(ct, n=n), n, 2.0), -2, x.shape[-2]),)


fourier_to_real = OpRecord(
    name="fourier_to_real",
    kind=Kind.FOURIER,
    attrs=("n",),
    infer=_infer_to_real,
    reference=quiet(lambda x, n: np.fft.irfft(_complex(x), n, norm="forward").astype(x.dtype)),
    vjp=_vjp_to_real,
    lower=None,
    dtypes=REAL,
    exact=False,
    keep=True,
    samples=_lines(False, lambda k: [{"n": 2 * k}, {"n": max(1, 2 * k - 1)}, {"n": k}]),
    doc="The n real sums of a spectrum of which the first n//2 + 1 numbers are given; the imaginary parts of those that are real "
    "are left out.",
)
