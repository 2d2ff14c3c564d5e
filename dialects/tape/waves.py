"""Bessel functions J, Y and K of orders 0 and 1, Airy's Ai, and orthogonal polynomials.

In: floating-point operands. References of the former are SciPy's in float64 up to 25, Hankel's series beyond; of polynomials the
recurrence itself. Next: `approximations_waves.py` for how compiled code computes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import FLOATING
from flambeau.dialects.record import Kind, NoGradient, OpRecord, Sample
from flambeau.dialects.tape.common import SPECIALS, check_dtype, check_same, ops, quiet, random, rounded_once
from flambeau.dialects.tape.special import approximated

#: Where these functions are not close to a zero of theirs, and not too large for a phase of Airy's waves.
_PLACES = np.concatenate([SPECIALS[np.abs(SPECIALS) < 50], [-7.5, 30.0, np.inf, np.nan]])


def _scipy(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """A function of `scipy.special`, imported when it is first needed."""
    return lambda x: getattr(import_module("scipy.special"), name)(x)


def _far(x: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """(J, Y) for x from 25 on, by Hankel's asymptotic series."""
    y = np.where(x > 25, x, 25.0)
    p, q, term = np.zeros_like(y), np.zeros_like(y), np.ones_like(y)
    for k in range(24):
        p, q = (p + (-1) ** (k // 2) * term, q) if k % 2 == 0 else (p, q + (-1) ** (k // 2) * term)
        term = term * (4 * order * order - (2 * k + 1) ** 2) / (8 * (k + 1)) / y
    s, c, scale = np.sin(y), np.cos(y), 1 / np.sqrt(np.pi * y)
    plus, minus = (c + s) * scale, (s - c) * scale
    if order == 0:
        return p * plus - q * minus, p * minus + q * plus
    return p * minus + q * plus, q * minus - p * plus


def _yv(order: int) -> Callable[[np.ndarray], np.ndarray]:
    """Y of an order: SciPy's `yv` is closer than its `y0` and `y1`, but for very small numbers."""

    def near(x: np.ndarray) -> np.ndarray:
        special = import_module("scipy.special")
        return np.where(x < 1e-3, (special.y0, special.y1)[order](x), special.yv(order, x))

    return near


def _waving(kind: int, order: int) -> Callable[[np.ndarray], np.ndarray]:
    near = _scipy(f"j{order}") if kind == 0 else _yv(order)

    @quiet
    def reference(x: np.ndarray) -> np.ndarray:
        y = np.abs(x) if kind == 0 else x
        result = np.where(y > 25, _far(y, order)[kind], near(np.where(y > 25, 25.0, y)))
        result = np.where(np.isposinf(y), 0.0, result)
        if kind == 0 and order:
            result = np.where(y < 1e-9, y / 2, result)  # SciPy loses digits where numbers are subnormal
        return np.where(x < 0, -result, result) if kind == 0 and order else result

    return reference


#: Ai(0) and -Ai'(0) (DLMF 9.2.3).
_AI, _AI_SLOPE = np.longdouble("0.355028053887817239260"), np.longdouble("0.258819403792806798405")


def _airy_series(x: np.ndarray) -> np.ndarray:
    """Ai by its power series (DLMF 9.4.1), whose terms outgrow the sum: with the digits of a long double it is good up to 2.6."""
    y = x.astype(np.longdouble)
    even: Any = np.ones_like(y)
    odd: Any = y
    f, g = even, odd
    for k in range(1, 24):
        even, odd = even * y**3 / (3 * k * (3 * k - 1)), odd * y**3 / (3 * k * (3 * k + 1))
        f, g = f + even, g + odd
    return (_AI * f - _AI_SLOPE * g).astype(np.float64)


@quiet
def _airy(x: np.ndarray) -> np.ndarray:
    """Ai. Right of 2.6 by a Bessel function (DLMF 9.6.2) and an exponential with more digits than SciPy's `airy` has."""
    special = import_module("scipy.special")
    y = np.where((x > 2.6) & (x < 200), x, 3.0).astype(np.longdouble)
    z = y * np.sqrt(y) * 2 / 3
    scaled: Any = special.kve(1 / 3, z.astype(np.float64)) * np.sqrt(y / 3) / np.longdouble(np.pi)
    right = np.where(x >= 200, 0.0, (scaled * np.exp(-z)).astype(np.float64))
    near = _airy_series(np.where((x >= 0) & (x <= 2.6), x, 0.0))
    return np.where(x > 2.6, right, np.where(x >= 0, near, np.where(np.isneginf(x), 0.0, special.airy(x)[0])))


def _record(
    name: str,
    reference: Callable[[np.ndarray], np.ndarray],
    vjp: Callable[..., tuple[Any, ...]] | NoGradient,
    doc: str,
    low: float,
    high: float,
    ulp: float = 16.0,
) -> OpRecord:
    return approximated("approximations_waves", name, 1, reference, vjp, doc, low, high, ulp, _PLACES)


def _over_x(ct: Any, r: Any, x: Any) -> tuple[Any, ...]:
    """J1' = J0 - J1/x, which is 1/2 at 0."""
    nothing = ops.abs(x) <= 0.5**x.dtype.mantissa
    inner = ops.select(nothing, x.like(1.0), x)
    return (ct * ops.select(nothing, x.like(0.5), ops.bessel_j0(x) - r / inner),)


_ZEROS = " Near its zeros the error is that of a number of the size of its waves."

bessel_j0 = _record(
    "bessel_j0", _waving(0, 0), lambda ct, r, x: (-(ct * ops.bessel_j1(x)),),
    "The Bessel function of the first kind of order 0." + _ZEROS, -1.6, 1.6,
)  # fmt: skip
bessel_j1 = _record(
    "bessel_j1", _waving(0, 1), _over_x, "The Bessel function of the first kind of order 1." + _ZEROS, -3.0, 3.0
)
bessel_y0 = _record(
    "bessel_y0", _waving(1, 0), lambda ct, r, x: (-(ct * ops.bessel_y1(x)),),
    "The Bessel function of the second kind of order 0, -inf at 0 and NaN below." + _ZEROS, 1.3, 3.2, 24.0,
)  # fmt: skip
bessel_y1 = _record(
    "bessel_y1", _waving(1, 1), lambda ct, r, x: (ct * (ops.bessel_y0(x) - r / x),),
    "The Bessel function of the second kind of order 1, -inf at 0 and NaN below." + _ZEROS, 2.8, 4.4, 24.0,
)  # fmt: skip
modified_bessel_k0 = _record(
    "modified_bessel_k0", _scipy("k0"), lambda ct, r, x: (-(ct * ops.modified_bessel_k1(x)),),
    "The modified Bessel function of the second kind of order 0, inf at 0 and NaN below.", 0.2, 9.0,
)  # fmt: skip
modified_bessel_k1 = _record(
    "modified_bessel_k1", _scipy("k1"), lambda ct, r, x: (-(ct * (ops.modified_bessel_k0(x) + r / x)),),
    "The modified Bessel function of the second kind of order 1, inf at 0 and NaN below.", 0.2, 9.0,
)  # fmt: skip
scaled_modified_bessel_k0 = _record(
    "scaled_modified_bessel_k0", _scipy("k0e"), lambda ct, r, x: (ct * (r - ops.scaled_modified_bessel_k1(x)),),
    "modified_bessel_k0(x) * exp(x).", 0.2, 9.0,
)  # fmt: skip
scaled_modified_bessel_k1 = _record(
    "scaled_modified_bessel_k1", _scipy("k1e"),
    lambda ct, r, x: (ct * (r - r / x - ops.scaled_modified_bessel_k0(x)),), "modified_bessel_k1(x) * exp(x).", 0.2, 9.0,
)  # fmt: skip
airy_ai = _record(
    "airy_ai", _airy, NoGradient("Ai' is no function of this package, nor is it one of PyTorch's"),
    "Airy's function Ai." + _ZEROS, -2.0, 5.0, 64.0,
)  # fmt: skip


# ---- orthogonal polynomials -----------------------------------------------------------------------------------------

#: Of a kind: the polynomial of degree 1, and the next one after `now` and `before`, of degree k + 1.
Terms = tuple[Callable[..., Any], Callable[..., Any]]


def _chebyshev(first: Callable[..., Any]) -> Terms:
    return first, lambda m, x, now, before, k: m.sub(m.mul(m.add(x, x), now), before)


_KINDS: dict[str, Terms] = {
    "chebyshev_t": _chebyshev(lambda m, x: x),
    "chebyshev_u": _chebyshev(lambda m, x: m.add(x, x)),
    "chebyshev_v": _chebyshev(lambda m, x: m.sub(m.add(x, x), m.number(1.0))),
    "chebyshev_w": _chebyshev(lambda m, x: m.add(m.add(x, x), m.number(1.0))),
    "hermite_h": (
        lambda m, x: m.add(x, x),
        lambda m, x, now, before, k: m.sub(m.mul(m.add(x, x), now), m.mul(m.add(k, k), before)),
    ),
    "hermite_he": (
        lambda m, x: x,
        lambda m, x, now, before, k: m.sub(m.mul(x, now), m.mul(k, before)),
    ),
    "laguerre_l": (
        lambda m, x: m.sub(m.number(1.0), x),
        lambda m, x, now, before, k: m.div(
            m.sub(m.mul(m.add(m.add(k, k), m.sub(m.number(1.0), x)), now), m.mul(k, before)), m.add(k, m.number(1.0))
        ),
    ),
    "legendre_p": (
        lambda m, x: x,
        lambda m, x, now, before, k: m.div(
            m.sub(m.mul(m.mul(m.add(m.add(k, k), m.number(1.0)), x), now), m.mul(k, before)), m.add(k, m.number(1.0))
        ),
    ),
}  # fmt: skip
#: Beyond this degree nothing is computed; PyTorch has such a limit for Hermite's.
MOST = 1 << 20


class _WavesOnArrays:
    """The vocabulary of the kinds on arrays."""

    add, sub, mul, div = (staticmethod(f) for f in (np.add, np.subtract, np.multiply, np.true_divide))

    def __init__(self, x: np.ndarray) -> None:
        self.number = x.dtype.type


class _WavesOnEmitter:
    """The vocabulary of the kinds on emitter values."""

    def __init__(self, b: Any, x: Any) -> None:
        self.add, self.sub, self.mul, self.div = b.add, b.sub, b.mul, b.div
        self.number = lambda number: b.const(number, x)


@rounded_once
@quiet
def _polynomial(x: np.ndarray, n: np.ndarray, kind: str) -> np.ndarray:
    """By the recurrence, each element up to its degree, in the dtype of the operands."""
    first, following = _KINDS[kind]
    m, degree = _WavesOnArrays(x), np.trunc(n)
    before, now, k = np.ones_like(x), np.asarray(first(m, x)), x.dtype.type(1)
    while (going := (k < degree) & (k < MOST)).any():
        further = following(m, x, now, before, k)
        before, now, k = np.where(going, now, before), np.where(going, further, now), k + x.dtype.type(1)
    result = np.where(degree == 0, x.dtype.type(1), np.where(degree < 0, x.dtype.type(0), now))
    return np.where((degree > MOST) | np.isnan(n), x.dtype.type(np.nan), result).astype(x.dtype)


def _lower(b: Any, x: Any, n: Any, kind: str) -> Any:
    first, following = _KINDS[kind]
    x, n = b.unify(x, n)
    m, degree, one = _WavesOnEmitter(b, x), b.trunc(n), b.const(1.0, x)
    last = b.select(b.cmp("gt", degree, float(MOST)), float(MOST), degree)

    def step(k: Any, now: Any, before: Any) -> list[Any]:
        going = b.cmp("lt", k, last)
        further = following(m, x, now, before, k)
        return [b.select(going, b.add(k, one), k), b.select(going, further, now), b.select(going, now, before)]

    none = b.cmp(
        "lt", degree, 0.0
    )  # where it does not matter what the loop starts from: a constant would not be as wide as x
    start = [b.select(none, b.const(2.0, x), one), first(m, x), b.select(none, b.const(0.0, x), one)]
    _, now, _ = b.repeat(start, lambda k, now, before: b.cmp("lt", k, last), step, MOST)
    result = b.select(b.cmp("eq", degree, 0.0), one, b.select(none, 0.0, now))
    return b.select(b.or_(b.cmp("gt", degree, float(MOST)), b.is_nan(n)), math.nan, result)


def _infer(x: Aval, n: Aval, kind: str) -> Aval:
    check_same("orthogonal_polynomial", (x, n))
    check_dtype("orthogonal_polynomial", x, FLOATING)
    if kind not in _KINDS:
        raise RuntimeError(f"[orthogonal_polynomial] kind is {kind!r}. Choose one of {', '.join(_KINDS)}.")
    return x


def _samples() -> list[Sample]:
    x, n = np.meshgrid([-2.0, -1.0, -0.7, -0.0, 0.3, 1.0, 1.5, np.inf, np.nan], [-1.0, 0.0, 1.0, 2.0, 3.7, 9.0])
    return [
        *(Sample((x.ravel(), n.ravel()), {"kind": kind}, gradient=False) for kind in _KINDS),
        Sample((np.zeros((0, 3)), np.zeros((0, 3))), {"kind": "legendre_p"}, gradient=False),
        Sample((random((4099,), -1, 1), np.arange(4099) % 5 * 1.0), {"kind": "chebyshev_t"}, gradient=False),
        Sample((np.zeros(2), np.zeros(2)), {"kind": "x"}, error=(RuntimeError, "[orthogonal_polynomial] kind is 'x'.")),
    ]


orthogonal_polynomial = OpRecord(
    name="orthogonal_polynomial",
    kind=Kind.ELEMENTWISE,
    attrs=("kind",),
    infer=_infer,
    reference=_polynomial,
    lower=_lower,
    vjp=NoGradient("PyTorch has none; a derivative is a sum of polynomials of other kinds"),
    dtypes=FLOATING,
    samples=_samples,
    doc="The polynomial of degree n of a kind at x, by its recurrence: 0 for degrees below 0, which are cut to whole ones.",
)
