#!/usr/bin/env python3
"""Derives the coefficients of the special functions in `coefficients_special.py`, as `derive_coefficients.py` does others.

    python tools/derive_special_coefficients.py            # rewrite the file
    python tools/derive_special_coefficients.py --check    # fail if it would change

Each function is divided by what makes it hard (a zero, a pole, its growth), so that a polynomial is left.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from derive_coefficients import Fit, by_square, expansion, main, round_bits, tables
from mpmath import mp, mpf

OUTPUT = Path(__file__).parent.parent / "dialects" / "tape" / "coefficients_special.py"

#: Where the erfcx map `(x - ERFCX_CENTRE) / (x + ERFCX_CENTRE)` is 0.
ERFCX_CENTRE = 4
#: Below this i0 and i1 are power series, beyond it they are scaled exponentials.
BESSEL_SPLIT = mpf("7.75")
#: Where the map `(s - ERFCINV_CENTRE) / (s + ERFCINV_CENTRE)` of erfcinv is 0.
ERFCINV_CENTRE = 4
#: Up to this -ln(1 - x^2) erfinv is a polynomial times x.
ERFINV_END = mpf("0.9")
DIGAMMA_ROOT = mp.findroot(mp.digamma, mpf("1.4616321449683623"))


def scaled_erfc(t: mpf) -> mpf:
    """(1 + 2x) e^(x^2) erfc(x) at x = ERFCX_CENTRE (1 + t) / (1 - t), which goes to 2/sqrt(pi) for t = 1."""
    if t >= 1:
        return 2 / mp.sqrt(mp.pi)
    x = ERFCX_CENTRE * (1 + t) / (1 - t)
    if x < 60:
        return (1 + 2 * x) * mp.exp(x * x) * mp.erfc(x)
    terms, term = mpf(1), mpf(1)
    for k in range(1, 40):
        term *= -(2 * k - 1) / (2 * x * x)
        terms += term
    return (1 + 2 * x) / (x * mp.sqrt(mp.pi)) * terms


def erfinv_ratio(w: mpf) -> mpf:
    """erfinv(x) / x at 1 - x^2 = e^-w."""
    if w <= 0:
        return mp.sqrt(mp.pi) / 2
    x = mp.sqrt(-mp.expm1(-w))
    return mp.erfinv(x) / x


def erfcinv_map(s: mpf) -> mpf:
    return (s - ERFCINV_CENTRE) / (s + ERFCINV_CENTRE)


def erfcinv_ratio(s: mpf) -> mpf:
    """erfcinv(q) / s at q = e^(-s^2), by Newton's steps on ln(erfc(z)) = -s^2."""
    z = s
    for _ in range(60):
        value = mp.erfc(z)
        step = (mp.log(value) + s * s) / (-2 * mp.exp(-z * z) / mp.sqrt(mp.pi) / value)
        z -= step
        if abs(step) < mpf(10) ** -60:
            break
    return z / s


def stirling(u: mpf) -> mpf:
    """(lgamma(x) - (x - 1/2) ln x + x - ln(2 pi)/2) x at x = 1/sqrt(u)."""
    if u < mpf(10) ** -8:
        return mpf(1) / 12 - u / 360 + u * u / 1260
    x = 1 / mp.sqrt(u)
    return (mp.loggamma(x) - (x - mpf(1) / 2) * mp.log(x) + x - mp.log(2 * mp.pi) / 2) * x


def digamma_tail(u: mpf) -> mpf:
    """(ln x - 1/(2x) - digamma(x)) x^2 at x = 1/sqrt(u)."""
    if u < mpf(10) ** -8:
        return mpf(1) / 12 - u / 120 + u * u / 252
    x = 1 / mp.sqrt(u)
    return (mp.log(x) - 1 / (2 * x) - mp.digamma(x)) * x * x


def bessel_tail(order: int, u: mpf) -> mpf:
    """I_order(x) e^-x sqrt(x) at x = 1/u."""
    if u < mpf(10) ** -3:
        terms, term = mpf(1), mpf(1)
        for k in range(1, 30):
            term *= -(4 * order * order - (2 * k - 1) ** 2) * u / (8 * k)
            terms += term
        return terms / mp.sqrt(2 * mp.pi)
    x = 1 / u
    return mp.besseli(order, x) * mp.exp(-x) * mp.sqrt(x)


def bessel_series(order: int, a: mpf) -> mpf:
    """(I_order(x) / (x/2)^order - 1) / a at a = x^2/4, for orders 0 and 1."""
    x = 2 * mp.sqrt(a)
    return (mp.besseli(order, x) / (x / 2) ** order - 1) / a


def fits() -> Iterator[Fit]:
    """Every polynomial of the file."""
    eighth = mp.tan(mp.pi / 8) ** 2 * mpf("1.01")
    for format, degree in (("f32", 4), ("f64", 10)):
        yield Fit(
            "ATAN", format, degree, mpf(0), eighth,
            by_square(lambda x: (mp.atan(x) / x - 1) / x**2), by_square(lambda x: x**3 / mp.atan(x)),
            "(atan(x)/x - 1) / t for t = x^2, |x| <= tan(pi/8)",
        )  # fmt: skip
    for format, degree in (("f32", 4), ("f64", 12)):
        yield Fit(
            "ASIN", format, degree, mpf(0), mpf("0.2501"),
            by_square(lambda x: (mp.asin(x) / x - 1) / x**2), by_square(lambda x: x**3 / mp.asin(x)),
            "(asin(x)/x - 1) / t for t = x^2, |x| <= 1/2",
        )  # fmt: skip
    for format, degree in (("f32", 3), ("f64", 6)):
        yield Fit(
            "SINH", format, degree, mpf(0), mpf(1),
            by_square(lambda x: (mp.sinh(x) / x - 1) / x**2), by_square(lambda x: x**3 / mp.sinh(x)),
            "(sinh(x)/x - 1) / t for t = x^2, |x| <= 1",
        )  # fmt: skip
    for format, degree in (("f32", 5), ("f64", 11)):
        yield Fit(
            "EXP2", format, degree, mpf("-0.502"), mpf("0.502"),
            lambda r: mp.expm1(r * mp.log(2)) / r, lambda r: r * mpf(2) ** -r, "(2^r - 1) / r for |r| <= 1/2",
        )  # fmt: skip
    for format, degree in (("f32", 12), ("f64", 24)):
        yield Fit(
            "ERFCX", format, degree, mpf(-1), mpf(1), scaled_erfc, lambda t: 1 / scaled_erfc(t),
            f"(1 + 2x) e^(x^2) erfc(x) in t = (x - {ERFCX_CENTRE}) / (x + {ERFCX_CENTRE}) for x >= 0",
        )  # fmt: skip
    yield from erfinv_fits()
    for format, degree in (("f32", 8), ("f64", 18)):
        yield Fit(
            "LGAMMA", format, degree, mpf("-0.5"), mpf("0.5"),
            lambda z: mp.loggamma(2 + z) / z, lambda z: z / mp.loggamma(2 + z), "lgamma(2 + z) / z for |z| <= 1/2",
        )  # fmt: skip
    for format, degree in (("f32", 1), ("f64", 7)):
        yield Fit(
            "STIRLING", format, degree, mpf(0), mpf(1) / 64, stirling, lambda u: mpf(1) / 64,
            "(lgamma(x) - (x - 1/2) ln x + x - ln(2 pi)/2) x in u = 1/x^2 for x >= 8",
        )  # fmt: skip
    for format, degree in (("f32", 9), ("f64", 21)):
        yield Fit(
            "DIGAMMA", format, degree, mpf("-0.5"), mpf("0.5"),
            lambda z: mp.digamma(z + mpf("1.5")) / (z + mpf("1.5") - DIGAMMA_ROOT),
            lambda z: (z + mpf("1.5") - DIGAMMA_ROOT) / mp.digamma(z + mpf("1.5")),
            "digamma(x) / (x - its root) in z = x - 3/2 for x from 1 to 2",
        )  # fmt: skip
    for format, degree in (("f32", 1), ("f64", 6)):
        yield Fit(
            "DIGAMMA_TAIL", format, degree, mpf(0), mpf(1) / 100, digamma_tail, lambda u: mpf(1) / 100,
            "(ln x - 1/(2x) - digamma(x)) x^2 in u = 1/x^2 for x >= 10",
        )  # fmt: skip
    yield from bessel_fits()


def erfinv_fits() -> Iterator[Fit]:
    """In the logarithm of the distance to the pole, after Giles, "Approximating the erfinv function" (2010)."""
    centre = ERFINV_END / 2
    for format, degree in (("f32", 5), ("f64", 11)):
        yield Fit(
            "ERFINV", format, degree, -centre, centre,
            lambda v: erfinv_ratio(v + centre), lambda v: 1 / erfinv_ratio(v + centre),
            f"erfinv(x)/x in v = w - {mp.nstr(centre)} for w = -ln(1 - x^2) <= {mp.nstr(ERFINV_END)}",
        )  # fmt: skip
    for format, degree, most in (("f32", 12, mpf("10.4")), ("f64", 15, mpf("27.5"))):
        doc = f"erfcinv(q)/s in (s - {ERFCINV_CENTRE}) / (s + {ERFCINV_CENTRE}) for s = sqrt(-ln q) from 1.2 on"
        yield Fit(
            "ERFCINV", format, degree, erfcinv_map(mpf("1.19")), erfcinv_map(most),
            lambda v: erfcinv_ratio(ERFCINV_CENTRE * (1 + v) / (1 - v)),
            lambda v: 1 / erfcinv_ratio(ERFCINV_CENTRE * (1 + v) / (1 - v)),
            doc + ("" if format == "f32" else ", before a step of Newton's"),
        )  # fmt: skip


def bessel_fits() -> Iterator[Fit]:
    split = BESSEL_SPLIT**2 / 4
    for order in (0, 1):
        for format, degree in (("f32", 8), ("f64", 14)):
            yield Fit(
                f"I{order}", format, degree, mpf(0), split * mpf("1.001"),
                lambda a, n=order: bessel_series(n, a), lambda a, n=order: a / (1 + a * bessel_series(n, a)),
                f"(I{order}(x) / (x/2)^{order} - 1) / a in a = x^2/4 for |x| <= {mp.nstr(BESSEL_SPLIT)}",
            )  # fmt: skip
        for format, degree in (("f32", 6), ("f64", 24)):
            yield Fit(
                f"I{order}_TAIL", format, degree, mpf(0), 1 / BESSEL_SPLIT,
                lambda u, n=order: bessel_tail(n, u), lambda u, n=order: 1 / bessel_tail(n, u),
                f"I{order}(x) e^-x sqrt(x) in u = 1/x for x >= {mp.nstr(BESSEL_SPLIT)}",
            )  # fmt: skip


def constants() -> Iterator[tuple[str, str, list[mpf], str]]:
    """(name, format, numbers, doc) of everything that is not a polynomial."""
    log10_2 = mp.log10(2)
    for format, bits, exponent_bits in (("f32", 24, 9), ("f64", 53, 12)):
        high = round_bits(log10_2, bits - exponent_bits)
        parts = [high, round_bits(log10_2 - high, bits)]
        yield "LOG10_2", format, parts, "the decimal logarithm of 2 in two parts; n times the first is exact"
        yield "INVERSE_LN10", format, expansion(1 / mp.log(10), 2, bits), "1 / ln 10 in two parts"
        yield "INVERSE_LN2", format, expansion(1 / mp.log(2), 2, bits), "1 / ln 2 in two parts"
        yield "PI", format, expansion(mp.pi, 2, bits), "pi in two parts"
        yield "HALF_LN_2PI", format, expansion(mp.log(2 * mp.pi) / 2, 2, bits), "ln(2 pi)/2 in two parts"
        yield "DIGAMMA_ROOT", format, expansion(DIGAMMA_ROOT, 3, bits), "the root of digamma above 0 in three parts"


HEADER = '''"""Coefficients of the special functions. Written by tools/derive_special_coefficients.py: change that, not this.

Polynomials are tuples with the lowest coefficient first; keys are formats. Errors are relative to the function's
value, in units of 2^-24 (f32) or 2^-53 (f64), before rounding in the evaluation. Next: `approximations_error.py`.
"""

'''


def generate() -> str:
    """The whole file."""
    return HEADER + tables(fits(), constants())


if __name__ == "__main__":
    sys.exit(main(__doc__, generate, OUTPUT))
