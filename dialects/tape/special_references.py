"""What the special functions mean: NumPy formulas in float64, by other ways than compiled code takes.

In: float64 arrays. Out: float64 arrays, within a few units in the last place. Next: `special.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

Array = np.ndarray

erfc: Callable[[Array], Array] = np.vectorize(math.erfc, otypes=[np.float64])
_erf: Callable[[Array], Array] = np.vectorize(math.erf, otypes=[np.float64])


def exp_of_square(x: Array) -> Array:
    """e^(x^2), from a square without rounding and what is left of it."""
    high = np.asarray(x, np.float32).astype(np.float64)
    low = x - high
    return np.exp(high * high) * np.exp(low * (x + high))


def erfcx(x: Array) -> Array:
    """e^(x^2) erfc(x), beyond 8 by its asymptotic series."""
    far = x > 8.0
    z = np.where(far, x, 8.0)
    term, series = np.ones_like(z), np.ones_like(z)
    for k in range(1, 40):
        term = -term * ((2 * k - 1) / 2 / z / z)
        series = series + term
    near = np.where(far | np.isnan(x), 0.0, x)
    plain = exp_of_square(np.where(np.abs(near) < 27, near, 0.0)) * erfc(near)
    plain = np.where(near < -26.9, np.inf, plain)
    return np.where(np.isnan(x), x, np.where(far, series / (z * math.sqrt(math.pi)), plain))


def erfcinv(q: Array) -> Array:
    """The z >= 0 with erfc(z) = q for q from 0 to 1, by Newton's steps on ln(erfc(z)) = ln(q)."""
    inside = np.where((q > 0) & (q < 1), q, 0.5)
    w = -np.log(inside)
    z = np.sqrt(np.maximum(w - 0.5 * np.log1p(w), 0.0)) * 0.9
    for _ in range(40):
        scaled = erfcx(z)
        z = z + (np.log(scaled) - z * z + w) * scaled * (math.sqrt(math.pi) / 2)
    return np.where(q == 1, 0.0, np.where(q == 0, np.inf, np.where((q > 0) & (q < 1), z, np.nan)))


def erfinv(x: Array) -> Array:
    """By Newton's steps on erf(z) = x up to 1/2, as erfcinv(1 - x) beyond."""
    y = np.abs(x)
    inner = np.where(y <= 0.5, y, 0.0)
    z = inner * (math.sqrt(math.pi) / 2)
    for _ in range(12):
        z = z - (_erf(z) - inner) * exp_of_square(z) * (math.sqrt(math.pi) / 2)
    return np.copysign(np.where(y <= 0.5, z, erfcinv(1.0 - y)), x)


def ndtri(p: Array) -> Array:
    middle = erfinv(np.where((p > 0.2) & (p < 0.8), 2.0 * p - 1.0, 0.0))
    tail = erfcinv(2.0 * np.minimum(np.where(p < 0.5, p, 1.0 - p), 0.5))
    tail = np.where(p < 0.5, -tail, tail)
    inside = (p >= 0) & (p <= 1)
    return np.where(inside, np.where((p > 0.2) & (p < 0.8), middle, tail) * math.sqrt(2.0), np.nan)


def _zeta_less_one(k: int) -> float:
    """The sum of n^-k over n = 2, 3, ..., by Euler and Maclaurin's formula from 100 on."""
    n = 100.0
    tail = n ** (1 - k) / (k - 1) + n**-k / 2 + k * n ** (-k - 1) / 12 - k * (k + 1) * (k + 2) * n ** (-k - 3) / 720
    return math.fsum([*(float(m) ** -k for m in range(2, 100)), tail])


@cache
def _series() -> list[float]:
    """The coefficients of lgamma around 2, made when first needed: every process imports this module."""
    return [(-1) ** k * _zeta_less_one(k) / k for k in range(2, 60)]


def _lgamma_near_2(z: Array) -> Array:
    """lgamma(2 + z) = (1 - gamma) z + sum of (zeta(k) - 1) (-z)^k / k, for |z| <= 1/2."""
    result = np.zeros_like(z)
    for coefficient in reversed(_series()):
        result = (result + coefficient) * z
    return (result + (1.0 - np.euler_gamma)) * z


def _sin_pi(x: Array) -> Array:
    return np.abs(np.sin(np.pi * (x - np.rint(x))))


def lgamma(x: Array) -> Array:
    """ln|gamma(x)|: a series around 2, shifted; Stirling's from 20 on; reflected below 0. In long double if there is one."""
    y = np.abs(x).astype(np.longdouble)
    inner = np.where(y < 20, y, 2.0)
    n = np.rint(inner)
    z, product = inner - n, np.ones_like(y)
    for k in range(2, 20):
        product = np.where(n > k, product * (z + k), product)
    below = np.where(n == 1, inner, inner * (inner + 1))
    near = _lgamma_near_2(z) + np.where(n < 2, -np.log(below), np.log(product))
    far = (y - 0.5) * (np.log(y) - 1) + (math.log(2 * math.pi) / 2 - 0.5)
    far = far + (1 / 12 - (1 / 360 - (1 / 1260 - 1 / (1680 * y * y)) / (y * y)) / (y * y)) / y
    positive = np.where(y < 20, near, far)
    reflected = math.log(math.pi) - np.log(y * _sin_pi(y)) - positive
    result = np.where((x < 0) & (y >= 1e-30), reflected, np.where(y < 1e-30, -np.log(y), positive))
    return np.where(np.isinf(x) | ((x < 0) & (x == np.rint(x))), np.inf, result).astype(np.float64)


def digamma(x: Array) -> Array:
    """Shifted up to 30, where the asymptotic series holds, in long double where there is one; reflected below 0."""
    y = np.where(x < 0, 1 - x, x).astype(np.longdouble)
    shift, z = np.zeros_like(y), y
    for _ in range(30):
        small = z < 30
        shift, z = np.where(small, shift - 1 / z, shift), np.where(small, z + 1, z)
    u = 1 / (z * z)
    positive = shift + (np.log(z) - 0.5 / z - u * (1 / 12 - u * (1 / 120 - u * (1 / 252 - u * (1 / 240 - u / 132)))))
    rest = x - np.rint(x)
    result = np.where(x < 0, positive - np.pi / np.tan(np.pi * rest), positive)
    result = np.where((x < 0) & (x == np.rint(x)), np.nan, result)
    return np.where(x == 0, np.copysign(np.inf, -x), result).astype(np.float64)


def _zeta_above_0(x: Array, q: Array) -> Array:
    """30 terms, and Euler and Maclaurin's formula for the rest."""
    terms = [np.power(q + k, -x) for k in range(30)]
    w = q + 30
    last = np.power(w, -x)
    rest = last * w / (x - 1) + last / 2
    factor = last * x / w
    for number in (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160):
        rest = rest + np.where(last == 0, 0.0, factor * number)
        k = 2 * [1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160].index(number) + 1
        factor = factor * (x + k) * (x + k + 1) / (w * w)
    return sum(terms[::-1], np.zeros_like(q)) + np.where(last == 0, 0.0, rest)


def zeta(x: Array, q: Array) -> Array:
    """Hurwitz's zeta function, infinite at x = 1; NaN below it, and for q < 0 unless x is whole."""
    fraction = q - np.floor(q)
    left = (q < 0) & (q != np.floor(q))
    sign = np.where(np.floor(x / 2) == x / 2, 1.0, -1.0)
    start = np.where(left, fraction, np.where(q > 0, q, 1.0))
    total = _zeta_above_0(x, start)
    mirrored = _zeta_above_0(x, np.where(left, np.ceil(q) - q, 1.0)) - _zeta_above_0(x, np.where(left, 1 - q, 1.0))
    total = np.where(left, total + sign * mirrored, total)
    total = np.where((q < 0) & (np.floor(x) != x), np.nan, total)
    total = np.where((q <= 0) & (q == np.floor(q)), np.inf, total)
    return np.where(x == 1, np.inf, np.where((x > 1) & ~np.isnan(q), total, np.nan))


def _scaled_bessel(x: Array, order: int) -> Array:
    """I_order(|x|) e^-|x|: the power series up to 30, in long double if there is one, for its 80 terms; then the asymptotic one."""
    y = np.abs(x)
    near = np.where(y < 30, y, 0.0).astype(np.longdouble)
    term = (near / 2) ** order
    total = term
    for k in range(1, 80):
        term = term * (near * near / 4) / (k * (k + order))
        total = total + term
    far = np.where(y < 30, 30.0, y)
    part, series = np.ones_like(far), np.ones_like(far)
    for k in range(1, 30):
        part = -part * (4 * order * order - (2 * k - 1) ** 2) / (8 * k) / far
        series = series + part
    result = np.where(y < 30, total * np.exp(-near), series / (math.sqrt(2 * math.pi) * np.sqrt(far))).astype(
        np.float64
    )
    return np.where(np.isnan(x), x, np.copysign(result, x) if order else result)


def _bessel(x: Array, order: int) -> Array:
    root = np.exp(np.minimum(np.abs(x), 2000.0) / 2)
    return np.where(np.isinf(x), x if order else np.inf, _scaled_bessel(x, order) * root * root)


def i0(x: Array) -> Array:
    return _bessel(x, 0)


def i1(x: Array) -> Array:
    return _bessel(x, 1)


def i0e(x: Array) -> Array:
    return _scaled_bessel(x, 0)


def i1e(x: Array) -> Array:
    return _scaled_bessel(x, 1)
